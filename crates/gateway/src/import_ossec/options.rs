//! `<options>`: JSON that Wazuh's scripts merge into what they send. Pure.

use serde_json::{Map, Value};

use super::table::{Table, plain};

/// Parts of names of what is likely to be a secret.
const SECRETIVE: [&str; 7] =
    ["secret", "token", "passw", "api_key", "apikey", "authorization", "credential"];

/// `slack.py`'s attachment, in its order.
const SLACK: [(&str, &str); 6] = [
    (
        "color",
        "{{ (\"good\" if alert.rule.level <= 4 else \"warning\" if alert.rule.level <= 7 else \"danger\") | tojson }}",
    ),
    ("pretext", "\"WAZUH Alert\""),
    ("title", "{{ (alert.rule.description or \"N/A\") | tojson }}"),
    ("text", "{{ (alert.full_log or none) | tojson }}"),
    (
        "fields",
        "[{% if alert.agent %}{\"title\":\"Agent\",\"value\":{{ (\"(\" ~ alert.agent.id ~ \") - \" ~ alert.agent.name) | tojson }}},{% endif %}{% if alert.agentless %}{\"title\":\"Agentless Host\",\"value\":{{ alert.agentless.host | tojson }}},{% endif %}{\"title\":\"Location\",\"value\":{{ (alert.location or \"\") | tojson }}},{\"title\":\"Rule ID\",\"value\":{{ (alert.rule.id ~ \" _(Level \" ~ alert.rule.level ~ \")_\") | tojson }}}]",
    ),
    ("ts", "{{ (alert.id or none) | tojson }}"),
];

/// `shuffle.py`'s body, in its order.
const SHUFFLE: [(&str, &str); 8] = [
    ("severity", "{{ 1 if alert.rule.level <= 4 else 2 if alert.rule.level <= 7 else 3 }}"),
    ("pretext", "\"WAZUH Alert\""),
    ("title", "{{ (alert.rule.description or \"N/A\") | tojson }}"),
    ("text", "{{ (alert.full_log or none) | tojson }}"),
    ("rule_id", "{{ (alert.rule.id or none) | tojson }}"),
    ("timestamp", "{{ (alert.timestamp or none) | tojson }}"),
    ("id", "{{ (alert.id or none) | tojson }}"),
    ("all_fields", "{{ alert | tojson }}"),
];

/// The options of a block, without what must not be shown.
#[derive(Debug, Default)]
pub(super) struct Options {
    shown: Map<String, Value>,
    routing_key: Option<String>,
}

/// Whether PagerDuty knows the word.
pub(super) fn is_severity(word: &str) -> bool {
    ["info", "warning", "error", "critical"].contains(&word)
}

/// A text as a template that prints it.
pub(super) fn escaped(text: &str) -> String {
    text.replace('{', "{{ \"{\" }}")
}

impl Options {
    /// What is to be merged; `None` when there is nothing.
    pub(super) fn read(table: &mut Table, text: Option<&str>) -> Option<Self> {
        let text = text.filter(|text| !text.trim().is_empty())?;
        let Ok(Value::Object(mut shown)) = serde_json::from_str(text) else {
            table.note("<options> is no JSON object, with which Wazuh's script fails: it is left out, and the block has sent nothing so far.");
            return None;
        };
        let routing_key = match shown.remove("routing_key") {
            Some(Value::String(key)) => Some(key),
            _ => None,
        };
        let before = shown.len();
        shown.retain(|name, value| !is_secretive(name, value));
        if shown.len() < before {
            table.note("What looks like a secret in <options> is left out: it would stand here for all to read.");
        }
        let options = Self { shown, routing_key };
        (!options.shown.is_empty() || options.routing_key.is_some()).then_some(options)
    }

    pub(super) fn routing_key(&self) -> Option<&str> {
        self.routing_key.as_deref()
    }

    pub(super) fn at(&self, pointer: &str) -> Option<&str> {
        let (first, rest) = pointer.trim_start_matches('/').split_once('/')?;
        self.shown.get(first)?.get(rest)?.as_str()
    }

    pub(super) fn names_but(&self, known: &[&str]) -> String {
        let names = self.shown.keys().filter(|name| !known.contains(&name.as_str()));
        names.map(|name| plain(name)).collect::<Vec<_>>().join(", ")
    }

    pub(super) fn slack(&self) -> String {
        format!("{{\"attachments\":[{}]}}", self.merged(&SLACK))
    }

    pub(super) fn shuffle(&self) -> String {
        self.merged(&SHUFFLE)
    }

    /// The object with the options merged in: known names replaced, others added.
    fn merged(&self, usual: &[(&str, &str)]) -> String {
        let replaced = |name: &str| self.shown.get(name).map(literal);
        let known = usual.iter().map(|(name, template)| {
            let value = replaced(name).unwrap_or_else(|| (*template).to_owned());
            format!("\"{name}\":{value}")
        });
        let is_new = |name: &String| !usual.iter().any(|(known, _)| known == name);
        let added = self.shown.iter().filter(|(name, _)| is_new(name));
        let added = added.map(|(name, value)| {
            format!("{}:{}", literal(&Value::from(name.as_str())), literal(value))
        });
        format!("{{{}}}", known.chain(added).collect::<Vec<_>>().join(","))
    }
}

fn is_secretive(name: &str, value: &Value) -> bool {
    let name = name.to_ascii_lowercase();
    let within = match value {
        Value::Object(inner) => inner.iter().any(|(name, value)| is_secretive(name, value)),
        Value::Array(items) => items.iter().any(|item| is_secretive("", item)),
        _ => false,
    };
    within || SECRETIVE.iter().any(|part| name.contains(part))
}

/// JSON that a template prints as it is: marks of templates stand only inside of its texts, where
/// a brace may be written by its number.
fn literal(value: &Value) -> String {
    let mut out = String::new();
    let mut in_text = false;
    let mut escaped = false;
    for c in value.to_string().chars() {
        match c {
            '"' if !escaped => in_text = !in_text,
            '{' if in_text => {
                out.push_str("\\u007b");
                continue;
            }
            _ => {}
        }
        escaped = c == '\\' && !escaped;
        out.push(c);
    }
    // Between the braces of objects, which a template would take for its end, belongs a blank.
    out
}
