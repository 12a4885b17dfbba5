//! What people do with our messages in Slack: presses of our buttons, replies in a thread,
//! reactions.
//!
//! `X-Slack-Signature: v0=<hex>` is an HMAC-SHA256 over `v0:{X-Slack-Request-Timestamp}:{body}`, and
//! the time may be five minutes off. A signature proves Slack and not the person: who pressed is
//! in the payload, and the gateway obeys operators alone. A button's value is the event's id and
//! nothing else; what is done follows from that event and never from the payload.
//!
//! Slack wants an empty 200 within three seconds; what a person is told goes to the payload's
//! `response_url`, which must be Slack's own.

use holdfast_model::{Action, CallbackReply, CallbackRequest, Heard, Notice, Refusal, Timestamp};
use reqwest::Url;
use serde_json::{Value, json};

use super::buttons::{self, Button};
use crate::callback::{self, Callback, REPLAY_WINDOW, Vendor};

pub(super) const VENDOR: Vendor = Vendor::signing(verify, read);

fn verify(callback: &Callback, request: &CallbackRequest<'_>) -> Result<(), Refusal> {
    let tag = request.header("x-slack-signature").and_then(|text| text.strip_prefix("v0="));
    let time = request.header("x-slack-request-timestamp").unwrap_or("");
    let (Some(tag), Ok(seconds)) = (tag, time.parse::<u64>()) else {
        return Err(Refusal::Signature);
    };
    let parts = [&b"v0:"[..], time.as_bytes(), b":", request.body];
    if !callback.keys.signed_hex(&parts, tag) {
        return Err(Refusal::Signature);
    }
    callback::fresh(Timestamp(seconds.saturating_mul(1000)), request.now, REPLAY_WINDOW)
}

fn read(request: &CallbackRequest<'_>) -> Result<Heard, Refusal> {
    // The content type is not signed, so the body decides.
    if request.body.first() == Some(&b'{') {
        return event(&callback::json(request.body)?);
    }
    let payload = payload(request.body)?;
    let reply = CallbackReply { content_type: "text/plain; charset=utf-8", body: String::new() };
    let notices = match payload["type"].as_str() {
        Some("block_actions") => presses(&payload)?,
        Some(_) => Vec::new(),
        None => return Err(callback::malformed("`payload.type` is missing")),
    };
    Ok(Heard { notices, reply })
}

/// Where the person who pressed can be told something.
pub(super) fn response_url(body: &[u8]) -> Option<Url> {
    payload(body).ok()?["response_url"].as_str()?.parse().ok()
}

/// Whether an address is of the same Slack: its own host, or one below it, by the same scheme.
pub(super) fn is_slacks(url: &Url, own: &Url) -> bool {
    let (Some(host), Some(known)) = (url.host_str(), own.host_str()) else { return false };
    let below = host.strip_suffix(known).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    let plain = url.username().is_empty() && url.password().is_none();
    let same = url.port_or_known_default() == own.port_or_known_default();
    below && plain && same && url.scheme() == own.scheme()
}

/// The form's one field.
fn payload(body: &[u8]) -> Result<Value, Refusal> {
    let mut fields = form_urlencoded::parse(body).filter(|(name, _)| name == "payload");
    let Some((_, payload)) = fields.next() else {
        return Err(callback::malformed("it is neither JSON nor a form with `payload`"));
    };
    callback::json(payload.as_bytes())
}

fn presses(payload: &Value) -> Result<Vec<Notice>, Refusal> {
    let actions = payload["actions"].as_array().map_or(&[][..], Vec::as_slice);
    let container = &payload["container"];
    let (channel, ts) = (&container["channel_id"], &container["message_ts"]);
    let name = if payload["user"]["username"].is_string() { "username" } else { "name" };
    let mut notices = Vec::new();
    for (index, pressed) in actions.iter().enumerate() {
        let id = pressed["action_id"].as_str().unwrap_or("");
        // Another message of the same app may have buttons of its own.
        let Some(word) = id.strip_prefix(buttons::ID_PREFIX) else { continue };
        let button = Button::of(word)
            .ok_or_else(|| callback::malformed("`actions[].action_id` is no button of ours"))?;
        let event = pressed["value"]
            .as_str()
            .and_then(callback::event_of)
            .ok_or_else(|| callback::malformed("`actions[].value` is no event's id"))?;
        let mut data = json!({ "channel": channel, "message_ts": ts });
        if let Some(request) = button.request() {
            data["request"] = request.into();
        }
        let trigger = callback::text(&payload["trigger_id"]);
        let pressed_at = callback::text(&pressed["action_ts"]);
        notices.push(Notice {
            delivery_id: format!("{trigger}/{pressed_at}/{index}"),
            action: button.action(),
            remote_ids: remote_ids(channel, &[ts]),
            event: Some(event),
            actor: callback::actor(&payload["user"]["id"], &payload["user"][name]),
            text: String::new(),
            at: moment(&pressed_at),
            data,
        });
    }
    Ok(notices)
}

/// The Events API: `url_verification` once, then `event_callback`.
fn event(body: &Value) -> Result<Heard, Refusal> {
    match body["type"].as_str() {
        Some("url_verification") => {
            let answer = json!({ "challenge": callback::text(&body["challenge"]) });
            let reply = CallbackReply { body: answer.to_string(), ..CallbackReply::default() };
            return Ok(Heard { notices: Vec::new(), reply });
        }
        Some("event_callback") => {}
        Some(_) => return Ok(Heard::default()),
        None => return Err(callback::malformed("`type` is missing")),
    }
    let Some(delivery_id) = body["event_id"].as_str() else {
        return Err(callback::malformed("`event_id` is missing"));
    };
    let event = &body["event"];
    let found = match event["type"].as_str() {
        // What bots say, ourselves included, and edits are no answer of a person.
        Some("message") if event["subtype"].is_null() && event["bot_id"].is_null() => {
            let ids = remote_ids(&event["channel"], &[&event["thread_ts"]]);
            (!ids.is_empty()).then_some((Action::Commented, ids, &event["text"]))
        }
        Some("reaction_added") => {
            let item = &event["item"];
            let action = match event["reaction"].as_str() {
                Some("eyes") => Some(Action::Acknowledged),
                Some("white_check_mark" | "heavy_check_mark") => Some(Action::Closed),
                _ => None,
            };
            action.map(|action| {
                (action, remote_ids(&item["channel"], &[&item["ts"]]), &event["reaction"])
            })
        }
        _ => None,
    };
    let Some((action, remote_ids, text)) = found else { return Ok(Heard::default()) };
    let notice = Notice {
        delivery_id: delivery_id.to_owned(),
        action,
        remote_ids,
        event: None,
        actor: callback::actor(&event["user"], &Value::Null),
        text: callback::text(text),
        at: event["event_ts"].as_str().and_then(moment),
        data: json!({ "event_type": event["type"], "team": body["team_id"] }),
    };
    Ok(Heard { notices: vec![notice], ..Heard::default() })
}

fn remote_ids(channel: &Value, messages: &[&Value]) -> Vec<String> {
    let Some(channel) = channel.as_str() else { return Vec::new() };
    let ids = messages.iter().filter_map(|ts| Some(format!("{channel}/{}", ts.as_str()?)));
    callback::ids(ids)
}

/// `1503435956.000247`.
fn moment(ts: &str) -> Option<Timestamp> {
    let (seconds, rest) = ts.split_once('.').unwrap_or((ts, "0"));
    let seconds: u64 = seconds.parse().ok()?;
    let millis: u64 = rest.get(..3).and_then(|rest| rest.parse().ok()).unwrap_or(0);
    Some(Timestamp(seconds.checked_mul(1000)?.checked_add(millis)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_at_slacks_own_addresses_alone() {
        #[rustfmt::skip]
        let table = [
            ("https://hooks.slack.com/actions/x", "https://slack.com/api", true),
            ("https://hooks.slack.com/actions/x", "https://hooks.slack.com/services/x", true),
            ("https://hooks.slack-gov.com/actions/x", "https://slack-gov.com/api", true),
            ("https://hooks.slack-gov.com/actions/x", "https://slack.com/api", false),
            ("https://evilslack.com/x", "https://slack.com/api", false),
            ("https://slack.com.evil.example/x", "https://slack.com/api", false),
            ("http://hooks.slack.com/x", "https://slack.com/api", false),
            ("https://hooks.slack.com:8443/x", "https://slack.com/api", false),
            ("https://u:p@hooks.slack.com/x", "https://slack.com/api", false),
            ("https://127.0.0.1/x", "https://slack.com/api", false),
        ];
        for (url, own, expected) in table {
            let said = is_slacks(&url.parse().unwrap(), &own.parse().unwrap());
            assert_eq!(said, expected, "{url} {own}");
        }
    }

    #[test]
    fn a_ts_is_a_moment_or_none() {
        assert_eq!(moment("1503435956.000247"), Some(Timestamp(1_503_435_956_000)));
        assert_eq!(moment("1503435956"), Some(Timestamp(1_503_435_956_000)));
        for odd in ["", ".", "x.1", "-1.5", "99999999999999999999.1"] {
            assert_eq!(moment(odd), None, "{odd}");
        }
    }
}
