//! What a verified callback tells of becomes events: linked, known once, stored, and only then
//! answered.
//!
//! Promises: a delivery whose name is known adds nothing, across restarts, for as long as
//! `ingest.idempotency` remembers; of an action that is authorized the same holds for the message
//! and the wish, whoever asks and however often. `data.authorized` is ours alone.

use std::sync::Arc;

use holdfast_model::{
    Action, Chain, EventId, Kind, Name, NewEvent, Notice, Operators, Seq, Timestamp,
    intake::Idempotency,
};
use holdfast_queue::{Append, AuditEntry, QueueError};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    desk::Desk,
    permit::{self, Denied, Subject},
};

/// Longest of each, in characters; what is longer is cut.
const TEXT_CHARS_MAX: usize = 8_000;
const ID_CHARS_MAX: usize = 512;
/// Longest id that a link is looked up by, in bytes.
const REMOTE_ID_BYTES_MAX: usize = 1024;
/// Largest `data`, in bytes of JSON; what is larger is left out.
const DATA_BYTES_MAX: usize = 16 * 1024;
/// As Wazuh's `rule.level`: somebody did something.
const LEVEL: u8 = 3;

/// Where a notice belongs.
#[derive(Debug, Default)]
struct Place {
    /// The id by which it was found, or the likeliest.
    remote_id: String,
    parent: Option<EventId>,
    disputed: bool,
}

/// What became of a notice.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stored {
    Linked,
    Unmatched,
    Repeat,
}

/// What a person should be told, if anything.
pub(super) type Said = Option<&'static str>;

impl Desk {
    /// Stores one notice and returns once it is on stable storage.
    pub(super) async fn take(
        &self,
        lane: &Name,
        operators: &Operators,
        notice: &Notice,
    ) -> Result<Said, QueueError> {
        let now = self.clock.now();
        let place = self.place(lane, notice).await?;
        if notice.action != Action::ActionRequested {
            let key = key(&["delivery", lane.as_str(), &notice.delivery_id]);
            let stored = self.append(lane, notice, &place, None, key, now).await?;
            self.count(lane, &stored);
            return Ok(None);
        }
        let request = notice.data["request"].as_str().unwrap_or("");
        let subject = self.subject(lane, &place).await?;
        let verdict = permit::judge(notice, operators, subject, now, self.keep);
        let key = match (&place.parent, verdict) {
            (Some(event), Ok(())) => key(&["request", lane.as_str(), &event.to_string(), request]),
            _ => key(&["delivery", lane.as_str(), &notice.delivery_id]),
        };
        let stored = self.append(lane, notice, &place, Some(verdict), key, now).await?;
        self.count(lane, &stored);
        let (outcome, said) = match (verdict, &stored) {
            (Err(denied), _) => (denied.as_str(), denied.text()),
            (Ok(()), Stored::Repeat) => {
                ("repeat", "Holdfast: this was asked for before; it is done once.")
            }
            (Ok(()), _) => ("authorized", "Holdfast: it was asked for."),
        };
        self.counters.request(lane.as_str(), outcome, 1);
        self.audit_request(lane, notice, &place, request, outcome).await;
        Ok(Some(said))
    }

    fn count(&self, lane: &Name, stored: &Stored) {
        let outcome = match stored {
            Stored::Linked => "stored",
            Stored::Unmatched => "unmatched",
            Stored::Repeat => "repeat",
        };
        self.counters.heard(lane.as_str(), outcome, 1);
    }

    /// The event it is about: by a link, or as the message names it.
    async fn place(&self, lane: &Name, notice: &Notice) -> Result<Place, QueueError> {
        let log = self.engine.log_id();
        let head = *self.engine.head().borrow();
        let named = notice.event.clone().filter(|event| event.log == *log && event.seq < head);
        for id in notice.remote_ids.iter().filter(|id| id.len() <= REMOTE_ID_BYTES_MAX) {
            if let Some(seq) = self.engine.event_of(lane, id).await? {
                let parent = log.event(seq);
                let disputed = notice.event.as_ref().is_some_and(|event| *event != parent);
                return Ok(Place { remote_id: id.clone(), parent: Some(parent), disputed });
            }
        }
        let remote_id = notice.remote_ids.first().cloned().unwrap_or_default();
        Ok(Place { remote_id, parent: named, disputed: false })
    }

    /// What an action would be about, and how old its message is.
    async fn subject(&self, lane: &Name, place: &Place) -> Result<Subject, QueueError> {
        let Some(parent) = &place.parent else { return Ok(Subject::None) };
        if place.disputed {
            return Ok(Subject::Disputed);
        }
        let Some(event) = self.engine.event(parent.seq).await? else { return Ok(Subject::Gone) };
        let links = self.engine.links_of(parent.seq).await?;
        let sent = links.iter().find(|found| found.lane == *lane).map(|found| found.link.at);
        Ok(Subject::Event { sent_at: sent.unwrap_or(event.received_at) })
    }

    /// Once for each key. Whoever comes with the same key meanwhile waits.
    async fn append(
        &self,
        lane: &Name,
        notice: &Notice,
        place: &Place,
        verdict: Option<Result<(), Denied>>,
        key: [u8; 16],
        now: Timestamp,
    ) -> Result<Stored, QueueError> {
        let _one_at_a_time = self.turn(key).await;
        if self.engine.idempotent(key).await?.is_some() {
            return Ok(Stored::Repeat);
        }
        let body = body(lane, notice, place, verdict, now).to_string();
        let mut hash = [0; 8];
        hash.copy_from_slice(&Sha256::digest(&body)[..8]);
        let event =
            NewEvent { kind: Kind::Callback, parent: place.parent.clone(), body: body.into() };
        let appended = self.engine.append(Append {
            source: Arc::from(lane.as_str()),
            received_at: now,
            events: vec![event],
            rejects: Vec::new(),
            position: None,
            idempotency: Some(Idempotency { key, body: hash }),
            from_source: false,
        });
        let first: Option<Seq> = appended.await?.first;
        tracing::debug!(%lane, seq = first, action = notice.action.as_str(), "a callback");
        Ok(if place.parent.is_some() { Stored::Linked } else { Stored::Unmatched })
    }

    async fn audit_request(
        &self,
        lane: &Name,
        notice: &Notice,
        place: &Place,
        request: &str,
        outcome: &'static str,
    ) {
        let actor = notice.actor.as_ref().map_or("", |actor| actor.id.as_str());
        if outcome != "authorized" && !self.is_news(&format!("{lane} {actor}"), outcome) {
            return;
        }
        let event = place.parent.as_ref().map(ToString::to_string).unwrap_or_default();
        self.audit(AuditEntry {
            at: self.clock.now(),
            who: format!("{lane}: {}", clip(actor, ID_CHARS_MAX)),
            action: "callback-action".to_owned(),
            subject: event,
            detail: format!("{}: {outcome}", clip(request, ID_CHARS_MAX)),
        })
        .await;
    }

    pub(super) async fn audit(&self, entry: AuditEntry) {
        if let Err(error) = self.engine.add_audit(entry).await {
            tracing::error!(error = %Chain(&error), "cannot write the audit entry");
        }
    }
}

/// What the pipeline reads. It has what an alert has, so that filters and messages know their way.
fn body(
    lane: &Name,
    notice: &Notice,
    place: &Place,
    verdict: Option<Result<(), Denied>>,
    now: Timestamp,
) -> Value {
    let action = notice.action.as_str();
    let actor = notice.actor.as_ref();
    let short = |text: &str| clip(text, ID_CHARS_MAX).to_owned();
    let name = actor.map(|actor| if actor.name.is_empty() { &actor.id } else { &actor.name });
    let mut description = format!("{lane}: {action}");
    if let Some(name) = name {
        description.push_str(&format!(" by {}", short(name)));
    }
    let data = data(&notice.data, verdict);
    if let Some(request) = data["request"].as_str() {
        description.push_str(&format!(" ({request})"));
    }
    if place.parent.is_none() {
        description.push_str(", about no event that is known here");
    }
    json!({
        "timestamp": now,
        "rule": {
            "id": "holdfast-callback",
            "level": LEVEL,
            "description": description,
            "groups": ["holdfast", "callback", action],
        },
        "destination": lane.as_str(),
        "action": action,
        "remote_id": place.remote_id,
        "delivery_id": short(&notice.delivery_id),
        "actor": actor.map(|actor| json!({ "id": short(&actor.id), "name": short(&actor.name) })),
        "text": clip(&notice.text, TEXT_CHARS_MAX),
        "at": notice.at.unwrap_or(now),
        "data": data,
    })
}

/// The vendor's own words, without those that are ours to say.
fn data(given: &Value, verdict: Option<Result<(), Denied>>) -> Value {
    let mut data = given.as_object().cloned().unwrap_or_default();
    data.remove("authorized");
    data.remove("refused");
    if verdict.is_none() {
        data.remove("request");
    }
    if json!(data).to_string().len() > DATA_BYTES_MAX {
        let request = data.remove("request");
        data.clear();
        data.insert("left_out".to_owned(), "it was too large".into());
        data.extend(request.map(|request| ("request".to_owned(), request)));
    }
    if let Some(verdict) = verdict {
        data.insert("authorized".to_owned(), verdict.is_ok().into());
        if let Err(denied) = verdict {
            data.insert("refused".to_owned(), denied.as_str().into());
        }
    }
    Value::Object(data)
}

fn clip(text: &str, chars_max: usize) -> &str {
    text.char_indices().nth(chars_max).map_or(text, |(end, _)| &text[..end])
}

/// A hash over the parts, each with its length, so that no two lists are one.
fn key(parts: &[&str]) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(b"holdfast callback");
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    let mut key = [0; 16];
    key.copy_from_slice(&hash.finalize()[..16]);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_authorized_is_said_by_us_alone() {
        let given = json!({ "authorized": true, "refused": "", "request": "block", "x": 1 });
        assert_eq!(data(&given, None), json!({ "x": 1 }));
        let said = data(&given, Some(Err(Denied::Operator)));
        let expected =
            json!({ "authorized": false, "refused": "operator", "request": "block", "x": 1 });
        assert_eq!(said, expected);
        assert_eq!(data(&given, Some(Ok(())))["authorized"], true);
        let large = json!({ "authorized": true, "request": "block", "x": "é".repeat(9000) });
        let said = data(&large, Some(Ok(())));
        let expected =
            json!({ "authorized": true, "left_out": "it was too large", "request": "block" });
        assert_eq!(said, expected);
        assert_eq!(data(&Value::Null, None), json!({}));
    }

    #[test]
    fn keys_of_different_lists_differ() {
        assert_ne!(key(&["a", "bc"]), key(&["ab", "c"]));
        assert_ne!(key(&["a"]), key(&["a", ""]));
        assert_eq!(key(&["a", "b"]), key(&["a", "b"]));
    }
}
