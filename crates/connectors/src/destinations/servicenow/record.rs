//! An event in ServiceNow's forms. Pure.

use std::collections::BTreeMap;

use holdfast_model::{Member, Timestamp};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::settings::Table;
use crate::message::{self, Message, Severities, clip, one_line};

/// `short_description`, as ServiceNow ships it. What is longer is cut there without a word.
const SHORT_DESCRIPTION_CHARS_MAX: usize = 160;

/// `description`, of records and of events.
const DESCRIPTION_CHARS_MAX: usize = 4000;

/// `correlation_id`, as ServiceNow ships it. A cut one would never be found again.
const CORRELATION_ID_CHARS_MAX: usize = 100;

/// `source`, `node`, `type` and `resource` of an event.
const EVENT_FIELD_CHARS_MAX: usize = 100;

/// One value in an event's `additional_info`.
const INFO_CHARS_MAX: usize = 500;

/// How things are written.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) table: Table,
    pub(super) display: String,
    pub(super) severities: Severities,
    pub(super) fields: BTreeMap<String, String>,
    pub(super) template: message::Template,
}

// === impl Form ===

impl Form {
    /// A new incident.
    pub(super) fn record(&self, message: &Message, key: &str) -> Value {
        let level = self.severities.word(message.severity);
        let mut record = json!({
            "short_description": one_line(&message.title, SHORT_DESCRIPTION_CHARS_MAX),
            "description": self.text(message),
            "impact": level,
            "urgency": level,
            "correlation_id": correlation_id(key),
            "correlation_display": self.display,
        });
        self.overwrite(&mut record);
        record
    }

    /// The row of a staging table: the same, under the names that columns have there.
    pub(super) fn row(&self, message: &Message, key: &str, prefix: &str) -> Value {
        let level = self.severities.word(message.severity);
        let mut row = Map::new();
        let mut put = |name: &str, value: String| {
            row.insert(format!("{prefix}{name}"), value.into());
        };
        put("short_description", one_line(&message.title, SHORT_DESCRIPTION_CHARS_MAX));
        put("description", self.text(message));
        put("impact", level.to_owned());
        put("urgency", level.to_owned());
        put("correlation_id", correlation_id(key));
        put("correlation_display", self.display.clone());
        let mut row = Value::Object(row);
        self.overwrite(&mut row);
        row
    }

    /// An event for Event Management. `closing`: it ends what `key` names.
    pub(super) fn event(
        &self,
        member: &Member,
        message: &Message,
        key: &str,
        closing: bool,
    ) -> Value {
        let short = |text: Option<&str>| {
            let line = one_line(text.unwrap_or(""), EVENT_FIELD_CHARS_MAX);
            if line.is_empty() { "wazuh".to_owned() } else { line }
        };
        let rule = message.rule_id.as_deref().unwrap_or("none");
        let mut event = json!({
            "source": "Wazuh",
            "event_class": self.display,
            "node": short(message.agent_name.as_deref()),
            "resource": short(message.groups.first().map(String::as_str)),
            "metric_name": short(Some(&format!("rule {rule}"))),
            "type": short(message.groups.last().map(String::as_str)),
            "severity": if closing { "5" } else { self.severities.word(message.severity) },
            "message_key": key,
            "description": self.text(message),
            "time_of_event": time_of_event(member, message),
            "resolution_state": if closing { "Closing" } else { "New" },
            "additional_info": additional_info(message),
        });
        self.overwrite(&mut event);
        event
    }

    /// What an open incident is told about one more event.
    pub(super) fn note(&self, message: &Message) -> Value {
        json!({ "work_notes": self.text(message) })
    }

    /// The text and, as its last line, which event it is, by which a lost answer is recognised.
    fn text(&self, message: &Message) -> String {
        let text = self.template.render(message).unwrap_or_else(|| message.plain());
        let last = event_line(message);
        let text = text.trim_end().trim_end_matches(&last).trim_end();
        let room = DESCRIPTION_CHARS_MAX.saturating_sub(last.chars().count() + 2);
        format!("{}\n\n{last}", clip(text, room))
    }

    fn overwrite(&self, record: &mut Value) {
        for (name, value) in &self.fields {
            record[name] = value.as_str().into();
        }
    }
}

pub(super) fn event_line(message: &Message) -> String {
    format!("Event {}", message.id)
}

/// The key itself where it fits and no part of it means anything in a query.
pub(super) fn correlation_id(key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if key.chars().count() <= CORRELATION_ID_CHARS_MAX && key.chars().all(plain) {
        return key.to_owned();
    }
    Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `yyyy-MM-dd HH:mm:ss` in UTC.
fn time_of_event(member: &Member, message: &Message) -> String {
    let at = Timestamp::parse(&message.at).unwrap_or(member.event.received_at).to_string();
    at.chars().take(19).map(|c| if c == 'T' { ' ' } else { c }).collect()
}

/// JSON in a text; its values are texts only.
fn additional_info(message: &Message) -> String {
    let mut info = Map::new();
    let mut put = |name: &str, value: &str| {
        if !value.is_empty() {
            info.insert(name.to_owned(), one_line(value, INFO_CHARS_MAX).into());
        }
    };
    put("rule_id", message.rule_id.as_deref().unwrap_or(""));
    put("level", &message.level.map(|level| level.to_string()).unwrap_or_default());
    put("severity", message.severity.as_str());
    put("agent_id", message.agent_id.as_deref().unwrap_or(""));
    put("groups", &message.groups.join(","));
    put("event", &message.id);
    put("holdfast_key", &message.key);
    Value::Object(info).to_string()
}
