//! TheHive's webhook notifier, versions 4 and 5: what analysts do with our alerts and their cases.
//!
//! It signs nothing; an endpoint's `auth` puts the secret into `Authorization` or another header.
//! Names differ between versions in case and place, so all of them are looked for. A case holds
//! the tag `holdfast:<event id>` of every alert that it was made of or merged with: by it a closed
//! case finds its events. It is sent once and never repeated.

use holdfast_model::{Action, CallbackRequest, EventId, Heard, Notice, Refusal, Timestamp};
use serde_json::{Value, json};

use super::alert::EVENT_TAG;
use crate::callback::{self, Vendor};

/// Events of one case that are told of.
const EVENTS_MAX: usize = 8;

pub(super) const VENDOR: Vendor = Vendor::sharing("authorization", read);

fn read(request: &CallbackRequest<'_>) -> Result<Heard, Refusal> {
    let body = callback::json(request.body)?;
    let word = |name: &str| body[name].as_str().map(str::to_ascii_lowercase);
    let (Some(operation), Some(kind)) = (word("operation"), word("objectType")) else {
        return Err(callback::malformed("`operation` or `objectType` is missing"));
    };
    let meanings = match (operation.as_str(), kind.as_str()) {
        ("update", "alert" | "case") => changes(&body),
        ("delete", "alert" | "case") => vec![Action::Closed],
        ("create" | "creation", "comment") => vec![Action::Commented],
        _ => Vec::new(),
    };
    let object = &body["object"];
    let events = events(object);
    let text = match object["message"].as_str().or_else(|| object["summary"].as_str()) {
        Some(text) => text.to_owned(),
        None => String::new(),
    };
    let by = ["_updatedBy", "updatedBy", "_createdBy", "createdBy"];
    let by = by.iter().map(|name| &object[*name]).find(|by| by.is_string());
    let at = body["startDate"].as_u64().or_else(|| object["_updatedAt"].as_u64()).map(Timestamp);
    let ids = ["objectId", "rootId"].map(|name| callback::text(&body[name]));
    let delivery = callback::digest(request.body);
    let mut notices = Vec::new();
    for action in meanings {
        for event in &events {
            notices.push(Notice {
                delivery_id: format!("{delivery}/{}", notices.len()),
                action,
                remote_ids: callback::ids(ids.clone()),
                event: event.clone(),
                actor: by.and_then(|by| callback::actor(by, by)),
                text: text.clone(),
                at,
                data: json!({
                    "object": kind,
                    "status": status(object),
                    "stage": object["stage"],
                    "verdict": verdict(object),
                    "assignee": object["assignee"],
                    "number": object["number"],
                }),
            });
        }
    }
    Ok(Heard { notices, ..Heard::default() })
}

/// The events that an alert or a case is about; without any, the one that a link may lead to.
fn events(object: &Value) -> Vec<Option<EventId>> {
    let own = object["sourceRef"].as_str().and_then(callback::event_of);
    let tags = object["tags"].as_array().map_or(&[][..], Vec::as_slice);
    let tagged = tags
        .iter()
        .filter_map(Value::as_str)
        .filter_map(|tag| callback::event_of(tag.strip_prefix(EVENT_TAG)?));
    let mut events: Vec<_> = own.into_iter().collect();
    for event in tagged {
        if !events.contains(&event) && events.len() < EVENTS_MAX {
            events.push(event);
        }
    }
    if events.is_empty() { vec![None] } else { events.into_iter().map(Some).collect() }
}

fn changes(body: &Value) -> Vec<Action> {
    let (details, object) = (&body["details"], &body["object"]);
    let mut found = Vec::new();
    if details.get("assignee").is_some() || details.get("owner").is_some() {
        found.push(Action::Assigned);
    }
    let judged = details.get("resolutionStatus").is_some() || details.get("status").is_some();
    if judged && verdict(object).is_some() {
        found.push(Action::Verdict);
    }
    let stage = details["stage"].as_str().or_else(|| object["stage"].as_str()).unwrap_or("");
    if let Some(status) = details["status"].as_str() {
        found.extend(of_status(status, stage));
    } else if details["read"] == true {
        found.push(Action::Acknowledged);
    }
    found
}

fn of_status(status: &str, stage: &str) -> Option<Action> {
    match status {
        "New" | "Open" => Some(Action::Reopened),
        "InProgress" | "Pending" | "Imported" => Some(Action::Acknowledged),
        "Resolved" | "Ignored" | "Duplicated" | "Deleted" | "TruePositive" | "FalsePositive"
        | "Indeterminate" | "Other" => Some(Action::Closed),
        // An administrator may add statuses; each belongs to a stage.
        _ => match stage {
            "New" => Some(Action::Reopened),
            "InProgress" => Some(Action::Acknowledged),
            "Closed" => Some(Action::Closed),
            _ => None,
        },
    }
}

fn status(object: &Value) -> &Value {
    if object["extendedStatus"].is_string() { &object["extendedStatus"] } else { &object["status"] }
}

/// In one spelling for both versions.
fn verdict(object: &Value) -> Option<&'static str> {
    let word = object["resolutionStatus"].as_str().or_else(|| status(object).as_str())?;
    match word {
        "TruePositive" => Some("true_positive"),
        "FalsePositive" => Some("false_positive"),
        "Indeterminate" => Some("indeterminate"),
        "Duplicated" => Some("duplicate"),
        _ => None,
    }
}
