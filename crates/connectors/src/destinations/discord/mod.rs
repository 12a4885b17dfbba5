//! Discord, by a webhook.
//!
//! Promises: a message counts as delivered when Discord has saved it and named its id; nothing in
//! it mentions anybody or is Markdown that an alert brought along; it is within Discord's limits;
//! each message shows its key.
//!
//! Quirks: without `wait=true` a message that is not saved gives no error, so it is always asked
//! for. `retry_after` is in the body, with fractions. An address that is gone (404) must not be
//! used again, or Discord bars the sender's IP address; 404 parks the lane. A webhook has no
//! idempotency key and cannot search, so a try in doubt is sent again.
//!
//! Source: Discord developer docs, "Webhook: Execute Webhook", "Message: Embed Limits", "Allowed
//! Mentions", "Rate Limits", "Opcodes and Status Codes: JSON".

#[cfg(test)]
mod tests;

use std::{error::Error, sync::Arc, time::Duration};

use async_trait::async_trait;
use holdfast_model::{
    DeliveryError, Destination, Reason, Receipt, Shipment,
    delivery::Delivered,
    settings::{Section, Setting},
};
use reqwest::{Method, StatusCode, Url};
use serde_json::{Value, json};

use super::{Context, Kind};
use crate::{
    chat::{self, fenced, plain_markdown},
    http::{self, Answer, RETRY_AFTER_MAX},
    message::{self, Message, clip},
    vendor::{self, Api, Auth},
};

pub(super) const KIND: Kind = Kind {
    name: "discord",
    summary: "Posts to a Discord channel through a webhook.",
    example: r#"
url = "https://discord.com/api/v10/webhooks/123456789012345678/abcdefghij"
thread_id = "123456789012345678"
"#,
    settings: &[&URL, &THREAD_ID, &message::TEMPLATE],
    batches: false,
    http: true,
    build,
};

const URL: Setting = Setting::optional(
    "url",
    "{ file = \"/etc/holdfast/secrets/discord\" }",
    "The webhook's address, `https://discord.com/api/webhooks/ID/TOKEN`. A secret.",
);

const THREAD_ID: Setting = Setting::optional(
    "thread_id",
    "\"123456789012345678\"",
    "The id of a thread in the webhook's channel to post to, digits in quotes. A forum needs one.",
);

/// `content`.
const CONTENT_CHARS_MAX: usize = 2000;

/// An embed's title may have 256 characters, and all texts of a message's embeds 6,000; these
/// limits keep to both.
const TITLE_CHARS_MAX: usize = 230;
const FIELD_CHARS_MAX: usize = 180;
const LOG_CHARS_MAX: usize = 1500;
const FOOTER_CHARS_MAX: usize = 200;

/// An embed may have 25.
const FIELDS_MAX: usize = 20;

/// "The channel is a forum" and its kin, an unknown channel, a webhook that is unknown.
const MISCONFIGURED_CODES: [u64; 6] = [10_003, 10_015, 220_001, 220_002, 220_003, 220_004];

/// "Invalid Webhook Token".
const BAD_TOKEN_CODE: u64 = 50_027;

#[derive(Debug)]
struct Discord {
    api: Api,
    thread_id: Option<String>,
    template: message::Template,
}

fn build(section: &Section<'_>, context: &Context) -> Option<Arc<dyn Destination>> {
    let address = vendor::address(section, &URL);
    let thread_id = section.text(&THREAD_ID);
    let template = message::Template::read(section);
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if thread_id.is_some_and(|id| !is_number(id)) {
        section.fault(THREAD_ID.name, "it must be digits, as \"123456789012345678\"");
        return None;
    }
    Some(Arc::new(Discord {
        api: Api::new(section, context, address?, Auth::None)?,
        thread_id: thread_id.map(str::to_owned),
        template: template?,
    }))
}

#[async_trait]
impl Destination for Discord {
    async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError> {
        let member = shipment.only()?;
        let body = self.body(&Message::of(member));
        let url = self.url()?;
        let secrets = chat::parts(&url, &[]);
        let answer = self.api.json(Method::POST, url, &body).await?;
        let receipt = self.judge(&answer).map_err(|error| http::masked(error, &secrets))?;
        Ok(Delivered::All(receipt))
    }

    /// A webhook's own address answers with its description.
    async fn check(&self) -> Option<Result<(), DeliveryError>> {
        let asked = async {
            let mut url = self.api.url()?;
            url.set_query(None);
            let secrets = chat::parts(&url, &[]);
            let answer = self.api.get(url).await?;
            self.verdict(&answer).map_err(|error| http::masked(error, &secrets))
        };
        Some(asked.await)
    }

    fn refresh_secrets(&self) -> Result<bool, Box<dyn Error + Send + Sync>> {
        self.api.refresh()
    }

    fn take_template_errors(&self) -> u64 {
        self.template.take_errors()
    }
}

// === impl Discord ===

impl Discord {
    /// The address with the parameters that are ours, whatever it had of them.
    fn url(&self) -> Result<Url, DeliveryError> {
        let mut url = self.api.url()?;
        let ours = |name: &str| name == "wait" || (name == "thread_id" && self.thread_id.is_some());
        let others: Vec<(String, String)> =
            url.query_pairs().into_owned().filter(|(name, _)| !ours(name)).collect();
        url.query_pairs_mut()
            .clear()
            .append_pair("wait", "true")
            .extend_pairs(self.thread_id.as_ref().map(|id| ("thread_id", id)))
            .extend_pairs(others);
        Ok(url)
    }

    fn body(&self, message: &Message) -> Value {
        let mut embed = json!({
            "color": chat::colour(message.severity),
            "footer": { "text": format!("Event {}", clip(&message.key, FOOTER_CHARS_MAX - 6)) },
        });
        let mut body = json!({ "allowed_mentions": { "parse": [] } });
        if let Some(text) = self.template.render(message) {
            // An empty text is left out, because the embed is content enough.
            if !text.trim().is_empty() {
                body["content"] = clip(&text, CONTENT_CHARS_MAX).into();
            }
        } else {
            let title = plain_markdown(&message.title, TITLE_CHARS_MAX);
            embed["title"] = format!("{}: {title}", message.level_text()).into();
            embed["fields"] = message
                .facts
                .iter()
                .take(FIELDS_MAX)
                .map(|fact| {
                    let value = plain_markdown(&fact.value, FIELD_CHARS_MAX);
                    json!({ "name": fact.name, "value": value, "inline": value.len() <= 40 })
                })
                .collect();
            if let Some(log) = &message.log {
                embed["description"] = fenced(log, LOG_CHARS_MAX).into();
            }
        }
        body["embeds"] = json!([embed]);
        body
    }

    fn judge(&self, answer: &Answer) -> Result<Receipt, DeliveryError> {
        self.verdict(answer)?;
        if answer.status != StatusCode::OK {
            // 204 is the answer to a request that did not wait, which this was not.
            return Err(self.api.failure(Reason::BadAnswer, answer));
        }
        let said = self.api.read(answer)?;
        let Some(id) = said["id"].as_str().filter(|id| !id.is_empty()) else {
            return Err(self.api.failure(Reason::BadAnswer, answer));
        };
        Ok(Receipt {
            status: Some(answer.status.as_u16()),
            remote_id: Some(id.to_owned()),
            duplicate: false,
            ..Receipt::default()
        })
    }

    fn verdict(&self, answer: &Answer) -> Result<(), DeliveryError> {
        let Err(mut error) = self.api.verdict(answer) else { return Ok(()) };
        // An error without a readable body is what its status says.
        let said = self.api.read(answer).unwrap_or_default();
        if error.reason == Reason::Throttled {
            let seconds = said["retry_after"].as_f64().map(Duration::try_from_secs_f64);
            if let Some(Ok(wait)) = seconds {
                error.retry_after = Some(wait.min(RETRY_AFTER_MAX));
            }
        }
        let code = said["code"].as_u64().unwrap_or(0);
        if code == BAD_TOKEN_CODE {
            error.reason = Reason::Unauthorized;
        } else if MISCONFIGURED_CODES.contains(&code) {
            error.reason = Reason::Misconfigured;
        }
        Err(error)
    }
}
