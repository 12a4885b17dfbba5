//! ArcSight's CEF 0, escaped as its specification says: in the header `\` and `|`, in the extension
//! `\`, `=` and line breaks. So every value comes back whole from a parser that un-escapes.
//!
//! Does not promise: blanks at a value's ends, which parsers take for the gap between fields;
//! control characters other than line breaks, which become blanks; and more of a value than CEF's
//! own limits.

use holdfast_model::Member;
use serde_json::Value;

use super::{HOST_CHARS_MAX, MSG_CHARS_MAX, millis, ten};
use crate::message::{Message, clip, one_line};

/// CEF's own limit, in characters.
const NAME_CHARS_MAX: usize = 512;

pub(super) fn line(member: &Member, message: &Message) -> String {
    let rule = message.rule_id.as_deref().unwrap_or(message.kind.as_str());
    let mut line = format!(
        "CEF:0|Holdfast|Wazuh|{}|{}|{}|{}|rt={}",
        env!("CARGO_PKG_VERSION"),
        header(rule, HOST_CHARS_MAX),
        header(&message.title, NAME_CHARS_MAX),
        ten(message),
        millis(member, message)
    );
    let groups = message.groups.join(",");
    let pairs = [
        ("externalId", Some(message.key.as_str().into())),
        ("deviceExternalId", message.agent_id.clone()),
        ("dvchost", message.agent_name.clone()),
        ("cat", Some(groups)),
        ("src", text(message, "/data/srcip")),
        ("spt", text(message, "/data/srcport")),
        ("dst", text(message, "/data/dstip")),
        ("dpt", text(message, "/data/dstport")),
        ("suser", text(message, "/data/srcuser")),
        ("duser", text(message, "/data/dstuser")),
        ("filePath", text(message, "/syscheck/path")),
        ("fileHash", text(message, "/syscheck/sha256_after")),
        ("cs1", text(message, "/location")),
        ("msg", text(message, "/full_log").or_else(|| message.log.clone())),
    ];
    for (key, value) in pairs {
        let value = value.map(|value| extension(&value)).unwrap_or_default();
        if !value.is_empty() {
            line.push_str(&format!(" {key}={value}"));
            if key == "cs1" {
                line.push_str(" cs1Label=Location");
            }
        }
    }
    line
}

/// As it stands in the alert, line breaks and blanks included.
fn text(message: &Message, pointer: &str) -> Option<String> {
    match message.alert.pointer(pointer)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A header has no line breaks, escaped or not.
fn header(text: &str, chars_max: usize) -> String {
    one_line(text, chars_max).replace('\\', "\\\\").replace('|', "\\|")
}

fn extension(text: &str) -> String {
    let mut escaped = String::new();
    for char in clip(text.trim(), MSG_CHARS_MAX).chars() {
        match char {
            '\\' => escaped.push_str("\\\\"),
            '=' => escaped.push_str("\\="),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            other if other.is_control() => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}
