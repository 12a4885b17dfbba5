//! Shuffle, by a workflow's webhook trigger.
//!
//! Promises: one delivered event started one workflow run, whose execution id is the receipt; the
//! body is what Wazuh's own `shuffle.py` sends, and the event's `key` with it, so that a workflow
//! written for Wazuh works and can tell a repeat.
//!
//! Quirks: Shuffle knows no repeats: two requests are two runs, so a try whose answer was lost may
//! run a workflow twice. Any 200 counts, because a hook can answer in its owner's own words. A hook
//! that is stopped or unknown is a 400. A 401 without a reason is a body that could not be read. A
//! 500 may have queued the run. Shuffle starts containers, which raise Wazuh's docker alerts: keep
//! those rules out with `when`.
//!
//! Source: Shuffle/Shuffle `backend/go-app/main.go` (`handleWebhookCallback`),
//! Shuffle/shuffle-shared `CheckHookAuth`, wazuh/wazuh `integrations/shuffle.py`.

mod callback;
#[cfg(test)]
mod tests;

use std::{error::Error, sync::Arc};

use async_trait::async_trait;
use holdfast_model::{
    Callbacks, DeliveryError, Destination, Member, Reason, Receipt, Shipment,
    delivery::Delivered,
    settings::{Section, Setting},
};
use reqwest::{
    Method,
    header::{self, HeaderName, HeaderValue},
};
use serde_json::{Value, json};

use super::{Context, Kind};
use crate::{
    callback::{self as calls, Callback},
    http::{self, Answer},
    message::{self, Message},
    secrets::LiveSecret,
    vendor::{self, Api, Auth},
};

pub(super) const KIND: Kind = Kind {
    name: "shuffle",
    summary: "Starts a Shuffle workflow by its webhook trigger.",
    example: r#"
url = "https://shuffle.example:3443/api/v1/hooks/webhook_00000000-1111-2222-3333-444444444444"
headers = { X-Shuffle-Key = "replace-me" }
"#,
    settings: &[&URL, &HEADERS, &message::TEMPLATE, &calls::SHARED],
    batches: false,
    http: true,
    build,
};

const URL: Setting = Setting::optional(
    "url",
    "{ file = \"/etc/holdfast/secrets/shuffle\" }",
    "The trigger's webhook address; its last part is \"webhook_\" and an id, 44 characters. A secret.",
);

const HEADERS: Setting = Setting::optional(
    "headers",
    "{ X-Shuffle-Key = { file = \"/etc/holdfast/secrets/shuffle-key\" } }",
    "The headers that the trigger's authentication box demands. Values are secrets.",
);

/// `webhook_` and a UUID. Shuffle answers 401 to any other length.
const HOOK_CHARS: usize = 44;

#[derive(Debug)]
struct Shuffle {
    callback: Option<Callback>,
    api: Api,
    headers: Vec<(HeaderName, LiveSecret)>,
    template: message::Template,
}

fn build(section: &Section<'_>, context: &Context) -> Option<Arc<dyn Destination>> {
    let address = vendor::address(section, &URL);
    let headers = vendor::headers(section, &HEADERS, &[header::CONTENT_TYPE]);
    let template = message::Template::read(section);
    let callback = Callback::read(section, &callback::VENDOR);
    let address = address?;
    let url = vendor::parse_url(&address.current()).ok()?;
    let hook = url.path().trim_end_matches('/').rsplit('/').next().unwrap_or("");
    if !hook.starts_with("webhook_") || hook.len() != HOOK_CHARS {
        let problem = "its last part must be the trigger's id: \"webhook_\" and 36 characters";
        section.fault(URL.name, problem);
        return None;
    }
    Some(Arc::new(Shuffle {
        callback: callback?,
        api: Api::new(section, context, address, Auth::None)?,
        headers: headers?,
        template: template?,
    }))
}

#[async_trait]
impl Destination for Shuffle {
    async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError> {
        let member = shipment.only()?;
        let body = self.body(member).to_string().into_bytes();
        let headers = self.header_values()?;
        let url = self.api.url()?;
        let answer = self.api.send(Method::POST, url, "application/json", body, &headers).await?;
        let receipt = self.judge(&answer).map_err(|error| self.masked(error))?;
        Ok(Delivered::All(receipt))
    }

    fn refresh_secrets(&self) -> Result<bool, Box<dyn Error + Send + Sync>> {
        let callback = calls::refresh(self.callback.as_ref());
        let mut changed = self.api.refresh()? | callback?;
        for (_, secret) in &self.headers {
            changed |= secret.refresh()?;
            secret.header("")?;
        }
        Ok(changed)
    }

    fn callbacks(&self) -> Option<&dyn Callbacks> {
        calls::port(self.callback.as_ref())
    }

    fn take_template_errors(&self) -> u64 {
        self.template.take_errors()
    }
}

// === impl Shuffle ===

impl Shuffle {
    /// The fields of `shuffle.py`, and ours: `key` and `event`.
    fn body(&self, member: &Member) -> Value {
        let message = Message::of(member);
        let text = self.template.render(&message);
        let text = text.or_else(|| message.log.clone()).unwrap_or_else(|| message.plain());
        json!({
            "severity": severity(&message),
            "pretext": "WAZUH Alert",
            "title": message.title,
            "text": text,
            "rule_id": message.rule_id,
            "timestamp": message.at,
            "id": message.alert["id"],
            "all_fields": message.alert,
            "key": message.key,
            "event": message.id,
        })
    }

    fn header_values(&self) -> Result<Vec<(HeaderName, HeaderValue)>, DeliveryError> {
        let value = |(name, secret): &(HeaderName, LiveSecret)| match secret.header("") {
            Ok(value) => Ok((name.clone(), value)),
            Err(error) => Err(DeliveryError::caused_by(Reason::Misconfigured, error)),
        };
        self.headers.iter().map(value).collect()
    }

    fn judge(&self, answer: &Answer) -> Result<Receipt, DeliveryError> {
        // The body may be the hook's owner's own text.
        let said = self.api.read(answer).unwrap_or_default();
        let Err(error) = self.api.verdict(answer) else {
            return Ok(Receipt {
                status: Some(answer.status.as_u16()),
                remote_id: said["execution_id"].as_str().map(str::to_owned),
                duplicate: false,
                ..Receipt::default()
            });
        };
        let reason = match answer.status.as_u16() {
            // The hook is unknown or stopped, or has no workflow: nothing about this event.
            400 | 403 => Reason::Misconfigured,
            401 if error.excerpt.contains("Hook ID") => Reason::Misconfigured,
            401 if said["success"] == false && said["reason"].is_null() => Reason::ServerFault,
            _ => return Err(error),
        };
        Err(self.api.failure(reason, answer))
    }

    fn masked(&self, error: DeliveryError) -> DeliveryError {
        let secrets: Vec<_> = self.headers.iter().map(|(_, secret)| secret.current()).collect();
        http::masked(error, &secrets)
    }
}

/// As `shuffle.py` counts: 1 up to level 4, 2 up to 7, 3 above. Wazuh 5 has words.
fn severity(message: &Message) -> u8 {
    match (message.level, message.severity) {
        (Some(..=4), _) | (None, message::Severity::Low) => 1,
        (Some(5..=7), _) | (None, message::Severity::Medium) => 2,
        (Some(8..), _) | (None, message::Severity::High | message::Severity::Critical) => 3,
    }
}
