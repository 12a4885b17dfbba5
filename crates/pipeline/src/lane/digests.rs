//! Storm control's edge: windows that end become summaries, in one step with their own end.

use holdfast_queue::{RetryRecord, Settle, Window};
use tokio::time::Instant;

use crate::{
    lane::run::{Lane, soonest},
    storm::{Rest, summary},
};

impl Lane {
    /// Ends the windows that are over. A window that is over by the clock ends only when all that
    /// was received until then has been read, so a backlog is counted whole.
    pub(super) fn end_windows(&mut self, wake: &mut Option<Instant>) {
        if self.storm.is_idle() {
            return;
        }
        let at = self.moment();
        if !self.normal.has_more(*self.head.borrow()) {
            self.storm.end_due(at.wall);
            if let Some(end) = self.storm.next_end() {
                let wait = self.clock.until(end, end.since(at.wall));
                soonest(wake, Some(at.now + wait));
            }
        }
        if self.storm.has_ended() {
            // What they held back must be stored before they end.
            self.settle_skipped();
            while let Some(window) = self.storm.take_ended() {
                let end = self.end_of(&window);
                self.settling.waiting.push(end);
            }
        }
    }

    fn end_of(&self, window: &Window) -> Settle {
        let windows_done = vec![window.first];
        if self.storm.rest() == Rest::Nothing {
            return Settle { windows_done, ..Settle::default() };
        }
        let member = summary(window, self.engine.log_id());
        let slots = self.config.settings.order.slots(&member.to_event());
        let untried = RetryRecord::untried(vec![member], self.clock.now(), self.active_now());
        let retry = vec![RetryRecord { slots, ..untried }];
        Settle { windows_done, unsuppressed: 1, retry, ..Settle::default() }
    }
}
