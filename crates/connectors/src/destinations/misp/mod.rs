//! MISP 2.4 and 2.5: an event with attributes for each alert.
//!
//! Promises: one event here is one event there, because its `uuid` is made from the key; addresses
//! of private networks are not pushed as indicators.
//!
//! Quirks: a `uuid` that MISP has already is a 404 with a `Location`; without one it is a wrong
//! address. A 403 is both a bad key and an event that is not taken: only the second names `errors`.
//! A 200 can name attributes that were not taken. A 429 names its wait in `X-Rate-Limit-Reset`.
//!
//! Source: MISP/MISP `app/webroot/doc/openapi.yaml`, `EventsController.php::add`,
//! `RestResponseComponent.php`; MISP/PyMISP.

#[cfg(test)]
mod tests;

use std::{error::Error, net::IpAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use holdfast_model::{
    DeliveryError, Destination, Member, Reason, Receipt, Shipment, Timestamp,
    delivery::Delivered,
    settings::{Section, Setting},
};
use reqwest::{
    Method,
    header::{ACCEPT, AUTHORIZATION, HeaderValue, LOCATION, RETRY_AFTER},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Context, Kind};
use crate::{
    http::{Answer, RETRY_AFTER_MAX},
    message::{self, Message, Severities},
    vendor::{self, Api, Auth},
};

pub(super) const KIND: Kind = Kind {
    name: "misp",
    summary: "Adds events with attributes to MISP.",
    example: r#"
url = "https://misp.example"
api_key = "replace-me"
tags = ["tlp:amber"]
"#,
    settings: &[
        &URL,
        &API_KEY,
        &DISTRIBUTION,
        &PUBLISHED,
        &TO_IDS,
        &TAGS,
        &SEVERITY,
        &message::TEMPLATE,
    ],
    batches: false,
    http: true,
    build,
};

const URL: Setting =
    Setting::optional("url", "\"https://misp.example\"", "MISP's address, without /events.");

const API_KEY: Setting = Setting::optional(
    "api_key",
    "{ file = \"/etc/holdfast/secrets/misp\" }",
    "The auth key of a user that may add events, 40 characters. A secret.",
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

const TAGS: Setting =
    Setting::optional("tags", "[\"tlp:amber\"]", "Tags of the event, at most 20.");

const SEVERITY: Setting = Setting::optional(
    "severity",
    "{ low = \"3\", medium = \"2\", high = \"1\", critical = \"1\" }",
    "MISP's threat level for each severity: \"1\" (high), \"2\" (medium), \"3\" (low) or \"4\" (undefined). The default is the example.",
);

const TAGS_MAX: usize = 20;

/// Where an alert holds indicators, and what they are in MISP: pointer, type, category.
const INDICATORS: &[(&str, &str, &str)] = &[
    ("/data/srcip", "ip-src", "Network activity"),
    ("/data/src_ip", "ip-src", "Network activity"),
    ("/data/aws/sourceIPAddress", "ip-src", "Network activity"),
    ("/data/office365/ClientIP", "ip-src", "Network activity"),
    ("/data/dstip", "ip-dst", "Network activity"),
    ("/data/dest_ip", "ip-dst", "Network activity"),
    ("/data/win/eventdata/destinationIp", "ip-dst", "Network activity"),
    ("/data/url", "url", "Network activity"),
    ("/syscheck/sha256_after", "sha256", "Payload delivery"),
    ("/syscheck/sha1_after", "sha1", "Payload delivery"),
    ("/syscheck/md5_after", "md5", "Payload delivery"),
    ("/data/virustotal/source/sha1", "sha1", "Payload delivery"),
    ("/data/virustotal/source/md5", "md5", "Payload delivery"),
];

#[derive(Debug)]
struct Misp {
    api: Api,
    distribution: u32,
    published: bool,
    to_ids: bool,
    tags: Vec<String>,
    severities: Severities,
    template: message::Template,
}

fn build(section: &Section<'_>, context: &Context) -> Option<Arc<dyn Destination>> {
    let address = vendor::address(section, &URL);
    let api_key = vendor::secret(section, &API_KEY);
    let distribution = section.count(&DISTRIBUTION, 0..=3);
    let published = section.bool(&PUBLISHED);
    let to_ids = section.bool(&TO_IDS);
    let given = section.texts(&TAGS);
    let severities = Severities::read(section, ["3", "2", "1", "1"], &["1", "2", "3", "4"]);
    let template = message::Template::read(section);
    let tags = match given {
        None if section.has(TAGS.name) => return None,
        tags => tags.unwrap_or_default(),
    };
    if tags.len() > TAGS_MAX || tags.iter().any(|tag| tag.trim().is_empty()) {
        section.fault(TAGS.name, format!("at most {TAGS_MAX} tags that are not empty"));
        return None;
    }
    let auth = Auth::Header { name: AUTHORIZATION, prefix: "", secret: api_key? };
    Some(Arc::new(Misp {
        api: Api::new(section, context, address?, auth)?,
        distribution,
        published,
        to_ids,
        tags,
        severities: severities?,
        template: template?,
    }))
}

#[async_trait]
impl Destination for Misp {
    async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError> {
        let member = shipment.only()?;
        let body = self.event(member).to_string().into_bytes();
        // Without it MISP may answer in HTML.
        let accept = [(ACCEPT, HeaderValue::from_static("application/json"))];
        let url = self.api.at("events/add")?;
        let answer = self.api.send(Method::POST, url, "application/json", body, &accept).await?;
        self.judge(&answer).map(Delivered::All)
    }

    async fn check(&self) -> Option<Result<(), DeliveryError>> {
        Some(self.version().await)
    }

    fn refresh_secrets(&self) -> Result<bool, Box<dyn Error + Send + Sync>> {
        self.api.refresh()
    }

    fn take_template_errors(&self) -> u64 {
        self.template.take_errors()
    }
}

// === impl Misp ===

impl Misp {
    fn event(&self, member: &Member) -> Value {
        let message = Message::of(member);
        let text = self.template.render(&message).unwrap_or_else(|| message.plain());
        let at = Timestamp::parse(&message.at).unwrap_or(member.event.received_at).to_string();
        let mut attributes = vec![json!({
            "uuid": uuid(&[&message.key, "text"]),
            "type": "text",
            "category": "Other",
            "value": text,
            "to_ids": false,
            "comment": format!("Key {}", message.key),
        })];
        for (kind, category, value) in indicators(&message.alert) {
            attributes.push(json!({
                "uuid": uuid(&[&message.key, kind, &value]),
                "type": kind,
                "category": category,
                "value": value,
                "to_ids": self.to_ids,
            }));
        }
        let tags: Vec<_> = self.tags.iter().map(|tag| json!({ "name": tag })).collect();
        json!({ "Event": {
            "uuid": uuid(&[&message.key]),
            "info": message.title,
            "date": at.get(..10),
            "distribution": self.distribution.to_string(),
            "threat_level_id": self.severities.word(message.severity),
            "analysis": "0",
            "published": self.published,
            "Attribute": attributes,
            "Tag": tags,
        } })
    }

    fn judge(&self, answer: &Answer) -> Result<Receipt, DeliveryError> {
        let status = Some(answer.status.as_u16());
        let Err(mut error) = self.api.verdict(answer) else {
            let said = self.api.read(answer)?;
            let Some(id) = said["Event"]["id"].as_str() else {
                return Err(self.api.failure(Reason::BadAnswer, answer));
            };
            if said["errors"]["Attribute"].is_object() {
                tracing::warn!(id, answer = %said["errors"], "MISP did not take every attribute");
            }
            return Ok(Receipt { status, remote_id: Some(id.to_owned()), duplicate: false });
        };
        match answer.status.as_u16() {
            404 => {
                if let Some(id) = existing(answer) {
                    return Ok(Receipt { status, remote_id: Some(id), duplicate: true });
                }
            }
            403 => {
                let said = self.api.read(answer).unwrap_or_default();
                let of_the_event = said["saved"] == false || !said["errors"].is_null();
                error.reason = if of_the_event { Reason::Refused } else { Reason::Unauthorized };
            }
            405 => error.reason = Reason::Misconfigured,
            429 if !answer.headers.contains_key(RETRY_AFTER) => error.retry_after = reset(answer),
            _ => {}
        }
        Err(error)
    }

    async fn version(&self) -> Result<(), DeliveryError> {
        let answer = self.api.get(self.api.at("servers/getVersion.json")?).await?;
        self.api.verdict(&answer).map_err(|mut error| {
            if error.reason == Reason::Forbidden {
                error.reason = Reason::Unauthorized;
            }
            error
        })
    }
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

/// What others can look for; the same value is named once.
fn indicators(alert: &Value) -> Vec<(&'static str, &'static str, String)> {
    let mut found: Vec<(&str, &str, String)> = Vec::new();
    for (pointer, kind, category) in INDICATORS {
        let Some(value) = alert.pointer(pointer).and_then(Value::as_str).map(str::trim) else {
            continue;
        };
        let fits = match *kind {
            "ip-src" | "ip-dst" => value.parse().is_ok_and(is_public),
            "url" => value.parse::<reqwest::Url>().is_ok_and(|url| url.has_host()),
            "sha256" => is_hash(value, 64),
            "sha1" => is_hash(value, 40),
            _ => is_hash(value, 32),
        };
        let known = found.iter().any(|(other, _, text)| other == kind && text == value);
        if fits && !known {
            found.push((kind, category, value.to_owned()));
        }
    }
    found
}

fn is_hash(text: &str, chars: usize) -> bool {
    text.len() == chars && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Not the house's own: nobody else could look for those.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let own = v4.is_private() || v4.is_loopback() || v4.is_link_local();
            !(own || v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast())
        }
        IpAddr::V6(v6) => {
            let own = v6.is_unique_local() || v6.is_loopback() || v6.is_unicast_link_local();
            !(own || v6.is_unspecified() || v6.is_multicast())
        }
    }
}

/// A name's UUID in the form of version 5, the same on every try.
fn uuid(names: &[&str]) -> String {
    let mut hash = Sha256::new();
    for name in names {
        hash.update(name.as_bytes());
        hash.update(b"\n");
    }
    let mut bytes: Vec<u8> = hash.finalize().iter().take(16).copied().collect();
    bytes[6] = bytes[6] & 0x0f | 0x50;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
