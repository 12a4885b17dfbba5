//! `on_overflow = "expire"`: the oldest unread events go, so that the lane holds back less.
//!
//! The lane does it itself, on its way through the log and whatever its state: so nothing is
//! settled twice, what the filter would not have sent counts as filtered, and what is being sent,
//! or waits for a retry, stays.

use std::sync::Arc;

use holdfast_model::Seq;
use tokio::time::Instant;

use crate::lane::run::{Lane, soonest};

impl Lane {
    /// Events before `to` that are not under way expire.
    pub(super) fn expire_to(&mut self, to: Seq) {
        let (to, now) = (to.min(*self.head.borrow()), Instant::now());
        self.ways().for_each(|way| way.reader.expire_to(to, now));
    }

    /// Reads on over what is to expire, though the lane may not send.
    pub(super) fn read_what_expires(&mut self, wake: &mut Option<Instant>) {
        let (head, now) = (*self.head.borrow(), Instant::now());
        let engine = Arc::clone(&self.engine);
        for way in self.ways().filter(|way| way.reader.is_expiring()) {
            way.read_page(&engine, head, now);
            soonest(wake, way.read_again_at());
        }
    }
}
