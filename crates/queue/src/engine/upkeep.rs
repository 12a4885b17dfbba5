//! What keeps the store small: trimming, merging, expiry. Runs on the writing thread, in small
//! steps that share other operations' syncs.

use std::{ops::ControlFlow, time::Duration};

use holdfast_model::{Seq, Timestamp};

use crate::{
    chunk::{self, CHUNK_BYTES_MAX, CHUNK_EVENTS_MAX, Entry, Head, Packed},
    engine::{
        append::hour_of,
        dead,
        group::Group,
        keys, read,
        settle::{self, remove_parts},
        state::{State, failed},
    },
    error::QueueError,
    record::part_key,
    store::{Store, Write},
    types::{DEAD_STEP_MAX, DeadEnd, DeadId, DeadQuery},
};

/// Chunks that one step looks at.
const STEP_CHUNKS_MAX: usize = 64;
/// Chunks that upkeep trims at most in one go, so that others get their turn.
const TRIM_STEPS_MAX: usize = 16;
/// Small chunks that make merging worth a step.
const SMALL_CHUNKS_MIN: usize = 16;

/// A chunk as trimming and merging see it.
struct Seen {
    first: Seq,
    head: Head,
}

/// One round. Called about once a second, and more often while there is much to merge.
pub(super) fn run(state: &mut State, group: &mut Group, now: Timestamp) -> Result<(), QueueError> {
    settle::tick(state, now);
    state.store.restore_reserve();
    let keep_from = Timestamp(now.0.saturating_sub(millis(state.limits.retention)));
    for _ in 0..TRIM_STEPS_MAX {
        let trimmed = trim_step(state, group, |head| head.last_received < keep_from)?;
        if trimmed < STEP_CHUNKS_MAX {
            break;
        }
    }
    for _ in 0..TRIM_STEPS_MAX {
        if state.small_chunks < SMALL_CHUNKS_MIN || !merge_step(state, group)? {
            break;
        }
    }
    expire_keys(state, group, now)?;
    expire_dead(state, group, now)?;
    let bytes_live = state.bytes_live();
    state.queue_full = bytes_live > state.limits.bytes_max;
    Ok(())
}

/// Trims what only retention holds, until `bytes` more fit or nothing is left to trim.
pub(super) fn make_room(state: &mut State, group: &mut Group, bytes: u64) -> Result<(), QueueError> {
    while state.bytes_live() + bytes > state.limits.bytes_max {
        if trim_step(state, group, |_| true)? == 0 {
            break;
        }
    }
    Ok(())
}

/// Removes the oldest chunks that every lane has passed and `may_go` allows. Says how many.
fn trim_step(
    state: &mut State,
    group: &mut Group,
    may_go: impl Fn(&Head) -> bool,
) -> Result<usize, QueueError> {
    // Chunks of this group are not in the store yet, and are needed anyway.
    let below = state.lowest_position();
    let mut trimmed = 0;
    for seen in chunks_from(&*state.store, 0, STEP_CHUNKS_MAX)? {
        let end = seen.first + Seq::from(seen.head.count);
        if end > below || !may_go(&seen.head) {
            break;
        }
        let removes = remove_parts(&keys::chunk(seen.first), usize::from(seen.head.parts));
        group.reserve(state, removes.len())?;
        group.extend(removes);
        state.meta.chunk_bytes = state.meta.chunk_bytes.saturating_sub(seen.head.size());
        state.meta.events_trimmed += u64::from(seen.head.count);
        trimmed += 1;
    }
    if trimmed > 0 {
        // So that the next step does not see them again.
        group.close(state)?;
    }
    Ok(trimmed)
}

/// Joins one run of small chunks. `false` when there is none to join just now.
fn merge_step(state: &mut State, group: &mut Group) -> Result<bool, QueueError> {
    group.close(state)?;
    let seen = chunks_from(&*state.store, state.merged_to, STEP_CHUNKS_MAX * 2)?;
    let Some(run) = small_run(&seen) else {
        state.small_chunks = 0;
        if let Some(last) = seen.last() {
            state.merged_to = last.first;
        }
        return Ok(seen.len() >= STEP_CHUNKS_MAX * 2);
    };
    let mut entries: Vec<Entry> = Vec::new();
    let mut bytes_before = 0;
    for seen in run {
        let (_, bytes) = read::whole(&*state.store, seen.first)?;
        match chunk::entries(&keys::chunk(seen.first), &bytes) {
            Ok(found) => entries.extend(found),
            Err(_) => {
                // Left for its readers, who set it aside.
                state.merged_to = seen.first + 1;
                return Ok(true);
            }
        }
        bytes_before += seen.head.size();
    }
    let Some(first) = run.first() else { return Ok(false) };
    let packed = Packed::new(&entries)?;
    group.reserve(state, packed.parts() + run.len())?;
    for seen in &run[1..] {
        group.push(Write::Remove(part_key(&keys::chunk(seen.first), 0)));
    }
    group.extend(packed.writes(&keys::chunk(first.first), first.head.events_before));
    state.meta.chunk_bytes = (state.meta.chunk_bytes + packed.size()).saturating_sub(bytes_before);
    state.small_chunks = state.small_chunks.saturating_sub(run.len());
    state.merged_to = first.first + entries.len() as Seq;
    group.close(state)?;
    Ok(true)
}

/// The first run of at least two small chunks that follow each other without a gap and fit into
/// one. The last chunk of all is left alone: it may still get neighbours.
fn small_run(seen: &[Seen]) -> Option<&[Seen]> {
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
        if end - begin >= 2 {
            return Some(&seen[begin..end]);
        }
        begin = end.max(begin + 1);
    }
    None
}

/// The heads of up to `count` chunks from `from` on. Stops at a damaged one.
fn chunks_from(store: &dyn Store, from: Seq, count: usize) -> Result<Vec<Seen>, QueueError> {
    let mut seen = Vec::new();
    store
        .scan(&keys::chunk(from), &keys::under(b"c").1, &mut |key, value| {
            if key.last() != Some(&0) {
                return ControlFlow::Continue(());
            }
            let (Some(first), Ok(head)) = (keys::chunk_first(key), Head::decode(key, value)) else {
                return ControlFlow::Break(());
            };
            seen.push(Seen { first, head });
            if seen.len() < count { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
        .map_err(|source| failed("read from", source))?;
    Ok(seen)
}

/// Puts a damaged chunk under `q` and leaves a tombstone, so that every lane counts its events.
pub(super) fn set_aside_chunk(
    state: &mut State,
    group: &mut Group,
    first: Seq,
) -> Result<(), QueueError> {
    group.close(state)?;
    let key = keys::chunk(first);
    let (parts, joined) = read::whole(&*state.store, first)?;
    let Err(error) = chunk::entries(&key, &joined) else { return Ok(()) };
    if Head::decode(&key, &joined).is_ok_and(|head| head.is_tombstone()) {
        return Ok(());
    }
    let (next, count) = read::count_damaged(&*state.store, first, &joined)?;
    let before = read::events_before(&*state.store, next, state.meta.next_seq, state.meta.events_total)?
        .saturating_sub(count);
    let received = Head::decode(&key, &joined).map_or(state.now, |head| head.last_received);
    state.set_aside(&key, parts, &error)?;
    let tombstone = Head::tombstone(count, before, received);
    state.apply(vec![Write::Put(part_key(&key, 0), tombstone.encode().to_vec())])?;
    state.sync()
}

fn expire_keys(state: &mut State, group: &mut Group, now: Timestamp) -> Result<(), QueueError> {
    let window = millis(state.limits.idempotency_window);
    let oldest = hour_of(Timestamp(now.0.saturating_sub(window)));
    let gone: Vec<([u8; 16], u32)> = state
        .idempotent
        .iter()
        .filter(|(_, (hour, _))| *hour < oldest)
        .take(512)
        .map(|(key, (hour, _))| (*key, *hour))
        .collect();
    for (key, hour) in gone {
        group.reserve(state, 1)?;
        group.push(Write::Remove(keys::idempotency(hour, &key)));
        state.idempotent.remove(&key);
    }
    Ok(())
}

/// Dead letters older than their limit leave, counted as expired.
fn expire_dead(state: &mut State, group: &mut Group, now: Timestamp) -> Result<(), QueueError> {
    let age = millis(state.limits.dead_age_max);
    if state.boxes.values().all(|dead| dead.count == 0) {
        return Ok(());
    }
    let until = Timestamp(now.0.saturating_sub(age));
    for owner in state.boxes.keys().cloned().collect::<Vec<_>>() {
        let query = DeadQuery {
            owner: Some(owner.clone()),
            until: Some(until),
            limit: DEAD_STEP_MAX,
            // The oldest come first, so a few tell whether any is too old.
            scan_max: DEAD_STEP_MAX,
            ..DeadQuery::default()
        };
        let old: Vec<DeadId> =
            dead::list(&*state.store, &query)?.letters.into_iter().map(|(id, _)| id).collect();
        if !old.is_empty() {
            group.close(state)?;
            let count = dead::remove(state, group, &old, DeadEnd::Expired)?;
            tracing::warn!(owner, count, "dead letters passed their age limit and were removed");
        }
    }
    Ok(())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
