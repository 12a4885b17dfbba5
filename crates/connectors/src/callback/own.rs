//! The body for systems that send what their owner tells them to: our vocabulary as it is.
//!
//! ```json
//! {"action": "closed", "remote_id": "INC0010001", "actor": {"id": "ann", "name": "Ann"},
//!  "text": "false alarm", "at": "2026-03-10T06:11:28Z", "delivery_id": "7f3c", "data": {}}
//! ```
//!
//! `event_id` may stand for `remote_id`: the event's id, or its key, as Holdfast sends them. A key
//! that there is not is refused, so that a slip of the pen is noticed.

use holdfast_model::{Action, Actor, CallbackRequest, Heard, Notice, Refusal, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{digest, event_of, ids, malformed};

/// Longest name of what is asked for.
const REQUEST_CHARS_MAX: usize = 32;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    action: Action,
    remote_id: Option<Id>,
    event_id: Option<String>,
    delivery_id: Option<Id>,
    actor: Option<Who>,
    #[serde(default)]
    text: String,
    at: Option<Timestamp>,
    /// What is asked for; with `action_requested` alone.
    request: Option<String>,
    #[serde(default)]
    data: Map<String, Value>,
}

/// Some systems write their ids as numbers.
#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Text(String),
    Number(i64),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Who {
    Id(String),
    Full(Actor),
}

/// Reads a body; the delivery's name is its own, or a hash of it.
pub(crate) fn read(request: &CallbackRequest<'_>) -> Result<Heard, Refusal> {
    read_named(request, None)
}

/// The same where the transport names the delivery.
pub(crate) fn read_named(
    request: &CallbackRequest<'_>,
    delivery_id: Option<&str>,
) -> Result<Heard, Refusal> {
    let body: Body = serde_json::from_slice(request.body).map_err(malformed)?;
    let event = match body.event_id.as_deref() {
        Some(text) => Some(event_of(text).ok_or_else(|| malformed("`event_id` is no event's"))?),
        None => None,
    };
    let remote_ids = ids(body.remote_id.map(Id::into_text));
    if event.is_none() && remote_ids.is_empty() {
        return Err(malformed("neither `remote_id` nor `event_id` is there"));
    }
    let mut data = body.data;
    match (body.action, body.request) {
        (Action::ActionRequested, Some(request)) if is_word(&request) => {
            data.insert("request".to_owned(), request.into());
        }
        (Action::ActionRequested, _) => {
            return Err(malformed("`request` must name what is asked for, in a short word"));
        }
        (_, Some(_)) => return Err(malformed("`request` goes with `action_requested`")),
        (_, None) => {}
    }
    let own = body.delivery_id.map(Id::into_text).filter(|id| !id.is_empty());
    let delivery_id = delivery_id.map(str::to_owned).or(own);
    let notice = Notice {
        delivery_id: delivery_id.unwrap_or_else(|| digest(request.body)),
        action: body.action,
        remote_ids,
        event,
        actor: body.actor.map(Who::into_actor).filter(|actor| !actor.id.is_empty()),
        text: body.text,
        at: body.at,
        data: Value::Object(data),
    };
    Ok(Heard { notices: vec![notice], ..Heard::default() })
}

pub(crate) fn is_word(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    (1..=REQUEST_CHARS_MAX).contains(&text.len()) && text.bytes().all(fits)
}

impl Id {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
        }
    }
}

impl Who {
    fn into_actor(self) -> Actor {
        match self {
            Self::Id(id) => Actor { name: id.clone(), id },
            Self::Full(actor) => actor,
        }
    }
}
