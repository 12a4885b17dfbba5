//! The self-contained records: what waits for another try, and what was given up.

use std::sync::Arc;

use bytes::Bytes;
use holdfast_model::{DeadReason, Event, EventId, Kind, NewEvent, Seq, Timestamp};
use serde::{Deserialize, Serialize};

use super::{RetryHead, Slots};

/// Most dead letters that one call moves or removes.
pub const DEAD_STEP_MAX: usize = 32;

/// Most children of an event that are named.
pub const CHILDREN_MAX: usize = 256;

/// Most attempts that are kept with an event: the first 5 and the last 15.
pub const ATTEMPTS_KEPT_MAX: usize = 20;
const ATTEMPTS_KEPT_FIRST: usize = 5;

/// An event as a self-contained record keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredEvent {
    pub seq: Seq,
    pub kind: Kind,
    pub source: Arc<str>,
    pub received_at: Timestamp,
    pub parent: Option<EventId>,
    #[serde(rename = "alert", with = "super::body")]
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
    /// The places of its lane's order that its members take.
    pub slots: Slots,
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
    /// The place of its lane's order that it had.
    pub slots: Slots,
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
    /// Events that were never sent, without any place in an order.
    pub fn untried(members: Vec<StoredEvent>, due: Timestamp, first_active_ms: u64) -> Self {
        Self {
            members,
            due,
            tries: 0,
            attempts: Vec::new(),
            first_active_ms,
            in_doubt: false,
            job: None,
            slots: Slots::NONE,
        }
    }

    /// The first member's sequence number names the record.
    pub fn id(&self) -> Seq {
        self.members.first().map_or(0, |member| member.seq)
    }

    pub fn head(&self) -> RetryHead {
        let members = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        let received = self.members.iter().map(|member| member.received_at);
        let oldest = received.min().unwrap_or_default();
        RetryHead {
            id: self.id(),
            members,
            due: self.due,
            oldest,
            in_doubt: self.in_doubt,
            job: self.job,
            slots: self.slots,
        }
    }
}

impl DeadId {
    /// The owner of a source's dead letters. The dot keeps it apart from every lane's name.
    pub fn source_owner(source: &str) -> String {
        format!("source.{source}")
    }
}
