//! The few fields of an alert that filters and the poison rule look at.
//!
//! Reading is lenient: whatever is missing, or has an unexpected type, is simply absent. An alert
//! is never refused for its shape here (`reference`: Wazuh 4.14 `to_json.c` writes `rule.id` as a
//! string and `rule.level` as a number; Wazuh 5 writes words).

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

/// What filters look at. Texts are owned because they outlive the body's chunk in some lanes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facets {
    /// `rule.level`, Wazuh 4's number 0 to 16. Wazuh 5's words are mapped to the band's lower end.
    pub level: Option<u16>,
    pub rule_id: Option<Box<str>>,
    pub groups: Vec<Box<str>>,
    pub agent_id: Option<Box<str>>,
    pub agent_name: Option<Box<str>>,
    pub location: Option<Box<str>>,
}

#[derive(Deserialize)]
struct View<'a> {
    #[serde(borrow, default)]
    rule: RuleView<'a>,
    #[serde(borrow, default)]
    agent: AgentView<'a>,
    #[serde(borrow, default)]
    location: Option<Cow<'a, str>>,
}

#[derive(Default, Deserialize)]
struct RuleView<'a> {
    #[serde(default)]
    level: Option<u16>,
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    groups: Vec<Cow<'a, str>>,
}

#[derive(Default, Deserialize)]
struct AgentView<'a> {
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
}

impl Facets {
    /// Reads the facets of a body. Never fails; see the module header.
    pub fn read(body: &[u8]) -> Self {
        // Nearly every alert has the usual types, and then nothing is built but the facets.
        match serde_json::from_slice::<View<'_>>(body) {
            Ok(view) => Self {
                level: view.rule.level,
                rule_id: view.rule.id.map(boxed),
                groups: view.rule.groups.into_iter().map(boxed).collect(),
                agent_id: view.agent.id.map(boxed),
                agent_name: view.agent.name.map(boxed),
                location: view.location.map(boxed),
            },
            Err(_) => Self::read_unusual(&String::from_utf8_lossy(body)),
        }
    }

    fn read_unusual(body: &str) -> Self {
        let Ok(alert) = serde_json::from_str::<Value>(body) else { return Self::default() };
        let text = |pointer: &str| match alert.pointer(pointer) {
            Some(Value::String(text)) => Some(text.as_str().into()),
            Some(Value::Number(number)) => Some(number.to_string().into_boxed_str()),
            _ => None,
        };
        let groups = match alert.pointer("/rule/groups") {
            Some(Value::Array(items)) => {
                items.iter().filter_map(Value::as_str).map(Into::into).collect()
            }
            Some(Value::String(one)) => vec![one.as_str().into()],
            _ => Vec::new(),
        };
        Self {
            level: alert.pointer("/rule/level").and_then(level),
            rule_id: text("/rule/id"),
            groups,
            agent_id: text("/agent/id"),
            agent_name: text("/agent/name"),
            location: text("/location"),
        }
    }
}

fn boxed(text: Cow<'_, str>) -> Box<str> {
    text.into_owned().into_boxed_str()
}

fn level(value: &Value) -> Option<u16> {
    match value {
        Value::Number(number) => number.as_u64().and_then(|n| u16::try_from(n).ok()),
        Value::String(word) => match word.as_str() {
            "low" => Some(0),
            "medium" => Some(7),
            "high" => Some(10),
            "critical" => Some(13),
            digits => digits.parse().ok(),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usual_alert_gives_all_its_facets() {
        let facets = Facets::read(
            br#"{"rule":{"level":10,"id":"5763","groups":["sshd","authentication_failures"]},
                "agent":{"id":"001","name":"web-01"},"location":"/var/log/auth.log","extra":[1]}"#,
        );
        assert_eq!(facets.level, Some(10));
        assert_eq!(facets.rule_id.as_deref(), Some("5763"));
        assert_eq!(facets.groups.len(), 2);
        assert_eq!(facets.agent_name.as_deref(), Some("web-01"));
        assert_eq!(facets.location.as_deref(), Some("/var/log/auth.log"));
    }

    #[test]
    fn an_unusual_shape_gives_what_it_has() {
        let facets = Facets::read(br#"{"rule":{"level":"high","id":7,"groups":"x"},"agent":null}"#);
        assert_eq!(facets.level, Some(10));
        assert_eq!(facets.rule_id.as_deref(), Some("7"));
        assert_eq!(facets.groups, vec![Box::from("x")]);
        assert_eq!(facets.agent_id, None);
    }

    #[test]
    fn invalid_utf8_does_not_hide_the_level() {
        let facets = Facets::read(b"{\"rule\":{\"level\":12},\"location\":\"\xff\xfe\"}");
        assert_eq!(facets.level, Some(12));
        assert_eq!(facets.location.as_deref(), Some("\u{fffd}\u{fffd}"));
    }

    #[test]
    fn no_json_gives_no_facets() {
        assert_eq!(Facets::read(b"\0\0\0"), Facets::default());
    }
}
