//! Damaged records: moved under `q`, whole, counted and named. They are never deleted.

use std::sync::Arc;

use holdfast_model::{Name, Seq};

use crate::{
    chunk::{self, CHUNK_EVENTS_MAX, Head},
    engine::{
        group::{Change, Group},
        keys, read,
        state::{Row, State, all, get, joined},
    },
    error::QueueError,
    record::{self, part_key},
    store::{Store, Write},
    types::{DeadId, DeadLetter, RetryRecord},
};

/// Moves a record's parts under `q`, in one change with `beside` and what `alter` does.
pub(super) fn set_aside(
    state: &mut State,
    group: &mut Group,
    parts: Vec<Row>,
    beside: Vec<Write>,
    error: &QueueError,
    alter: impl FnOnce(&mut State, &mut Group),
) -> Result<(), QueueError> {
    tracing::error!(%error, "a stored record is damaged; it was set aside");
    let mut change = Change { beside, ..Change::default() };
    for (key, value) in parts {
        let mut kept = keys::set_aside(&key);
        // Another one of this name may lie there, and is kept as well.
        while get(&*state.store, &kept)?.is_some() {
            kept.insert(1, b'+');
        }
        change.puts.push(Write::Put(kept, value));
        if !change.beside.iter().any(|write| write.key() == key) {
            change.removes.push(key);
        }
    }
    let rest = group.begin(state, change, 0)?;
    state.corrupt += 1;
    alter(state, group);
    group.finish(state, rest)
}

/// Whether this key under `q` is a record's first part, or all of it.
pub(super) fn is_first(key: &[u8]) -> bool {
    let original: Vec<u8> = key.iter().skip(1).skip_while(|b| **b == b'+').copied().collect();
    original.first() == Some(&b'b') || original.last() == Some(&0)
}

/// Puts a damaged chunk under `q` and leaves a tombstone, so that every lane counts its events.
/// A chunk that is sound, or gone, is left alone: its reader was overtaken.
pub(super) fn chunk(state: &mut State, group: &mut Group, first: Seq) -> Result<(), QueueError> {
    // The store must show everything that counts are taken from.
    group.close(state)?;
    let store = Arc::clone(&state.store);
    let mut firsts = vec![first];
    // A chunk whose own head is damaged is counted by its neighbours, so those come first.
    while let Some(oldest) = firsts.last().copied()
        && head_of(&*store, oldest)?.is_none()
        && let Some(previous) = oldest.checked_sub(1)
        && let Some((previous, _)) = read::containing(&*store, previous)?
        && head_of(&*store, previous)?.is_none()
    {
        firsts.push(previous);
    }
    while let Some(first) = firsts.pop() {
        one_chunk(state, group, first)?;
        group.close(state)?;
    }
    Ok(())
}

fn one_chunk(state: &mut State, group: &mut Group, first: Seq) -> Result<(), QueueError> {
    let store = Arc::clone(&state.store);
    let key = keys::chunk(first);
    let parts = all(&*store, &key)?;
    if parts.is_empty() {
        return Ok(());
    }
    let whole: Vec<u8> = parts.iter().flat_map(|(_, value)| value.iter().copied()).collect();
    let head = Head::decode(&key, &whole).ok();
    if head.is_some_and(|head| head.is_tombstone()) {
        return Ok(());
    }
    let Err(error) = chunk::entries(&key, &whole) else { return Ok(()) };
    let tombstone = match head {
        Some(head) => {
            Head::tombstone(u64::from(head.count), head.events_before, head.last_received)
        }
        None => by_neighbours(state, first)?,
    };
    let bytes = bytes_of(&parts);
    let put = Write::Put(part_key(&key, 0), tombstone.encode().to_vec());
    set_aside(state, group, parts, vec![put], &error, |state, _| {
        let chunk_bytes = &mut state.meta.chunk_bytes;
        *chunk_bytes = (*chunk_bytes + tombstone.size()).saturating_sub(bytes);
    })
}

/// Sets aside what is damaged of the chunks that a position's count depends on.
pub(super) fn around(
    state: &mut State,
    group: &mut Group,
    position: Seq,
) -> Result<(), QueueError> {
    let store = Arc::clone(&state.store);
    let neighbours = [read::containing(&*store, position)?, read::following(&*store, position)?];
    for (first, _) in neighbours.into_iter().flatten() {
        chunk(state, group, first)?;
    }
    Ok(())
}

fn bytes_of(parts: &[Row]) -> u64 {
    parts.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum()
}

fn head_of(store: &dyn Store, first: Seq) -> Result<Option<Head>, QueueError> {
    let key = keys::chunk(first);
    let value = get(store, &part_key(&key, 0))?.unwrap_or_default();
    Ok(Head::decode(&key, &value).ok())
}

/// The tombstone of a chunk whose own head does not say what it held. The chunk before it is sound.
fn by_neighbours(state: &State, first: Seq) -> Result<Head, QueueError> {
    let store = &*state.store;
    let previous = match first.checked_sub(1) {
        Some(seq) => read::containing(store, seq)?,
        None => None,
    };
    let previous = match previous {
        Some((previous, value)) => Some(Head::decode(&keys::chunk(previous), &value)?),
        None => None,
    };
    let before = previous
        .map_or(state.meta.events_trimmed, |head| head.events_before + u64::from(head.count));
    let (next, head) = match read::following(store, first)? {
        Some((next, value)) => (Some(next), Head::decode(&keys::chunk(next), &value).ok()),
        None => (None, None),
    };
    let after = match (next, head) {
        (_, Some(head)) => head.events_before,
        (None, None) => state.meta.events_total,
        // Damaged as well: no more than fit between the two, and at least one is left for it.
        (Some(next), None) => {
            let most = (next - first).min(CHUNK_EVENTS_MAX as u64);
            before + most.min(state.meta.events_total.saturating_sub(before + 1))
        }
    };
    let received = head.or(previous).map_or(state.now, |head| head.last_received);
    Ok(Head::tombstone(after.saturating_sub(before), before, received))
}

/// A lane's damaged retry record: its events leave the lane, counted as purged.
pub(super) fn retry(
    state: &mut State,
    group: &mut Group,
    name: &Name,
    id: Seq,
    error: &QueueError,
) -> Result<(), QueueError> {
    let Some(retry) = state.lane(name)?.retries.get(&id).copied() else { return Ok(()) };
    let store = Arc::clone(&state.store);
    let parts = all(&*store, &keys::retry(name.as_str(), id, retry.generation))?;
    set_aside(state, group, parts, Vec::new(), error, |state, group| {
        if let Some(lane) = state.lanes.get_mut(name) {
            lane.take_retry(id);
            lane.counters.purged += u64::from(retry.head.members);
        }
        group.touch_lane(name);
    })
}

/// Sets damaged dead letters aside; a lane counts them as purged. Sound ones are left alone.
pub(super) fn dead(state: &mut State, group: &mut Group, ids: &[DeadId]) -> Result<(), QueueError> {
    for id in ids {
        group.close(state)?;
        let store = Arc::clone(&state.store);
        let key = keys::dead(&id.owner, id.seq);
        let Some(bytes) = joined(&*store, &key)? else { continue };
        let Err(error) = record::open::<DeadLetter>(&key, &bytes) else { continue };
        let parts = all(&*store, &key)?;
        let bytes = bytes_of(&parts);
        set_aside(state, group, parts, Vec::new(), &error, |state, group| {
            let owner = state.owner_now(&id.owner);
            let dead = state.dead_box(&owner);
            dead.count = dead.count.saturating_sub(1);
            dead.bytes = dead.bytes.saturating_sub(bytes);
            group.touch_owner(&owner);
            if let Ok(name) = Name::new(&owner)
                && let Some(lane) = state.lanes.get_mut(&name)
            {
                lane.counters.purged += 1;
                group.touch_lane(&name);
            }
        })?;
    }
    Ok(())
}

/// A retry record as it is stored; damage comes back as an error.
pub(super) fn open_retry(
    state: &State,
    name: &Name,
    id: Seq,
    generation: u8,
) -> Result<RetryRecord, QueueError> {
    let key = keys::retry(name.as_str(), id, generation);
    record::open(&key, &joined(&*state.store, &key)?.unwrap_or_default())
}
