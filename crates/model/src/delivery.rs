//! What a lane hands to a destination, and what comes back.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    callback::Callbacks,
    event::{Event, EventId},
    lane::DeadReason,
    name::Name,
    notebook::Notebook,
};

/// Longest piece of an answer that is kept with an attempt, in bytes.
pub const EXCERPT_BYTES_MAX: usize = 4096;

/// Most answers of a lookup to one event.
pub const ANSWERS_MAX: usize = 16;

/// One event on its way to one destination.
#[derive(Clone, Debug)]
pub struct Member {
    pub id: EventId,
    /// What the destination dedupes by; the same for every try. See [`crate::delivery_key`].
    pub key: String,
    pub event: Arc<Event>,
    /// Which try this is, counted from 1, across restarts.
    pub attempt: u32,
    /// An earlier try may have arrived: it was sent and never answered, or, where the destination
    /// can search, answered with a fault that may have come behind the work.
    pub in_doubt: bool,
    /// The event that this one is about. An alert has none.
    pub parent: Option<Arc<Parent>>,
    /// What lookups said of it before it was sent, in the order of the lane's `enrich`.
    pub enrichments: Vec<Enrichment>,
}

/// The event that another one is about, as seen from one destination.
#[derive(Clone, Debug)]
pub struct Parent {
    pub id: EventId,
    /// What this destination dedupes the parent by.
    pub key: String,
    /// What this destination's remote system called the thing it made of the parent.
    pub remote_id: Option<String>,
    /// The parent itself, while the log has it.
    pub event: Option<Arc<Event>>,
}

/// What one lookup said of an event on its way to a destination.
#[derive(Clone, Debug)]
pub struct Enrichment {
    /// The lookup's destination.
    pub lookup: Name,
    /// The bodies of its answers, or why there are none, for people.
    pub answers: Result<Vec<Bytes>, String>,
}

/// What one attempt sends: one event, or the members of one batch in order.
#[derive(Clone, Debug)]
pub struct Shipment {
    pub members: Vec<Member>,
}

/// What the remote system answered when it took an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    pub status: Option<u16>,
    /// The remote system's own id for the thing it made (ticket key, case id, message ts).
    pub remote_id: Option<String>,
    /// The remote system already had it: an earlier try arrived after all.
    pub duplicate: bool,
    /// What a lookup answered: bodies of events of kind `lookup`, whose parent is the event that was
    /// sent. They enter the log in the same step as the settlement. At most [`ANSWERS_MAX`].
    #[serde(skip)]
    pub answers: Vec<Bytes>,
}

/// The end of an attempt in which the destination answered.
#[derive(Debug)]
pub enum Delivered {
    /// Every member was taken.
    All(Receipt),
    /// One result a member, in the shipment's order.
    Each(Vec<Result<Receipt, DeliveryError>>),
}

/// Somewhere an event can be sent.
#[async_trait]
pub trait Destination: Send + Sync + fmt::Debug {
    /// Sends the shipment once.
    ///
    /// Never retries, waits, settles or drops: the lane owns those decisions, so they are made the
    /// same way for every destination.
    async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError>;

    /// Asks the remote system whether our credentials still work, where it has such a call.
    /// `None`: it has none, and a lane must find out with an event.
    async fn check(&self) -> Option<Result<(), DeliveryError>> {
        None
    }

    /// How long this destination's search may miss what was just made there. An event that may
    /// have arrived is tried again no earlier, and then searched for. `None`: it does not search,
    /// or its remote system dedupes.
    fn search_lag(&self) -> Option<Duration> {
        None
    }

    /// Reads secrets that live in files anew. Says whether one of them changed.
    fn refresh_secrets(&self) -> Result<bool, Box<dyn Error + Send + Sync>> {
        Ok(false)
    }

    /// Whether its receipts carry answers, which enter the log as events of kind `lookup`.
    fn is_lookup(&self) -> bool {
        false
    }

    /// Whether what it does can come back as an alert of Wazuh's. Its lane then takes no alert that
    /// came of an injected event, unless the operator says so.
    fn acts_on_wazuh(&self) -> bool {
        false
    }

    /// Gives it its notebook, before anything else is asked of it. Without one, as for `check` and
    /// `render`, it remembers nothing.
    fn keep_in(&self, _notebook: Arc<dyn Notebook>) {}

    /// Tells a lookup, at start, of an answer of its own that is in the log, so that it need not
    /// ask again.
    fn recall(&self, _answer: &Event) {}

    /// How its remote system's callbacks are verified and read, where it is set up to call back.
    fn callbacks(&self) -> Option<&dyn Callbacks> {
        None
    }

    /// How often since the last call a template of the operator's erred, so that the default was
    /// sent.
    fn take_template_errors(&self) -> u64 {
        0
    }
}

/// Why an attempt did not end in a receipt: one variant for each thing a lane does differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Nothing was sent: the name did not resolve.
    Dns,
    /// Nothing was sent: no connection.
    Connect,
    /// Nothing was sent: the TLS handshake failed for a passing cause.
    Tls,
    /// It was sent, or may have been, and no answer came.
    InDoubt,
    /// 5xx, 408, 425: it may succeed unchanged later.
    ServerFault,
    /// 429, or the vendor's own word for it.
    Throttled,
    /// 401: the credentials are bad.
    Unauthorized,
    /// 403: either the credentials or this one event's content.
    Forbidden,
    /// Every event would fail the same way: 402, 404, 407, 410 on a fixed URL, a redirect, a
    /// certificate that is not trusted, a template that does not compile.
    Misconfigured,
    /// This event will never be taken as it is.
    Refused,
    /// 413: fewer or smaller events may be taken.
    TooLarge,
    /// A success status with a body that says otherwise or makes no sense.
    BadAnswer,
    /// The body could not be made from this event.
    Render,
}

/// Why an attempt failed, with what a person needs to see.
#[derive(Debug)]
pub struct DeliveryError {
    pub reason: Reason,
    pub status: Option<u16>,
    /// How long the remote system asked us to stay away.
    pub retry_after: Option<Duration>,
    /// The beginning of what it answered, at most [`EXCERPT_BYTES_MAX`].
    pub excerpt: String,
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

// === impl Member ===

impl Member {
    /// The first try of an event that is about no other.
    pub fn first(id: EventId, key: String, event: Arc<Event>) -> Self {
        Self { id, key, event, attempt: 1, in_doubt: false, parent: None, enrichments: Vec::new() }
    }
}

// === impl Shipment ===

impl Shipment {
    /// The one member, for a destination that takes one event a request.
    ///
    /// # Errors
    ///
    /// `Render`: there are none or several, which no lane sends to a type without batches.
    pub fn only(&self) -> Result<&Member, DeliveryError> {
        match self.members.as_slice() {
            [only] => Ok(only),
            _ => Err(DeliveryError::new(Reason::Render)),
        }
    }

    /// The idempotency key of the whole: a single member's own, or `b-` and the SHA-256 over the
    /// members' keys in order.
    pub fn key(&self) -> String {
        if let Ok(only) = self.only() {
            return only.key.clone();
        }
        let mut hash = Sha256::new();
        for member in &self.members {
            hash.update(member.key.as_bytes());
            hash.update(b"\n");
        }
        format!("b-{}", hex::encode(hash.finalize()))
    }
}

// === impl Reason ===

impl Reason {
    pub const ALL: [Self; 13] = [
        Self::Dns,
        Self::Connect,
        Self::Tls,
        Self::InDoubt,
        Self::ServerFault,
        Self::Throttled,
        Self::Unauthorized,
        Self::Forbidden,
        Self::Misconfigured,
        Self::Refused,
        Self::TooLarge,
        Self::BadAnswer,
        Self::Render,
    ];

    /// The value of the metric label `reason`, and the word in logs and attempts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::InDoubt => "timeout",
            Self::ServerFault => "server_error",
            Self::Throttled => "rate_limited",
            Self::Unauthorized => "auth",
            Self::Forbidden => "forbidden",
            Self::Misconfigured => "wrong_setting",
            Self::Refused => "client_error",
            Self::TooLarge => "too_large",
            Self::BadAnswer => "body_error",
            Self::Render => "render",
        }
    }

    /// Whether the same event may be taken unchanged later.
    pub fn is_transient(self) -> bool {
        match self {
            Self::Dns | Self::Connect | Self::Tls | Self::InDoubt => true,
            Self::ServerFault | Self::Throttled | Self::BadAnswer => true,
            Self::Unauthorized | Self::Forbidden | Self::Misconfigured => false,
            Self::Refused | Self::TooLarge | Self::Render => false,
        }
    }

    /// Why an event is dead after this, if this alone kills it.
    pub fn dead_reason(self) -> Option<DeadReason> {
        match self {
            Self::Refused => Some(DeadReason::Refused),
            Self::TooLarge => Some(DeadReason::TooLarge),
            Self::Render => Some(DeadReason::Render),
            Self::Forbidden => Some(DeadReason::Forbidden),
            Self::Dns | Self::Connect | Self::Tls | Self::InDoubt | Self::ServerFault => None,
            Self::Throttled | Self::BadAnswer | Self::Unauthorized | Self::Misconfigured => None,
        }
    }
}

// === impl DeliveryError ===

impl DeliveryError {
    pub fn new(reason: Reason) -> Self {
        Self { reason, status: None, retry_after: None, excerpt: String::new(), source: None }
    }

    pub fn caused_by(reason: Reason, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: Some(source.into()), ..Self::new(reason) }
    }

    pub fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    pub fn with_excerpt(mut self, excerpt: impl Into<String>) -> Self {
        self.excerpt = excerpt.into();
        self
    }
}

impl fmt::Display for DeliveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.reason {
            Reason::Dns => "the name does not resolve",
            Reason::Connect => "no connection",
            Reason::Tls => "the TLS handshake failed",
            Reason::InDoubt => "it was sent, but no answer came",
            Reason::ServerFault => "the destination failed",
            Reason::Throttled => "the destination asked us to slow down",
            Reason::Unauthorized => "the destination refused our credentials",
            Reason::Forbidden => "the destination forbids it",
            Reason::Misconfigured => "the destination cannot be used as it is set up",
            Reason::Refused => "the destination refused the event",
            Reason::TooLarge => "the destination finds it too large",
            Reason::BadAnswer => "the destination's answer makes no sense",
            Reason::Render => "the message could not be made",
        };
        f.write_str(text)?;
        match self.status {
            Some(status) => write!(f, " (status {status})"),
            None => Ok(()),
        }
    }
}

impl Error for DeliveryError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as &(dyn Error + 'static))
    }
}
