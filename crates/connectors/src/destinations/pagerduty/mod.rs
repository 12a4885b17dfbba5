//! PagerDuty, by Events API v2.
//!
//! Promises: one event is one page, because the `dedup_key` is the same for every try; an alert
//! that resolves a problem resolves its page; a message is within PagerDuty's limits.
//!
//! Quirks: 202 means "queued there", not "incident created". A wrong routing key is a 400, not a
//! 401. No `Retry-After` comes with a 429. After a page was resolved, a late `trigger` opens a new
//! one. About 120 requests a minute per routing key: set `rate`.
//!
//! Source: PagerDuty developer docs, "Events API v2"; PagerDuty/api-schema `reference/events-v2`.

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
use reqwest::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::{Context, Kind};
use crate::{
    callback::{self as calls, Callback},
    http::{self, Answer},
    message::{self, Lifecycle, Message, Phase, Severities, clip, one_line},
    secrets::LiveSecret,
    vendor::{self, Api, Auth},
};

pub(super) const KIND: Kind = Kind {
    name: "pagerduty",
    summary: "Pages through PagerDuty's Events API v2.",
    example: r#"
routing_key = "0123456789abcdef0123456789abcdef"
group = "problem"
resolved_by = { "504" = "503" }
"#,
    settings: &[
        &ROUTING_KEY,
        &URL,
        &SEVERITY,
        &message::GROUP,
        &message::RESOLVED_BY,
        &message::TEMPLATE,
        &calls::SIGNED,
    ],
    batches: false,
    http: true,
    build,
};

const ROUTING_KEY: Setting = Setting::optional(
    "routing_key",
    "{ file = \"/etc/holdfast/secrets/pagerduty\" }",
    "The integration key of an \"Events API v2\" integration, 32 characters. Not a REST API key. A secret.",
);

const URL: Setting = Setting::new(
    "url",
    "\"https://events.pagerduty.com/v2/enqueue\"",
    "Where events go. In the EU service region: \"https://events.eu.pagerduty.com/v2/enqueue\".",
);

const SEVERITY: Setting = Setting::optional(
    "severity",
    "{ low = \"info\", medium = \"warning\", high = \"error\", critical = \"critical\" }",
    "PagerDuty's word for each severity: \"info\", \"warning\", \"error\" or \"critical\". The default is the example.",
);

const ROUTING_KEY_CHARS: usize = 32;

/// `payload.summary`.
const SUMMARY_CHARS_MAX: usize = 1024;

/// `dedup_key`.
const DEDUP_KEY_CHARS_MAX: usize = 255;

/// The whole body may have 512 KB; what is larger goes without the alert itself.
const BODY_BYTES_MAX: usize = 500_000;

#[derive(Debug)]
struct PagerDuty {
    callback: Option<Callback>,
    api: Api,
    routing_key: LiveSecret,
    severities: Severities,
    lifecycle: Lifecycle,
    template: message::Template,
}

fn build(section: &Section<'_>, context: &Context) -> Option<Arc<dyn Destination>> {
    let routing_key = vendor::secret(section, &ROUTING_KEY);
    let address = vendor::address(section, &URL);
    let words = ["info", "warning", "error", "critical"];
    let severities = Severities::read(section, words, &words);
    let lifecycle = Lifecycle::read(section);
    let template = message::Template::read(section);
    let callback = Callback::read(section, &callback::VENDOR);
    let routing_key = routing_key?;
    let chars = routing_key.current().expose().chars().count();
    if chars != ROUTING_KEY_CHARS {
        let problem =
            format!("it has {chars} characters; an Events v2 key has {ROUTING_KEY_CHARS}");
        section.fault(ROUTING_KEY.name, problem);
        return None;
    }
    Some(Arc::new(PagerDuty {
        callback: callback?,
        api: Api::new(section, context, address?, Auth::None)?,
        routing_key,
        severities: severities?,
        lifecycle: lifecycle?,
        template: template?,
    }))
}

#[async_trait]
impl Destination for PagerDuty {
    async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError> {
        let member = shipment.only()?;
        let mut receipt = Receipt::default();
        // Resolving is idempotent there, so a try that failed between two may repeat the first.
        for body in self.bodies(member) {
            let answer = self.api.json(Method::POST, self.api.url()?, &body).await?;
            receipt = self.judge(&answer).map_err(|error| self.masked(error))?;
        }
        Ok(Delivered::All(receipt))
    }

    fn refresh_secrets(&self) -> Result<bool, Box<dyn Error + Send + Sync>> {
        let (key, api) = (self.routing_key.refresh(), self.api.refresh());
        let callback = calls::refresh(self.callback.as_ref());
        Ok(key? | api? | callback?)
    }

    fn callbacks(&self) -> Option<&dyn Callbacks> {
        calls::port(self.callback.as_ref())
    }

    fn take_template_errors(&self) -> u64 {
        self.template.take_errors()
    }
}

// === impl PagerDuty ===

impl PagerDuty {
    /// One event to trigger, or one for each problem that ends.
    fn bodies(&self, member: &Member) -> Vec<Value> {
        let message = Message::of(member);
        let routing_key = self.routing_key.current();
        let routing_key = routing_key.expose();
        match self.lifecycle.phase(&message) {
            Phase::Open { key } => vec![self.trigger(&message, &key, routing_key)],
            Phase::Resolve { keys } => {
                let resolve = |key: &String| json!({ "routing_key": routing_key, "event_action": "resolve", "dedup_key": key });
                keys.iter().map(resolve).collect()
            }
        }
    }

    fn trigger(&self, message: &Message, key: &str, routing_key: &str) -> Value {
        let summary = self.template.render(message).unwrap_or_else(|| message.title.clone());
        let source = message.agent_name.as_deref().unwrap_or("wazuh");
        let mut body = json!({
            "routing_key": routing_key,
            "event_action": "trigger",
            "dedup_key": clip(key, DEDUP_KEY_CHARS_MAX),
            "client": "Holdfast",
            "payload": {
                "summary": one_line(&summary, SUMMARY_CHARS_MAX),
                "source": one_line(source, SUMMARY_CHARS_MAX),
                "severity": self.severities.word(message.severity),
                "timestamp": message.at,
                "component": message.rule_id.as_ref().map(|id| format!("rule {id}")),
                "group": message.groups.first(),
                "class": message.groups.last(),
                "custom_details": details(message),
            },
        });
        // A field without a value is left out: the schema knows no null.
        if let Some(payload) = body["payload"].as_object_mut() {
            payload.retain(|_, value| !value.is_null());
        }
        if body.to_string().len() > BODY_BYTES_MAX {
            let note = format!("left out for its length; event {}", message.id);
            body["payload"]["custom_details"]["alert"] = note.into();
        }
        body
    }

    fn judge(&self, answer: &Answer) -> Result<Receipt, DeliveryError> {
        if let Err(error) = self.api.verdict(answer) {
            // 400 is both "this event is invalid" and "this key is wrong"; the words tell them apart.
            let names_key = error.excerpt.to_ascii_lowercase().contains("routing");
            let wrong_key = error.status == Some(400) && names_key;
            return Err(if wrong_key {
                self.api.failure(Reason::Unauthorized, answer)
            } else {
                error
            });
        }
        // The answer's body may be lost: 202 is the vendor's word. Another success may be the page
        // of something between us, unless it says so itself. Asking again is safe.
        let said = match answer.status {
            StatusCode::ACCEPTED => self.api.read(answer).unwrap_or_default(),
            _ => self.api.read(answer)?,
        };
        if answer.status != StatusCode::ACCEPTED && said["status"] != "success" {
            return Err(self.api.failure(Reason::BadAnswer, answer));
        }
        Ok(Receipt {
            status: Some(answer.status.as_u16()),
            remote_id: said["dedup_key"].as_str().map(str::to_owned),
            duplicate: false,
            ..Receipt::default()
        })
    }

    fn masked(&self, error: DeliveryError) -> DeliveryError {
        http::masked(error, &[self.routing_key.current()])
    }
}

fn details(message: &Message) -> Value {
    let mut details = Map::new();
    for fact in &message.facts {
        details.insert(fact.name.to_string(), fact.value.clone().into());
    }
    details.insert("Level".into(), message.level_text().into());
    details.insert("Event".into(), message.id.clone().into());
    if let Some(log) = &message.log {
        details.insert("Log".into(), log.clone().into());
    }
    details.insert("alert".into(), message.alert.clone());
    Value::Object(details)
}
