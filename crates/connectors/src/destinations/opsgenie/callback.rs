//! Opsgenie's outgoing webhook: what people do with our alerts.
//!
//! It signs nothing; a custom header holds the secret. The alert is known by its alias, which is
//! the event's key, or the problem's.

use holdfast_model::{Action, CallbackRequest, Heard, Notice, Refusal};
use serde_json::json;

use crate::callback::{self, Vendor};

pub(super) const VENDOR: Vendor = Vendor::sharing("x-holdfast-secret", read);

fn read(request: &CallbackRequest<'_>) -> Result<Heard, Refusal> {
    let body = callback::json(request.body)?;
    let Some(word) = body["action"].as_str() else {
        return Err(callback::malformed("`action` is missing"));
    };
    let action = match word {
        "Acknowledge" => Action::Acknowledged,
        "UnAcknowledge" => Action::Reopened,
        "AddNote" => Action::Commented,
        "Close" | "Delete" => Action::Closed,
        "AssignOwnership" | "TakeOwnership" | "AddTeam" | "AddResponder" | "AddRecipient" => {
            Action::Assigned
        }
        _ => return Ok(Heard::default()),
    };
    let alert = &body["alert"];
    let alias = callback::text(&alert["alias"]);
    let user = if alert["userId"].is_string() { &alert["userId"] } else { &alert["username"] };
    let notice = Notice {
        delivery_id: callback::digest(request.body),
        action,
        event: callback::event_of(&alias),
        remote_ids: callback::ids([alias, callback::text(&alert["alertId"])]),
        actor: callback::actor(user, &alert["username"]),
        text: callback::text(&alert["note"]),
        at: None,
        data: json!({
            "event_type": word,
            "alert_id": alert["alertId"],
            "owner": alert["owner"],
            "team": body["integrationName"],
        }),
    };
    Ok(Heard { notices: vec![notice], ..Heard::default() })
}
