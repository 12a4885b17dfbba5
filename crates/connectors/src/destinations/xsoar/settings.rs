//! XSOAR's keys of the configuration.

use std::sync::Arc;

use holdfast_model::{
    Destination,
    settings::{Section, Setting},
};
use reqwest::header::HeaderValue;

use super::{Xsoar, auth::Credentials, callback};
use crate::{
    callback::{self as calls, Callback},
    destinations::Context,
    message::{self, Lifecycle, Severities},
    vendor::{self, Api, Auth},
};

pub(super) const ALL: &[&Setting] = &[
    &URL,
    &VERSION,
    &API_KEY,
    &KEY_ID,
    &KEY_TYPE,
    &INCIDENT_TYPE,
    &CREATE_INVESTIGATION,
    &KEY_FIELD,
    &SEVERITY,
    &vendor::SEARCH_LAG,
    &message::GROUP,
    &message::RESOLVED_BY,
    &message::TEMPLATE,
    &calls::SHARED,
];

const URL: Setting = Setting::optional(
    "url",
    "\"https://api-soc.example/xsoar/public/v1\"",
    "What stands before /incident. Version 6: \"https://host\" or \"https://host/acc_tenant\". Version 8: \"https://api-…/xsoar/public/v1\".",
);

const VERSION: Setting = Setting::new("version", "\"8\"", "XSOAR's version: \"6\" or \"8\".");

const API_KEY: Setting = Setting::optional(
    "api_key",
    "{ file = \"/etc/holdfast/secrets/xsoar\" }",
    "An API key that may create and search incidents. A secret.",
);

const KEY_ID: Setting = Setting::optional(
    "key_id",
    "\"7\"",
    "The id of the key, from the table of API keys. Version 8 only, and needed there.",
);

const KEY_TYPE: Setting = Setting::new(
    "key_type",
    "\"standard\"",
    "Its security level: \"standard\", or \"advanced\" (version 8 only; this machine's clock must be right).",
);

const INCIDENT_TYPE: Setting = Setting::optional(
    "incident_type",
    "\"Wazuh Alert\"",
    "The incident type, which must exist there. Default: XSOAR's own.",
);

const CREATE_INVESTIGATION: Setting = Setting::new(
    "create_investigation",
    "true",
    "Whether the type's playbook starts at once; otherwise the incident is pending.",
);

const KEY_FIELD: Setting = Setting::optional(
    "key_field",
    "\"holdfastkey\"",
    "Machine name of a searchable custom field for the event's key: lower-case letters and digits. Without it a lost answer can make a second incident, and there is no group = \"problem\".",
);

const SEVERITY: Setting = Setting::optional(
    "severity",
    "{ low = \"1\", medium = \"2\", high = \"3\", critical = \"4\" }",
    "XSOAR's number for each severity: \"0\" (unknown), \"0.5\" (informational), \"1\" to \"4\" (critical). The default is the example.",
);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Six,
    Eight,
}

pub(super) fn build(section: &Section<'_>, context: &Context) -> Option<Arc<dyn Destination>> {
    let address = vendor::address(section, &URL);
    let version = match section.word(&VERSION, &["8", "6"]) {
        "6" => Version::Six,
        _ => Version::Eight,
    };
    let credentials = credentials(section, version);
    let incident_type = section.text(&INCIDENT_TYPE).map(str::to_owned);
    let create_investigation = section.bool(&CREATE_INVESTIGATION);
    let search_lag = vendor::search_lag(section);
    let key_field = key_field(section);
    let severities =
        Severities::read(section, ["1", "2", "3", "4"], &["0", "0.5", "1", "2", "3", "4"]);
    let lifecycle = Lifecycle::read(section);
    let template = message::Template::read(section);
    let callback = Callback::read(section, &callback::VENDOR);
    let key_field = key_field?;
    if key_field.is_none() && section.text(&message::GROUP) == Some("problem") {
        section.fault(message::GROUP.name, "it needs `key_field`, by which a problem is found");
        return None;
    }
    Some(Arc::new(Xsoar {
        callback: callback?,
        api: Api::new(section, context, address?, Auth::None)?,
        credentials: credentials?,
        version,
        incident_type,
        create_investigation,
        search_lag,
        key_field,
        severities: severities?,
        lifecycle: lifecycle?,
        template: template?,
    }))
}

fn credentials(section: &Section<'_>, version: Version) -> Option<Credentials> {
    let key = vendor::secret(section, &API_KEY);
    let id = section.text(&KEY_ID);
    let advanced = section.word(&KEY_TYPE, &["standard", "advanced"]) == "advanced";
    let key = key.and_then(|key| vendor::fits_a_header(section, API_KEY.name, key));
    let key_id = match (version, id) {
        (Version::Six, Some(_)) => {
            section.fault(KEY_ID.name, "version 6 has no ids of keys");
            return None;
        }
        (Version::Six, None) if advanced => {
            section.fault(KEY_TYPE.name, "version 6 has standard keys only");
            return None;
        }
        (Version::Six, None) => None,
        (Version::Eight, None) => {
            if !section.has(KEY_ID.name) {
                section.fault("", format!("`{}` is missing: {}", KEY_ID.name, KEY_ID.doc));
            }
            return None;
        }
        (Version::Eight, Some(id)) => match HeaderValue::from_str(id.trim()) {
            Ok(id) if !id.is_empty() => Some(id),
            _ => {
                section.fault(KEY_ID.name, "it is a number, as \"7\"");
                return None;
            }
        },
    };
    Some(Credentials { key: key?, key_id, advanced })
}

/// `None` is a fault, `Some(None)` no field.
fn key_field(section: &Section<'_>) -> Option<Option<String>> {
    let Some(field) = section.text(&KEY_FIELD) else {
        return (!section.has(KEY_FIELD.name)).then_some(None);
    };
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if field.is_empty() || !field.chars().all(fits) {
        let problem = "a field's machine name is lower-case letters and digits: \"Holdfast Key\" is \"holdfastkey\"";
        section.fault(KEY_FIELD.name, problem);
        return None;
    }
    Some(Some(field.to_owned()))
}
