//! What goes into a queue engine and comes out of it.

pub(crate) mod body;
mod consumers;
mod jobs;
mod order;
mod records;
mod trace;
mod windows;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use holdfast_model::{
    Event, LaneState, Name, NewEvent, Reject, Seq, Timestamp, intake::Idempotency,
};
use serde::{Deserialize, Serialize};

pub use self::{consumers::*, jobs::*, order::*, records::*, trace::*, windows::*};
use crate::spans::Span;

/// Least room above `max_size` for what is not from a source, in bytes.
const HEADROOM_BYTES_MIN: u64 = 256 * 1024 * 1024;
/// Free bytes of the disk below which nothing new is taken, so that settling has room.
pub(crate) const BYTES_FREE_MIN: u64 = 64 * 1024 * 1024;

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
    /// It did not end cleanly when it was last open, so what was in flight is in doubt.
    pub unclean: bool,
    pub express: ExpressOpen,
    /// The open windows of storm control.
    pub windows: Vec<Window>,
    /// The name in its idempotency keys, if another than its own: it was renamed.
    pub keyed_as: Option<Name>,
}

/// What became of a wish to take over another lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adoption {
    Done,
    /// There is none of the old name: it was done before, or never was.
    NoSuchLane,
    /// There is a lane of the new name already, with a position of its own.
    Occupied,
}

/// How much of the log a lane may hold back, in live bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BacklogLimit {
    pub bytes_max: u64,
    /// Sources are refused while the lane holds back more.
    pub blocks: bool,
}

/// What a lane holds back, as the last round of upkeep found it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// About: the log's bytes, shared out by events.
    pub bytes: u64,
    pub bytes_max: u64,
    /// More than the limit, and not yet back below nine tenths of it.
    pub over: bool,
    /// Without what comes before this it would be below nine tenths of the limit.
    pub expire_to: Option<Seq>,
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
    /// Events in its retry records.
    pub retrying: u64,
    pub retry_bytes: u64,
    pub backlog: Backlog,
    /// The replay job that has this lane for itself.
    pub job: Option<u64>,
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
    /// Where those were: stretches of this page, in order, whose counts add up to `corrupt`.
    pub lost: Vec<Span>,
}

/// One retry record in brief.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryHead {
    /// The first member's sequence number.
    pub id: Seq,
    pub members: u32,
    pub due: Timestamp,
    /// When its oldest member was received.
    pub oldest: Timestamp,
    /// An earlier try may have arrived.
    pub in_doubt: bool,
    pub job: Option<u64>,
    pub slots: Slots,
}

/// What a lookup answered. Its kind and its parent are the event's own.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The lookup's destination, in the place of a source.
    pub source: Arc<str>,
    pub received_at: Timestamp,
    pub event: NewEvent,
}

/// What became of some of a lane's events. Stored whole or not at all.
#[derive(Clone, Debug, Default)]
pub struct Settle {
    /// Stretches of the log that are settled now, in whatever way, with their event counts.
    pub spans: Vec<Span>,
    /// The same of the express class: they count its events alone.
    pub express_spans: Vec<Span>,
    /// Events of the express class that `spans` count, because the others have passed them.
    pub express_passed: u64,
    /// Retry records that are settled or replaced now.
    pub retries_done: Vec<Seq>,
    pub filtered: u64,
    pub delivered: u64,
    pub expired: u64,
    pub purged: u64,
    pub suppressed: u64,
    /// Suppressed events for which a summary stands from now on, as a retry record.
    pub unsuppressed: u64,
    /// Windows of storm control that are open, as they are now. At most [`WINDOWS_STEP_MAX`].
    pub windows: Vec<Window>,
    /// Windows that end now, by the event that opened them.
    pub windows_done: Vec<Seq>,
    /// What remote systems called the things they made of events. At most [`LINKS_STEP_MAX`].
    pub links: Vec<Link>,
    /// Events that enter the log with this settlement. They are always taken, so whoever asks for
    /// more looks at [`Stats::has_headroom`] first.
    pub answers: Vec<Answer>,
    pub retry: Vec<RetryRecord>,
    pub dead: Vec<DeadLetter>,
    /// Active time since the last settlement.
    pub active: Duration,
    /// Progress of replay jobs.
    pub jobs: Vec<(u64, JobProgress)>,
}

impl Default for BacklogLimit {
    fn default() -> Self {
        Self { bytes_max: u64::MAX, blocks: false }
    }
}

/// Room above `max_size` for answers, callbacks, operator events and summaries.
pub(crate) fn headroom(bytes_max: u64) -> u64 {
    HEADROOM_BYTES_MIN.max(bytes_max / 10)
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
    /// Events that trimming has removed.
    pub events_trimmed: u64,
    pub chunks_corrupt: u64,
    pub head: Seq,
    /// Sources are refused just now because the disk is full.
    pub disk_full: bool,
    /// Sources are refused just now because the queue is full.
    pub queue_full: bool,
}

impl Stats {
    /// Whether there is room for what Holdfast itself brings in: above `max_size` a tenth of that,
    /// or 256 MiB, while the disk has it.
    pub fn has_headroom(&self) -> bool {
        let bytes_max = self.bytes_max.saturating_add(headroom(self.bytes_max));
        self.bytes_live < bytes_max && !self.disk_full && self.bytes_free >= BYTES_FREE_MIN
    }
}
