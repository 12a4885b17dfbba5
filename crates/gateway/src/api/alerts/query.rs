//! What a reader asks for: where, how much, and which events.

use std::{cell::RefCell, time::Duration};

use holdfast_model::{
    Seq, Timestamp,
    settings::{Node, Section, Value},
    units,
};
use holdfast_pipeline::{Path, filter::Filter, settings::WHEN_SETTINGS};

use crate::api::{
    event,
    problem::{Kind, Problem},
};

pub(in crate::api) const LIMIT_DEFAULT: usize = 100;
pub(in crate::api) const LIMIT_MAX: usize = 1_000;
const WAIT_MAX: Duration = Duration::from_secs(60);
const QUERY_BYTES_MAX: usize = 8 * 1024;
/// Most paths of `fields`.
const FIELDS_MAX: usize = 64;

/// Where reading begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::api) enum Begin {
    Oldest,
    Newest,
    /// With the first event that was received then, or later.
    At(Timestamp),
    /// The log's name, and the number behind which it goes on.
    Behind(String, Seq),
}

#[derive(Debug)]
pub(in crate::api) struct Query {
    pub(in crate::api) begin: Begin,
    pub(in crate::api) limit: usize,
    pub(in crate::api) wait: Duration,
    pub(in crate::api) filter: Filter,
    /// What of the body is given; all of it when empty.
    pub(in crate::api) fields: Vec<Path>,
    /// Where the asked time ends.
    pub(in crate::api) until: Option<Timestamp>,
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(Kind::BadRequest, detail)
}

impl Query {
    pub(in crate::api) fn read(text: &str, begin: Begin) -> Result<Self, Problem> {
        if text.len() > QUERY_BYTES_MAX {
            return Err(bad(format!("the query is longer than {QUERY_BYTES_MAX} bytes")));
        }
        let mut query = Self {
            begin,
            limit: LIMIT_DEFAULT,
            wait: Duration::ZERO,
            filter: Filter::default(),
            fields: Vec::new(),
            until: None,
        };
        let (mut cursor, mut since) = (None, None);
        let mut conditions: Vec<(String, Node)> = Vec::new();
        for (key, value) in pairs(text)? {
            match key.as_str() {
                "cursor" => cursor = Some(read_cursor(&value)?),
                "start" => query.begin = read_start(&value)?,
                "since" => since = Some(read_time("since", &value)?),
                "until" => query.until = Some(read_time("until", &value)?),
                "limit" => query.limit = read_limit(&value)?,
                "wait" => query.wait = read_wait(&value)?,
                "fields" => read_fields(&mut query.fields, &value)?,
                _ => add_condition(&mut conditions, key, &value)?,
            }
        }
        query.filter = read_filter(&conditions)?.received(since, query.until);
        query.begin = cursor.or(since.map(Begin::At)).unwrap_or(query.begin);
        Ok(query)
    }
}

pub(in crate::api) fn read_limit(value: &str) -> Result<usize, Problem> {
    match value.parse() {
        Ok(limit @ 1..=LIMIT_MAX) => Ok(limit),
        _ => Err(bad(format!("`limit`: \"{value}\" is not within 1 to {LIMIT_MAX}"))),
    }
}

pub(in crate::api) fn read_wait(value: &str) -> Result<Duration, Problem> {
    match units::parse_duration(value) {
        Ok(wait) if wait <= WAIT_MAX => Ok(wait),
        _ => Err(bad(format!("`wait`: \"{value}\" is not within 0s to 60s"))),
    }
}

/// Adds paths, with commas between them.
pub(in crate::api) fn read_fields(fields: &mut Vec<Path>, value: &str) -> Result<(), Problem> {
    for path in value.split(',').map(str::trim) {
        let path = Path::new(path)
            .ok_or_else(|| bad(format!("`fields`: \"{path}\" is no path like rule.id")))?;
        fields.push(path);
    }
    if fields.len() > FIELDS_MAX {
        return Err(bad(format!("`fields`: there are more than {FIELDS_MAX}")));
    }
    Ok(())
}

pub(in crate::api) fn read_time(key: &str, value: &str) -> Result<Timestamp, Problem> {
    Timestamp::parse(value)
        .ok_or_else(|| bad(format!("`{key}` is \"{value}\", but must be an RFC 3339 time")))
}

pub(in crate::api) fn read_start(value: &str) -> Result<Begin, Problem> {
    match value {
        "oldest" => Ok(Begin::Oldest),
        "newest" => Ok(Begin::Newest),
        _ => Err(bad(format!("`start`: \"{value}\" is not \"oldest\" or \"newest\""))),
    }
}

pub(in crate::api) fn read_cursor(cursor: &str) -> Result<Begin, Problem> {
    let id = event::read_cursor(cursor).map_err(|problem| bad(format!("`cursor`: {problem}")))?;
    Ok(Begin::Behind(id.log.as_str().to_owned(), id.seq))
}

/// Adds what a key says; a key that is given twice, or has commas, is a list.
fn add_condition(
    conditions: &mut Vec<(String, Node)>,
    key: String,
    value: &str,
) -> Result<(), Problem> {
    let known = |name: &str| WHEN_SETTINGS.iter().any(|s| s.name == name);
    if !known(&key) {
        let names: Vec<_> =
            WHEN_SETTINGS.iter().map(|s| s.name).filter(|name| known(name)).collect();
        let names = names.join(", ");
        return Err(bad(format!(
            "`{key}` is not known; there are cursor, start, since, until, limit, wait, fields, {names}"
        )));
    }
    let text = |text: &str| Node { line: 0, value: Value::Text(text.to_owned()) };
    let node = match key.as_str() {
        "level" | "level_max" => match value.parse() {
            Ok(number) => Node { line: 0, value: Value::Integer(number) },
            Err(_) => text(value),
        },
        "location" | "not_location" | "where" => text(value),
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
pub(in crate::api) fn pairs(text: &str) -> Result<Vec<(String, String)>, Problem> {
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
        assert!(passes("where=alert.rule.level%3E9", alert));
        assert!(!passes("where=alert.rule.level%3E10", alert));
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
            ("where=alert.", "where"),
            ("since=noon", "since"),
            ("until=1", "until"),
            ("fields=a..b", "fields"),
            ("levle=1", "levle"),
            ("groups=%zz", "URL-encoded"),
        ] {
            let problem = format!("{:?}", Query::read(query, Begin::Oldest).unwrap_err());
            assert!(problem.contains(key), "{query}: {problem}");
        }
    }
}
