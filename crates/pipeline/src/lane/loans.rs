//! Replays go below live traffic: a job's lane sends only with what its destination's own lane
//! lends it.
//!
//! A permit stands for one attempt: a free slot of the concurrency and a token of the rate. The
//! live lane lends one when it is active, has read all there is, and has nothing that it could
//! send itself. It never waits for one to come back.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use holdfast_model::{Name, Seq};
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use crate::lane::{
    LaneHandle,
    health::Moment,
    run::{Lane, soonest},
};

/// The right to one attempt. It is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Book>);

#[derive(Debug, Default)]
struct Book {
    out: AtomicUsize,
    returned: Notify,
}

/// The live lane's side.
#[derive(Debug, Default)]
pub(super) struct Loans {
    book: Arc<Book>,
    asked: VecDeque<oneshot::Sender<Permit>>,
}

/// A replay's lane's side.
pub(super) struct Borrowing {
    pub(super) job: u64,
    /// The lane whose destination, name and permits it uses.
    pub(super) live: LaneHandle,
    pub(super) live_name: Name,
    /// Where its stretch of the log ends.
    pub(super) end: Seq,
    permit: Option<Permit>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.out.fetch_sub(1, Ordering::SeqCst);
        self.0.returned.notify_one();
    }
}

impl Loans {
    pub(super) fn ask(&mut self, reply: oneshot::Sender<Permit>) {
        // Whoever has gone away since is forgotten, so the list has the length of those who wait.
        self.asked.retain(|reply| !reply.is_closed());
        self.asked.push_back(reply);
    }

    fn out(&self) -> usize {
        self.book.out.load(Ordering::SeqCst)
    }

    pub(super) async fn returned(book: Returned) {
        book.0.returned.notified().await;
    }

    pub(super) fn returns(&self) -> Returned {
        Returned(Arc::clone(&self.book))
    }
}

/// Where returned permits are told of.
pub(super) struct Returned(Arc<Book>);

impl Borrowing {
    pub(super) fn new(job: u64, live: LaneHandle, live_name: Name, end: Seq) -> Self {
        Self { job, live, live_name, end, permit: None }
    }
}

impl Lane {
    /// Lends what the lane does not need itself. Called when it has started all that it can.
    pub(super) fn lend(&mut self, wake: &mut Option<Instant>) {
        while !self.loans.asked.is_empty() {
            let at = self.moment();
            if !self.may_lend(at, wake) {
                return;
            }
            let Some(reply) = self.loans.asked.pop_front() else { return };
            self.loans.book.out.fetch_add(1, Ordering::SeqCst);
            self.health.pace.spend(1);
            // Whoever asked and has gone gives it back at once.
            reply.send(Permit(Arc::clone(&self.loans.book))).ok();
        }
    }

    fn may_lend(&mut self, at: Moment, wake: &mut Option<Instant>) -> bool {
        let under_way = self.flights.len() + self.loans.out();
        let free = self.health.is_active()
            && self.room_at.is_none()
            && self.health.suspects.is_empty()
            && under_way < self.health.concurrency();
        // What is not in the reader's hands by now has nothing but a batch to wait for.
        if !free
            || !self.has_read_all()
            || self.retries.next_due().is_some_and(|due| due <= at.wall)
        {
            return false;
        }
        match self.health.pace.ready(at.now) {
            Ok(()) => true,
            Err(wait) => {
                soonest(wake, Some(at.now + wait));
                false
            }
        }
    }

    /// Whether an attempt may start, as far as the live lane is concerned. Asks it for a permit
    /// when there is something to send.
    pub(super) fn may_attempt(&mut self, has_work: impl FnOnce(&Self) -> bool) -> bool {
        if self.borrowing.is_none() {
            return true;
        }
        let has_work = has_work(self);
        let Some(borrowing) = &mut self.borrowing else { return true };
        if !has_work {
            // Others may need it.
            borrowing.permit = None;
            return false;
        }
        if borrowing.permit.is_none() && self.asking.is_none() {
            let live = borrowing.live.clone();
            self.asking = Some(Box::pin(async move { live.borrow().await }));
        }
        borrowing.permit.is_some()
    }

    pub(super) fn granted(&mut self, permit: Permit) {
        if let Some(borrowing) = &mut self.borrowing {
            borrowing.permit = Some(permit);
        }
    }

    pub(super) fn take_permit(&mut self) -> Option<Permit> {
        self.borrowing.as_mut().and_then(|borrowing| borrowing.permit.take())
    }
}
