//! Events on their way into the log: packed in their caller's own time, given their places on the
//! writing thread.
//!
//! Sources bring them with a position, lookups with a settlement; the way is the same.

use holdfast_model::Seq;

use crate::{
    chunk::{self, Entry, Packed},
    engine::{
        group::{Group, SHARED_BYTES_MAX},
        keys,
        state::State,
    },
    error::QueueError,
    store::Write,
};

/// So few events share a chunk with what else waits.
const SHARED_EVENTS_MAX: usize = 16;
/// What a record costs beside its body, about, in bytes.
const RECORD_OVERHEAD_BYTES: usize = 64;

/// See the module header.
pub(super) struct Arrivals {
    entries: Vec<Entry>,
    /// The same as chunks, when there are too many to share one.
    packed: Vec<Packed>,
}

impl Arrivals {
    pub(super) fn pack(entries: Vec<Entry>) -> Result<Self, QueueError> {
        let bytes: usize = entries.iter().map(|entry| entry.event.body.len()).sum();
        let shares = entries.len() <= SHARED_EVENTS_MAX && bytes <= SHARED_BYTES_MAX;
        let packed = if shares {
            Vec::new()
        } else {
            chunk::cut(&entries).map(Packed::new).collect::<Result<_, _>>()?
        };
        Ok(Self { entries, packed })
    }

    pub(super) fn count(&self) -> u64 {
        self.entries.len() as u64
    }

    /// What they add to the live bytes; for few that share a chunk, at most that.
    pub(super) fn bytes(&self) -> u64 {
        if !self.packed.is_empty() {
            return self.packed.iter().map(Packed::size).sum();
        }
        let bytes = |entry: &Entry| entry.event.body.len() + RECORD_OVERHEAD_BYTES;
        self.entries.iter().map(bytes).sum::<usize>() as u64
    }

    /// How many parts a batch may gain by them beside [`Self::puts`]: sharing seals a chunk at most
    /// once before the batch is closed, and that has its own room.
    pub(super) fn growth(&self) -> usize {
        let shares = self.packed.is_empty() && !self.entries.is_empty();
        if shares { chunk::SEALED_PARTS_MAX } else { 0 }
    }

    /// The chunks under the numbers that come next.
    pub(super) fn puts(&self, state: &State) -> Vec<Write> {
        let (mut first, mut before) = (state.meta.next_seq, state.meta.events_total);
        let mut puts = Vec::new();
        for chunk in &self.packed {
            puts.extend(chunk.writes(&keys::chunk(first), before));
            first += Seq::from(chunk.count);
            before += u64::from(chunk.count);
        }
        puts
    }

    /// What finds those that have a parent by it, under the numbers that come next.
    pub(super) fn children(&self, state: &State) -> Vec<Write> {
        let log = &state.meta.log_id;
        let child = |(entry, seq): (&Entry, Seq)| {
            let parent = entry.event.parent.as_ref().filter(|parent| parent.log == *log)?;
            Some(Write::Put(keys::child(parent.seq, seq), Vec::new()))
        };
        self.entries.iter().zip(state.meta.next_seq..).filter_map(child).collect()
    }

    /// Gives them their places, once the group has room for them and has their [`Self::puts`].
    pub(super) fn take_places(
        &self,
        state: &mut State,
        group: &mut Group,
    ) -> Result<(), QueueError> {
        let mut first = state.meta.next_seq;
        if self.packed.is_empty() {
            for entry in &self.entries {
                group.share(state, entry.clone())?;
            }
            return Ok(());
        }
        // The chunk under way has lower numbers, and others must not come behind ours in it.
        group.seal(state)?;
        for chunk in &self.packed {
            state.note_chunk(first, chunk);
            first += Seq::from(chunk.count);
        }
        for entry in &self.entries {
            group.note_event(state, entry);
        }
        Ok(())
    }
}
