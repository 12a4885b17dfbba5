//! What an operator can say about an OpenCTI.

use std::sync::Arc;

use holdfast_model::{
    Destination,
    settings::{Section, Setting},
};
use reqwest::header::AUTHORIZATION;

use super::{OpenCti, form::Form};
use crate::{
    destinations::Context,
    message::{self, Severities},
    vendor::{self, Api, Auth},
};

pub(super) const ALL: &[&Setting] = &[
    &URL,
    &TOKEN,
    &CREATE,
    &CONNECTOR_ID,
    &IDENTITY,
    &TLP,
    &LABELS,
    &SCORE,
    &SEVERITY,
    &message::TEMPLATE,
];

const URL: Setting =
    Setting::optional("url", "\"https://opencti.example\"", "OpenCTI's address, without /graphql.");

const TOKEN: Setting = Setting::optional(
    "token",
    "{ file = \"/etc/holdfast/secrets/opencti\" }",
    "The API token of a user with the capability to create knowledge; for bundles, of a connector's user. A secret.",
);

const CREATE: Setting = Setting::new(
    "create",
    "\"incident\"",
    "What an alert becomes: \"incident\", \"indicator\" (one for each public address, name, URL and hash, with its observable), \"sighting\" (of those indicators that OpenCTI has already) or \"bundle\" (incident and indicators as STIX, which a connector imports).",
);

const CONNECTOR_ID: Setting = Setting::optional(
    "connector_id",
    "\"f005a115-1139-491a-a1e6-7f93971648f3\"",
    "The id of the registered connector that imports bundles. Only for `create = \"bundle\"`, which needs it.",
);

const IDENTITY: Setting = Setting::new(
    "identity",
    "\"Wazuh\"",
    "The name of the system that reports: the author of everything, and where sightings were seen. It is added when OpenCTI does not know it.",
);

const TLP: Setting = Setting::new(
    "tlp",
    "\"amber\"",
    "Who may know: \"clear\", \"green\", \"amber\", \"amber+strict\" or \"red\".",
);

const LABELS: Setting = Setting::optional("labels", "[\"wazuh\"]", "Labels, at most 20.");

const SCORE: Setting =
    Setting::new("score", "50", "The score of indicators that are added, 0 to 100.");

const SEVERITY: Setting = Setting::optional(
    "severity",
    "{ low = \"low\", medium = \"medium\", high = \"high\", critical = \"critical\" }",
    "OpenCTI's word for each severity of an incident: \"low\", \"medium\", \"high\" or \"critical\". The default is the example.",
);

const LABELS_MAX: usize = 20;

const IDENTITY_CHARS_MAX: usize = 250;

/// What OpenCTI knows each word of the Traffic Light Protocol by. The ids are the STIX
/// specification's own; that of AMBER+STRICT is OpenCTI's.
const TLP_IDS: [(&str, &str); 5] = [
    ("clear", "marking-definition--613f2e26-407d-48c7-9eca-b8e91df99dc9"),
    ("green", "marking-definition--34098fce-860f-48ae-8e50-ebd3cc5e41da"),
    ("amber", "marking-definition--f88d31f6-486f-44da-b317-01333bde0b82"),
    ("amber+strict", "marking-definition--826578e1-40ad-459f-bc73-ede076f81f37"),
    ("red", "marking-definition--5e57c739-391a-4eb3-b6be-7d15ca92d5ed"),
];

/// What an alert becomes.
#[derive(Debug)]
pub(super) enum Create {
    Incident,
    Indicator,
    Sighting,
    Bundle { connector_id: String },
}

pub(super) fn build(section: &Section<'_>, context: &Context) -> Option<Arc<dyn Destination>> {
    let address = vendor::address(section, &URL);
    let token = vendor::secret(section, &TOKEN);
    let create = create(section);
    let identity = section.text(&IDENTITY).and_then(|name| {
        vendor::of_length(section, &IDENTITY, name.trim(), 2..=IDENTITY_CHARS_MAX)
    });
    let word = section.word(&TLP, &TLP_IDS.map(|(word, _)| word));
    let labels = vendor::texts(section, &LABELS, LABELS_MAX);
    let score = section.count(&SCORE, 0..=100);
    let words = ["low", "medium", "high", "critical"];
    let severities = Severities::read(section, words, &words);
    let template = message::Template::read(section);
    let auth = Auth::Header { name: AUTHORIZATION, prefix: "Bearer ", secret: token? };
    let form = Form {
        identity: identity?,
        marking: TLP_IDS.iter().find(|(known, _)| *known == word)?.1,
        labels: labels?,
        score,
        severities: severities?,
        template: template?,
    };
    let api = Api::new(section, context, address?, auth)?;
    Some(Arc::new(OpenCti { api, create: create?, form }))
}

fn create(section: &Section<'_>) -> Option<Create> {
    let connector_id = section.text(&CONNECTOR_ID);
    match section.word(&CREATE, &["incident", "indicator", "sighting", "bundle"]) {
        "incident" => Some(Create::Incident),
        "indicator" => Some(Create::Indicator),
        "sighting" => Some(Create::Sighting),
        _ => match connector_id.filter(|id| !id.trim().is_empty()) {
            Some(id) => Some(Create::Bundle { connector_id: id.to_owned() }),
            None => {
                section.fault(CONNECTOR_ID.name, "a bundle needs the id of a connector");
                None
            }
        },
    }
}
