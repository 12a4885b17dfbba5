//! What a reader asks for: where, how much, and which events.

use std::{cell::RefCell, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use holdfast_model::{
    EventId, Seq,
    settings::{Node, Section, Value},
    units,
};
use holdfast_pipeline::{filter::Filter, settings::WHEN_SETTINGS};

use crate::api::problem::{Kind, Problem};

pub(super) const LIMIT_DEFAULT: usize = 100;
pub(super) const LIMIT_MAX: usize = 1_000;
const WAIT_MAX: Duration = Duration::from_secs(60);
const QUERY_BYTES_MAX: usize = 8 * 1024;
/// It can cost more than all others together, on the gateway.
pub(super) const NOT_OFFERED: &str = "where";

/// Where reading begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    Oldest,
    Newest,
    /// The log's name, and the number behind which it goes on.
    Behind(String, Seq),
}

#[derive(Debug)]
pub(super) struct Query {
    pub(super) begin: Begin,
    pub(super) limit: usize,
    pub(super) wait: Duration,
    pub(super) filter: Filter,
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(Kind::BadRequest, detail)
}

impl Query {
    pub(super) fn read(text: &str, begin: Begin) -> Result<Self, Problem> {
        if text.len() > QUERY_BYTES_MAX {
            return Err(bad(format!("the query is longer than {QUERY_BYTES_MAX} bytes")));
        }
        let mut query =
            Self { begin, limit: LIMIT_DEFAULT, wait: Duration::ZERO, filter: Filter::default() };
        let mut conditions: Vec<(String, Node)> = Vec::new();
        for (key, value) in pairs(text)? {
            match key.as_str() {
                "cursor" => query.begin = read_cursor(&value)?,
                "start" => query.begin = read_start(&value)?,
                "limit" => match value.parse() {
                    Ok(limit @ 1..=LIMIT_MAX) => query.limit = limit,
                    _ => {
                        return Err(bad(format!(
                            "`limit`: \"{value}\" is not within 1 to {LIMIT_MAX}"
                        )));
                    }
                },
                "wait" => match units::parse_duration(&value) {
                    Ok(wait) if wait <= WAIT_MAX => query.wait = wait,
                    _ => return Err(bad(format!("`wait`: \"{value}\" is not within 0s to 60s"))),
                },
                _ => add_condition(&mut conditions, key, &value)?,
            }
        }
        query.filter = read_filter(&conditions)?;
        Ok(query)
    }
}

fn read_start(value: &str) -> Result<Begin, Problem> {
    match value {
        "oldest" => Ok(Begin::Oldest),
        "newest" => Ok(Begin::Newest),
        _ => Err(bad(format!("`start`: \"{value}\" is not \"oldest\" or \"newest\""))),
    }
}

pub(super) fn read_cursor(cursor: &str) -> Result<Begin, Problem> {
    let bad = || bad("`cursor`: it is not one of ours");
    let text = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| bad())?;
    let text = String::from_utf8(text).map_err(|_| bad())?;
    let id: EventId = text.parse().map_err(|_| bad())?;
    Ok(Begin::Behind(id.log.as_str().to_owned(), id.seq))
}

/// Adds what a key says; a key that is given twice, or has commas, is a list.
fn add_condition(
    conditions: &mut Vec<(String, Node)>,
    key: String,
    value: &str,
) -> Result<(), Problem> {
    let known = |name: &str| name != NOT_OFFERED && WHEN_SETTINGS.iter().any(|s| s.name == name);
    if !known(&key) {
        let names: Vec<_> =
            WHEN_SETTINGS.iter().map(|s| s.name).filter(|name| known(name)).collect();
        let names = names.join(", ");
        return Err(bad(format!(
            "`{key}` is not known; there are cursor, start, limit, wait, {names}"
        )));
    }
    let text = |text: &str| Node { line: 0, value: Value::Text(text.to_owned()) };
    let node = match key.as_str() {
        "level" | "level_max" => match value.parse() {
            Ok(number) => Node { line: 0, value: Value::Integer(number) },
            Err(_) => text(value),
        },
        "location" | "not_location" => text(value),
        _ => {
            let items = value.split(',').map(|item| text(item.trim()));
            let known = conditions.iter_mut().find(|(name, _)| *name == key);
            if let Some((_, Node { value: Value::List(list), .. })) = known {
                list.extend(items);
                return Ok(());
            }
            Node { line: 0, value: Value::List(items.collect()) }
        }
    };
    if conditions.iter().any(|(name, _)| *name == key) {
        return Err(bad(format!("`{key}` is given twice")));
    }
    conditions.push((key, node));
    Ok(())
}

fn read_filter(conditions: &[(String, Node)]) -> Result<Filter, Problem> {
    let faults = RefCell::default();
    let filter = Filter::read(&Section::new("", 0, conditions, &faults));
    let faults = faults.into_inner();
    if faults.is_empty() {
        return Ok(filter);
    }
    let all: Vec<_> = faults.iter().map(|f| format!("`{}`: {}", f.key, f.problem)).collect();
    Err(bad(all.join("; ")))
}

/// The pairs of a query, decoded (WHATWG URL, application/x-www-form-urlencoded).
fn pairs(text: &str) -> Result<Vec<(String, String)>, Problem> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((decode(key)?, decode(value)?))
    });
    pairs.collect::<Option<_>>().ok_or_else(|| bad("the query is not URL-encoded UTF-8"))
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        rest = others;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = &rest[2..];
            }
            other => bytes.push(*other),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use holdfast_model::{Event, NewEvent, Timestamp};
    use holdfast_pipeline::filter::Verdict;

    use super::*;

    fn passes(query: &str, body: &str) -> bool {
        let filter = Query::read(query, Begin::Oldest).unwrap().filter;
        let event = Event::new(1, NewEvent::alert(body.to_owned()), "s".into(), Timestamp(0));
        filter.judge(&event) == Verdict::Passes
    }

    #[test]
    fn filters_mean_what_they_mean_in_the_configuration() {
        let alert = r#"{"rule":{"level":10,"id":"5763","groups":["sshd","pam"]},"agent":{"name":"web-01"}}"#;
        assert!(passes("", alert));
        assert!(passes("level=10&groups=sshd,web&rule_ids=5700-5799&agents=web-*", alert));
        assert!(passes("groups=web&groups=pam", alert));
        assert!(passes("agents=web%2D01", alert));
        assert!(!passes("level=11", alert));
        assert!(!passes("kind=operator", alert));
        assert!(!passes("not_groups=sshd", alert));
    }

    #[test]
    fn a_query_that_makes_no_sense_is_refused_with_its_key() {
        for (query, key) in [
            ("level=high", "level"),
            ("level=10&level=11", "level"),
            ("kind=alarm", "kind"),
            ("limit=0", "limit"),
            ("limit=1001", "limit"),
            ("wait=2m", "wait"),
            ("wait=soon", "wait"),
            ("start=now", "start"),
            ("cursor=!!", "cursor"),
            ("rule_ids=x", "rule_ids"),
            ("where=true", "where"),
            ("levle=1", "levle"),
            ("groups=%zz", "URL-encoded"),
        ] {
            let problem = format!("{:?}", Query::read(query, Begin::Oldest).unwrap_err());
            assert!(problem.contains(key), "{query}: {problem}");
        }
    }
}
