//! Documents and variables against a schema, by a validator that is not ours.

use std::path::Path;

use apollo_compiler::{ExecutableDocument, Schema, request, response::JsonMap, validation::Valid};
use serde_json::Value;

use super::super::documents::{self, Call};
use crate::{destinations::opencti::form::Form, message::samples};

/// Every call that can be made for these alerts.
fn calls(form: &Form) -> Vec<(String, Call)> {
    let mut calls = vec![
        ("me".to_owned(), documents::me()),
        ("incident".to_owned(), documents::incident("incident--1")),
        ("identity".to_owned(), documents::identity("Wazuh")),
    ];
    let hostile = ("hostile".to_owned(), samples::hostile());
    for (name, member) in samples::all().into_iter().chain([hostile]) {
        let report = form.report(&member);
        let mut add = |call| calls.push((name.clone(), call));
        add(form.incident(&report));
        add(form.bundle(&report, "f005a115-1139-491a-a1e6-7f93971648f3"));
        add(form.sighting(&report, "indicator--1"));
        if !report.indicators.is_empty() {
            add(documents::known(&report.indicators));
        }
        for indicator in &report.indicators {
            add(form.indicator(&report, indicator));
        }
    }
    calls
}

fn check(schema: &Valid<Schema>, call: &Call) -> Result<(), String> {
    let document = ExecutableDocument::parse_and_validate(schema, call.document, "document")
        .map_err(|error| error.to_string())?;
    let operation = document.operations.get(None).map_err(|error| format!("{error:?}"))?;
    let variables: JsonMap = serde_json::from_value(call.variables.clone()).unwrap();
    let coerced = request::coerce_variable_values(schema, operation, &variables);
    coerced.map(drop).map_err(|error| format!("{error:?}"))
}

fn check_all(schema: &Valid<Schema>) -> usize {
    let form = super::form("labels = [\"wazuh\", \"soc\"]");
    let calls = calls(&form);
    for (name, call) in &calls {
        if let Err(problem) = check(schema, call) {
            panic!("{name}: {problem}\n{}\n{:#}", call.document, call.variables);
        }
    }
    calls.len()
}

#[test]
fn every_document_and_its_variables_fit_what_is_recorded_of_the_schema() {
    let schema = Schema::parse_and_validate(include_str!("expected.graphql"), "expected.graphql");
    let checked = check_all(&schema.unwrap());
    assert!(checked > 100, "{checked}");
}

#[test]
fn the_validator_refuses_what_does_not_fit() {
    let schema = Schema::parse_and_validate(include_str!("expected.graphql"), "expected.graphql");
    let schema = schema.unwrap();
    let input = |more: &str, value: Value| {
        let mut input = serde_json::json!({ "name": "n", "pattern": "p", "pattern_type": "stix" });
        input[more] = value;
        check(&schema, &documents::indicator_add(input))
    };
    assert_eq!(input("x_opencti_score", 7.into()), Ok(()));
    assert!(input("x_opencti_score", "7".into()).is_err(), "a text is no number");
    assert!(input("update_all", true.into()).is_err(), "there is no such field");
    assert!(input("pattern", Value::Null).is_err(), "it is required");
}

/// The vendor's own, where somebody has it: `HOLDFAST_VENDOR_SPECS` names the folder.
#[test]
fn every_document_and_its_variables_fit_the_vendors_schema() {
    let Some(folder) = std::env::var_os("HOLDFAST_VENDOR_SPECS") else {
        println!(
            "opencti: checked against what is recorded only; HOLDFAST_VENDOR_SPECS is not set"
        );
        return;
    };
    let path = Path::new(&folder).join("opencti-relay.schema.graphql");
    let text = std::fs::read_to_string(&path).unwrap();
    let schema = Schema::parse(text, "opencti-relay.schema.graphql").unwrap();
    // Whether the vendor's schema is sound is the vendor's business.
    let checked = check_all(&Valid::assume_valid(schema));
    println!("opencti: {checked} documents with variables fit the vendor's schema");
}
