//! What the callbacks of all vendors have in common: keys, times, shared headers, and who may ask
//! for something to be done.
//!
//! Promises: a request is verified over its raw bytes before anything in it is read; a comparison
//! takes as long for a wrong value as for a right one; with two secrets either is enough, so that
//! they can be changed; what an ignored actor did is not heard of.
//!
//! Does not promise that a request is new: that is known by its delivery id, which the gateway
//! keeps. Where a vendor signs no delivery id, it is a hash of what was signed.

pub(crate) mod keys;
pub(crate) mod own;
#[cfg(test)]
pub(crate) mod tests;

use std::{error::Error, time::Duration};

use holdfast_model::{
    Actor, CallbackRequest, Callbacks, EventId, Heard, Operators, Refusal, Timestamp,
    settings::{Section, Setting},
};
use serde_json::Value;
use sha2::{Digest, Sha256};

pub(crate) use self::keys::Keys;
use crate::vendor;

/// The table of vendors that sign.
pub(crate) const SIGNED: Setting = Setting::optional(
    "callback",
    "{ secret = { file = \"/etc/holdfast/secrets/callback\" } }",
    "Takes what is sent back to `/v1/callbacks/NAME`. `secret` is what it is signed with: a secret, or a list of two while it is changed. `operators` are the ids of those who may ask for an action, by default nobody, within `action_ttl` (\"24h\", 1m to 30d) of the message. What the ids in `ignore` do is not heard of. See docs/callbacks.md.",
);

/// The table of vendors that can only set a header.
pub(crate) const SHARED: Setting = Setting::optional(
    "callback",
    "{ secret = { file = \"/etc/holdfast/secrets/callback\" } }",
    "Takes what is sent back to `/v1/callbacks/NAME`. `secret` is what stands in the header `header` there: a secret, or a list of two while it is changed; `client_certificate = true` demands a certificate that `server.callbacks.client_ca` signed, and needs no secret. `operators`, `action_ttl` and `ignore` are as for other types. See docs/callbacks.md.",
);

const SECRET: Setting = Setting::optional(
    "secret",
    "{ file = \"/etc/holdfast/secrets/callback\" }",
    "What callbacks are verified with. A secret, or a list of two while it is changed.",
);

const HEADER: Setting = Setting::optional(
    "header",
    "\"X-Holdfast-Secret\"",
    "The header that holds the secret. In `Authorization` it stands behind `Bearer`.",
);

const CLIENT_CERTIFICATE: Setting = Setting::new(
    "client_certificate",
    "false",
    "Whether the caller must show a certificate that `server.callbacks.client_ca` signed.",
);

const OPERATORS: Setting = Setting::optional(
    "operators",
    "[\"U0123456789\"]",
    "The vendor's ids of those who may ask for an action. Default: nobody.",
);

const ACTION_TTL: Setting = Setting::new(
    "action_ttl",
    "\"24h\"",
    "How long after a message an action can be asked for, 1m to 30d.",
);

const IGNORE: Setting = Setting::optional(
    "ignore",
    "[\"557058:0b9c\"]",
    "The vendor's ids of those whose doings are not heard of, as Holdfast's own account.",
);

/// Ids in a list of the configuration.
const IDS_MAX: usize = 200;
/// Things that one request may tell of.
const NOTICES_MAX: usize = 16;
/// How far a signed time may be from ours, where a vendor signs the time of each try.
pub(crate) const REPLAY_WINDOW: Duration = Duration::from_secs(300);
/// The same where it signs the time of the happening, and repeats what was not taken: PagerDuty
/// goes on for 48 hours.
pub(crate) const REPEAT_WINDOW: Duration = Duration::from_secs(49 * 3600);

/// One vendor's way.
#[derive(Debug)]
pub(crate) struct Vendor {
    /// Whether the request is the vendor's, by its raw bytes.
    pub(crate) verify: fn(&Callback, &CallbackRequest<'_>) -> Result<(), Refusal>,
    /// What a verified one says.
    pub(crate) read: fn(&CallbackRequest<'_>) -> Result<Heard, Refusal>,
    /// The usual header of a shared secret, in lower case. `None`: the vendor signs.
    pub(crate) shared: Option<&'static str>,
    /// Reports a secret that cannot verify anything.
    pub(crate) judge: fn(&str) -> Result<(), String>,
}

/// A destination's callbacks as they are set up.
#[derive(Debug)]
pub(crate) struct Callback {
    vendor: &'static Vendor,
    pub(crate) keys: Keys,
    header: String,
    certificate: bool,
    operators: Operators,
    ignore: Vec<String>,
}

// === impl Vendor ===

impl Vendor {
    pub(crate) const fn signing(
        verify: fn(&Callback, &CallbackRequest<'_>) -> Result<(), Refusal>,
        read: fn(&CallbackRequest<'_>) -> Result<Heard, Refusal>,
    ) -> Self {
        Self { verify, read, shared: None, judge: |_| Ok(()) }
    }

    /// One whose secret stands in a header as it is.
    pub(crate) const fn sharing(
        header: &'static str,
        read: fn(&CallbackRequest<'_>) -> Result<Heard, Refusal>,
    ) -> Self {
        let verify = |callback: &Callback, request: &CallbackRequest<'_>| callback.shared(request);
        Self { verify, read, shared: Some(header), judge: |_| Ok(()) }
    }
}

// === impl Callback ===

impl Callback {
    /// Reads the table. `None`: a fault was reported; `Some(None)`: it is not set up.
    pub(crate) fn read(section: &Section<'_>, vendor: &'static Vendor) -> Option<Option<Self>> {
        let given = section.has(SIGNED.name);
        let Some(table) = section.table(SIGNED.name) else { return (!given).then_some(None) };
        let shared = vendor.shared.map(|usual| shared_header(&table, usual));
        let certificate = vendor.shared.is_some() && table.bool(&CLIENT_CERTIFICATE);
        let keys = Keys::read(&table, &SECRET, certificate, vendor.judge);
        let operators = vendor::texts(&table, &OPERATORS, IDS_MAX);
        let ttl = Duration::from_secs(60)..=Duration::from_secs(30 * 86_400);
        let action_ttl = table.duration(&ACTION_TTL, ttl);
        let ignore = vendor::texts(&table, &IGNORE, IDS_MAX);
        table.finish();
        let header = match shared {
            Some(header) => header?,
            None => String::new(),
        };
        let operators = Operators { ids: operators?, action_ttl };
        let (keys, ignore) = (keys?, ignore?);
        Some(Some(Self { vendor, keys, header, certificate, operators, ignore }))
    }

    /// What this one does is Holdfast's own work.
    pub(crate) fn ignoring(mut self, actor: Option<String>) -> Self {
        self.ignore.extend(actor);
        self
    }

    pub(crate) fn refresh(&self) -> Result<bool, Box<dyn Error + Send + Sync>> {
        self.keys.refresh()
    }

    /// Whether the header holds the secret, and the connection a certificate if there must be one.
    fn shared(&self, request: &CallbackRequest<'_>) -> Result<(), Refusal> {
        if self.certificate && !request.client_certified {
            return Err(Refusal::Signature);
        }
        if self.certificate && self.keys.is_empty() {
            return Ok(());
        }
        let given = request.header(&self.header).unwrap_or("");
        let given = match self.header.as_str() {
            "authorization" => given.strip_prefix("Bearer ").unwrap_or(given),
            _ => given,
        };
        if self.keys.same(given.as_bytes()) { Ok(()) } else { Err(Refusal::Signature) }
    }
}

impl Callbacks for Callback {
    fn hear(&self, request: &CallbackRequest<'_>) -> Result<Heard, Refusal> {
        (self.vendor.verify)(self, request)?;
        let mut heard = (self.vendor.read)(request)?;
        let ignored = |actor: &Actor| self.ignore.contains(&actor.id);
        heard.notices.retain(|notice| !notice.actor.as_ref().is_some_and(ignored));
        if heard.notices.len() > NOTICES_MAX {
            return Err(malformed(format!("it tells of more than {NOTICES_MAX} things")));
        }
        Ok(heard)
    }

    fn operators(&self) -> Operators {
        self.operators.clone()
    }
}

/// Refreshes one that may not be set up.
pub(crate) fn refresh(callback: Option<&Callback>) -> Result<bool, Box<dyn Error + Send + Sync>> {
    callback.map_or(Ok(false), Callback::refresh)
}

/// For [`holdfast_model::Destination::callbacks`].
pub(crate) fn port(callback: Option<&Callback>) -> Option<&dyn Callbacks> {
    callback.map(|callback| callback as &dyn Callbacks)
}

fn shared_header(table: &Section<'_>, usual: &'static str) -> Option<String> {
    let Some(given) = table.text(&HEADER) else {
        return (!table.has(HEADER.name)).then(|| usual.to_owned());
    };
    let name = vendor::header_name(table, given, &[]);
    name.map(|name| name.as_str().to_owned())
}

pub(crate) fn malformed(problem: impl ToString) -> Refusal {
    Refusal::Malformed(problem.to_string())
}

pub(crate) fn json(bytes: &[u8]) -> Result<Value, Refusal> {
    let value: Value = serde_json::from_slice(bytes).map_err(malformed)?;
    if value.is_object() { Ok(value) } else { Err(malformed("it is not a JSON object")) }
}

/// Whether a signed time is near enough to ours.
pub(crate) fn fresh(at: Timestamp, now: Timestamp, window: Duration) -> Result<(), Refusal> {
    if now.since(at).max(at.since(now)) <= window { Ok(()) } else { Err(Refusal::Stale) }
}

/// Names a delivery that its vendor signs no id of.
pub(crate) fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The event in one of our keys (`<event id>.<lane>…`), or in an id alone.
pub(crate) fn event_of(text: &str) -> Option<EventId> {
    text.split('.').next()?.trim().parse().ok()
}

/// A text, or a number as one; empty when it is neither.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    }
}

/// Somebody by their id and name; nobody without an id.
pub(crate) fn actor(id: &Value, name: &Value) -> Option<Actor> {
    let id = text(id);
    (!id.is_empty()).then(|| Actor { id, name: text(name) })
}

/// The ids that say something, each once, in their order.
pub(crate) fn ids(all: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut ids = Vec::new();
    for id in all {
        if !id.is_empty() && !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids
}
