//! Reading the log, while the lane may send.

use std::{sync::Arc, time::Duration};

use holdfast_model::Chain;
use holdfast_queue::{Page, QueueError, ReadLimit};
use tokio::time::Instant;

use crate::lane::{
    reader::{PAGE_BYTES_MAX, PAGE_EVENTS_MAX},
    run::{Lane, soonest},
};

/// How long a lane waits after the log could not be read.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(5);

impl Lane {
    /// Begins to read when there is room for more. A lane that may not send does not read either.
    pub(super) fn begin_reading(&mut self, wake: &mut Option<Instant>) {
        if self.health.is_active() && self.reader.wants_page(self.log_end()) {
            self.read_page(Instant::now());
            soonest(wake, self.read_again_at);
        }
    }

    /// Says whether a page is on its way.
    pub(super) fn read_page(&mut self, now: Instant) -> bool {
        if self.reading.is_some() {
            return true;
        }
        let cursor = self.reader.cursor();
        let too_early = self.read_again_at.is_some_and(|at| now < at);
        if cursor >= self.log_end() || too_early {
            return false;
        }
        self.read_again_at = None;
        let engine = Arc::clone(&self.engine);
        let limit = ReadLimit { events_max: PAGE_EVENTS_MAX, bytes_max: PAGE_BYTES_MAX };
        self.reading = Some(Box::pin(async move { engine.read(cursor, limit).await }));
        true
    }

    /// A log that cannot be read just now is read again later: nothing of it is lost.
    pub(super) fn take_page(&mut self, page: Result<Page, QueueError>) -> Result<(), QueueError> {
        let now = Instant::now();
        match page {
            Ok(mut page) => {
                // A replay's lane ends in the middle of a page.
                let end = self.log_end();
                page.events.retain(|event| event.seq < end);
                page.lost.retain(|span| span.from < end);
                page.next = page.next.min(end.max(self.reader.cursor()));
                self.reader.take_page(page, &self.config.settings.filter, now);
            }
            Err(error @ (QueueError::Closed | QueueError::Failed { .. })) => return Err(error),
            Err(error) => {
                tracing::error!(lane = %self.config.name, error = %Chain(&error), "the lane cannot read the log");
                self.last_error = Chain(&error).to_string();
                self.read_again_at = Some(now + READ_AGAIN_AFTER);
            }
        }
        Ok(())
    }
}
