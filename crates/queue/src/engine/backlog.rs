//! How much of the log each lane holds back, and whether that is more than it may.
//!
//! Measured once a round of upkeep, by the log's bytes shared out by events: chunks are of many
//! lanes at once, so a lane has no bytes of its own. The hard limit is `max_size`, at every append.

use std::sync::Arc;

use holdfast_model::Name;

use crate::{
    engine::{
        group::Group,
        lane::Lane,
        read::{self, End},
        state::State,
    },
    error::QueueError,
    types::Backlog,
};

/// A lane that was over its limit is not, once it is below this share of it.
const BACK_BELOW: (u64, u64) = (9, 10);

/// Looks at every lane that has a limit.
pub(super) fn measure(state: &mut State, group: &mut Group) -> Result<(), QueueError> {
    let limited = |(_, lane): &(&Name, &Lane)| lane.open && lane.limit.bytes_max < u64::MAX;
    let names: Vec<Name> =
        state.lanes.iter().filter(limited).map(|(name, _)| name.clone()).collect();
    if names.is_empty() {
        return Ok(());
    }
    // What is counted by the chunks must be in the store.
    group.close(state)?;
    for name in names {
        let Some(unread) = unread(state, &name)? else { continue };
        let in_log = state.meta.events_total - state.meta.events_trimmed;
        let chunk_bytes = state.meta.chunk_bytes;
        let lane = state.lane(&name)?;
        let bytes = share(chunk_bytes, unread, in_log);
        lane.backlog = judge(lane.backlog.over, bytes, lane.limit.bytes_max);
        if lane.backlog.over {
            let left = share(unread, back_below(lane.limit.bytes_max), bytes);
            lane.backlog.expire_to = Some(lane.spans.position() + unread.saturating_sub(left));
        }
    }
    Ok(())
}

/// Events that the lane has not settled. `None` when a chunk is damaged: its readers set it aside.
fn unread(state: &State, name: &Name) -> Result<Option<u64>, QueueError> {
    let Some(lane) = state.lanes.get(name) else { return Ok(None) };
    let end = End { head: state.meta.next_seq, events_total: state.meta.events_total };
    let store = Arc::clone(&state.store);
    let position = lane.spans.position();
    match read::events_before(&*store, position, end, state.meta.events_trimmed) {
        Ok(Some(before)) => {
            let behind = end.events_total.saturating_sub(before);
            Ok(Some(behind.saturating_sub(lane.spans.count_above())))
        }
        Ok(None) | Err(QueueError::Corrupt { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn judge(was_over: bool, bytes: u64, bytes_max: u64) -> Backlog {
    let over = bytes > bytes_max || (was_over && bytes > back_below(bytes_max));
    Backlog { bytes, bytes_max, over, expire_to: None }
}

fn back_below(bytes_max: u64) -> u64 {
    share(bytes_max, BACK_BELOW.0, BACK_BELOW.1)
}

/// `part / whole` of `all`; nothing of nothing.
fn share(all: u64, part: u64, whole: u64) -> u64 {
    match u128::from(whole) {
        0 => 0,
        whole => u64::try_from(u128::from(all) * u128::from(part) / whole).unwrap_or(u64::MAX),
    }
}

impl State {
    fn blocking(&self) -> Option<&Lane> {
        self.lanes.values().find(|lane| lane.open && lane.limit.blocks && lane.backlog.over)
    }

    /// Sources are refused because a lane holds back more than it may.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocking().is_some()
    }

    pub(super) fn refuse_when_blocked(&self) -> Result<(), QueueError> {
        match self.blocking() {
            Some(lane) => {
                let (bytes_live, bytes_max) = (lane.backlog.bytes, lane.limit.bytes_max);
                Err(QueueError::Full { bytes_live, bytes_max })
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_over_its_limit_until_a_tenth_of_it_is_free() {
        #[rustfmt::skip]
        let table = [
            // was over, bytes, is over
            (false,        100, false),
            (false,        101, true),
            (true,         100, true),
            (true,          91, true),
            (true,          90, false),
            (false,          0, false),
        ];
        for (was, bytes, is) in table {
            assert_eq!(judge(was, bytes, 100).over, is, "{was} {bytes}");
        }
    }

    #[test]
    fn shares_of_very_much_do_not_overflow() {
        assert_eq!(share(u64::MAX, u64::MAX, u64::MAX), u64::MAX);
        assert_eq!(share(u64::MAX, 1, 0), 0);
        assert_eq!(share(10, 1, 3), 3);
    }
}
