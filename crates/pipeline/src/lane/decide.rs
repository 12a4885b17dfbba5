//! From how a flight ended to what is stored. Pure but for the numbers it is given.
//!
//! Every member ends in exactly one place: delivered, a dead letter, or a retry record.

use std::{cell::OnceCell, collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use holdfast_model::{DeadReason, Event, Kind, LogId, NewEvent, Reason, Seq, Timestamp};
use holdfast_queue::{Answer, DeadLetter, JobProgress, Link, RetryRecord, Settle};

use crate::{
    backoff,
    lane::{
        flight::{Landing, Origin},
        records::{self, Attempt, Ended, failure_of},
    },
    order::Order,
    settings::LaneSettings,
    settlement::{self, Facts, Outcome, RetryWait, Verdict},
};

/// Writes that one settlement may take: the queue stores each whole, in one change.
const WRITES_MAX: usize = 400;
/// Bytes of one write; no write of the queue holds less when there is more to store.
const WRITE_BYTES: usize = 16 * 1024;

/// What the decision needs to know of the lane's present.
pub(super) struct Now<'a> {
    pub(super) wall: Timestamp,
    pub(super) active_ms: u64,
    pub(super) dice: f64,
    /// See [`holdfast_model::Destination::search_lag`].
    pub(super) search_lag: Option<Duration>,
    /// The lane waits for a person, so a refusal says nothing about the event.
    pub(super) parked: bool,
    /// Whether the dead letters have no room, so that what would die waits instead.
    pub(super) dead_full: &'a dyn Fn() -> bool,
    /// Of a lookup: how its answers enter the log.
    pub(super) answering: Option<Answering<'a>>,
}

/// How a lookup's answers enter the log.
#[derive(Clone, Copy)]
pub(super) struct Answering<'a> {
    pub(super) log: &'a LogId,
    /// The destination's name, in the place of a source.
    pub(super) source: &'a Arc<str>,
}

/// What is stored, and what the lane learns from it.
#[derive(Debug, Default)]
pub(super) struct Decision {
    /// In this order; each is balanced in itself.
    pub(super) settle: Vec<Settle>,
    /// Events taken, with when they were received.
    pub(super) delivered: Vec<Timestamp>,
    /// Events refused for good, with their rule.
    pub(super) refused: Vec<(Seq, Option<Box<str>>)>,
    pub(super) died: Vec<DeadReason>,
    pub(super) forbidden: Vec<Seq>,
    pub(super) item_throttled: bool,
    /// Something would have died, had there been room.
    pub(super) dead_waits: bool,
}

/// Members that wait together have the same key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Wait {
    due: Timestamp,
    tried: bool,
    cause: Option<(&'static str, Option<u16>)>,
    /// An event that a later success may condemn waits alone.
    alone: Option<Seq>,
}

/// Some members with their new place, stored in one step.
#[derive(Default)]
struct Piece {
    seqs: Vec<Seq>,
    delivered: u64,
    dead: Vec<DeadLetter>,
    retry: Vec<RetryRecord>,
    answers: Vec<Answer>,
    writes: usize,
}

pub(super) fn decide(
    landing: &Landing,
    origin: &Origin,
    settings: &LaneSettings,
    now: &Now<'_>,
) -> Decision {
    let mut decision = Decision::default();
    let first_active_ms = landing.past.first_active_ms.unwrap_or(now.active_ms);
    let attempt = Attempt {
        past: &landing.past,
        at: landing.at,
        ended_at: now.wall,
        first_active_ms,
        order: if *origin == Origin::Express { &Order::None } else { &settings.order },
        searches: now.search_lag.is_some(),
    };
    let facts = facts(landing, first_active_ms, settings, now);
    let dead_full = OnceCell::new();
    let mut pieces = vec![Piece::default()];
    let mut progress = JobProgress::default();
    let mut waiting: BTreeMap<Wait, Vec<&Ended>> = BTreeMap::new();
    for member in &landing.members {
        let (event, outcome) = member;
        decision.notice(member, &facts);
        let mut wait_for = |wait| waiting.entry(wait).or_default().push(member);
        match settlement::verdict(outcome, &facts) {
            Verdict::Delivered { duplicate } => {
                decision.delivered.push(event.received_at);
                let answers = now.answers(event, outcome);
                if answers.is_empty() {
                    pieces[0].seqs.push(event.seq);
                    pieces[0].delivered += 1;
                } else {
                    pieces.push(Piece::answered(event.seq, answers));
                }
                progress.delivered += u64::from(!duplicate);
                progress.duplicate += u64::from(duplicate);
            }
            Verdict::Retry { wait } => {
                wait_for(Wait::new(member, landing, duration(wait, landing, settings, now), now));
            }
            // Tried again when something else has changed.
            Verdict::Dead(reason) if now.parked && reason != DeadReason::InDoubt => {
                wait_for(Wait::new(member, landing, settings.retry.max, now));
            }
            Verdict::Dead(_) if *dead_full.get_or_init(now.dead_full) => {
                decision.dead_waits = true;
                wait_for(Wait::new(member, landing, settings.retry.max, now));
            }
            Verdict::Dead(reason) => {
                progress.failed += 1;
                decision.died.push(reason);
                if failure_of(outcome).is_some_and(|failure| failure.reason.dead_reason().is_some())
                {
                    decision.refused.push((event.seq, event.facets().rule_id.clone()));
                }
                pieces.push(Piece::dead(event.seq, attempt.dead_letter(member, reason)));
            }
        }
    }
    for (wait, members) in waiting {
        let retries = attempt.retries(&members, wait.due, wait.tried);
        pieces.extend(retries.into_iter().map(Piece::retry));
    }
    decision.settle = settlements(pack(pieces), landing, origin, &attempt);
    if let (Some(link), Some(last)) = (link(landing, now.wall), decision.settle.last_mut()) {
        last.links = vec![link];
    }
    if let (Some(job), Some(last)) = (landing.past.job, decision.settle.last_mut()) {
        last.jobs = vec![(job, progress)];
    }
    decision
}

/// What the remote system called the thing it made of the only event. A batch makes no things.
fn link(landing: &Landing, at: Timestamp) -> Option<Link> {
    let [(event, Outcome::Delivered(receipt))] = landing.members.as_slice() else { return None };
    let remote_id = receipt.remote_id.clone().filter(|id| !id.is_empty())?;
    Some(Link { seq: event.seq, remote_id, at })
}

fn facts(landing: &Landing, first_active_ms: u64, settings: &LaneSettings, now: &Now<'_>) -> Facts {
    let age = Duration::from_millis(now.active_ms.saturating_sub(first_active_ms));
    let is_delivered = |ended: &Ended| matches!(ended.1, Outcome::Delivered(_));
    Facts {
        server_wait_max: settings.retry.server_wait_max,
        in_doubt: settings.in_doubt,
        search_lag: now.search_lag,
        too_old: age > settings.retry.age_max,
        others_delivered: landing.members.iter().any(is_delivered),
    }
}

fn duration(
    wait: RetryWait,
    landing: &Landing,
    settings: &LaneSettings,
    now: &Now<'_>,
) -> Duration {
    let (retry, tries) = (&settings.retry, landing.past.tries + 1);
    match wait {
        RetryWait::Schedule => backoff::wait(retry.initial, retry.max, tries, now.dice),
        RetryWait::Server(wait) => wait.max(backoff::WAIT_MIN),
        RetryWait::Search { lag, asked } => {
            backoff::wait(retry.initial, retry.max, tries, now.dice).max(lag).max(asked)
        }
        RetryWait::Lane => Duration::ZERO,
    }
}

/// Joins pieces as long as one settlement holds them.
fn pack(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut packed: Vec<Piece> = Vec::new();
    for piece in pieces {
        match packed.last_mut() {
            Some(last) if last.writes + piece.writes <= WRITES_MAX || last.seqs.is_empty() => {
                last.join(piece);
            }
            _ => packed.push(piece),
        }
    }
    packed
}

/// A stored batch that takes several settlements shrinks with each, so that a crash between two
/// of them neither loses nor doubles a member.
fn settlements(
    pieces: Vec<Piece>,
    landing: &Landing,
    origin: &Origin,
    attempt: &Attempt<'_>,
) -> Vec<Settle> {
    let mut stored = origin.records();
    let mut left: Vec<&Ended> = landing.members.iter().collect();
    let mut settled = Vec::with_capacity(pieces.len());
    let count = pieces.len();
    for (n, mut piece) in pieces.into_iter().enumerate() {
        let mut settle =
            Settle { delivered: piece.delivered, dead: piece.dead, ..Settle::default() };
        (settle.retry, settle.answers) = (piece.retry, piece.answers);
        piece.seqs.sort_unstable();
        match origin {
            Origin::Log => settle.spans = records::spans(piece.seqs.iter().copied()),
            Origin::Express => settle.express_spans = records::spans(piece.seqs.iter().copied()),
            Origin::Retry(_) | Origin::Detached(_) => {
                settle.retries_done = std::mem::take(&mut stored);
            }
        }
        let in_records = matches!(origin, Origin::Retry(_) | Origin::Detached(_));
        if in_records && n + 1 < count {
            left.retain(|(event, _)| piece.seqs.binary_search(&event.seq).is_err());
            let remainder = attempt.remainder(&left);
            stored = vec![remainder.id()];
            settle.retry.push(remainder);
        }
        settled.push(settle);
    }
    settled
}

// === impl Now ===

impl Now<'_> {
    /// What enters the log because this event was sent.
    fn answers(&self, event: &Event, outcome: &Outcome) -> Vec<Answer> {
        let (Some(Answering { log, source }), Outcome::Delivered(receipt)) =
            (self.answering, outcome)
        else {
            return Vec::new();
        };
        // What is said of a test says nothing.
        if event.kind == Kind::Canary {
            return Vec::new();
        }
        let answer = |body: &Bytes| Answer {
            source: Arc::clone(source),
            received_at: self.wall,
            event: NewEvent {
                kind: Kind::Lookup,
                parent: Some(log.event(event.seq)),
                body: body.clone(),
            },
        };
        receipt.answers.iter().map(answer).collect()
    }
}

// === impl Decision ===

impl Decision {
    /// What one member's outcome says beside its own fate.
    fn notice(&mut self, member: &Ended, facts: &Facts) {
        let Some(failure) = failure_of(&member.1) else { return };
        match failure.reason {
            Reason::Forbidden if !facts.others_delivered => self.forbidden.push(member.0.seq),
            Reason::Throttled => self.item_throttled = true,
            Reason::Forbidden | Reason::Dns | Reason::Connect | Reason::Tls | Reason::InDoubt => {}
            Reason::ServerFault | Reason::Unauthorized | Reason::Misconfigured => {}
            Reason::Refused | Reason::TooLarge | Reason::BadAnswer | Reason::Render => {}
        }
    }
}

// === impl Wait ===

impl Wait {
    fn new(member: &Ended, landing: &Landing, wait: Duration, now: &Now<'_>) -> Self {
        let (event, outcome) = member;
        let failure = failure_of(outcome);
        let suspect = failure.is_some_and(|failure| failure.reason == Reason::Forbidden)
            && !landing.forbidden_twice;
        Self {
            due: now.wall.saturating_add(wait),
            tried: !matches!(outcome, Outcome::Unsent),
            cause: failure.map(|failure| (failure.reason.as_str(), failure.status)),
            alone: suspect.then_some(event.seq),
        }
    }
}

// === impl Piece ===

impl Piece {
    fn dead(seq: Seq, letter: DeadLetter) -> Self {
        let writes = writes(letter.event.body.len(), &letter.attempts);
        Self { seqs: vec![seq], dead: vec![letter], writes, ..Self::default() }
    }

    fn retry(record: RetryRecord) -> Self {
        let bytes = record.members.iter().map(|member| member.body.len()).sum();
        let writes = writes(bytes, &record.attempts);
        let seqs = record.members.iter().map(|member| member.seq).collect();
        Self { seqs, retry: vec![record], writes, ..Self::default() }
    }

    fn answered(seq: Seq, answers: Vec<Answer>) -> Self {
        let bytes = answers.iter().map(|answer| answer.event.body.len()).sum();
        // Each has a key of its own by which its parent finds it.
        let writes = writes(bytes, &[]) + answers.len();
        Self { seqs: vec![seq], delivered: 1, answers, writes, ..Self::default() }
    }

    fn join(&mut self, other: Self) {
        self.seqs.extend(other.seqs);
        self.delivered += other.delivered;
        self.dead.extend(other.dead);
        self.retry.extend(other.retry);
        self.answers.extend(other.answers);
        self.writes += other.writes;
    }
}

fn writes(bytes: usize, attempts: &[holdfast_queue::AttemptNote]) -> usize {
    let notes: usize = attempts.iter().map(|note| note.excerpt.len()).sum();
    1 + (bytes + notes) / WRITE_BYTES
}

#[cfg(test)]
mod tests;
