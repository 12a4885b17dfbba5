//! `when` as JSON: what an API request says with the words of the configuration.

use std::cell::RefCell;

use holdfast_model::settings::{Fault, Node, Section, Value as Setting};
use serde_json::{Map, Value};

use super::Filter;

/// Deepest nesting that is read; `when` has none to speak of.
const DEPTH_MAX: usize = 8;

impl Filter {
    /// Reads the keys of `when` from a JSON object, or says what is wrong with each.
    pub fn from_json(when: &Map<String, Value>) -> Result<Self, Vec<String>> {
        let entries = table(when, 0);
        let faults = RefCell::default();
        let filter = Self::read(&Section::new("", 0, &entries, &faults));
        let say =
            |Fault { key, problem, .. }: Fault| format!("`{}`: {problem}", key.trim_matches('.'));
        let faults: Vec<String> = faults.into_inner().into_iter().map(say).collect();
        if faults.is_empty() { Ok(filter) } else { Err(faults) }
    }
}

fn table(object: &Map<String, Value>, depth: usize) -> Vec<(String, Node)> {
    let known = object.iter().filter(|(_, value)| !value.is_null());
    known.map(|(key, value)| (key.clone(), node(value, depth))).collect()
}

fn node(value: &Value, depth: usize) -> Node {
    let value = match value {
        _ if depth > DEPTH_MAX => Setting::Text("…".to_owned()),
        Value::Null => Setting::Text(String::new()),
        Value::Bool(flag) => Setting::Bool(*flag),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Setting::Integer(whole),
            None => Setting::Float(number.as_f64().unwrap_or(f64::MAX)),
        },
        Value::String(text) => Setting::Text(text.clone()),
        Value::Array(items) => {
            Setting::List(items.iter().map(|item| node(item, depth + 1)).collect())
        }
        Value::Object(object) => Setting::Table(table(object, depth + 1)),
    };
    Node { line: 0, value }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use holdfast_model::{Event, NewEvent, Timestamp};
    use serde_json::json;

    use super::*;
    use crate::filter::Verdict;

    fn event(at: u64, level: u64) -> Event {
        let body = format!(r#"{{"rule":{{"id":"5710","level":{level},"groups":["sshd"]}}}}"#);
        Event::new(1, NewEvent::alert(body), Arc::from("t"), Timestamp(at))
    }

    fn filter(when: Value) -> Result<Filter, Vec<String>> {
        Filter::from_json(when.as_object().unwrap())
    }

    #[test]
    fn the_words_are_those_of_the_configuration() {
        let when =
            json!({ "level": 10, "groups": ["sshd"], "rule_ids": ["5700-5719"], "where": "true" });
        let filter = filter(when).unwrap();
        assert_eq!(filter.judge(&event(0, 10)), Verdict::Passes);
        assert_eq!(filter.judge(&event(0, 9)), Verdict::Filtered);
    }

    #[test]
    fn every_fault_is_named_with_its_key() {
        let when = json!({ "level": "ten", "rule_ids": ["x"], "colour": "red", "where": "alert." });
        let faults = filter(when).unwrap_err();
        for key in ["level", "rule_ids", "colour", "where"] {
            assert!(faults.iter().any(|fault| fault.contains(key)), "{key}: {faults:?}");
        }
        let deep = (0..100).fold(json!(1), |deep, _| json!([deep]));
        assert!(filter(json!({ "groups": deep })).is_err());
    }

    #[test]
    fn two_filters_and_a_time_must_all_hold() {
        let both = filter(json!({ "level": 5 })).unwrap();
        let both = both.and(filter(json!({ "level_max": 7 })).unwrap());
        let both = both.received(Some(Timestamp(10)), Some(Timestamp(20)));
        for (at, level, passes) in [
            (10, 5, true),
            (19, 7, true),
            (9, 5, false),
            (20, 5, false),
            (15, 4, false),
            (15, 8, false),
        ] {
            let verdict = both.judge(&event(at, level));
            assert_eq!(verdict == Verdict::Passes, passes, "{at} {level}");
        }
    }
}
