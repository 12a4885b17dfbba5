//! What a person is told about an event: one reading of it for every chat, page and ticket.
//!
//! Promises: never fails, whatever the event holds; every text is plain, without control
//! characters but line breaks, and within its limit in characters; what was cut says so. Escaping
//! is the destination's business, because only it knows the vendor's mark-up.

mod enriched;
mod facts;
mod lifecycle;
#[cfg(test)]
pub(crate) mod samples;
mod severities;
mod template;

use std::{borrow::Cow, sync::Arc};

use holdfast_model::{Action, Kind, Member, Parent};
use serde_json::{Map, Value, json};

use crate::body;

pub(crate) use self::{
    lifecycle::{GROUP, Lifecycle, Phase, RESOLVED_BY},
    severities::Severities,
    template::{
        Compiled, TEMPLATE, Template, TemplateError, enrich_of, parent_of_message, values_of,
    },
};

/// Longest title, in characters: the shortest limit of a subject line among the vendors (Jira, 255).
pub(crate) const TITLE_CHARS_MAX: usize = 250;

/// Longest value of one fact, in characters.
const FACT_CHARS_MAX: usize = 500;

/// Longest piece of the original log, in characters.
const LOG_CHARS_MAX: usize = 2000;

/// How bad it is, in the four words Wazuh 5 uses; Wazuh 4's levels are mapped to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// Levels 0 to 6, and what is no alert.
    Low,
    /// 7 to 9.
    Medium,
    /// 10 to 12.
    High,
    /// 13 and above.
    Critical,
}

/// One line of a message: a label and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fact {
    pub(crate) name: Cow<'static, str>,
    pub(crate) value: String,
}

/// One value of an alert as text; `None` when it is missing or empty.
pub(crate) fn fact(alert: &Value, pointer: &str) -> Option<String> {
    facts::text(alert, pointer)
}

/// An event as a person reads it.
#[derive(Debug)]
pub(crate) struct Message {
    /// `sshd: brute force … on web01`, one line, without the level.
    pub(crate) title: String,
    pub(crate) severity: Severity,
    /// Wazuh 4's `rule.level`.
    pub(crate) level: Option<u64>,
    pub(crate) rule_id: Option<String>,
    pub(crate) agent_name: Option<String>,
    pub(crate) agent_id: Option<String>,
    pub(crate) groups: Vec<String>,
    /// When it happened, as the event says it; when it came in, if it does not say.
    pub(crate) at: String,
    /// What lookups said, then rule, agent, time, and what matters in this kind of alert.
    pub(crate) facts: Vec<Fact>,
    /// What lookups said, whole: by their names, the answers or the problem.
    pub(crate) enrich: Map<String, Value>,
    /// For templates: what it is about; null for an alert.
    pub(crate) parent: Value,
    /// The beginning of the log line that caused it.
    pub(crate) log: Option<String>,
    /// The event's id in the log.
    pub(crate) id: String,
    pub(crate) key: String,
    pub(crate) kind: Kind,
    /// The event as Wazuh wrote it; null when it is not JSON.
    pub(crate) alert: Value,
    /// Of a callback: what was done there.
    pub(crate) action: Option<Action>,
    /// The event that this one is about.
    pub(crate) about: Option<Box<About>>,
}

/// The event that another one is about, as its destination knows it.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) key: String,
    /// `None` when the log has it no more.
    pub(crate) message: Option<Message>,
}

/// Cuts a text to so many characters; what is cut is said, within the limit where there is room.
pub(crate) fn clip(text: &str, chars_max: usize) -> Cow<'_, str> {
    const NOTE: &str = " … [cut]";
    let Some((end, _)) = text.char_indices().nth(chars_max) else { return text.into() };
    let note_chars = NOTE.chars().count();
    if chars_max <= note_chars {
        return text[..end].into();
    }
    let keep = text.char_indices().nth(chars_max - note_chars).map_or(end, |(at, _)| at);
    format!("{}{NOTE}", &text[..keep]).into()
}

/// A text on one line, cut to so many characters.
pub(crate) fn one_line(text: &str, chars_max: usize) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    clip(&printable(&words.join(" ")), chars_max).into_owned()
}

/// The text without control characters, line breaks excepted: no vendor's JSON, XML or terminal
/// needs them, and some refuse them.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || *c == '\n').collect()
}

// === impl Severity ===

impl Severity {
    pub(crate) fn of_level(level: u64) -> Self {
        match level {
            0..=6 => Self::Low,
            7..=9 => Self::Medium,
            10..=12 => Self::High,
            13.. => Self::Critical,
        }
    }

    fn of_word(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "low" | "informational" | "info" => Some(Self::Low),
            "medium" => Some(Self::Medium),
            "high" => Some(Self::High),
            "critical" => Some(Self::Critical),
            _ => None,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

// === impl About ===

impl About {
    fn of(parent: &Parent) -> Self {
        let member = parent
            .event
            .as_ref()
            .map(|event| Member::first(parent.id.clone(), parent.key.clone(), Arc::clone(event)));
        Self { key: parent.key.clone(), message: member.as_ref().map(Message::of) }
    }
}

// === impl Message ===

impl Message {
    pub(crate) fn of(member: &Member) -> Self {
        let event = &member.event;
        let alert = body::parse(&event.body);
        let text = |pointer: &str| facts::text(&alert, pointer);
        let level = alert.pointer("/rule/level").and_then(Value::as_u64);
        let word = text("/rule/level").or_else(|| text("/wazuh/rule/level"));
        let severity = match (level, word.as_deref().and_then(Severity::of_word)) {
            (Some(level), _) => Severity::of_level(level),
            (None, word) => word.unwrap_or(Severity::Low),
        };
        let agent_name = text("/agent/name").or_else(|| text("/wazuh/agent/name"));
        let groups = match alert.pointer("/rule/groups") {
            Some(Value::Array(items)) => {
                items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            _ => Vec::new(),
        };
        let at = text("/timestamp").or_else(|| text("/@timestamp"));
        let log = text("/full_log").or_else(|| text("/data/message"));
        Self {
            title: title(event.kind, &alert, agent_name.as_deref()),
            severity,
            level,
            rule_id: text("/rule/id").or_else(|| text("/wazuh/rule/id")),
            agent_id: text("/agent/id").or_else(|| text("/wazuh/agent/id")),
            agent_name,
            groups,
            at: at.unwrap_or_else(|| event.received_at.to_string()),
            facts: facts::of(&alert, enriched::told(&member.enrichments)),
            enrich: enriched::values(&member.enrichments),
            parent: member.parent.as_ref().map_or(Value::Null, |parent| parent_of(parent)),
            log: log.map(|log| clip(&printable(&log), LOG_CHARS_MAX).into_owned()),
            id: member.id.to_string(),
            key: member.key.clone(),
            kind: event.kind,
            action: action(event.kind, &alert),
            about: member.parent.as_deref().map(|parent| Box::new(About::of(parent))),
            alert,
        }
    }

    /// `Level 10 (high)`, or the word alone where there is no number.
    pub(crate) fn level_text(&self) -> String {
        match self.level {
            Some(level) => format!("Level {level} ({})", self.severity.as_str()),
            None => self.severity.as_str().to_owned(),
        }
    }

    /// The whole as plain text, for vendors without mark-up.
    pub(crate) fn plain(&self) -> String {
        let mut text = format!("{}\n{}\n", self.title, self.level_text());
        for Fact { name, value } in &self.facts {
            text.push_str(&format!("{name}: {value}\n"));
        }
        if let Some(log) = &self.log {
            text.push_str(&format!("\n{log}\n"));
        }
        text.push_str(&format!("\nEvent {}", self.id));
        text
    }
}

fn action(kind: Kind, body: &Value) -> Option<Action> {
    let word = body["action"].as_str().filter(|_| kind == Kind::Callback)?;
    Action::ALL.into_iter().find(|action| action.as_str() == word)
}

/// `cases: closed by Jane: a false positive`.
fn callback_title(body: &Value) -> String {
    let text = |pointer: &str| facts::text(body, pointer);
    let place = text("/destination").unwrap_or_else(|| "callback".to_owned());
    let what = text("/action").unwrap_or_default().replace('_', " ");
    let mut title = format!("{place}: {what}");
    if let Some(who) = text("/actor/name").or_else(|| text("/actor/id")) {
        title.push_str(&format!(" by {who}"));
    }
    if let Some(said) = text("/text") {
        title.push_str(&format!(": {said}"));
    }
    one_line(&title, TITLE_CHARS_MAX)
}

/// What a template sees of the event that another one is about.
fn parent_of(parent: &Parent) -> Value {
    let links = parent.links.iter().map(|(lane, id)| (lane.to_string(), id.clone().into()));
    let alert = parent.event.as_ref().map(|event| body::parse(&event.body));
    json!({
        "id": parent.id.to_string(),
        "key": parent.key,
        "remote_id": parent.remote_id,
        "links": links.collect::<Map<String, Value>>(),
        "alert": alert.unwrap_or(Value::Null),
    })
}

fn title(kind: Kind, alert: &Value, agent: Option<&str>) -> String {
    if kind == Kind::Callback && alert["action"].is_string() {
        return callback_title(alert);
    }
    let said = ["/rule/description", "/rule/title", "/wazuh/rule/title", "/message", "/summary"];
    let said = said.iter().find_map(|pointer| facts::text(alert, pointer));
    let what = said.or_else(|| facts::text(alert, "/rule/id").map(|id| format!("Wazuh rule {id}")));
    let what = what.unwrap_or_else(|| format!("Wazuh {}", kind.as_str()));
    match agent {
        Some(agent) => one_line(&format!("{what} on {agent}"), TITLE_CHARS_MAX),
        None => one_line(&what, TITLE_CHARS_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{alert, event};

    #[test]
    fn a_cut_text_says_so_and_has_exactly_its_limit() {
        assert_eq!(clip("sixteen letters.", 16), "sixteen letters.");
        assert_eq!(clip("ééééééééééééééééé", 16), "éééééééé … [cut]");
        assert_eq!(clip("abcdef", 3), "abc");
        assert_eq!(clip("", 0), "");
    }

    #[test]
    fn every_sample_has_a_title_and_facts() {
        for (name, member) in samples::all() {
            let message = Message::of(&member);
            assert!(!message.title.is_empty() && !message.title.contains('\n'), "{name}");
            assert!(message.title.chars().count() <= TITLE_CHARS_MAX, "{name}");
            assert!(message.facts.len() >= 2, "{name}: {:?}", message.facts);
            assert!(message.plain().contains(&message.id), "{name}");
        }
    }

    #[test]
    fn whatever_an_event_holds_there_is_a_message() {
        for body in ["", "{oops", "[]", "{}", r#"{"rule":7,"agent":[1],"full_log":{"a":1}}"#] {
            let message = Message::of(&alert(1, body.to_owned()));
            assert_eq!(message.title, "Wazuh alert", "{body}");
            assert_eq!(message.severity, Severity::Low);
        }
        let body =
            format!(r#"{{"rule":{{"level":15,"description":"{}"}}}}"#, "é\\u0007 ".repeat(999));
        let message = Message::of(&alert(1, body));
        assert_eq!(message.title.chars().count(), TITLE_CHARS_MAX);
        assert_eq!(message.severity, Severity::Critical);
        assert!(!message.title.contains('\u{7}'));
    }

    #[test]
    fn a_callback_says_who_did_what_where() {
        let body = r#"{"destination":"cases","action":"closed","actor":{"id":"7","name":"Jane"},"text":"a false\nalarm"}"#;
        let message = Message::of(&event(1, Kind::Callback, body));
        assert_eq!(message.title, "cases: closed by Jane: a false alarm");
        assert_eq!(message.action, Some(Action::Closed));
        assert_eq!(Message::of(&alert(1, body)).action, None);
    }

    #[test]
    fn levels_and_words_are_one_scale() {
        let severity = |level: &str| {
            Message::of(&alert(1, format!(r#"{{"rule":{{"level":{level}}}}}"#))).severity
        };
        assert_eq!(severity("3"), Severity::Low);
        assert_eq!(severity("7"), Severity::Medium);
        assert_eq!(severity("12"), Severity::High);
        assert_eq!(severity("13"), Severity::Critical);
        assert_eq!(severity("\"high\""), Severity::High);
        assert_eq!(severity("\"odd\""), Severity::Low);
    }
}
