//! One group commit in the making: everything that shares the next sync.
//!
//! An operation first reserves room, then changes the state and pushes its writes. So each atomic
//! batch holds whole operations, together with the lanes' and the queue's own records as they are
//! after the last of them: every batch is a consistent state, and a crash between two batches of a
//! group is no worse than a crash between two groups.
//!
//! A change larger than one batch leaves an *intent*: a list of keys that the next start removes.
//! While new records are being staged it names them, so a crash undoes them; the batch that makes
//! them count replaces it, in the same instant, by the list of old records that still have to go.

use std::{collections::BTreeSet, sync::Arc};

use holdfast_model::{Event, Name, NewEvent, Seq};

use crate::{
    chunk::{CHUNK_BYTES_MAX, CHUNK_EVENTS_MAX, Entry, Packed, SEALED_PARTS_MAX},
    engine::{keys, lane::LANE_PARTS_MAX, state::State},
    error::QueueError,
    record::Sealed,
    store::{BATCH_WRITES_MAX, Write},
};

/// Writes of one operation that fit into one batch, beside what closing a batch adds.
pub(crate) const OPERATION_WRITES_MAX: usize = 96;
/// What closing a batch may add to it: meta, the open chunk's parts, and one more lane and owner
/// than were touched when the room was reserved. The open chunk has at most [`CHUNK_BYTES_MAX`] and
/// one more event of [`SHARED_BYTES_MAX`], which is 7 parts when it does not compress at all.
const CLOSING_WRITES_MAX: usize = 1 + SEALED_PARTS_MAX + LANE_PARTS_MAX + 1;
const _: () = assert!(OPERATION_WRITES_MAX + CLOSING_WRITES_MAX <= BATCH_WRITES_MAX);
/// Largest append that waits in the open chunk for others to share it, in bytes.
pub(crate) const SHARED_BYTES_MAX: usize = 64 * 1024;
/// What a change that is larger than a batch must leave free, so that sled never sees a full disk.
const SPARE_BYTES: u64 = 8 * 1024 * 1024;
/// Most records that one change puts, or removes.
pub(crate) const CHANGE_WRITES_MAX: usize = 2_000;

/// See the module header.
#[derive(Default)]
pub(crate) struct Group {
    batch: Vec<Write>,
    lanes: BTreeSet<Name>,
    owners: BTreeSet<String>,
    /// Events that share the chunk under way, consecutive from `open_first`.
    open: Vec<Entry>,
    open_first: Seq,
    open_before: u64,
    open_bytes: usize,
    /// Everything appended in this group, for the ring.
    pub(crate) events: Vec<Arc<Event>>,
    /// Idempotency keys of this group.
    pub(crate) keys: BTreeSet<[u8; 16]>,
    /// Bytes handed to the store so far.
    pub(crate) bytes: usize,
    /// Something was handed to the store, so there is something to sync.
    pub(crate) applied: bool,
    /// A write failed: the group, and the engine with it, is lost.
    pub(crate) fatal: Option<QueueError>,
}

/// What a change stores. Nothing in `puts` may exist yet, because a crash can undo them.
#[derive(Default)]
pub(crate) struct Change {
    pub(crate) puts: Vec<Write>,
    pub(crate) removes: Vec<Vec<u8>>,
    /// Few and small: they go with the batch that makes the change count.
    pub(crate) beside: Vec<Write>,
}

/// Keys that are still to be removed, once the change is in effect. Give it to [`Group::finish`].
#[must_use]
pub(crate) struct Rest(Vec<Vec<u8>>);

impl Group {
    /// Makes room for `writes` more. Call it before changing the state.
    pub(crate) fn reserve(&mut self, state: &mut State, writes: usize) -> Result<(), QueueError> {
        if writes > OPERATION_WRITES_MAX {
            return Err(too_large("an operation (in writes)", writes, OPERATION_WRITES_MAX));
        }
        let mut records = self.owners.len();
        for name in &self.lanes {
            let lane = state.lanes.get(name);
            records += lane.map_or(Ok(0), |lane| lane.parts_with(0, 0))?;
        }
        if self.batch.len() + records + writes + CLOSING_WRITES_MAX > BATCH_WRITES_MAX {
            self.close(state)?;
        }
        Ok(())
    }

    pub(crate) fn push(&mut self, write: Write) {
        if let Write::Put(key, value) = &write {
            self.bytes += key.len() + value.len();
        }
        self.batch.push(write);
    }

    pub(crate) fn extend(&mut self, writes: impl IntoIterator<Item = Write>) {
        for write in writes {
            self.push(write);
        }
    }

    /// The lane's record changed and goes with this batch.
    pub(crate) fn touch_lane(&mut self, name: &Name) {
        if !self.lanes.contains(name) {
            self.lanes.insert(name.clone());
        }
    }

    /// The owner's count of dead letters changed and goes with this batch.
    pub(crate) fn touch_owner(&mut self, owner: &str) {
        if !self.owners.contains(owner) {
            self.owners.insert(owner.to_owned());
        }
    }

    /// Begins a change of any size: pushes its writes, or stages what does not fit into one batch.
    /// Then change the state, touch what goes with it, and call [`Group::finish`].
    ///
    /// `growth` is how many parts the lane's record may gain by it.
    pub(crate) fn begin(
        &mut self,
        state: &mut State,
        change: Change,
        growth: usize,
    ) -> Result<Rest, QueueError> {
        let Change { puts, removes, beside } = change;
        let writes = puts.len() + removes.len() + beside.len() + growth;
        if writes <= OPERATION_WRITES_MAX {
            self.reserve(state, writes)?;
            self.extend(puts);
            self.extend(removes.into_iter().map(Write::Remove));
            self.extend(beside);
            return Ok(Rest(Vec::new()));
        }
        // All that can be refused is refused before anything is stored.
        if beside.len() + growth >= OPERATION_WRITES_MAX {
            return Err(too_large("an operation (in writes)", writes, OPERATION_WRITES_MAX));
        }
        let bytes: usize = puts.iter().map(Write::bytes).sum();
        let bytes_needed = 2 * (bytes + self.bytes) as u64 + SPARE_BYTES;
        if state.bytes_free < bytes_needed {
            return Err(QueueError::DiskFull { bytes_free: state.bytes_free, bytes_needed });
        }
        let undo = intent(puts.iter().map(|write| write.key()))?;
        let redo = intent(removes.iter().map(Vec::as_slice))?;
        self.close(state)?;
        if puts.len() + beside.len() + growth < OPERATION_WRITES_MAX {
            self.extend(puts);
        } else {
            self.apply(state, vec![undo])?;
            self.apply_in_steps(state, puts)?;
        }
        self.extend(beside);
        if removes.is_empty() {
            self.push(Write::Remove(keys::INTENT.to_vec()));
        } else {
            self.push(redo);
        }
        Ok(Rest(removes))
    }

    /// Ends a change, now that the state has it.
    pub(crate) fn finish(&mut self, state: &mut State, rest: Rest) -> Result<(), QueueError> {
        if rest.0.is_empty() {
            return Ok(());
        }
        self.close(state)?;
        self.apply_in_steps(state, rest.0.into_iter().map(Write::Remove).collect())?;
        // With the next batch at the latest: nothing can be stored under these keys before it.
        self.push(Write::Remove(keys::INTENT.to_vec()));
        Ok(())
    }

    fn apply_in_steps(&mut self, state: &State, writes: Vec<Write>) -> Result<(), QueueError> {
        let mut writes = writes.into_iter().peekable();
        while writes.peek().is_some() {
            let step: Vec<Write> = writes.by_ref().take(OPERATION_WRITES_MAX).collect();
            self.bytes += step.iter().map(Write::bytes).sum::<usize>();
            self.apply(state, step)?;
        }
        Ok(())
    }

    /// Adds an event to the chunk under way, under the next sequence number.
    pub(crate) fn share(&mut self, state: &mut State, entry: Entry) -> Result<Seq, QueueError> {
        let seq = state.meta.next_seq;
        // Rejects take numbers, too.
        let contiguous = self.open_first + self.open.len() as Seq == seq;
        let full = self.open.len() >= CHUNK_EVENTS_MAX || self.open_bytes >= CHUNK_BYTES_MAX;
        if !self.open.is_empty() && (full || !contiguous) {
            self.seal(state)?;
        }
        if self.open.is_empty() {
            (self.open_first, self.open_before) = (seq, state.meta.events_total);
        }
        self.open_bytes += entry.event.body.len();
        self.note_event(state, &entry);
        self.open.push(entry);
        Ok(seq)
    }

    /// Gives an event its place and shows it to the ring.
    pub(crate) fn note_event(&mut self, state: &mut State, entry: &Entry) {
        let seq = state.meta.next_seq;
        let NewEvent { kind, parent, body } = entry.event.clone();
        let new = NewEvent { kind, parent, body };
        let event = Event::new(seq, new, Arc::clone(&entry.source), entry.received_at);
        self.events.push(Arc::new(event));
        state.meta.next_seq += 1;
        state.meta.events_total += 1;
    }

    /// Packs the chunk under way into this batch.
    pub(crate) fn seal(&mut self, state: &mut State) -> Result<(), QueueError> {
        if self.open.is_empty() {
            return Ok(());
        }
        let packed = Packed::new(&self.open)?;
        state.note_chunk(self.open_first, &packed);
        let writes = packed.writes(&keys::chunk(self.open_first), self.open_before);
        self.extend(writes);
        self.open.clear();
        self.open_bytes = 0;
        Ok(())
    }

    /// Ends the batch under way and applies it.
    pub(crate) fn close(&mut self, state: &mut State) -> Result<(), QueueError> {
        self.seal(state)?;
        if self.batch.is_empty() && self.lanes.is_empty() && self.owners.is_empty() {
            return Ok(());
        }
        let mut batch = std::mem::take(&mut self.batch);
        for name in std::mem::take(&mut self.lanes) {
            batch.extend(state.lane_writes(&name)?);
        }
        for owner in std::mem::take(&mut self.owners) {
            batch.extend(state.box_write(&owner)?);
        }
        batch.push(state.meta_write()?);
        self.apply(state, batch)
    }

    fn apply(&mut self, state: &State, batch: Vec<Write>) -> Result<(), QueueError> {
        let applied = state.apply(batch);
        self.applied = true;
        if let Err(error) = &applied {
            self.fatal = Some(error.clone());
        }
        applied
    }
}

/// The intent that names these keys. It must be one value, to be there whole or not at all.
fn intent<'a>(keys: impl Iterator<Item = &'a [u8]>) -> Result<Write, QueueError> {
    let keys: Vec<&[u8]> = keys.collect();
    if keys.len() > CHANGE_WRITES_MAX {
        return Err(too_large("a change (in records)", keys.len(), CHANGE_WRITES_MAX));
    }
    let sealed = Sealed::new(&keys)?;
    match sealed.writes(keys::INTENT).as_mut_slice() {
        [Write::Put(_, value)] => Ok(Write::Put(keys::INTENT.to_vec(), std::mem::take(value))),
        _ => Err(too_large("a change (in records)", keys.len(), CHANGE_WRITES_MAX)),
    }
}

fn too_large(what: &'static str, size: usize, size_max: usize) -> QueueError {
    QueueError::TooLarge { what, bytes: size as u64, bytes_max: size_max as u64 }
}
