//! MISP 2.4 and 2.5: an event with attributes for each alert, or a sighting of what it holds.
//!
//! Promises: one event here is one event there, because its `uuid` is made from the key; a sighting
//! whose answer was lost is looked for by its `source` before it is added again; addresses of
//! private networks, and what MISP's own warning lists say is harmless, are not pushed as
//! indicators.
//!
//! Does not promise: that sightings of several values are all there after a fault in MISP itself
//! between two of them; it names only the last.
//!
//! Quirks: a `uuid` that MISP has already is a 404 with a `Location`; without one it is a wrong
//! address. A 403 is both a bad key and an event that is not taken: only the second names `errors`.
//! A 200 can name attributes that were not taken, or say that a sighting failed. A 429 names its
//! wait in `X-Rate-Limit-Reset`. No hit on a warning list is `[]`, a hit is an object.
//!
//! Source: MISP/MISP `app/webroot/doc/openapi.yaml`, `EventsController.php::add`,
//! `SightingsController.php::add`, `Model/Sighting.php`, `WarninglistsController.php::checkValue`,
//! `RestResponseComponent.php`; MISP/PyMISP.

mod answer;
mod body;
mod settings;
#[cfg(test)]
mod tests;

use std::{collections::HashSet, error::Error};

use async_trait::async_trait;
use holdfast_model::{
    DeliveryError, Destination, Member, Reason, Receipt, Shipment, delivery::Delivered,
};
use reqwest::{
    Method,
    header::{ACCEPT, HeaderValue},
};
use serde_json::{Value, json};

use self::{body::Form, settings::Create};
use super::Kind;
use crate::{
    http::{self, Answer},
    indicators::{self, Indicator},
    message::Message,
    vendor::Api,
};

pub(super) const KIND: Kind = Kind {
    name: "misp",
    summary: "Adds events with attributes, or sightings, to MISP.",
    example: r#"
url = "https://misp.example"
api_key = "replace-me"
tags = ["tlp:amber"]
"#,
    settings: settings::ALL,
    batches: false,
    http: true,
    build: settings::build,
};

#[derive(Debug)]
struct Misp {
    api: Api,
    create: Create,
    /// Whether warning lists are asked before an event is added.
    warninglists: bool,
    form: Form,
}

#[async_trait]
impl Destination for Misp {
    async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError> {
        let member = shipment.only()?;
        let message = Message::of(member);
        let found = indicators::of(&message.alert);
        let receipt = match self.create {
            Create::Event => self.event(member, &message, found).await,
            Create::Sighting if found.is_empty() => {
                tracing::info!(event = %member.id, "it has no indicator: nothing to tell MISP");
                Ok(Receipt::default())
            }
            Create::Sighting => self.sighting(member, &message, &found).await,
        };
        receipt.map(Delivered::All)
    }

    async fn check(&self) -> Option<Result<(), DeliveryError>> {
        Some(self.version().await)
    }

    fn refresh_secrets(&self) -> Result<bool, Box<dyn Error + Send + Sync>> {
        self.api.refresh()
    }

    fn take_template_errors(&self) -> u64 {
        self.form.template.take_errors()
    }
}

// === impl Misp ===

impl Misp {
    async fn event(
        &self,
        member: &Member,
        message: &Message,
        mut found: Vec<Indicator>,
    ) -> Result<Receipt, DeliveryError> {
        if self.warninglists && !found.is_empty() {
            let harmless = self.harmless(&found).await?;
            found.retain(|indicator| !harmless.contains(&indicator.value));
        }
        let event = self.form.event(member, message, &found);
        let answer = self.post("events/add", &event).await?;
        answer::event(&self.api, &answer)
    }

    /// Those values that are on a warning list: public resolvers, big content networks.
    async fn harmless(&self, found: &[Indicator]) -> Result<HashSet<String>, DeliveryError> {
        let values: Vec<_> = found.iter().map(|indicator| indicator.value.as_str()).collect();
        let asked = self.post("warninglists/checkValue", &json!(values)).await;
        if http::is_rehearsal() {
            return Ok(HashSet::new());
        }
        asked.and_then(|answer| answer::warned(&self.api, &answer)).map_err(|mut error| {
            // Nothing of the event was sent, so whatever is lost here leaves it in no doubt.
            if error.reason == Reason::InDoubt {
                error.reason = Reason::ServerFault;
            }
            error
        })
    }

    async fn sighting(
        &self,
        member: &Member,
        message: &Message,
        found: &[Indicator],
    ) -> Result<Receipt, DeliveryError> {
        let sighting = self.form.sighting(member, message, found);
        if member.in_doubt || member.attempt > 1 {
            let answer = self.post("sightings/restSearch", &body::search(&sighting)).await?;
            if let Some(receipt) = answer::found(&self.api, &answer, &sighting["source"])? {
                return Ok(receipt);
            }
        }
        let answer = self.post("sightings/add", &sighting).await?;
        answer::sighting(&self.api, &answer, member.attempt)
    }

    async fn version(&self) -> Result<(), DeliveryError> {
        let answer = self.api.get(self.api.at("servers/getVersion.json")?).await?;
        answer::verdict(&self.api, &answer)?;
        let said = self.api.read(&answer)?;
        if matches!(self.create, Create::Sighting) && said["perm_sighting"] == false {
            return Err(self.api.failure(Reason::Unauthorized, &answer));
        }
        Ok(())
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Answer, DeliveryError> {
        // Without it MISP may answer in HTML.
        let accept = [(ACCEPT, HeaderValue::from_static("application/json"))];
        let body = body.to_string().into_bytes();
        self.api.send(Method::POST, self.api.at(path)?, "application/json", body, &accept).await
    }
}
