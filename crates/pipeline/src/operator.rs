//! Operator events: Holdfast about itself, in the log like everything else, so that a lane with
//! `when = { kind = "operator" }` tells a person.
//!
//! Promises: telling never waits and never fails, so nothing that works depends on it; of one
//! subject and state there is at most one event a minute; an event that finds no room, above the
//! headroom too, is only logged. What lanes tell has a guard against loops of its own
//! ([`crate::lane`]).
//!
//! Does not promise that every change is an event: the log, the metrics and the audit have them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use holdfast_model::{Chain, Kind, NewEvent};
use holdfast_queue::{Append, QueueEngine};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

/// What operator events name as their source. No source of the configuration can be called so.
pub const SOURCE: &str = "holdfast.operator";

/// Notices that may wait to be stored; further ones are only logged.
const WAITING_MAX: usize = 256;
/// At most one event of a subject and state in this time.
const SAME_EVERY: Duration = Duration::from_secs(60);
/// Subjects and states that are remembered for that.
const REMEMBERED_MAX: usize = 4_096;

/// What happened, as `rule.id` names it in the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Happening {
    /// A lane parks, opens, recovers, is paused or backed up.
    Lane,
    Job,
    Reload,
    /// A lane holds back more than it may, or no longer does.
    Overflow,
}

/// Something that a person should hear of.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    pub happening: Happening,
    /// The lane, job or file that it is about.
    pub subject: String,
    /// What it is now: one word.
    pub state: &'static str,
    /// As Wazuh's `rule.level`, so that filters work.
    pub level: u8,
    /// A sentence.
    pub text: String,
    pub reason: String,
}

/// Who is told. Cloned for everybody who has something to tell.
#[derive(Clone, Debug, Default)]
pub struct Operator(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    notices: mpsc::Sender<Notice>,
    told: Mutex<HashMap<(Happening, String, &'static str), Instant>>,
}

impl Happening {
    fn as_str(self) -> &'static str {
        match self {
            Self::Lane => "lane",
            Self::Job => "job",
            Self::Reload => "reload",
            Self::Overflow => "overflow",
        }
    }
}

impl Notice {
    /// The event's body. It has what an alert has, so that filters and messages know their way.
    fn body(&self, at: holdfast_model::Timestamp) -> Value {
        let Self { happening, subject, state, level, text, reason } = self;
        let happening = happening.as_str();
        json!({
            "timestamp": at,
            "rule": {
                "id": format!("holdfast-{happening}"),
                "level": level,
                "description": text,
                "groups": ["holdfast", "operator", happening],
            },
            "operator": { "event": happening, "subject": subject, "state": state, "reason": reason },
        })
    }
}

impl Operator {
    /// Nobody listens.
    pub fn silent() -> Self {
        Self(None)
    }

    /// The task stores what is told until `stop`; the caller spawns it.
    pub fn new(
        engine: Arc<dyn QueueEngine>,
        clock: Clock,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (notices, told) = mpsc::channel(WAITING_MAX);
        let inner = Inner { notices, told: Mutex::default() };
        (Self(Some(Arc::new(inner))), store(told, engine, clock, stop))
    }

    pub fn tell(&self, notice: Notice) {
        let Some(inner) = &self.0 else { return };
        if !inner.is_news(&notice) {
            return;
        }
        if let Err(error) = inner.notices.try_send(notice) {
            let notice = error.into_inner();
            tracing::warn!(
                subject = notice.subject,
                text = notice.text,
                "too many operator events wait; this one is only logged"
            );
        }
    }
}

impl Inner {
    fn is_news(&self, notice: &Notice) -> bool {
        let now = Instant::now();
        let key = (notice.happening, notice.subject.clone(), notice.state);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(&key).is_some_and(|at| now.duration_since(*at) < SAME_EVERY) {
            return false;
        }
        if told.len() >= REMEMBERED_MAX {
            told.retain(|_, at| now.duration_since(*at) < SAME_EVERY);
        }
        if told.len() < REMEMBERED_MAX {
            told.insert(key, now);
        }
        true
    }
}

async fn store(
    mut notices: mpsc::Receiver<Notice>,
    engine: Arc<dyn QueueEngine>,
    clock: Clock,
    stop: CancellationToken,
) {
    loop {
        let notice = tokio::select! {
            () = stop.cancelled() => return,
            notice = notices.recv() => match notice {
                Some(notice) => notice,
                None => return,
            },
        };
        let received_at = clock.now();
        let event = NewEvent {
            kind: Kind::Operator,
            parent: None,
            body: notice.body(received_at).to_string().into(),
        };
        let append = Append {
            source: SOURCE.into(),
            received_at,
            events: vec![event],
            rejects: Vec::new(),
            position: None,
            idempotency: None,
            from_source: false,
        };
        let stored = tokio::select! {
            () = stop.cancelled() => return,
            stored = engine.append(append) => stored,
        };
        if let Err(error) = stored {
            tracing::warn!(
                subject = notice.subject,
                text = notice.text,
                error = %Chain(&error),
                "an operator event is only logged"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(subject: &str, state: &'static str) -> Notice {
        Notice {
            happening: Happening::Lane,
            subject: subject.to_owned(),
            state,
            level: 10,
            text: "It happened.".to_owned(),
            reason: String::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_subject_and_state_is_told_once_a_minute() {
        let (notices, mut told) = mpsc::channel(16);
        let operator = Operator(Some(Arc::new(Inner { notices, told: Mutex::default() })));
        for (subject, state) in
            [("a", "open"), ("a", "open"), ("a", "active"), ("b", "open"), ("a", "open")]
        {
            operator.tell(notice(subject, state));
        }
        assert_eq!(told.len(), 3);
        tokio::time::advance(SAME_EVERY).await;
        operator.tell(notice("a", "open"));
        assert_eq!(told.len(), 4);
        assert_eq!(told.recv().await, Some(notice("a", "open")));
    }

    #[tokio::test]
    async fn what_cannot_be_taken_is_dropped_at_once() {
        let (notices, _told) = mpsc::channel(1);
        let operator = Operator(Some(Arc::new(Inner { notices, told: Mutex::default() })));
        operator.tell(notice("a", "open"));
        operator.tell(notice("b", "open"));
        Operator::silent().tell(notice("a", "open"));
    }
}
