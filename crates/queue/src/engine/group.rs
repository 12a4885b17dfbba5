//! One group commit in the making: everything that shares the next sync.
//!
//! An operation first reserves room, then changes the state and pushes its writes. So each atomic
//! batch holds whole operations, together with the lanes' and the queue's own records as they are
//! after the last of them: every batch is a consistent state, and a crash between two batches of a
//! group is no worse than a crash between two groups.

use std::{collections::BTreeSet, sync::Arc};

use holdfast_model::{Event, Name, NewEvent, Seq};

use crate::{
    chunk::{CHUNK_BYTES_MAX, CHUNK_EVENTS_MAX, Entry, Packed},
    engine::{keys, state::State},
    error::QueueError,
    record::Sealed,
    store::{BATCH_WRITES_MAX, Write},
};

/// Writes of one operation that fit into one batch, beside what closing a batch adds.
pub(crate) const OPERATION_WRITES_MAX: usize = 96;
/// What closing a batch may add: meta, the open chunk's parts, one more lane and owner.
const CLOSING_WRITES_MAX: usize = 14;
/// Largest append that waits in the open chunk for others to share it, in bytes.
pub(crate) const SHARED_BYTES_MAX: usize = 64 * 1024;

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
    /// Bytes handed to the store so far.
    pub(crate) bytes: usize,
    /// Something was handed to the store, so there is something to sync.
    pub(crate) applied: bool,
    /// A write failed: the group, and the engine with it, is lost.
    pub(crate) fatal: Option<QueueError>,
}

impl Group {
    /// Makes room for `writes` more. Call it before changing the state.
    pub(crate) fn reserve(&mut self, state: &mut State, writes: usize) -> Result<(), QueueError> {
        if writes > OPERATION_WRITES_MAX {
            let (bytes, bytes_max) = (writes as u64, OPERATION_WRITES_MAX as u64);
            return Err(QueueError::TooLarge { what: "an operation (in writes)", bytes, bytes_max });
        }
        let records = self.lanes.len() + self.owners.len();
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

    /// Stores more new records than one batch holds, under an intent that a crash undoes. The
    /// operation then reserves and pushes the writes that make them count, and [`Group::staged`].
    pub(crate) fn stage(&mut self, state: &mut State, puts: Vec<Write>) -> Result<(), QueueError> {
        self.close(state)?;
        let keys: Vec<&[u8]> = puts
            .iter()
            .map(|write| match write {
                Write::Put(key, _) | Write::Remove(key) => key.as_slice(),
            })
            .collect();
        let intent = Sealed::new(&keys)?;
        let intent_writes = intent.writes(keys::INTENT);
        let [Write::Put(_, value)] = intent_writes.as_slice() else {
            let (bytes, bytes_max) = (keys.len() as u64, 1_000);
            return Err(QueueError::TooLarge { what: "a write (in records)", bytes, bytes_max });
        };
        let intent = Write::Put(keys::INTENT.to_vec(), value.clone());
        self.apply(state, vec![intent])?;
        let mut puts = puts.into_iter().peekable();
        while puts.peek().is_some() {
            let step: Vec<Write> = puts.by_ref().take(OPERATION_WRITES_MAX).collect();
            self.apply(state, step)?;
        }
        Ok(())
    }

    /// The staged records count from this batch on.
    pub(crate) fn staged(&mut self) {
        self.push(Write::Remove(keys::INTENT.to_vec()));
    }

    /// Adds an event to the chunk under way. It must have the next sequence number.
    pub(crate) fn share(&mut self, state: &mut State, entry: Entry) -> Result<Seq, QueueError> {
        let seq = state.meta.next_seq;
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
        if self.open.len() <= CHUNK_EVENTS_MAX / 2 {
            state.small_chunks += 1;
        }
        state.meta.chunk_bytes += packed.size();
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
            batch.extend(state.lane_write(&name)?);
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
