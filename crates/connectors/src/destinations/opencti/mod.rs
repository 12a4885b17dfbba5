//! OpenCTI 6 and 7, by its GraphQL API: incidents, indicators, sightings, or a STIX bundle.
//!
//! Promises: one event makes one thing there however often it is sent, because its ids are made
//! from the key and from what OpenCTI itself dedupes by, and because after a try in doubt an
//! incident is looked for first, so that what an analyst changed in it meanwhile stays; addresses
//! of private networks are never sent as indicators.
//!
//! Does not promise: that two incidents with the same title in the same millisecond stay two
//! (OpenCTI merges them); that a bundle was imported (OpenCTI answers when it has queued it).
//!
//! Quirks: every GraphQL error is a 200. A missing capability is `FORBIDDEN_ACCESS` and not a bad
//! token. A `…Add` of what exists answers what exists. A bundle needs a registered connector's id.
//!
//! Source: OpenCTI-Platform/opencti 6.8 `opencti.graphql`, `src/config/errors.js`,
//! `src/graphql/httpResponsePlugin.js`; pycti 7.

mod answer;
mod documents;
mod form;
mod settings;
mod stix;
#[cfg(test)]
mod tests;

use std::error::Error;

use async_trait::async_trait;
use holdfast_model::{
    DeliveryError, Destination, Member, Reason, Receipt, Shipment, delivery::Delivered,
};
use reqwest::Method;
use serde_json::Value;

use self::{
    answer::{code, is_missing, judge},
    documents::Call,
    form::{Form, Report},
    settings::Create,
};
use super::Kind;
use crate::{
    http::{self, Answer},
    vendor::Api,
};

pub(super) const KIND: Kind = Kind {
    name: "opencti",
    summary: "Adds incidents, indicators, sightings or STIX bundles to OpenCTI.",
    example: r#"
url = "https://opencti.example"
token = "11111111-2222-4333-8444-555555555555"
labels = ["wazuh"]
"#,
    settings: settings::ALL,
    batches: false,
    http: true,
    build: settings::build,
};

#[derive(Debug)]
struct OpenCti {
    api: Api,
    create: Create,
    form: Form,
}

#[async_trait]
impl Destination for OpenCti {
    async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError> {
        let member = shipment.only()?;
        let report = self.form.report(member);
        let receipt = match &self.create {
            Create::Incident => self.incident(member, &report).await,
            Create::Bundle { connector_id } => self.bundle(member, &report, connector_id).await,
            Create::Indicator | Create::Sighting if report.indicators.is_empty() => {
                tracing::info!(event = %member.id, "it has no indicator: nothing to tell OpenCTI");
                Ok(Receipt::default())
            }
            Create::Indicator => {
                let calls = report.indicators.iter();
                self.each(member, calls.map(|one| self.form.indicator(&report, one))).await
            }
            Create::Sighting => {
                let known = self.known(member, &report).await?;
                self.each(member, known.iter().map(|id| self.form.sighting(&report, id))).await
            }
        };
        receipt.map(Delivered::All)
    }

    async fn check(&self) -> Option<Result<(), DeliveryError>> {
        let asked = self.ask(&documents::me(), 1).await;
        Some(asked.and_then(|(answer, data)| match data["me"]["id"].is_string() {
            true => Ok(()),
            false => Err(self.api.failure(Reason::BadAnswer, &answer)),
        }))
    }

    fn refresh_secrets(&self) -> Result<bool, Box<dyn Error + Send + Sync>> {
        self.api.refresh()
    }

    fn take_template_errors(&self) -> u64 {
        self.form.template.take_errors()
    }
}

// === impl OpenCti ===

impl OpenCti {
    async fn incident(&self, member: &Member, report: &Report) -> Result<Receipt, DeliveryError> {
        if member.in_doubt || member.attempt > 1 {
            let answer = self.post(&documents::incident(&report.stix_id)).await?;
            if !code(&answer).is_some_and(|code| is_missing(&code)) {
                let data = judge(&self.api, &answer, member.attempt)?;
                if let Some(id) = data["incident"]["id"].as_str() {
                    return Ok(receipt(&answer, Some(id), true));
                }
            }
        }
        let (answer, id) = self.add(member, &self.form.incident(report)).await?;
        Ok(receipt(&answer, Some(&id), false))
    }

    async fn bundle(
        &self,
        member: &Member,
        report: &Report,
        connector_id: &str,
    ) -> Result<Receipt, DeliveryError> {
        let answer = self.post(&self.form.bundle(report, connector_id)).await?;
        if code(&answer).is_some_and(|code| is_missing(&code)) {
            // A bundle refers to nothing outside but the connector.
            return Err(self.api.failure(Reason::Misconfigured, &answer));
        }
        let data = judge(&self.api, &answer, member.attempt)?;
        match &data["stixBundlePush"] {
            // OpenCTI names nothing yet; this is the name by which it will know the incident.
            Value::Bool(true) => Ok(receipt(&answer, Some(&report.stix_id), false)),
            _ => Err(self.api.failure(Reason::BadAnswer, &answer)),
        }
    }

    /// One mutation a request, because OpenCTI refuses two of one kind in a document. The receipt
    /// has the first id.
    async fn each(
        &self,
        member: &Member,
        calls: impl Iterator<Item = Call> + Send,
    ) -> Result<Receipt, DeliveryError> {
        let (mut first, mut unsent) = (None, None);
        for call in calls {
            match self.add(member, &call).await {
                Ok((answer, id)) => {
                    first.get_or_insert_with(|| receipt(&answer, Some(&id), false));
                }
                Err(error) if http::is_rehearsal() => unsent = Some(error),
                Err(error) => return Err(error),
            }
        }
        unsent.map_or_else(|| Ok(first.unwrap_or_default()), Err)
    }

    /// The indicators that OpenCTI has for what the alert holds and that were not revoked.
    async fn known(&self, member: &Member, report: &Report) -> Result<Vec<String>, DeliveryError> {
        let asked = self.ask(&documents::known(&report.indicators), member.attempt).await;
        if http::is_rehearsal() {
            let assumed = report.indicators.iter().map(stix::indicator_id);
            return Ok(assumed.collect());
        }
        let known = answer::known_indicators(&asked?.1);
        if known.is_empty() {
            tracing::info!(event = %member.id, "OpenCTI knows none of its indicators: no sighting");
        }
        Ok(known)
    }

    /// Adds something, and answers its id. Where OpenCTI does not know what it refers to, the
    /// reporting system is added first.
    async fn add(&self, member: &Member, call: &Call) -> Result<(Answer, String), DeliveryError> {
        let mut answer = self.post(call).await?;
        if code(&answer).is_some_and(|code| is_missing(&code)) {
            self.ask(&documents::identity(&self.form.identity), member.attempt).await?;
            answer = self.post(call).await?;
        }
        let data = judge(&self.api, &answer, member.attempt)?;
        let id = data.as_object().and_then(|data| data.values().next()?["id"].as_str());
        match id.filter(|id| !id.is_empty()) {
            Some(id) => Ok((answer, id.to_owned())),
            None => Err(self.api.failure(Reason::BadAnswer, &answer)),
        }
    }

    async fn ask(&self, call: &Call, attempt: u32) -> Result<(Answer, Value), DeliveryError> {
        let answer = self.post(call).await?;
        let data = judge(&self.api, &answer, attempt)?;
        Ok((answer, data))
    }

    async fn post(&self, call: &Call) -> Result<Answer, DeliveryError> {
        self.api.json(Method::POST, self.api.at("graphql")?, &call.body()).await
    }
}

fn receipt(answer: &Answer, id: Option<&str>, duplicate: bool) -> Receipt {
    Receipt {
        status: Some(answer.status.as_u16()),
        remote_id: id.map(str::to_owned),
        duplicate,
        ..Receipt::default()
    }
}
