//! Webhooks v3: what people do with our pages.
//!
//! `X-PagerDuty-Signature` holds one or more `v1=<hex>`, each an HMAC-SHA256 over the body; one
//! that fits is enough. Neither the time of the try nor `X-Webhook-Id` is signed, so the time of
//! the happening and the id inside the body are used. A note names its incident by an id of
//! PagerDuty's alone, so it may match nothing.

use holdfast_model::{Action, CallbackRequest, Heard, Notice, Refusal, Timestamp};
use serde_json::{Value, json};

use crate::callback::{self, Callback, REPEAT_WINDOW, Vendor};

/// Signatures that one request may carry.
const SIGNATURES_MAX: usize = 8;

pub(super) const VENDOR: Vendor = Vendor::signing(verify, read);

fn verify(callback: &Callback, request: &CallbackRequest<'_>) -> Result<(), Refusal> {
    let all = request.header("x-pagerduty-signature").unwrap_or("");
    let mut tags =
        all.split(',').take(SIGNATURES_MAX).filter_map(|one| one.trim().strip_prefix("v1="));
    let signed = tags.any(|tag| callback.keys.signed_hex(&[request.body], tag));
    if signed { Ok(()) } else { Err(Refusal::Signature) }
}

fn read(request: &CallbackRequest<'_>) -> Result<Heard, Refusal> {
    let body = callback::json(request.body)?;
    let event = &body["event"];
    let (Some(id), Some(kind)) = (event["id"].as_str(), event["event_type"].as_str()) else {
        return Err(callback::malformed("`event.id` or `event.event_type` is missing"));
    };
    let at = event["occurred_at"].as_str().and_then(Timestamp::parse);
    let at = at.ok_or_else(|| callback::malformed("`event.occurred_at` is no time"))?;
    callback::fresh(at, request.now, REPEAT_WINDOW)?;
    let data = &event["data"];
    let Some((action, text)) = meaning(kind, data) else { return Ok(Heard::default()) };
    let incident = &data["incident"];
    let keys = [&data["incident_key"], &incident["incident_key"], &data["id"], &incident["id"]];
    let notice = Notice {
        delivery_id: id.to_owned(),
        action,
        remote_ids: callback::ids(keys.map(callback::text)),
        event: data["incident_key"].as_str().and_then(callback::event_of),
        actor: callback::actor(&event["agent"]["id"], &event["agent"]["summary"]),
        text,
        at: Some(at),
        data: json!({
            "event_type": kind,
            "status": data["status"],
            "url": data["html_url"],
            "assignees": names(&data["assignees"]),
        }),
    };
    Ok(Heard { notices: vec![notice], ..Heard::default() })
}

/// What a type of event is in our words; `None`: nothing.
fn meaning(kind: &str, data: &Value) -> Option<(Action, String)> {
    let action = match kind {
        "incident.acknowledged" => Action::Acknowledged,
        "incident.resolved" => Action::Closed,
        "incident.reopened" | "incident.unacknowledged" => Action::Reopened,
        "incident.reassigned" | "incident.escalated" | "incident.delegated" => Action::Assigned,
        "incident.annotated" => return Some((Action::Commented, callback::text(&data["content"]))),
        "incident.status_update_published" => {
            return Some((Action::Commented, callback::text(&data["message"])));
        }
        _ => return None,
    };
    Some((action, String::new()))
}

fn names(assignees: &Value) -> Vec<String> {
    let all = assignees.as_array().map_or(&[][..], Vec::as_slice);
    all.iter().map(|one| callback::text(&one["summary"])).collect()
}
