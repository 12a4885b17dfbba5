//! The summary of a window: an alert like those it stands for, so that every destination can show it.

use std::sync::Arc;

use bytes::Bytes;
use holdfast_model::{Event, Kind, LogId};
use holdfast_queue::{StoredEvent, Window};
use serde_json::{Map, Value, json};

/// The source of a summary. The dot keeps it apart from every source's name.
pub const SUMMARY_SOURCE: &str = "holdfast.digest";

/// Longest text that is taken over from an alert, in characters.
const TEXT_CHARS_MAX: usize = 160;
/// Most items of a list that are taken over.
const ITEMS_MAX: usize = 12;

/// What is taken over from an alert, by the object it stands in.
const FIELDS: &[(&str, &[&str])] = &[
    ("rule", &["id", "level", "description", "groups"]),
    ("agent", &["id", "name", "ip"]),
    ("manager", &["name"]),
    ("decoder", &["name"]),
];

pub fn is_summary(event: &Event) -> bool {
    &*event.source == SUMMARY_SOURCE
}

/// The summary of a window that has ended, under the number of the first event it held back.
pub fn summary(window: &Window, log: &LogId) -> StoredEvent {
    let mut alert: Value = serde_json::from_slice(&window.alert).unwrap_or_default();
    if !alert.is_object() {
        alert = Value::Object(Map::new());
    }
    let described = alert.pointer("/rule/description").and_then(Value::as_str).unwrap_or("alerts");
    let span = humantime::format_duration(window.closes_at.since(window.opened_at));
    let text = format!("{} more like this within {span}: {described}", window.suppressed);
    if !alert["rule"].is_object() {
        alert["rule"] = json!({});
    }
    alert["rule"]["description"] = text.into();
    let samples: Vec<Value> = window
        .samples
        .iter()
        .map(|sample| {
            let at = sample.received_at.to_string();
            json!({"id": log.event(sample.seq).to_string(), "received_at": at, "text": sample.text})
        })
        .collect();
    alert["holdfast"] = json!({"summary": {
        "count": window.suppressed,
        "by": window.by,
        "opened_by": log.event(window.first).to_string(),
        "first_id": log.event(window.first_suppressed).to_string(),
        "last_id": log.event(window.last_suppressed).to_string(),
        "from": window.opened_at.to_string(),
        "to": window.closes_at.to_string(),
        "samples": samples,
    }});
    StoredEvent {
        seq: window.first_suppressed,
        kind: Kind::Alert,
        source: Arc::from(SUMMARY_SOURCE),
        received_at: window.closes_at,
        parent: Some(log.event(window.first)),
        body: Bytes::from(alert.to_string()),
    }
}

/// An alert in brief: what a person recognises it by.
pub(super) fn brief(body: &Value) -> Bytes {
    let mut alert = Map::new();
    for name in ["timestamp", "location"] {
        if let Some(Value::String(text)) = body.get(name) {
            alert.insert(name.into(), clip(text).into());
        }
    }
    for (object, names) in FIELDS {
        let mut taken = Map::new();
        for name in *names {
            if let Some(value) = body.get(object).and_then(|object| object.get(name)) {
                taken.insert((*name).into(), small(value));
            }
        }
        if !taken.is_empty() {
            alert.insert((*object).into(), taken.into());
        }
    }
    Bytes::from(Value::Object(alert).to_string())
}

/// One line about an event.
pub(super) fn line(body: &Value) -> String {
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).unwrap_or("");
    let place = text("/agent/name");
    let described = clip(text("/rule/description"));
    if place.is_empty() { described } else { format!("{described} ({})", clip(place)) }
}

pub(super) fn clip(text: &str) -> String {
    let mut clipped: String = text.chars().take(TEXT_CHARS_MAX).collect();
    if clipped.len() < text.len() {
        clipped.push('…');
    }
    clipped
}

fn small(value: &Value) -> Value {
    match value {
        Value::String(text) => clip(text).into(),
        Value::Array(items) => items.iter().take(ITEMS_MAX).map(small).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        Value::Object(_) => Value::Null,
    }
}
