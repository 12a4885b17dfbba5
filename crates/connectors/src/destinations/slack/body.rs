//! A message as Slack takes it. Pure.

use serde_json::{Value, json};

use super::buttons::{self, Button};
use crate::{
    chat::{entities, fenced},
    message::{Message, Severities, Template, clip},
};

/// Where the metadata holds the key.
pub(super) const KEY_FIELD: &str = "holdfast_key";

/// `text`: Slack advises 4,000 characters, and cuts at 40,000.
const TEXT_CHARS_MAX: usize = 4000;

/// A section has at most ten fields.
const FIELDS_MAX: usize = 10;

/// A field may have 2,000 characters; ten of these and the rest stay below the sum that Slack
/// takes in all blocks.
const FIELD_CHARS_MAX: usize = 700;

/// A section's text may have 3,000.
const LOG_CHARS_MAX: usize = 2900;

/// How messages look.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) severities: Severities,
    pub(super) template: Template,
    pub(super) buttons: Vec<Button>,
}

// === impl Look ===

impl Look {
    /// What both ways of sending have in common.
    pub(super) fn message(&self, message: &Message) -> Value {
        let own = self.template.render(message);
        let text = match &own {
            // The mark-up is the operator's, but what alerts put into it must not call everybody.
            Some(text) => clip(&text.replace("<!", "&lt;!"), TEXT_CHARS_MAX).into_owned(),
            None => {
                let title = entities(&message.title, TEXT_CHARS_MAX / 2);
                format!("*{}* {title}", message.level_text())
            }
        };
        let mut blocks = Vec::new();
        if own.is_none() {
            blocks.extend(fields(message));
            blocks.extend(message.log.as_deref().map(log));
        }
        blocks.extend(buttons::block(&self.buttons, message));
        let note = format!("Event {}", entities(&message.key, 1000));
        blocks.push(json!({
            "type": "context", "elements": [{ "type": "mrkdwn", "text": note }],
        }));
        json!({
            "text": text,
            "attachments": [{
                "color": self.severities.word(message.severity),
                "blocks": blocks,
            }],
            "unfurl_links": false,
            "unfurl_media": false,
        })
    }

    /// The same with what only a bot may say.
    pub(super) fn post(&self, message: &Message, channel: &str, thread: Option<&str>) -> Value {
        let mut body = self.message(message);
        body["channel"] = channel.into();
        let payload = json!({ KEY_FIELD: message.key });
        body["metadata"] = json!({ "event_type": "wazuh_alert", "event_payload": payload });
        if let Some(ts) = thread {
            body["thread_ts"] = ts.into();
        }
        body
    }
}

fn fields(message: &Message) -> Option<Value> {
    let fields: Vec<Value> = message
        .facts
        .iter()
        .take(FIELDS_MAX)
        .map(|fact| {
            let text = format!("*{}*\n{}", fact.name, entities(&fact.value, FIELD_CHARS_MAX));
            json!({ "type": "mrkdwn", "text": text })
        })
        .collect();
    // Slack refuses an empty list.
    (!fields.is_empty()).then(|| json!({ "type": "section", "fields": fields }))
}

fn log(log: &str) -> Value {
    let text = fenced(&entities(log, LOG_CHARS_MAX), LOG_CHARS_MAX + 50);
    json!({ "type": "section", "text": { "type": "mrkdwn", "text": text } })
}
