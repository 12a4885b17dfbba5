//! What OpenCTI is told about an alert. Pure.

use holdfast_model::{Member, Timestamp};
use serde_json::{Value, json};

use super::{
    documents::{self, Call},
    stix,
};
use crate::{
    indicators::{self, Indicator},
    message::{self, Message, Severities, Severity},
};

/// What is the same for every alert.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) identity: String,
    /// The id of the marking that says who may know.
    pub(super) marking: &'static str,
    pub(super) labels: Vec<String>,
    pub(super) score: u32,
    pub(super) severities: Severities,
    pub(super) template: message::Template,
}

/// An alert as OpenCTI is told about it.
#[derive(Debug)]
pub(super) struct Report {
    key: String,
    /// The incident's own id, beside the one OpenCTI makes of its title and time.
    pub(super) stix_id: String,
    name: String,
    text: String,
    /// The same on every try: OpenCTI makes ids of it.
    at: String,
    severity: Severity,
    pub(super) indicators: Vec<Indicator>,
}

/// When the identity in bundles was made. It does not change from bundle to bundle.
const IDENTITY_CREATED: &str = "2026-01-01T00:00:00.000Z";

// === impl Form ===

impl Form {
    pub(super) fn report(&self, member: &Member) -> Report {
        let message = Message::of(member);
        let at = Timestamp::parse(&message.at).unwrap_or(member.event.received_at);
        // OpenCTI takes no name of one character.
        let short = message.title.chars().count() < 2;
        let name = if short { format!("Wazuh: {}", message.title) } else { message.title.clone() };
        Report {
            stix_id: stix::id("incident", &[&member.key]),
            name,
            text: self.template.render(&message).unwrap_or_else(|| message.plain()),
            at: at.to_string(),
            severity: message.severity,
            indicators: indicators::of(&message.alert),
            key: message.key,
        }
    }

    pub(super) fn incident(&self, report: &Report) -> Call {
        let mut incident = self.about(report);
        incident["stix_id"] = report.stix_id.clone().into();
        incident["created"] = report.at.clone().into();
        documents::incident_add(self.common(incident))
    }

    /// What an incident says, whichever way it goes.
    fn about(&self, report: &Report) -> Value {
        json!({
            "name": report.name,
            "description": report.text,
            "incident_type": "alert",
            "severity": self.severities.word(report.severity),
            "source": self.identity,
            "first_seen": report.at,
            "last_seen": report.at,
        })
    }

    /// Without an id of ours: OpenCTI knows an indicator by its pattern, whoever found it.
    pub(super) fn indicator(&self, report: &Report, indicator: &Indicator) -> Call {
        documents::indicator_add(self.common(json!({
            "name": indicator.value,
            "pattern": stix::pattern(indicator),
            "pattern_type": "stix",
            "description": report.text,
            "valid_from": report.at,
            "x_opencti_score": self.score,
            "x_opencti_main_observable_type": stix::observable_type(indicator.class),
            "createObservables": true,
        })))
    }

    pub(super) fn sighting(&self, report: &Report, indicator_id: &str) -> Call {
        documents::sighting_add(self.common(json!({
            "stix_id": stix::id("sighting", &[&report.key, indicator_id]),
            "fromId": indicator_id,
            "toId": stix::system_id(&self.identity),
            "attribute_count": 1,
            "first_seen": report.at,
            "last_seen": report.at,
            "description": report.text,
        })))
    }

    fn common(&self, mut input: Value) -> Value {
        input["createdBy"] = stix::system_id(&self.identity).into();
        input["objectMarking"] = json!([self.marking]);
        if !self.labels.is_empty() {
            input["objectLabel"] = self.labels.clone().into();
        }
        input
    }

    pub(super) fn bundle(&self, report: &Report, connector_id: &str) -> Call {
        let mut objects = vec![self.system(), self.stix_incident(report)];
        for indicator in &report.indicators {
            let id = stix::indicator_id(indicator);
            objects.push(self.stix_object(
                report,
                "indicator",
                &id,
                json!({
                    "name": indicator.value,
                    "pattern": stix::pattern(indicator),
                    "pattern_type": "stix",
                    "valid_from": report.at,
                    "x_opencti_score": self.score,
                    "x_opencti_main_observable_type": stix::observable_type(indicator.class),
                    "x_opencti_create_observables": true,
                }),
            ));
            let relation = stix::id("relationship", &[&report.key, &id]);
            objects.push(self.stix_object(
                report,
                "relationship",
                &relation,
                json!({
                    "relationship_type": "related-to",
                    "source_ref": id,
                    "target_ref": report.stix_id,
                }),
            ));
        }
        let bundle = json!({
            "type": "bundle",
            "id": stix::id("bundle", &[&report.key]),
            "objects": objects,
        });
        documents::bundle_push(connector_id, &bundle)
    }

    fn system(&self) -> Value {
        json!({
            "type": "identity",
            "spec_version": "2.1",
            "id": stix::system_id(&self.identity),
            "created": IDENTITY_CREATED,
            "modified": IDENTITY_CREATED,
            "name": self.identity,
            "identity_class": "system",
        })
    }

    fn stix_incident(&self, report: &Report) -> Value {
        self.stix_object(report, "incident", &report.stix_id, self.about(report))
    }

    fn stix_object(&self, report: &Report, kind: &str, id: &str, mut object: Value) -> Value {
        object["type"] = kind.into();
        object["spec_version"] = "2.1".into();
        object["id"] = id.into();
        object["created"] = report.at.clone().into();
        object["modified"] = report.at.clone().into();
        object["created_by_ref"] = stix::system_id(&self.identity).into();
        object["object_marking_refs"] = json!([self.marking]);
        if !self.labels.is_empty() {
            object["labels"] = self.labels.clone().into();
        }
        object
    }
}
