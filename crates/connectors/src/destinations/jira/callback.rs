//! Webhooks of Jira Cloud and Data Center: what people do with our issues.
//!
//! `X-Hub-Signature: sha256=<hex>` is an HMAC-SHA256 over the body. Its identifier header is not
//! signed, so a delivery is named by a hash of the body, which has the time in it.

use holdfast_model::{Action, CallbackRequest, Heard, Notice, Refusal, Timestamp};
use serde_json::{Value, json};

use crate::callback::{self, Callback, REPEAT_WINDOW, Vendor};

pub(super) const VENDOR: Vendor = Vendor::signing(verify, read);

fn verify(callback: &Callback, request: &CallbackRequest<'_>) -> Result<(), Refusal> {
    let tag = request.header("x-hub-signature").and_then(|text| text.strip_prefix("sha256="));
    let signed = tag.is_some_and(|tag| callback.keys.signed_hex(&[request.body], tag));
    if signed { Ok(()) } else { Err(Refusal::Signature) }
}

fn read(request: &CallbackRequest<'_>) -> Result<Heard, Refusal> {
    let body = callback::json(request.body)?;
    let Some(kind) = body["webhookEvent"].as_str() else {
        return Err(callback::malformed("`webhookEvent` is missing"));
    };
    let Some(at) = body["timestamp"].as_u64().map(Timestamp) else {
        return Err(callback::malformed("`timestamp` is no number"));
    };
    callback::fresh(at, request.now, REPEAT_WINDOW)?;
    let issue = &body["issue"];
    let labels = issue["fields"]["labels"].as_array().map_or(&[][..], Vec::as_slice);
    let event = labels.iter().filter_map(Value::as_str).find_map(callback::event_of);
    let author = &body["comment"]["author"];
    let user = if body["user"].is_object() { &body["user"] } else { author };
    let id = if user["accountId"].is_string() { &user["accountId"] } else { &user["name"] };
    let delivery = callback::digest(request.body);
    let notice = |(index, (action, text)): (usize, (Action, String))| Notice {
        delivery_id: format!("{delivery}/{index}"),
        action,
        remote_ids: callback::ids([callback::text(&issue["key"]), callback::text(&issue["id"])]),
        event: event.clone(),
        actor: callback::actor(id, &user["displayName"]),
        text,
        at: Some(at),
        data: json!({
            "event_type": kind,
            "status": issue["fields"]["status"]["name"],
            "resolution": issue["fields"]["resolution"]["name"],
            "assignee": issue["fields"]["assignee"]["displayName"],
        }),
    };
    let notices = meanings(kind, &body).into_iter().enumerate().map(notice).collect();
    Ok(Heard { notices, ..Heard::default() })
}

/// What happened, in our words. One update may be several things.
fn meanings(kind: &str, body: &Value) -> Vec<(Action, String)> {
    match kind {
        "comment_created" => vec![(Action::Commented, prose(&body["comment"]["body"]))],
        "jira:issue_deleted" => vec![(Action::Closed, "the issue was deleted".to_owned())],
        "jira:issue_updated" => changes(body),
        _ => Vec::new(),
    }
}

fn changes(body: &Value) -> Vec<(Action, String)> {
    let items = body["changelog"]["items"].as_array().map_or(&[][..], Vec::as_slice);
    let of = |field: &str| items.iter().find(|item| item["field"] == field);
    let mut found = Vec::new();
    if of("assignee").is_some() {
        found.push((Action::Assigned, String::new()));
    }
    if let Some(status) = of("status") {
        let resolution = of("resolution");
        let was_resolved =
            resolution.is_some_and(|item| item["from"].is_string() && !item["to"].is_string());
        let action = match body["issue"]["fields"]["status"]["statusCategory"]["key"].as_str() {
            Some("done") => Action::Closed,
            _ if was_resolved => Action::Reopened,
            Some("new") => Action::Reopened,
            _ => Action::Acknowledged,
        };
        found.push((action, callback::text(&status["toString"])));
    }
    // A comment that comes with another change has no webhook of its own on a Server.
    if body["comment"].is_object() {
        found.push((Action::Commented, prose(&body["comment"]["body"])));
    }
    found
}

/// A text, or the texts of an Atlassian document one behind the other.
fn prose(body: &Value) -> String {
    let mut text = callback::text(body);
    let mut open = vec![body];
    while let Some(node) = open.pop() {
        text.push_str(node["text"].as_str().unwrap_or(""));
        if node["type"] == "paragraph" && !text.is_empty() {
            text.push('\n');
        }
        open.extend(node["content"].as_array().into_iter().flatten().rev());
    }
    text.trim().to_owned()
}
