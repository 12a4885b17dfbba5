//! Who takes callbacks: finds the destination, has it verify the request, has it stored within the
//! vendors' patience, and answers.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use holdfast_model::{CallbackReply, CallbackRequest, Callbacks, Chain, Heard, Name, Refusal};
use holdfast_pipeline::{Clock, LaneConfig, Lanes};
use holdfast_queue::{AuditEntry, QueueEngine, QueueError};
use tokio::{
    sync::{MutexGuard, Semaphore},
    time::{Instant, timeout},
};

use super::{
    super::problem::{Kind, Problem},
    counters::{Counters, UNKNOWN},
};

/// Slack waits three seconds for an answer, PagerDuty five.
const STORE_WAIT_MAX: Duration = Duration::from_millis(2_500);
/// Callbacks that wait to be stored; further ones are asked to come again.
const STORING_MAX: usize = 64;
/// People who are being told something.
const TELLING_MAX: usize = 8;
/// Longest wait for that.
const TELL_WAIT_MAX: Duration = Duration::from_secs(10);
/// Of refusals alike, one in this time is audited.
const SAME_EVERY: Duration = Duration::from_secs(60);
/// Refusals that are remembered for that.
const REMEMBERED_MAX: usize = 1_024;
/// Deliveries that are stored side by side.
const TURNS: usize = 64;
/// How long a sender should wait where nothing could be stored.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// See the module header. Both listeners share one.
pub(crate) struct Desk {
    pub(super) engine: Arc<dyn QueueEngine>,
    pub(super) lanes: Lanes,
    pub(super) clock: Clock,
    pub(crate) counters: Counters,
    /// How long a delivery is remembered.
    pub(super) keep: Duration,
    turns: [tokio::sync::Mutex<()>; TURNS],
    storing: Arc<Semaphore>,
    telling: Arc<Semaphore>,
    told: Mutex<HashMap<(String, &'static str), Instant>>,
}

/// A request as it came.
pub(super) struct Letter {
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) query: String,
    pub(super) body: Bytes,
    pub(super) certified: bool,
}

impl Desk {
    pub(crate) fn new(
        engine: Arc<dyn QueueEngine>,
        lanes: Lanes,
        clock: Clock,
        counters: Counters,
        keep: Duration,
    ) -> Self {
        Self {
            engine,
            lanes,
            clock,
            counters,
            keep,
            turns: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            storing: Arc::new(Semaphore::new(STORING_MAX)),
            telling: Arc::new(Semaphore::new(TELLING_MAX)),
            told: Mutex::default(),
        }
    }

    /// Whoever comes with the same key waits for the turn.
    pub(super) async fn turn(&self, key: [u8; 16]) -> MutexGuard<'_, ()> {
        self.turns[usize::from(key[0]) % TURNS].lock().await
    }

    /// The destination of this name, if it takes callbacks.
    fn taker(&self, destination: &str) -> Option<(Name, Arc<LaneConfig>)> {
        let name = Name::new(destination).ok()?;
        let config = Arc::clone(self.lanes.get(&name)?.config());
        config.destination.callbacks()?;
        Some((name, config))
    }

    /// The label of a request that was refused before it was looked at.
    pub(super) fn label(&self, destination: &str) -> String {
        self.taker(destination).map_or_else(|| UNKNOWN.to_owned(), |(name, _)| name.to_string())
    }

    pub(super) async fn receive(
        self: &Arc<Self>,
        destination: &str,
        letter: Letter,
    ) -> Result<Response, Problem> {
        let Some((name, config)) = self.taker(destination) else {
            return Err(self.refuse(UNKNOWN, &Refusal::Signature).await);
        };
        let heard = match config.destination.callbacks() {
            Some(callbacks) => callbacks.hear(&letter.request(self.clock.now())),
            None => Err(Refusal::Signature),
        };
        let heard = match heard {
            Ok(heard) => heard,
            Err(refusal) => return Err(self.refuse(name.as_str(), &refusal).await),
        };
        if heard.notices.is_empty() {
            self.counters.heard(name.as_str(), "ignored", 1);
        }
        let reply = answer(&heard.reply);
        self.store(name, config, heard, letter).await?;
        Ok(reply)
    }

    /// Stores all of it, or says that it was not: then the vendor sends it again.
    async fn store(
        self: &Arc<Self>,
        name: Name,
        config: Arc<LaneConfig>,
        heard: Heard,
        letter: Letter,
    ) -> Result<(), Problem> {
        if heard.notices.is_empty() {
            return Ok(());
        }
        let label = name.to_string();
        let not_stored = |problem: Problem| {
            self.counters.refused(&label, "not_stored", 1);
            problem
        };
        let Ok(permit) = Arc::clone(&self.storing).try_acquire_owned() else {
            return Err(not_stored(busy("too many callbacks wait to be stored")));
        };
        let desk = Arc::clone(self);
        // Of its own: what was begun ends whether the vendor waits or not, so that a repeat is
        // known as one.
        let work = tokio::spawn(async move {
            let _permit = permit;
            desk.take_all(name, config, heard, letter).await
        });
        match timeout(STORE_WAIT_MAX, work).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(not_stored(problem(error))),
            Ok(Err(_)) => {
                Err(not_stored(Problem::new(Kind::Internal, "the gateway's log says more")))
            }
            Err(_) => Err(not_stored(busy("the queue does not take it now"))),
        }
    }

    async fn take_all(
        self: Arc<Self>,
        name: Name,
        config: Arc<LaneConfig>,
        heard: Heard,
        letter: Letter,
    ) -> Result<(), QueueError> {
        let operators = config.destination.callbacks().map(Callbacks::operators);
        let operators = operators.unwrap_or_default();
        let mut said = None;
        for notice in &heard.notices {
            said = self.take(&name, &operators, notice).await?.or(said);
        }
        if let Some(text) = said {
            self.tell(config, letter, text);
        }
        Ok(())
    }

    /// In its own time, and not at all when there is too much of it.
    fn tell(&self, config: Arc<LaneConfig>, letter: Letter, text: &'static str) {
        let Ok(permit) = Arc::clone(&self.telling).try_acquire_owned() else { return };
        let now = self.clock.now();
        tokio::spawn(async move {
            let _permit = permit;
            if let Some(callbacks) = config.destination.callbacks() {
                let request = letter.request(now);
                timeout(TELL_WAIT_MAX, callbacks.tell(&request, text)).await.ok();
            }
        });
    }

    /// Counts it, audits it sparingly, and answers. Only who has signed learns what is wrong.
    async fn refuse(&self, label: &str, refusal: &Refusal) -> Problem {
        let reason = refusal.as_str();
        self.counters.refused(label, reason, 1);
        if self.is_news(label, reason) {
            self.audit(AuditEntry {
                at: self.clock.now(),
                who: "callback".to_owned(),
                action: "callback-refused".to_owned(),
                subject: label.to_owned(),
                detail: format!("{reason}; refusals alike are audited once a minute"),
            })
            .await;
        }
        match refusal {
            Refusal::Malformed(_) => {
                let text: String = refusal.to_string().chars().take(300).collect();
                Problem::new(Kind::BadRequest, text)
            }
            Refusal::Signature | Refusal::Stale => {
                let detail = "the signature is wrong, or there is no such destination";
                Problem::new(Kind::BadSignature, detail)
            }
        }
    }

    /// Whether the like was not seen in the last minute.
    pub(super) fn is_news(&self, subject: &str, reason: &'static str) -> bool {
        let now = Instant::now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (subject.to_owned(), reason);
        if told.get(&key).is_some_and(|at| now.duration_since(*at) < SAME_EVERY) {
            return false;
        }
        if told.len() >= REMEMBERED_MAX {
            told.retain(|_, at| now.duration_since(*at) < SAME_EVERY);
        }
        if told.len() >= REMEMBERED_MAX {
            return false;
        }
        told.insert(key, now);
        true
    }
}

impl Letter {
    pub(super) fn new(headers: &HeaderMap, query: String, body: Bytes, certified: bool) -> Self {
        let one = |(name, value): (&header::HeaderName, &HeaderValue)| {
            (name.as_str().to_owned(), value.as_bytes().to_vec())
        };
        Self { headers: headers.iter().map(one).collect(), query, body, certified }
    }

    fn request(&self, now: holdfast_model::Timestamp) -> CallbackRequest<'_> {
        CallbackRequest {
            headers: &self.headers,
            query: &self.query,
            body: &self.body,
            client_certified: self.certified,
            now,
        }
    }
}

fn answer(reply: &CallbackReply) -> Response {
    let content_type = HeaderValue::from_static(reply.content_type);
    ([(header::CONTENT_TYPE, content_type)], reply.body.clone()).into_response()
}

fn busy(detail: &str) -> Problem {
    Problem::new(Kind::QueueFull, detail).retry_after(RETRY_AFTER)
}

fn problem(error: QueueError) -> Problem {
    match error {
        QueueError::Full { .. } | QueueError::DiskFull { .. } | QueueError::TooLarge { .. } => {
            tracing::warn!(error = %Chain(&error), "a callback could not be stored");
            busy("the queue does not take it now")
        }
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_asked_to_come_again() {
        let full = QueueError::Full { bytes_live: 2, bytes_max: 1 };
        let disk = QueueError::DiskFull { bytes_free: 1, bytes_needed: 2 };
        let keys = QueueError::TooLarge { what: "the keys", bytes: 2, bytes_max: 1 };
        for error in [full, disk, keys, QueueError::Closed] {
            let said = format!("{error:?}");
            let answer = problem(error).into_response();
            assert_eq!(answer.status().as_u16(), 503, "{said}");
            assert_eq!(answer.headers()[header::RETRY_AFTER], "5", "{said}");
        }
        let failed = problem(QueueError::Failed { reason: "io".into() }).into_response();
        assert_eq!(failed.status().as_u16(), 500);
    }
}
