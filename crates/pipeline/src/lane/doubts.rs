//! What may have been under way when the last run ended uncleanly.

use std::{collections::HashSet, time::Duration};

use holdfast_model::{Seq, Timestamp};
use holdfast_queue::LaneOpen;
use tokio::time::Instant;

use crate::{
    lane::{flight::Origin, health::Moment, retries::Retries},
    settings::LaneSettings,
};

/// No mark is written before sending, so it is a window: the first events that the log gives
/// again, and the first records that were due.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    /// Of each class.
    events: [usize; 2],
    /// The log's head at the start: what came later was not under way before.
    below: Seq,
    records: HashSet<Seq>,
    /// Before this a search would miss what the last run made.
    hold_until: Option<Instant>,
}

/// Takes in what the last run left: the records' due times, and what of it is in doubt.
pub(super) fn at_start(
    retries: &mut Retries,
    opened: &LaneOpen,
    settings: &LaneSettings,
    head: Seq,
    search_lag: Option<Duration>,
    at: Moment,
) -> Doubts {
    let mut doubts = match opened.unclean {
        true => Doubts::new(retries, at.wall, settings.in_flight_max(), head),
        false => Doubts::default(),
    };
    retries.clamp(at.wall, settings.retry.wait_max());
    let Some(lag) = search_lag else { return doubts };
    let until = at.wall.saturating_add(lag);
    if opened.unclean {
        doubts = doubts.searchable(retries, at.now + lag);
    }
    for head in opened.retries.iter().filter(|head| opened.unclean || head.in_doubt) {
        // What was due later than the lag was stored so for a doubt that is older than this run.
        let held = if opened.unclean { until } else { head.due.min(until) };
        retries.hold(head.id, held);
    }
    doubts
}

impl Doubts {
    pub(super) fn new(retries: &Retries, now: Timestamp, in_flight_max: usize, below: Seq) -> Self {
        let records = retries.first_due(now, in_flight_max);
        Self { events: [in_flight_max; 2], below, records, hold_until: None }
    }

    /// Where the destination searches: every record is looked for, which costs a search and spares
    /// guessing which were tried early; and what is in doubt waits until then.
    pub(super) fn searchable(mut self, retries: &Retries, hold_until: Instant) -> Self {
        self.records = retries.ids().collect();
        self.hold_until = Some(hold_until);
        self
    }

    /// Until when the log's next event must wait, if it must.
    pub(super) fn held(&self, express: bool, next: Option<Seq>, now: Instant) -> Option<Instant> {
        let in_doubt =
            self.events[usize::from(express)] > 0 && next.is_some_and(|seq| seq < self.below);
        self.hold_until.filter(|until| in_doubt && now < *until)
    }

    /// Whether what starts now is in doubt.
    pub(super) fn take(&mut self, origin: &Origin, first: Seq, count: usize) -> bool {
        match origin {
            Origin::Log | Origin::Express => {
                let events = &mut self.events[usize::from(*origin == Origin::Express)];
                let in_doubt = *events > 0 && first < self.below;
                *events = events.saturating_sub(count);
                in_doubt
            }
            Origin::Retry(head) => self.records.remove(&head.id),
            Origin::Detached(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_what_the_last_run_could_have_sent_is_held_and_only_until_the_search_shows_it() {
        let (now, lag) = (Instant::now(), Duration::from_secs(15));
        let window = || Doubts::new(&Retries::default(), Timestamp(0), 2, 100);
        let mut doubts = window().searchable(&Retries::default(), now + lag);
        assert_eq!(doubts.held(false, Some(99), now), Some(now + lag));
        assert_eq!(doubts.held(false, Some(100), now), None, "it came after the start");
        assert_eq!(doubts.held(false, None, now), None);
        assert_eq!(doubts.held(false, Some(99), now + lag), None);
        assert_eq!(window().held(false, Some(99), now), None, "nobody searches");
        assert!(doubts.take(&Origin::Log, 98, 1));
        assert!(doubts.take(&Origin::Log, 99, 1));
        assert_eq!(doubts.held(false, Some(99), now), None, "the window is over");
        assert!(!doubts.take(&Origin::Log, 99, 1));
    }
}
