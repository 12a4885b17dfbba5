//! `when`: which events a lane takes. Pure.
//!
//! All given conditions must hold; within a list any. An event without the field that a condition
//! looks at does not pass it, and passes its `not_` twin. A `where` that errs passes the event,
//! which the verdict says.

mod expression;
mod json;
mod keys;
mod loops;
#[cfg(test)]
mod tests;

use std::{ops::RangeInclusive, sync::Arc};

use holdfast_model::{
    Action, Event, Kind, Timestamp,
    settings::{Section, Setting},
};

use serde_json::Value;

pub use self::keys::SETTINGS;
use self::{
    expression::Expression,
    keys::{
        AGENT_GROUPS, AGENTS, DECODERS, GROUP_LINE, GROUP_PATTERN, GROUPS, INTEGRATION, KIND,
        LEVEL, LEVEL_MAX, LOCATION, MITRE, NOT_AGENT_GROUPS, NOT_AGENTS, NOT_DECODERS, NOT_GROUPS,
        NOT_INTEGRATION, NOT_LOCATION, NOT_MITRE, NOT_RULE_IDS, RULE_IDS, WHERE,
    },
};
use crate::{fields::parse, osmatch::OsMatch};

/// A compiled `when`.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    kinds: Vec<Kind>,
    conditions: Vec<Condition>,
    /// Conditions on fields that need the whole alert read.
    fields: Vec<FieldCondition>,
    expression: Option<Arc<Expression>>,
    /// The source of the canaries that are addressed to this lane: they pass, whatever else is set.
    canaries: Option<Arc<str>>,
    /// Callbacks of these actions pass, whatever else is set, unless `own` sent them.
    follows: Vec<Action>,
    own: Option<Arc<str>>,
    /// When it must have been received: from, and before.
    received: (Option<Timestamp>, Option<Timestamp>),
    /// Another filter that must hold too.
    also: Option<Arc<Filter>>,
    loops: Option<LoopGuard>,
}

/// Refuses what would go round in circles.
#[derive(Clone, Copy, Debug, PartialEq)]
struct LoopGuard {
    /// Answers of lookups, too.
    answers: bool,
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
    RuleIds {
        ranges: Vec<RangeInclusive<u64>>,
        pass: bool,
    },
    Groups {
        names: Vec<String>,
        pass: bool,
    },
    Agents {
        patterns: Vec<String>,
        pass: bool,
    },
    Location {
        pattern: OsMatch,
        pass: bool,
    },
    /// Tried on each of the groups.
    AnyGroup(OsMatch),
    /// Tried on all of them in one line.
    GroupLine(OsMatch),
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            kinds: vec![Kind::Alert],
            conditions: Vec::new(),
            fields: Vec::new(),
            expression: None,
            canaries: None,
            follows: Vec::new(),
            own: None,
            received: (None, None),
            also: None,
            loops: None,
        }
    }
}

impl Filter {
    /// What both let pass.
    pub fn and(self, other: Self) -> Self {
        match self.also.clone() {
            None => Self { also: Some(Arc::new(other)), ..self },
            Some(also) => {
                let also = Arc::unwrap_or_clone(also).and(other);
                Self { also: Some(Arc::new(also)), ..self }
            }
        }
    }

    /// Only what was received in this time.
    pub fn received(self, since: Option<Timestamp>, until: Option<Timestamp>) -> Self {
        Self { received: (since, until), ..self }
    }

    /// Whether the event goes to the lane. The cheap conditions are judged first.
    pub fn judge(&self, event: &Event) -> Verdict {
        if event.kind == Kind::Canary && self.canaries.as_ref() == Some(&event.source) {
            return Verdict::Passes;
        }
        if self.is_followed(event) {
            return Verdict::Passes;
        }
        let (since, until) = self.received;
        let in_time = since.is_none_or(|since| event.received_at >= since)
            && until.is_none_or(|until| event.received_at < until);
        if !in_time {
            return Verdict::Filtered;
        }
        match (self.judge_alone(event), &self.also) {
            (Verdict::Filtered, _) => Verdict::Filtered,
            // Of what passes so far only little is left to look through.
            _ if self.loops.is_some_and(|guard| guard.refuses(event)) => Verdict::Filtered,
            (verdict, None) => verdict,
            (verdict, Some(also)) => match also.judge(event) {
                Verdict::Passes => verdict,
                other => other,
            },
        }
    }

    fn judge_alone(&self, event: &Event) -> Verdict {
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

    /// Lets callbacks about events of the log pass that have one of these actions.
    pub fn following(self, follows: Vec<Action>) -> Self {
        Self { follows, ..self }
    }

    /// The lane's own name: what its own remote system told is no news to it.
    pub fn of_lane(&mut self, name: &str) {
        self.own = Some(name.into());
    }

    fn is_followed(&self, event: &Event) -> bool {
        let candidate = !self.follows.is_empty()
            && event.kind == Kind::Callback
            && event.parent.is_some()
            && self.own.as_ref() != Some(&event.source);
        candidate && {
            let body = parse(event);
            self.follows.iter().any(|action| body["action"] == action.as_str())
        }
    }

    /// Lets the canaries of this source pass.
    pub fn pass_canaries(&mut self, source: Arc<str>) {
        self.canaries = Some(source);
    }

    /// Lets nothing pass that came of an event which an integration put into Wazuh; for a lookup,
    /// `answers`, no answers either.
    pub fn refuse_loops(&mut self, answers: bool) {
        self.loops = Some(LoopGuard { answers });
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
        if let Some(pattern) = section.text(&GROUP_PATTERN) {
            conditions.push(Condition::AnyGroup(OsMatch::new(pattern)));
        }
        if let Some(pattern) = section.text(&GROUP_LINE) {
            conditions.push(Condition::GroupLine(OsMatch::new(pattern)));
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
        Self { kinds, conditions, fields, expression, ..Self::default() }
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

impl LoopGuard {
    fn refuses(self, event: &Event) -> bool {
        match event.kind {
            Kind::Lookup => self.answers,
            Kind::Alert => loops::may_be_injected(&event.body) && loops::is_injected(&parse(event)),
            Kind::Callback | Kind::Canary | Kind::Operator => false,
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
            Self::AnyGroup(pattern) => facets.groups.iter().any(|group| pattern.matches(group)),
            Self::GroupLine(pattern) => pattern.matches(&group_line(&parse(event))),
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

/// How the JSON names what alerts.log has among the groups as `<name>_<tag>`, in their order.
const COMPLIANCE: [&str; 7] = ["cis", "gdpr", "gpg13", "hipaa", "nist_800_53", "pci_dss", "tsc"];

/// The groups as alerts.log has them. Where a tag stood among the names the JSON does not say.
fn group_line(alert: &Value) -> String {
    let texts = |name: &str| alert["rule"][name].as_array().into_iter().flatten();
    let mut line = String::new();
    for group in texts("groups").filter_map(Value::as_str) {
        line.extend([group, ","]);
    }
    for name in COMPLIANCE {
        for tag in texts(name).filter_map(Value::as_str) {
            line.extend([name, "_", tag, ","]);
        }
    }
    line
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
