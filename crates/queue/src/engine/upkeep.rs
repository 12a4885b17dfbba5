//! What keeps the store small: trimming, merging, expiry. Runs on the writing thread, in steps so
//! short that the operations between them do not notice.

use std::{ops::ControlFlow, sync::Arc};

use holdfast_model::{Seq, Timestamp};

use crate::{
    chunk::{self, CHUNK_BYTES_MAX, CHUNK_EVENTS_MAX, Entry, Head, Packed},
    engine::{
        append::SOURCE_BYTES_FREE_MIN,
        aside, backlog, children, consumers, dead,
        group::{Change, Group},
        idempotency, jobs, keys, lanes, links, read,
        settle::part_keys,
        state::{State, failed, millis},
    },
    error::QueueError,
    record::part_key,
    store::{Store, Write},
    types::{DEAD_STEP_MAX, DeadEnd, DeadId, DeadQuery},
};

/// Chunks that one step looks at.
const STEP_CHUNKS_MAX: usize = 64;
/// Steps of trimming, and of merging, in one round.
pub(super) const ROUND_STEPS_MAX: usize = 64;
/// Small chunks that make merging worth a look: with one event each, they fill one.
const SMALL_CHUNKS_MIN: usize = CHUNK_EVENTS_MAX;
/// How often open lanes are stored as open, so that an orphan's age is known after a restart.
const LANES_NOTED_EVERY_MS: u64 = 3_600_000;

/// A chunk as trimming and merging see it.
struct Seen {
    first: Seq,
    head: Head,
}

/// Begins a round.
pub(super) fn begin(
    state: &mut State,
    group: &mut Group,
    now: Timestamp,
) -> Result<(), QueueError> {
    lanes::tick(state, now);
    state.store.restore_reserve();
    state.disk_full = state.bytes_free < SOURCE_BYTES_FREE_MIN;
    if now.0.saturating_sub(state.rounds.lanes_noted_at.0) >= LANES_NOTED_EVERY_MS {
        note_lanes(state, group)?;
    }
    idempotency::expire(state, group, now)?;
    links::expire(state, group, now)?;
    children::expire(state, group)?;
    jobs::expire(state, group)?;
    expire_dead(state, group, now)?;
    backlog::measure(state, group)
}

/// Stores when the open lanes were last open.
pub(super) fn note_lanes(state: &mut State, group: &mut Group) -> Result<(), QueueError> {
    state.rounds.lanes_noted_at = state.now;
    let open = state.lanes.iter().filter(|(_, lane)| lane.open).map(|(name, _)| name.clone());
    for name in open.collect::<Vec<_>>() {
        group.reserve(state, 1)?;
        group.touch_lane(&name);
    }
    Ok(())
}

/// One step of trimming what is older than the retention. Says whether there may be more.
pub(super) fn trim(state: &mut State, group: &mut Group) -> Result<bool, QueueError> {
    let keep_from = state.now.0.saturating_sub(millis(state.limits.retention));
    let old = |_: &State, head: &Head| head.last_received.0 < keep_from;
    let more = trim_step(state, group, State::lowest_held, old)?;
    if state.bytes_live() + state.bytes_refused <= state.limits.bytes_max {
        state.bytes_refused = 0;
    }
    Ok(more)
}

/// Trims what only retention holds, until `bytes` more fit or nothing is left to trim.
pub(super) fn make_room(
    state: &mut State,
    group: &mut Group,
    bytes: u64,
) -> Result<(), QueueError> {
    let bytes_max = state.limits.bytes_max;
    let needed = |state: &State| state.bytes_live() + bytes > bytes_max;
    let go = |state: &State, _: &Head| needed(state);
    while needed(state) && trim_step(state, group, State::lowest_held, go)? {}
    // What only consumers hold goes next, and what only replays hold after that.
    if needed(state) && state.lowest_held() < state.lowest_position() {
        let before = read::first_chunk(&*state.store)?;
        while needed(state) && trim_step(state, group, State::lowest_position, go)? {}
        consumers::yielded(state, before)?;
    }
    if needed(state) && jobs::yield_room(state, group)? {
        while needed(state) && trim_step(state, group, State::lowest_position, go)? {}
    }
    Ok(())
}

/// Removes the oldest chunks below what `lowest` says is needed, as far as `may_go` allows. Says whether there may
/// be more.
///
/// A chunk goes no earlier than the position that passed it is stored: both are in one batch, or
/// the position in an earlier one.
fn trim_step(
    state: &mut State,
    group: &mut Group,
    lowest: fn(&State) -> Seq,
    may_go: impl Fn(&State, &Head) -> bool,
) -> Result<bool, QueueError> {
    let below = lowest(state);
    let (chunks, damaged) = chunks_from(&*state.store, 0, STEP_CHUNKS_MAX)?;
    for seen in &chunks {
        let end = seen.first + Seq::from(seen.head.count);
        if end > below || !may_go(state, &seen.head) {
            // So that the next step does not see the others again.
            group.close(state)?;
            return Ok(false);
        }
        let parts = usize::from(seen.head.parts);
        let removes = part_keys(&keys::chunk(seen.first), parts).collect();
        let rest = group.begin(state, Change { removes, ..Change::default() }, 0)?;
        state.meta.chunk_bytes = state.meta.chunk_bytes.saturating_sub(seen.head.size());
        state.meta.events_trimmed += u64::from(seen.head.count);
        group.finish(state, rest)?;
    }
    group.close(state)?;
    if let Some(first) = damaged {
        // Perhaps no lane will read it any more, and trimming must get past it.
        aside::chunk(state, group, first)?;
    }
    Ok(damaged.is_some() || chunks.len() == STEP_CHUNKS_MAX)
}

/// One step of merging: joins one run of small chunks. Says whether there may be more.
pub(super) fn merge(state: &mut State, group: &mut Group) -> Result<bool, QueueError> {
    // Merging needs room before it gives any.
    if state.disk_full || state.rounds.small_chunks < SMALL_CHUNKS_MIN {
        return Ok(false);
    }
    // What has not reached the store has no neighbours yet.
    group.close(state)?;
    let store = Arc::clone(&state.store);
    let (seen, damaged) = chunks_from(&*store, state.meta.merged_to, STEP_CHUNKS_MAX * 2)?;
    let at_end = seen.len() < STEP_CHUNKS_MAX * 2 && damaged.is_none();
    match find_run(&seen, at_end) {
        Run::Join(run) => {
            join_run(state, group, run)?;
            Ok(true)
        }
        Run::None { merged_to } => {
            state.meta.merged_to = merged_to.unwrap_or(state.meta.merged_to);
            if at_end {
                state.rounds.small_chunks = 0;
            } else if let Some(first) = damaged {
                aside::chunk(state, group, first)?;
            }
            Ok(!at_end)
        }
    }
}

fn join_run(state: &mut State, group: &mut Group, run: &[Seen]) -> Result<(), QueueError> {
    let Some(begin) = run.first() else { return Ok(()) };
    let store = Arc::clone(&state.store);
    let mut entries: Vec<Entry> = Vec::new();
    let mut bytes_before = 0;
    for seen in run {
        let key = keys::chunk(seen.first);
        let bytes = read::whole_chunk(&*store, seen.first)?;
        match chunk::entries(&key, &bytes) {
            Ok(found) => entries.extend(found),
            Err(_) => return aside::chunk(state, group, seen.first),
        }
        bytes_before += seen.head.size();
    }
    let packed = Packed::new(&entries)?;
    // One batch: a run is never half joined. A small chunk has one part.
    group.reserve(state, packed.parts() + run.len())?;
    for seen in &run[1..] {
        group.push(Write::Remove(part_key(&keys::chunk(seen.first), 0)));
    }
    group.extend(packed.writes(&keys::chunk(begin.first), begin.head.events_before));
    let chunk_bytes = &mut state.meta.chunk_bytes;
    *chunk_bytes = (*chunk_bytes + packed.size()).saturating_sub(bytes_before);
    state.rounds.small_chunks = state.rounds.small_chunks.saturating_sub(run.len());
    state.meta.merged_to = begin.first + entries.len() as Seq;
    group.close(state)
}

enum Run<'a> {
    Join(&'a [Seen]),
    /// Nothing to join before this chunk.
    None {
        merged_to: Option<Seq>,
    },
}

/// The first run of at least two small chunks that follow each other without a gap and fit into
/// one. At the log's end a run waits until it is full, for it may still grow.
fn find_run(seen: &[Seen], at_end: bool) -> Run<'_> {
    let mut begin = 0;
    while begin < seen.len() {
        let (mut end, mut events, mut bytes) = (begin, 0, 0);
        while let Some(next) = seen.get(end) {
            let follows = end == begin
                || seen[end - 1].first + Seq::from(seen[end - 1].head.count) == next.first;
            events += usize::from(next.head.count);
            bytes += next.head.plain_bytes();
            let fits = events <= CHUNK_EVENTS_MAX && bytes <= CHUNK_BYTES_MAX;
            if !(follows && fits && next.head.is_small()) {
                break;
            }
            end += 1;
        }
        let may_grow = end == seen.len() && events < CHUNK_EVENTS_MAX;
        if may_grow && (at_end || begin > 0) {
            return Run::None { merged_to: Some(seen[begin].first) };
        }
        if end - begin >= 2 {
            return Run::Join(&seen[begin..end]);
        }
        begin = end.max(begin + 1);
    }
    Run::None { merged_to: seen.last().map(|last| last.first + Seq::from(last.head.count)) }
}

/// The heads of up to `count` chunks from `from` on, and the damaged one before which they end.
fn chunks_from(
    store: &dyn Store,
    from: Seq,
    count: usize,
) -> Result<(Vec<Seen>, Option<Seq>), QueueError> {
    let (mut seen, mut damaged): (Vec<Seen>, _) = (Vec::new(), None);
    store
        .scan(&keys::chunk(from), &keys::under(keys::CHUNKS).1, &mut |key, value| {
            let Some(first) = keys::chunk_first(key) else { return ControlFlow::Continue(()) };
            let known = seen.last().is_some_and(|last| last.first == first);
            if key.last() != Some(&0) && known {
                return ControlFlow::Continue(());
            }
            // A part without its first is damaged, too.
            match Head::decode(key, value) {
                Ok(head) if key.last() == Some(&0) => seen.push(Seen { first, head }),
                _ => {
                    damaged = Some(first);
                    return ControlFlow::Break(());
                }
            }
            if seen.len() < count { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
        .map_err(|source| failed("read from", source))?;
    Ok((seen, damaged))
}

/// Dead letters older than their limit leave, counted as expired. Some of each owner's are looked
/// at in each round, in turn: a young one may have a low number.
fn expire_dead(state: &mut State, group: &mut Group, now: Timestamp) -> Result<(), QueueError> {
    let until = Timestamp(now.0.saturating_sub(millis(state.limits.dead_age_max)));
    let owners = state.boxes.values().filter(|dead| dead.count > 0);
    for owner in owners.map(|dead| dead.owner.clone()).collect::<Vec<_>>() {
        let query = DeadQuery {
            owner: Some(owner.clone()),
            until: Some(until),
            after: state.rounds.dead_after.remove(&owner),
            limit: DEAD_STEP_MAX,
            scan_max: DEAD_STEP_MAX,
            ..DeadQuery::default()
        };
        let (page, damaged) = dead::list(&*state.store, &query)?;
        if let Some(next) = page.next {
            state.rounds.dead_after.insert(owner.clone(), next);
        }
        aside::dead(state, group, &damaged)?;
        let old: Vec<DeadId> = page.letters.into_iter().map(|(id, _)| id).collect();
        if !old.is_empty() {
            let count = dead::remove(state, group, &old, DeadEnd::Expired)?;
            tracing::warn!(owner, count, "dead letters passed their age limit and were removed");
        }
    }
    Ok(())
}
