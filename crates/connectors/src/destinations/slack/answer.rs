//! What Slack's answers mean. Pure.

use holdfast_model::{DeliveryError, Reason, Receipt};
use serde_json::Value;

use crate::{http::Answer, vendor::Api};

/// A webhook answers one word; success is exactly `ok`.
pub(super) fn judge_webhook(api: &Api, answer: &Answer) -> Result<Receipt, DeliveryError> {
    let word = answer.excerpt(&[]);
    let word = word.trim();
    api.verdict(answer).map_err(|error| match word {
        "invalid_token" => api.failure(Reason::Unauthorized, answer),
        "action_prohibited"
        | "channel_not_found"
        | "channel_is_archived"
        | "no_service"
        | "no_team" => api.failure(Reason::Misconfigured, answer),
        _ => error,
    })?;
    // What broke off may have been that word.
    answer.body()?;
    if word != "ok" {
        return Err(api.failure(Reason::BadAnswer, answer));
    }
    Ok(Receipt {
        status: Some(answer.status.as_u16()),
        remote_id: None,
        duplicate: false,
        ..Receipt::default()
    })
}

/// A method answers `{"ok":true,…}`, or `{"ok":false,"error":"<code>"}` with the same status.
pub(super) fn judge_bot(api: &Api, answer: &Answer) -> Result<Value, DeliveryError> {
    api.verdict(answer)?;
    let said = api.read(answer)?;
    if said["ok"] == true {
        return Ok(said);
    }
    Err(api.failure(reason(said["error"].as_str().unwrap_or("")), answer))
}

/// Whether the answer says that this thread cannot be continued.
pub(super) fn is_about_thread(api: &Api, answer: &Answer) -> bool {
    THREAD.contains(&code(api, answer).as_str())
}

/// Whether the answer says that this bot may not search here.
pub(super) fn is_search_denied(api: &Api, answer: &Answer) -> bool {
    const DENIED: [&str; 5] = [
        "missing_scope",
        "no_permission",
        "not_allowed_token_type",
        "not_in_channel",
        "thread_not_found",
    ];
    DENIED.contains(&code(api, answer).as_str())
}

fn code(api: &Api, answer: &Answer) -> String {
    let said = api.read(answer).unwrap_or_default();
    said["error"].as_str().unwrap_or("").to_owned()
}

const THREAD: [&str; 3] = [
    "cannot_reply_to_message",
    "restricted_action_thread_locked",
    "restricted_action_non_threadable_channel",
];

/// `chat.postMessage`, section "Errors".
fn reason(code: &str) -> Reason {
    match code {
        "ratelimited" | "rate_limited" | "message_limit_exceeded" => Reason::Throttled,
        "service_unavailable"
        | "internal_error"
        | "request_timeout"
        | "team_added_to_org"
        | "org_login_required" => Reason::ServerFault,
        // "Some aspect of the operation may have succeeded": it is searched before the next try.
        "fatal_error" => Reason::InDoubt,
        // The next try begins a new thread.
        code if THREAD.contains(&code) => Reason::ServerFault,
        "invalid_auth"
        | "not_authed"
        | "account_inactive"
        | "token_revoked"
        | "token_expired"
        | "missing_scope"
        | "not_allowed_token_type"
        | "no_permission"
        | "ekm_access_denied"
        | "access_denied"
        | "accesslimited"
        | "enterprise_is_restricted"
        | "two_factor_setup_required"
        | "app_access_restricted"
        | "team_not_found" => Reason::Unauthorized,
        "channel_not_found"
        | "not_in_channel"
        | "is_archived"
        | "messages_tab_disabled"
        | "restricted_action"
        | "restricted_action_read_only_channel"
        | "restricted_action_thread_only_channel"
        | "unknown_method"
        | "method_deprecated"
        | "deprecated_endpoint" => Reason::Misconfigured,
        "msg_too_long"
        | "msg_blocks_too_long"
        | "attachment_payload_limit_exceeded"
        | "metadata_too_large" => Reason::TooLarge,
        "invalid_blocks"
        | "invalid_blocks_format"
        | "no_text"
        | "markdown_text_conflict"
        | "too_many_attachments"
        | "invalid_metadata_format"
        | "invalid_metadata_schema"
        | "invalid_arg_name"
        | "invalid_array_arg"
        | "invalid_charset"
        | "invalid_form_data"
        | "invalid_post_type"
        | "missing_post_type" => Reason::Refused,
        _ => Reason::BadAnswer,
    }
}
