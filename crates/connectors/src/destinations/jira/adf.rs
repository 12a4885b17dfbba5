//! What an issue says: as Atlassian Document Format for Cloud, as wiki text for Server.
//!
//! Pure. Promises: valid whatever the event holds, and within Jira's limits.

use serde_json::{Value, json};

use crate::{
    http::Answer,
    message::{Message, Severities, Template, clip, one_line},
};

/// `summary`, one line.
const SUMMARY_CHARS_MAX: usize = 255;

/// `description` and a comment's `body`. A document counts as its JSON here, which is the longer.
const TEXT_CHARS_MAX: usize = 32_767;

/// One paragraph of a document: as JSON it must fit with room for the others.
const PARAGRAPH_CHARS_MAX: usize = 4000;

const CUT: &str = "[cut for its length]";

/// The issue property that holds the key for programs.
const PROPERTY: &str = "holdfast";

#[derive(Debug)]
pub(super) struct Form {
    pub(super) cloud: bool,
    pub(super) project: String,
    pub(super) issue_type: String,
    pub(super) labels: Vec<String>,
    pub(super) severities: Option<Severities>,
    pub(super) template: Template,
}

// === impl Form ===

impl Form {
    /// The body that creates an issue. `key` is the problem's, or the event's own.
    pub(super) fn issue(&self, message: &Message, key: &str) -> Value {
        let mut labels: Vec<&str> = self.labels.iter().map(String::as_str).collect();
        for label in [message.key.as_str(), key] {
            if !labels.contains(&label) {
                labels.push(label);
            }
        }
        let is_id = self.issue_type.bytes().all(|b| b.is_ascii_digit());
        let kind = if is_id { "id" } else { "name" };
        let mut fields = json!({
            "project": { "key": self.project },
            "issuetype": { kind: self.issue_type },
            "summary": one_line(&message.title, SUMMARY_CHARS_MAX),
            "description": self.text(message),
            "labels": labels,
        });
        if let Some(severities) = &self.severities {
            fields["priority"] = json!({ "name": severities.word(message.severity) });
        }
        let property = json!({ "key": message.key, "event": message.id });
        json!({ "fields": fields, "properties": [{ "key": PROPERTY, "value": property }] })
    }

    /// The text of an issue or a comment. Its last line names the event.
    pub(super) fn text(&self, message: &Message) -> Value {
        let own = self.template.render(message);
        if self.cloud { document(message, own) } else { wiki(message, own).into() }
    }

    /// Whether a comment is this event's.
    pub(super) fn is_of(&self, body: &Value, message: &Message) -> bool {
        if !self.cloud {
            return body
                .as_str()
                .is_some_and(|text| text.trim_end().ends_with(&escape(&footer(message))));
        }
        let blocks = body["content"].as_array();
        let last = blocks.and_then(|blocks| blocks.last());
        last.is_some_and(|block| block["content"][0]["text"] == *footer(message))
    }
}

/// Whether a 400 is about what every event has in common. Only names of fields are read: the
/// sentences may repeat what an event says.
pub(super) fn blames_settings(answer: &Answer) -> bool {
    let said = answer.body().ok().and_then(|body| serde_json::from_slice(body).ok());
    let said: Value = said.unwrap_or_default();
    // What an event fills. Any other field is a setting, or one that the project demands and that
    // no event will ever have.
    let of_event = ["summary", "description", "priority", "comment"];
    let named = said["errors"].as_object().into_iter().flat_map(|errors| errors.keys());
    let mut named: Vec<&str> = named.map(String::as_str).collect();
    for text in said["errorMessages"].as_array().into_iter().flatten() {
        let field = text.as_str().and_then(|text| text.strip_prefix("Field '"));
        named.extend(field.and_then(|text| text.split_once('\'')).map(|(name, _)| name));
    }
    named.iter().any(|name| !of_event.contains(name))
}

fn footer(message: &Message) -> String {
    format!("Event {}, key {}", message.id, message.key)
}

fn document(message: &Message, own: Option<String>) -> Value {
    let text = |text: &str| json!({ "type": "text", "text": text });
    let paragraph = |content: Vec<Value>| json!({ "type": "paragraph", "content": content });
    let strong =
        |text: &str| json!({ "type": "text", "text": text, "marks": [{ "type": "strong" }] });
    let mut blocks = Vec::new();
    if let Some(own) = own {
        let lines = own.lines().map(|line| line.replace(char::is_control, " "));
        // A text node must not be empty.
        let lines = lines.filter(|line| !line.trim().is_empty());
        blocks.extend(lines.map(|line| paragraph(vec![text(&clip(&line, PARAGRAPH_CHARS_MAX))])));
    } else {
        blocks.push(paragraph(vec![strong(&message.title)]));
        blocks.push(paragraph(vec![text(&message.level_text())]));
        for fact in message.facts.iter().filter(|fact| !fact.value.is_empty()) {
            let name = format!("{}: ", fact.name);
            blocks.push(paragraph(vec![strong(&name), text(&fact.value)]));
        }
        if let Some(log) = message.log.as_deref().filter(|log| !log.is_empty()) {
            blocks.push(json!({ "type": "codeBlock", "content": [text(log)] }));
        }
    }
    // What is left is for the note and the last line.
    let mut room = TEXT_CHARS_MAX - 1000;
    let all = blocks.len();
    let fits = |block: &Value| {
        let chars = block.to_string().chars().count() + 1;
        let fits = chars <= room;
        room = room.saturating_sub(chars);
        fits
    };
    let mut blocks: Vec<Value> = blocks.into_iter().take_while(fits).collect();
    if blocks.len() < all {
        blocks.push(paragraph(vec![text(CUT)]));
    }
    blocks.push(paragraph(vec![text(&footer(message))]));
    json!({ "type": "doc", "version": 1, "content": blocks })
}

fn wiki(message: &Message, own: Option<String>) -> String {
    let end = format!("\n\n{}", escape(&footer(message)));
    let mut text = own.unwrap_or_default();
    text.retain(|c| !c.is_control() || c == '\n');
    if text.trim().is_empty() {
        text = format!("*{}*\n\n{}\n", escape(&message.title), escape(&message.level_text()));
        for fact in &message.facts {
            let value = escape(&one_line(&fact.value, PARAGRAPH_CHARS_MAX));
            text.push_str(&format!("* *{}:* {value}\n", escape(&fact.name)));
        }
        if let Some(log) = &message.log {
            // The only thing that ends the block.
            let log = log.replace("{noformat", "{ noformat");
            text.push_str(&format!("\n{{noformat}}\n{log}\n{{noformat}}"));
        }
    }
    let room = TEXT_CHARS_MAX - end.chars().count();
    format!("{}{end}", clip(text.trim_end(), room))
}

/// So that Jira's wiki renderer shows what is there.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            // Two of them are a line break, one hides what follows.
            '\\' => escaped.push_str("&#92;"),
            '&' => escaped.push_str("&amp;"),
            _ if "{}[]()*_-+^~?!|#@".contains(c) => escaped.extend(['\\', c]),
            _ => escaped.push(c),
        }
    }
    escaped
}
