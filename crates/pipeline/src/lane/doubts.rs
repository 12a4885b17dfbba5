//! What may have been under way when the last run ended uncleanly.

use std::collections::HashSet;

use holdfast_model::Seq;

use crate::lane::{flight::Origin, retries::Retries};

/// No mark is written before sending, so it is a window: the first events that the log gives
/// again, and the first records that were due.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    events: usize,
    records: HashSet<Seq>,
}

impl Doubts {
    pub(super) fn new(
        retries: &Retries,
        now: holdfast_model::Timestamp,
        in_flight_max: usize,
    ) -> Self {
        Self { events: in_flight_max, records: retries.first_due(now, in_flight_max) }
    }

    /// Whether what starts now is in doubt.
    pub(super) fn take(&mut self, origin: &Origin, count: usize) -> bool {
        match origin {
            Origin::Log => {
                let in_doubt = self.events > 0;
                self.events = self.events.saturating_sub(count);
                in_doubt
            }
            Origin::Retry(head) => self.records.remove(&head.id),
            Origin::Detached(_) => false,
        }
    }
}
