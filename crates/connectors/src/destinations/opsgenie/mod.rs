//! Opsgenie, and the operations side of Jira Service Management, which kept Opsgenie's API: the
//! address decides.
//!
//! Promises: one event is one alert, because the `alias` is the same for every try; an alert that
//! resolves a problem closes its alert; a message is within Opsgenie's limits.
//!
//! Quirks: 202 means "will be processed", and what was accepted can still be rejected there. The
//! same alias counts up while the alert is open; after a close it opens a new one. A key of the
//! wrong form is a 422. A 429 names its wait in `X-RateLimit-Period-In-Sec`. Only the key of an API
//! integration can create alerts, not an account's API key.
//!
//! Source: opsgenie/opsgenie-oas `swagger.json`; Opsgenie docs, "Alert API" and "API rate
//! limiting"; Atlassian developer docs, "JSM operations: integration events".

mod callback;
#[cfg(test)]
mod tests;

use std::{error::Error, sync::Arc, time::Duration};

use async_trait::async_trait;
use holdfast_model::{
    Callbacks, DeliveryError, Destination, Member, Reason, Receipt, Shipment,
    delivery::Delivered,
    settings::{Section, Setting},
};
use reqwest::{
    Method, StatusCode, Url,
    header::{AUTHORIZATION, RETRY_AFTER},
};
use serde_json::{Map, Value, json};

use super::{Context, Kind};
use crate::{
    callback::{self as calls, Callback},
    http::{Answer, RETRY_AFTER_MAX},
    message::{self, Lifecycle, Message, Phase, Severities, clip, one_line},
    vendor::{self, Api, Auth},
};

pub(super) const KIND: Kind = Kind {
    name: "opsgenie",
    summary: "Alerts in Opsgenie or in Jira Service Management's operations.",
    example: r#"
api_key = "00000000-1111-2222-3333-444444444444"
responders = ["team:SOC"]
group = "problem"
resolved_by = { "504" = "503" }
"#,
    settings: &[
        &API_KEY,
        &URL,
        &RESPONDERS,
        &TAGS,
        &SEVERITY,
        &message::GROUP,
        &message::RESOLVED_BY,
        &message::TEMPLATE,
        &calls::SHARED,
    ],
    batches: false,
    http: true,
    build,
};

const API_KEY: Setting = Setting::optional(
    "api_key",
    "{ file = \"/etc/holdfast/secrets/opsgenie\" }",
    "The key of an integration of type \"API\". Not an account's API key. A secret.",
);

const URL: Setting = Setting::new(
    "url",
    "\"https://api.opsgenie.com/v2/alerts\"",
    "Where alerts go. In the EU: \"https://api.eu.opsgenie.com/v2/alerts\". In Jira Service Management: \"https://api.atlassian.com/jsm/ops/integration/v2/alerts\".",
);

const RESPONDERS: Setting = Setting::optional(
    "responders",
    "[\"team:SOC\", \"user:ann@example.org\"]",
    "Who is told: \"team:\", \"escalation:\" or \"schedule:\" with a name, or \"user:\" with an e-mail address; at most 50. Default: as the integration says.",
);

const TAGS: Setting = Setting::optional(
    "tags",
    "[\"wazuh\"]",
    "Tags beside the rule's groups; at most 20 of at most 50 characters.",
);

const SEVERITY: Setting = Setting::optional(
    "severity",
    "{ low = \"P5\", medium = \"P3\", high = \"P2\", critical = \"P1\" }",
    "Opsgenie's priority for each severity, \"P1\" to \"P5\". The default is the example.",
);

const MESSAGE_CHARS_MAX: usize = 130;
const ALIAS_CHARS_MAX: usize = 512;
const DESCRIPTION_CHARS_MAX: usize = 15_000;
const ENTITY_CHARS_MAX: usize = 512;
const TAGS_MAX: usize = 20;
const TAG_CHARS_MAX: usize = 50;
const RESPONDERS_MAX: usize = 50;

/// All names and values of `details` together.
const DETAILS_CHARS_MAX: usize = 8000;

#[derive(Debug)]
struct Opsgenie {
    callback: Option<Callback>,
    api: Api,
    responders: Vec<Value>,
    tags: Vec<String>,
    severities: Severities,
    lifecycle: Lifecycle,
    template: message::Template,
}

fn build(section: &Section<'_>, context: &Context) -> Option<Arc<dyn Destination>> {
    let api_key = vendor::secret(section, &API_KEY);
    let address = vendor::address(section, &URL);
    let responders = responders(section);
    let tags = tags(section);
    let severities =
        Severities::read(section, ["P5", "P3", "P2", "P1"], &["P1", "P2", "P3", "P4", "P5"]);
    let lifecycle = Lifecycle::read(section);
    let template = message::Template::read(section);
    let callback = Callback::read(section, &callback::VENDOR);
    let auth = Auth::Header { name: AUTHORIZATION, prefix: "GenieKey ", secret: api_key? };
    Some(Arc::new(Opsgenie {
        callback: callback?,
        api: Api::new(section, context, address?, auth)?,
        responders: responders?,
        tags: tags?,
        severities: severities?,
        lifecycle: lifecycle?,
        template: template?,
    }))
}

fn responders(section: &Section<'_>) -> Option<Vec<Value>> {
    let given = section.texts(&RESPONDERS);
    let Some(given) = given else {
        return (!section.has(RESPONDERS.name)).then(Vec::new);
    };
    let read: Option<Vec<_>> = given.iter().map(|text| responder(text)).collect();
    match read {
        Some(read) if read.len() <= RESPONDERS_MAX => Some(read),
        Some(_) => {
            section.fault(RESPONDERS.name, format!("there are more than {RESPONDERS_MAX}"));
            None
        }
        None => {
            let problem = "each must be \"team:\", \"escalation:\", \"schedule:\" or \"user:\" with a name behind it";
            section.fault(RESPONDERS.name, problem);
            None
        }
    }
}

fn responder(text: &str) -> Option<Value> {
    let (kind, name) = text.split_once(':')?;
    let name = name.trim();
    match kind {
        _ if name.is_empty() => None,
        "team" | "escalation" | "schedule" => Some(json!({ "type": kind, "name": name })),
        "user" => Some(json!({ "type": "user", "username": name })),
        _ => None,
    }
}

fn tags(section: &Section<'_>) -> Option<Vec<String>> {
    let Some(tags) = section.texts(&TAGS) else {
        return (!section.has(TAGS.name)).then(Vec::new);
    };
    let fits = |tag: &String| (1..=TAG_CHARS_MAX).contains(&tag.trim().chars().count());
    if tags.len() > TAGS_MAX || !tags.iter().all(fits) {
        let problem = format!("at most {TAGS_MAX} tags of 1 to {TAG_CHARS_MAX} characters");
        section.fault(TAGS.name, problem);
        return None;
    }
    Some(tags)
}

#[async_trait]
impl Destination for Opsgenie {
    async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError> {
        let member = shipment.only()?;
        let mut receipt = Receipt::default();
        // Closing is idempotent there, so a try that failed between two may repeat the first.
        for (url, body) in self.requests(member)? {
            let answer = self.api.json(Method::POST, url, &body).await?;
            receipt = self.judge(&answer, body.get("message").is_none())?;
        }
        Ok(Delivered::All(receipt))
    }

    fn refresh_secrets(&self) -> Result<bool, Box<dyn Error + Send + Sync>> {
        let callback = calls::refresh(self.callback.as_ref());
        let api = self.api.refresh();
        Ok(callback? | api?)
    }

    fn callbacks(&self) -> Option<&dyn Callbacks> {
        calls::port(self.callback.as_ref())
    }

    fn take_template_errors(&self) -> u64 {
        self.template.take_errors()
    }
}

// === impl Opsgenie ===

impl Opsgenie {
    /// One alert to create, or one to close for each problem that ends.
    fn requests(&self, member: &Member) -> Result<Vec<(Url, Value)>, DeliveryError> {
        let message = Message::of(member);
        match self.lifecycle.phase(&message) {
            Phase::Open { key } => Ok(vec![(self.api.url()?, self.create(&message, &key))]),
            Phase::Resolve { keys } => {
                let note = one_line(&format!("Resolved: {}", message.title), ENTITY_CHARS_MAX);
                let body = json!({ "user": "Holdfast", "source": "Wazuh", "note": note });
                keys.iter().map(|key| Ok((self.close_url(key)?, body.clone()))).collect()
            }
        }
    }

    fn close_url(&self, alias: &str) -> Result<Url, DeliveryError> {
        let mut url = self.api.url()?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend([alias, "close"]);
        }
        url.query_pairs_mut().append_pair("identifierType", "alias");
        Ok(url)
    }

    fn create(&self, message: &Message, key: &str) -> Value {
        let text = self.template.render(message).unwrap_or_else(|| message.plain());
        let mut tags = self.tags.clone();
        for group in &message.groups {
            let tag = one_line(group, TAG_CHARS_MAX);
            if !tag.is_empty() && !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        tags.truncate(TAGS_MAX);
        let mut body = json!({
            "message": one_line(&message.title, MESSAGE_CHARS_MAX),
            "alias": clip(key, ALIAS_CHARS_MAX),
            "description": clip(&text, DESCRIPTION_CHARS_MAX),
            "tags": tags,
            "details": details(message),
            "source": "Wazuh",
            "user": "Holdfast",
            "priority": self.severities.word(message.severity),
        });
        if let Some(agent) = &message.agent_name {
            body["entity"] = one_line(agent, ENTITY_CHARS_MAX).into();
        }
        if !self.responders.is_empty() {
            body["responders"] = self.responders.clone().into();
        }
        body
    }

    fn judge(&self, answer: &Answer, closing: bool) -> Result<Receipt, DeliveryError> {
        // The answer's body may be lost: 202 is the vendor's word.
        let said = self.api.read(answer).unwrap_or_default();
        let request = said["requestId"].as_str().map(str::to_owned);
        let receipt = |duplicate| Receipt {
            status: Some(answer.status.as_u16()),
            remote_id: request.clone(),
            duplicate,
            ..Receipt::default()
        };
        let Err(mut error) = self.api.verdict(answer) else {
            // Another success may be the page of something between us. Asking again is safe.
            if answer.status != StatusCode::ACCEPTED && request.is_none() {
                answer.body()?;
                return Err(self.api.failure(Reason::BadAnswer, answer));
            }
            return Ok(receipt(false));
        };
        match answer.status.as_u16() {
            // Opsgenie's own 404, not a wrong address's: there is nothing left to close.
            404 if closing && request.is_some() => return Ok(receipt(true)),
            422 if error.excerpt.to_ascii_lowercase().contains("key format") => {
                error.reason = Reason::Unauthorized;
            }
            429 if !answer.headers.contains_key(RETRY_AFTER) => error.retry_after = period(answer),
            _ => {}
        }
        Err(error)
    }
}

/// How long the bucket needs to fill again.
fn period(answer: &Answer) -> Option<Duration> {
    let seconds = answer.headers.get("x-ratelimit-period-in-sec")?.to_str().ok()?.trim();
    Some(Duration::from_secs(seconds.parse().ok()?).min(RETRY_AFTER_MAX))
}

/// Texts only, and not more than fit; the first facts are the ones that matter.
fn details(message: &Message) -> Value {
    let facts = message.facts.iter().map(|fact| (&*fact.name, fact.value.clone()));
    let own = [
        ("Level", message.level_text()),
        ("Event", message.id.clone()),
        ("Key", message.key.clone()),
    ];
    let mut details = Map::new();
    let mut chars = 0;
    for (name, value) in own.into_iter().chain(facts) {
        chars += name.chars().count() + value.chars().count();
        if chars > DETAILS_CHARS_MAX {
            break;
        }
        // An alert's own `Event` does not hide ours.
        details.entry(name).or_insert(value.into());
    }
    Value::Object(details)
}
