//! A lane as the engine knows it, and as it is stored.

use std::collections::BTreeMap;

use holdfast_model::{LaneState, Ledger, Name, Seq, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    engine::express::{Express, ExpressRecord},
    error::QueueError,
    record::VALUE_BYTES_MAX,
    spans::{Span, Spans},
    types::{Backlog, BacklogLimit, DeadEnd, LaneEnd, RetryHead, StoredState},
};

/// Most parts of a lane's record. It travels with every batch that settles, so it must leave room
/// there; see [`crate::engine::group`].
pub(crate) const LANE_PARTS_MAX: usize = 8;
/// What the settled stretches may take of it, in bytes.
const SPANS_BYTES_MAX: u64 = ((LANE_PARTS_MAX - 1) * VALUE_BYTES_MAX) as u64;

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counters {
    pub(crate) filtered: u64,
    pub(crate) delivered: u64,
    pub(crate) suppressed: u64,
    pub(crate) expired: u64,
    pub(crate) purged: u64,
}

impl Counters {
    /// What leaves for good is counted by its end.
    pub(crate) fn of(&mut self, end: DeadEnd) -> &mut u64 {
        match end {
            DeadEnd::Purged => &mut self.purged,
            DeadEnd::Expired => &mut self.expired,
        }
    }
}

/// A lane as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LaneRecord {
    position: Seq,
    /// The settled stretches above the position, each as its distance from the one before, its
    /// length and its events: small numbers, which take few bytes.
    above: Vec<(u64, u64, u64)>,
    counters: Counters,
    born_events: u64,
    retrying: u64,
    state: StoredState,
    active_ms: u64,
    last_open_at: Timestamp,
    express: ExpressRecord,
    keyed_as: Option<Name>,
    in_doubt: bool,
}

/// A lane, decoded.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    pub(crate) spans: Spans,
    pub(crate) counters: Counters,
    /// Events in the log before the lane's birth.
    pub(crate) born_events: u64,
    pub(crate) state: StoredState,
    pub(crate) active_ms: u64,
    pub(crate) last_open_at: Timestamp,
    /// Where a job's lane ends; stored with its job.
    pub(crate) end: Option<LaneEnd>,
    /// Opened by a destination in this run.
    pub(crate) open: bool,
    /// What was in flight when it was last open may have arrived.
    pub(crate) in_doubt: bool,
    /// The name in its idempotency keys, if another than its own: it was renamed.
    pub(crate) keyed_as: Option<Name>,
    /// How much it may hold back.
    pub(crate) limit: BacklogLimit,
    pub(crate) backlog: Backlog,
    pub(crate) retries: BTreeMap<Seq, Retry>,
    pub(crate) retrying: u64,
    pub(crate) retry_bytes: u64,
    pub(crate) express: Express,
}

/// A retry record in brief.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retry {
    pub(crate) head: RetryHead,
    /// Tells a record from the one it replaces: the new one is stored beside the old, and one
    /// batch switches over.
    pub(crate) generation: u8,
    pub(crate) parts: usize,
    pub(crate) bytes: u64,
}

/// What readers need of a lane: all but the records that can be many.
#[derive(Clone, Debug)]
pub(crate) struct LaneView {
    pub(crate) position: Seq,
    pub(crate) settled_above: u64,
    /// Express events that are settled, less those that the other class has passed.
    pub(crate) express_ahead: i64,
    pub(crate) counters: Counters,
    pub(crate) born_events: u64,
    pub(crate) state: StoredState,
    pub(crate) last_open_at: Timestamp,
    pub(crate) end: Option<LaneEnd>,
    pub(crate) open: bool,
    pub(crate) backlog: Backlog,
    pub(crate) retrying: u64,
    pub(crate) retry_bytes: u64,
}

// === impl Lane ===

impl Lane {
    pub(crate) fn new(spans: Spans, born_events: u64, now: Timestamp) -> Self {
        let state = StoredState { state: LaneState::Active, reason: String::new(), since: now };
        Self {
            spans,
            counters: Counters::default(),
            born_events,
            state,
            active_ms: 0,
            last_open_at: now,
            end: None,
            open: false,
            in_doubt: false,
            keyed_as: None,
            limit: BacklogLimit::default(),
            backlog: Backlog::default(),
            retries: BTreeMap::new(),
            retrying: 0,
            retry_bytes: 0,
            express: Express::default(),
        }
    }

    /// The lane, and how many events its retry records should hold.
    pub(crate) fn from_record(stored: LaneRecord) -> (Self, u64) {
        let spans = unpacked(stored.position, &stored.above);
        let lane = Self {
            counters: stored.counters,
            state: stored.state,
            active_ms: stored.active_ms,
            express: Express::from_record(stored.express),
            keyed_as: stored.keyed_as,
            in_doubt: stored.in_doubt,
            ..Self::new(spans, stored.born_events, stored.last_open_at)
        };
        (lane, stored.retrying)
    }

    pub(crate) fn to_record(&self) -> LaneRecord {
        LaneRecord {
            position: self.spans.position(),
            above: packed(&self.spans),
            counters: self.counters,
            born_events: self.born_events,
            retrying: self.retrying,
            state: self.state.clone(),
            active_ms: self.active_ms,
            last_open_at: self.last_open_at,
            express: self.express.to_record(),
            keyed_as: self.keyed_as.clone(),
            in_doubt: self.in_doubt,
        }
    }

    /// Below this the lane needs nothing of the log any more.
    pub(crate) fn lowest(&self) -> Seq {
        let position = self.spans.position();
        self.express.holds().map_or(position, |express| express.min(position))
    }

    /// The most parts that the lane's record can have once `more` stretches are settled, of both
    /// classes, up to `to`. An error when that is more than may travel with a batch.
    pub(crate) fn parts_with(&self, more: usize, to: Seq) -> Result<usize, QueueError> {
        let beyond = |spans: &Spans| spans.reach().max(to.saturating_sub(spans.position()));
        let express = match self.express.is_used() {
            true => spans_bytes_max(
                (self.express.spans.len() + more) as u64,
                beyond(&self.express.spans),
            ),
            false => 0,
        };
        let bytes =
            spans_bytes_max((self.spans.len() + more) as u64, beyond(&self.spans)) + express;
        if bytes > SPANS_BYTES_MAX {
            let (what, bytes_max) = ("the settled set above a lane's position", SPANS_BYTES_MAX);
            return Err(QueueError::TooLarge { what, bytes, bytes_max });
        }
        Ok(1 + (bytes / VALUE_BYTES_MAX as u64) as usize)
    }

    /// Whether the log must keep what is behind the position. A job's lane may have come to its end.
    pub(crate) fn holds_log(&self) -> bool {
        self.end.is_none_or(|end| self.spans.position() < end.seq)
    }

    /// Adds a record in place of the one with its id, if there is one.
    pub(crate) fn add_retry(&mut self, retry: Retry) {
        self.take_retry(retry.head.id);
        self.retrying += u64::from(retry.head.members);
        self.retry_bytes += retry.bytes;
        self.retries.insert(retry.head.id, retry);
    }

    pub(crate) fn take_retry(&mut self, id: Seq) -> Option<Retry> {
        let retry = self.retries.remove(&id)?;
        self.retrying -= u64::from(retry.head.members);
        self.retry_bytes -= retry.bytes;
        Some(retry)
    }

    /// The generation for the record that replaces, or is, the one with this id.
    pub(crate) fn next_generation(&self, id: Seq) -> u8 {
        self.retries.get(&id).map_or(0, |old| old.generation.wrapping_add(1))
    }

    pub(crate) fn view(&self) -> LaneView {
        LaneView {
            position: self.spans.position(),
            settled_above: self.spans.count_above(),
            express_ahead: self.express.ahead,
            counters: self.counters,
            born_events: self.born_events,
            state: self.state.clone(),
            last_open_at: self.last_open_at,
            end: self.end,
            open: self.open,
            backlog: self.backlog,
            retrying: self.retrying,
            retry_bytes: self.retry_bytes,
        }
    }
}

/// Settled stretches as small numbers: each as its distance from the one before, its length and its
/// events.
pub(super) fn packed(spans: &Spans) -> Vec<(u64, u64, u64)> {
    let mut end = spans.position();
    let mut above = Vec::with_capacity(spans.len());
    for span in spans.above() {
        above.push((span.from - end, span.to - span.from, span.count));
        end = span.to;
    }
    above
}

pub(super) fn unpacked(position: Seq, packed: &[(u64, u64, u64)]) -> Spans {
    let mut end = position;
    let mut above = Vec::with_capacity(packed.len());
    for (gap, length, count) in packed {
        let from = end.saturating_add(*gap);
        end = from.saturating_add(*length);
        above.push(Span { from, to: end, count: *count });
    }
    Spans::new(position, &above)
}

/// The most bytes that so many stretches take. Each has three numbers, of seven bits a byte, and
/// none counts twice in the reach but as a length and its events: so few of them can be large.
fn spans_bytes_max(stretches: u64, reach: u64) -> u64 {
    let numbers = stretches * 3;
    let mut bytes = numbers;
    let mut large = 1_u64 << 7;
    while large <= reach {
        bytes += numbers.min(reach.saturating_mul(2) / large);
        match large.checked_shl(7) {
            Some(larger) if larger > large => large = larger,
            _ => break,
        }
    }
    bytes
}

// === impl LaneView ===

impl LaneView {
    /// The ledger, given what the log itself counts.
    pub(crate) fn ledger(&self, events_total: u64, before_position: u64, dead: u64) -> Ledger {
        // A job's lane sees nothing behind its end.
        let events_total = self.end.map_or(events_total, |end| events_total.min(end.events));
        Ledger {
            seen: events_total.saturating_sub(self.born_events),
            filtered: self.counters.filtered,
            delivered: self.counters.delivered,
            unsettled: events_total
                .saturating_sub(before_position)
                .saturating_sub(self.settled_above)
                .saturating_add_signed(-self.express_ahead),
            retrying: self.retrying,
            dead,
            suppressed: self.counters.suppressed,
            expired: self.counters.expired,
            purged: self.counters.purged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Sealed;

    #[test]
    fn a_lane_reads_back_and_its_record_has_no_more_parts_than_foretold() {
        for (step, reach) in [
            (2, 40),
            (2, 65_536),
            (3, 65_536),
            (900, 1 << 24),
            (90_007, 360_000_000),
            (900_000_007, 36_000_000_000),
        ] {
            let seqs = (0..reach).step_by(step);
            let above: Vec<Span> = seqs.map(|seq| Span::one(101 + seq)).collect();
            let lane = Lane::new(Spans::new(100, &above), 7, Timestamp(3));
            let parts = lane.parts_with(0, 0).unwrap();
            assert!(Sealed::new(&lane.to_record()).unwrap().parts() <= parts);
            let (again, retrying) = Lane::from_record(lane.to_record());
            assert_eq!((again.spans, again.born_events, retrying), (lane.spans, 7, 0));
        }
    }

    #[test]
    fn the_widest_settled_set_of_the_design_fits_and_one_too_scattered_is_refused() {
        let above: Vec<Span> = (0..32_767).map(|n| Span::one(2 * n + 2)).collect();
        let lane = Lane::new(Spans::new(1, &above), 0, Timestamp(0));
        assert!(lane.parts_with(1, 65_537).is_ok());
        assert!(matches!(lane.parts_with(50_000, 200_000), Err(QueueError::TooLarge { .. })));
    }
}
