//! The real engine, watched: how often it is asked, and no jump of the paused clock while it works.
//!
//! The engine's writer is a thread of its own, of which tokio's paused clock knows nothing: it
//! would jump to the next timer while the lane waits for the disk. A blocking task forbids that, so
//! every call holds one. So time only moves when neither a task nor the queue has anything to do.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
    mpsc,
};

use async_trait::async_trait;
use bytes::Bytes;
use holdfast_model::{Ledger, LogId, Name, Seq, Timestamp};
use holdfast_queue::*;
use tokio::sync::watch;

/// Forbids the paused clock to jump for as long as it lives.
pub(crate) struct Hold {
    _end: mpsc::Sender<()>,
}

pub(crate) fn hold() -> Hold {
    let (end, ended) = mpsc::channel::<()>();
    tokio::task::spawn_blocking(move || ended.recv().ok());
    Hold { _end: end }
}

/// See the module header.
pub(crate) struct Watched {
    pub(crate) engine: Arc<Engine>,
    pub(crate) reads: AtomicU64,
    pub(crate) settles: AtomicU64,
    pub(crate) states: AtomicU64,
    /// While it is closed, settlements wait in front of the queue.
    pub(crate) gate: watch::Sender<bool>,
    /// Reads fail while it is above zero, and count it down.
    pub(crate) failing_reads: AtomicU64,
}

impl Watched {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self {
            engine,
            reads: AtomicU64::default(),
            settles: AtomicU64::default(),
            states: AtomicU64::default(),
            gate: watch::Sender::new(true),
            failing_reads: AtomicU64::default(),
        }
    }
}

fn inc(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::SeqCst);
}

#[async_trait]
impl QueueEngine for Watched {
    fn log_id(&self) -> &LogId {
        self.engine.log_id()
    }

    fn head(&self) -> watch::Receiver<Seq> {
        self.engine.head()
    }

    fn failure(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.engine.failure()
    }

    async fn append(&self, append: Append) -> Result<Appended, QueueError> {
        let _hold = hold();
        self.engine.append(append).await
    }

    async fn source_position(&self, source: &str) -> Result<Option<Bytes>, QueueError> {
        let _hold = hold();
        self.engine.source_position(source).await
    }

    async fn idempotent(&self, key: [u8; 16]) -> Result<Option<IdempotentAnswer>, QueueError> {
        let _hold = hold();
        self.engine.idempotent(key).await
    }

    async fn close_lane(&self, lane: &Name, in_order: bool) -> Result<(), QueueError> {
        let _hold = hold();
        self.engine.close_lane(lane, in_order).await
    }

    async fn adopt_lane(&self, old: &Name, new: &Name) -> Result<Adoption, QueueError> {
        let _hold = hold();
        self.engine.adopt_lane(old, new).await
    }

    async fn limit_lane(&self, lane: &Name, limit: BacklogLimit) -> Result<(), QueueError> {
        let _hold = hold();
        self.engine.limit_lane(lane, limit).await
    }

    async fn open_lane(&self, lane: &Name, start: Start) -> Result<LaneOpen, QueueError> {
        let _hold = hold();
        self.engine.open_lane(lane, start).await
    }

    async fn set_express(
        &self,
        lane: &Name,
        level: Option<u16>,
    ) -> Result<ExpressOpen, QueueError> {
        let _hold = hold();
        self.engine.set_express(lane, level).await
    }

    async fn links_of(&self, seq: Seq) -> Result<Vec<LaneLink>, QueueError> {
        let _hold = hold();
        self.engine.links_of(seq).await
    }

    async fn children_of(&self, seq: Seq) -> Result<Vec<Seq>, QueueError> {
        let _hold = hold();
        self.engine.children_of(seq).await
    }

    async fn event_of(&self, lane: &Name, remote_id: &str) -> Result<Option<Seq>, QueueError> {
        let _hold = hold();
        self.engine.event_of(lane, remote_id).await
    }

    async fn read(&self, from: Seq, limit: ReadLimit) -> Result<Page, QueueError> {
        let _hold = hold();
        inc(&self.reads);
        let failing = self.failing_reads.load(Ordering::SeqCst);
        if failing > 0 {
            self.failing_reads.store(failing - 1, Ordering::SeqCst);
            let source = Arc::new(std::io::Error::other("injected"));
            return Err(QueueError::Io { action: "read the log".into(), source });
        }
        self.engine.read(from, limit).await
    }

    async fn settle(&self, lane: &Name, items: Vec<Settle>) -> Result<(), QueueError> {
        self.gate.subscribe().wait_for(|open| *open).await.unwrap();
        let _hold = hold();
        inc(&self.settles);
        self.engine.settle(lane, items).await
    }

    async fn retry(&self, lane: &Name, id: Seq) -> Result<Option<RetryRecord>, QueueError> {
        let _hold = hold();
        self.engine.retry(lane, id).await
    }

    async fn set_lane_state(&self, lane: &Name, state: StoredState) -> Result<(), QueueError> {
        let _hold = hold();
        inc(&self.states);
        self.engine.set_lane_state(lane, state).await
    }

    async fn ledger(&self, lane: &Name) -> Result<Ledger, QueueError> {
        let _hold = hold();
        self.engine.ledger(lane).await
    }

    fn lanes(&self) -> Vec<LaneSummary> {
        self.engine.lanes()
    }

    async fn abandon_lane(&self, lane: &Name, end: DeadEnd) -> Result<u64, QueueError> {
        let _hold = hold();
        self.engine.abandon_lane(lane, end).await
    }

    async fn dead_letters(&self, query: DeadQuery) -> Result<DeadPage, QueueError> {
        let _hold = hold();
        self.engine.dead_letters(query).await
    }

    async fn dead_letter(&self, id: &DeadId) -> Result<Option<DeadLetter>, QueueError> {
        let _hold = hold();
        self.engine.dead_letter(id).await
    }

    async fn remove_dead(&self, ids: Vec<DeadId>, end: DeadEnd) -> Result<u64, QueueError> {
        let _hold = hold();
        self.engine.remove_dead(ids, end).await
    }

    async fn revive(
        &self,
        ids: Vec<DeadId>,
        job: Option<u64>,
    ) -> Result<Vec<RetryHead>, QueueError> {
        let _hold = hold();
        self.engine.revive(ids, job).await
    }

    fn dead_boxes(&self) -> Vec<DeadBox> {
        self.engine.dead_boxes()
    }

    async fn trace(&self, seq: Seq) -> Result<Vec<Trace>, QueueError> {
        self.engine.trace(seq).await
    }

    async fn standing(&self, lane: &Name, seq: Seq) -> Result<Option<Standing>, QueueError> {
        self.engine.standing(lane, seq).await
    }

    async fn put_job(&self, job: JobRecord) -> Result<JobRecord, QueueError> {
        let _hold = hold();
        self.engine.put_job(job).await
    }

    async fn end_job(
        &self,
        id: u64,
        how: JobState,
        problem: String,
        at: Timestamp,
    ) -> Result<Option<JobRecord>, QueueError> {
        let _hold = hold();
        self.engine.end_job(id, how, problem, at).await
    }

    async fn copy_dead(&self, ids: Vec<DeadId>, job: u64) -> Result<Vec<RetryHead>, QueueError> {
        let _hold = hold();
        self.engine.copy_dead(ids, job).await
    }

    async fn jobs(&self) -> Result<Vec<JobRecord>, QueueError> {
        self.engine.jobs().await
    }

    async fn put_consumer(&self, record: ConsumerRecord) -> Result<(), QueueError> {
        self.engine.put_consumer(record).await
    }

    async fn remove_consumer(&self, name: &Name) -> Result<bool, QueueError> {
        self.engine.remove_consumer(name).await
    }

    fn consumers(&self) -> Vec<Arc<ConsumerRecord>> {
        self.engine.consumers()
    }

    async fn events_from(&self, seq: Seq) -> Result<u64, QueueError> {
        self.engine.events_from(seq).await
    }

    async fn add_audit(&self, entry: AuditEntry) -> Result<(), QueueError> {
        let _hold = hold();
        self.engine.add_audit(entry).await
    }

    async fn audit(&self, limit: usize) -> Result<Vec<AuditEntry>, QueueError> {
        let _hold = hold();
        self.engine.audit(limit).await
    }

    fn stats(&self) -> Stats {
        self.engine.stats()
    }

    async fn close(&self) -> Result<(), QueueError> {
        let _hold = hold();
        self.engine.close().await
    }
}
