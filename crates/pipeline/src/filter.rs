//! `when`: which events a lane takes. Pure.
//!
//! All given conditions must hold; within a list any. An event without the field that a condition
//! looks at does not pass it, and passes its `not_` twin.

use std::ops::RangeInclusive;

use holdfast_model::{
    Event, Kind,
    settings::{Section, Setting},
};

use crate::osmatch::OsMatch;

const KIND: Setting = Setting::new(
    "kind",
    "\"alert\"",
    "Kinds of events that pass: alert, lookup, callback, canary, operator.",
);
const LEVEL: Setting = Setting::optional("level", "10", "Least `rule.level` that passes, 0 to 16.");
const LEVEL_MAX: Setting =
    Setting::optional("level_max", "12", "Highest `rule.level` that passes, 0 to 16.");
const RULE_IDS: Setting =
    Setting::optional("rule_ids", "[\"5710\", \"100000-109999\"]", "Rule ids and ranges of them.");
const NOT_RULE_IDS: Setting =
    Setting::optional("not_rule_ids", "[5710]", "Rule ids that do not pass.");
const GROUPS: Setting =
    Setting::optional("groups", "[\"authentication_failed\"]", "Exact names out of `rule.groups`.");
const NOT_GROUPS: Setting =
    Setting::optional("not_groups", "[\"sca\"]", "Groups whose alerts do not pass.");
const AGENTS: Setting = Setting::optional(
    "agents",
    "[\"001\", \"web-*\"]",
    "Agent ids, or names in which `*` stands for anything.",
);
const NOT_AGENTS: Setting =
    Setting::optional("not_agents", "[\"lab-*\"]", "Agents whose alerts do not pass.");
const LOCATION: Setting = Setting::optional(
    "location",
    "\"^/var/log|syscheck\"",
    "A pattern for `location` in Wazuh's OSMatch syntax: `^`, `$`, `|`, a leading `!`.",
);
const NOT_LOCATION: Setting =
    Setting::optional("not_location", "\"osquery\"", "Locations that do not pass.");

/// The keys of `when`.
pub const SETTINGS: &[&Setting] = &[
    &KIND,
    &LEVEL,
    &LEVEL_MAX,
    &RULE_IDS,
    &NOT_RULE_IDS,
    &GROUPS,
    &NOT_GROUPS,
    &AGENTS,
    &NOT_AGENTS,
    &LOCATION,
    &NOT_LOCATION,
];

/// A compiled `when`.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    kinds: Vec<Kind>,
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, PartialEq)]
enum Condition {
    Level(RangeInclusive<u16>),
    RuleIds { ranges: Vec<RangeInclusive<u64>>, pass: bool },
    Groups { names: Vec<String>, pass: bool },
    Agents { patterns: Vec<String>, pass: bool },
    Location { pattern: OsMatch, pass: bool },
}

impl Default for Filter {
    fn default() -> Self {
        Self { kinds: vec![Kind::Alert], conditions: Vec::new() }
    }
}

impl Filter {
    /// Whether the event goes to the lane.
    pub fn passes(&self, event: &Event) -> bool {
        self.kinds.contains(&event.kind)
            && self.conditions.iter().all(|condition| condition.holds(event))
    }

    /// Reads `when` and reports its faults.
    pub fn read(section: &Section<'_>) -> Self {
        let kinds = section.texts(&KIND).unwrap_or_else(|| vec!["alert".into()]);
        let known = |word: &String| {
            let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == word);
            if kind.is_none() {
                let all = Kind::ALL.map(Kind::as_str).join(", ");
                section.fault(KIND.name, format!("\"{word}\" is not one of {all}"));
            }
            kind
        };
        let kinds = kinds.iter().filter_map(known).collect();
        let mut conditions = Vec::new();
        let level = section.integer(&LEVEL, 0..=16);
        let level_max = section.integer(&LEVEL_MAX, 0..=16);
        if level.is_some() || level_max.is_some() {
            let (least, most) = (level.unwrap_or(0), level_max.unwrap_or(i64::from(u16::MAX)));
            if least > most {
                section.fault(LEVEL.name, "it is above `level_max`, so nothing would pass");
            }
            conditions.push(Condition::Level(least as u16..=most as u16));
        }
        for (setting, pass) in [(&RULE_IDS, true), (&NOT_RULE_IDS, false)] {
            if let Some(texts) = section.texts(setting) {
                let range = |text: &String| read_range(section, setting, text);
                let ranges = texts.iter().filter_map(range).collect();
                conditions.push(Condition::RuleIds { ranges, pass });
            }
        }
        for (setting, pass) in [(&GROUPS, true), (&NOT_GROUPS, false)] {
            if let Some(names) = section.texts(setting) {
                conditions.push(Condition::Groups { names, pass });
            }
        }
        for (setting, pass) in [(&AGENTS, true), (&NOT_AGENTS, false)] {
            if let Some(patterns) = section.texts(setting) {
                conditions.push(Condition::Agents { patterns, pass });
            }
        }
        for (setting, pass) in [(&LOCATION, true), (&NOT_LOCATION, false)] {
            if let Some(pattern) = section.text(setting) {
                let pattern = OsMatch::new(pattern);
                conditions.push(Condition::Location { pattern, pass });
            }
        }
        section.finish();
        Self { kinds, conditions }
    }
}

fn read_range(section: &Section<'_>, setting: &Setting, text: &str) -> Option<RangeInclusive<u64>> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    match (from.trim().parse(), to.trim().parse()) {
        (Ok(from), Ok(to)) if from <= to => Some(from..=to),
        _ => {
            section.fault(
                setting.name,
                format!("\"{text}\" is not a rule id or a range like 100-199"),
            );
            None
        }
    }
}

impl Condition {
    fn holds(&self, event: &Event) -> bool {
        let facets = event.facets();
        match self {
            Self::Level(range) => facets.level.is_some_and(|level| range.contains(&level)),
            Self::RuleIds { ranges, pass } => {
                let id: Option<u64> = facets.rule_id.as_deref().and_then(|id| id.parse().ok());
                let hit = id.is_some_and(|id| ranges.iter().any(|range| range.contains(&id)));
                hit == *pass
            }
            Self::Groups { names, pass } => {
                let hit = |name: &String| facets.groups.iter().any(|group| **group == **name);
                names.iter().any(hit) == *pass
            }
            Self::Agents { patterns, pass } => {
                let is = |text: &Option<Box<str>>, pattern: &str| {
                    text.as_deref().is_some_and(|text| glob(pattern.as_bytes(), text.as_bytes()))
                };
                let hit = |pattern: &String| {
                    is(&facets.agent_id, pattern) || is(&facets.agent_name, pattern)
                };
                patterns.iter().any(hit) == *pass
            }
            Self::Location { pattern, pass } => {
                let hit = facets.location.as_deref().is_some_and(|text| pattern.matches(text));
                hit == *pass
            }
        }
    }
}

/// `*` stands for anything; all else for itself. Linear in the text for each star.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let mut parts = pattern.split(|b| *b == b'*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&[u8]> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        if part.is_empty() {
            continue;
        }
        match rest.windows(part.len()).position(|window| window == part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use holdfast_model::{
        NewEvent, Timestamp,
        settings::{Node, Value},
    };

    use super::*;

    fn filter(entries: &[(&str, Value)]) -> Filter {
        let entries: Vec<_> = entries
            .iter()
            .map(|(key, value)| ((*key).to_owned(), Node { line: 1, value: value.clone() }))
            .collect();
        let faults = RefCell::default();
        let filter = Filter::read(&Section::new("when", 1, &entries, &faults));
        assert_eq!(*faults.borrow(), []);
        filter
    }

    fn texts(items: &[&str]) -> Value {
        Value::List(
            items.iter().map(|text| Node { line: 1, value: Value::Text((*text).into()) }).collect(),
        )
    }

    fn event(body: &str) -> Event {
        Event::new(1, NewEvent::alert(body.to_owned()), "wazuh".into(), Timestamp(0))
    }

    const SSHD: &str = r#"{"rule":{"level":10,"id":"5763","groups":["sshd","authentication_failures"]},
        "agent":{"id":"001","name":"web-01"},"location":"/var/log/auth.log"}"#;

    #[test]
    fn each_condition_and_its_twin() {
        #[rustfmt::skip]
        let table: &[(&str, Value, bool)] = &[
            ("level",        Value::Integer(10),                true),
            ("level",        Value::Integer(11),                false),
            ("level_max",    Value::Integer(9),                 false),
            ("rule_ids",     texts(&["1-9", "5700-5799"]),      true),
            ("rule_ids",     texts(&["5764"]),                  false),
            ("not_rule_ids", texts(&["5763"]),                  false),
            ("not_rule_ids", texts(&["1"]),                     true),
            ("groups",       texts(&["sshd", "x"]),             true),
            ("groups",       texts(&["ssh"]),                   false),
            ("not_groups",   texts(&["sshd"]),                  false),
            ("agents",       texts(&["001"]),                   true),
            ("agents",       texts(&["web-*"]),                 true),
            ("agents",       texts(&["*-01"]),                  true),
            ("agents",       texts(&["*b*0*"]),                 true),
            ("agents",       texts(&["db-*"]),                  false),
            ("not_agents",   texts(&["web-*"]),                 false),
            ("location",     Value::Text("^/var/log".into()),   true),
            ("location",     Value::Text("!auth".into()),       false),
            ("not_location", Value::Text("auth".into()),        false),
            ("kind",         texts(&["lookup"]),                false),
        ];
        for (key, value, expected) in table {
            assert_eq!(
                filter(&[(key, value.clone())]).passes(&event(SSHD)),
                *expected,
                "{key} {value:?}"
            );
        }
    }

    #[test]
    fn an_alert_without_the_field_passes_only_the_not_twin() {
        let bare = event("{}");
        assert!(!filter(&[("level", Value::Integer(0))]).passes(&bare));
        assert!(!filter(&[("agents", texts(&["*"]))]).passes(&bare));
        assert!(filter(&[("not_groups", texts(&["sca"]))]).passes(&bare));
        assert!(Filter::default().passes(&bare));
    }

    #[test]
    fn all_conditions_must_hold() {
        let both = [("level", Value::Integer(3)), ("groups", texts(&["sca"]))];
        assert!(!filter(&both).passes(&event(SSHD)));
    }
}
