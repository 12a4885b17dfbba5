//! Events into Wazuh through its server API, for a manager on another machine.
//!
//! Promises: at most 100 events a request, and as many bytes as the answer can repeat; each event
//! has its own outcome, from the body of the answer; one that is too long for Wazuh is not sent.
//!
//! Quirks: the API takes 30 of these requests a minute (429, code 6005), so give the lane `rate =
//! "30/min"` and a batch. Whatever is sent appears with the location `API-Webhook` and as the
//! manager's own; nothing attributes it to an agent. Events with the same text are told apart only
//! by how many of them were taken.
//!
//! Source: Wazuh 4.14 server API reference, `POST /events`; `framework/wazuh/event.py`.

use std::{collections::HashMap, error::Error, sync::Arc};

use async_trait::async_trait;
use holdfast_model::{
    DeliveryError, Destination, Reason, Receipt, Shipment,
    delivery::Delivered,
    settings::{Section, Setting, Value as Given},
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Context, Kind};
use crate::{
    message::{TEMPLATE, Template},
    wazuh_api::{self, Failed, PASSWORD, URL, USER, WazuhApi},
    wazuh_event::{self, EVENT_BYTES_MAX},
};

pub(super) const KIND: Kind = Kind {
    name: "wazuh_events",
    summary: "Puts events into Wazuh through its server API.",
    example: r#"
url = "https://manager.example:55000"
user = "holdfast"
password = "0123456789"
"#,
    settings: SETTINGS,
    batches: true,
    http: true,
    build,
};

const SETTINGS: &[&Setting] = &[&URL, &USER, &PASSWORD, &TEMPLATE];

const EVENTS_MAX: usize = 100;

/// What the API writes before each event.
const HEADER: &str = "1:API-Webhook:";

/// Longest body, in bytes. The answer repeats every event, and a mebibyte of it is read.
const BODY_BYTES_MAX: usize = 900 * 1024;

#[derive(Debug)]
struct WazuhEvents {
    api: WazuhApi,
    template: Template,
}

fn build(section: &Section<'_>, context: &Context) -> Option<Arc<dyn Destination>> {
    let api = WazuhApi::read(section, context);
    let template = Template::read(section);
    let batch = section.table("batch");
    if let Some(batch) = &batch
        && let Some(node) = batch.node("max_events")
        && let Given::Integer(count) = node.value
        && count > EVENTS_MAX as i64
    {
        batch.fault("max_events", format!("Wazuh takes {EVENTS_MAX} events a request"));
    }
    Some(Arc::new(WazuhEvents { api: api?, template: template? }))
}

#[async_trait]
impl Destination for WazuhEvents {
    async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError> {
        let members = &shipment.members;
        let texts: Vec<Result<String, DeliveryError>> = members
            .iter()
            .map(|member| fitting(wazuh_event::text(&self.template, member)?))
            .collect();
        let fit: Vec<&str> = texts.iter().filter_map(|text| text.as_deref().ok()).collect();
        let body = json!({ "events": fit }).to_string().into_bytes();
        if members.len() > 1 && (fit.len() > EVENTS_MAX || body.len() > BODY_BYTES_MAX) {
            let said = format!("{} events of {} bytes are too many at once", fit.len(), body.len());
            return Err(DeliveryError::new(Reason::TooLarge).with_excerpt(said));
        }
        let mut outcomes = Outcomes::default();
        if !fit.is_empty() {
            let said = self.api.call(Method::POST, self.api.at("events")?, body).await?;
            outcomes = Outcomes::read(&said);
        }
        let results = texts.into_iter().map(|text| outcomes.take(&text?, &self.api));
        Ok(Delivered::Each(results.collect()))
    }

    fn acts_on_wazuh(&self) -> bool {
        true
    }

    fn refresh_secrets(&self) -> Result<bool, Box<dyn Error + Send + Sync>> {
        self.api.refresh()
    }

    fn take_template_errors(&self) -> u64 {
        self.template.take_errors()
    }
}

fn fitting(text: String) -> Result<String, DeliveryError> {
    let bytes = HEADER.len() + text.len();
    if bytes <= EVENT_BYTES_MAX {
        return Ok(text);
    }
    let said = format!(
        "it would be {bytes} bytes, and Wazuh reads {EVENT_BYTES_MAX} at most; give a `template` that says less"
    );
    Err(DeliveryError::new(Reason::TooLarge).with_excerpt(said))
}

/// What the answer says of each text.
#[derive(Default)]
struct Outcomes {
    /// How many events with this text were taken.
    taken: HashMap<String, usize>,
    failed: HashMap<String, Failed>,
    /// An older API names no items: all were taken.
    all: bool,
    said: Value,
}

// === impl Outcomes ===

impl Outcomes {
    fn read(said: &Value) -> Self {
        let mut taken = HashMap::new();
        for text in wazuh_api::affected(said) {
            *taken.entry(text).or_default() += 1;
        }
        let failed = wazuh_api::failures(said)
            .into_iter()
            .flat_map(|(failed, texts)| texts.into_iter().map(move |text| (text, failed.clone())))
            .collect();
        let all = said["error"] == 0 && said["data"].get("affected_items").is_none();
        Self { taken, failed, all, said: said.clone() }
    }

    fn take(&mut self, text: &str, api: &WazuhApi) -> Result<Receipt, DeliveryError> {
        if let Some(count) = self.taken.get_mut(text).filter(|count| **count > 0) {
            *count -= 1;
        } else if let Some(Failed { code, message }) = self.failed.get(text) {
            let said = format!("Wazuh's code {code}: {message}");
            return Err(DeliveryError::new(reason(*code)).with_status(200).with_excerpt(said));
        } else if !self.all {
            return Err(api.failure(Reason::BadAnswer, &self.said));
        }
        Ok(Receipt { status: Some(200), ..Receipt::default() })
    }
}

fn reason(code: i64) -> Reason {
    match code {
        1012 => Reason::TooLarge,
        // The manager's own socket, which is there again when it is.
        1010 | 1011 | 1013 | 1014 => Reason::ServerFault,
        4000 => Reason::Unauthorized,
        _ => Reason::Refused,
    }
}

#[cfg(test)]
mod tests;
