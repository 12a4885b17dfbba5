//! What the writing thread knows: the small records, decoded. Loaded once, then kept in step.

use std::{
    collections::{BTreeMap, HashMap},
    ops::ControlFlow,
    sync::Arc,
};

use holdfast_model::{LaneState, Ledger, LogId, Name, Seq, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    engine::{Limits, keys},
    error::QueueError,
    record::{self, Sealed},
    spans::{Span, Spans},
    store::{Store, Write},
    types::{DeadBox, IdempotentAnswer, JobRecord, RetryHead, RetryRecord, StoredState},
};

/// The queue's own record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) log_id: LogId,
    pub(crate) next_seq: Seq,
    /// Events ever stored, trimmed ones included.
    pub(crate) events_total: u64,
    /// Events that trimming has removed.
    pub(crate) events_trimmed: u64,
    pub(crate) chunk_bytes: u64,
    pub(crate) next_job: u64,
    pub(crate) next_audit: u64,
    /// The last run ended in [`crate::QueueEngine::close`].
    pub(crate) clean: bool,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counters {
    pub(crate) filtered: u64,
    pub(crate) delivered: u64,
    pub(crate) suppressed: u64,
    pub(crate) expired: u64,
    pub(crate) purged: u64,
}

/// A lane as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct LaneRecord {
    position: Seq,
    above: Vec<Span>,
    counters: Counters,
    born_events: u64,
    retrying: u64,
    state: StoredState,
    active_ms: u64,
    last_open_at: Timestamp,
}

/// A lane, decoded.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    pub(crate) spans: Spans,
    pub(crate) counters: Counters,
    /// Events in the log before the lane's birth.
    pub(crate) born_events: u64,
    pub(crate) state: StoredState,
    pub(crate) active_ms: u64,
    pub(crate) last_open_at: Timestamp,
    /// Opened by a destination in this run.
    pub(crate) open: bool,
    pub(crate) retries: BTreeMap<Seq, Retry>,
    pub(crate) retrying: u64,
    pub(crate) retry_bytes: u64,
}

/// A retry record in brief.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retry {
    pub(crate) head: RetryHead,
    pub(crate) generation: u8,
    pub(crate) parts: usize,
    pub(crate) bytes: u64,
}

/// Everything the writing thread decides by.
pub(crate) struct State {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) limits: Limits,
    pub(crate) meta: Meta,
    pub(crate) lanes: BTreeMap<Name, Lane>,
    pub(crate) boxes: BTreeMap<String, DeadBox>,
    pub(crate) idempotent: HashMap<[u8; 16], (u32, IdempotentAnswer)>,
    pub(crate) jobs: BTreeMap<u64, JobRecord>,
    /// The last run did not end cleanly.
    pub(crate) unclean: bool,
    /// Records that were set aside, in this run and before.
    pub(crate) corrupt: u64,
    /// Merging has looked at everything below.
    pub(crate) merged_to: Seq,
    /// Small chunks written since merging last looked.
    pub(crate) small_chunks: usize,
    /// When upkeep last asked, in wall time: what "now" is for retention.
    pub(crate) now: Timestamp,
    /// Free bytes on the disk, asked before each commit.
    pub(crate) bytes_free: u64,
    pub(crate) queue_full: bool,
    pub(crate) disk_full: bool,
}

impl State {
    /// Reads what the store holds, or makes a new queue in an empty one.
    pub(crate) fn load(
        store: Arc<dyn Store>,
        limits: Limits,
        log_id: impl FnOnce() -> LogId,
        path: &std::path::Path,
    ) -> Result<Self, QueueError> {
        let found = get(&*store, keys::FORMAT)?;
        let meta = match found {
            None => Meta {
                log_id: log_id(),
                next_seq: 1,
                events_total: 0,
                events_trimmed: 0,
                chunk_bytes: 0,
                next_job: 1,
                next_audit: 1,
                clean: true,
            },
            Some(name) if name == keys::FORMAT_NAME.as_bytes() => {
                let bytes = get(&*store, keys::META)?.unwrap_or_default();
                record::open(keys::META, &bytes)?
            }
            Some(name) => {
                return Err(QueueError::OtherFormat {
                    path: path.to_owned(),
                    found: String::from_utf8_lossy(&name).into_owned(),
                    expected: keys::FORMAT_NAME,
                });
            }
        };
        let mut state = Self {
            unclean: !meta.clean,
            merged_to: meta.next_seq.saturating_sub(1),
            store,
            limits,
            meta,
            lanes: BTreeMap::new(),
            boxes: BTreeMap::new(),
            idempotent: HashMap::new(),
            jobs: BTreeMap::new(),
            corrupt: 0,
            small_chunks: 0,
            now: Timestamp(0),
            bytes_free: u64::MAX,
            queue_full: false,
            disk_full: false,
        };
        state.undo_intent()?;
        state.load_lanes()?;
        state.load_small()?;
        Ok(state)
    }

    /// Removes what a larger write had stored before a crash kept it from its end.
    fn undo_intent(&mut self) -> Result<(), QueueError> {
        let Some(bytes) = get(&*self.store, keys::INTENT)? else { return Ok(()) };
        let keys: Vec<Vec<u8>> = record::open(keys::INTENT, &bytes)?;
        for step in keys.chunks(100) {
            let removes = step.iter().map(|key| Write::Remove(key.clone())).collect();
            self.apply(removes)?;
        }
        self.apply(vec![Write::Remove(keys::INTENT.to_vec())])?;
        self.sync()
    }

    fn load_lanes(&mut self) -> Result<(), QueueError> {
        for (key, bytes) in all(&*self.store, b"l")? {
            let name = String::from_utf8_lossy(&key[1..]).into_owned();
            let Ok(name) = Name::new(&name) else { continue };
            let stored: LaneRecord = record::open(&key, &bytes)?;
            let mut lane = Lane::from_record(stored);
            let expected = lane.retrying;
            self.load_retries(&name, &mut lane)?;
            if lane.retrying < expected {
                // Damaged retry records were set aside just now: they are gone from this lane.
                lane.counters.purged += expected - lane.retrying;
            }
            self.lanes.insert(name, lane);
        }
        Ok(())
    }

    fn load_retries(&mut self, name: &Name, lane: &mut Lane) -> Result<(), QueueError> {
        let prefix = keys::retries(name.as_str());
        let mut firsts = Vec::new();
        scan(&*self.store, &prefix, |key, value| {
            if let Some((id, generation, 0)) = keys::retry_id(&prefix, key) {
                firsts.push((id, generation, record::parts_of(value)));
            }
            ControlFlow::Continue(())
        })?;
        (lane.retrying, lane.retry_bytes) = (0, 0);
        for (id, generation, parts) in firsts {
            let key = keys::retry(name.as_str(), id, generation);
            let bytes = self.join(&key, parts)?;
            match record::open::<RetryRecord>(&key, &bytes) {
                Ok(record) => {
                    let size = (bytes.len() + parts * (key.len() + 1)) as u64;
                    lane.add_retry(Retry { head: record.head(), generation, parts, bytes: size });
                }
                Err(error) => self.set_aside(&key, parts, &error)?,
            }
        }
        Ok(())
    }

    fn load_small(&mut self) -> Result<(), QueueError> {
        for (key, bytes) in all(&*self.store, b"b")? {
            let stored: DeadBox = record::open(&key, &bytes)?;
            self.boxes.insert(stored.owner.clone(), stored);
        }
        for (key, bytes) in all(&*self.store, b"j")? {
            if key.last() == Some(&0) {
                let job: JobRecord = record::open(&key, &bytes)?;
                self.jobs.insert(job.id, job);
            }
        }
        for (key, bytes) in all(&*self.store, b"i")? {
            let (Some(hour), Some(hash)) = (key.get(1..5), key.get(5..21)) else { continue };
            let (Ok(hour), Ok(hash)) = (hour.try_into(), hash.try_into()) else { continue };
            if let Ok(answer) = postcard::from_bytes(&bytes) {
                self.idempotent.insert(hash, (u32::from_be_bytes(hour), answer));
            }
        }
        let mut corrupt = 0;
        scan(&*self.store, b"q", |_, _| {
            corrupt += 1;
            ControlFlow::Continue(())
        })?;
        self.corrupt += corrupt;
        Ok(())
    }

    /// Moves a damaged record under `q`, whole. It is never deleted.
    pub(crate) fn set_aside(
        &mut self,
        key: &[u8],
        parts: usize,
        error: &QueueError,
    ) -> Result<(), QueueError> {
        tracing::error!(key = %record::show_key(key), %error, "a stored record is damaged; it was set aside");
        let mut writes = Vec::new();
        for part in 0..parts {
            let part_key = record::part_key(key, part);
            if let Some(bytes) = get(&*self.store, &part_key)? {
                writes.push(Write::Put(keys::set_aside(&part_key), bytes));
                writes.push(Write::Remove(part_key));
            }
        }
        self.corrupt += 1;
        self.apply(writes)?;
        self.sync()
    }

    /// Joins a record's parts; a missing one shows as a checksum that does not match.
    pub(crate) fn join(&self, key: &[u8], parts: usize) -> Result<Vec<u8>, QueueError> {
        join(&*self.store, key, parts)
    }

    pub(crate) fn apply(&self, writes: Vec<Write>) -> Result<(), QueueError> {
        self.store.apply(writes).map_err(|source| failed("write to", source))
    }

    pub(crate) fn sync(&self) -> Result<(), QueueError> {
        self.store.sync().map_err(|source| failed("sync", source))
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
        let positions = self.lanes.values().map(|lane| lane.spans.position());
        positions.min().unwrap_or(self.meta.next_seq)
    }

    pub(crate) fn lane(&mut self, name: &Name) -> Result<&mut Lane, QueueError> {
        self.lanes.get_mut(name).ok_or_else(|| QueueError::NoLane { lane: name.to_string() })
    }

    pub(crate) fn meta_write(&self) -> Result<Write, QueueError> {
        // Small, so its sealed form is one part; it keeps the bare key.
        let sealed = Sealed::new(&self.meta)?;
        Ok(bare(keys::META, &sealed))
    }

    pub(crate) fn lane_write(&self, name: &Name) -> Result<Option<Write>, QueueError> {
        let Some(lane) = self.lanes.get(name) else { return Ok(None) };
        let sealed = Sealed::new(&lane.to_record())?;
        Ok(Some(bare(&keys::lane(name.as_str()), &sealed)))
    }

    pub(crate) fn box_write(&self, owner: &str) -> Result<Option<Write>, QueueError> {
        let Some(dead) = self.boxes.get(owner) else { return Ok(None) };
        Ok(Some(bare(&keys::dead_box(owner), &Sealed::new(dead)?)))
    }
}

/// A one-part record under its bare key.
fn bare(key: &[u8], sealed: &Sealed) -> Write {
    match sealed.writes(key).swap_remove(0) {
        Write::Put(_, value) => Write::Put(key.to_vec(), value),
        Write::Remove(_) => Write::Remove(key.to_vec()),
    }
}

// === impl Lane ===

impl Lane {
    pub(crate) fn new(position: Seq, born_events: u64, now: Timestamp) -> Self {
        let state =
            StoredState { state: LaneState::Active, reason: String::new(), since: now };
        Self {
            spans: Spans::new(position, &[]),
            counters: Counters::default(),
            born_events,
            state,
            active_ms: 0,
            last_open_at: now,
            open: false,
            retries: BTreeMap::new(),
            retrying: 0,
            retry_bytes: 0,
        }
    }

    fn from_record(stored: LaneRecord) -> Self {
        Self {
            spans: Spans::new(stored.position, &stored.above),
            counters: stored.counters,
            born_events: stored.born_events,
            state: stored.state,
            active_ms: stored.active_ms,
            last_open_at: stored.last_open_at,
            open: false,
            retries: BTreeMap::new(),
            retrying: stored.retrying,
            retry_bytes: 0,
        }
    }

    fn to_record(&self) -> LaneRecord {
        LaneRecord {
            position: self.spans.position(),
            above: self.spans.above(),
            counters: self.counters,
            born_events: self.born_events,
            retrying: self.retrying,
            state: self.state.clone(),
            active_ms: self.active_ms,
            last_open_at: self.last_open_at,
        }
    }

    /// All but the retry records, which can be many.
    pub(crate) fn shallow(&self) -> Self {
        Self {
            spans: self.spans.clone(),
            state: self.state.clone(),
            retries: BTreeMap::new(),
            ..*self
        }
    }

    pub(crate) fn add_retry(&mut self, retry: Retry) {
        self.retrying += u64::from(retry.head.members);
        self.retry_bytes += retry.bytes;
        self.retries.insert(retry.head.id, retry);
    }

    pub(crate) fn take_retry(&mut self, id: Seq) -> Option<Retry> {
        let retry = self.retries.remove(&id)?;
        self.retrying -= u64::from(retry.head.members);
        self.retry_bytes -= retry.bytes;
        Some(retry)
    }

    /// The ledger, given what the log itself counts.
    pub(crate) fn ledger(&self, events_total: u64, before_position: u64, dead: u64) -> Ledger {
        Ledger {
            seen: events_total.saturating_sub(self.born_events),
            filtered: self.counters.filtered,
            delivered: self.counters.delivered,
            unsettled: events_total
                .saturating_sub(before_position)
                .saturating_sub(self.spans.count_above()),
            retrying: self.retrying,
            dead,
            suppressed: self.counters.suppressed,
            expired: self.counters.expired,
            purged: self.counters.purged,
        }
    }
}

pub(crate) fn failed(
    action: &'static str,
    source: Box<dyn std::error::Error + Send + Sync>,
) -> QueueError {
    QueueError::Store { action, source: source.into() }
}

pub(crate) fn get(store: &dyn Store, key: &[u8]) -> Result<Option<Vec<u8>>, QueueError> {
    store.get(key).map_err(|source| failed("read from", source))
}

pub(crate) fn join(store: &dyn Store, key: &[u8], parts: usize) -> Result<Vec<u8>, QueueError> {
    let mut bytes = Vec::new();
    for part in 0..parts {
        let stored = get(store, &record::part_key(key, part))?;
        bytes.extend_from_slice(&stored.unwrap_or_default());
    }
    Ok(bytes)
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

/// All entries under a prefix. Only for the small records.
fn all(store: &dyn Store, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, QueueError> {
    let mut entries = Vec::new();
    scan(store, prefix, |key, value| {
        entries.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    })?;
    Ok(entries)
}
