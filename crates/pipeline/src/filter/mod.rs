//! `when`: which events a lane takes. Pure.
//!
//! All given conditions must hold; within a list any. An event without the field that a condition
//! looks at does not pass it, and passes its `not_` twin. A `where` that errs passes the event,
//! which the verdict says.

mod expression;

use std::{ops::RangeInclusive, sync::Arc};

use holdfast_model::{
    Event, Kind,
    settings::{Section, Setting},
};

use serde_json::Value;

use self::expression::Expression;
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

const DECODERS: Setting =
    Setting::optional("decoders", "[\"sshd\"]", "Exact names of `decoder.name`.");
const NOT_DECODERS: Setting =
    Setting::optional("not_decoders", "[\"json\"]", "Decoders whose alerts do not pass.");
const MITRE: Setting = Setting::optional(
    "mitre",
    "[\"T1110\"]",
    "MITRE ATT&CK techniques out of `rule.mitre.id`; a technique stands for its sub-techniques too.",
);
const NOT_MITRE: Setting =
    Setting::optional("not_mitre", "[\"T1078\"]", "Techniques that do not pass.");
const AGENT_GROUPS: Setting = Setting::optional(
    "agent_groups",
    "[\"linux\"]",
    "Groups of the agent, from its label `group` (`agent.labels.group`): a name or several with commas.",
);
const NOT_AGENT_GROUPS: Setting =
    Setting::optional("not_agent_groups", "[\"lab\"]", "Agent groups that do not pass.");
const INTEGRATION: Setting = Setting::optional(
    "integration",
    "[\"virustotal\"]",
    "What an integration put into Wazuh: exact values of `data.integration`.",
);
const NOT_INTEGRATION: Setting =
    Setting::optional("not_integration", "[\"virustotal\"]", "Integrations that do not pass.");
const WHERE: Setting = Setting::optional(
    "where",
    "\"alert.data.srcip.startsWith('203.0.113.') && event.kind == 'alert'\"",
    "A condition in CEL over `alert` (Wazuh's JSON) and `event` (`seq`, `kind`, `source`, `integration`, `received_at`). When it errs, the event passes and is counted. At most 8 KiB, and two loops inside one another.",
);

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
    &DECODERS,
    &NOT_DECODERS,
    &MITRE,
    &NOT_MITRE,
    &AGENT_GROUPS,
    &NOT_AGENT_GROUPS,
    &INTEGRATION,
    &NOT_INTEGRATION,
    &WHERE,
];

/// A compiled `when`.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    kinds: Vec<Kind>,
    conditions: Vec<Condition>,
    /// Conditions on fields that need the whole alert read.
    fields: Vec<FieldCondition>,
    expression: Option<Arc<Expression>>,
}

/// What a filter says of an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Passes,
    Filtered,
    /// `where` erred, for this reason, so the event passes.
    Unsure(String),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Field {
    Decoder,
    Mitre,
    AgentGroups,
    Integration,
}

#[derive(Clone, Debug, PartialEq)]
struct FieldCondition {
    field: Field,
    names: Vec<String>,
    pass: bool,
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
        Self {
            kinds: vec![Kind::Alert],
            conditions: Vec::new(),
            fields: Vec::new(),
            expression: None,
        }
    }
}

impl Filter {
    /// Whether the event goes to the lane. The cheap conditions are judged first.
    pub fn judge(&self, event: &Event) -> Verdict {
        let plain = self.kinds.contains(&event.kind)
            && self.conditions.iter().all(|condition| condition.holds(event));
        if !plain {
            return Verdict::Filtered;
        }
        if self.fields.is_empty() && self.expression.is_none() {
            return Verdict::Passes;
        }
        let alert = parse(event);
        if !self.fields.iter().all(|condition| condition.holds(&alert)) {
            return Verdict::Filtered;
        }
        match self.expression.as_ref().map(|expression| expression.holds(event, &alert)) {
            None | Some(Ok(true)) => Verdict::Passes,
            Some(Ok(false)) => Verdict::Filtered,
            Some(Err(reason)) => Verdict::Unsure(reason),
        }
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
        let fields = read_fields(section);
        let expression = section.text(&WHERE).and_then(|source| match Expression::new(source) {
            Ok(expression) => Some(Arc::new(expression)),
            Err(problem) => {
                section.fault(WHERE.name, problem);
                None
            }
        });
        section.finish();
        Self { kinds, conditions, fields, expression }
    }
}

fn read_fields(section: &Section<'_>) -> Vec<FieldCondition> {
    let pairs = [
        (Field::Decoder, &DECODERS, &NOT_DECODERS),
        (Field::Mitre, &MITRE, &NOT_MITRE),
        (Field::AgentGroups, &AGENT_GROUPS, &NOT_AGENT_GROUPS),
        (Field::Integration, &INTEGRATION, &NOT_INTEGRATION),
    ];
    let mut fields = Vec::new();
    for (field, setting, not) in pairs {
        for (setting, pass) in [(setting, true), (not, false)] {
            if let Some(names) = section.texts(setting) {
                fields.push(FieldCondition { field, names, pass });
            }
        }
    }
    fields
}

/// The event's body; null when it is not JSON. What is not UTF-8 becomes U+FFFD.
fn parse(event: &Event) -> Value {
    serde_json::from_slice(&event.body)
        .or_else(|_| serde_json::from_str(&String::from_utf8_lossy(&event.body)))
        .unwrap_or_default()
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

impl FieldCondition {
    fn holds(&self, alert: &Value) -> bool {
        let (pointer, separator) = match self.field {
            Field::Decoder => ("/decoder/name", None),
            Field::Mitre => ("/rule/mitre/id", None),
            Field::AgentGroups => ("/agent/labels/group", Some(',')),
            Field::Integration => ("/data/integration", None),
        };
        let texts: Vec<&str> = match alert.pointer(pointer) {
            Some(Value::String(text)) => match separator {
                Some(separator) => text.split(separator).map(str::trim).collect(),
                None => vec![text],
            },
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let is = |name: &str, text: &str| {
            // T1110 stands for T1110.001 too.
            let rest = text.strip_prefix(name);
            let sub = self.field == Field::Mitre && rest.is_some_and(|rest| rest.starts_with('.'));
            rest == Some("") || sub
        };
        let hit = self.names.iter().any(|name| texts.iter().any(|text| is(name, text)));
        hit == self.pass
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

    const SSHD: &str = r#"{"rule":{"level":10,"id":"5763","groups":["sshd","authentication_failures"],
        "mitre":{"id":["T1110.001"]}},"decoder":{"name":"sshd"},"data":{"integration":"virustotal"},
        "agent":{"id":"001","name":"web-01","labels":{"group":"web, dmz"}},"location":"/var/log/auth.log"}"#;

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
            ("decoders",     texts(&["sshd"]),                  true),
            ("not_decoders", texts(&["sshd"]),                  false),
            ("mitre",        texts(&["T1110"]),                 true),
            ("mitre",        texts(&["T1110.001"]),             true),
            ("mitre",        texts(&["T111"]),                  false),
            ("not_mitre",    texts(&["T1110"]),                 false),
            ("agent_groups", texts(&["web"]),                   true),
            ("agent_groups", texts(&["we"]),                    false),
            ("not_agent_groups", texts(&["dmz"]),               false),
            ("integration",  texts(&["virustotal"]),            true),
            ("not_integration", texts(&["virustotal"]),         false),
        ];
        for (key, value, expected) in table {
            assert_eq!(
                filter(&[(key, value.clone())]).judge(&event(SSHD)) == Verdict::Passes,
                *expected,
                "{key} {value:?}"
            );
        }
    }

    #[test]
    fn an_alert_without_the_field_passes_only_the_not_twin() {
        let bare = event("{}");
        let passes = |key: &str, value| filter(&[(key, value)]).judge(&bare) == Verdict::Passes;
        assert!(!passes("level", Value::Integer(0)));
        assert!(!passes("agents", texts(&["*"])));
        assert!(!passes("mitre", texts(&["T1110"])));
        assert!(passes("not_groups", texts(&["sca"])));
        assert!(passes("not_decoders", texts(&["sshd"])));
        assert_eq!(Filter::default().judge(&bare), Verdict::Passes);
    }

    #[test]
    fn all_conditions_must_hold() {
        let both = [("level", Value::Integer(3)), ("groups", texts(&["sca"]))];
        assert_eq!(filter(&both).judge(&event(SSHD)), Verdict::Filtered);
    }

    #[test]
    fn a_where_that_errs_passes_the_event_and_says_so() {
        let with = |source: &str| filter(&[("where", Value::Text(source.into()))]);
        assert_eq!(with("alert.rule.level > 3").judge(&event(SSHD)), Verdict::Passes);
        assert_eq!(with("alert.rule.level > 30").judge(&event(SSHD)), Verdict::Filtered);
        let verdict = with("alert.data.srcip == '1'").judge(&event(SSHD));
        assert!(matches!(verdict, Verdict::Unsure(_)), "{verdict:?}");
        let plain_first =
            [("level", Value::Integer(12)), ("where", Value::Text("alert.x == 1".into()))];
        assert_eq!(filter(&plain_first).judge(&event(SSHD)), Verdict::Filtered);
    }
}
