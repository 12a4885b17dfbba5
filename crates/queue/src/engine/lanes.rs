//! Lanes come, change their state, and end.

use std::sync::Arc;

use holdfast_model::{Name, Timestamp};

use crate::{
    engine::{
        aside,
        group::{Change, Group},
        keys,
        lane::{Lane, Retry},
        read::{self, End},
        settle::part_keys,
        state::State,
        windows,
    },
    error::QueueError,
    spans::Spans,
    types::{
        Backlog, BacklogLimit, DeadEnd, ExpressOpen, LaneOpen, Start, StoredState, job_of_lane,
    },
};

pub(super) fn open(
    state: &mut State,
    group: &mut Group,
    name: &Name,
    start: Start,
) -> Result<LaneOpen, QueueError> {
    if !state.lanes.contains_key(name) {
        // A job's lane comes with its job, and not again.
        if job_of_lane(name.as_str()).is_some() {
            return Err(QueueError::NoLane { lane: name.to_string() });
        }
        let (position, before) = match start {
            Start::New => (state.meta.next_seq, state.meta.events_total),
            Start::All => {
                // The oldest chunk may be the one under way.
                group.close(state)?;
                let first = read::first_chunk(&*state.store)?;
                (first.unwrap_or(state.meta.next_seq), state.meta.events_trimmed)
            }
        };
        let lane = Lane::new(Spans::new(position, &[]), before, state.now);
        state.lanes.insert(name.clone(), lane);
    }
    group.close(state)?;
    let windows = windows::load(state, group, name)?;
    group.reserve(state, 1)?;
    let now = state.now;
    let lane = state.lane(name)?;
    // Only the first to open it has to do with what may have been under way.
    let unclean = std::mem::take(&mut lane.in_doubt);
    lane.open = true;
    lane.last_open_at = now;
    group.touch_lane(name);
    Ok(LaneOpen {
        position: lane.spans.position(),
        settled: lane.spans.above(),
        retries: lane.retries.values().map(|retry| retry.head).collect(),
        state: lane.state.clone(),
        active_ms: lane.active_ms,
        unclean,
        express: lane.express.open(),
        windows,
        keyed_as: lane.keyed_as.clone(),
    })
}

pub(super) fn set_state(
    state: &mut State,
    group: &mut Group,
    name: &Name,
    stored: StoredState,
) -> Result<(), QueueError> {
    group.reserve(state, 1)?;
    state.lane(name)?.state = stored;
    group.touch_lane(name);
    Ok(())
}

/// From the head on, events at or above `level` are the lane's express class.
pub(super) fn set_express(
    state: &mut State,
    group: &mut Group,
    name: &Name,
    level: Option<u16>,
) -> Result<ExpressOpen, QueueError> {
    group.reserve(state, 1)?;
    let head = state.meta.next_seq;
    let lane = state.lane(name)?;
    let lowest = lane.lowest();
    lane.express.set_level(level, head, lowest)?;
    let open = lane.express.open();
    group.touch_lane(name);
    Ok(open)
}

/// Nobody sends for this lane any more. `in_order`: nothing of it was under way.
pub(super) fn close(
    state: &mut State,
    group: &mut Group,
    name: &Name,
    in_order: bool,
) -> Result<(), QueueError> {
    group.reserve(state, 1)?;
    let now = state.now;
    let lane = state.lane(name)?;
    lane.open = false;
    lane.in_doubt |= !in_order;
    lane.last_open_at = now;
    lane.limit = BacklogLimit::default();
    lane.backlog = Backlog::default();
    group.touch_lane(name);
    Ok(())
}

/// Settles everything a lane holds, as expired or purged: an orphan's end.
pub(super) fn abandon(
    state: &mut State,
    group: &mut Group,
    name: &Name,
    end: DeadEnd,
) -> Result<u64, QueueError> {
    let lane = state.lane(name)?;
    let retries: Vec<Retry> = lane.retries.values().copied().collect();
    let mut given_up = 0;
    for retry in retries {
        let key = keys::retry(name.as_str(), retry.head.id, retry.generation);
        let removes = part_keys(&key, retry.parts).collect();
        let rest = group.begin(state, Change { removes, ..Change::default() }, 0)?;
        let members = u64::from(retry.head.members);
        let lane = state.lane(name)?;
        lane.take_retry(retry.head.id);
        *lane.counters.of(end) += members;
        group.touch_lane(name);
        group.finish(state, rest)?;
        given_up += members;
    }
    // What is counted by the chunks must be in the store.
    group.close(state)?;
    let log_end = End { head: state.meta.next_seq, events_total: state.meta.events_total };
    let (store, trimmed) = (Arc::clone(&state.store), state.meta.events_trimmed);
    let position = state.lane(name)?.spans.position();
    let before = match read::events_before(&*store, position, log_end, trimmed) {
        Err(QueueError::Corrupt { .. }) => {
            aside::around(state, group, position)?;
            read::events_before(&*store, position, log_end, trimmed)?
        }
        found => found?,
    };
    // Nothing is trimmed that a lane has not passed.
    let before = before.unwrap_or(trimmed);
    group.reserve(state, 1)?;
    let lane = state.lane(name)?;
    let unread =
        log_end.events_total.saturating_sub(before).saturating_sub(lane.spans.count_above());
    let unread = unread.saturating_add_signed(-lane.express.ahead);
    *lane.counters.of(end) += unread;
    lane.spans = Spans::new(log_end.head, &[]);
    lane.express.end(log_end.head);
    group.touch_lane(name);
    windows::remove_all(state, group, name)?;
    Ok(given_up + unread)
}

/// What upkeep and opening take for now, in wall time.
pub(super) fn tick(state: &mut State, now: Timestamp) {
    state.now = now;
    for lane in state.lanes.values_mut().filter(|lane| lane.open) {
        lane.last_open_at = now;
    }
}
