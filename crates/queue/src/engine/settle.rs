//! Storing what became of a lane's events, with the answers that come of it.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_model::{Name, Seq};

use crate::{
    chunk::Entry,
    engine::{
        arrivals::Arrivals,
        aside,
        group::{Change, Group},
        keys,
        lane::{Lane, Retry},
        links,
        state::State,
        upkeep, windows,
    },
    error::QueueError,
    record::{Sealed, part_key},
    types::{Answer, JobRecord, RetryHead, RetryRecord, Settle},
};

/// A settlement with its records packed in its caller's own time.
pub(super) struct Prepared {
    settle: Settle,
    retries: Vec<(RetryHead, Sealed)>,
    dead: Vec<(Seq, Sealed)>,
    answers: Arrivals,
}

pub(super) fn prepare(mut settle: Settle) -> Result<Prepared, QueueError> {
    let retries = std::mem::take(&mut settle.retry);
    let retries = retries
        .iter()
        // One without members would have no name, and nothing to wait for.
        .filter(|record| !record.members.is_empty())
        .map(|record| Ok((record.head(), Sealed::new(record)?)))
        .collect::<Result<_, QueueError>>()?;
    let dead = std::mem::take(&mut settle.dead);
    let dead = dead
        .iter()
        .map(|letter| Ok((letter.event.seq, Sealed::new(letter)?)))
        .collect::<Result<_, QueueError>>()?;
    let entry = |Answer { source, received_at, event }| Entry { source, received_at, event };
    let answers = std::mem::take(&mut settle.answers).into_iter().map(entry).collect();
    Ok(Prepared { settle, retries, dead, answers: Arrivals::pack(answers)? })
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
    state.lane(name)?;
    make_room(state, group, &item.answers)?;
    let lane = state.lane(name)?;
    let to = item.settle.spans.iter().map(|span| span.to).max().unwrap_or(0);
    let to = item.settle.express_spans.iter().map(|span| span.to).max().unwrap_or(0).max(to);
    let more = item.settle.spans.len().max(item.settle.express_spans.len());
    let lane_parts = lane.parts_with(more, to)?;
    // A record that is replaced goes, whether or not the caller says so.
    let mut gone: BTreeSet<Seq> = item.settle.retries_done.iter().copied().collect();
    gone.extend(item.retries.iter().map(|(head, _)| head.id));
    let mut change = Change::default();
    for retry in gone.iter().filter_map(|id| lane.retries.get(id)) {
        let key = keys::retry(name.as_str(), retry.head.id, retry.generation);
        change.removes.extend(part_keys(&key, retry.parts));
    }
    let mut added = Vec::new();
    for (head, sealed) in &item.retries {
        let generation = lane.next_generation(head.id);
        let key = keys::retry(name.as_str(), head.id, generation);
        change.puts.extend(sealed.writes(&key));
        let (parts, bytes) = (sealed.parts(), sealed.size(&key));
        added.push(Retry { head: *head, generation, parts, bytes });
    }
    let mut dead_bytes = 0;
    for (seq, sealed) in &item.dead {
        let key = keys::dead(name.as_str(), *seq);
        dead_bytes += sealed.size(&key);
        change.puts.extend(sealed.writes(&key));
    }
    change.puts.extend(item.answers.puts(state));
    change.puts.extend(item.answers.children(state));
    let windows = windows::writes(name, &item.settle.windows, &item.settle.windows_done)?;
    change.beside.extend(windows);
    change.beside.extend(links::writes(name, &item.settle.links)?);
    let jobs = jobs_after(state, &item.settle)?;
    for (job, sealed) in &jobs {
        change.beside.extend(sealed.writes(&keys::job(job.id)));
    }

    let growth = lane_parts + item.answers.growth();
    let rest = group.begin(state, change, growth)?;
    item.answers.take_places(state, group)?;
    let lane = state.lane(name)?;
    count(lane, name, &item.settle);
    for id in gone {
        lane.take_retry(id);
    }
    added.into_iter().for_each(|retry| lane.add_retry(retry));
    group.touch_lane(name);
    if !item.dead.is_empty() {
        let dead = state.dead_box(name.as_str());
        dead.count += item.dead.len() as u64;
        dead.bytes += dead_bytes;
        group.touch_owner(name.as_str());
    }
    for (job, _) in jobs {
        state.jobs.insert(job.id, job);
        state.jobs_changed = true;
    }
    group.finish(state, rest)
}

/// Trims what only retention holds when answers go beyond `max_size`. They are taken in any case: who
/// asked for them looked for headroom, and a settlement is never refused for want of room.
fn make_room(state: &mut State, group: &mut Group, answers: &Arrivals) -> Result<(), QueueError> {
    let bytes = answers.bytes();
    if bytes > 0 && state.bytes_live() + bytes > state.limits.bytes_max {
        upkeep::make_room(state, group, bytes)?;
    }
    Ok(())
}

/// A stretch that was settled before is a fault of the caller. It is not counted again, so the
/// ledger shows the difference and nothing is delivered less.
fn count(lane: &mut Lane, name: &Name, settle: &Settle) {
    for span in &settle.spans {
        if !lane.spans.add(*span) {
            tracing::error!(lane = %name, ?span, "a stretch was settled twice");
        }
    }
    if let Some(span) = lane.express.settle(&settle.express_spans, settle.express_passed) {
        tracing::error!(lane = %name, ?span, "a stretch of the express class was settled twice");
    }
    lane.counters.suppressed += settle.suppressed;
    lane.counters.suppressed = lane.counters.suppressed.saturating_sub(settle.unsuppressed);
    lane.counters.filtered += settle.filtered;
    lane.counters.delivered += settle.delivered;
    lane.counters.expired += settle.expired;
    lane.counters.purged += settle.purged;
    lane.active_ms += settle.active.as_millis() as u64;
}

/// The jobs with what this settlement adds to them, in the same batch.
fn jobs_after(state: &State, settle: &Settle) -> Result<Vec<(JobRecord, Sealed)>, QueueError> {
    let mut jobs: BTreeMap<u64, JobRecord> = BTreeMap::new();
    for (id, progress) in &settle.jobs {
        let Some(stored) = state.jobs.get(id) else { continue };
        let job = jobs.entry(*id).or_insert_with(|| stored.clone());
        job.progress.delivered += progress.delivered;
        job.progress.duplicate += progress.duplicate;
        job.progress.failed += progress.failed;
    }
    jobs.into_values().map(|job| Ok((job.clone(), Sealed::new(&job)?))).collect()
}

/// The keys of a record's parts.
pub(super) fn part_keys(key: &[u8], parts: usize) -> impl Iterator<Item = Vec<u8>> {
    (0..parts).map(move |part| part_key(key, part))
}

/// A retry record, whole. A damaged one leaves the lane, counted, and is kept aside.
pub(super) fn retry(
    state: &mut State,
    group: &mut Group,
    name: &Name,
    id: Seq,
) -> Result<Option<RetryRecord>, QueueError> {
    let Some(retry) = state.lane(name)?.retries.get(&id).copied() else { return Ok(None) };
    // It may be in the batch under way, where the store does not show it yet.
    group.close(state)?;
    match aside::open_retry(state, name, id, retry.generation) {
        Ok(record) => Ok(Some(record)),
        Err(error @ QueueError::Corrupt { .. }) => {
            aside::retry(state, group, name, id, &error)?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use holdfast_model::Timestamp;

    use super::*;
    use crate::spans::{Span, Spans};

    #[test]
    fn a_span_of_no_events_may_cover_a_gap() {
        let mut lane = Lane::new(Spans::new(5, &[]), 0, Timestamp(0));
        let name = Name::new("a").unwrap();
        let spans = vec![Span { from: 5, to: 9, count: 0 }, Span::one(9)];
        count(&mut lane, &name, &Settle { spans, ..Settle::default() });
        assert_eq!(lane.spans.position(), 10);
    }
}
