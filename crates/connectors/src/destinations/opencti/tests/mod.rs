mod answers;
mod schema;

use std::{cell::RefCell, sync::Arc};

use holdfast_model::settings::Section;
use serde_json::json;

use super::*;
use crate::{
    http::fake::{Act, Fake, Seen, answer},
    message::{self, Severities, samples},
    testing::{alert, build as build_kind, context, fault, shipment},
};

const TOKEN: &str = "11111111-2222-4333-8444-555555555555";
const SYSTEM: &str = "identity--6384d70e-3e7e-5ea0-90a1-a9f589a60d30";

fn destination(fake: &Fake, more: &str) -> Arc<dyn Destination> {
    let table = format!("url = \"{}/base\"\ntoken = \"{TOKEN}\"\n{more}", fake.url);
    build_kind(&KIND, &table, &context()).unwrap()
}

/// What the settings make, without a server.
fn form(labels: &str) -> Form {
    let labels = labels.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    let (entries, faults) = (Vec::new(), RefCell::default());
    let section = Section::new("d", 1, &entries, &faults);
    let words = ["low", "medium", "high", "critical"];
    Form {
        identity: "Wazuh".to_owned(),
        marking: "marking-definition--f88d31f6-486f-44da-b317-01333bde0b82",
        labels,
        score: 50,
        severities: Severities::read(&section, words, &words).unwrap(),
        template: message::Template::read(&section).unwrap(),
    }
}

fn said(data: Value) -> Vec<u8> {
    answer("200 OK", "", &json!({ "data": data }).to_string())
}

fn failed(code: &str) -> Vec<u8> {
    let error = json!({ "message": "no", "name": code, "extensions": { "code": code } });
    answer("200 OK", "", &json!({ "errors": [error], "data": null }).to_string())
}

fn made(field: &str, id: &str) -> Vec<u8> {
    said(json!({ field: { "id": id, "standard_id": "x" } }))
}

async fn tell(
    acts: impl IntoIterator<Item = Vec<u8>>,
    more: &str,
    member: Member,
) -> (Vec<Seen>, Result<Receipt, DeliveryError>) {
    let fake = Fake::start(acts.into_iter().map(Act::Say)).await;
    let result = match destination(&fake, more).deliver(&shipment([member])).await {
        Ok(Delivered::All(receipt)) => Ok(receipt),
        Ok(Delivered::Each(_)) => panic!("one event has one answer"),
        Err(error) => Err(error),
    };
    (fake.seen(), result)
}

/// The first field of the operation, and the variables.
fn operation(seen: &Seen) -> (String, Value) {
    assert_eq!(seen.line, "POST /base/graphql HTTP/1.1");
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!(seen.header("authorization"), Some(format!("Bearer {TOKEN}").as_str()));
    let body: Value = serde_json::from_slice(&seen.body).unwrap();
    let query = body["query"].as_str().unwrap();
    let name = query.split_once('{').unwrap().1.trim_start();
    let name = name.split(|c: char| !c.is_alphanumeric()).next().unwrap().to_owned();
    (name, body["variables"].clone())
}

fn names(seen: &[Seen]) -> Vec<String> {
    seen.iter().map(|seen| operation(seen).0).collect()
}

fn input(seen: &Seen) -> Value {
    operation(seen).1["input"].clone()
}

#[tokio::test]
async fn every_sample_is_one_incident() {
    let hostile = ("hostile".to_owned(), samples::hostile());
    for (name, member) in samples::all().into_iter().chain([hostile]) {
        let (seen, result) =
            tell([made("incidentAdd", "i1")], "labels = [\"wazuh\"]", member).await;
        let receipt = result.unwrap();
        assert_eq!((receipt.remote_id.as_deref(), receipt.duplicate), (Some("i1"), false));
        assert_eq!(names(&seen), ["incidentAdd"], "{name}");
        let input = input(&seen[0]);
        let title = input["name"].as_str().unwrap();
        assert!((2..=250).contains(&title.chars().count()), "{name}: {title}");
        assert!(input["stix_id"].as_str().unwrap().starts_with("incident--"), "{name}");
        assert_eq!(input["created"], input["first_seen"], "{name}");
        assert_eq!(input["createdBy"], SYSTEM, "{name}");
        assert_eq!(input["objectLabel"], json!(["wazuh"]), "{name}");
        assert!(input.as_object().unwrap().values().all(|value| !value.is_null()), "{name}");
    }
}

#[tokio::test]
async fn every_try_has_the_same_ids_and_a_repeat_finds_what_is_there() {
    let body =
        r#"{"timestamp":"2026-03-10T06:02:17.173+0000","rule":{"level":12,"description":"x"}}"#;
    let made = || made("incidentAdd", "i1");
    let (first, _) = tell([made()], "", alert(7, body)).await;
    let nothing = || said(json!({ "incident": null }));
    for (in_doubt, attempt) in [(true, 1), (false, 2)] {
        let member = || Member { in_doubt, attempt, ..alert(7, body) };
        let (seen, result) = tell([nothing(), made()], "", member()).await;
        assert!(!result.unwrap().duplicate);
        assert_eq!(names(&seen), ["incident", "incidentAdd"]);
        assert_eq!(seen[1].body, first[0].body);
        assert_eq!(operation(&seen[0]).1["id"], input(&first[0])["stix_id"]);

        let known = said(json!({ "incident": { "id": "i1" } }));
        let (seen, result) = tell([known], "", member()).await;
        let receipt = result.unwrap();
        assert_eq!((receipt.remote_id.as_deref(), receipt.duplicate), (Some("i1"), true));
        assert_eq!(names(&seen), ["incident"], "what an analyst changed is left alone");

        let (seen, result) = tell([failed("RESOURCE_NOT_FOUND"), made()], "", member()).await;
        assert_eq!((names(&seen).len(), result.is_ok()), (2, true));
    }
    let input = input(&first[0]);
    assert_eq!(input["created"], "2026-03-10T06:02:17.173Z");
    assert_eq!(input["name"], "Wazuh: x", "OpenCTI takes no name of one character");
    assert_eq!(input["severity"], "high");
}

#[tokio::test]
async fn the_reporting_system_is_added_when_it_is_not_known() {
    let acts =
        [failed("MISSING_REFERENCE_ERROR"), made("identityAdd", "s1"), made("incidentAdd", "i1")];
    let (seen, result) = tell(acts, "identity = \"Wazuh\"", alert(1, "{}")).await;
    assert_eq!(result.unwrap().remote_id.as_deref(), Some("i1"));
    assert_eq!(names(&seen), ["incidentAdd", "identityAdd", "incidentAdd"]);
    assert_eq!(input(&seen[1]), json!({ "type": "System", "name": "Wazuh" }));
    assert_eq!(seen[0].body, seen[2].body);
}

const WITH_INDICATORS: &str = r#"{"timestamp":"2026-03-10T06:02:17.173+0000",
    "rule":{"level":12,"description":"door"},"data":{"srcip":"203.0.113.9","dstip":"10.0.0.1"},
    "syscheck":{"sha256_after":"9F86D081884C7D659A2FEAA0C55AD015A3BF4F1B2B0B822CD15D6C15B0F00A08"}}"#;

#[tokio::test]
async fn each_indicator_is_added_with_its_observable() {
    let acts = [made("indicatorAdd", "a"), made("indicatorAdd", "b")];
    let settings = "create = \"indicator\"\nscore = 80\ntlp = \"amber+strict\"";
    let (seen, result) = tell(acts, settings, alert(1, WITH_INDICATORS)).await;
    assert_eq!(result.unwrap().remote_id.as_deref(), Some("a"));
    let inputs: Vec<Value> = seen.iter().map(input).collect();
    assert_eq!(inputs.len(), 2, "the private address is left out: {inputs:?}");
    assert_eq!(inputs[0]["pattern"], "[ipv4-addr:value = '203.0.113.9']");
    assert_eq!(inputs[0]["x_opencti_main_observable_type"], "IPv4-Addr");
    assert_eq!(inputs[0]["createObservables"], true);
    assert_eq!(inputs[0]["x_opencti_score"], 80);
    assert_eq!(
        inputs[0]["objectMarking"],
        json!(["marking-definition--826578e1-40ad-459f-bc73-ede076f81f37"])
    );
    let pattern = inputs[1]["pattern"].as_str().unwrap();
    assert!(pattern.starts_with("[file:hashes.'SHA-256' = '9f86"), "{pattern}");
}

#[tokio::test]
async fn an_alert_without_indicators_sends_nothing_where_they_are_all_that_counts() {
    for create in ["indicator", "sighting"] {
        let settings = format!("create = \"{create}\"");
        let (seen, result) = tell([failed("UNKNOWN_ERROR")], &settings, alert(1, "{}")).await;
        assert_eq!((seen.len(), result.unwrap()), (0, Receipt::default()));
    }
}

#[tokio::test]
async fn what_opencti_knows_is_said_to_have_been_seen() {
    let node = |id: &str, revoked: bool| json!({ "node": { "id": id, "revoked": revoked } });
    let known = said(json!({
        "indicators": { "edges": [node("a", false), node("old", true)] },
        "stixCyberObservables": { "edges": [
            { "node": { "id": "o", "indicators": { "edges": [node("a", false), node("b", false)] } } },
        ] },
    }));
    let sighting = |id: &str| made("stixSightingRelationshipAdd", id);
    let acts = [known, sighting("s1"), sighting("s2")];
    let (seen, result) = tell(acts, "create = \"sighting\"", alert(1, WITH_INDICATORS)).await;
    assert_eq!(result.unwrap().remote_id.as_deref(), Some("s1"));
    assert_eq!(seen.len(), 3);
    let (_, variables) = operation(&seen[0]);
    let keys = |group: &str| variables[group]["filters"].to_string();
    assert!(keys("patterns").contains("[ipv4-addr:value = '203.0.113.9']"), "{variables}");
    assert!(keys("values").contains("hashes.SHA-256"), "{variables}");
    let input = input(&seen[1]);
    assert_eq!((&input["fromId"], &input["toId"]), (&json!("a"), &json!(SYSTEM)));
    assert_eq!((&input["attribute_count"], &input["first_seen"]), (&json!(1), &input["last_seen"]));

    let none = said(json!({ "indicators": { "edges": [] }, "stixCyberObservables": null }));
    let (seen, result) = tell([none], "create = \"sighting\"", alert(1, WITH_INDICATORS)).await;
    assert_eq!((seen.len(), result.unwrap()), (1, Receipt::default()));
}

const BUNDLE: &str = "create = \"bundle\"\nconnector_id = \"c1\"\nlabels = [\"wazuh\"]";

#[tokio::test]
async fn a_bundle_refers_only_to_what_is_in_it() {
    let pushed = || said(json!({ "stixBundlePush": true }));
    let hostile = ("hostile".to_owned(), samples::hostile());
    let with = ("indicators".to_owned(), alert(1, WITH_INDICATORS));
    for (name, member) in samples::all().into_iter().chain([hostile, with]) {
        let (seen, result) = tell([pushed()], BUNDLE, member).await;
        let (operation, variables) = operation(&seen[0]);
        assert_eq!(
            (operation.as_str(), &variables["connectorId"]),
            ("stixBundlePush", &json!("c1"))
        );
        let bundle: Value = serde_json::from_str(variables["bundle"].as_str().unwrap()).unwrap();
        assert_eq!(bundle["type"], "bundle");
        let objects = bundle["objects"].as_array().unwrap();
        let ids: Vec<_> = objects.iter().map(|object| object["id"].as_str().unwrap()).collect();
        for (object, id) in objects.iter().zip(&ids) {
            let kind = object["type"].as_str().unwrap();
            assert!(id.starts_with(&format!("{kind}--")), "{name}: {id}");
            assert_eq!(object["spec_version"], "2.1", "{name}");
            for field in ["created_by_ref", "source_ref", "target_ref"] {
                let reference = object[field].as_str();
                assert!(reference.is_none_or(|id| ids.contains(&id)), "{name}: {object}");
            }
        }
        assert_eq!(result.unwrap().remote_id.as_deref(), Some(ids[1]), "{name}");
        if name == "indicators" {
            assert_eq!(objects.len(), 6, "{bundle:#}");
        }
    }
}

#[tokio::test]
async fn a_bundle_is_not_delivered_unless_opencti_says_true() {
    let reason =
        async |act: Vec<u8>| tell([act], BUNDLE, alert(1, "{}")).await.1.unwrap_err().reason;
    assert_eq!(reason(said(json!({ "stixBundlePush": false }))).await, Reason::BadAnswer);
    assert_eq!(reason(said(json!({ "stixBundlePush": null }))).await, Reason::BadAnswer);
    assert_eq!(reason(failed("RESOURCE_NOT_FOUND")).await, Reason::Misconfigured);
}
