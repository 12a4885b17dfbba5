//! The durable queue: the log, the lanes' state, dead letters. What every engine promises.
//!
//! # Promises
//!
//! 1. When [`QueueEngine::append`] returns, the events survive `kill -9`, a power cut and a full
//!    disk; they are there all or none, together with the source's position.
//! 2. When [`QueueEngine::settle`] returns, the settlement survives the same. A retry record or a
//!    dead letter is stored before, or with, the position that moves past its event.
//! 3. An event that a lane has not settled is read again by the next start.
//! 4. Every term of a lane's ledger is counted from its own records and survives a restart.
//! 5. Dead letters are kept until a person, or their age limit, removes them; both are counted.
//! 6. At `max_size` sources are refused and settling goes on.
//! 7. A record that does not match its checksum is set aside, counted and named; it never stops a
//!    lane, and is never deleted.
//! 8. After a failed write or sync nothing more is acknowledged, until the process starts anew.
//! 9. Answers that come with a settlement enter the log with it, all or none.
//!
//! # Not promised
//!
//! Exactly-once delivery: an event whose settlement was under way at a crash is read again.
//!
//! # Engines
//!
//! One engine over two stores: [`store::sled`] on disk, [`store::memory`] for tests, which can
//! crash and fail on purpose. Both pass the suite in `tests/it`; a promise that is not in it does
//! not exist.

mod chunk;
mod engine;
mod error;
mod pack;
mod record;
mod ring;
mod spans;
pub mod store;
mod types;

pub use engine::{Commits, Engine, Limits, compact, export, import, renew, verify};
pub use error::QueueError;
pub use spans::{Span, Spans};
pub use types::*;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use holdfast_model::{Event, Ledger, LogId, Name, Seq, Timestamp};
use tokio::sync::watch;

/// What the pipeline needs of a queue. Only what a clustered engine can do idempotently, too.
#[async_trait]
pub trait QueueEngine: Send + Sync {
    fn log_id(&self) -> &LogId;

    /// One past the newest event that is on stable storage.
    fn head(&self) -> watch::Receiver<Seq>;

    /// Why the engine has failed for good, once it has. The process must then end.
    fn failure(&self) -> watch::Receiver<Option<Arc<str>>>;

    /// Stores a batch with its source's position, all or none.
    async fn append(&self, append: Append) -> Result<Appended, QueueError>;

    async fn source_position(&self, source: &str) -> Result<Option<Bytes>, QueueError>;

    /// What was answered to a request with this idempotency key, if it was taken.
    async fn idempotent(&self, key: [u8; 16]) -> Result<Option<IdempotentAnswer>, QueueError>;

    /// Finds or makes the lane, and says where it stands.
    async fn open_lane(&self, lane: &Name, start: Start) -> Result<LaneOpen, QueueError>;

    /// From the head on, events at or above this level are the lane's express class, which has a
    /// position of its own. `None`: from the head on there is none.
    async fn set_express(&self, lane: &Name, level: Option<u16>)
    -> Result<ExpressOpen, QueueError>;

    /// What remote systems made of an event, a link a lane.
    async fn links_of(&self, seq: Seq) -> Result<Vec<LaneLink>, QueueError>;

    /// The events that have this one as their parent, oldest first, at most [`CHILDREN_MAX`], while
    /// the log has it.
    async fn children_of(&self, seq: Seq) -> Result<Vec<Seq>, QueueError>;

    /// The event of which a lane's remote system made the thing with this id.
    async fn event_of(&self, lane: &Name, remote_id: &str) -> Result<Option<Seq>, QueueError>;

    /// Nobody sends for this lane any more: it is an orphan until somebody opens it again.
    /// `in_order`: nothing of it was under way.
    async fn close_lane(&self, lane: &Name, in_order: bool) -> Result<(), QueueError>;

    /// The lane `old`, which nobody has open, is called `new` from now on, with its positions,
    /// ledger, retries, dead letters, windows, links and jobs. Whether it happened, or not,
    /// survives a crash.
    async fn adopt_lane(&self, old: &Name, new: &Name) -> Result<Adoption, QueueError>;

    /// How much of the log an open lane may hold back. Judged at every round of upkeep.
    async fn limit_lane(&self, lane: &Name, limit: BacklogLimit) -> Result<(), QueueError>;

    /// The events from `from` on, as many as fit into `limit`. Empty at the head.
    async fn read(&self, from: Seq, limit: ReadLimit) -> Result<Page, QueueError>;

    /// One event, while the log has it.
    async fn event(&self, seq: Seq) -> Result<Option<Arc<Event>>, QueueError> {
        if seq >= *self.head().borrow() {
            return Ok(None);
        }
        let page = self.read(seq, ReadLimit { events_max: 1, bytes_max: 1 }).await?;
        Ok(page.events.into_iter().next().filter(|event| event.seq == seq))
    }

    /// Stores what became of some of a lane's events. Each item is stored whole or not at all, in
    /// order.
    async fn settle(&self, lane: &Name, items: Vec<Settle>) -> Result<(), QueueError>;

    /// A retry record, whole. `None` when it is settled.
    async fn retry(&self, lane: &Name, id: Seq) -> Result<Option<RetryRecord>, QueueError>;

    /// Stores a lane's state, so that a pause or a throttle survives a restart.
    async fn set_lane_state(&self, lane: &Name, state: StoredState) -> Result<(), QueueError>;

    /// The lane's ledger, from one consistent moment.
    async fn ledger(&self, lane: &Name) -> Result<Ledger, QueueError>;

    /// All lanes in the store, those without a destination included.
    fn lanes(&self) -> Vec<LaneSummary>;

    /// Settles all that a lane has not settled as expired (an orphan's end) or purged.
    async fn abandon_lane(&self, lane: &Name, end: DeadEnd) -> Result<u64, QueueError>;

    /// One page of dead letters, oldest first within an owner.
    async fn dead_letters(&self, query: DeadQuery) -> Result<DeadPage, QueueError>;

    async fn dead_letter(&self, id: &DeadId) -> Result<Option<DeadLetter>, QueueError>;

    /// Removes dead letters for good and counts them as purged, or expired. At most
    /// [`DEAD_STEP_MAX`] at once; absent ones are passed over.
    async fn remove_dead(&self, ids: Vec<DeadId>, end: DeadEnd) -> Result<u64, QueueError>;

    /// Moves dead letters of one lane back to pending, due at once. At most [`DEAD_STEP_MAX`].
    async fn revive(
        &self,
        ids: Vec<DeadId>,
        job: Option<u64>,
    ) -> Result<Vec<RetryHead>, QueueError>;

    /// Per owner, how many dead letters there are.
    fn dead_boxes(&self) -> Vec<DeadBox>;

    /// Where one event stands in every lane, and in the dead letters of sources.
    async fn trace(&self, seq: Seq) -> Result<Vec<Trace>, QueueError>;

    /// Where one event stands in one lane. `None`: there is no such lane, or no such event.
    async fn standing(&self, lane: &Name, seq: Seq) -> Result<Option<Standing>, QueueError>;

    /// Stores a job, new or changed. A new one (`id` 0) is given its id, and its own lane where it
    /// needs one. One that has ended stays as it ended.
    async fn put_job(&self, job: JobRecord) -> Result<JobRecord, QueueError>;

    /// Ends a job, unless it has ended, and takes its own lane away.
    async fn end_job(
        &self,
        id: u64,
        how: JobState,
        problem: String,
        at: Timestamp,
    ) -> Result<Option<JobRecord>, QueueError>;

    /// Makes retry records of the job's own lane from dead letters, which stay. At most
    /// [`DEAD_STEP_MAX`].
    async fn copy_dead(&self, ids: Vec<DeadId>, job: u64) -> Result<Vec<RetryHead>, QueueError>;

    async fn jobs(&self) -> Result<Vec<JobRecord>, QueueError>;

    /// Stores a named reader, new or changed. At most [`CONSUMERS_MAX`]; with `hold` the log is kept
    /// from its position on, unless the queue is full.
    async fn put_consumer(&self, record: ConsumerRecord) -> Result<(), QueueError>;

    /// Forgets a named reader and lets go what it held. Says whether there was one.
    async fn remove_consumer(&self, name: &Name) -> Result<bool, QueueError>;

    /// All named readers, as they were last stored.
    fn consumers(&self) -> Vec<Arc<ConsumerRecord>>;

    /// How many events the log holds from `seq` on.
    async fn events_from(&self, seq: Seq) -> Result<u64, QueueError>;

    async fn add_audit(&self, entry: AuditEntry) -> Result<(), QueueError>;

    /// The newest `limit` audit entries, newest first.
    async fn audit(&self, limit: usize) -> Result<Vec<AuditEntry>, QueueError>;

    fn stats(&self) -> Stats;

    /// Finishes what is under way and marks the queue as cleanly closed.
    async fn close(&self) -> Result<(), QueueError>;
}
