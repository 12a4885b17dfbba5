//! What is stored of an attempt: retry records, dead letters, settled stretches.

use std::sync::Arc;

use holdfast_model::{DeadReason, Event, Seq, Timestamp};
use holdfast_queue::{
    AttemptNote, DeadLetter, JobProgress, RetryRecord, Settle, Slots, Span, StoredEvent,
    keep_attempt,
};

use crate::{
    lane::flight::Past,
    order::Order,
    settlement::{self, Failure, Outcome},
};

/// Uncompressed bytes of one retry record. A larger batch is kept, and sent again, in parts.
const RECORD_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The same for a record that must fit into the store even when nothing of it compresses.
const SURE_RECORD_BYTES_MAX: usize = 1024 * 1024;

/// An event and how its attempt ended.
pub(super) type Ended = (Arc<Event>, Outcome);

/// What the records of one landing have in common.
#[derive(Clone, Copy)]
pub(super) struct Attempt<'a> {
    pub(super) past: &'a Past,
    /// When it began, and when it ended.
    pub(super) at: Timestamp,
    pub(super) ended_at: Timestamp,
    pub(super) first_active_ms: u64,
    pub(super) order: &'a Order,
    /// The destination can search for what may have arrived.
    pub(super) searches: bool,
}

impl Attempt<'_> {
    /// The same batch again: its members stay together, so it keeps its idempotency key.
    pub(super) fn retries(
        &self,
        members: &[&Ended],
        due: Timestamp,
        tried: bool,
    ) -> Vec<RetryRecord> {
        let mut attempts = self.past.attempts.clone();
        let failure = members.iter().find_map(|(_, outcome)| failure_of(outcome));
        if let Some(failure) = failure {
            keep_attempt(&mut attempts, self.note(failure));
        }
        let may_have_arrived =
            |failure: &Failure| settlement::may_have_arrived(failure.reason, self.searches);
        let record = |members: Vec<StoredEvent>| RetryRecord {
            slots: slots(self.order, &members),
            members,
            due,
            tries: self.past.tries + u32::from(tried),
            attempts: attempts.clone(),
            first_active_ms: self.first_active_ms,
            // A doubt stays until the event is settled: what failed since was not that try.
            in_doubt: self.past.in_doubt || failure.is_some_and(may_have_arrived),
            job: self.past.job,
        };
        let events = members.iter().map(|(event, _)| event);
        cut(events, RECORD_BYTES_MAX).into_iter().map(record).collect()
    }

    pub(super) fn dead_letter(&self, member: &Ended, reason: DeadReason) -> DeadLetter {
        let (event, outcome) = member;
        let mut attempts = self.past.attempts.clone();
        if let Some(failure) = failure_of(outcome) {
            keep_attempt(&mut attempts, self.note(failure));
        }
        DeadLetter {
            event: StoredEvent::of(event),
            reason,
            died_at: self.ended_at,
            tries: self.past.tries + 1,
            attempts,
            first_active_ms: self.first_active_ms,
            message: String::new(),
            slots: self.order.slots(event),
        }
    }

    /// What is left of a stored batch while the rest of it is settled step by step.
    pub(super) fn remainder(&self, members: &[&Ended]) -> RetryRecord {
        RetryRecord {
            slots: self.order.slots_of(members.iter().map(|(event, _)| &**event)),
            members: members.iter().map(|(event, _)| StoredEvent::of(event)).collect(),
            due: self.at,
            tries: self.past.tries,
            attempts: self.past.attempts.clone(),
            first_active_ms: self.first_active_ms,
            in_doubt: true,
            job: self.past.job,
        }
    }

    fn note(&self, failure: &Failure) -> AttemptNote {
        AttemptNote {
            n: self.past.tries + 1,
            at: self.at,
            outcome: failure.reason.as_str().to_owned(),
            status: failure.status,
            excerpt: failure.excerpt.clone(),
        }
    }
}

pub(super) fn failure_of(outcome: &Outcome) -> Option<&Failure> {
    match outcome {
        Outcome::Failed(failure) => Some(failure),
        Outcome::Delivered(_) | Outcome::Unsent => None,
    }
}

/// The settlements, and the records, by which a flight's events leave the log while it goes on.
pub(super) fn detached(
    events: &[Arc<Event>],
    express: bool,
    due: Timestamp,
    active_ms: u64,
    order: &Order,
) -> Vec<Settle> {
    let record = |members: Vec<StoredEvent>| {
        let stretches = spans(members.iter().map(|member| member.seq));
        let slots = slots(if express { &Order::None } else { order }, &members);
        let untried = RetryRecord::untried(members, due, active_ms);
        let retry = vec![RetryRecord { in_doubt: true, slots, ..untried }];
        match express {
            true => Settle { express_spans: stretches, retry, ..Settle::default() },
            false => Settle { spans: stretches, retry, ..Settle::default() },
        }
    };
    cut(events.iter(), SURE_RECORD_BYTES_MAX).into_iter().map(record).collect()
}

/// An event that waited for its slot for so long that the log must not wait with it.
pub(super) fn parted(event: &Event, slots: Slots, due: Timestamp, active_ms: u64) -> Settle {
    let untried = RetryRecord::untried(vec![StoredEvent::of(event)], due, active_ms);
    let retry = vec![RetryRecord { slots, ..untried }];
    Settle { spans: vec![Span::one(event.seq)], retry, ..Settle::default() }
}

fn slots(order: &Order, members: &[StoredEvent]) -> Slots {
    match order {
        Order::None => Slots::NONE,
        Order::Strict => Slots::ALL,
        Order::Key(_) => {
            let events: Vec<Event> = members.iter().map(StoredEvent::to_event).collect();
            order.slots_of(&events)
        }
    }
}

fn cut<'a>(
    events: impl Iterator<Item = &'a Arc<Event>>,
    bytes_max: usize,
) -> Vec<Vec<StoredEvent>> {
    let mut pieces: Vec<Vec<StoredEvent>> = Vec::new();
    let mut bytes = bytes_max;
    for event in events {
        bytes += event.body.len();
        match pieces.last_mut() {
            Some(piece) if bytes <= bytes_max => piece.push(StoredEvent::of(event)),
            _ => {
                bytes = event.body.len();
                pieces.push(vec![StoredEvent::of(event)]);
            }
        }
    }
    pieces
}

/// Events as settled stretches, neighbours joined. The numbers rise.
pub(super) fn spans(seqs: impl Iterator<Item = Seq>) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for seq in seqs {
        match spans.last_mut() {
            Some(last) if last.to == seq => {
                last.to += 1;
                last.count += 1;
            }
            _ => spans.push(Span::one(seq)),
        }
    }
    spans
}

/// A dead letter for a 403 that a later success decided, from its retry record.
pub(super) fn forbidden_letter(record: RetryRecord, at: Timestamp) -> Settle {
    let id = record.id();
    let failed = record.members.len() as u64;
    let letter = |event: StoredEvent| DeadLetter {
        event,
        reason: DeadReason::Forbidden,
        died_at: at,
        tries: record.tries,
        attempts: record.attempts.clone(),
        first_active_ms: record.first_active_ms,
        message: String::new(),
        slots: record.slots,
    };
    let progress = JobProgress { failed, ..JobProgress::default() };
    Settle {
        retries_done: vec![id],
        dead: record.members.into_iter().map(letter).collect(),
        jobs: record.job.map(|job| (job, progress)).into_iter().collect(),
        ..Settle::default()
    }
}
