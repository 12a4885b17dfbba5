//! Updates that Telegram sends to a webhook: replies to our messages, and presses of buttons.
//!
//! `X-Telegram-Bot-Api-Secret-Token` is the `secret_token` of `setWebhook`. Nothing is signed, and
//! there is no time of the try; `update_id` names the delivery. A reply `/ack`, `/close` or
//! `/reopen` is that; any other reply is a comment.

use holdfast_model::{Action, CallbackReply, CallbackRequest, Heard, Notice, Refusal, Timestamp};
use serde_json::{Value, json};

use crate::callback::{self, Vendor, own};

pub(super) const VENDOR: Vendor =
    Vendor { judge, ..Vendor::sharing("x-telegram-bot-api-secret-token", read) };

/// `setWebhook`: 1 to 256 characters of `A-Z`, `a-z`, `0-9`, `_` and `-`.
fn judge(secret: &str) -> Result<(), String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if (1..=256).contains(&secret.len()) && secret.bytes().all(fits) {
        return Ok(());
    }
    Err("Telegram takes 1 to 256 letters, digits, `_` and `-`".to_owned())
}

fn read(request: &CallbackRequest<'_>) -> Result<Heard, Refusal> {
    let body = callback::json(request.body)?;
    let Some(update) = body["update_id"].as_i64() else {
        return Err(callback::malformed("`update_id` is missing"));
    };
    if body["callback_query"].is_object() {
        return press(update, &body["callback_query"]);
    }
    let message = &body["message"];
    let answered = &message["reply_to_message"];
    let said = message["text"].as_str().unwrap_or("");
    if !answered.is_object() || said.is_empty() {
        return Ok(Heard::default());
    }
    // In a group a command may name the bot: `/ack@soc_bot`.
    let command = said.split_whitespace().next().and_then(|word| word.split('@').next());
    let action = match command {
        Some("/ack") => Action::Acknowledged,
        Some("/close") => Action::Closed,
        Some("/reopen") => Action::Reopened,
        _ => Action::Commented,
    };
    let notice = Notice {
        text: said.to_owned(),
        at: message["date"].as_u64().map(|seconds| Timestamp(seconds.saturating_mul(1000))),
        ..notice(update, action, &message["chat"], answered, &message["from"])
    };
    Ok(Heard { notices: vec![notice], ..Heard::default() })
}

/// `callback_data` is `<word>` or `<word>:<event id>`, as a bot's own keyboard may send it.
fn press(update: i64, query: &Value) -> Result<Heard, Refusal> {
    let data = query["data"].as_str().unwrap_or("");
    let (word, id) = data.split_once(':').unwrap_or((data, ""));
    let action = match word {
        "acknowledge" => Action::Acknowledged,
        "close" => Action::Closed,
        "reopen" => Action::Reopened,
        word if own::is_word(word) => Action::ActionRequested,
        _ => return Err(callback::malformed("`callback_query.data` is no word of ours")),
    };
    let message = &query["message"];
    let mut notice = notice(update, action, &message["chat"], message, &query["from"]);
    notice.event = callback::event_of(id);
    if action == Action::ActionRequested {
        notice.data["request"] = word.into();
    }
    // Without this answer the button goes on turning.
    let answer = json!({ "method": "answerCallbackQuery", "callback_query_id": query["id"] });
    let reply = CallbackReply { body: answer.to_string(), ..CallbackReply::default() };
    Ok(Heard { notices: vec![notice], reply })
}

fn notice(update: i64, action: Action, chat: &Value, about: &Value, from: &Value) -> Notice {
    let (chat, about) = (callback::text(&chat["id"]), callback::text(&about["message_id"]));
    let name = if from["username"].is_string() { &from["username"] } else { &from["first_name"] };
    Notice {
        delivery_id: update.to_string(),
        action,
        remote_ids: vec![format!("{chat}/{about}")],
        event: None,
        actor: callback::actor(&from["id"], name),
        text: String::new(),
        at: None,
        data: json!({}),
    }
}
