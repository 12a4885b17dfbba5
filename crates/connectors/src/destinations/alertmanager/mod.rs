//! Prometheus' Alertmanager, by its API v2.
//!
//! Promises: all alerts of one rule on one agent are one alert there, whatever the number of
//! tries, because labels are an alert's identity and ours hold no id and no time; it stays firing
//! for `resolve_after` after the last event; an event that resolves a problem ends its alert with
//! exactly the labels it was opened with.
//!
//! Quirks: an alert without `endsAt` ends by itself after five minutes, and one whose `endsAt` has
//! passed fires nobody, so ours is counted from the moment of sending: an event that waited for
//! hours still fires. A 200 has an empty body. A 400 may mean that others of the same request were
//! stored, so one event is one request. Each instance of a cluster must be told: make one
//! destination for each, and never a load balancer.
//!
//! Source: prometheus/alertmanager `api/v2/openapi.yaml`, `api/v2/api.go`, `docs/alerts_api.md`.

#[cfg(test)]
mod tests;

use std::{error::Error, sync::Arc, time::Duration};

use async_trait::async_trait;
use holdfast_model::{
    DeliveryError, Destination, Member, Reason, Receipt, Shipment, Timestamp,
    delivery::Delivered,
    settings::{Node, Section, Setting, Value as Given},
};
use reqwest::{Method, header::AUTHORIZATION};
use serde_json::{Map, Value, json};

use super::{Context, Kind};
use crate::{
    http::Answer,
    message::{self, Lifecycle, Message, Phase, Severities, one_line},
    secrets::LiveSecret,
    vendor::{self, Api, Auth},
};

pub(super) const KIND: Kind = Kind {
    name: "alertmanager",
    summary: "Fires alerts in Prometheus' Alertmanager.",
    example: r#"
url = "http://alertmanager.example:9093"
resolve_after = "4h"
resolved_by = { "504" = "503" }
labels = { team = "soc" }
"#,
    settings: &[
        &URL,
        &BEARER,
        &USER,
        &PASSWORD,
        &LABELS,
        &RESOLVE_AFTER,
        &RESOLVED_BY,
        &SEVERITY,
        &message::TEMPLATE,
    ],
    batches: false,
    http: true,
    build,
};

const URL: Setting = Setting::optional(
    "url",
    "\"http://alertmanager.example:9093\"",
    "Its address, with its path prefix if it has one; without /api/v2. One destination for each instance of a cluster.",
);

const BEARER: Setting = Setting::optional(
    "bearer",
    "{ file = \"/etc/holdfast/secrets/alertmanager\" }",
    "A bearer token, where a proxy asks for one. A secret.",
);

const USER: Setting =
    Setting::optional("user", "\"holdfast\"", "A user for Basic credentials, with `password`.");

const PASSWORD: Setting = Setting::optional(
    "password",
    "{ file = \"/etc/holdfast/secrets/alertmanager\" }",
    "The password of `user`. A secret.",
);

const LABELS: Setting = Setting::optional(
    "labels",
    "{ team = \"soc\" }",
    "Labels beside `alertname`, `problem`, `rule_id`, `agent`, `agent_id` and `severity`; `alertname` can be replaced. Names are letters, digits and underscores.",
);

const RESOLVE_AFTER: Setting = Setting::new(
    "resolve_after",
    "\"1h\"",
    "How long an alert stays firing after the last event of its problem, 1m to 30d.",
);

const RESOLVED_BY: Setting = Setting::optional(
    message::RESOLVED_BY.name,
    message::RESOLVED_BY.example,
    "Which rule ends the alert of which other one on the same agent: problem = resolving rule.",
);

const SEVERITY: Setting = Setting::optional(
    "severity",
    "{ low = \"info\", medium = \"warning\", high = \"critical\", critical = \"critical\" }",
    "The label `severity` for each severity: \"none\", \"info\", \"warning\", \"error\", \"critical\", \"page\", \"low\", \"medium\" or \"high\". The default is the example.",
);

const SEVERITY_WORDS: &[&str] =
    &["none", "info", "warning", "error", "critical", "page", "low", "medium", "high"];

const RESOLVE_AFTER_MIN: Duration = Duration::from_secs(60);
const RESOLVE_AFTER_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// Ours; Alertmanager has no limit, but notifiers put labels into subjects and names.
const LABEL_CHARS_MAX: usize = 200;

/// What identifies the alert, so no setting may replace it.
const OWN_LABELS: [&str; 5] = ["problem", "rule_id", "agent", "agent_id", "severity"];

#[derive(Debug)]
struct Alertmanager {
    api: Api,
    labels: Vec<(String, String)>,
    resolve_after: Duration,
    severities: Severities,
    lifecycle: Lifecycle,
    template: message::Template,
}

fn build(section: &Section<'_>, context: &Context) -> Option<Arc<dyn Destination>> {
    let address = vendor::address(section, &URL);
    let auth = auth(section);
    let labels = labels(section);
    let resolve_after = section.duration(&RESOLVE_AFTER, RESOLVE_AFTER_MIN..=RESOLVE_AFTER_MAX);
    let lifecycle = Lifecycle::read_problems(section);
    let defaults = ["info", "warning", "critical", "critical"];
    let severities = Severities::read(section, defaults, SEVERITY_WORDS);
    let template = message::Template::read(section);
    Some(Arc::new(Alertmanager {
        api: Api::new(section, context, address?, auth?)?,
        labels: labels?,
        resolve_after,
        severities: severities?,
        lifecycle: lifecycle?,
        template: template?,
    }))
}

fn auth(section: &Section<'_>) -> Option<Auth> {
    let read = |setting: &Setting| -> Option<Option<LiveSecret>> {
        match vendor::optional_secret(section, setting) {
            None if section.has(setting.name) => None,
            found => Some(found),
        }
    };
    let (bearer, password) = (read(&BEARER), read(&PASSWORD));
    let user = section.text(&USER);
    match (bearer?, user, password?) {
        (None, None, None) => (!section.has(USER.name)).then_some(Auth::None),
        (Some(secret), None, None) => {
            Some(Auth::Header { name: AUTHORIZATION, prefix: "Bearer ", secret })
        }
        (None, Some(user), Some(password)) => Some(Auth::Basic { user: user.to_owned(), password }),
        (Some(_), _, _) => {
            section.fault(BEARER.name, "it cannot go with `user` and `password`");
            None
        }
        (None, _, _) => {
            section.fault("", "`user` and `password` need each other");
            None
        }
    }
}

/// Reads the operator's labels; a name that Alertmanager would refuse is a fault.
fn labels(section: &Section<'_>) -> Option<Vec<(String, String)>> {
    let Some(table) = section.table(LABELS.name) else {
        return (!section.has(LABELS.name)).then(Vec::new);
    };
    let mut all_good = true;
    let mut labels = Vec::new();
    for (name, Node { value, .. }) in table.entries() {
        let problem = match value {
            _ if !is_label_name(name) => "a label's name is letters, digits and underscores",
            _ if OWN_LABELS.contains(&name.as_str()) => "this label is Holdfast's own",
            Given::Text(text) if !text.trim().is_empty() => {
                labels.push((name.clone(), one_line(text, LABEL_CHARS_MAX)));
                continue;
            }
            _ => "it must be a text that is not empty",
        };
        table.fault(name, problem);
        all_good = false;
    }
    all_good.then_some(labels)
}

/// What every version takes: `[a-zA-Z_][a-zA-Z0-9_]*`.
fn is_label_name(name: &str) -> bool {
    let mut chars = name.chars();
    let first = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    first && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[async_trait]
impl Destination for Alertmanager {
    async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError> {
        let member = shipment.only()?;
        let message = Message::of(member);
        let receipt = match self.lifecycle.phase(&message) {
            Phase::Open { key } => {
                let firing = self.firing(&message, member, &key, now());
                self.post(&json!([firing]), key).await?
            }
            Phase::Resolve { keys } => self.resolve(&keys).await?,
        };
        Ok(Delivered::All(receipt))
    }

    async fn check(&self) -> Option<Result<(), DeliveryError>> {
        Some(self.status().await)
    }

    fn refresh_secrets(&self) -> Result<bool, Box<dyn Error + Send + Sync>> {
        self.api.refresh()
    }

    fn take_template_errors(&self) -> u64 {
        self.template.take_errors()
    }
}

// === impl Alertmanager ===

impl Alertmanager {
    fn firing(&self, message: &Message, member: &Member, problem: &str, now: Timestamp) -> Value {
        let text = self.template.render(message).unwrap_or_else(|| message.plain());
        json!({
            "labels": self.label_set(message, problem),
            "annotations": {
                "summary": message.title,
                "description": text,
                "event": message.id,
                "key": message.key,
                "level": message.level_text(),
            },
            // A clock that was set back must not make it start after it ends.
            "startsAt": member.event.received_at.min(now),
            "endsAt": now.saturating_add(self.resolve_after),
        })
    }

    /// The identity of the alert: neither the event's id nor a time.
    fn label_set(&self, message: &Message, problem: &str) -> Map<String, Value> {
        let own = [
            ("alertname", Some("WazuhAlert")),
            ("problem", Some(problem)),
            ("rule_id", message.rule_id.as_deref()),
            ("agent", message.agent_name.as_deref()),
            ("agent_id", message.agent_id.as_deref()),
            ("severity", Some(self.severities.word(message.severity))),
        ];
        let mut labels = Map::new();
        for (name, value) in own {
            // Alertmanager drops an empty label anyhow.
            let value = one_line(value.unwrap_or(""), LABEL_CHARS_MAX);
            if !value.is_empty() {
                labels.insert(name.to_owned(), value.into());
            }
        }
        for (name, value) in &self.labels {
            labels.insert(name.clone(), value.clone().into());
        }
        labels
    }

    /// Ends every alert of these problems. Their labels are asked for, because a severity or a
    /// setting may have changed since, and other labels would be another alert.
    async fn resolve(&self, problems: &[String]) -> Result<Receipt, DeliveryError> {
        let mut ended = Vec::new();
        for problem in problems {
            let mut url = self.api.at("api/v2/alerts")?;
            url.query_pairs_mut().append_pair("filter", &format!("problem=\"{problem}\""));
            let answer = self.api.get(url).await?;
            self.api.verdict(&answer)?;
            let found = self.api.read(&answer)?;
            let Some(found) = found.as_array() else {
                return Err(self.api.failure(Reason::BadAnswer, &answer));
            };
            let open = found.iter().filter(|alert| alert["labels"]["problem"] == **problem);
            ended.extend(open.map(|alert| end(alert, now())));
        }
        let last = problems.last().cloned().unwrap_or_default();
        if ended.is_empty() {
            return Ok(Receipt {
                status: Some(200),
                remote_id: Some(last),
                duplicate: true,
                ..Receipt::default()
            });
        }
        self.post(&Value::Array(ended), last).await
    }

    async fn post(&self, body: &Value, problem: String) -> Result<Receipt, DeliveryError> {
        let answer = self.api.json(Method::POST, self.api.at("api/v2/alerts")?, body).await?;
        self.api.verdict(&answer)?;
        // Its own body is empty; a page is that of something between us. Asking again is safe.
        if !answer.body()?.trim_ascii().is_empty() {
            self.api.read(&answer)?;
        }
        // This label is what finds the alert again.
        Ok(receipt(&answer, problem))
    }

    async fn status(&self) -> Result<(), DeliveryError> {
        let answer = self.api.get(self.api.at("api/v2/status")?).await?;
        self.api.verdict(&answer)
    }
}

fn receipt(answer: &Answer, problem: String) -> Receipt {
    let status = Some(answer.status.as_u16());
    Receipt { status, remote_id: Some(problem), duplicate: false, ..Receipt::default() }
}

/// The same alert with an end.
fn end(alert: &Value, now: Timestamp) -> Value {
    // Its start may lie in our future when the clocks differ; it would be refused then.
    let started = alert["startsAt"].as_str().and_then(Timestamp::parse).unwrap_or(now);
    json!({
        "labels": alert["labels"],
        "annotations": alert["annotations"],
        "startsAt": started.min(now),
        "endsAt": now,
    })
}

fn now() -> Timestamp {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp::default().saturating_add(elapsed.unwrap_or_default())
}
