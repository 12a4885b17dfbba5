//! `where`: a condition in CEL, for what the plain keys cannot say.
//!
//! Promises: an expression that does not compile, that names something else than `alert` and
//! `event`, or that nests loops too deep is a fault of the configuration. One that errs with an
//! event *passes* it: a mistake in a filter must not lose an alert. The caller counts it.
//!
//! Does not promise to be fast: each event is read as a whole. Plain keys are judged before it.

use std::{fmt, sync::Arc};

use cel::{
    Context, Env, Program, Value,
    common::ast::{EntryExpr, Expr, IdedExpr},
};
use holdfast_model::Event;

/// Longest expression, in bytes.
const SOURCE_BYTES_MAX: usize = 8 * 1024;

/// Loops (`exists`, `map`, …) inside one another. Two over an alert's own lists take as many steps
/// as the product of their lengths; three could hold a lane.
const NESTED_LOOPS_MAX: usize = 2;

/// Longest event that is given to an expression with loops, in bytes: at the worst two nested
/// loops over a list of 8,000 items.
const LOOPED_BYTES_MAX: usize = 16 * 1024;

/// The names an expression can use.
const NAMES: [&str; 2] = ["alert", "event"];

/// A compiled `where`.
pub(super) struct Expression {
    source: String,
    program: Program,
    loops: usize,
    /// CEL's own functions, made once and not for each event.
    functions: Arc<Env>,
}

impl Expression {
    /// Compiles it; the error is what the operator should read.
    pub(super) fn new(source: &str) -> Result<Self, String> {
        if source.len() > SOURCE_BYTES_MAX {
            return Err(format!("it has more than {SOURCE_BYTES_MAX} bytes"));
        }
        let program =
            Program::compile(source).map_err(|errors| format!("it is not CEL: {errors}"))?;
        let loops = nested_loops(program.expression());
        if loops > NESTED_LOOPS_MAX {
            return Err(format!(
                "it has {loops} loops inside one another; at most {NESTED_LOOPS_MAX} are allowed"
            ));
        }
        let mut strangers = Vec::new();
        strangers_in(program.expression(), &mut Vec::new(), &mut strangers);
        if let Some(name) = strangers.first() {
            return Err(format!("`{name}` is unknown; there are `alert` and `event`"));
        }
        let functions = Arc::new(Env::stdlib());
        Ok(Self { source: source.to_owned(), program, loops, functions })
    }

    /// Whether the event passes; `Err` says why that cannot be told.
    ///
    /// `alert` is the event's body, read by whoever judges it.
    pub(super) fn holds(&self, event: &Event, alert: &serde_json::Value) -> Result<bool, String> {
        if self.loops > 0 && event.body.len() > LOOPED_BYTES_MAX {
            return Err(format!(
                "the event is longer than {LOOPED_BYTES_MAX} bytes, too long for a loop"
            ));
        }
        let integration = alert.pointer("/data/integration").and_then(|value| value.as_str());
        let about = serde_json::json!({
            "seq": event.seq,
            "kind": event.kind.as_str(),
            "source": &*event.source,
            "integration": integration.unwrap_or(""),
            "received_at": event.received_at.to_string(),
        });
        let mut context = Context::with_env(Arc::clone(&self.functions));
        for (name, value) in [("alert", alert), ("event", &about)] {
            context.add_variable(name, value).map_err(|error| error.to_string())?;
        }
        match self.program.execute(&context) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(other) => Err(format!("it is {:?}, but must be true or false", other.type_of())),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.source).finish()
    }
}

/// The parts of an expression, and the name it binds in them.
fn parts(expression: &IdedExpr) -> Vec<&IdedExpr> {
    match &expression.expr {
        Expr::Call(call) => call.target.iter().map(AsRef::as_ref).chain(&call.args).collect(),
        Expr::Comprehension(looped) => vec![
            &looped.iter_range,
            &looped.accu_init,
            &looped.loop_cond,
            &looped.loop_step,
            &looped.result,
        ],
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map.entries.iter().flat_map(|entry| entry_parts(&entry.expr)).collect(),
        Expr::Struct(made) => {
            made.entries.iter().flat_map(|entry| entry_parts(&entry.expr)).collect()
        }
        Expr::Select(select) => vec![&select.operand],
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => Vec::new(),
    }
}

fn entry_parts(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}

fn nested_loops(expression: &IdedExpr) -> usize {
    let within = parts(expression).into_iter().map(nested_loops).max().unwrap_or(0);
    within + usize::from(matches!(expression.expr, Expr::Comprehension(_)))
}

/// Names that are neither ours nor bound by a loop around them.
fn strangers_in<'a>(expression: &'a IdedExpr, bound: &mut Vec<&'a str>, found: &mut Vec<String>) {
    if let Expr::Ident(name) = &expression.expr {
        // The parser's own accumulator begins with `@`.
        let known = NAMES.contains(&name.as_str()) || bound.contains(&name.as_str());
        if !known && !name.starts_with('@') {
            found.push(name.clone());
        }
    }
    let before = bound.len();
    if let Expr::Comprehension(looped) = &expression.expr {
        bound.extend([looped.iter_var.as_str(), looped.accu_var.as_str()]);
        bound.extend(looped.iter_var2.as_deref());
    }
    for part in parts(expression) {
        strangers_in(part, bound, found);
    }
    bound.truncate(before);
}

#[cfg(test)]
mod tests {
    use holdfast_model::{NewEvent, Timestamp};

    use super::*;

    fn holds(expression: &Expression, body: &str) -> Result<bool, String> {
        let new = NewEvent::alert(body.to_owned());
        let event = Event::new(7, new, "wazuh".into(), Timestamp(0));
        expression.holds(&event, &crate::fields::parse(&event))
    }

    const SSHD: &str = r#"{"rule":{"level":10,"id":"5763","groups":["sshd","x"],"mitre":{"id":["T1110"]}},
        "data":{"srcip":"203.0.113.77","integration":"virustotal"}}"#;

    #[test]
    fn it_sees_the_alert_and_the_event() {
        #[rustfmt::skip]
        let table = [
            ("alert.rule.level >= 10", true),
            ("alert.rule.level > 10", false),
            ("alert.data.srcip.startsWith('203.0.113.')", true),
            ("alert.data.srcip.matches('^10[.]')", false),
            ("'sshd' in alert.rule.groups && event.kind == 'alert'", true),
            ("alert.rule.groups.exists(g, g == 'x')", true),
            ("has(alert.data.dstuser)", false),
            ("has(alert.data.srcip) && event.source == 'wazuh' && event.seq == 7", true),
            ("event.integration == 'virustotal'", true),
        ];
        for (source, expected) in table {
            let expression = Expression::new(source).unwrap();
            assert_eq!(holds(&expression, SSHD), Ok(expected), "{source}");
        }
    }

    #[test]
    fn what_errs_says_why() {
        for source in ["alert.no.such.field == 1", "alert.rule.level", "alert.rule.level / 0 == 1"]
        {
            let answer = holds(&Expression::new(source).unwrap(), SSHD);
            assert!(answer.is_err(), "{source}: {answer:?}");
        }
        let expression = Expression::new("alert.rule.level > 1").unwrap();
        assert!(holds(&expression, "oops").is_err());
    }

    #[test]
    fn what_cannot_work_is_refused_when_it_is_read() {
        let refused = |source: &str| Expression::new(source).unwrap_err();
        assert!(refused("alert.rule.level >").starts_with("it is not CEL: "));
        assert_eq!(refused("rule.level > 3"), "`rule` is unknown; there are `alert` and `event`");
        assert_eq!(
            refused("alert.a.exists(g, h == g)"),
            "`h` is unknown; there are `alert` and `event`"
        );
        let deep = "alert.a.exists(a, alert.a.exists(b, alert.a.exists(c, a == b && b == c)))";
        assert!(refused(deep).starts_with("it has 3 loops inside one another"));
        assert!(refused(&format!("alert.a == '{}'", "x".repeat(9000))).contains("8192 bytes"));
    }

    #[test]
    fn a_long_event_is_not_looped_over() {
        let body = format!(r#"{{"a":[{}1]}}"#, "1,".repeat(20_000));
        let expression = Expression::new("alert.a.all(x, x == 1)").unwrap();
        assert!(holds(&expression, &body).is_err());
        let plain = Expression::new("alert.a[0] == 1").unwrap();
        assert_eq!(holds(&plain, &body), Ok(true));
    }
}
