//! `on_overflow = "expire"`: the oldest unread events go, so that the lane holds back less.
//!
//! The lane does it itself, on its way through the log and whatever its state: so nothing is
//! settled twice, what the filter would not have sent counts as filtered, and what is being sent,
//! or waits for a retry, stays.

use holdfast_model::Seq;

use crate::lane::run::Lane;

impl Lane {
    /// Events before `to` that are not under way expire.
    pub(super) fn expire_to(&mut self, to: Seq) {
        let to = to.min(*self.head.borrow());
        self.normal.reader.expire_to(to, tokio::time::Instant::now());
    }

    /// Reads on over what is to expire, though the lane may not send.
    pub(super) fn read_what_expires(&mut self, wake: &mut Option<tokio::time::Instant>) {
        if self.normal.reader.is_expiring() {
            let head = *self.head.borrow();
            self.normal.read_page(&self.engine, head, tokio::time::Instant::now());
            crate::lane::run::soonest(wake, self.normal.read_again_at());
        }
    }
}
