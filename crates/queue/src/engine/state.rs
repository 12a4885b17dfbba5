//! What the writing thread knows: the small records, decoded. Loaded once, then kept in step.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::Arc,
    time::Duration,
};

use holdfast_model::{LogId, Name, Seq, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    chunk::Packed,
    engine::{Limits, adopt, keys, lane::Lane},
    error::QueueError,
    record::{self, Sealed},
    store::{Store, Write},
    types::{ConsumerRecord, DeadBox, DeadId, JobRecord, Stats},
};

/// The queue's own record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) log_id: LogId,
    pub(crate) next_seq: Seq,
    /// Events ever stored, trimmed ones included.
    pub(crate) events_total: u64,
    /// Events that trimming has removed: those before the oldest chunk.
    pub(crate) events_trimmed: u64,
    pub(crate) chunk_bytes: u64,
    pub(crate) next_job: u64,
    pub(crate) next_audit: u64,
    pub(crate) idempotency_keys: u64,
    /// Merging is done with every chunk below.
    pub(crate) merged_to: Seq,
    /// The last run ended in [`crate::QueueEngine::close`].
    pub(crate) clean: bool,
}

/// Everything the writing thread decides by.
pub(crate) struct State {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) limits: Limits,
    pub(crate) meta: Meta,
    pub(crate) lanes: BTreeMap<Name, Lane>,
    pub(crate) boxes: BTreeMap<String, DeadBox>,
    pub(crate) jobs: BTreeMap<u64, JobRecord>,
    /// The jobs differ from what readers see.
    pub(crate) jobs_changed: bool,
    pub(crate) consumers: BTreeMap<Name, Arc<ConsumerRecord>>,
    /// The consumers differ from what readers see.
    pub(crate) consumers_changed: bool,
    /// A lane is being renamed.
    pub(crate) adoption: Option<adopt::Marker>,
    /// The last run did not end cleanly.
    pub(crate) unclean: bool,
    /// Records that were set aside, in this run and before.
    pub(crate) corrupt: u64,
    /// What a repair would set aside; filled only where nothing may be changed.
    pub(crate) damaged: Vec<String>,
    /// Where upkeep goes on.
    pub(crate) rounds: Rounds,
    /// When upkeep last asked, in wall time: what "now" is for retention.
    pub(crate) now: Timestamp,
    /// Free bytes on the disk, asked before each commit.
    pub(crate) bytes_free: u64,
    /// Size of the batch that was last refused because the queue was full; 0 once it would fit.
    pub(crate) bytes_refused: u64,
    pub(crate) disk_full: bool,
}

/// Where upkeep goes on at its next step.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    /// Behind the last chunk that was written.
    pub(crate) log_end: Seq,
    /// Chunks that merging may join, written since it last found none.
    pub(crate) small_chunks: usize,
    /// Behind the last idempotency key that was looked at.
    pub(crate) key_after: Option<[u8; 16]>,
    /// Per owner, behind the last dead letter that was looked at.
    pub(crate) dead_after: BTreeMap<String, DeadId>,
    /// When the open lanes were last stored as such.
    pub(crate) lanes_noted_at: Timestamp,
}

impl State {
    pub(crate) fn apply(&self, writes: Vec<Write>) -> Result<(), QueueError> {
        self.store.apply(writes).map_err(|source| failed("write to", source))
    }

    pub(crate) fn sync(&self) -> Result<(), QueueError> {
        self.store.sync().map_err(|source| failed("sync", source))
    }

    /// A chunk is written at the log's end.
    pub(crate) fn note_chunk(&mut self, first: Seq, packed: &Packed) {
        let end = first + Seq::from(packed.count);
        self.meta.chunk_bytes += packed.size();
        if packed.is_small() {
            self.rounds.small_chunks += 1;
        } else if self.meta.merged_to == self.rounds.log_end {
            // Merging need not look at what is full from the beginning.
            self.meta.merged_to = end;
        }
        self.rounds.log_end = end;
    }

    /// Live bytes: chunks, retry records and dead letters, with their keys.
    pub(crate) fn bytes_live(&self) -> u64 {
        let retries: u64 = self.lanes.values().map(|lane| lane.retry_bytes).sum();
        self.meta.chunk_bytes + retries + self.bytes_dead()
    }

    pub(crate) fn bytes_dead(&self) -> u64 {
        self.boxes.values().map(|dead| dead.bytes).sum()
    }

    /// Below this every lane has settled everything.
    pub(crate) fn lowest_position(&self) -> Seq {
        let holding = self.lanes.values().filter(|lane| lane.holds_log());
        let positions = holding.map(Lane::lowest);
        positions.min().unwrap_or(self.meta.next_seq)
    }

    /// Below this nobody who holds the log needs it: no lane, and no consumer for whom it waits.
    pub(crate) fn lowest_held(&self) -> Seq {
        let holding = self.consumers.values().filter(|consumer| consumer.hold);
        let positions = holding.map(|consumer| consumer.position());
        positions.fold(self.lowest_position(), Seq::min)
    }

    pub(crate) fn lane(&mut self, name: &Name) -> Result<&mut Lane, QueueError> {
        self.lanes.get_mut(name).ok_or_else(|| QueueError::NoLane { lane: name.to_string() })
    }

    pub(crate) fn dead_box(&mut self, owner: &str) -> &mut DeadBox {
        self.boxes
            .entry(owner.to_owned())
            .or_insert_with(|| DeadBox { owner: owner.to_owned(), ..DeadBox::default() })
    }

    pub(crate) fn meta_write(&self) -> Result<Write, QueueError> {
        bare(keys::META, &Sealed::new(&self.meta)?)
    }

    /// The lane's record, in as many parts as it has just now. Those that a longer one left behind
    /// stay: the first part says how many count.
    pub(crate) fn lane_writes(&self, name: &Name) -> Result<Vec<Write>, QueueError> {
        let Some(lane) = self.lanes.get(name) else { return Ok(Vec::new()) };
        Ok(Sealed::new(&lane.to_record())?.writes(&keys::lane(name.as_str())))
    }

    pub(crate) fn box_write(&self, owner: &str) -> Result<Option<Write>, QueueError> {
        let Some(dead) = self.boxes.get(owner) else { return Ok(None) };
        bare(&keys::dead_box(owner), &Sealed::new(dead)?).map(Some)
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            bytes_live: self.bytes_live(),
            bytes_max: self.limits.bytes_max,
            bytes_dead: self.bytes_dead(),
            bytes_free: self.bytes_free,
            bytes_reserved: 0,
            events_in_log: self.meta.events_total - self.meta.events_trimmed,
            events_trimmed: self.meta.events_trimmed,
            chunks_corrupt: self.corrupt,
            head: self.meta.next_seq,
            disk_full: self.disk_full,
            queue_full: self.bytes_refused > 0 || self.is_blocked(),
        }
    }
}

/// A small record under its only part's key. More parts are refused.
pub(crate) fn bare_part(key: &[u8], sealed: &Sealed) -> Result<Write, QueueError> {
    if sealed.parts() > 1 {
        let (bytes, bytes_max) = (sealed.size(key), record::VALUE_BYTES_MAX as u64);
        return Err(QueueError::TooLarge { what: "a small record", bytes, bytes_max });
    }
    Ok(sealed.writes(key).swap_remove(0))
}

/// A small record under its bare key. One part holds it; more would be lost, so they are refused.
pub(crate) fn bare(key: &[u8], sealed: &Sealed) -> Result<Write, QueueError> {
    Ok(match bare_part(key, sealed)? {
        Write::Put(_, value) => Write::Put(key.to_vec(), value),
        Write::Remove(_) => Write::Remove(key.to_vec()),
    })
}

pub(crate) fn failed(
    action: &'static str,
    source: Box<dyn std::error::Error + Send + Sync>,
) -> QueueError {
    QueueError::Store { action, source: source.into() }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn get(store: &dyn Store, key: &[u8]) -> Result<Option<Vec<u8>>, QueueError> {
    store.get(key).map_err(|source| failed("read from", source))
}

/// Joins a record's parts; a missing one shows as a checksum that does not match.
pub(crate) fn join(store: &dyn Store, key: &[u8], parts: usize) -> Result<Vec<u8>, QueueError> {
    let mut bytes = Vec::new();
    for part in 0..parts {
        let stored = get(store, &record::part_key(key, part))?;
        bytes.extend_from_slice(&stored.unwrap_or_default());
    }
    Ok(bytes)
}

/// The record that is stored in parts under `key`, joined. `None` when there is none.
pub(crate) fn joined(store: &dyn Store, key: &[u8]) -> Result<Option<Vec<u8>>, QueueError> {
    match get(store, &record::part_key(key, 0))? {
        Some(first) => join(store, key, record::parts_of(&first)).map(Some),
        None => Ok(None),
    }
}

/// Visits all keys under a prefix.
pub(crate) fn scan(
    store: &dyn Store,
    prefix: &[u8],
    mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
) -> Result<(), QueueError> {
    let (from, to) = keys::under(prefix);
    store.scan(&from, &to, &mut visit).map_err(|source| failed("read from", source))
}

/// A key and its value.
pub(crate) type Row = (Vec<u8>, Vec<u8>);

/// All entries under a prefix. Only where they are few.
pub(crate) fn all(store: &dyn Store, prefix: &[u8]) -> Result<Vec<Row>, QueueError> {
    let mut entries = Vec::new();
    scan(store, prefix, |key, value| {
        entries.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    })?;
    Ok(entries)
}

/// The keys under a prefix, without their parts' numbers, each once.
pub(crate) fn records_under(
    store: &dyn Store,
    prefix: &[u8],
) -> Result<BTreeSet<Vec<u8>>, QueueError> {
    let mut keys = BTreeSet::new();
    scan(store, prefix, |key, _| {
        if let Some((_part, key)) = key.split_last() {
            keys.insert(key.to_vec());
        }
        ControlFlow::Continue(())
    })?;
    Ok(keys)
}
