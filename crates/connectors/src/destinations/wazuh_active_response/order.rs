//! What is to be done, from one event and the policy. Pure.

use std::{fmt, net::IpAddr};

use holdfast_model::{Kind, Member};
use serde_json::Value;

use super::{refusal::Refusal, settings::Policy};
use crate::{body, wazuh_event};

/// Longest piece of an event that a refusal repeats, in characters.
const SHOWN_CHARS_MAX: usize = 100;

/// One command for one agent against one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) agent: String,
    pub(super) address: IpAddr,
    pub(super) command: String,
    /// Who asked for it, for the receipt.
    asked_by: String,
}

impl Order {
    /// # Errors
    ///
    /// The policy does not allow it, or the event does not say enough.
    pub(super) fn of(member: &Member, policy: &Policy) -> Result<Self, Refusal> {
        let (command, asked_by) = command_of(member, policy)?;
        if !policy.commands.contains(&command) {
            return Err(Refusal::Unlisted(command));
        }
        // Of the alert alone: a callback's or a lookup's body is somebody else's word.
        let alert = wazuh_event::alert_of(member).ok_or(Refusal::NoAlert)?;
        let alert = body::parse(&alert.body);
        let agent = agent_of(&alert, policy.allow_manager)?;
        let address = address_of(&alert, &policy.address)?;
        Ok(Self { agent, address, command, asked_by })
    }
}

fn command_of(member: &Member, policy: &Policy) -> Result<(String, String), Refusal> {
    let kind = member.event.kind;
    match kind {
        Kind::Alert | Kind::Lookup => {
            let command = policy.command.clone().ok_or(Refusal::NoCommand(kind))?;
            Ok((command, format!("rule of the lane, event {}", member.id)))
        }
        Kind::Callback => {
            let said = body::parse(&member.event.body);
            let action = said["action"].as_str().unwrap_or_default();
            if action != "action_requested" {
                return Err(Refusal::Action(shown(action)));
            }
            let data = &said["data"];
            if data["authorized"] != Value::Bool(true) || member.event.parent.is_none() {
                let why = data["refused"].as_str().unwrap_or("unmarked");
                return Err(Refusal::Unauthorized(shown(why)));
            }
            let request = data["request"].as_str().unwrap_or_default();
            let command = policy.requests.get(request);
            let command = command.ok_or_else(|| Refusal::UnknownRequest(shown(request)))?;
            let actor = said["actor"]["id"].as_str().unwrap_or("somebody");
            let from = shown(said["destination"].as_str().unwrap_or_default());
            Ok((command.clone(), format!("{} in {from}, event {}", shown(actor), member.id)))
        }
        Kind::Canary | Kind::Operator => Err(Refusal::Kind(kind)),
    }
}

fn agent_of(alert: &Value, allow_manager: bool) -> Result<String, Refusal> {
    let id = match alert.pointer("/agent/id") {
        None | Some(Value::Null) => return Err(Refusal::NoAgent),
        Some(Value::String(id)) if id.trim().is_empty() => return Err(Refusal::NoAgent),
        Some(Value::String(id)) => id,
        Some(other) => return Err(Refusal::BadAgent(shown(&other.to_string()))),
    };
    // Neither a list, nor "all".
    let is_id = (3..=10).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_digit());
    if !is_id {
        return Err(Refusal::BadAgent(shown(id)));
    }
    if id.bytes().all(|byte| byte == b'0') && !allow_manager {
        return Err(Refusal::Manager);
    }
    Ok(id.clone())
}

/// The first of the fields that holds something.
fn address_of(alert: &Value, fields: &[String]) -> Result<IpAddr, Refusal> {
    let at = |field: &String| {
        let value = field.split('.').try_fold(alert, |value, name| value.get(name))?;
        value.as_str().map(str::trim).filter(|text| !text.is_empty() && *text != "-")
    };
    let text = fields.iter().find_map(at);
    let text = text.ok_or_else(|| Refusal::NoAddress(fields.join(", ")))?;
    let address: IpAddr = text.parse().map_err(|_| Refusal::BadAddress(shown(text)))?;
    Ok(address.to_canonical())
}

fn shown(text: &str) -> String {
    crate::message::one_line(text, SHOWN_CHARS_MAX)
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { agent, address, command, asked_by } = self;
        write!(f, "{command} {address} on agent {agent}, asked for by {asked_by}")
    }
}
