//! Two requests for the same call, side by side.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde_json::Value;

use super::calls::Call;
use crate::support::Request;

/// What two requests have in common, and what they have not.
#[derive(Debug)]
pub(crate) struct Comparison {
    request: String,
    /// Members of the body that both set, with the same type.
    agreed: usize,
    /// `method`, `path`, `query`, `content-type`, `header NAME`, `wrapper`, `type of MEMBER`, with
    /// both sides.
    differences: BTreeMap<String, String>,
    /// The differences that the call explains.
    reasons: Vec<String>,
}

/// Every member of a body with the types it has there; members of lists are put together.
type Shape = BTreeMap<String, BTreeSet<&'static str>>;

// === impl Comparison ===

impl Comparison {
    pub(crate) fn of(call: &Call, ours: &Request, theirs: &Request) -> Self {
        let mut differences = BTreeMap::new();
        let mut compare = |what: &str, ours: String, theirs: String| {
            if ours != theirs {
                let both = format!("Holdfast {ours:?}, the client {theirs:?}");
                differences.insert(what.to_owned(), both);
            }
        };
        let (our_path, our_query) = split(&ours.path);
        let (their_path, their_query) = split(&theirs.path);
        compare("method", ours.method.clone(), theirs.method.clone());
        compare("path", our_path.clone(), their_path);
        compare("query", our_query, their_query);
        compare("content-type", media_type(ours), media_type(theirs));
        for name in call.headers {
            let value = |request: &Request| request.header(name).unwrap_or("none").to_owned();
            compare(&format!("header {name}"), value(ours), value(theirs));
        }
        let (our_shape, our_wrapper) = shape_of(ours, call.wrapper);
        let (their_shape, their_wrapper) = shape_of(theirs, call.wrapper);
        compare("wrapper", our_wrapper.to_string(), their_wrapper.to_string());
        let mut agreed = 0;
        for (member, types) in &our_shape {
            let Some(others) = their_shape.get(member) else { continue };
            if types.is_disjoint(others) {
                compare(&format!("type of {member}"), format!("{types:?}"), format!("{others:?}"));
            } else {
                agreed += 1;
            }
        }
        let explained = |(what, why): &&(&str, &str)| {
            assert!(!why.is_empty());
            differences.contains_key(*what)
        };
        let reasons = call.differences.iter().filter(explained);
        let reasons = reasons.map(|(what, why)| format!("{what}: {why}")).collect();
        let request = format!("{} {our_path}", ours.method);
        Self { request, agreed, differences, reasons }
    }

    /// What is wrong with it: a difference without a reason, a reason without a difference, or too
    /// little in common to mean anything.
    pub(crate) fn problems(&self, call: &Call) -> Vec<String> {
        let mut problems = Vec::new();
        for (what, both) in &self.differences {
            if !call.differences.iter().any(|(known, _)| known == what) {
                problems.push(format!("{}: {what} differs: {both}", call.name));
            }
        }
        for (known, _) in call.differences {
            if !self.differences.contains_key(*known) {
                problems.push(format!("{}: {known} no longer differs", call.name));
            }
        }
        if self.agreed < call.agreed_min {
            let (agreed, least) = (self.agreed, call.agreed_min);
            problems.push(format!("{}: {agreed} members agree, not {least}", call.name));
        }
        problems
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<38} {:>2} members", self.request, self.agreed)?;
        self.reasons.iter().try_for_each(|reason| write!(f, "; {reason}"))
    }
}

/// The path, and the query in order without what is empty.
fn split(path: &str) -> (String, String) {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut pairs: Vec<_> = query.split('&').filter(|pair| !pair.is_empty()).collect();
    pairs.sort_unstable();
    (path.to_owned(), pairs.join("&"))
}

fn media_type(request: &Request) -> String {
    let given = request.header("content-type").unwrap_or("none");
    given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The shape without the wrapper, and whether that was around it.
fn shape_of(request: &Request, wrapper: &str) -> (Shape, bool) {
    let (mut shape, mut is_wrapped) = (Shape::new(), false);
    if media_type(request) == "application/x-www-form-urlencoded" {
        for pair in request.text().split('&') {
            let name = pair.split('=').next().unwrap_or_default();
            shape.entry(format!(".{name}")).or_default().insert("string");
        }
        return (shape, false);
    }
    // One object, or several behind each other: NDJSON, Splunk's events.
    for value in serde_json::Deserializer::from_slice(&request.body).into_iter::<Value>() {
        let value = value.unwrap_or_else(|error| panic!("{error}: {}", request.text()));
        match value.get(wrapper) {
            Some(inner) => {
                is_wrapped = true;
                add(&mut shape, "", inner);
            }
            None => add(&mut shape, "", &value),
        }
    }
    (shape, is_wrapped)
}

fn add(shape: &mut Shape, at: &str, value: &Value) {
    let kind = match value {
        // Clients write null where they set nothing.
        Value::Null => return,
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(items) => {
            items.iter().for_each(|item| add(shape, &format!("{at}[]"), item));
            "array"
        }
        Value::Object(members) => {
            for (name, value) in members {
                add(shape, &format!("{at}.{name}"), value);
            }
            "object"
        }
    };
    shape.entry(at.to_owned()).or_default().insert(kind);
}
