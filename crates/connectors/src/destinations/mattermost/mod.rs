//! Mattermost, by an incoming webhook.
//!
//! Promises: an event is one post that the server does not split; what an alert says mentions
//! nobody and is no Markdown; each post shows its key.
//!
//! Quirks: success is the word `ok`, without an id. Errors are JSON whose `id` says more than the
//! status: a server that has webhooks turned off answers 501, which no waiting mends. A text above
//! 16,383 characters becomes several posts, and so do attachments above some 7,600 characters of
//! JSON. A webhook has no idempotency key and cannot search, so a try in doubt is sent again.
//!
//! Source: Mattermost developer docs, "Incoming webhooks" and "Message attachments"; the server's
//! `HandleIncomingWebhook` and `SplitWebhookPost` for statuses, ids and limits.

#[cfg(test)]
mod tests;

use std::{error::Error, sync::Arc};

use async_trait::async_trait;
use holdfast_model::{
    DeliveryError, Destination, Reason, Receipt, Shipment,
    delivery::Delivered,
    settings::{Section, Setting},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Context, Kind};
use crate::{
    chat::{self, fenced, plain_markdown, unmentioning},
    http::{self, Answer},
    message::{self, Message, clip},
    vendor::{self, Api, Auth},
};

pub(super) const KIND: Kind = Kind {
    name: "mattermost",
    summary: "Posts to a Mattermost channel through an incoming webhook.",
    example: r#"
url = "https://mattermost.example/hooks/0123456789abcdefghijklmnop"
channel = "soc-alerts"
username = "wazuh"
"#,
    settings: &[&URL, &CHANNEL, &USERNAME, &message::TEMPLATE],
    batches: false,
    http: true,
    build,
};

const URL: Setting = Setting::optional(
    "url",
    "{ file = \"/etc/holdfast/secrets/mattermost\" }",
    "The incoming webhook's address, `https://HOST/hooks/KEY`. A secret.",
);

const CHANNEL: Setting = Setting::optional(
    "channel",
    "\"soc-alerts\"",
    "Another channel than the webhook's own: its name as in its address, or \"@name\" for a person. A webhook that is locked to its channel refuses it.",
);

const USERNAME: Setting = Setting::optional(
    "username",
    "\"wazuh\"",
    "The name posts are shown under, where the server lets integrations override it.",
);

/// `text`; what is longer is split.
const TEXT_CHARS_MAX: usize = 16_383;

/// The attachment as the server writes it, below the 7,600 at which it splits.
const ATTACHMENT_CHARS_MAX: usize = 7000;

/// What is tried until the attachment fits: facts, characters of each, and of the log.
const SHAPES: [(usize, usize, usize); 4] =
    [(20, 500, 2000), (20, 150, 1500), (20, 80, 500), (10, 40, 0)];

#[derive(Debug)]
struct Mattermost {
    api: Api,
    channel: Option<String>,
    username: Option<String>,
    template: message::Template,
}

fn build(section: &Section<'_>, context: &Context) -> Option<Arc<dyn Destination>> {
    let address = vendor::address(section, &URL);
    let channel = section.text(&CHANNEL);
    let username = section.text(&USERNAME);
    let template = message::Template::read(section);
    let api = Api::new(section, context, address?, Auth::None)?;
    Some(Arc::new(Mattermost {
        api,
        channel: channel.map(str::to_owned),
        username: username.map(str::to_owned),
        template: template?,
    }))
}

#[async_trait]
impl Destination for Mattermost {
    async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError> {
        let member = shipment.only()?;
        let body = self.body(&Message::of(member));
        let url = self.api.url()?;
        let secrets = chat::parts(&url, &[]);
        let answer = self.api.json(Method::POST, url, &body).await?;
        let receipt = self.judge(&answer).map_err(|error| http::masked(error, &secrets))?;
        Ok(Delivered::All(receipt))
    }

    fn refresh_secrets(&self) -> Result<bool, Box<dyn Error + Send + Sync>> {
        self.api.refresh()
    }

    fn take_template_errors(&self) -> u64 {
        self.template.take_errors()
    }
}

// === impl Mattermost ===

impl Mattermost {
    fn body(&self, message: &Message) -> Value {
        let own = self.template.render(message);
        let mut body = json!({});
        if let Some(text) = &own {
            body["text"] = clip(&unmentioning(text), TEXT_CHARS_MAX).into();
        }
        for (name, value) in [("channel", &self.channel), ("username", &self.username)] {
            if let Some(value) = value {
                body[name] = value.as_str().into();
            }
        }
        let attachment = match own {
            Some(_) => attachment(message, None),
            None => SHAPES
                .into_iter()
                .map(|shape| attachment(message, Some(shape)))
                .find(|attachment| chars_there(attachment) <= ATTACHMENT_CHARS_MAX)
                .unwrap_or_else(|| attachment(message, None)),
        };
        body["attachments"] = json!([attachment]);
        body
    }

    fn judge(&self, answer: &Answer) -> Result<Receipt, DeliveryError> {
        if let Err(mut error) = self.api.verdict(answer) {
            // An error without a readable body is what its status says.
            let said = self.api.read(answer).unwrap_or_default();
            if let Some(reason) = reason(answer.status, said["id"].as_str().unwrap_or("")) {
                error.reason = reason;
            }
            return Err(error);
        }
        if answer.body()?.trim_ascii() != b"ok" {
            return Err(self.api.failure(Reason::BadAnswer, answer));
        }
        let status = Some(answer.status.as_u16());
        Ok(Receipt { status, remote_id: None, duplicate: false, ..Receipt::default() })
    }
}

/// What the error's id says beyond its status.
fn reason(status: StatusCode, id: &str) -> Option<Reason> {
    match id {
        "web.incoming_webhook.text.app_error"
        | "web.incoming_webhook.parse.app_error"
        | "web.incoming_webhook.split_props_length.app_error" => Some(Reason::Refused),
        // It comes with 501.
        "web.incoming_webhook.disabled.app_error" => Some(Reason::Misconfigured),
        "web.incoming_webhook.invalid.app_error"
        | "web.incoming_webhook.channel.app_error"
        | "web.incoming_webhook.channel_locked.app_error"
        | "web.incoming_webhook.user.app_error"
        | "web.incoming_webhook.permissions.app_error"
        | "api.post.create_post.town_square_read_only"
        | "api.post.create_post.can_not_post_to_deleted.error" => {
            // The same ids come with 500 when the server's database fails.
            status.is_client_error().then_some(Reason::Misconfigured)
        }
        _ => None,
    }
}

/// The message, or its key alone without a shape.
fn attachment(message: &Message, shape: Option<(usize, usize, usize)>) -> Value {
    let mut attachment = json!({
        "color": format!("#{:06x}", chat::colour(message.severity)),
        "footer": format!("Event {}", clip(&message.key, 300)),
        "fallback": message.title,
    });
    let Some((facts, fact_chars, log_chars)) = shape else { return attachment };
    let title = plain_markdown(&message.title, 600);
    let text = format!("**{}** {title}", message.level_text());
    attachment["text"] = match message.log.as_deref().filter(|_| log_chars > 0) {
        Some(log) => format!("{text}\n{}", fenced(log, log_chars)).into(),
        None => text.into(),
    };
    attachment["fields"] = message
        .facts
        .iter()
        .take(facts)
        .map(|fact| {
            let value = plain_markdown(&fact.value, fact_chars);
            json!({ "title": fact.name, "value": value, "short": value.len() <= 40 })
        })
        .collect();
    attachment
}

/// The length of the JSON that the server makes of it: Go writes these characters as `\u003c`.
fn chars_there(attachment: &Value) -> usize {
    let text = attachment.to_string();
    let long = text.chars().filter(|c| matches!(c, '<' | '>' | '&')).count();
    text.chars().count() + 5 * long
}
