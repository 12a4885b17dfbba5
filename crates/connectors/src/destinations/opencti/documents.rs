//! What is asked of OpenCTI, as GraphQL. Pure.
//!
//! The tests check every document and its variables against a schema.

use serde_json::{Value, json};

use super::stix;
use crate::indicators::Indicator;

/// A document and its variables.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) document: &'static str,
    pub(super) variables: Value,
}

const ME: &str = "query Me { me { id name } }";

const INCIDENT: &str = "query Incident($id: String!) { incident(id: $id) { id } }";

const IDENTITY_ADD: &str = "mutation IdentityAdd($input: IdentityAddInput!) { identityAdd(input: $input) { id standard_id } }";

const INCIDENT_ADD: &str = "mutation IncidentAdd($input: IncidentAddInput!) { incidentAdd(input: $input) { id standard_id } }";

const INDICATOR_ADD: &str = "mutation IndicatorAdd($input: IndicatorAddInput!) { indicatorAdd(input: $input) { id standard_id } }";

const SIGHTING_ADD: &str = "mutation SightingAdd($input: StixSightingRelationshipAddInput!) { stixSightingRelationshipAdd(input: $input) { id standard_id } }";

const BUNDLE_PUSH: &str = "mutation BundlePush($connectorId: String!, $bundle: String!) { stixBundlePush(connectorId: $connectorId, bundle: $bundle) }";

/// By the exact pattern, and by what an indicator is based on: not everybody writes patterns alike.
const KNOWN: &str = "query Known($patterns: FilterGroup, $values: FilterGroup) { \
     indicators(filters: $patterns, first: 50) { edges { node { id revoked } } } \
     stixCyberObservables(filters: $values, first: 50) { edges { node { id \
     indicators(first: 10) { edges { node { id revoked } } } } } } }";

pub(super) fn me() -> Call {
    Call { document: ME, variables: json!({}) }
}

pub(super) fn incident(id: &str) -> Call {
    Call { document: INCIDENT, variables: json!({ "id": id }) }
}

pub(super) fn identity(name: &str) -> Call {
    let input = json!({ "type": "System", "name": name });
    Call { document: IDENTITY_ADD, variables: json!({ "input": input }) }
}

pub(super) fn incident_add(input: Value) -> Call {
    Call { document: INCIDENT_ADD, variables: json!({ "input": input }) }
}

pub(super) fn indicator_add(input: Value) -> Call {
    Call { document: INDICATOR_ADD, variables: json!({ "input": input }) }
}

pub(super) fn sighting_add(input: Value) -> Call {
    Call { document: SIGHTING_ADD, variables: json!({ "input": input }) }
}

pub(super) fn bundle_push(connector_id: &str, bundle: &Value) -> Call {
    let variables = json!({ "connectorId": connector_id, "bundle": bundle.to_string() });
    Call { document: BUNDLE_PUSH, variables }
}

pub(super) fn known(indicators: &[Indicator]) -> Call {
    let patterns: Vec<_> = indicators.iter().map(stix::pattern).collect();
    let mut values: Vec<Value> = Vec::new();
    for indicator in indicators {
        let key = stix::filter_key(indicator.class);
        let same = values.iter_mut().find(|filter| filter["key"][0] == key);
        match same.and_then(|filter| filter["values"].as_array_mut()) {
            Some(values) => values.push(indicator.value.clone().into()),
            None => values.push(filter(key, json!([indicator.value]))),
        }
    }
    let any = |filters: Vec<Value>| json!({ "mode": "or", "filters": filters, "filterGroups": [] });
    let patterns = any(vec![filter("pattern", patterns.into())]);
    Call { document: KNOWN, variables: json!({ "patterns": patterns, "values": any(values) }) }
}

fn filter(key: &str, values: Value) -> Value {
    json!({ "key": [key], "values": values, "operator": "eq", "mode": "or" })
}

// === impl Call ===

impl Call {
    pub(super) fn body(&self) -> Value {
        json!({ "query": self.document, "variables": self.variables })
    }
}
