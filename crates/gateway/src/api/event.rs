//! How events look outside: DESIGN 9's shape.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use holdfast_model::{EventId, Kind, LogId, Seq, Timestamp};
use holdfast_pipeline::{Path, project};
use holdfast_queue::StoredEvent;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// An event
///
/// An alert has `alert`; other kinds have `data` instead, and what is no alert has `raw`.
#[derive(Serialize, ToSchema)]
#[schema(as = Event, example = json!({"id": "k3v9x0aq2m-42", "seq": 42, "cursor": "ZTQy",
    "kind": "alert", "source": "wazuh", "received_at": "2026-03-10T06:11:28.189Z", "parent": null,
    "alert": {"rule": {"id": "5710", "level": 5, "description": "sshd: non-existent user"}}}))]
pub(crate) struct EventView {
    id: String,
    #[schema(value_type = u64)]
    seq: Seq,
    /// Where to go on behind this event. Opaque.
    cursor: String,
    #[schema(value_type = String, pattern = "^(alert|lookup|callback|canary|operator)$")]
    kind: Kind,
    /// The name of the source that brought it in.
    source: String,
    #[schema(value_type = String, format = DateTime)]
    received_at: Timestamp,
    /// The id of the event that this one is about.
    parent: Option<String>,
    /// Wazuh's JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object, required = false)]
    alert: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = serde_json::Value, required = false)]
    data: Option<Box<RawValue>>,
    /// The record as text, invalid UTF-8 replaced by U+FFFD.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<String>,
}

/// One try
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what a queue's `AttemptNote` looks like")]
pub(crate) struct Attempt {
    /// Which try it was, counted from 1.
    n: u32,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Why it failed in one word, or `delivered`.
    outcome: String,
    /// The status that was answered, if one was.
    status: Option<u16>,
    /// What went wrong, and the beginning of what was answered, secrets masked.
    excerpt: String,
}

impl EventView {
    pub(crate) fn new(log: &LogId, event: &StoredEvent) -> Self {
        let text = String::from_utf8_lossy(&event.body).into_owned();
        // What a source could not take is shown as it came, be it JSON or not.
        let fit = event.kind != Kind::Alert || event.body.trim_ascii_start().starts_with(b"{");
        let json = if fit { RawValue::from_string(text.clone()).ok() } else { None };
        let raw = if json.is_none() { Some(text) } else { None };
        let (alert, data) = if event.kind == Kind::Alert { (json, None) } else { (None, json) };
        Self {
            id: log.event(event.seq).to_string(),
            seq: event.seq,
            cursor: cursor(log, event.seq),
            kind: event.kind,
            source: event.source.to_string(),
            received_at: event.received_at,
            parent: event.parent.as_ref().map(ToString::to_string),
            alert,
            data,
            raw,
        }
    }
}

impl EventView {
    /// The same with these fields of its body alone; all of them when none is named.
    pub(crate) fn with_fields(mut self, fields: &[Path]) -> Self {
        for body in [&mut self.alert, &mut self.data].into_iter().flatten() {
            if fields.is_empty() {
                break;
            }
            let whole = serde_json::from_str(body.get()).unwrap_or_default();
            if let Ok(part) = RawValue::from_string(project(&whole, fields).to_string()) {
                *body = part;
            }
        }
        self
    }
}

/// What cursors of this version begin with.
const CURSOR_VERSION: &str = "1.";

/// Opaque to clients: where to go on behind this event. It names the log, so that one of another
/// queue is noticed, and its own version.
pub(crate) fn cursor(log: &LogId, seq: Seq) -> String {
    URL_SAFE_NO_PAD.encode(format!("{CURSOR_VERSION}{}", log.event(seq)))
}

/// The event behind which a cursor goes on, or what is wrong with it.
pub(crate) fn read_cursor(cursor: &str) -> Result<EventId, &'static str> {
    const NOT_OURS: &str = "it is not one of ours";
    let text = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| NOT_OURS)?;
    let text = String::from_utf8(text).map_err(|_| NOT_OURS)?;
    match text.strip_prefix(CURSOR_VERSION) {
        Some(id) => id.parse().map_err(|_| NOT_OURS),
        None if text.split_once('.').is_some() => Err("it is of another version of Holdfast"),
        None => Err(NOT_OURS),
    }
}
