//! An event in TheHive's form. Pure.

use std::{collections::BTreeSet, net::IpAddr};

use holdfast_model::{Member, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::message::{self, Message, Severities, clip, one_line};

/// `title`; ours are shorter.
const TITLE_CHARS_MAX: usize = 512;

/// `description`.
const DESCRIPTION_CHARS_MAX: usize = 1_048_576;

/// `sourceRef`, and each of `tags`.
const SHORT_CHARS_MAX: usize = 128;

/// What stands before the event's id in a tag, which cases inherit from their alerts.
pub(super) const EVENT_TAG: &str = "holdfast:";

/// An observable's `data`. A longer one would be another one when cut, so it is left out.
const DATA_CHARS_MAX: usize = 4096;

/// What an event holds that can be looked up, by TheHive's types that every instance has.
const FIELDS: &[(&str, &str)] = &[
    ("ip", "/data/srcip"),
    ("ip", "/data/src_ip"),
    ("ip", "/data/dstip"),
    ("ip", "/data/dest_ip"),
    ("ip", "/data/win/eventdata/ipAddress"),
    ("ip", "/data/win/eventdata/destinationIp"),
    ("ip", "/data/aws/sourceIPAddress"),
    ("ip", "/data/aws/source_ip_address"),
    ("ip", "/data/office365/ClientIP"),
    ("ip", "/source/ip"),
    ("ip", "/destination/ip"),
    ("hash", "/syscheck/sha256_after"),
    ("hash", "/syscheck/sha1_after"),
    ("hash", "/syscheck/md5_after"),
    ("hash", "/data/virustotal/source/sha1"),
    ("hash", "/data/virustotal/source/md5"),
    ("filename", "/syscheck/path"),
    ("filename", "/data/virustotal/source/file"),
    ("filename", "/data/audit/file/name"),
    ("filename", "/file/path"),
    ("url", "/data/url"),
];

/// How alerts are written.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) alert_type: String,
    pub(super) source: String,
    pub(super) tlp: usize,
    pub(super) pap: usize,
    /// Version 4.
    pub(super) old: bool,
    pub(super) severities: Severities,
    pub(super) template: message::Template,
}

// === impl Form ===

impl Form {
    pub(super) fn alert(&self, member: &Member, observables: bool) -> Value {
        let message = Message::of(member);
        let text = self.template.render(&message).unwrap_or_else(|| description(&message));
        let text = if text.trim().is_empty() { message.title.clone() } else { text };
        let at = Timestamp::parse(&message.at).unwrap_or(member.event.received_at);
        let severity: u8 = self.severities.word(message.severity).parse().unwrap_or(2);
        let mut alert = json!({
            "type": self.alert_type,
            "source": self.source,
            "sourceRef": source_ref(&message.key),
            "title": one_line(&message.title, TITLE_CHARS_MAX),
            "description": clip(&text, DESCRIPTION_CHARS_MAX),
            "severity": severity,
            "date": at.0,
            "tlp": self.tlp,
            "pap": self.pap,
            "tags": tags(&message),
        });
        let found = if observables { self.observables(&message.alert) } else { Vec::new() };
        if !found.is_empty() {
            alert[self.observables_field()] = found.into();
        }
        alert
    }

    /// Takes the observables out. Says whether there were any.
    pub(super) fn strip(&self, alert: &mut Value) -> bool {
        let alert = alert.as_object_mut();
        alert.is_some_and(|alert| alert.remove(self.observables_field()).is_some())
    }

    fn observables_field(&self) -> &'static str {
        if self.old { "artifacts" } else { "observables" }
    }

    /// Each once: TheHive refuses an alert that has one twice.
    fn observables(&self, alert: &Value) -> Vec<Value> {
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for (kind, pointer) in FIELDS {
            let given = alert.pointer(pointer).and_then(Value::as_str);
            let Some(data) = given.and_then(|text| datum(kind, text)) else { continue };
            if seen.insert((*kind, data.clone())) {
                let field = pointer.trim_start_matches('/').replace('/', ".");
                let mut observable = json!({
                    "dataType": kind, "data": data, "message": field, "tlp": self.tlp,
                });
                if !self.old {
                    observable["pap"] = self.pap.into();
                }
                found.push(observable);
            }
        }
        found
    }
}

/// The value in one spelling, if it is of that type.
fn datum(kind: &str, text: &str) -> Option<String> {
    let text = text.trim();
    let plain = !text.is_empty()
        && text.chars().count() <= DATA_CHARS_MAX
        && !text.chars().any(char::is_control);
    if !plain {
        return None;
    }
    match kind {
        "ip" => text.parse::<IpAddr>().ok().map(|ip| ip.to_string()),
        "hash" => {
            let is_hash =
                matches!(text.len(), 32 | 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit());
            is_hash.then(|| text.to_ascii_lowercase())
        }
        "url" => {
            let is_url = text.starts_with("http://") || text.starts_with("https://");
            is_url.then(|| text.to_owned())
        }
        _ => Some(text.to_owned()),
    }
}

/// The key itself where it fits. A cut one could be another event's.
fn source_ref(key: &str) -> String {
    if key.chars().count() <= SHORT_CHARS_MAX {
        return key.to_owned();
    }
    Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn tags(message: &Message) -> BTreeSet<String> {
    let event = format!("{EVENT_TAG}{}", message.id);
    let mut tags = BTreeSet::from(["wazuh".to_owned(), event]);
    let mut add = |name: &str, value: &str| {
        let tag = one_line(&format!("{name}{value}"), SHORT_CHARS_MAX);
        if !value.trim().is_empty() && !tag.is_empty() {
            tags.insert(tag);
        }
    };
    add("rule:", message.rule_id.as_deref().unwrap_or(""));
    add("agent:", message.agent_name.as_deref().unwrap_or(""));
    for group in &message.groups {
        add("", group);
    }
    if let Some(techniques) = message.alert.pointer("/rule/mitre/id").and_then(Value::as_array) {
        for technique in techniques.iter().filter_map(Value::as_str) {
            add("mitre:", technique);
        }
    }
    tags
}

/// Markdown: a table of facts and the log as it is.
fn description(message: &Message) -> String {
    let mut text = format!("**{}**\n\n", escape(&message.title));
    text.push_str("| Field | Value |\n|---|---|\n");
    text.push_str(&format!("| Level | {} |\n", escape(&message.level_text())));
    for fact in &message.facts {
        text.push_str(&format!("| {} | {} |\n", fact.name, escape(&fact.value)));
    }
    if let Some(log) = &message.log {
        let fence = "`".repeat(longest_run_of_ticks(log).max(2) + 1);
        text.push_str(&format!("\n{fence}\n{log}\n{fence}\n"));
    }
    text.push_str(&format!("\nEvent {}\n", escape(&message.id)));
    text
}

/// So that Markdown shows what is there.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if "\\`*_[]<>|~#&!".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

fn longest_run_of_ticks(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}
