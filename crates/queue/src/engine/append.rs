//! Storing a batch: admission, places, chunks.

use std::sync::Arc;

use bytes::Bytes;
use holdfast_model::{Kind, NewEvent, Reject, Seq, Timestamp, intake::Idempotency};

use crate::{
    chunk::{self, Entry, Packed},
    engine::{
        group::{Change, Group, SHARED_BYTES_MAX},
        idempotency, keys,
        state::State,
        upkeep,
    },
    error::QueueError,
    record::Sealed,
    store::Write,
    types::{Append, Appended, DeadId, DeadLetter, Slots, StoredEvent},
};

/// Appends of so few events share a chunk with what else waits.
const SHARED_EVENTS_MAX: usize = 16;
/// Sources are refused below this, so that settling has room.
pub(super) const SOURCE_BYTES_FREE_MIN: u64 = 64 * 1024 * 1024;
/// Above `max_size`, for what is not from a source.
const HEADROOM_BYTES_MIN: u64 = 256 * 1024 * 1024;
/// Longest raw record that a source's dead letter keeps, in bytes.
const REJECT_BYTES_MAX: usize = 1024 * 1024;
/// What a record costs beside its body, about, in bytes.
const RECORD_OVERHEAD_BYTES: usize = 64;

/// A batch packed in its caller's own time, so that the writing thread does little.
pub(super) struct Prepared {
    source: Arc<str>,
    received_at: Timestamp,
    entries: Vec<Entry>,
    /// The same as chunks, when there are too many to share one.
    packed: Vec<Packed>,
    rejects: Vec<Sealed>,
    position: Option<(String, Bytes)>,
    idempotency: Option<Idempotency>,
    from_source: bool,
}

pub(super) fn prepare(append: Append) -> Result<Prepared, QueueError> {
    let Append { source, received_at, events, rejects, position, idempotency, from_source } =
        append;
    let bytes: usize = events.iter().map(|event| event.body.len()).sum();
    let entry = |event: NewEvent| Entry { source: Arc::clone(&source), received_at, event };
    let entries: Vec<Entry> = events.into_iter().map(entry).collect();
    let shares = entries.len() <= SHARED_EVENTS_MAX && bytes <= SHARED_BYTES_MAX;
    let packed = if shares {
        Vec::new()
    } else {
        chunk::cut(&entries).map(Packed::new).collect::<Result<_, _>>()?
    };
    let seal = |reject| Sealed::new(&dead(reject, &source, received_at));
    let rejects = rejects.into_iter().map(seal).collect::<Result<_, _>>()?;
    Ok(Prepared {
        source,
        received_at,
        entries,
        packed,
        rejects,
        position,
        idempotency,
        from_source,
    })
}

/// A reject as its source's dead letter. Its number comes with its place: whoever reads it takes it
/// from the key.
fn dead(reject: Reject, source: &Arc<str>, received_at: Timestamp) -> DeadLetter {
    DeadLetter {
        event: StoredEvent {
            seq: 0,
            kind: Kind::Alert,
            source: Arc::clone(source),
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
        slots: Slots::NONE,
    }
}

/// Runs on the writing thread.
pub(super) fn run(
    state: &mut State,
    group: &mut Group,
    batch: Prepared,
) -> Result<Appended, QueueError> {
    admit(state, group, &batch)?;
    let first = state.meta.next_seq;
    let count = batch.entries.len() as u64;
    let appended = Appended {
        first: (count > 0).then_some(first),
        last: (count > 0).then(|| first + count - 1),
        accepted: count,
        rejected: batch.rejects.len() as u64,
    };
    // A reject takes a number like an event, so that its dead letter has a name.
    let head = first + count + appended.rejected;
    let owner = DeadId::source_owner(&batch.source);
    let (mut puts, mut reject_bytes) = (Vec::new(), 0);
    for (sealed, seq) in batch.rejects.iter().zip(first + count..) {
        let key = keys::dead(&owner, seq);
        reject_bytes += sealed.size(&key);
        puts.extend(sealed.writes(&key));
    }
    puts.extend(chunk_puts(state, &batch.packed));
    let mut beside = Vec::new();
    if let Some((source, position)) = &batch.position {
        beside.push(Write::Put(keys::source(source), position.to_vec()));
    }
    let new_key = match &batch.idempotency {
        Some(idempotency) => {
            let answer = idempotency::answer(idempotency, &appended);
            let (write, new) =
                idempotency::write(state, group, idempotency, batch.received_at, head, answer)?;
            beside.push(write);
            new
        }
        None => false,
    };
    // Sharing seals a chunk at most once before the batch is closed, and that has its own room.
    let growth = if batch.packed.is_empty() { chunk::SEALED_PARTS_MAX } else { 0 };
    let rest = group.begin(state, Change { puts, removes: Vec::new(), beside }, growth)?;
    if let Some(idempotency) = &batch.idempotency {
        state.meta.idempotency_keys += u64::from(new_key);
        group.keys.insert(idempotency.key);
    }
    take_places(state, group, &batch.entries, &batch.packed)?;
    if appended.rejected > 0 {
        state.meta.next_seq += appended.rejected;
        let dead = state.dead_box(&owner);
        dead.count += appended.rejected;
        dead.bytes += reject_bytes;
        group.touch_owner(&owner);
    }
    group.finish(state, rest)?;
    Ok(appended)
}

fn take_places(
    state: &mut State,
    group: &mut Group,
    entries: &[Entry],
    packed: &[Packed],
) -> Result<(), QueueError> {
    let mut first = state.meta.next_seq;
    if packed.is_empty() {
        for entry in entries {
            group.share(state, entry.clone())?;
        }
        return Ok(());
    }
    // The chunk under way has lower numbers, and others must not come behind ours in it.
    group.seal(state)?;
    for chunk in packed {
        state.note_chunk(first, chunk);
        first += Seq::from(chunk.count);
    }
    for entry in entries {
        group.note_event(state, entry);
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

/// Refuses what does not fit, after trimming what only retention holds.
fn admit(state: &mut State, group: &mut Group, batch: &Prepared) -> Result<(), QueueError> {
    let bytes = bytes_of(batch);
    if batch.from_source {
        state.refuse_when_blocked()?;
    }
    let headroom =
        if batch.from_source { 0 } else { HEADROOM_BYTES_MIN.max(state.limits.bytes_max / 10) };
    let bytes_max = state.limits.bytes_max.saturating_add(headroom);
    if state.bytes_live() + bytes > state.limits.bytes_max {
        upkeep::make_room(state, group, bytes)?;
    }
    let bytes_live = state.bytes_live();
    if bytes_live + bytes > bytes_max {
        // The least that did not fit: when that does, sources get on.
        let least = if state.bytes_refused == 0 { bytes } else { state.bytes_refused.min(bytes) };
        state.bytes_refused = least;
        return Err(QueueError::Full { bytes_live, bytes_max });
    }
    let bytes_needed = SOURCE_BYTES_FREE_MIN + 2 * (bytes + group.bytes as u64);
    state.disk_full = state.bytes_free < bytes_needed;
    if batch.from_source && state.disk_full {
        return Err(QueueError::DiskFull { bytes_free: state.bytes_free, bytes_needed });
    }
    if batch.from_source {
        state.bytes_refused = 0;
    }
    Ok(())
}

/// What the batch adds to the live bytes; for small ones that share a chunk, at most that.
fn bytes_of(batch: &Prepared) -> u64 {
    let packed: u64 = batch.packed.iter().map(Packed::size).sum();
    let overhead = RECORD_OVERHEAD_BYTES;
    let shared: usize = match batch.packed.is_empty() {
        true => batch.entries.iter().map(|entry| entry.event.body.len() + overhead).sum(),
        false => 0,
    };
    let owner = DeadId::source_owner(&batch.source);
    let key = keys::dead(&owner, 0);
    let rejects: u64 = batch.rejects.iter().map(|sealed| sealed.size(&key)).sum();
    packed + rejects + shared as u64
}
