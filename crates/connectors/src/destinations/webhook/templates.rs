//! The operator's own bodies and headers.
//!
//! Promises: an event whose template errs is sent all the same: with the usual body and a note in
//! it, or without the header and with a note in one of ours; whatever an event holds, a header stays
//! one header. Each failure is counted, and the first is logged.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use bytes::Bytes;
use holdfast_model::{
    Member,
    settings::{Node, Section, Setting, Value},
};
use minijinja::context;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::message::{Compiled, Message, TemplateError, enrich_of, parent_of_message, values_of};

pub(super) const BODY: Setting = Setting::optional(
    "body",
    "'{\"text\": {{ alert.rule.description | tojson }}, \"id\": {{ event.id | tojson }}}'",
    "The body as a minijinja template over `alert` (Wazuh's JSON), `event` (`id`, `seq`, `key`, \
     `kind`, `source`, `received_at`), `message` (`title`, `severity`, `level`, `text`), \
     `enrich` (what lookups said: by their names, a list of answers or a `problem`), \
     `parent` (what it is about: `id`, `key`, `remote_id`, `links` by destination, `alert`) and `events`, a \
     list of all in the batch, each with its `alert`, `enrich` and `parent`. What is missing is empty. At most \
     16 MiB come out. Default: the alert as Wazuh wrote it.",
);

/// Says what of a request could not be made.
pub(super) const NOTE: HeaderName = HeaderName::from_static("holdfast-note");

/// The member of the usual body that says why it is the usual one.
const NOTE_MEMBER: &str = "holdfast_note";

/// Longest body that comes out, in bytes.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Longest value of a header that comes out, in bytes; receivers take 8 KiB of headers in all.
const HEADER_BYTES_MAX: usize = 1024;

/// Longest note, in bytes.
const NOTE_BYTES_MAX: usize = 300;

#[derive(Debug)]
pub(super) struct Templates {
    pub(super) body: Option<Compiled>,
    pub(super) headers: Vec<(HeaderName, Compiled)>,
    failures: AtomicU64,
    /// Whether the first failure was logged.
    said: AtomicBool,
}

/// What the templates see of a shipment.
pub(super) struct Values(minijinja::Value);

/// Reads `body`; the outer `None` says that it does not compile.
pub(super) fn read_body(section: &Section<'_>) -> Option<Option<Compiled>> {
    if section.node(BODY.name).is_none() {
        return Some(None);
    }
    let source = section.text(&BODY)?;
    Compiled::read(section, BODY.name, source).map(Some)
}

/// The text of a header's value that is a template. A secret from elsewhere never is one.
pub(super) fn source(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Text(text) if ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark)) => {
            Some(text)
        }
        _ => None,
    }
}

// === impl Values ===

impl Values {
    fn of(members: &[Member]) -> Self {
        let messages: Vec<_> = members.iter().map(Message::of).collect();
        let events: Vec<_> = members.iter().zip(&messages).map(one).collect();
        let first = events.first().cloned().unwrap_or_default();
        let alert = first.get_attr("alert").unwrap_or_default();
        let message = messages.first().map(values_of).unwrap_or_default();
        let enrich = messages.first().map(enrich_of).unwrap_or_default();
        let parent = messages.first().map(parent_of_message).unwrap_or_default();
        Self(context! { alert, event => first, message, enrich, parent, events })
    }
}

fn one((member, message): (&Member, &Message)) -> minijinja::Value {
    let event = &member.event;
    context! {
        id => message.id,
        seq => event.seq,
        key => member.key,
        kind => event.kind.as_str(),
        source => event.source,
        received_at => event.received_at.to_string(),
        alert => minijinja::Value::from_serialize(&message.alert),
        enrich => enrich_of(message),
        parent => parent_of_message(message),
    }
}

// === impl Templates ===

impl Templates {
    pub(super) fn new(body: Option<Compiled>, headers: Vec<(HeaderName, Compiled)>) -> Self {
        Self { body, headers, failures: AtomicU64::new(0), said: AtomicBool::new(false) }
    }

    /// What the templates see; `None` where there is no template.
    pub(super) fn values(&self, members: &[Member]) -> Option<Values> {
        let any = self.body.is_some() || !self.headers.is_empty();
        any.then(|| Values::of(members))
    }

    /// How often one has erred since the last call.
    pub(super) fn take_failures(&self) -> u64 {
        self.failures.swap(0, Ordering::Relaxed)
    }

    /// The operator's body; the usual one with a note when the template errs, and without a
    /// template.
    pub(super) fn body(&self, values: Option<&Values>, usual: impl FnOnce() -> Usual) -> Usual {
        let (Some(body), Some(values)) = (&self.body, values) else { return usual() };
        match body.render(values.0.clone(), BODY_BYTES_MAX) {
            Ok(text) => Ok(text.into()),
            Err(error) => usual().map(|body| with_note(&body, &self.failed("body", &error))),
        }
    }

    /// Adds the headers that are templates.
    pub(super) fn add_headers(&self, values: Option<&Values>, headers: &mut HeaderMap) {
        let Some(values) = values else { return };
        for (name, template) in &self.headers {
            match template.render(values.0.clone(), HEADER_BYTES_MAX) {
                Ok(text) => drop(headers.insert(name, one_header(&text))),
                Err(error) => {
                    let note = self.failed(name.as_str(), &error);
                    headers.append(NOTE, one_header(&note));
                }
            }
        }
    }

    /// Counts a failure, and says what failed.
    fn failed(&self, what: &str, error: &TemplateError) -> String {
        let mut note = format!("the template of {what} failed: {error}");
        note.truncate(note.floor_char_boundary(NOTE_BYTES_MAX));
        self.failures.fetch_add(1, Ordering::Relaxed);
        if !self.said.swap(true, Ordering::Relaxed) {
            tracing::warn!(note, "a template erred; this is said once, then counted");
        }
        note
    }
}

pub(super) type Usual = Result<Bytes, holdfast_model::DeliveryError>;

/// The usual body with a first member more in its first object. Every form of it has one.
fn with_note(body: &Bytes, note: &str) -> Bytes {
    let Some(at) = body.iter().position(|byte| *byte == b'{') else { return body.clone() };
    let (before, after) = body.split_at(at + 1);
    let is_empty = after.trim_ascii_start().first() == Some(&b'}');
    let note = HashMap::from([(NOTE_MEMBER, note)]);
    // A map of texts can always be written.
    let Ok(member) = serde_json::to_string(&note) else { return body.clone() };
    let member = member.trim_matches(['{', '}']);
    let comma: &[u8] = if is_empty { b"" } else { b"," };
    [before, member.as_bytes(), comma, after].concat().into()
}

/// A text as the value of one header: what would end it, or is not allowed in it, becomes a blank.
fn one_header(text: &str) -> HeaderValue {
    let printable: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let value = HeaderValue::from_bytes(printable.trim().as_bytes());
    // Cannot be: nothing is left that a header does not allow.
    value.unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_the_first_member_of_any_body() {
        let note =
            |body: &'static str| with_note(&Bytes::from_static(body.as_bytes()), "a \"b\" }");
        #[rustfmt::skip]
        let table = [
            ("{\"a\":1}", "{\"holdfast_note\":\"a \\\"b\\\" }\",\"a\":1}"),
            ("{ }", "{\"holdfast_note\":\"a \\\"b\\\" }\" }"),
            ("[{\"a\":1},{}]", "[{\"holdfast_note\":\"a \\\"b\\\" }\",\"a\":1},{}]"),
            ("{\"a\":1}\n{}\n", "{\"holdfast_note\":\"a \\\"b\\\" }\",\"a\":1}\n{}\n"),
            ("7", "7"),
        ];
        for (body, expected) in table {
            assert_eq!(note(body), expected, "{body}");
        }
    }

    #[test]
    fn whatever_comes_out_a_header_is_one_header() {
        #[rustfmt::skip]
        let table = [
            ("a\r\nX-Evil: 1", "a  X-Evil: 1"), ("\u{0}a\u{7f}\u{85}b\t", "a  b"),
            ("grün", "grün"), ("", ""), (" \n ", ""),
        ];
        for (text, expected) in table {
            assert_eq!(one_header(text).as_bytes(), expected.as_bytes(), "{text:?}");
        }
    }
}
