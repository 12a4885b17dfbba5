//! All samples to every destination: each body fits the schema that the project keeps of its
//! vendor, and the vendor's own where there is one and it is at hand.

use std::{collections::BTreeMap, sync::Arc};

use holdfast_model::{Destination, Member};
use jsonschema::Validator;
use serde_json::{Value, json};

use super::{
    cases::{self, Case},
    others, outcome,
    server::{Fault, Server},
    vendors::{Library, Part},
};
use crate::{
    message::samples,
    testing::{context, shipment},
};

macro_rules! schemas {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("schemas/", $name, ".json")))),+]
    };
}

/// Our own reading of each vendor's document.
const SCHEMAS: &[(&str, &str)] = schemas![
    "webhook",
    "slack.webhook",
    "slack.bot",
    "teams",
    "discord",
    "mattermost",
    "telegram",
    "pagerduty",
    "opsgenie",
    "alertmanager",
    "jira.cloud",
    "jira.server",
    "servicenow.incident",
    "servicenow.import",
    "servicenow.event",
    "shuffle",
    "thehive.5",
    "thehive.4",
    "xsoar.8",
    "xsoar.6",
    "misp",
    "misp.sighting",
    "opencti.incident",
    "opencti.indicator",
    "opencti.bundle",
    "splunk_hec",
    "elasticsearch",
    "wazuh_events",
    "wazuh_active_response",
];

/// One line of the printed table.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) samples: usize,
    pub(super) own: &'static str,
    pub(super) vendor: String,
}

pub(super) fn covers(kind: &str) -> bool {
    cases::ALL.iter().any(|case| super::type_of(case.name) == kind) || others::NAMES.contains(&kind)
}

/// All samples, and one that tries to break out of every mark-up.
pub(super) fn members() -> Vec<(String, Member)> {
    let hostile = ("hostile".to_owned(), samples::hostile());
    samples::all().into_iter().chain([hostile]).collect()
}

fn schema(name: &str) -> Validator {
    let name = match name {
        "servicenow.security" | "servicenow.oauth" => "servicenow.incident",
        "splunk_hec.ack" => "splunk_hec",
        name => name,
    };
    let found = SCHEMAS.iter().find(|(known, _)| *known == name);
    let (_, text) = found.unwrap_or_else(|| panic!("schemas/{name}.json is missing"));
    let options = jsonschema::options().should_validate_formats(true);
    options.build(&serde_json::from_str(text).expect(name)).expect(name)
}

/// The body as the JSON values that are checked, one by one.
fn values(name: &str, body: &[u8]) -> Vec<Value> {
    let all = serde_json::Deserializer::from_slice(body).into_iter::<Value>();
    let all: Vec<_> = all.map(|value| value.expect("it is JSON")).collect();
    match name {
        "elasticsearch" => {
            assert!(body.ends_with(b"\n"), "or the whole is refused");
            let pair = |pair: &[Value]| json!({ "action": pair[0], "document": pair[1] });
            all.chunks(2).map(pair).collect()
        }
        "opencti.bundle" => all.into_iter().map(opened).collect(),
        _ => all,
    }
}

/// A bundle is JSON in a text.
fn opened(mut call: Value) -> Value {
    let text = call["variables"]["bundle"].as_str().expect("a text").to_owned();
    call["variables"]["bundle"] = serde_json::from_str(&text).expect("a bundle");
    call
}

/// What no schema can say: sizes of the whole, and sums of texts.
fn check_limits(case: &str, sample: &str, member: &Member, body: &[u8]) {
    let text = std::str::from_utf8(body).unwrap();
    let bytes_max = match case {
        "teams" => 28 * 1024,
        "pagerduty" => 512_000,
        "splunk_hec" | "splunk_hec.ack" => 1024 * 1024,
        _ => 16 * 1024 * 1024,
    };
    assert!(body.len() <= bytes_max, "{case}, {sample}: {} bytes", body.len());
    if case == "webhook" {
        assert_eq!(body, &member.event.body[..], "{sample}: as Wazuh wrote it");
        return;
    }
    // OpenCTI knows things by ids that are made of the key, or by what they are.
    let is_named = text.contains(&member.key) || case.starts_with("opencti");
    assert!(is_named, "{case}, {sample}: the key is not in it");
    let whole: Value = serde_json::from_str(text).unwrap_or_default();
    let (at, chars_max) = match case {
        "discord" => ("/embeds", 6000),
        "slack.bot" | "slack.webhook" => ("/attachments", 12_000),
        _ => return,
    };
    let mut sum = 0;
    count(&whole.pointer(at).unwrap()[0], &mut sum);
    assert!(sum <= chars_max, "{case}, {sample}: {sum} characters");
}

/// The characters of all texts.
fn count(value: &Value, sum: &mut usize) {
    match value {
        Value::String(text) => *sum += text.chars().count(),
        Value::Array(items) => items.iter().for_each(|item| count(item, sum)),
        Value::Object(object) => object.values().for_each(|value| count(value, sum)),
        _ => {}
    }
}

/// The bodies of one sample, as the destination sent them.
async fn bodies(case: &'static Case, member: &Member) -> Vec<Vec<u8>> {
    let server = Server::start(case, Fault::None, &member.key).await;
    let destination: Arc<dyn Destination> = case.destination(&server, context().timeout);
    let again = Member { attempt: 1, ..member.clone() };
    let said = outcome(destination.deliver(&shipment([again])).await);
    // What has no address is not acted upon, and what Wazuh would cut is not sent.
    let kept_back = match case.name {
        "wazuh_active_response" => "client_error",
        "wazuh_events" => "too_large",
        _ => "delivered",
    };
    assert!(said == "delivered" || said == kept_back, "{}: {said}", case.name);
    server.bodies()
}

fn check(checks: &[(&Part, Validator)], body: &Value, problems: &mut BTreeMap<String, usize>) {
    for (part, validator) in checks {
        for value in part.of(body) {
            for error in validator.iter_errors(value) {
                let place = error.instance_path().to_string();
                if !part.is_excepted(&place) {
                    let said: String = error.to_string().chars().take(200).collect();
                    let problem = format!("{}: {place}: {said}", part.file());
                    *problems.entry(problem).or_default() += 1;
                }
            }
        }
    }
}

async fn over_http(library: &mut Option<Library>, case: &'static Case) -> (Line, Vec<String>) {
    let own = schema(case.name);
    let checks = library.as_mut().map(|library| library.checks(case.name)).unwrap_or_default();
    let mut problems = BTreeMap::new();
    let mut samples = 0;
    for (sample, member) in members() {
        let sent = bodies(case, &member).await;
        // These tell what an alert holds for others to look for: of some alerts that is nothing.
        let may_be_silent = matches!(
            case.name,
            "misp.sighting" | "opencti.indicator" | "wazuh_active_response" | "wazuh_events"
        );
        assert!(may_be_silent || sent.len() == 1, "{}, {sample}: {}", case.name, sent.len());
        for sent in &sent {
            check_limits(case.name, &sample, &member, sent);
        }
        for body in sent.iter().flat_map(|sent| values(case.name, sent)) {
            for error in own.iter_errors(&body) {
                let said: String = error.to_string().chars().take(300).collect();
                *problems
                    .entry(format!("{sample}: {}: {said}", error.instance_path()))
                    .or_default() += 1;
            }
            check(&checks, &body, &mut problems);
        }
        samples += 1;
    }
    let mut files: Vec<_> = checks.iter().map(|(part, _)| part.file()).collect();
    files.dedup();
    let vendor = match super::type_of(case.name) {
        "opencti" if library.is_some() => {
            "opencti-relay.schema.graphql, in its own tests".to_owned()
        }
        _ if files.is_empty() => "unchecked".to_owned(),
        _ => files.join(", "),
    };
    let line = Line { name: case.name.to_owned(), samples, own: "validated", vendor };
    let problems = problems.iter().map(|(said, times)| format!("{}, {times}x {said}", case.name));
    (line, problems.collect())
}

pub(super) fn print(lines: &[Line]) {
    println!("{:<22} {:>7}  {:<24} vendor's own document", "destination", "samples", "our reading");
    for Line { name, samples, own, vendor } in lines {
        println!("{name:<22} {samples:>7}  {own:<24} {vendor}");
    }
    let samples = members().len();
    assert!(lines.iter().all(|line| line.samples == samples), "every sample to each");
}

#[tokio::test]
async fn every_sample_to_every_destination_fits_its_schema() {
    let mut library = Library::open();
    let mut lines = Vec::new();
    let mut problems = Vec::new();
    for case in cases::ALL {
        let (line, wrong) = over_http(&mut library, case).await;
        lines.push(line);
        problems.extend(wrong);
    }
    print(&lines);
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

#[tokio::test]
async fn a_schema_refuses_what_it_does_not_know() {
    let (_, member) = members().swap_remove(0);
    for case in cases::ALL {
        let own = schema(case.name);
        let sent = bodies(case, &member).await;
        let body = values(case.name, &sent[0]).swap_remove(0);
        assert!(own.is_valid(&body), "{}", case.name);
        if case.name == "webhook" {
            assert!(!own.is_valid(&json!([body])), "it is one alert");
            continue;
        }
        let mut more = body.clone();
        let object = if more.is_array() { &mut more[0] } else { &mut more };
        object["frobnicate"] = 1.into();
        assert!(!own.is_valid(&more), "{}: a key that it does not know", case.name);
        let object = if body.is_array() { &body[0] } else { &body };
        for key in object.as_object().unwrap().keys() {
            let mut wrong = body.clone();
            let object = if wrong.is_array() { &mut wrong[0] } else { &mut wrong };
            object[key] = json!([[null]]);
            assert!(!own.is_valid(&wrong), "{}: `{key}` may be anything", case.name);
        }
    }
}
