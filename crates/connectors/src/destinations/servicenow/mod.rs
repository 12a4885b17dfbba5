//! ServiceNow: incidents, security incidents, import sets, and events for Event Management.
//!
//! Promises: one event is one record as far as ServiceNow can be asked: `correlation_id` is the
//! event's key, and before a later try creates one it looks whether an earlier try did. With
//! `group = "problem"` an open record gets a work note instead of a second record, and an alert
//! that resolves a problem resolves its record. Events are merged there by `message_key`.
//!
//! Quirks: the Table API knows no repeats. A query whose field does not exist answers other
//! people's rows, so each row's `correlation_id` is read again. An instance that sleeps, and a
//! login page, answer 200 with HTML. An import set says "error" in a 201. A text that is too long
//! is cut there without a word. Every value is a text.
//!
//! Source: ServiceNow docs, "Table API", "Import Set API", "Inbound REST API rate limiting" and
//! "Send events via web service"; ansible-collections/servicenow.itsm `module_utils/client.py`;
//! elastic/kibana `servicenow/service.ts`.

mod auth;
mod callback;
mod calls;
mod keys;
mod record;
mod settings;
#[cfg(test)]
mod tests;

use std::{error::Error, time::Duration};

use async_trait::async_trait;
use holdfast_model::{
    Callbacks, DeliveryError, Destination, Member, Reason, Receipt, Shipment, delivery::Delivered,
};
use reqwest::Method;
use serde_json::{Value, json};

use self::{
    auth::OAuth,
    record::{Form, correlation_id, event_line},
    settings::{Closing, Table},
};
use super::Kind;
use crate::{
    callback::{self as hearing, Callback},
    http::{self, Answer},
    message::{Lifecycle, Message, Phase},
    vendor::Api,
};

pub(super) const KIND: Kind = Kind {
    name: "servicenow",
    summary: "Creates ServiceNow incidents, security incidents or events.",
    example: r#"
url = "https://example.service-now.com"
user = "holdfast"
password = "replace-me"
fields = { category = "security" }
group = "problem"
resolved_by = { "504" = "503" }
"#,
    settings: keys::ALL,
    batches: false,
    http: true,
    build: settings::build,
};

/// Rows of one search: the newest ones with a key.
const SEARCH_ROWS: &str = "20";

/// Where events go.
#[derive(Debug)]
enum Target {
    Records,
    Import { staging: String, prefix: String },
    Events,
}

#[derive(Debug)]
struct ServiceNow {
    callback: Option<Callback>,
    api: Api,
    oauth: Option<OAuth>,
    target: Target,
    form: Form,
    closing: Closing,
    lifecycle: Lifecycle,
    search_lag: Duration,
}

/// A record of ours, as a search shows it.
#[derive(Debug)]
struct Found {
    sys_id: String,
    open: bool,
    description: String,
}

#[async_trait]
impl Destination for ServiceNow {
    async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError> {
        let member = shipment.only()?;
        let message = Message::of(member);
        let phase = self.lifecycle.phase(&message);
        let receipt = match (&self.target, phase) {
            (Target::Records, Phase::Open { key }) => self.open(member, &message, &key).await,
            (Target::Records, Phase::Resolve { keys }) => self.resolve(&message, &keys).await,
            (Target::Import { staging, prefix }, _) => {
                let row = self.form.row(&message, &message.key, prefix);
                self.import(staging, &row).await
            }
            (Target::Events, Phase::Open { key }) => {
                self.post_events(vec![self.form.event(member, &message, &key, false)]).await
            }
            (Target::Events, Phase::Resolve { keys }) => {
                let close = |key: &String| self.form.event(member, &message, key, true);
                self.post_events(keys.iter().map(close).collect()).await
            }
        };
        receipt.map(Delivered::All).map_err(|error| self.masked(error))
    }

    async fn check(&self) -> Option<Result<(), DeliveryError>> {
        let asked = match (&self.target, &self.oauth) {
            (Target::Records, _) => self.ask(&[("sysparm_limit", "1")]).await.map(drop),
            // Who may write events or staging rows need not be allowed to read them.
            (_, Some(oauth)) => oauth.token(&self.api).await.map(drop),
            (_, None) => return None,
        };
        Some(asked.map_err(|error| self.masked(error)))
    }

    fn search_lag(&self) -> Option<Duration> {
        matches!(self.target, Target::Records).then_some(self.search_lag)
    }

    fn refresh_secrets(&self) -> Result<bool, Box<dyn Error + Send + Sync>> {
        let oauth = self.oauth.as_ref().map_or(Ok(false), OAuth::refresh);
        let api = self.api.refresh();
        let callback = hearing::refresh(self.callback.as_ref());
        Ok(oauth? | api? | callback?)
    }

    fn callbacks(&self) -> Option<&dyn Callbacks> {
        hearing::port(self.callback.as_ref())
    }

    fn take_template_errors(&self) -> u64 {
        self.form.template.take_errors()
    }
}

// === impl ServiceNow ===

impl ServiceNow {
    async fn open(
        &self,
        member: &Member,
        message: &Message,
        key: &str,
    ) -> Result<Receipt, DeliveryError> {
        let by_problem = key != message.key;
        // A 5xx can come after the record was made, so any later try looks first.
        let tried = member.in_doubt || member.attempt > 1;
        let found = if tried || by_problem { self.find(key).await? } else { Vec::new() };
        let ours = event_line(message);
        let made_by_us =
            |found: &&Found| !by_problem || found.description.trim_end().ends_with(&ours);
        if let Some(found) = found.iter().filter(|_| tried).find(made_by_us) {
            let remote_id = Some(found.sys_id.clone());
            return Ok(Receipt {
                status: Some(200),
                remote_id,
                duplicate: true,
                ..Receipt::default()
            });
        }
        if let Some(found) = found.iter().find(|found| found.open) {
            return self.patch(&found.sys_id, &self.form.note(message)).await;
        }
        let url = self.api.at(&self.records())?;
        let answer = self.write(Method::POST, url, &self.form.record(message, key)).await?;
        self.receipt(&answer)
    }

    async fn resolve(&self, message: &Message, keys: &[String]) -> Result<Receipt, DeliveryError> {
        let notes = || format!("{} ({})", message.title, event_line(message));
        let body = json!({
            "state": self.closing.state,
            "close_code": self.closing.code,
            "close_notes": self.closing.notes.clone().unwrap_or_else(notes),
        });
        // What is resolved is no longer found, so a try that failed between two goes on there.
        let mut receipt =
            Receipt { status: Some(200), remote_id: None, duplicate: true, ..Receipt::default() };
        for key in keys {
            for found in self.find(key).await?.iter().filter(|found| found.open) {
                receipt = self.patch(&found.sys_id, &body).await?;
            }
        }
        Ok(receipt)
    }

    async fn patch(&self, sys_id: &str, body: &Value) -> Result<Receipt, DeliveryError> {
        let url = self.api.at(&format!("{}/{sys_id}", self.records()))?;
        let answer = self.write(Method::PATCH, url, body).await.map_err(|mut error| {
            // It was deleted since it was found: the next search says what there is.
            if error.status == Some(404) {
                error.reason = Reason::ServerFault;
            }
            error
        })?;
        self.receipt(&answer)
    }

    async fn import(&self, staging: &str, row: &Value) -> Result<Receipt, DeliveryError> {
        let url = self.api.at(&format!("api/now/import/{staging}"))?;
        let answer = self.write(Method::POST, url, row).await?;
        let said = self.api.read(&answer)?;
        let results = said["result"].as_array().map(Vec::as_slice).unwrap_or_default();
        if results.is_empty() {
            return Err(self.api.failure(Reason::BadAnswer, &answer));
        }
        if results.iter().any(|result| result["status"] == "error") {
            return Err(self.api.failure(Reason::Refused, &answer));
        }
        // One row for each transform map; the first one that made something names it.
        let id = |row: &Value| row["sys_id"].as_str().filter(|id| is_sys_id(id)).map(str::to_owned);
        let known = |row: &Value| matches!(row["status"].as_str(), Some("updated" | "ignored"));
        Ok(Receipt {
            status: Some(answer.status.as_u16()),
            remote_id: results.iter().find_map(id),
            duplicate: results.iter().all(known),
            ..Receipt::default()
        })
    }

    async fn post_events(&self, records: Vec<Value>) -> Result<Receipt, DeliveryError> {
        let key = records.first().and_then(|record| record["message_key"].as_str());
        let remote_id = key.map(str::to_owned);
        let url = self.api.at("api/global/em/jsonv2")?;
        let body = json!({ "records": records });
        let answer = self.write(Method::POST, url, &body).await?;
        let said = self.api.read(&answer)?;
        if said["result"].is_null() {
            return Err(self.api.failure(Reason::BadAnswer, &answer));
        }
        // Its answer names no event; what finds the alert there is the key.
        Ok(Receipt {
            status: Some(answer.status.as_u16()),
            remote_id,
            duplicate: false,
            ..Receipt::default()
        })
    }

    /// The records with this key, the newest first.
    async fn find(&self, key: &str) -> Result<Vec<Found>, DeliveryError> {
        let id = correlation_id(key);
        let query = format!("correlation_id={id}^ORDERBYDESCsys_created_on");
        let pairs = [
            ("sysparm_query", query.as_str()),
            ("sysparm_limit", SEARCH_ROWS),
            ("sysparm_display_value", "false"),
            ("sysparm_exclude_reference_link", "true"),
        ];
        let rows = self.ask(&pairs).await?;
        let ours = rows.iter().filter(|row| row["correlation_id"] == *id);
        let read = |row: &Value| {
            let state = row["state"].as_str().unwrap_or("");
            Some(Found {
                sys_id: row["sys_id"].as_str().filter(|id| is_sys_id(id))?.to_owned(),
                open: !self.closing.closed.iter().any(|closed| closed == state),
                description: row["description"].as_str().unwrap_or("").to_owned(),
            })
        };
        Ok(ours.filter_map(read).collect())
    }

    /// A login page or a sleeping instance may say 200, too: only a record has an id.
    fn receipt(&self, answer: &Answer) -> Result<Receipt, DeliveryError> {
        let said = self.api.read(answer)?;
        match said["result"]["sys_id"].as_str().filter(|id| is_sys_id(id)) {
            Some(id) => Ok(Receipt {
                status: Some(answer.status.as_u16()),
                remote_id: Some(id.to_owned()),
                duplicate: false,
                ..Receipt::default()
            }),
            None => Err(self.api.failure(Reason::BadAnswer, answer)),
        }
    }

    fn records(&self) -> String {
        let table = match self.form.table {
            Table::Security => "sn_si_incident",
            Table::Incident | Table::Event => "incident",
        };
        format!("api/now/table/{table}")
    }

    fn masked(&self, error: DeliveryError) -> DeliveryError {
        let secrets = self.oauth.as_ref().map(OAuth::secrets).unwrap_or_default();
        http::masked(error, &secrets)
    }
}

/// It becomes part of an address, so it must be nothing else.
fn is_sys_id(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}
