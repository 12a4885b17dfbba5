//! The engine: many callers, one writing thread, readers that never wait for it.

mod append;
mod dead;
mod group;
mod keys;
mod read;
mod settle;
mod state;
mod upkeep;
pub mod verify;
mod writer;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use holdfast_model::{Event, Ledger, LogId, Name, Seq, Timestamp};
use rand::Rng;
use tokio::sync::{mpsc, oneshot, watch};

use self::{
    group::Group,
    state::{Lane, State},
    writer::{Operation, Task},
};
use crate::{
    QueueEngine,
    error::QueueError,
    record,
    ring::Ring,
    store::{Store, sled::SledStore},
    types::*,
};

/// Decoded events that lanes share, in bytes.
const RING_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The limits an engine keeps.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Live bytes at which sources are refused.
    pub bytes_max: u64,
    /// How long events stay after every lane has passed them.
    pub retention: Duration,
    /// How long a dead letter is kept.
    pub dead_age_max: Duration,
    pub idempotency_window: Duration,
    pub idempotency_keys_max: usize,
}

/// See [`QueueEngine`].
pub struct Engine {
    shared: Arc<Shared>,
    operations: Mutex<Option<mpsc::Sender<Box<dyn Operation>>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// What the writing thread publishes after each commit, and readers use.
pub(crate) struct Shared {
    store: Arc<dyn Store>,
    log_id: LogId,
    bytes_max: u64,
    head: watch::Sender<Seq>,
    failure: watch::Sender<Option<Arc<str>>>,
    ring: RwLock<Ring>,
    published: Mutex<Published>,
    commits: Commits,
    closing: AtomicBool,
}

/// A consistent moment of the small records.
#[derive(Clone, Debug, Default)]
struct Published {
    events_total: u64,
    head: Seq,
    stats: Stats,
    lanes: BTreeMap<Name, Lane>,
    boxes: BTreeMap<String, DeadBox>,
    jobs: BTreeMap<u64, JobRecord>,
}

/// How commits go; the gateway makes metrics of it.
#[derive(Debug, Default)]
pub struct Commits {
    pub count: AtomicU64,
    pub events: AtomicU64,
    pub bytes: AtomicU64,
    /// Sync times not yet collected, in microseconds, with the events that shared each.
    recent: Mutex<Vec<(u64, u64)>>,
}

/// Commits whose times wait to be collected; older ones are forgotten.
const RECENT_MAX: usize = 100_000;

impl Commits {
    fn record(&self, sync: Duration, events: u64, bytes: u64) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.events.fetch_add(events, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() < RECENT_MAX {
            recent.push((u64::try_from(sync.as_micros()).unwrap_or(u64::MAX), events));
        }
    }

    /// Sync times in microseconds and events per commit, since the last call.
    pub fn take_recent(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.recent.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

// === impl Shared ===

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Shows readers what is now on stable storage.
    fn publish(&self, state: &State, events: Vec<Arc<Event>>) {
        let head = state.meta.next_seq;
        {
            let mut published = self.lock();
            published.events_total = state.meta.events_total;
            published.head = head;
            published.stats = stats(state);
            // Retry records are only needed by the writer, and there can be many.
            for (name, lane) in &state.lanes {
                published.lanes.insert(name.clone(), lane.shallow());
            }
            published.boxes.clone_from(&state.boxes);
            published.jobs.clone_from(&state.jobs);
        }
        self.ring.write().unwrap_or_else(PoisonError::into_inner).push(events, head);
        self.head.send_if_modified(|shown| std::mem::replace(shown, head) != head);
    }
}

fn stats(state: &State) -> Stats {
    Stats {
        bytes_live: state.bytes_live(),
        bytes_max: state.limits.bytes_max,
        bytes_dead: state.bytes_dead(),
        bytes_free: state.bytes_free,
        bytes_reserved: 0,
        events_in_log: state.meta.events_total - state.meta.events_trimmed,
        chunks_corrupt: state.corrupt,
        head: state.meta.next_seq,
        disk_full: state.disk_full,
        queue_full: state.queue_full,
    }
}

// === impl Engine ===

impl Engine {
    /// Opens the queue under `folder` on disk, or makes a new one.
    pub fn open(
        folder: &Path,
        limits: Limits,
        reserve_bytes: u64,
        now: Timestamp,
    ) -> Result<Self, QueueError> {
        let store = Arc::new(SledStore::open(folder, reserve_bytes)?);
        Self::start(store, limits, now, folder)
    }

    /// Starts an engine over any store.
    pub fn start(
        store: Arc<dyn Store>,
        limits: Limits,
        now: Timestamp,
        path: &Path,
    ) -> Result<Self, QueueError> {
        let log_id = || {
            let mut random = [0; 10];
            rand::rng().fill_bytes(&mut random);
            LogId::from_random(random)
        };
        let mut state = State::load(Arc::clone(&store), limits, log_id, path)?;
        settle::tick(&mut state, now);
        state.bytes_free = store.space().free;
        state.meta.clean = false;
        let format = crate::store::Write::Put(
            keys::FORMAT.to_vec(),
            keys::FORMAT_NAME.as_bytes().to_vec(),
        );
        state.apply(vec![format, state.meta_write()?])?;
        state.sync()?;
        let shared = Arc::new(Shared {
            store,
            log_id: state.meta.log_id.clone(),
            bytes_max: state.limits.bytes_max,
            head: watch::Sender::new(state.meta.next_seq),
            failure: watch::Sender::new(None),
            ring: RwLock::new(Ring::new(RING_BYTES_MAX, state.meta.next_seq)),
            published: Mutex::default(),
            commits: Commits::default(),
            closing: AtomicBool::new(false),
        });
        shared.publish(&state, Vec::new());
        let (sender, operations) = mpsc::channel(writer::WAITING_MAX);
        let for_writer = Arc::clone(&shared);
        let writer = std::thread::Builder::new()
            .name("queue-writer".into())
            .spawn(move || writer::run(state, &for_writer, operations))
            .map_err(|error| QueueError::io("start the writing thread", error))?;
        Ok(Self {
            shared,
            operations: Mutex::new(Some(sender)),
            writer: Mutex::new(Some(writer)),
        })
    }

    pub fn commits(&self) -> &Commits {
        &self.shared.commits
    }

    /// One round of upkeep: trimming, merging, expiry. The gateway calls it about once a second.
    pub async fn upkeep(&self, now: Timestamp) -> Result<(), QueueError> {
        self.write(move |state, group| upkeep::run(state, group, now)).await
    }

    /// Runs a function on the writing thread and returns once its effect is on stable storage.
    async fn write<T: Send + 'static>(
        &self,
        run: impl FnOnce(&mut State, &mut Group) -> Result<T, QueueError> + Send + 'static,
    ) -> Result<T, QueueError> {
        let sender = {
            let operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
            operations.clone().ok_or(QueueError::Closed)?
        };
        let (reply, answer) = oneshot::channel();
        if sender.send(Box::new(Task::new(run, reply))).await.is_err() {
            return Err(self.failed());
        }
        answer.await.unwrap_or_else(|_| Err(self.failed()))
    }

    fn failed(&self) -> QueueError {
        match &*self.shared.failure.borrow() {
            Some(reason) => QueueError::Failed { reason: Arc::clone(reason) },
            None => QueueError::Closed,
        }
    }

    /// Runs a reading function where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        run: impl FnOnce(&dyn Store) -> Result<T, QueueError> + Send + 'static,
    ) -> Result<T, QueueError> {
        let store = Arc::clone(&self.shared.store);
        match tokio::task::spawn_blocking(move || run(&*store)).await {
            Ok(result) => result,
            Err(error) => {
                Err(QueueError::Store { action: "read from", source: Arc::new(error) })
            }
        }
    }
}

#[async_trait]
impl QueueEngine for Engine {
    fn log_id(&self) -> &LogId {
        &self.shared.log_id
    }

    fn head(&self) -> watch::Receiver<Seq> {
        self.shared.head.subscribe()
    }

    fn failure(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.shared.failure.subscribe()
    }

    async fn append(&self, append: Append) -> Result<Appended, QueueError> {
        let prepared = append::prepare(append)?;
        self.write(move |state, group| append::run(state, group, prepared)).await
    }

    async fn source_position(&self, source: &str) -> Result<Option<Bytes>, QueueError> {
        let key = keys::source(source);
        let position = self.blocking(move |store| state::get(store, &key)).await?;
        Ok(position.map(Bytes::from))
    }

    async fn idempotent(&self, key: [u8; 16]) -> Result<Option<IdempotentAnswer>, QueueError> {
        self.write(move |state, _| Ok(state.idempotent.get(&key).map(|(_, answer)| *answer))).await
    }

    async fn open_lane(&self, lane: &Name, start: Start) -> Result<LaneOpen, QueueError> {
        let lane = lane.clone();
        self.write(move |state, group| settle::open_lane(state, group, &lane, start)).await
    }

    async fn read(&self, from: Seq, limit: ReadLimit) -> Result<Page, QueueError> {
        let recent = {
            let ring = self.shared.ring.read().unwrap_or_else(PoisonError::into_inner);
            ring.read(from, limit)
        };
        if let Some(page) = recent {
            return Ok(page);
        }
        let head = *self.shared.head.borrow();
        let (page, damaged) =
            self.blocking(move |store| read::page(store, from, head, limit)).await?;
        for chunk in damaged {
            self.write(move |state, group| upkeep::set_aside_chunk(state, group, chunk.first)).await?;
        }
        Ok(page)
    }

    async fn settle(&self, lane: &Name, items: Vec<Settle>) -> Result<(), QueueError> {
        let items: Vec<_> = items.into_iter().map(settle::prepare).collect::<Result<_, _>>()?;
        let lane = lane.clone();
        self.write(move |state, group| settle::run(state, group, &lane, items)).await
    }

    async fn retry(&self, lane: &Name, id: Seq) -> Result<Option<RetryRecord>, QueueError> {
        let lane = lane.clone();
        self.write(move |state, group| {
            let Some(retry) = state.lane(&lane)?.retries.get(&id).copied() else { return Ok(None) };
            // It may be in the batch under way, where the store does not show it yet.
            group.close(state)?;
            let key = keys::retry(lane.as_str(), id, retry.generation);
            let bytes = state.join(&key, retry.parts)?;
            record::open(&key, &bytes).map(Some)
        })
        .await
    }

    async fn set_lane_state(&self, lane: &Name, stored: StoredState) -> Result<(), QueueError> {
        let lane = lane.clone();
        self.write(move |state, group| settle::set_state(state, group, &lane, stored)).await
    }

    async fn ledger(&self, name: &Name) -> Result<Ledger, QueueError> {
        let (lane, total, head, dead) = {
            let published = self.shared.lock();
            let missing = || QueueError::NoLane { lane: name.to_string() };
            let lane = published.lanes.get(name).cloned().ok_or_else(missing)?;
            let dead = published.boxes.get(name.as_str()).map_or(0, |dead| dead.count);
            (lane, published.events_total, published.head, dead)
        };
        let position = lane.spans.position();
        let before =
            self.blocking(move |store| read::events_before(store, position, head, total)).await?;
        Ok(lane.ledger(total, before, dead))
    }

    fn lanes(&self) -> Vec<LaneSummary> {
        let published = self.shared.lock();
        let summary = |(name, lane): (&Name, &Lane)| LaneSummary {
            name: name.clone(),
            position: lane.spans.position(),
            state: lane.state.clone(),
            open: lane.open,
            last_open_at: lane.last_open_at,
            retry_bytes: lane.retry_bytes,
        };
        published.lanes.iter().map(summary).collect()
    }

    async fn abandon_lane(&self, lane: &Name) -> Result<u64, QueueError> {
        let lane = lane.clone();
        self.write(move |state, group| settle::abandon(state, group, &lane)).await
    }

    async fn dead_letters(&self, query: DeadQuery) -> Result<DeadPage, QueueError> {
        self.blocking(move |store| dead::list(store, &query)).await
    }

    async fn dead_letter(&self, id: &DeadId) -> Result<Option<DeadLetter>, QueueError> {
        let id = id.clone();
        self.blocking(move |store| dead::load(store, &id)).await
    }

    async fn remove_dead(&self, ids: Vec<DeadId>, end: DeadEnd) -> Result<u64, QueueError> {
        self.write(move |state, group| {
            group.close(state)?;
            dead::remove(state, group, &ids[..ids.len().min(DEAD_STEP_MAX)], end)
        })
        .await
    }

    async fn revive(&self, ids: Vec<DeadId>, job: Option<u64>) -> Result<Vec<RetryHead>, QueueError> {
        self.write(move |state, group| {
            let now = state.now;
            dead::revive(state, group, &ids[..ids.len().min(DEAD_STEP_MAX)], job, now)
        })
        .await
    }

    fn dead_boxes(&self) -> Vec<DeadBox> {
        self.shared.lock().boxes.values().cloned().collect()
    }

    async fn put_job(&self, job: JobRecord) -> Result<JobRecord, QueueError> {
        self.write(move |state, group| {
            let mut job = job;
            if job.id == 0 {
                job.id = state.meta.next_job;
                state.meta.next_job += 1;
            } else if let Some(stored) = state.jobs.get(&job.id) {
                // Progress is counted by settlements alone.
                job.progress = stored.progress;
            }
            settle::put_job(state, group, job.clone())?;
            Ok(job)
        })
        .await
    }

    async fn jobs(&self) -> Result<Vec<JobRecord>, QueueError> {
        Ok(self.shared.lock().jobs.values().cloned().collect())
    }

    async fn add_audit(&self, entry: AuditEntry) -> Result<(), QueueError> {
        let sealed = record::Sealed::new(&entry)?;
        self.write(move |state, group| {
            let key = keys::audit(state.meta.next_audit);
            let writes = sealed.writes(&key);
            group.reserve(state, writes.len())?;
            group.extend(writes);
            state.meta.next_audit += 1;
            Ok(())
        })
        .await
    }

    async fn audit(&self, limit: usize) -> Result<Vec<AuditEntry>, QueueError> {
        let next = self.write(|state, _| Ok(state.meta.next_audit)).await?;
        self.blocking(move |store| {
            let first = next.saturating_sub(limit as u64).max(1);
            let mut entries = Vec::new();
            for number in (first..next).rev() {
                let key = keys::audit(number);
                let Some(part) = state::get(store, &record::part_key(&key, 0))? else { continue };
                let bytes = state::join(store, &key, record::parts_of(&part))?;
                entries.push(record::open(&key, &bytes)?);
            }
            Ok(entries)
        })
        .await
    }

    fn stats(&self) -> Stats {
        let space = self.shared.store.space();
        let stats = self.shared.lock().stats;
        Stats {
            bytes_free: space.free,
            bytes_reserved: space.reserve,
            bytes_max: self.shared.bytes_max,
            ..stats
        }
    }

    async fn close(&self) -> Result<(), QueueError> {
        let marked = self
            .write(|state, group| {
                group.reserve(state, 1)?;
                state.meta.clean = true;
                group.push(state.meta_write()?);
                Ok(())
            })
            .await;
        self.shared.closing.store(true, Ordering::SeqCst);
        self.operations.lock().unwrap_or_else(PoisonError::into_inner).take();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // It ends with its last operation, now that no sender is left.
            tokio::task::spawn_blocking(move || writer.join().ok()).await.ok();
        }
        marked
    }
}
