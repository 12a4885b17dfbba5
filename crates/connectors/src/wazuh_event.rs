//! What Wazuh is told of an event, for the destinations that put something into Wazuh, and the
//! alert that an event is about.
//!
//! Promises: a lookup's answer is written as Wazuh's own integration scripts write theirs (Python's
//! `json.dumps`), byte for byte; anything else is JSON under `holdfast`, which a rule recognises by
//! `integration`; the agent is that of the alert, never one that a remote system named.

use std::fmt::Write as _;

use holdfast_model::{DeliveryError, Event, Kind, Member, Reason};
use serde::Serialize;
use serde_json::{Value, value::RawValue};

use crate::{
    body,
    message::{Message, Template},
};

/// The value of `integration` in what is Holdfast's own.
pub(crate) const OWN: &str = "holdfast";

/// Longest event that analysisd reads, its header included (`OS_MAXSTR` less one). It cuts a longer
/// one without a word.
pub(crate) const EVENT_BYTES_MAX: usize = 65_535;

/// The agent of an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Agent {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) ip: Option<String>,
}

#[derive(Serialize)]
struct Wrapped<'a> {
    integration: &'static str,
    holdfast: Inner<'a>,
}

#[derive(Serialize)]
struct Inner<'a> {
    kind: &'static str,
    event: String,
    /// By which a repeat is known.
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alert_id: Option<String>,
    source: &'a str,
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Json(&'a RawValue),
    Text(&'a str),
}

/// The alert that an event is, or is about. What is neither an alert nor about one has none: only
/// an alert's own fields are believed.
pub(crate) fn alert_of(member: &Member) -> Option<&Event> {
    let parent = || member.parent.as_ref()?.event.as_deref();
    let event: Option<&Event> =
        if member.event.kind == Kind::Alert { Some(&member.event) } else { parent() };
    event.filter(|event| event.kind == Kind::Alert)
}

/// The agent of an alert, if it has one.
pub(crate) fn agent_of(alert: &Value) -> Option<Agent> {
    let text = |pointer: &str| alert.pointer(pointer)?.as_str().map(str::to_owned);
    let (id, name) = (text("/agent/id")?, text("/agent/name").unwrap_or_default());
    Some(Agent { id, name, ip: text("/agent/ip") })
}

/// The integration that a lookup's answer is of.
pub(crate) fn integration_of(answer: &Value) -> &str {
    answer["integration"].as_str().filter(|name| !name.is_empty()).unwrap_or(OWN)
}

/// What Wazuh reads as the event's text.
pub(crate) fn text(template: &Template, member: &Member) -> Result<String, DeliveryError> {
    if let Some(text) = template.render(&Message::of(member)) {
        // analysisd reads to the first of these.
        return Ok(text.replace('\0', ""));
    }
    let clean = body::clean(&member.event.body);
    let clean = std::str::from_utf8(&clean)
        .map_err(|error| DeliveryError::caused_by(Reason::Render, error))?;
    if member.event.kind == Kind::Lookup
        && let Some(text) = as_python(clean)
    {
        return Ok(text);
    }
    wrapped(member, clean)
}

fn wrapped(member: &Member, clean: &str) -> Result<String, DeliveryError> {
    let data = match serde_json::from_str(clean) {
        Ok(json) => Data::Json(json),
        Err(_) => Data::Text(clean),
    };
    let alert = alert_of(member).map(|event| body::parse(&event.body));
    let holdfast = Inner {
        kind: member.event.kind.as_str(),
        event: member.id.to_string(),
        key: &member.key,
        parent: member.event.parent.as_ref().map(ToString::to_string),
        alert_id: alert.and_then(|alert| alert["id"].as_str().map(str::to_owned)),
        source: &member.event.source,
        data,
    };
    serde_json::to_string(&Wrapped { integration: OWN, holdfast })
        .map_err(|error| DeliveryError::caused_by(Reason::Render, error))
}

/// JSON as Python's `json.dumps` writes it: a blank behind each comma and colon, and nothing but
/// ASCII. Order and numbers stay. `None`: it is not JSON.
fn as_python(json: &str) -> Option<String> {
    serde_json::from_str::<&RawValue>(json).ok()?;
    let mut out = String::with_capacity(json.len() + json.len() / 8);
    let mut rest = json;
    while let Some(first) = rest.chars().next() {
        let mut taken = first.len_utf8();
        match first {
            '"' => {
                taken = string_bytes(rest);
                let literal = &rest[..taken];
                match serde_json::from_str::<String>(literal) {
                    Ok(text) => python_string(&mut out, &text),
                    // Half a surrogate pair, which no text can hold.
                    Err(_) => out.push_str(literal),
                }
            }
            ' ' | '\t' | '\n' | '\r' => {}
            ',' => out.push_str(", "),
            ':' => out.push_str(": "),
            other => out.push(other),
        }
        rest = &rest[taken..];
    }
    Some(out)
}

/// The length of the string literal that `text` begins with.
fn string_bytes(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn python_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    // Writing to a String cannot fail.
                    write!(out, "\\u{unit:04x}").ok();
                }
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_written_as_python_writes_it() {
        #[rustfmt::skip]
        let table = [
            // What Python 3 prints for `json.dumps(json.loads(left))`.
            (r#"{"a":[1,2.50,"x"],"b":{}}"#, r#"{"a": [1, 2.50, "x"], "b": {}}"#),
            ("{ \"a\" :\n[ ] }", r#"{"a": []}"#),
            (r#"{"é":"ü\/\u00e9 😀","c":"a,b:c \" \\ \u007f"}"#,
             r#"{"\u00e9": "\u00fc/\u00e9 \ud83d\ude00", "c": "a,b:c \" \\ \u007f"}"#),
            (r#"["\n\r\t\b\f\u0001"]"#, r#"["\n\r\t\b\f\u0001"]"#),
            (r#"["\ud800"]"#, r#"["\ud800"]"#),
        ];
        for (json, expected) in table {
            assert_eq!(as_python(json).as_deref(), Some(expected));
            assert_eq!(as_python(expected).as_deref(), Some(expected), "twice is once");
        }
        assert_eq!(as_python("{oops"), None);
    }
}
