//! Fields of an event's body by their dotted path, for order and storm control.

use holdfast_model::Event;
use serde_json::Value;

/// The way to a field, as `rule.id` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path(String);

/// A path has at most so many steps.
const STEPS_MAX: usize = 8;

impl Path {
    /// Takes names of letters, digits, `_`, `-` and `@`, with dots between them.
    pub fn new(text: &str) -> Option<Self> {
        let clean = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '@');
        let step = |name: &str| !name.is_empty() && name.chars().all(clean);
        let is_path = text.split('.').all(step) && text.split('.').count() <= STEPS_MAX;
        is_path.then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands there as text: a text as it is, anything else as JSON, and nothing for what is
    /// missing.
    pub fn text_in(&self, body: &Value) -> String {
        let found = self.0.split('.').try_fold(body, |value, name| value.get(name));
        match found {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        }
    }
}

/// What of a body these paths lead to, under its own names. What is missing is left out.
pub fn project(body: &Value, paths: &[Path]) -> Value {
    let mut projected = Value::Object(serde_json::Map::new());
    for Path(path) in paths {
        let Some(found) = path.split('.').try_fold(body, |value, name| value.get(name)) else {
            continue;
        };
        let mut place = &mut projected;
        for name in path.split('.') {
            if !place.is_object() {
                *place = Value::Object(serde_json::Map::new());
            }
            // Indexing an object makes the member that is missing.
            place = &mut place[name];
        }
        *place = found.clone();
    }
    projected
}

/// The event's body; null when it is not JSON. What is not UTF-8 becomes U+FFFD.
pub(crate) fn parse(event: &Event) -> Value {
    serde_json::from_slice(&event.body)
        .or_else(|_| serde_json::from_str(&String::from_utf8_lossy(&event.body)))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_finds_what_is_there_and_nothing_else() {
        let body =
            serde_json::json!({"rule": {"id": "5710", "level": 5, "groups": ["a"]}, "x": null});
        let at = |path: &str| Path::new(path).unwrap().text_in(&body);
        assert_eq!((at("rule.id").as_str(), at("rule.level").as_str()), ("5710", "5"));
        assert_eq!((at("rule.groups").as_str(), at("x").as_str()), ("[\"a\"]", ""));
        assert_eq!((at("rule.id.deeper").as_str(), at("nothing").as_str()), ("", ""));
        let all = |paths: &[&str]| {
            let paths: Vec<Path> = paths.iter().filter_map(|path| Path::new(path)).collect();
            project(&body, &paths).to_string()
        };
        assert_eq!(all(&["rule.id", "rule.level"]), r#"{"rule":{"id":"5710","level":5}}"#);
        assert_eq!(
            all(&["x", "y", "rule.id.z", "rule.groups"]),
            r#"{"rule":{"groups":["a"]},"x":null}"#
        );
        assert_eq!(all(&["rule", "rule.id"]), all(&["rule"]));
        for bad in ["", ".", "a..b", "a b", "a.b.c.d.e.f.g.h.i"] {
            assert_eq!(Path::new(bad), None, "{bad}");
        }
    }
}
