//! Lanes: opening them, and storing what became of their events.

use holdfast_model::{Name, Seq, Timestamp};

use crate::{
    engine::{
        group::{Group, OPERATION_WRITES_MAX},
        keys, read,
        state::{Lane, Retry, State},
    },
    error::QueueError,
    record::{Sealed, part_key},
    store::Write,
    types::{DeadBox, LaneOpen, RetryHead, Settle, Start, StoredState},
};

/// A settlement with its records packed in its caller's own time.
pub(super) struct Prepared {
    settle: Settle,
    retries: Vec<(RetryHead, Sealed)>,
    dead: Vec<(Seq, Sealed)>,
}

pub(super) fn prepare(mut settle: Settle) -> Result<Prepared, QueueError> {
    let retries = std::mem::take(&mut settle.retry);
    let retries = retries
        .iter()
        .map(|record| Ok((record.head(), Sealed::new(record)?)))
        .collect::<Result<_, QueueError>>()?;
    let dead = std::mem::take(&mut settle.dead);
    let dead = dead
        .iter()
        .map(|letter| Ok((letter.event.seq, Sealed::new(letter)?)))
        .collect::<Result<_, QueueError>>()?;
    Ok(Prepared { settle, retries, dead })
}

/// Runs on the writing thread: each item whole or not at all, in order.
pub(super) fn run(
    state: &mut State,
    group: &mut Group,
    name: &Name,
    items: Vec<Prepared>,
) -> Result<(), QueueError> {
    for item in items {
        settle_one(state, group, name, item)?;
    }
    Ok(())
}

fn settle_one(
    state: &mut State,
    group: &mut Group,
    name: &Name,
    item: Prepared,
) -> Result<(), QueueError> {
    let lane = state.lane(name)?;
    let removes: Vec<Write> = item
        .settle
        .retries_done
        .iter()
        .filter_map(|id| lane.retries.get(id).map(|retry| (id, retry)))
        .flat_map(|(id, retry)| remove_parts(&keys::retry(name.as_str(), *id, retry.generation), retry.parts))
        .collect();
    let generations: Vec<u8> = item
        .retries
        .iter()
        .map(|(head, _)| lane.retries.get(&head.id).map_or(0, |old| old.generation.wrapping_add(1)))
        .collect();
    let mut puts = Vec::new();
    let mut added = Vec::new();
    for ((head, sealed), generation) in item.retries.iter().zip(generations) {
        let key = keys::retry(name.as_str(), head.id, generation);
        puts.extend(sealed.writes(&key));
        let (parts, bytes) = (sealed.parts(), sealed.size(&key));
        added.push(Retry { head: *head, generation, parts, bytes });
    }
    let mut dead_bytes = 0;
    for (seq, sealed) in &item.dead {
        let key = keys::dead(name.as_str(), *seq);
        dead_bytes += sealed.size(&key);
        puts.extend(sealed.writes(&key));
    }
    if puts.len() + removes.len() > OPERATION_WRITES_MAX {
        group.stage(state, puts)?;
        group.reserve(state, removes.len() + 1)?;
        group.staged();
    } else {
        group.reserve(state, puts.len() + removes.len())?;
        group.extend(puts);
    }
    group.extend(removes);
    group.touch_lane(name);

    let lane = state.lane(name)?;
    count(lane, name, &item.settle);
    for id in &item.settle.retries_done {
        lane.take_retry(*id);
    }
    added.into_iter().for_each(|retry| lane.add_retry(retry));
    if !item.dead.is_empty() {
        add_dead(state, group, name.as_str(), item.dead.len() as u64, dead_bytes);
    }
    count_jobs(state, group, &item.settle)
}

/// A stretch that was settled before is a fault of the caller. It is not counted again, so the
/// ledger shows the difference and nothing is delivered less.
fn count(lane: &mut Lane, name: &Name, settle: &Settle) {
    for span in &settle.spans {
        if !lane.spans.add(*span) {
            tracing::error!(lane = %name, ?span, "a stretch was settled twice");
        }
    }
    lane.counters.filtered += settle.filtered;
    lane.counters.delivered += settle.delivered;
    lane.counters.expired += settle.expired;
    lane.counters.purged += settle.purged;
    lane.active_ms += settle.active.as_millis() as u64;
}

pub(super) fn add_dead(state: &mut State, group: &mut Group, owner: &str, count: u64, bytes: u64) {
    let dead = state.boxes.entry(owner.to_owned()).or_insert_with(|| DeadBox {
        owner: owner.to_owned(),
        ..DeadBox::default()
    });
    dead.count += count;
    dead.bytes += bytes;
    group.touch_owner(owner);
}

fn count_jobs(state: &mut State, group: &mut Group, settle: &Settle) -> Result<(), QueueError> {
    for (id, progress) in &settle.jobs {
        let Some(job) = state.jobs.get(id) else { continue };
        let mut job = job.clone();
        job.progress.delivered += progress.delivered;
        job.progress.duplicate += progress.duplicate;
        job.progress.failed += progress.failed;
        // In the same batch as the settlement, unless it is full; then the count may be behind
        // by one after a crash, which only a person reads.
        put_job(state, group, job)?;
    }
    Ok(())
}

pub(super) fn put_job(
    state: &mut State,
    group: &mut Group,
    job: crate::types::JobRecord,
) -> Result<(), QueueError> {
    let writes = Sealed::new(&job)?.writes(&keys::job(job.id));
    group.reserve(state, writes.len())?;
    group.extend(writes);
    state.jobs.insert(job.id, job);
    Ok(())
}

pub(super) fn remove_parts(key: &[u8], parts: usize) -> Vec<Write> {
    (0..parts).map(|part| Write::Remove(part_key(key, part))).collect()
}

pub(super) fn open_lane(
    state: &mut State,
    group: &mut Group,
    name: &Name,
    start: Start,
) -> Result<LaneOpen, QueueError> {
    group.reserve(state, 1)?;
    if !state.lanes.contains_key(name) {
        let (position, before) = match start {
            Start::New => (state.meta.next_seq, state.meta.events_total),
            Start::All => read::log_begin(&*state.store)?
                .unwrap_or((state.meta.next_seq, state.meta.events_total)),
        };
        state.lanes.insert(name.clone(), Lane::new(position, before, state.now));
    }
    let (unclean, now) = (state.unclean, state.now);
    let lane = state.lane(name)?;
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

/// Settles everything a lane holds as expired: an orphan's end.
pub(super) fn abandon(
    state: &mut State,
    group: &mut Group,
    name: &Name,
) -> Result<u64, QueueError> {
    let head = state.meta.next_seq;
    let total = state.meta.events_total;
    let lane = state.lane(name)?;
    let ids: Vec<(Seq, Retry)> = lane.retries.iter().map(|(id, retry)| (*id, *retry)).collect();
    let mut expired = 0;
    for (id, retry) in ids {
        let removes = remove_parts(&keys::retry(name.as_str(), id, retry.generation), retry.parts);
        group.reserve(state, removes.len())?;
        group.extend(removes);
        let lane = state.lane(name)?;
        lane.take_retry(id);
        lane.counters.expired += u64::from(retry.head.members);
        expired += u64::from(retry.head.members);
        group.touch_lane(name);
    }
    group.reserve(state, 1)?;
    let store = std::sync::Arc::clone(&state.store);
    let lane = state.lane(name)?;
    let before = read::events_before(&*store, lane.spans.position(), head, total)?;
    let unread = total.saturating_sub(before).saturating_sub(lane.spans.count_above());
    lane.counters.expired += unread;
    lane.spans = crate::spans::Spans::new(head, &[]);
    group.touch_lane(name);
    Ok(expired + unread)
}

/// A lane's stretch as it is now settled in one go; used by upkeep of `now`.
pub(super) fn tick(state: &mut State, now: Timestamp) {
    state.now = now;
    for lane in state.lanes.values_mut() {
        if lane.open {
            lane.last_open_at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spans::Span;

    #[test]
    fn a_span_of_no_events_may_cover_a_gap() {
        let mut lane = Lane::new(5, 0, Timestamp(0));
        let name = Name::new("a").unwrap();
        let spans = vec![Span { from: 5, to: 9, count: 0 }, Span::one(9)];
        count(&mut lane, &name, &Settle { spans, ..Settle::default() });
        assert_eq!(lane.spans.position(), 10);
    }
}
