//! Storing a batch: admission, places, chunks.

use std::sync::Arc;

use bytes::Bytes;
use holdfast_model::{Kind, NewEvent, Seq, Timestamp, intake::Idempotency};

use crate::{
    chunk::{self, Entry, Packed},
    engine::{
        group::{Group, OPERATION_WRITES_MAX, SHARED_BYTES_MAX},
        keys,
        state::State,
        upkeep,
    },
    error::QueueError,
    record::Sealed,
    store::Write,
    types::{Append, Appended, DeadId, DeadLetter, IdempotentAnswer, StoredEvent},
};

/// Appends of so few events share a chunk with what else waits.
const SHARED_EVENTS_MAX: usize = 16;
/// Sources are refused below this, so that settling has room.
const SOURCE_BYTES_FREE_MIN: u64 = 64 * 1024 * 1024;
/// Above `max_size`, for what is not from a source.
const HEADROOM_BYTES_MIN: u64 = 256 * 1024 * 1024;
/// Most writes of one append: it is taken whole or not at all, and its intent fits one record.
const APPEND_WRITES_MAX: usize = 2_000;
/// Longest raw record that a source's dead letter keeps, in bytes.
const REJECT_BYTES_MAX: usize = 1024 * 1024;
const MS_PER_HOUR: u64 = 3_600_000;

/// A batch packed in its caller's own time, so that the writing thread does little.
pub(super) struct Prepared {
    source: Arc<str>,
    received_at: Timestamp,
    entries: Vec<Entry>,
    /// The same as chunks, when there are too many to share one.
    packed: Vec<Packed>,
    rejects: Vec<DeadLetter>,
    position: Option<(String, Bytes)>,
    idempotency: Option<Idempotency>,
    from_source: bool,
}

pub(super) fn prepare(append: Append) -> Result<Prepared, QueueError> {
    let Append { source, received_at, events, rejects, position, idempotency, from_source } = append;
    let bytes: usize = events.iter().map(|event| event.body.len()).sum();
    let entry = |event: NewEvent| Entry { source: Arc::clone(&source), received_at, event };
    let entries: Vec<Entry> = events.into_iter().map(entry).collect();
    let shares = entries.len() <= SHARED_EVENTS_MAX && bytes <= SHARED_BYTES_MAX;
    let packed = if shares {
        Vec::new()
    } else {
        chunk::cut(&entries).map(Packed::new).collect::<Result<_, _>>()?
    };
    let dead = |reject: holdfast_model::Reject| DeadLetter {
        event: StoredEvent {
            seq: 0,
            kind: Kind::Alert,
            source: Arc::clone(&source),
            received_at,
            parent: None,
            body: reject.raw.slice(..reject.raw.len().min(REJECT_BYTES_MAX)),
        },
        reason: reject.reason.into(),
        died_at: received_at,
        tries: 0,
        attempts: Vec::new(),
        first_active_ms: 0,
        message: reject.message,
    };
    let rejects = rejects.into_iter().map(dead).collect();
    Ok(Prepared {
        source: Arc::clone(&source),
        received_at,
        entries,
        packed,
        rejects,
        position,
        idempotency,
        from_source,
    })
}

/// Runs on the writing thread.
pub(super) fn run(
    state: &mut State,
    group: &mut Group,
    batch: Prepared,
) -> Result<Appended, QueueError> {
    admit(state, group, &batch)?;
    let first = state.meta.next_seq;
    let appended = Appended {
        first: (!batch.entries.is_empty()).then_some(first),
        last: (!batch.entries.is_empty()).then(|| first + batch.entries.len() as Seq - 1),
        accepted: batch.entries.len() as u64,
        rejected: batch.rejects.len() as u64,
    };
    // A reject takes a number like an event, so that its dead letter has a name.
    let reject_first = first + batch.entries.len() as Seq;
    let owner = DeadId::source_owner(&batch.source);
    let (rejects, reject_bytes) = seal_rejects(batch.rejects, &owner, reject_first)?;
    let small = small_writes(state, &batch.position, batch.idempotency.as_ref(), batch.received_at, &appended)?;

    let chunk_writes: usize = batch.packed.iter().map(Packed::parts).sum();
    let shared_writes = if batch.packed.is_empty() { 16 } else { 0 };
    let writes = chunk_writes + rejects.len() + shared_writes + small.len() + 1;
    if chunk_writes + rejects.len() > APPEND_WRITES_MAX {
        let (bytes, bytes_max) = (writes as u64, APPEND_WRITES_MAX as u64);
        return Err(QueueError::TooLarge { what: "a batch (in stored records)", bytes, bytes_max });
    }
    let staged = writes > OPERATION_WRITES_MAX;
    let mut puts = rejects;
    if staged {
        // The chunk under way has lower numbers and must be closed before ours are given.
        group.reserve(state, 16)?;
        group.seal(state)?;
    }
    let chunks = chunk_puts(state, &batch.packed);
    puts.extend(chunks);
    if staged {
        group.stage(state, puts)?;
        group.reserve(state, small.len() + 1)?;
        group.staged();
    } else {
        group.reserve(state, writes)?;
        group.extend(puts);
    }
    group.extend(small);
    take_places(state, group, &batch.entries, !batch.packed.is_empty())?;
    state.meta.chunk_bytes += batch.packed.iter().map(Packed::size).sum::<u64>();
    if appended.rejected > 0 {
        state.meta.next_seq += appended.rejected;
        let count = appended.rejected;
        let dead = state.boxes.entry(owner.clone()).or_default();
        dead.owner.clone_from(&owner);
        dead.count += count;
        dead.bytes += reject_bytes;
        group.touch_owner(&owner);
    }
    if let Some(idempotency) = batch.idempotency {
        let hour = hour_of(batch.received_at);
        state.idempotent.insert(idempotency.key, (hour, answer(&idempotency, &appended)));
    }
    Ok(appended)
}

fn take_places(
    state: &mut State,
    group: &mut Group,
    entries: &[Entry],
    packed: bool,
) -> Result<(), QueueError> {
    if packed {
        group.seal(state)?;
        for entry in entries {
            group.note_event(state, entry);
        }
        if entries.len() <= chunk::CHUNK_EVENTS_MAX / 2 {
            state.small_chunks += 1;
        }
    } else {
        for entry in entries {
            group.share(state, entry.clone())?;
        }
    }
    Ok(())
}

/// The chunks under the numbers that come next.
fn chunk_puts(state: &State, packed: &[Packed]) -> Vec<Write> {
    let (mut first, mut before) = (state.meta.next_seq, state.meta.events_total);
    let mut puts = Vec::new();
    for chunk in packed {
        puts.extend(chunk.writes(&keys::chunk(first), before));
        first += Seq::from(chunk.count);
        before += u64::from(chunk.count);
    }
    puts
}

fn seal_rejects(
    rejects: Vec<DeadLetter>,
    owner: &str,
    first: Seq,
) -> Result<(Vec<Write>, u64), QueueError> {
    let (mut writes, mut bytes) = (Vec::new(), 0);
    for (mut letter, seq) in rejects.into_iter().zip(first..) {
        letter.event.seq = seq;
        let key = keys::dead(owner, seq);
        let sealed = Sealed::new(&letter)?;
        bytes += sealed.size(&key);
        writes.extend(sealed.writes(&key));
    }
    Ok((writes, bytes))
}

fn small_writes(
    state: &State,
    position: &Option<(String, Bytes)>,
    idempotency: Option<&Idempotency>,
    received_at: Timestamp,
    appended: &Appended,
) -> Result<Vec<Write>, QueueError> {
    let mut writes = Vec::new();
    if let Some((source, position)) = position {
        writes.push(Write::Put(keys::source(source), position.to_vec()));
    }
    if let Some(idempotency) = idempotency {
        if state.idempotent.len() >= state.limits.idempotency_keys_max {
            let bytes_max = state.limits.idempotency_keys_max as u64;
            let what = "the set of idempotency keys";
            return Err(QueueError::TooLarge { what, bytes: bytes_max + 1, bytes_max });
        }
        let value = postcard::to_stdvec(&answer(idempotency, appended))
            .map_err(|source| QueueError::io("encode a key", std::io::Error::other(source)))?;
        writes.push(Write::Put(keys::idempotency(hour_of(received_at), &idempotency.key), value));
    }
    Ok(writes)
}

fn answer(idempotency: &Idempotency, appended: &Appended) -> IdempotentAnswer {
    IdempotentAnswer {
        body: idempotency.body,
        accepted: appended.accepted as u32,
        rejected: appended.rejected as u32,
        first: appended.first.unwrap_or(0),
    }
}

pub(super) fn hour_of(at: Timestamp) -> u32 {
    (at.0 / MS_PER_HOUR) as u32
}

/// Refuses what does not fit, after trimming what only retention holds.
fn admit(state: &mut State, group: &mut Group, batch: &Prepared) -> Result<(), QueueError> {
    let packed: u64 = batch.packed.iter().map(Packed::size).sum();
    let shared: usize = match batch.packed.is_empty() {
        true => batch.entries.iter().map(|entry| entry.event.body.len() + 64).sum(),
        false => 0,
    };
    let bytes = packed + shared as u64;
    let headroom = if batch.from_source {
        0
    } else {
        HEADROOM_BYTES_MIN.max(state.limits.bytes_max / 10)
    };
    let bytes_max = state.limits.bytes_max + headroom;
    if state.bytes_live() + bytes > bytes_max {
        upkeep::make_room(state, group, bytes)?;
    }
    let bytes_live = state.bytes_live();
    state.queue_full = bytes_live + bytes > state.limits.bytes_max;
    if bytes_live + bytes > bytes_max {
        return Err(QueueError::Full { bytes_live, bytes_max });
    }
    let pending = group.bytes as u64;
    let bytes_needed = SOURCE_BYTES_FREE_MIN + 2 * (bytes + pending);
    state.disk_full = state.bytes_free < bytes_needed;
    if batch.from_source && state.disk_full {
        return Err(QueueError::DiskFull { bytes_free: state.bytes_free, bytes_needed });
    }
    Ok(())
}
