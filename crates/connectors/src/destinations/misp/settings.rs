//! What an operator can say about a MISP.

use std::sync::Arc;

use holdfast_model::{
    Destination,
    settings::{Section, Setting},
};
use reqwest::header::AUTHORIZATION;

use super::{Misp, body::Form};
use crate::{
    destinations::Context,
    message::{self, Severities},
    vendor::{self, Api, Auth},
};

pub(super) const ALL: &[&Setting] = &[
    &URL,
    &API_KEY,
    &CREATE,
    &DISTRIBUTION,
    &PUBLISHED,
    &TO_IDS,
    &WARNINGLISTS,
    &SOURCE,
    &TAGS,
    &SEVERITY,
    &message::TEMPLATE,
];

const URL: Setting =
    Setting::optional("url", "\"https://misp.example\"", "MISP's address, without /events.");

const API_KEY: Setting = Setting::optional(
    "api_key",
    "{ file = \"/etc/holdfast/secrets/misp\" }",
    "The auth key of a user that may add events or sightings, 40 characters. A secret.",
);

const CREATE: Setting = Setting::new(
    "create",
    "\"event\"",
    "What an alert becomes: an \"event\" with attributes, or a \"sighting\" of those of its public addresses, names, URLs and hashes that MISP has already.",
);

const DISTRIBUTION: Setting = Setting::new(
    "distribution",
    "0",
    "Who sees the event: 0 (your organisation), 1 (this community), 2 (connected communities) or 3 (all).",
);

const PUBLISHED: Setting =
    Setting::new("published", "false", "Whether the event is published at once.");

const TO_IDS: Setting =
    Setting::new("to_ids", "false", "Whether addresses, hashes and URLs are marked for detection.");

const WARNINGLISTS: Setting = Setting::new(
    "warninglists",
    "true",
    "Whether MISP's warning lists are asked first. A value that is on one (a public resolver, a content network) does not become an attribute.",
);

const SOURCE: Setting = Setting::new(
    "source",
    "\"Wazuh\"",
    "The source of sightings. The event's key is put behind it, by which a repeat is known.",
);

const TAGS: Setting =
    Setting::optional("tags", "[\"tlp:amber\"]", "Tags of the event, at most 20.");

const SEVERITY: Setting = Setting::optional(
    "severity",
    "{ low = \"3\", medium = \"2\", high = \"1\", critical = \"1\" }",
    "MISP's threat level for each severity: \"1\" (high), \"2\" (medium), \"3\" (low) or \"4\" (undefined). The default is the example.",
);

const TAGS_MAX: usize = 20;

const SOURCE_CHARS_MAX: usize = 60;

/// What an alert becomes.
#[derive(Debug)]
pub(super) enum Create {
    Event,
    Sighting,
}

pub(super) fn build(section: &Section<'_>, context: &Context) -> Option<Arc<dyn Destination>> {
    let address = vendor::address(section, &URL);
    let api_key = vendor::secret(section, &API_KEY);
    let create = match section.word(&CREATE, &["event", "sighting"]) {
        "sighting" => Create::Sighting,
        _ => Create::Event,
    };
    let distribution = section.count(&DISTRIBUTION, 0..=3);
    let published = section.bool(&PUBLISHED);
    let to_ids = section.bool(&TO_IDS);
    let warninglists = section.bool(&WARNINGLISTS);
    let source = section.text(&SOURCE).and_then(|source| {
        vendor::of_length(section, &SOURCE, source.trim(), 1..=SOURCE_CHARS_MAX)
    });
    let tags = vendor::texts(section, &TAGS, TAGS_MAX);
    let severities = Severities::read(section, ["3", "2", "1", "1"], &["1", "2", "3", "4"]);
    let template = message::Template::read(section);
    let auth = Auth::Header { name: AUTHORIZATION, prefix: "", secret: api_key? };
    let form = Form {
        distribution,
        published,
        to_ids,
        source: source?,
        tags: tags?,
        severities: severities?,
        template: template?,
    };
    let api = Api::new(section, context, address?, auth)?;
    Some(Arc::new(Misp { api, create, warninglists, form }))
}
