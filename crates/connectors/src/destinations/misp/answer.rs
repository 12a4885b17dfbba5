//! What MISP's answers mean. Pure.

use std::{collections::HashSet, time::Duration};

use holdfast_model::{DeliveryError, Reason, Receipt};
use reqwest::header::{LOCATION, RETRY_AFTER};
use serde_json::Value;

use crate::{
    http::{Answer, RETRY_AFTER_MAX},
    vendor::Api,
};

/// How often a sighting is tried that MISP could not add for a reason we do not know.
const STRANGE_TRIES_MAX: u32 = 5;

/// To `events/add`.
pub(super) fn event(api: &Api, answer: &Answer) -> Result<Receipt, DeliveryError> {
    let status = Some(answer.status.as_u16());
    if let Err(error) = verdict(api, answer) {
        return match existing(answer).filter(|_| answer.status.as_u16() == 404) {
            Some(id) => {
                Ok(Receipt { status, remote_id: Some(id), duplicate: true, ..Receipt::default() })
            }
            None => Err(error),
        };
    }
    let said = api.read(answer)?;
    let Some(id) = text_or_number(&said["Event"]["id"]) else {
        return Err(api.failure(Reason::BadAnswer, answer));
    };
    if said["errors"]["Attribute"].is_object() {
        tracing::warn!(id, answer = %said["errors"], "MISP did not take every attribute");
    }
    Ok(Receipt { status, remote_id: Some(id), duplicate: false, ..Receipt::default() })
}

/// To `sightings/add`. That MISP has nothing that was seen is an answer like another: the receipt
/// has no id then.
pub(super) fn sighting(api: &Api, answer: &Answer, attempt: u32) -> Result<Receipt, DeliveryError> {
    verdict(api, answer)?;
    let status = Some(answer.status.as_u16());
    let said = api.read(answer)?;
    // Older versions answer without the name around it.
    let id = text_or_number(&said["Sighting"]["id"]).or_else(|| text_or_number(&said["id"]));
    if id.is_some() {
        return Ok(Receipt { status, remote_id: id, duplicate: false, ..Receipt::default() });
    }
    let message = said["message"].as_str().unwrap_or_default();
    if message.contains("No valid attributes found") {
        tracing::info!("MISP has none of the alert's indicators: no sighting");
        return Ok(Receipt { status, remote_id: None, duplicate: false, ..Receipt::default() });
    }
    let failed = message.starts_with("Could not add the Sighting");
    let reason =
        if failed && attempt > STRANGE_TRIES_MAX { Reason::Refused } else { Reason::BadAnswer };
    Err(api.failure(reason, answer))
}

/// To `sightings/restSearch`: a sighting with this source.
pub(super) fn found(
    api: &Api,
    answer: &Answer,
    source: &Value,
) -> Result<Option<Receipt>, DeliveryError> {
    verdict(api, answer)?;
    let said = api.read(answer)?;
    let Some(list) = said["response"].as_array().or_else(|| said.as_array()) else {
        return Err(api.failure(Reason::BadAnswer, answer));
    };
    let ours = list.iter().map(|one| &one["Sighting"]).find(|one| one["source"] == *source);
    Ok(ours.map(|one| Receipt {
        status: Some(answer.status.as_u16()),
        remote_id: text_or_number(&one["id"]),
        duplicate: true,
        ..Receipt::default()
    }))
}

/// To `warninglists/checkValue`: the values that are on a list.
pub(super) fn warned(api: &Api, answer: &Answer) -> Result<HashSet<String>, DeliveryError> {
    verdict(api, answer)?;
    match api.read(answer)? {
        // PHP's empty map.
        Value::Array(none) if none.is_empty() => Ok(HashSet::new()),
        Value::Object(hits) => Ok(hits.into_iter().map(|(value, _)| value).collect()),
        _ => Err(api.failure(Reason::BadAnswer, answer)),
    }
}

/// What the status says, with MISP's own readings of 403, 405 and 429.
pub(super) fn verdict(api: &Api, answer: &Answer) -> Result<(), DeliveryError> {
    api.verdict(answer).map_err(|mut error| {
        match answer.status.as_u16() {
            403 => {
                let said = api.read(answer).unwrap_or_default();
                let of_the_event = said["saved"] == false || !said["errors"].is_null();
                error.reason = if of_the_event { Reason::Refused } else { Reason::Unauthorized };
            }
            405 => error.reason = Reason::Misconfigured,
            429 if !answer.headers.contains_key(RETRY_AFTER) => error.retry_after = reset(answer),
            _ => {}
        }
        error
    })
}

/// The id of the event that has our `uuid` already.
fn existing(answer: &Answer) -> Option<String> {
    let location = answer.headers.get(LOCATION)?.to_str().ok()?;
    let id = location.trim_end_matches('/').rsplit('/').next()?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (location.contains("/events/") && !id.is_empty() && id.bytes().all(fits)).then(|| id.to_owned())
}

/// Seconds left of the window.
fn reset(answer: &Answer) -> Option<Duration> {
    let seconds = answer.headers.get("x-rate-limit-reset")?.to_str().ok()?.trim();
    Some(Duration::from_secs(seconds.parse().ok()?).min(RETRY_AFTER_MAX))
}

/// MISP's ids are texts; some versions write numbers.
fn text_or_number(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
