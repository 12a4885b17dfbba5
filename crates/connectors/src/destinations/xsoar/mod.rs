//! Cortex XSOAR, versions 6 and 8 (and XSIAM, which kept version 8's API).
//!
//! Promises: one event is one incident as far as XSOAR can be asked: a try that may have arrived
//! is searched for by its key before another is created, where `key_field` names the field that
//! holds it. With `group = "problem"` an incident that is open is not opened again, and an alert
//! that resolves a problem closes its incident.
//!
//! Quirks: creating knows no repeats. A search without `size` finds nothing. A search does not see
//! what was created in the last seconds, so what may have arrived is tried again after
//! `search_lag`; a pre-process rule on the key field closes the gap that is longer. Version 6 writes `CustomFields`, version 8 `customFields`. An
//! advanced key signs each request with the time, so a wrong clock is a 401.
//!
//! Source: demisto/demisto-py `swagger` (version 6); Cortex XSOAR 8 API reference, "Get started
//! with APIs" and "Create an incident".

mod auth;
mod callback;
mod settings;
#[cfg(test)]
mod tests;

use std::{error::Error, time::Duration};

use async_trait::async_trait;
use holdfast_model::{
    Callbacks, DeliveryError, Destination, Member, Reason, Receipt, Shipment, Timestamp,
    delivery::Delivered,
};
use reqwest::Method;
use serde_json::{Value, json};

use self::{auth::Credentials, settings::Version};
use super::Kind;
use crate::{
    callback::{self as calls, Callback},
    http::{self, Answer},
    message::{self, Lifecycle, Message, Phase, Severities},
    vendor::Api,
};

pub(super) const KIND: Kind = Kind {
    name: "xsoar",
    summary: "Creates incidents in Cortex XSOAR 6 or 8.",
    example: r#"
url = "https://api-soc.example/xsoar/public/v1"
version = "8"
api_key = "replace-me"
key_id = "7"
key_type = "advanced"
key_field = "holdfastkey"
group = "problem"
resolved_by = { "504" = "503" }
"#,
    settings: settings::ALL,
    batches: false,
    http: true,
    build: settings::build,
};

/// Rows of one search. Without a size XSOAR answers none.
const SEARCH_ROWS: u32 = 50;

/// Incident states that are no longer worked on: done and archived.
const CLOSED: [i64; 2] = [2, 3];

#[derive(Debug)]
struct Xsoar {
    callback: Option<Callback>,
    api: Api,
    credentials: Credentials,
    version: Version,
    incident_type: Option<String>,
    create_investigation: bool,
    search_lag: Duration,
    key_field: Option<String>,
    severities: Severities,
    lifecycle: Lifecycle,
    template: message::Template,
}

#[async_trait]
impl Destination for Xsoar {
    async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError> {
        let member = shipment.only()?;
        let message = Message::of(member);
        let receipt = match self.lifecycle.phase(&message) {
            Phase::Open { key } => self.open(member, &message, &key).await,
            Phase::Resolve { keys } => self.close(&message, &keys).await,
        };
        receipt.map(Delivered::All).map_err(|error| self.masked(error))
    }

    async fn check(&self) -> Option<Result<(), DeliveryError>> {
        let body = json!({ "filter": { "page": 0, "size": 1 } });
        let asked = self.post("incidents/search", &body).await;
        Some(asked.map(drop).map_err(|error| self.masked(error)))
    }

    fn search_lag(&self) -> Option<Duration> {
        self.key_field.is_some().then_some(self.search_lag)
    }

    fn refresh_secrets(&self) -> Result<bool, Box<dyn Error + Send + Sync>> {
        let (key, api) = (self.credentials.refresh(), self.api.refresh());
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

// === impl Xsoar ===

impl Xsoar {
    async fn open(
        &self,
        member: &Member,
        message: &Message,
        key: &str,
    ) -> Result<Receipt, DeliveryError> {
        let by_problem = key != message.key;
        if member.in_doubt || member.attempt > 1 || by_problem {
            // A problem that was closed opens anew; an event that arrived did so whatever became
            // of its incident.
            let found = self.find(key, by_problem).await?;
            if let Some(id) = found.into_iter().next() {
                return Ok(Receipt {
                    status: Some(200),
                    remote_id: Some(id),
                    duplicate: true,
                    ..Receipt::default()
                });
            }
        }
        let answer = self.post("incident", &self.incident(member, message, key)).await?;
        let said = self.api.read(&answer)?;
        match text_or_number(&said["id"]) {
            Some(id) => Ok(Receipt {
                status: Some(answer.status.as_u16()),
                remote_id: Some(id),
                duplicate: false,
                ..Receipt::default()
            }),
            None => Err(self.api.failure(Reason::BadAnswer, &answer)),
        }
    }

    async fn close(&self, message: &Message, keys: &[String]) -> Result<Receipt, DeliveryError> {
        let mut ids = Vec::new();
        for key in keys {
            ids.extend(self.find(key, true).await?);
        }
        let Some(last) = ids.last().cloned() else {
            return Ok(Receipt {
                status: Some(200),
                remote_id: None,
                duplicate: true,
                ..Receipt::default()
            });
        };
        let notes = format!("{} (event {})", message.title, message.id);
        let body = json!({ "ids": ids, "closeReason": "Resolved", "closeNotes": notes });
        let answer = self.post("incident/batchClose", &body).await?;
        let status = Some(answer.status.as_u16());
        Ok(Receipt { status, remote_id: Some(last), duplicate: false, ..Receipt::default() })
    }

    /// The ids of the incidents with this key.
    async fn find(&self, key: &str, only_open: bool) -> Result<Vec<String>, DeliveryError> {
        let Some(field) = &self.key_field else { return Ok(Vec::new()) };
        let quoted = key.replace('\\', "\\\\").replace('"', "\\\"");
        let query = format!("{field}:\"{quoted}\"");
        let mut filter = json!({ "query": query, "page": 0, "size": SEARCH_ROWS });
        if only_open {
            filter["notStatus"] = json!(CLOSED);
        }
        let answer = self.post("incidents/search", &json!({ "filter": filter })).await?;
        let said = self.api.read(&answer)?;
        let rows = match (&said["data"], said["total"].as_u64()) {
            (Value::Array(rows), _) => rows.as_slice(),
            // Nothing found is `null`.
            (Value::Null, Some(0)) => &[],
            _ => return Err(self.api.failure(Reason::BadAnswer, &answer)),
        };
        // A query is analysed text there, so each row is looked at again.
        let ours = |row: &&Value| {
            let held = |fields: &str| row[fields][field] == *key;
            let closed = row["status"].as_i64().is_some_and(|status| CLOSED.contains(&status));
            (held("CustomFields") || held("customFields")) && !(only_open && closed)
        };
        Ok(rows.iter().filter(ours).filter_map(|row| text_or_number(&row["id"])).collect())
    }

    fn incident(&self, member: &Member, message: &Message, key: &str) -> Value {
        let occurred = Timestamp::parse(&message.at).unwrap_or(member.event.received_at);
        // The words are numbers as JSON writes them.
        let severity: Value =
            serde_json::from_str(self.severities.word(message.severity)).unwrap_or_default();
        let mut body = json!({
            "name": message.title,
            "severity": severity,
            "occurred": occurred,
            "details": self.template.render(message).unwrap_or_else(|| message.plain()),
            "createInvestigation": self.create_investigation,
            "labels": labels(message, key),
            "rawJSON": raw(member, message),
        });
        if let Some(incident_type) = &self.incident_type {
            body["type"] = incident_type.as_str().into();
        }
        if let Some(field) = &self.key_field {
            let fields = match self.version {
                Version::Six => "CustomFields",
                Version::Eight => "customFields",
            };
            body[fields] = json!({ field: key });
        }
        body
    }

    /// Sends once; a status that is no success is the error.
    async fn post(&self, path: &str, body: &Value) -> Result<Answer, DeliveryError> {
        let headers = self.credentials.headers()?;
        let url = self.api.at(path)?;
        let body = body.to_string().into_bytes();
        let answer = self.api.send(Method::POST, url, "application/json", body, &headers).await?;
        self.api.verdict(&answer)?;
        Ok(answer)
    }

    fn masked(&self, error: DeliveryError) -> DeliveryError {
        http::masked(error, &[self.credentials.secret()])
    }
}

fn labels(message: &Message, key: &str) -> Value {
    let all = [
        ("key", Some(key)),
        ("event", Some(message.id.as_str())),
        ("rule_id", message.rule_id.as_deref()),
        ("agent", message.agent_name.as_deref()),
    ];
    all.iter()
        .filter_map(|(name, value)| Some(json!({ "type": name, "value": (*value)? })))
        .collect()
}

fn raw(member: &Member, message: &Message) -> String {
    if message.alert.is_null() {
        String::from_utf8_lossy(&member.event.body).into_owned()
    } else {
        message.alert.to_string()
    }
}

/// An id; version 6 writes texts, and a number would do as well.
fn text_or_number(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
