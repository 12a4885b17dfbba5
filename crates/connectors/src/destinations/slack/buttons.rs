//! Buttons under a message. Pure.
//!
//! A button carries the event's id. It needs no signature of ours: Slack signs the press, only our
//! own app's messages have them, and what a press may do is checked against the event itself.

use holdfast_model::{
    Action, Kind,
    settings::{Section, Setting},
};
use serde_json::{Value, json};

use crate::message::{self, Message};

pub(super) const BUTTONS: Setting = Setting::optional(
    "buttons",
    "[\"acknowledge\", \"close\", \"block\"]",
    "Buttons under each alert: \"acknowledge\", \"close\", and \"block\" where the alert names a source address. They need `callback`; a block is asked for by `callback.operators` alone. Default: none.",
);

/// What stands before the word in `action_id`.
pub(super) const ID_PREFIX: &str = "holdfast_";

/// Where an alert names whom to block.
const ADDRESSES: [&str; 6] = [
    "/data/srcip",
    "/data/src_ip",
    "/data/win/eventdata/ipAddress",
    "/data/aws/sourceIPAddress",
    "/data/aws/source_ip_address",
    "/source/ip",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Button {
    Acknowledge,
    Close,
    Block,
}

impl Button {
    const ALL: [Self; 3] = [Self::Acknowledge, Self::Close, Self::Block];

    pub(super) fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|button| button.word() == word)
    }

    fn word(self) -> &'static str {
        match self {
            Self::Acknowledge => "acknowledge",
            Self::Close => "close",
            Self::Block => "block",
        }
    }

    pub(super) fn action(self) -> Action {
        match self {
            Self::Acknowledge => Action::Acknowledged,
            Self::Close => Action::Closed,
            Self::Block => Action::ActionRequested,
        }
    }

    /// What is asked for, where it is more than a word about the event.
    pub(super) fn request(self) -> Option<&'static str> {
        (self.action() == Action::ActionRequested).then(|| self.word())
    }

    fn block(self, message: &Message) -> Option<Value> {
        let (label, style) = match self {
            Self::Acknowledge => ("Acknowledge", None),
            Self::Close => ("Close", None),
            Self::Block => ("Block address", Some("danger")),
        };
        let mut button = json!({
            "type": "button",
            "action_id": format!("{ID_PREFIX}{}", self.word()),
            "text": { "type": "plain_text", "text": label },
            "value": message.id,
        });
        if let Some(style) = style {
            let address = ADDRESSES.iter().find_map(|at| message::fact(&message.alert, at))?;
            button["style"] = style.into();
            button["confirm"] = json!({
                "title": { "type": "plain_text", "text": "Block the address?" },
                "text": {
                    "type": "plain_text",
                    "text": message::one_line(&format!("Wazuh is asked to block {address}."), 300),
                },
                "confirm": { "type": "plain_text", "text": "Block" },
                "deny": { "type": "plain_text", "text": "Cancel" },
            });
        }
        Some(button)
    }
}

/// Reads the setting. `None`: a fault was reported.
pub(super) fn read(section: &Section<'_>) -> Option<Vec<Button>> {
    let given = section.has(BUTTONS.name);
    let Some(words) = section.texts(&BUTTONS) else { return (!given).then(Vec::new) };
    let mut buttons = Vec::new();
    for word in &words {
        match Button::of(word) {
            Some(button) if !buttons.contains(&button) => buttons.push(button),
            _ => {
                let problem = format!(
                    "\"{word}\" is not one of \"acknowledge\", \"close\", \"block\", or is there twice"
                );
                section.fault(BUTTONS.name, problem);
                return None;
            }
        }
    }
    if !buttons.is_empty() && !section.has(crate::callback::SIGNED.name) {
        section.fault(BUTTONS.name, "they need `callback`, by which a press is verified");
        return None;
    }
    Some(buttons)
}

/// The block with the buttons that fit this message, if there are any.
pub(super) fn block(buttons: &[Button], message: &Message) -> Option<Value> {
    if message.kind != Kind::Alert {
        return None;
    }
    let elements: Vec<Value> = buttons.iter().filter_map(|one| one.block(message)).collect();
    // Slack refuses an empty list.
    (!elements.is_empty())
        .then(|| json!({ "type": "actions", "block_id": "holdfast", "elements": elements }))
}
