//! The query, from the operator's template, with every value as an SQL literal.
//!
//! Promises: what an alert holds is never more than a value. While the template is filled in each
//! value is only a mark; where a mark stands in quotes or in a comment, or a value cannot be
//! written as a literal, there is no query. In its place then comes a literal: a text in quotes, a
//! number, or a list of them in brackets.
//!
//! Does not promise that `%` and `_` in a value mean nothing to `LIKE`.

use std::sync::{Arc, Mutex, PoisonError};

use holdfast_model::settings::{Section, Setting};
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context, value::ValueKind};

use crate::message::{self, Message};

pub(super) const QUERY: Setting = Setting::optional(
    "query",
    "\"SELECT * FROM processes WHERE path = {{ alert.syscheck.path }}\"",
    "The query, as a minijinja template over `alert` (Wazuh's JSON) and `message`. Every value that \
     is put in becomes an SQL literal, with its own quotes, so there are none around it; a list \
     becomes one in brackets, for IN. When a value is missing nothing is asked.",
);

/// Longest query that is asked, in bytes.
const QUERY_BYTES_MAX: usize = 16 * 1024;
/// Longest value, in bytes.
const VALUE_BYTES_MAX: usize = 4096;
/// Most members of a list.
const LIST_MAX: usize = 100;
/// How many steps a template may take.
const STEPS_MAX: u64 = 100_000;

const NAME: &str = "query";

/// Stands around the number of a value in the text that is not a query yet.
const MARK: char = '\u{1}';

#[derive(Debug)]
pub(super) struct Query(Environment<'static>);

/// The literals of one rendering.
#[derive(Clone, Debug, Default)]
struct Values(Arc<Mutex<Gathered>>);

#[derive(Debug, Default)]
struct Gathered {
    literals: Vec<String>,
    problem: Option<Problem>,
}

/// Why there is no query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    #[error("the alert has no such value")]
    Missing,
    #[error("the template failed: {0}")]
    Failed(String),
    #[error("a value stands in quotes or in a comment; it brings its own quotes")]
    Quoted,
    #[error("a value cannot be written in SQL: {0}")]
    Unfit(&'static str),
    #[error("the query has more than {QUERY_BYTES_MAX} bytes")]
    TooLong,
}

/// Where in a query one is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Code,
    /// Until this character.
    Quotes(char),
    Line,
    Comment,
}

// === impl Query ===

impl Query {
    /// Reads the key, which must be given, and reports what is wrong with it.
    pub(super) fn read(section: &Section<'_>) -> Option<Self> {
        let source = section.required_text(&QUERY);
        if source.trim().is_empty() {
            if section.has(QUERY.name) {
                section.fault(QUERY.name, "it is empty");
            }
            return None;
        }
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Chainable);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(STEPS_MAX));
        if let Err(error) = environment.add_template_owned(NAME, source.to_owned()) {
            let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
            section.fault(QUERY.name, format!("it does not compile: {what}"));
            return None;
        }
        let marked = without_code(source);
        if source.contains(MARK) || put_in(&marked, |_| Some("1")) == Err(Problem::Quoted) {
            section.fault(QUERY.name, Problem::Quoted);
            return None;
        }
        Some(Self(environment))
    }

    pub(super) fn render(&self, message: &Message) -> Result<String, Problem> {
        let context = context! {
            alert => Value::from_serialize(&message.alert),
            message => message::values_of(message),
        };
        let values = Values::default();
        let gather = values.clone();
        let mut environment = self.0.clone();
        environment.set_formatter(move |out, _, value| {
            out.write_str(&gather.put(value)).map_err(minijinja::Error::from)
        });
        let template = environment.get_template(NAME);
        let text = template.and_then(|template| template.render(context));
        let text = text.map_err(|error| Problem::Failed(error.to_string()))?;
        let Gathered { literals, problem } = values.take();
        match problem {
            Some(problem) => Err(problem),
            None => put_in(&text, |number| literals.get(number).map(String::as_str)),
        }
    }
}

/// The template with a mark for each value, and without its blocks and comments.
fn without_code(source: &str) -> String {
    let (mut text, mut rest) = (String::new(), source);
    while let Some(at) = rest.find('{') {
        let (before, behind) = rest.split_at(at);
        text.push_str(before);
        let (end, instead) = match behind.get(..2) {
            Some("{{") => ("}}", format!("{MARK}0{MARK}")),
            Some("{%") => ("%}", String::new()),
            Some("{#") => ("#}", String::new()),
            _ => ("{", "{".to_owned()),
        };
        text.push_str(&instead);
        rest = behind.split_once(end).map_or("", |(_, rest)| rest);
    }
    text + rest
}

/// Puts literals in the place of marks, and only where a literal can stand.
fn put_in<'a>(text: &str, literal: impl Fn(usize) -> Option<&'a str>) -> Result<String, Problem> {
    let (mut query, mut place) = (String::new(), Place::Code);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c == MARK {
            let mut number = String::new();
            while let Some(digit) = rest.next_if(|c| *c != MARK) {
                number.push(digit);
            }
            rest.next();
            let found = number.parse().ok().and_then(&literal);
            match found.filter(|_| place == Place::Code) {
                Some(literal) => query.push_str(literal),
                None => return Err(Problem::Quoted),
            }
            continue;
        }
        query.push(c);
        let next = rest.peek().copied();
        place = match (place, c) {
            (Place::Code, '\'' | '"' | '`') => Place::Quotes(c),
            (Place::Code, '[') => Place::Quotes(']'),
            (Place::Code, '-') if next == Some('-') => Place::Line,
            (Place::Code, '/') if next == Some('*') => {
                // So that `/*/` does not end at once.
                query.extend(rest.next());
                Place::Comment
            }
            (Place::Quotes(end), c) if c == end => Place::Code,
            (Place::Line, '\n') => Place::Code,
            (Place::Comment, '*') if next == Some('/') => {
                query.extend(rest.next());
                Place::Code
            }
            (place, _) => place,
        };
    }
    let query = query.trim().to_owned();
    if query.len() > QUERY_BYTES_MAX { Err(Problem::TooLong) } else { Ok(query) }
}

// === impl Values ===

impl Values {
    /// Keeps a value, and answers what stands for it meanwhile.
    fn put(&self, value: &Value) -> String {
        let mut gathered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match literal(value) {
            Ok(literal) => gathered.literals.push(literal),
            Err(problem) => {
                gathered.literals.push(String::new());
                gathered.problem.get_or_insert(problem);
            }
        }
        format!("{MARK}{}{MARK}", gathered.literals.len() - 1)
    }

    fn take(&self) -> Gathered {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn literal(value: &Value) -> Result<String, Problem> {
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => Err(Problem::Missing),
        ValueKind::Bool => Ok(if value.is_true() { "1" } else { "0" }.to_owned()),
        ValueKind::Number => {
            let text = value.to_string();
            let plain = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
            // A minus after a minus would begin a comment.
            plain.then(|| format!("({text})")).ok_or(Problem::Unfit("it is no finite number"))
        }
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            if text.is_empty() {
                return Err(Problem::Missing);
            }
            if text.len() > VALUE_BYTES_MAX {
                return Err(Problem::Unfit("it is too long"));
            }
            if text.contains(['\0', MARK]) {
                return Err(Problem::Unfit("it holds a control character"));
            }
            Ok(format!("'{}'", text.replace('\'', "''")))
        }
        ValueKind::Seq => {
            let items: Vec<Value> = value
                .try_iter()
                .map(|items| items.take(LIST_MAX + 1).collect())
                .unwrap_or_default();
            if items.is_empty() {
                return Err(Problem::Missing);
            }
            if items.len() > LIST_MAX || items.iter().any(|item| item.kind() == ValueKind::Seq) {
                return Err(Problem::Unfit("it is a list of too many, or of lists"));
            }
            let items: Result<Vec<_>, _> = items.iter().map(literal).collect();
            Ok(format!("({})", items?.join(", ")))
        }
        _ => Err(Problem::Unfit("it is neither text nor number nor list")),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use serde_json::json;

    use super::*;
    use crate::testing::{alert, tree};

    fn read(template: &str) -> Result<Query, String> {
        let (entries, faults) = (tree(&format!("query = {}", json!(template))), RefCell::default());
        let query = Query::read(&Section::new("destinations.x", 1, &entries, &faults));
        query.ok_or_else(|| faults.borrow()[0].problem.clone())
    }

    fn render(template: &str, alert_body: &serde_json::Value) -> Result<String, Problem> {
        let message = Message::of(&alert(1, alert_body.to_string()));
        read(template).unwrap().render(&message)
    }

    #[test]
    fn whatever_a_value_holds_it_is_one_literal() {
        for (value, expected) in [
            (json!("/bin/sh"), "'/bin/sh'"),
            (json!("a' OR '1'='1"), "'a'' OR ''1''=''1'"),
            (json!("x'; DROP TABLE t; --"), "'x''; DROP TABLE t; --'"),
            (json!("\\' /* \" ` [ {{ 1 }} \n"), "'\\'' /* \" ` [ {{ 1 }} \n'"),
            (json!(7), "(7)"),
            (json!(-1.5), "(-1.5)"),
            (json!(true), "1"),
            (json!(["a", "b'c", 3]), "('a', 'b''c', (3))"),
        ] {
            let query = render("SELECT * FROM t WHERE x = {{ alert.v }};", &json!({ "v": value }));
            assert_eq!(query, Ok(format!("SELECT * FROM t WHERE x = {expected};")), "{value}");
        }
    }

    #[test]
    fn without_a_fit_value_there_is_no_query() {
        let of = |value: serde_json::Value| render("SELECT {{ alert.v }}", &json!({ "v": value }));
        for nothing in [json!(null), json!(""), json!([]), json!([""])] {
            assert_eq!(of(nothing), Err(Problem::Missing));
        }
        assert_eq!(render("SELECT {{ alert.no.such }}", &json!({})), Err(Problem::Missing));
        for unfit in [json!("a\u{0}b"), json!("a\u{1}0\u{1}"), json!({}), json!([[1]])] {
            assert!(matches!(of(unfit.clone()), Err(Problem::Unfit(_))), "{unfit}");
        }
        assert!(matches!(of(json!("x".repeat(5000))), Err(Problem::Unfit(_))));
        assert!(matches!(of(json!(vec!["x"; 101])), Err(Problem::Unfit(_))));
        assert_eq!(of(json!(vec!["x".repeat(4000); 9])), Err(Problem::TooLong));
    }

    #[test]
    fn a_value_in_quotes_or_in_a_comment_is_a_fault() {
        for template in [
            "SELECT '{{ alert.v }}'",
            "SELECT \"{{ alert.v }}\"",
            "SELECT `a{{ alert.v }}`",
            "SELECT [{{ alert.v }}]",
            "SELECT 1 -- {{ alert.v }}",
            "SELECT 1 /* {{ alert.v }} */",
            "SELECT 'it''s {{ alert.v }}'",
        ] {
            assert!(read(template).unwrap_err().contains("brings its own quotes"), "{template}");
        }
        for template in [
            "SELECT 'it''s', {{ alert.v }} -- why\n, {{ alert.v }} /*/ ' */ + {{ alert.v }}",
            "{# '{{ #}SELECT {% if alert.v %}{{ alert.v }}{% endif %}",
        ] {
            assert!(render(template, &json!({ "v": 1 })).is_ok(), "{template}");
        }
        // What only shows when it is filled in.
        let sly = "SELECT {% if alert.v %}'{% endif %}{{ alert.v }}{% if alert.v %}'{% endif %}";
        let query = read(sly).map(|query| query.render(&Message::of(&alert(1, r#"{"v":1}"#))));
        assert!(matches!(query, Err(_) | Ok(Err(Problem::Quoted))), "{query:?}");
        assert!(read("SELECT {{ alert.").unwrap_err().contains("does not compile"));
        assert!(read(" ").is_err());
    }
}
