//! What MISP is sent. Pure.

use holdfast_model::{Member, Timestamp};
use serde_json::{Value, json};

use crate::{
    indicators::{Class, Indicator},
    message::{self, Message, Severities, clip},
    uuid5,
};

/// `Sighting.source` is a column of 255 characters.
const SOURCE_CHARS_MAX: usize = 255;

/// How far around its time a sighting is looked for. It is the same sighting only with our source.
const SEARCH_SECONDS: u64 = 24 * 3600;

/// What is the same for every alert.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) distribution: u32,
    pub(super) published: bool,
    pub(super) to_ids: bool,
    pub(super) source: String,
    pub(super) tags: Vec<String>,
    pub(super) severities: Severities,
    pub(super) template: message::Template,
}

// === impl Form ===

impl Form {
    pub(super) fn event(&self, member: &Member, message: &Message, found: &[Indicator]) -> Value {
        let text = self.template.render(message).unwrap_or_else(|| message.plain());
        let at = time(member, message).to_string();
        let mut attributes = vec![json!({
            "uuid": uuid(&[&message.key, "text"]),
            "type": "text",
            "category": "Other",
            "value": text,
            "to_ids": false,
            "distribution": "5",
            "comment": format!("Key {}", message.key),
        })];
        for indicator in found {
            let (kind, category) = attribute_type(indicator);
            attributes.push(json!({
                "uuid": uuid(&[&message.key, kind, &indicator.value]),
                "type": kind,
                "category": category,
                "value": indicator.value,
                "to_ids": self.to_ids,
                "distribution": "5",
                "first_seen": at,
                "comment": message.title,
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

    /// MISP takes no id for a sighting, so its source has the key.
    pub(super) fn sighting(
        &self,
        member: &Member,
        message: &Message,
        found: &[Indicator],
    ) -> Value {
        let source = format!("{} {}", self.source, message.key);
        let values: Vec<_> = found.iter().map(|indicator| indicator.value.as_str()).collect();
        json!({
            "values": values,
            "type": "0",
            "source": clip(&source, SOURCE_CHARS_MAX),
            "timestamp": seconds(time(member, message)),
        })
    }
}

/// By what a sighting is found again.
pub(super) fn search(sighting: &Value) -> Value {
    let at = sighting["timestamp"].as_u64().unwrap_or_default();
    json!({
        "returnFormat": "json",
        "type": "0",
        "source": sighting["source"],
        "from": at.saturating_sub(SEARCH_SECONDS),
        "to": at + SEARCH_SECONDS,
    })
}

fn time(member: &Member, message: &Message) -> Timestamp {
    Timestamp::parse(&message.at).unwrap_or(member.event.received_at)
}

fn seconds(at: Timestamp) -> u64 {
    at.0 / 1000
}

/// What an indicator is in MISP: type and category.
fn attribute_type(indicator: &Indicator) -> (&'static str, &'static str) {
    let is_source = indicator.is_source;
    match indicator.class {
        Class::Ipv4 | Class::Ipv6 if is_source => ("ip-src", "Network activity"),
        Class::Ipv4 | Class::Ipv6 => ("ip-dst", "Network activity"),
        Class::Domain if indicator.value.matches('.').count() == 1 => {
            ("domain", "Network activity")
        }
        Class::Domain => ("hostname", "Network activity"),
        Class::Url => ("url", "Network activity"),
        Class::Sha256 => ("sha256", "Payload delivery"),
        Class::Sha1 => ("sha1", "Payload delivery"),
        Class::Md5 => ("md5", "Payload delivery"),
    }
}

fn uuid(names: &[&str]) -> String {
    uuid5::of(names).to_string()
}
