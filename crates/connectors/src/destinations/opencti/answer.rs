//! What OpenCTI's answers mean. Pure.

use std::collections::BTreeSet;

use holdfast_model::{DeliveryError, Reason};
use serde_json::Value;

use crate::{http::Answer, vendor::Api};

/// How often something that refers to what is not there yet is tried. OpenCTI's own imports may
/// still be under way.
const MISSING_TRIES_MAX: u32 = 5;

/// How often a search that OpenCTI finds too hard, or a part of it that is not set up, is tried.
const HARD_TRIES_MAX: u32 = 3;

/// Most indicators of one alert that are said to have been seen.
const KNOWN_MAX: usize = 50;

/// The `data` of an answer, if there is no error in it.
pub(super) fn judge(api: &Api, answer: &Answer, attempt: u32) -> Result<Value, DeliveryError> {
    if let Some(code) = code(answer) {
        return Err(api.failure(reason(&code, attempt), answer));
    }
    api.verdict(answer)?;
    match api.read(answer)?["data"].take() {
        data @ Value::Object(_) => Ok(data),
        _ => Err(api.failure(Reason::BadAnswer, answer)),
    }
}

/// The code of the first error, whatever the status: with an error GraphQL answers 200, and before
/// version 6 also 400 and 500.
pub(super) fn code(answer: &Answer) -> Option<String> {
    let said: Value = serde_json::from_slice(answer.body().ok()?).ok()?;
    let error = said["errors"].as_array()?.first()?;
    // `name` is what clients older than the codes read.
    let code = error["extensions"]["code"].as_str().or_else(|| error["name"].as_str());
    Some(code.unwrap_or_default().to_owned())
}

/// What it refers to is not there.
pub(super) fn is_missing(code: &str) -> bool {
    matches!(code, "MISSING_REFERENCE_ERROR" | "RESOURCE_NOT_FOUND")
}

fn reason(code: &str, attempt: u32) -> Reason {
    let up_to = |tries_max: u32| {
        if attempt <= tries_max { Reason::ServerFault } else { Reason::Refused }
    };
    match code {
        "AUTH_REQUIRED" | "AUTH_FAILURE" | "OTP_REQUIRED" | "OTP_REQUIRED_ACTIVATION" => {
            Reason::Unauthorized
        }
        // A capability that the token's user lacks is lacking for every event, and asking who we
        // are would not show it.
        "FORBIDDEN_ACCESS" => Reason::Unauthorized,
        // Our documents do not fit this version of OpenCTI: no event is at fault.
        "GRAPHQL_VALIDATION_FAILED" | "GRAPHQL_PARSE_FAILED" => Reason::Misconfigured,
        "FUNCTIONAL_ERROR" | "VALIDATION_ERROR" | "ALREADY_DELETED_ERROR" | "UNSUPPORTED_ERROR" => {
            Reason::Refused
        }
        "BAD_USER_INPUT" | "DRAFT_LOCKED" => Reason::Refused,
        code if is_missing(code) => up_to(MISSING_TRIES_MAX),
        "COMPLEX_SEARCH_ERROR" | "CONFIGURATION_ERROR" => up_to(HARD_TRIES_MAX),
        "LOCK_ERROR" | "DATABASE_ERROR" | "FILESYSTEM_ERROR" | "UNKNOWN_ERROR" => {
            Reason::ServerFault
        }
        "INTERNAL_SERVER_ERROR" => Reason::ServerFault,
        _ => Reason::BadAnswer,
    }
}

/// The ids of the indicators in an answer to `Known`, each once, without revoked ones.
pub(super) fn known_indicators(data: &Value) -> Vec<String> {
    let nodes = |list: &Value| -> Vec<Value> {
        let edges = list["edges"].as_array().into_iter().flatten();
        edges.map(|edge| edge["node"].clone()).collect()
    };
    let of_observables = nodes(&data["stixCyberObservables"]);
    let all = nodes(&data["indicators"])
        .into_iter()
        .chain(of_observables.iter().flat_map(|node| nodes(&node["indicators"])));
    let mut seen = BTreeSet::new();
    all.filter(|node| node["revoked"] != true)
        .filter_map(|node| node["id"].as_str().map(str::to_owned))
        .filter(|id| seen.insert(id.clone()))
        .take(KNOWN_MAX)
        .collect()
}
