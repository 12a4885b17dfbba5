//! What goes into a queue engine and comes out of it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use holdfast_model::{
    DeadReason, Event, EventId, Kind, LaneState, Name, NewEvent, Reject, Seq, Timestamp,
    intake::Idempotency,
};
use serde::{Deserialize, Serialize};

use crate::spans::Span;

/// Most dead letters that one call moves or removes.
pub const DEAD_STEP_MAX: usize = 32;

/// Most attempts that are kept with an event: the first 5 and the last 15.
pub const ATTEMPTS_KEPT_MAX: usize = 20;
const ATTEMPTS_KEPT_FIRST: usize = 5;

/// A batch to store.
#[derive(Clone, Debug)]
pub struct Append {
    pub source: Arc<str>,
    pub received_at: Timestamp,
    pub events: Vec<NewEvent>,
    pub rejects: Vec<Reject>,
    /// Key and value of the source's position.
    pub position: Option<(String, Bytes)>,
    pub idempotency: Option<Idempotency>,
    /// Holdfast's own events may use the headroom above `max_size`.
    pub from_source: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    pub first: Option<Seq>,
    pub last: Option<Seq>,
    pub accepted: u64,
    pub rejected: u64,
}

/// What was answered to an idempotent request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotentAnswer {
    pub body: [u8; 8],
    pub accepted: u32,
    pub rejected: u32,
    /// First sequence number; meaningless when nothing was accepted.
    pub first: Seq,
}

/// Where a lane that is new begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the head.
    New,
    /// With everything the log still has.
    All,
}

/// Where a lane stands.
#[derive(Clone, Debug)]
pub struct LaneOpen {
    /// Everything below is settled.
    pub position: Seq,
    /// What is settled above the position.
    pub settled: Vec<Span>,
    pub retries: Vec<RetryHead>,
    pub state: StoredState,
    /// How long the lane has been active in its life, in milliseconds.
    pub active_ms: u64,
    /// The last run did not end cleanly, so what was in flight is in doubt.
    pub unclean: bool,
}

/// A lane's state as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredState {
    pub state: LaneState,
    pub reason: String,
    pub since: Timestamp,
}

/// A lane as the store knows it.
#[derive(Clone, Debug)]
pub struct LaneSummary {
    pub name: Name,
    pub position: Seq,
    pub state: StoredState,
    /// Opened by a destination in this run. If not, it is an orphan.
    pub open: bool,
    /// When a destination last had it open.
    pub last_open_at: Timestamp,
    pub retry_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
pub struct ReadLimit {
    pub events_max: usize,
    pub bytes_max: usize,
}

/// A stretch of the log.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub events: Vec<Arc<Event>>,
    /// One past the stretch: read on from here. Gaps before it hold no events.
    pub next: Seq,
    /// Events in damaged chunks of this stretch. They cannot be read; the lane settles them as
    /// purged, and the damaged bytes are kept.
    pub corrupt: u64,
}

/// One retry record in brief.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryHead {
    /// The first member's sequence number.
    pub id: Seq,
    pub members: u32,
    pub due: Timestamp,
    pub job: Option<u64>,
}

/// An event as a self-contained record keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredEvent {
    pub seq: Seq,
    pub kind: Kind,
    pub source: Arc<str>,
    pub received_at: Timestamp,
    pub parent: Option<EventId>,
    pub body: Bytes,
}

/// One try, as it is kept for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptNote {
    /// Which try it was, counted from 1.
    pub n: u32,
    pub at: Timestamp,
    /// A [`holdfast_model::Reason`] as text, or `delivered`.
    pub outcome: String,
    pub status: Option<u16>,
    /// What went wrong, and the beginning of the answer.
    pub excerpt: String,
}

/// Events that wait for another try together: one, or the members of one batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryRecord {
    pub members: Vec<StoredEvent>,
    pub due: Timestamp,
    pub tries: u32,
    pub attempts: Vec<AttemptNote>,
    /// The lane's active time when the first attempt began, in milliseconds.
    pub first_active_ms: u64,
    pub in_doubt: bool,
    /// The replay job that brought it back.
    pub job: Option<u64>,
}

/// An event that a lane, or a source, gave up on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    pub event: StoredEvent,
    pub reason: DeadReason,
    pub died_at: Timestamp,
    pub tries: u32,
    pub attempts: Vec<AttemptNote>,
    pub first_active_ms: u64,
    /// For a source's record: what is wrong with it.
    pub message: String,
}

/// Names a dead letter: its event's number and whose it is (a lane, or `source.<name>`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DeadId {
    pub owner: String,
    pub seq: Seq,
}

/// Why a dead letter leaves for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadEnd {
    Purged,
    Expired,
}

/// What to list.
#[derive(Clone, Debug, Default)]
pub struct DeadQuery {
    pub owner: Option<String>,
    pub reason: Option<DeadReason>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub rule_id: Option<String>,
    /// Behind this one.
    pub after: Option<DeadId>,
    pub limit: usize,
    /// Most records that are looked at, so that one request cannot hold the store for long.
    pub scan_max: usize,
}

#[derive(Clone, Debug, Default)]
pub struct DeadPage {
    pub letters: Vec<(DeadId, DeadLetter)>,
    /// Where to go on; `None` at the end.
    pub next: Option<DeadId>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadBox {
    pub owner: String,
    pub count: u64,
    pub bytes: u64,
}

/// What became of some of a lane's events. Stored whole or not at all.
#[derive(Clone, Debug, Default)]
pub struct Settle {
    /// Stretches of the log that are settled now, in whatever way, with their event counts.
    pub spans: Vec<Span>,
    /// Retry records that are settled or replaced now.
    pub retries_done: Vec<Seq>,
    pub filtered: u64,
    pub delivered: u64,
    pub expired: u64,
    pub purged: u64,
    pub retry: Vec<RetryRecord>,
    pub dead: Vec<DeadLetter>,
    /// Active time since the last settlement.
    pub active: Duration,
    /// Progress of replay jobs.
    pub jobs: Vec<(u64, JobProgress)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobProgress {
    pub delivered: u64,
    pub duplicate: u64,
    pub failed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    Running,
    Paused,
    Cancelled,
    Done,
}

/// A replay, as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    pub id: u64,
    pub state: JobState,
    pub created_at: Timestamp,
    /// The request that made it, as JSON, for people and for the repeat under the same key.
    pub request: String,
    pub idempotency_key: Option<String>,
    pub lane: Name,
    pub reason: Option<DeadReason>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub rule_id: Option<String>,
    /// Only this one.
    pub only: Option<Seq>,
    /// Events per `rate_per`; 0: as fast as it goes.
    pub rate_count: u32,
    pub rate_per: Duration,
    /// Dead letters that matched when it was made.
    pub total: u64,
    /// Dead letters put back to pending so far.
    pub moved: u64,
    pub progress: JobProgress,
    pub cursor: Option<DeadId>,
    pub ended_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    pub at: Timestamp,
    /// The token's name.
    pub who: String,
    pub action: String,
    pub subject: String,
    pub detail: String,
}

/// The store's own numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Live bytes: chunks, retry records, dead letters.
    pub bytes_live: u64,
    pub bytes_max: u64,
    pub bytes_dead: u64,
    pub bytes_free: u64,
    pub bytes_reserved: u64,
    pub events_in_log: u64,
    pub chunks_corrupt: u64,
    pub head: Seq,
    /// Sources are refused just now because the disk is full.
    pub disk_full: bool,
    /// Sources are refused just now because the queue is full.
    pub queue_full: bool,
}

// === impl StoredEvent ===

impl StoredEvent {
    pub fn of(event: &Event) -> Self {
        Self {
            seq: event.seq,
            kind: event.kind,
            source: Arc::clone(&event.source),
            received_at: event.received_at,
            parent: event.parent.clone(),
            // A slice would keep its whole chunk in memory for as long as the record lives.
            body: Bytes::copy_from_slice(&event.body),
        }
    }

    pub fn to_event(&self) -> Event {
        let new =
            NewEvent { kind: self.kind, parent: self.parent.clone(), body: self.body.clone() };
        Event::new(self.seq, new, Arc::clone(&self.source), self.received_at)
    }
}

/// Adds an attempt to those that are kept: the first 5 and the last 15 stay.
pub fn keep_attempt(attempts: &mut Vec<AttemptNote>, note: AttemptNote) {
    if attempts.len() >= ATTEMPTS_KEPT_MAX {
        attempts.remove(ATTEMPTS_KEPT_FIRST);
    }
    attempts.push(note);
}

// === impl RetryRecord ===

impl RetryRecord {
    /// The first member's sequence number names the record.
    pub fn id(&self) -> Seq {
        self.members.first().map_or(0, |member| member.seq)
    }

    pub fn head(&self) -> RetryHead {
        let members = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        RetryHead { id: self.id(), members, due: self.due, job: self.job }
    }
}

impl DeadId {
    /// The owner of a source's dead letters. The dot keeps it apart from every lane's name.
    pub fn source_owner(source: &str) -> String {
        format!("source.{source}")
    }
}
