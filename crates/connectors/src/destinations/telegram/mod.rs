//! Telegram, by a bot's `sendMessage`.
//!
//! Promises: what an alert says is no mark-up and, without a template, mentions nobody; a message
//! is within Telegram's length; each message shows its key; a template whose mark-up Telegram
//! cannot read arrives as plain text.
//!
//! Quirks: the token is in the address's path. 404 says that the token is wrong. Only the words of
//! a 400 tell a chat that is not there from a text that cannot be parsed. How long to wait is in
//! the body, not in `Retry-After`. A group that becomes a supergroup gets another id, which the
//! answer names: it is used until the next start. There is no idempotency key and no search, so a
//! try in doubt is sent again.
//!
//! Source: Telegram Bot API, "Making requests", "sendMessage", "ResponseParameters", "Formatting
//! options: HTML style".

mod callback;
#[cfg(test)]
mod tests;

use std::{
    error::Error,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use holdfast_model::{
    Callbacks, DeliveryError, Destination, Reason, Receipt, Secret, Shipment,
    delivery::Delivered,
    settings::{Section, Setting},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Context, Kind};
use crate::{
    callback::{self as calls, Callback},
    chat::{entities, unmentioning},
    http::{self, Answer, RETRY_AFTER_MAX, classify},
    message::{self, Message, clip},
    secrets::LiveSecret,
    vendor::{self, Api, Auth},
};

pub(super) const KIND: Kind = Kind {
    name: "telegram",
    summary: "Sends messages to a Telegram chat as a bot.",
    example: r#"
token = "123456789:abcdefghijklmnopqrstuvwxyz"
chat_id = -1001234567890
thread_id = 42
"#,
    settings: &[&TOKEN, &CHAT_ID, &THREAD_ID, &API_URL, &message::TEMPLATE, &calls::SIGNED],
    batches: false,
    http: true,
    build,
};

const TOKEN: Setting = Setting::optional(
    "token",
    "{ file = \"/etc/holdfast/secrets/telegram\" }",
    "The bot's token as BotFather gives it, `123456789:…`. A secret.",
);

const CHAT_ID: Setting = Setting::optional(
    "chat_id",
    "-1001234567890",
    "Where to send to: the id of a chat or group, or \"@name\" of a public channel.",
);

const THREAD_ID: Setting = Setting::optional(
    "thread_id",
    "42",
    "The topic in a forum group, 1 or more. Default: the group's general topic.",
);

const API_URL: Setting = Setting::new(
    "api_url",
    "\"https://api.telegram.org\"",
    "Where the Bot API is; another address for a Bot API server of your own.",
);

/// `text`. Counted in UTF-16 units and with the mark-up, which is more than Telegram counts.
const TEXT_UNITS_MAX: usize = 4096;

/// What is tried until the text fits: facts, characters of each, and of the log.
const SHAPES: [(usize, usize, usize); 4] =
    [(20, 500, 1500), (20, 200, 700), (15, 100, 300), (4, 60, 0)];

/// A 400 with one of these is about the chat and not about the text.
const ABOUT_THE_CHAT: [&str; 5] = [
    "chat not found",
    "thread not found",
    "rights to send",
    "topic_closed",
    "chat_write_forbidden",
];

const CANNOT_PARSE: &str = "can't parse";

#[derive(Debug)]
struct Telegram {
    callback: Option<Callback>,
    api: Api,
    token: LiveSecret,
    chat_id: Value,
    thread_id: Option<i64>,
    template: message::Template,
    /// The id of the supergroup that the group became.
    moved_to: Mutex<Option<i64>>,
}

fn build(section: &Section<'_>, context: &Context) -> Option<Arc<dyn Destination>> {
    let token = vendor::secret(section, &TOKEN);
    let chat_id = chat(section);
    let thread_id = section.integer(&THREAD_ID, 1..=i64::MAX);
    let address = vendor::address(section, &API_URL);
    let template = message::Template::read(section);
    let callback = Callback::read(section, &callback::VENDOR);
    let token = token?;
    if !is_token(&token.current()) {
        section.fault(TOKEN.name, "it is no bot's token, which is digits, a colon and letters");
        return None;
    }
    Some(Arc::new(Telegram {
        callback: callback?,
        api: Api::new(section, context, address?, Auth::None)?,
        token,
        chat_id: chat_id?,
        thread_id,
        template: template?,
        moved_to: Mutex::default(),
    }))
}

fn chat(section: &Section<'_>) -> Option<Value> {
    if !section.has(CHAT_ID.name) {
        section.fault("", format!("`{}` is missing: {}", CHAT_ID.name, CHAT_ID.doc));
    }
    let given = section.texts(&CHAT_ID)?;
    let id = match given.as_slice() {
        [name] if name.len() > 1 && name.starts_with('@') => Some(name.as_str().into()),
        [number] => number.parse::<i64>().ok().map(Value::from),
        _ => None,
    };
    if id.is_none() {
        section.fault(CHAT_ID.name, "it must be one number, or \"@name\" of a public channel");
    }
    id
}

fn is_token(token: &Secret) -> bool {
    let Some((bot, rest)) = token.expose().split_once(':') else { return false };
    let digits = !bot.is_empty() && bot.bytes().all(|b| b.is_ascii_digit());
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    digits && !rest.is_empty() && rest.bytes().all(word)
}

#[async_trait]
impl Destination for Telegram {
    async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError> {
        let member = shipment.only()?;
        let message = Message::of(member);
        let mut body = self.body(&message);
        let mut answer = self.call("sendMessage", &body).await?;
        // Nothing was sent by the first, and without mark-up there is nothing to parse.
        if self.is_about_markup(&answer)
            && let Some(object) = body.as_object_mut()
        {
            object.remove("parse_mode");
            answer = self.call("sendMessage", &body).await?;
        }
        let said = self.judge(&answer)?;
        let result = &said["result"];
        let Some(id) = result["message_id"].as_i64() else {
            return Err(self.failure(Reason::BadAnswer, &answer));
        };
        let chat = result["chat"]["id"].as_i64().map_or(self.chat_id.clone(), Value::from);
        let chat = chat.as_str().map_or_else(|| chat.to_string(), str::to_owned);
        Ok(Delivered::All(Receipt {
            status: Some(answer.status.as_u16()),
            remote_id: Some(format!("{chat}/{id}")),
            duplicate: false,
            ..Receipt::default()
        }))
    }

    async fn check(&self) -> Option<Result<(), DeliveryError>> {
        let asked = async {
            let answer = self.call("getMe", &json!({})).await?;
            self.judge(&answer).map(drop)
        };
        Some(asked.await)
    }

    fn refresh_secrets(&self) -> Result<bool, Box<dyn Error + Send + Sync>> {
        let (token, api) = (self.token.refresh(), self.api.refresh());
        let callback = calls::refresh(self.callback.as_ref());
        Ok(token? | api? | callback?)
    }

    fn callbacks(&self) -> Option<&dyn Callbacks> {
        calls::port(self.callback.as_ref())
    }

    fn take_template_errors(&self) -> u64 {
        self.template.take_errors()
    }
}

// === impl Telegram ===

impl Telegram {
    async fn call(&self, method: &str, body: &Value) -> Result<Answer, DeliveryError> {
        let token = self.token.current();
        let url = self.api.at(&format!("bot{}/{method}", token.expose()))?;
        self.api.json(Method::POST, url, body).await
    }

    fn body(&self, message: &Message) -> Value {
        let text = match self.template.render(message) {
            Some(text) => {
                let key = format!("\nEvent {}", entities(&message.key, 300));
                format!("{}{key}", within(&text, TEXT_UNITS_MAX - units(&key)))
            }
            None => {
                let [most @ .., least] = SHAPES;
                let shaped = most.into_iter().map(|shape| html(message, shape));
                shaped
                    .into_iter()
                    .find(|text| units(text) <= TEXT_UNITS_MAX)
                    .unwrap_or_else(|| html(message, least))
            }
        };
        let moved_to = *self.moved_to.lock().unwrap_or_else(PoisonError::into_inner);
        let mut body = json!({
            "chat_id": moved_to.map_or(self.chat_id.clone(), Value::from),
            "text": text,
            "parse_mode": "HTML",
            "link_preview_options": { "is_disabled": true },
        });
        if let Some(id) = self.thread_id {
            body["message_thread_id"] = id.into();
        }
        body
    }

    fn is_about_markup(&self, answer: &Answer) -> bool {
        answer.status == StatusCode::BAD_REQUEST
            && self.api.read(answer).is_ok_and(|said| description(&said).contains(CANNOT_PARSE))
    }

    /// `{"ok":true,"result":…}`, or `{"ok":false,"error_code":…,"description":…}`.
    fn judge(&self, answer: &Answer) -> Result<Value, DeliveryError> {
        if answer.status.is_success() {
            let said = self.api.read(answer).map_err(|error| self.masked(error))?;
            if said["ok"] == true {
                return Ok(said);
            }
        }
        // An error without a readable body is what its status says.
        let said = self.api.read(answer).unwrap_or_default();
        let code = said["error_code"].as_u64().and_then(|code| u16::try_from(code).ok());
        let status = code.and_then(|code| StatusCode::from_u16(code).ok()).unwrap_or(answer.status);
        let reason = match classify(status, &answer.headers, SystemTime::now()) {
            Ok(()) => Reason::BadAnswer,
            Err(error) => error.reason,
        };
        let description = description(&said);
        let reason = match status.as_u16() {
            400 if self.move_to(&said["parameters"]["migrate_to_chat_id"]) => Reason::ServerFault,
            400 if ABOUT_THE_CHAT.iter().any(|words| description.contains(words)) => {
                Reason::Misconfigured
            }
            400 if description.contains("too long") => Reason::TooLarge,
            // The bot was removed, blocked, or may not write.
            403 => Reason::Misconfigured,
            404 => Reason::Unauthorized,
            _ => reason,
        };
        let mut error = self.failure(reason, answer);
        if let Some(seconds) = said["parameters"]["retry_after"].as_u64() {
            error.retry_after = Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
        }
        Err(error)
    }

    /// Whether the chat has another id now that was not known yet: the next try uses it.
    fn move_to(&self, id: &Value) -> bool {
        let Some(id) = id.as_i64() else { return false };
        let mut moved_to = self.moved_to.lock().unwrap_or_else(PoisonError::into_inner);
        moved_to.replace(id) != Some(id)
    }

    fn failure(&self, reason: Reason, answer: &Answer) -> DeliveryError {
        self.masked(self.api.failure(reason, answer))
    }

    fn masked(&self, error: DeliveryError) -> DeliveryError {
        http::masked(error, &[self.token.current()])
    }
}

fn description(said: &Value) -> String {
    said["description"].as_str().unwrap_or("").to_ascii_lowercase()
}

fn html(message: &Message, (facts, fact_chars, log_chars): (usize, usize, usize)) -> String {
    let title = entities(&unmentioning(&message.title), 1500);
    let mut text = format!("<b>{}</b> {title}\n", message.level_text());
    for fact in message.facts.iter().take(facts) {
        let value = entities(&unmentioning(&fact.value), fact_chars);
        text.push_str(&format!("<b>{}:</b> {value}\n", fact.name));
    }
    if let Some(log) = message.log.as_deref().filter(|_| log_chars > 0) {
        text.push_str(&format!("<pre>{}</pre>\n", entities(log, log_chars)));
    }
    text.push_str(&format!("<code>Event {}</code>", entities(&message.key, 300)));
    text
}

fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// The text within so many UTF-16 units, whatever its characters are.
fn within(text: &str, units_max: usize) -> String {
    let cut = clip(text, units_max);
    if units(&cut) <= units_max {
        return cut.into_owned();
    }
    // No character has more than two units.
    clip(text, units_max / 2).into_owned()
}
