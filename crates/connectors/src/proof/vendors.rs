//! Vendors' own documents, which the project does not carry: OpenAPI, Swagger and JSON Schema.
//!
//! `HOLDFAST_VENDOR_SPECS` names a folder with them; without it nothing here is checked. Nothing is
//! fetched.

use std::{collections::HashMap, fs, path::PathBuf};

use jsonschema::{Draft, Validator};
use serde_json::Value;

/// One part of a body and the schema that a vendor has for it.
pub(super) struct Part {
    /// Where in the body: a pointer, in which `*` is every item. Empty: the whole.
    at: &'static str,
    file: &'static str,
    /// Where in the document. Empty: the whole.
    schema: &'static str,
    draft: Draft,
    /// Whether words like `date-time` are held to.
    formats: bool,
    /// Below this nothing is held to it, because the document is wrong there. Empty: nowhere.
    except: &'static str,
}

const fn part(at: &'static str, file: &'static str, schema: &'static str) -> Part {
    Part { at, file, schema, draft: Draft::Draft4, formats: true, except: "" }
}

/// What vendors publish a schema for.
pub(super) const ALL: &[(&str, &[Part])] = &[
    (
        "pagerduty",
        &[Part {
            // Its own example has a zone without a colon, which RFC 3339 and Wazuh's do not agree on.
            formats: false,
            ..part(
                "",
                "pagerduty-events-v2-openapi.json",
                "/paths/~1enqueue/post/requestBody/content/application~1json/schema",
            )
        }],
    ),
    (
        "thehive.5",
        &[Part {
            draft: Draft::Draft202012,
            ..part("", "thehive5-openapi.yaml", "/components/schemas/InputCreateAlert")
        }],
    ),
    (
        "xsoar.6",
        &[Part {
            // Generated from Go's `map[string]interface{}`, whose values it calls objects. The
            // vendor's own client and examples send texts.
            except: "/CustomFields/",
            ..part("", "xsoar6-swagger.json", "/definitions/CreateIncidentRequest")
        }],
    ),
    (
        "jira.cloud",
        &[
            part("", "jira-cloud-v3-openapi.json", "/components/schemas/IssueUpdateDetails"),
            part("/fields/description", "adf-schema-full.json", ""),
        ],
    ),
    ("opsgenie", &[part("", "opsgenie-swagger.json", "/definitions/CreateAlertPayload")]),
    ("alertmanager", &[part("", "alertmanager-v2-openapi.yaml", "/definitions/postableAlerts")]),
    (
        "misp",
        &[
            part("/Event", "misp-openapi.yaml", "/components/schemas/EventNoId"),
            part("/Event/Attribute/*", "misp-openapi.yaml", "/components/schemas/AttributeNoId"),
        ],
    ),
];

/// The documents of one folder, each read once.
pub(super) struct Library {
    folder: PathBuf,
    documents: HashMap<&'static str, Value>,
}

// === impl Library ===

impl Library {
    pub(super) fn open() -> Option<Self> {
        let folder = std::env::var_os("HOLDFAST_VENDOR_SPECS")?.into();
        Some(Self { folder, documents: HashMap::new() })
    }

    /// What checks the bodies of a case, if its vendor has published something.
    pub(super) fn checks(&mut self, case: &str) -> Vec<(&'static Part, Validator)> {
        let parts = ALL.iter().find(|(name, _)| *name == case);
        let parts = parts.map_or(&[][..], |(_, parts)| parts);
        parts.iter().map(|part| (part, self.validator(part))).collect()
    }

    fn validator(&mut self, part: &Part) -> Validator {
        let Self { folder, documents } = self;
        let document = documents.entry(part.file).or_insert_with(|| {
            let text = fs::read_to_string(folder.join(part.file));
            let text = text.unwrap_or_else(|error| panic!("{}: {error}", part.file));
            let mut document: Value = if part.file.ends_with(".yaml") {
                let options = serde_saphyr::options! { budget: None };
                serde_saphyr::from_str_with_options(&text, options).expect(part.file)
            } else {
                serde_json::from_str(&text).expect(part.file)
            };
            admit_null(&mut document);
            document
        });
        let mut schema = document.pointer(part.schema).expect(part.schema).clone();
        // What it refers to.
        for shelf in ["components", "definitions"] {
            if let Some(named) = document.get(shelf) {
                schema[shelf] = named.clone();
            }
        }
        let options = jsonschema::options().with_draft(part.draft);
        let options = options.should_validate_formats(part.formats);
        options.build(&schema).unwrap_or_else(|error| panic!("{}: {error}", part.file))
    }
}

// === impl Part ===

impl Part {
    /// The parts of the body that the schema is for.
    pub(super) fn of<'a>(&self, body: &'a Value) -> Vec<&'a Value> {
        match self.at.strip_suffix("/*") {
            Some(list) => {
                body.pointer(list).and_then(Value::as_array).into_iter().flatten().collect()
            }
            None => body.pointer(self.at).into_iter().collect(),
        }
    }

    pub(super) fn is_excepted(&self, place: &str) -> bool {
        !self.except.is_empty() && place.starts_with(self.except)
    }

    pub(super) fn file(&self) -> &'static str {
        self.file
    }
}

/// OpenAPI 3.0 writes `nullable` where JSON Schema lists the type `null`.
fn admit_null(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(admit_null),
        Value::Object(object) => {
            if object.get("nullable") == Some(&Value::Bool(true))
                && let Some(Value::String(kind)) = object.get("type")
            {
                let both = serde_json::json!([kind, "null"]);
                object.insert("type".to_owned(), both);
            }
            object.values_mut().for_each(admit_null);
        }
        _ => {}
    }
}
