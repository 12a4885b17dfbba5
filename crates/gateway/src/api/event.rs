//! How events look outside: DESIGN 9's shape.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use holdfast_model::{Kind, LogId, Seq, Timestamp};
use holdfast_queue::StoredEvent;
use serde::Serialize;
use serde_json::value::RawValue;

/// `{"id","seq","cursor","kind","source","received_at","parent","alert":{…}}`; other kinds have
/// `data` instead of `alert`, and a record that is no JSON has `raw`.
#[derive(Serialize)]
pub(crate) struct EventView {
    id: String,
    seq: Seq,
    cursor: String,
    kind: Kind,
    source: String,
    received_at: Timestamp,
    parent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alert: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    /// The record as text, invalid UTF-8 replaced by U+FFFD.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<String>,
}

impl EventView {
    pub(crate) fn new(log: &LogId, event: &StoredEvent) -> Self {
        let text = String::from_utf8_lossy(&event.body).into_owned();
        let (json, raw) = match RawValue::from_string(text) {
            Ok(json) => (Some(json), None),
            Err(_) => (None, Some(String::from_utf8_lossy(&event.body).into_owned())),
        };
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

/// Opaque to clients: where to go on behind this event. It names the log, so that one of another
/// queue is noticed.
pub(crate) fn cursor(log: &LogId, seq: Seq) -> String {
    URL_SAFE_NO_PAD.encode(log.event(seq).to_string())
}
