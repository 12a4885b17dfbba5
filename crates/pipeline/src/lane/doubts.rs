//! What may have been under way when the last run ended uncleanly.

use std::collections::HashSet;

use holdfast_model::Seq;

use crate::lane::{flight::Origin, retries::Retries};

/// No mark is written before sending, so it is a window: the first events that the log gives
/// again, and the first records that were due.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    /// Of each class.
    events: [usize; 2],
    records: HashSet<Seq>,
}

impl Doubts {
    pub(super) fn new(
        retries: &Retries,
        now: holdfast_model::Timestamp,
        in_flight_max: usize,
    ) -> Self {
        Self { events: [in_flight_max; 2], records: retries.first_due(now, in_flight_max) }
    }

    /// Whether what starts now is in doubt.
    pub(super) fn take(&mut self, origin: &Origin, count: usize) -> bool {
        match origin {
            Origin::Log | Origin::Express => {
                let events = &mut self.events[usize::from(*origin == Origin::Express)];
                let in_doubt = *events > 0;
                *events = events.saturating_sub(count);
                in_doubt
            }
            Origin::Retry(head) => self.records.remove(&head.id),
            Origin::Detached(_) => false,
        }
    }
}
