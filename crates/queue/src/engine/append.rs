//! Storing a batch: admission, rejects, what goes beside it.

use std::sync::Arc;

use bytes::Bytes;
use holdfast_model::{Kind, NewEvent, Reject, Timestamp, intake::Idempotency};

use crate::{
    chunk::Entry,
    engine::{
        arrivals::Arrivals,
        group::{Change, Group},
        idempotency, keys,
        state::State,
        upkeep,
    },
    error::QueueError,
    record::Sealed,
    store::Write,
    types::{Append, Appended, DeadId, DeadLetter, Slots, StoredEvent, headroom},
};

/// Sources are refused below this, so that settling has room.
pub(super) const SOURCE_BYTES_FREE_MIN: u64 = crate::types::BYTES_FREE_MIN;
/// Longest raw record that a source's dead letter keeps, in bytes.
const REJECT_BYTES_MAX: usize = 1024 * 1024;

/// A batch packed in its caller's own time, so that the writing thread does little.
pub(super) struct Prepared {
    source: Arc<str>,
    received_at: Timestamp,
    arrivals: Arrivals,
    rejects: Vec<Sealed>,
    position: Option<(String, Bytes)>,
    idempotency: Option<Idempotency>,
    from_source: bool,
}

pub(super) fn prepare(append: Append) -> Result<Prepared, QueueError> {
    let Append { source, received_at, events, rejects, position, idempotency, from_source } =
        append;
    let entry = |event: NewEvent| Entry { source: Arc::clone(&source), received_at, event };
    let arrivals = Arrivals::pack(events.into_iter().map(entry).collect())?;
    let seal = |reject| Sealed::new(&dead(reject, &source, received_at));
    let rejects = rejects.into_iter().map(seal).collect::<Result<_, _>>()?;
    Ok(Prepared { source, received_at, arrivals, rejects, position, idempotency, from_source })
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
    let count = batch.arrivals.count();
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
    puts.extend(batch.arrivals.puts(state));
    puts.extend(batch.arrivals.children(state));
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
    let growth = batch.arrivals.growth();
    let rest = group.begin(state, Change { puts, removes: Vec::new(), beside }, growth)?;
    if let Some(idempotency) = &batch.idempotency {
        state.meta.idempotency_keys += u64::from(new_key);
        group.keys.insert(idempotency.key);
    }
    batch.arrivals.take_places(state, group)?;
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

/// Refuses what does not fit, after trimming what only retention holds.
fn admit(state: &mut State, group: &mut Group, batch: &Prepared) -> Result<(), QueueError> {
    let bytes = bytes_of(batch);
    if batch.from_source {
        state.refuse_when_blocked()?;
    }
    let headroom = if batch.from_source { 0 } else { headroom(state.limits.bytes_max) };
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
    let owner = DeadId::source_owner(&batch.source);
    let key = keys::dead(&owner, 0);
    let rejects: u64 = batch.rejects.iter().map(|sealed| sealed.size(&key)).sum();
    batch.arrivals.bytes() + rejects
}
