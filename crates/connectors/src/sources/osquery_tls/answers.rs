//! What each request is answered with.
//!
//! Whatever is refused has an `error` or `node_invalid` in its body, because osqueryd takes
//! everything else for success, whatever the status.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::SystemTime,
};

use axum::{
    Json, Router,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use holdfast_model::{Chain, Intake, IntakeError};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{
    super::SourceHealth,
    bodies::{BadBody, Budget, Taken},
    keys::{Keys, Node},
    listen::Peer,
    logs::{self, Line, Origin, Recent},
    settings::Options,
};
use crate::fleet::{Fleet, Reply};

/// Largest request that is no log and no answer to a query.
const SMALL_BYTES_MAX: usize = 256 * 1024;
/// Longest `host_identifier` and host name, in characters.
const NAME_CHARS_MAX: usize = 255;
/// For so long a host asks every few seconds when there was a question for it.
const ACCELERATE_SECONDS: u32 = 60;

/// Enrolments, and requests that are refused for their key or secret, of one address.
const STRANGERS: Quota = Quota::per_second(TEN);
/// Requests of one host.
const REQUESTS: Quota = Quota::per_second(TEN).allow_burst(BURST);
const TEN: NonZeroU32 = NonZeroU32::new(10).expect("it is not zero");
const BURST: NonZeroU32 = NonZeroU32::new(60).expect("it is not zero");
/// Addresses and hosts that are remembered; then those are forgotten that have been quiet.
const LIMITED_MAX: usize = 20_000;

/// What requests are answered with.
pub(super) struct Door {
    source: Arc<str>,
    options: Arc<Options>,
    intake: Arc<dyn Intake>,
    pub(super) health: Arc<SourceHealth>,
    fleet: Arc<Fleet>,
    keys: Keys,
    budget: Budget,
    recent: Mutex<Recent>,
    strangers: DefaultKeyedRateLimiter<IpAddr>,
    requests: DefaultKeyedRateLimiter<String>,
}

/// Why a request is not answered as it wished.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the enroll secret is wrong")]
    Secret,
    #[error("the node key is not known")]
    NodeInvalid,
    #[error("there is no room for one more host")]
    Full,
    #[error("too many requests")]
    TooMany,
    #[error("the request makes no sense: {0}")]
    Syntax(String),
    #[error("files are not carved here")]
    Carving,
    #[error("there is no such endpoint")]
    NoEndpoint,
    #[error("{0}")]
    Body(#[from] BadBody),
    #[error("nothing can be taken just now; send it again")]
    NotTaken,
    #[error("the configuration cannot be read")]
    Config,
}

#[derive(Deserialize)]
struct Enroll {
    #[serde(default)]
    enroll_secret: String,
    #[serde(default)]
    host_identifier: String,
    #[serde(default)]
    host_details: Value,
}

#[derive(Deserialize)]
struct Keyed {
    #[serde(default)]
    node_key: String,
}

#[derive(Deserialize)]
struct Log<'a> {
    #[serde(default)]
    node_key: String,
    #[serde(default)]
    log_type: String,
    #[serde(borrow, default)]
    data: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Written {
    #[serde(default)]
    node_key: String,
    #[serde(default)]
    queries: BTreeMap<String, Value>,
    #[serde(default)]
    statuses: BTreeMap<String, Value>,
    #[serde(default)]
    messages: BTreeMap<String, Value>,
}

pub(super) fn router(door: Arc<Door>) -> Router {
    Router::new().fallback(answer).with_state(door)
}

async fn answer(State(door): State<Arc<Door>>, request: Request) -> Response {
    let peer = request.extensions().get::<Peer>().map_or(Ipv6Addr::UNSPECIFIED.into(), |p| p.0);
    match door.answer(peer, request).await {
        Ok(said) => Json(said).into_response(),
        Err(refusal) => {
            door.health.refused.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(source = %door.source, %peer, %refusal, "a request was refused");
            refusal.into_response()
        }
    }
}

fn read<'a, T: Deserialize<'a>>(body: &'a Taken) -> Result<T, Refusal> {
    serde_json::from_slice(&body.bytes).map_err(|error| Refusal::Syntax(error.to_string()))
}

fn name(text: &str) -> Option<&str> {
    let text = text.trim();
    let fits = (1..=NAME_CHARS_MAX).contains(&text.chars().count());
    (fits && !text.chars().any(char::is_control)).then_some(text)
}

// === impl Refusal ===

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            // As the reference server of osquery does.
            Self::Secret | Self::NodeInvalid => StatusCode::OK,
            Self::Full | Self::NotTaken => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::Syntax(_) => StatusCode::BAD_REQUEST,
            Self::Carving => StatusCode::FORBIDDEN,
            Self::NoEndpoint => StatusCode::NOT_FOUND,
            Self::Body(bad) => bad.status(),
            Self::Config => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn into_response(self) -> Response {
        let body = match self {
            Self::Secret | Self::NodeInvalid => json!({ "node_invalid": true }),
            _ => json!({ "error": self.to_string() }),
        };
        (self.status(), Json(body)).into_response()
    }
}

// === impl Door ===

impl Door {
    pub(super) fn new(
        source: Arc<str>,
        options: Arc<Options>,
        intake: Arc<dyn Intake>,
        health: Arc<SourceHealth>,
        fleet: Arc<Fleet>,
        keys: Keys,
    ) -> Self {
        let budget = Budget::new(options.body_bytes_max);
        let (strangers, requests) = (RateLimiter::keyed(STRANGERS), RateLimiter::keyed(REQUESTS));
        let recent = Mutex::default();
        Self { source, options, intake, health, fleet, keys, budget, recent, strangers, requests }
    }

    async fn answer(&self, peer: IpAddr, request: Request) -> Result<Value, Refusal> {
        let (head, body) = request.into_parts();
        if head.method != Method::POST {
            return Err(Refusal::NoEndpoint);
        }
        let path = head.uri.path();
        let limit = match path {
            "/log" | "/distributed_write" => usize::MAX,
            "/enroll" | "/config" | "/distributed_read" => SMALL_BYTES_MAX,
            "/carve_init" | "/carve_block" => return Err(Refusal::Carving),
            _ => return Err(Refusal::NoEndpoint),
        };
        let body = self.budget.read(&head.headers, body, limit).await?;
        match path {
            "/enroll" => self.enroll(peer, &body),
            "/config" => {
                let Keyed { node_key } = read(&body)?;
                self.node(peer, &node_key)?;
                self.config().await
            }
            "/log" => self.log(peer, &body).await,
            "/distributed_read" => {
                let Keyed { node_key } = read(&body)?;
                let node = self.node(peer, &node_key)?;
                Ok(self.questions(&node))
            }
            _ => self.written(peer, &body),
        }
    }

    /// Whose request it is. A stranger's is counted against its address.
    fn node(&self, peer: IpAddr, key: &str) -> Result<Node, Refusal> {
        let Some(node) = self.keys.verify(key) else {
            self.stranger(peer)?;
            return Err(Refusal::NodeInvalid);
        };
        if self.requests.len() > LIMITED_MAX {
            self.requests.retain_recent();
        }
        self.requests.check_key(&node.id).map_err(|_| Refusal::TooMany)?;
        if !self.fleet.heard(&node.id, &node.host, peer) {
            return Err(Refusal::Full);
        }
        Ok(node)
    }

    fn stranger(&self, peer: IpAddr) -> Result<(), Refusal> {
        if self.strangers.len() > LIMITED_MAX {
            self.strangers.retain_recent();
        }
        self.strangers.check_key(&network(peer)).map_err(|_| Refusal::TooMany)
    }

    fn enroll(&self, peer: IpAddr, body: &Taken) -> Result<Value, Refusal> {
        self.stranger(peer)?;
        let asked: Enroll = read(body)?;
        let secret = self.options.enroll_secret.current();
        if !self.keys.same(secret.expose(), &asked.enroll_secret) {
            tracing::warn!(source = %self.source, %peer, "a host showed a wrong enroll secret");
            return Err(Refusal::Secret);
        }
        let unnamed = || Refusal::Syntax("`host_identifier` is missing, or no name".to_owned());
        let id = name(&asked.host_identifier).ok_or_else(unnamed)?;
        let said = asked.host_details["system_info"]["hostname"].as_str().and_then(name);
        let host = said.unwrap_or(id);
        if !self.fleet.heard(id, host, peer) {
            return Err(Refusal::Full);
        }
        let key = self.keys.issue(id, host).ok_or(Refusal::NotTaken)?;
        tracing::info!(source = %self.source, %peer, id, host, "a host enrolled");
        Ok(json!({ "node_key": key, "node_invalid": false }))
    }

    async fn config(&self) -> Result<Value, Refusal> {
        let options = Arc::clone(&self.options);
        let read = tokio::task::spawn_blocking(move || options.config.read()).await;
        let Ok(Ok(mut config)) = read.map(|read| {
            read.inspect_err(|error| {
                tracing::error!(source = %self.source, error = %Chain(error), "no configuration is handed out");
            })
        }) else {
            return Err(Refusal::Config);
        };
        config.insert("node_invalid".to_owned(), false.into());
        Ok(config.into())
    }

    async fn log(&self, peer: IpAddr, body: &Taken) -> Result<Value, Refusal> {
        let log: Log<'_> = read(body)?;
        let node = self.node(peer, &log.node_key)?;
        let is_status = match log.log_type.as_str() {
            "result" | "snapshot" => false,
            "status" => true,
            _ => return Err(Refusal::Syntax("`log_type` is neither result nor status".to_owned())),
        };
        let line_bytes_max = self.options.line_bytes_max;
        let origin = Origin { node: &node, address: peer, is_status, line_bytes_max };
        let lines = origin.lines(&log.data);
        let sent = lines.len();
        let lines = self.recent().unknown(lines);
        if lines.len() < sent {
            let known = sent - lines.len();
            tracing::info!(source = %self.source, host = node.host, known, "lines came again");
        }
        self.take(lines).await?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.health.read_at(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), 0, 0);
        Ok(json!({ "node_invalid": false }))
    }

    /// Returns once all lines are on stable storage.
    async fn take(&self, mut lines: Vec<Line>) -> Result<(), Refusal> {
        let (mut from, mut size) = (0, lines.len());
        while from < lines.len() {
            let to = lines.len().min(from + size);
            match self.intake.append(&self.source, logs::batch(&lines[from..to])).await {
                Ok(_) => {
                    self.recent().remember(&lines[from..to]);
                    from = to;
                }
                Err(IntakeError::TooLarge { .. }) if to - from > 1 => {
                    size = (to - from).div_ceil(2)
                }
                Err(IntakeError::TooLarge { .. }) if lines[from].shrink() => {}
                Err(error) => {
                    self.health.set_trouble(format!("nothing is taken in: {}", Chain(&error)));
                    return Err(Refusal::NotTaken);
                }
            }
        }
        self.health.clear_trouble();
        Ok(())
    }

    fn questions(&self, node: &Node) -> Value {
        let questions: BTreeMap<_, _> = self.fleet.questions(&node.id).into_iter().collect();
        let mut said = json!({ "queries": questions, "node_invalid": false });
        if !questions.is_empty() {
            said["accelerate"] = ACCELERATE_SECONDS.into();
        }
        said
    }

    fn written(&self, peer: IpAddr, body: &Taken) -> Result<Value, Refusal> {
        let written: Written = read(body)?;
        let node = self.node(peer, &written.node_key)?;
        for (id, rows) in written.queries {
            // Old versions write numbers as texts.
            let status = match written.statuses.get(&id) {
                Some(Value::Number(number)) => number.as_i64().unwrap_or(1),
                Some(Value::String(text)) => text.parse().unwrap_or(1),
                _ => 0,
            };
            let message = written.messages.get(&id).and_then(Value::as_str).unwrap_or_default();
            let rows = match rows {
                Value::Array(rows) => rows,
                _ => Vec::new(),
            };
            let reply = Reply { status, message: message.to_owned(), rows };
            if !self.fleet.answer(&node.id, &id, reply) {
                tracing::debug!(source = %self.source, host = node.host, id, "an answer that nobody waits for");
            }
        }
        Ok(json!({ "node_invalid": false }))
    }

    fn recent(&self) -> std::sync::MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of an IPv6 address the network, which one machine has as many addresses of as it likes.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}
