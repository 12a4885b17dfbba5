//! Which alerts are one problem, and which alert ends it.
//!
//! Pure. A destination that keeps things open (a page, a ticket, a case) asks what an event does
//! to which problem; without these settings every event is a problem of its own that nothing ends.

use std::collections::{HashMap, HashSet};

use holdfast_model::{
    Action,
    settings::{Node, Section, Setting, Value},
};
use sha2::{Digest, Sha256};

use super::{About, Message};

pub(crate) const GROUP: Setting = Setting::new(
    "group",
    "\"event\"",
    "What becomes one open thing there: \"event\" (each event) or \"problem\" (all alerts of one rule on one agent until it is closed).",
);

pub(crate) const RESOLVED_BY: Setting = Setting::optional(
    "resolved_by",
    "{ \"504\" = \"503\" }",
    "Which rule ends the problem of which other one on the same agent: problem = resolving rule. The rules named here are grouped by problem whatever `group` says.",
);

/// What an event does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It is a problem, or more of one.
    Open { key: String },
    /// It ends these problems.
    Resolve { keys: Vec<String> },
}

/// What of a hash names a problem: 43 characters with `wz-`, so that it fits every vendor's field.
const PROBLEM_HASH_BYTES: usize = 20;

#[derive(Debug, Default)]
pub(crate) struct Lifecycle {
    by_problem: bool,
    /// Resolving rule → the rules whose problems it ends.
    ends: HashMap<String, Vec<String>>,
    /// Rules whose problems can end.
    ended: HashSet<String>,
}

impl Lifecycle {
    /// Reads both keys and reports their faults.
    pub(crate) fn read(section: &Section<'_>) -> Option<Self> {
        let by_problem = section.word(&GROUP, &["event", "problem"]) == "problem";
        Self::read_pairs(section, by_problem)
    }

    /// For a vendor that always merges the alerts of one problem: there is no `group` to choose.
    pub(crate) fn read_problems(section: &Section<'_>) -> Option<Self> {
        Self::read_pairs(section, true)
    }

    fn read_pairs(section: &Section<'_>, by_problem: bool) -> Option<Self> {
        let given = section.has(RESOLVED_BY.name);
        let Some(table) = section.table(RESOLVED_BY.name) else {
            return (!given).then_some(Self { by_problem, ..Self::default() });
        };
        let mut ends: HashMap<String, Vec<String>> = HashMap::new();
        let (mut ended, mut all_good) = (HashSet::new(), true);
        for (problem, Node { value, .. }) in table.entries() {
            let resolving = match value {
                Value::Text(rule) => rule.clone(),
                Value::Integer(rule) => rule.to_string(),
                _ => {
                    table.fault(problem, "it must be a rule's id, as \"503\"");
                    all_good = false;
                    continue;
                }
            };
            ended.insert(problem.clone());
            ends.entry(resolving).or_default().push(problem.clone());
        }
        all_good.then_some(Self { by_problem, ends, ended })
    }

    pub(crate) fn phase(&self, message: &Message) -> Phase {
        if let (Some(Action::Closed), Some(about)) = (message.action, &message.about) {
            return Phase::Resolve { keys: self.keys_of(about) };
        }
        let rule = message.rule_id.as_deref().unwrap_or("");
        if let Some(problems) = self.ends.get(rule) {
            return Phase::Resolve {
                keys: problems.iter().map(|rule| problem_key(rule, message)).collect(),
            };
        }
        let grouped = self.by_problem || self.ended.contains(rule);
        let key = if grouped { problem_key(rule, message) } else { message.key.clone() };
        Phase::Open { key }
    }
}

impl Lifecycle {
    /// What the page, ticket or case of this event is called.
    pub(crate) fn keys_of(&self, about: &About) -> Vec<String> {
        match about.message.as_ref().map(|message| self.phase(message)) {
            Some(Phase::Open { key }) => vec![key],
            Some(Phase::Resolve { keys }) => keys,
            // The log has it no more; its own key is what an event alone is called by.
            None => vec![about.key.clone()],
        }
    }
}

/// The same for every alert of one rule on one agent of one manager; 43 characters.
fn problem_key(rule: &str, message: &Message) -> String {
    let manager = super::facts::text(&message.alert, "/manager/name").unwrap_or_default();
    let agent = message.agent_id.as_deref().unwrap_or("");
    let hash = Sha256::digest(format!("{manager}|{rule}|{agent}"));
    format!("wz-{}", hex::encode(&hash[..PROBLEM_HASH_BYTES]))
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, sync::Arc};

    use holdfast_model::{Kind, Parent};

    use super::*;
    use crate::testing::{alert, event};

    fn phase(lifecycle: &Lifecycle, rule: &str, agent: &str) -> Phase {
        let body = format!(r#"{{"rule":{{"id":"{rule}"}},"agent":{{"id":"{agent}"}}}}"#);
        lifecycle.phase(&Message::of(&alert(1, body)))
    }

    fn read(entries: Vec<(&str, Value)>) -> Result<Lifecycle, Vec<String>> {
        let entries: Vec<_> = entries
            .into_iter()
            .map(|(key, value)| (key.to_owned(), Node { line: 1, value }))
            .collect();
        let faults = RefCell::default();
        let read = Lifecycle::read(&Section::new("d", 1, &entries, &faults));
        read.ok_or_else(|| faults.into_inner().into_iter().map(|fault| fault.key).collect())
    }

    fn pair(problem: &str, rule: Value) -> Value {
        Value::Table(vec![(problem.to_owned(), Node { line: 1, value: rule })])
    }

    #[test]
    fn without_settings_each_event_is_its_own_problem() {
        let lifecycle = read(vec![]).unwrap();
        let key = "abcdefghij-1.lane".to_owned();
        assert_eq!(phase(&lifecycle, "504", "001"), Phase::Open { key });
    }

    #[test]
    fn a_resolving_rule_ends_the_problem_of_the_same_agent_only() {
        let pairs = pair("504", Value::Integer(503));
        let lifecycle = read(vec![("resolved_by", pairs)]).unwrap();
        let Phase::Open { key } = phase(&lifecycle, "504", "001") else { panic!("it opens") };
        assert_eq!(key.len(), 43);
        assert_eq!(phase(&lifecycle, "503", "001"), Phase::Resolve { keys: vec![key.clone()] });
        assert_ne!(phase(&lifecycle, "503", "002"), Phase::Resolve { keys: vec![key] });
        let alone = "abcdefghij-1.lane".to_owned();
        assert_eq!(phase(&lifecycle, "5710", "001"), Phase::Open { key: alone });
    }

    #[test]
    fn what_another_system_closed_ends_what_was_made_of_the_same_event() {
        let pairs = pair("504", Value::Integer(503));
        let lifecycle = read(vec![("resolved_by", pairs)]).unwrap();
        let callback = |action: &str, rule: &str| {
            let parent =
                alert(1, format!(r#"{{"rule":{{"id":"{rule}"}},"agent":{{"id":"001"}}}}"#));
            let Phase::Open { key } = lifecycle.phase(&Message::of(&parent)) else { panic!() };
            let parent = Parent {
                id: parent.id,
                key: parent.key,
                remote_id: None,
                links: Vec::new(),
                event: Some(parent.event),
            };
            let body = format!(r#"{{"destination":"cases","action":"{action}"}}"#);
            let mut member = event(2, Kind::Callback, body);
            member.parent = Some(Arc::new(parent));
            (lifecycle.phase(&Message::of(&member)), key)
        };
        for rule in ["504", "5710"] {
            let (phase, key) = callback("closed", rule);
            assert_eq!(phase, Phase::Resolve { keys: vec![key] }, "{rule}");
        }
        let (phase, _) = callback("commented", "504");
        assert_eq!(phase, Phase::Open { key: "abcdefghij-2.lane".to_owned() });
    }

    #[test]
    fn a_group_is_one_rule_on_one_agent() {
        let lifecycle = read(vec![("group", Value::Text("problem".into()))]).unwrap();
        assert_eq!(phase(&lifecycle, "5710", "001"), phase(&lifecycle, "5710", "001"));
        assert_ne!(phase(&lifecycle, "5710", "001"), phase(&lifecycle, "5710", "002"));
        assert_ne!(phase(&lifecycle, "5710", "001"), phase(&lifecycle, "5712", "001"));
    }

    #[test]
    fn what_cannot_work_is_a_fault() {
        let wrong = pair("504", Value::Bool(true));
        let faults = read(vec![("resolved_by", wrong)]).unwrap_err();
        assert_eq!(faults, ["d.resolved_by.504"]);
    }
}
