//! The settings that every lane has, whatever its destination.

mod keys;

use std::time::Duration;

use holdfast_model::{
    Action, Name,
    settings::{Section, Setting},
    units::{self, Rate},
};
use holdfast_queue::Start;

pub use self::keys::{BATCH_SETTINGS, BREAKER_SETTINGS, RETRY_SETTINGS, SETTINGS, STORM_SETTINGS};
use self::keys::{
    BY, CANARY, CONCURRENCY, ENRICH, ENRICH_WAIT, EXPRESS_LEVEL, FAILURES, FOLLOW, FORMAT,
    IN_DOUBT, INITIAL, LOOPS, MAX, MAX_AGE, MAX_BACKLOG, MAX_BYTES, MAX_EVENTS, MAX_PENDING,
    MAX_WAIT, ON_OVERFLOW, ORDER, ORDER_KEY, POISON_LIMIT, RATE, RATIO, RENAMED_FROM,
    SERVER_WAIT_MAX, START, STORM_WINDOW, TIMEOUT, WINDOW,
};
use crate::{
    breaker::BreakerSettings,
    fields::Path,
    filter::{self, Filter},
    order::Order,
    storm::{Rest, StormSettings},
};

/// Fields that storm control goes by, at most.
const STORM_FIELDS_MAX: usize = 8;

/// Lookups that one destination asks, at most.
const ENRICH_MAX: usize = 8;

/// What becomes of alerts that came of an injected event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loops {
    Refuse,
    Allow,
}

/// What a lane does that holds back more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnOverflow {
    Block,
    Expire,
}

/// How much of the log a lane may hold back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxBacklog {
    Percent(u8),
    Bytes(u64),
}

impl MaxBacklog {
    /// In bytes, of a log that may have `bytes_max`.
    pub fn bytes(self, bytes_max: u64) -> u64 {
        match self {
            Self::Percent(percent) => bytes_max / 100 * u64::from(percent),
            Self::Bytes(bytes) => bytes,
        }
    }
}

fn read_max_backlog(section: &Section<'_>) -> MaxBacklog {
    const BYTES: std::ops::RangeInclusive<u64> = 64 << 10..=1024 << 40;
    let text = section.text(&MAX_BACKLOG).unwrap_or("50%");
    let read = match text.strip_suffix('%') {
        Some(number) => {
            number.trim().parse().ok().filter(|n| (1..=100).contains(n)).map(MaxBacklog::Percent)
        }
        None => units::parse_size(text)
            .ok()
            .filter(|bytes| BYTES.contains(bytes))
            .map(MaxBacklog::Bytes),
    };
    if read.is_none() {
        let expected = "is not a share like \"50%\" (1% to 100%) or a size of 64KiB to 1024TiB";
        section.fault(MAX_BACKLOG.name, format!("\"{text}\" {expected}"));
    }
    read.unwrap_or(MaxBacklog::Percent(50))
}

fn read_canary(section: &Section<'_>) -> Option<Duration> {
    section.node(CANARY.name)?;
    Some(section.duration(&CANARY, secs(1)..=secs(7 * 86_400)))
}

fn read_enrich(section: &Section<'_>) -> Vec<Name> {
    let mut names: Vec<Name> = Vec::new();
    for text in section.texts(&ENRICH).unwrap_or_default() {
        match Name::new(&text) {
            Ok(name) if names.contains(&name) => {
                section.fault(ENRICH.name, format!("\"{text}\" stands there twice"));
            }
            Ok(name) => names.push(name),
            Err(error) => {
                section.fault(ENRICH.name, format!("\"{text}\" is no destination's name: {error}"));
            }
        }
    }
    if names.len() > ENRICH_MAX {
        let count = names.len();
        section.fault(
            ENRICH.name,
            format!("it names {count} lookups, but at most {ENRICH_MAX} may be"),
        );
    }
    names
}

fn read_loops(section: &Section<'_>) -> Option<Loops> {
    section.node(LOOPS.name)?;
    Some(match section.word(&LOOPS, &["refuse", "allow"]) {
        "allow" => Loops::Allow,
        _ => Loops::Refuse,
    })
}

fn read_renamed_from(section: &Section<'_>) -> Option<Name> {
    let text = section.text(&RENAMED_FROM)?;
    match Name::new(text) {
        Ok(name) => Some(name),
        Err(error) => {
            section.fault(RENAMED_FROM.name, format!("\"{text}\" does not fit: {error}"));
            None
        }
    }
}

pub const WHEN_SETTINGS: &[&Setting] = filter::SETTINGS;

/// What becomes of an event that was sent and never answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InDoubt {
    Resend,
    DeadLetter,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchSettings {
    pub events_max: usize,
    pub bytes_max: usize,
    pub wait_max: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetrySettings {
    pub initial: Duration,
    pub max: Duration,
    pub age_max: Duration,
    pub server_wait_max: Duration,
    pub pending_max: u64,
}

/// How one lane works.
#[derive(Clone, Debug, PartialEq)]
pub struct LaneSettings {
    pub filter: Filter,
    pub rate: Option<Rate>,
    pub concurrency: u32,
    pub timeout: Duration,
    pub in_doubt: InDoubt,
    pub start: Start,
    pub poison_limit: u32,
    pub batch: BatchSettings,
    /// `batch.format`, which the destination reads.
    pub batch_format: &'static str,
    pub retry: RetrySettings,
    pub breaker: BreakerSettings,
    pub order: Order,
    /// Events at or above it have a position of their own.
    pub express_level: Option<u16>,
    pub storm: Option<StormSettings>,
    pub max_backlog: MaxBacklog,
    pub on_overflow: OnOverflow,
    pub canary: Option<Duration>,
    pub renamed_from: Option<Name>,
    /// The lookups that are asked before an event is sent.
    pub enrich: Vec<Name>,
    pub enrich_wait: Duration,
    /// `None`: as the destination's type has it.
    pub loops: Option<Loops>,
}

impl RetrySettings {
    /// The longest that an event can have to wait for its next try.
    pub fn wait_max(&self) -> Duration {
        self.max.max(self.server_wait_max)
    }
}

impl LaneSettings {
    /// Reads the common keys of a destination's table. The caller finishes the section after the
    /// destination has read its own.
    pub fn read(section: &Section<'_>) -> Self {
        let none = Vec::new();
        let faults = std::cell::RefCell::default();
        let empty = || Section::new("", 0, &none, &faults);
        let batch = section.table("batch").unwrap_or_else(empty);
        let retry = section.table("retry").unwrap_or_else(empty);
        let breaker = section.table("breaker").unwrap_or_else(empty);
        let (order, express_level) = read_order(section);
        let settings = Self {
            order,
            express_level,
            storm: read_storm(section),
            filter: section
                .table("when")
                .map(|when| Filter::read(&when))
                .unwrap_or_default()
                .following(read_follow(section)),
            rate: section.rate(&RATE),
            concurrency: section.count(&CONCURRENCY, 1..=1024),
            timeout: section.duration(&TIMEOUT, ms(10)..=secs(600)),
            in_doubt: match section.word(&IN_DOUBT, &["resend", "dead_letter"]) {
                "dead_letter" => InDoubt::DeadLetter,
                _ => InDoubt::Resend,
            },
            start: match section.word(&START, &["new", "all"]) {
                "all" => Start::All,
                _ => Start::New,
            },
            poison_limit: section.count(&POISON_LIMIT, 2..=1000),
            batch: BatchSettings {
                events_max: batch.count(&MAX_EVENTS, 1..=10_000) as usize,
                bytes_max: batch.size(&MAX_BYTES, 1024..=64 << 20) as usize,
                wait_max: batch.duration(&MAX_WAIT, Duration::ZERO..=secs(600)),
            },
            batch_format: batch.word(&FORMAT, &["ndjson", "array", "envelope"]),
            retry: read_retry(&retry),
            breaker: BreakerSettings {
                failures: breaker.count(&FAILURES, 1..=1000),
                ratio: breaker.float(&RATIO, 0.01..=1.0),
                window: breaker.duration(&WINDOW, secs(1)..=secs(3600)),
            },
            max_backlog: read_max_backlog(section),
            on_overflow: match section.word(&ON_OVERFLOW, &["block", "expire"]) {
                "expire" => OnOverflow::Expire,
                _ => OnOverflow::Block,
            },
            canary: read_canary(section),
            renamed_from: read_renamed_from(section),
            enrich: read_enrich(section),
            enrich_wait: section.duration(&ENRICH_WAIT, ms(100)..=secs(60)),
            loops: read_loops(section),
        };
        batch.finish();
        retry.finish();
        breaker.finish();
        settings
    }

    /// Events that may be in flight, so in doubt after a crash.
    pub fn in_flight_max(&self) -> usize {
        self.concurrency as usize * self.batch.events_max
    }
}

impl Default for LaneSettings {
    fn default() -> Self {
        let (none, faults) = (Vec::new(), std::cell::RefCell::default());
        Self::read(&Section::new("", 0, &none, &faults))
    }
}

fn read_follow(section: &Section<'_>) -> Vec<Action> {
    let texts = section.texts(&FOLLOW).unwrap_or_default();
    let allowed = || Action::ALL.into_iter().filter(|action| *action != Action::ActionRequested);
    let read = |text: &String| {
        let found = allowed().find(|action| action.as_str() == *text);
        if found.is_none() {
            let words: Vec<_> = allowed().map(Action::as_str).collect();
            section.fault(FOLLOW.name, format!("\"{text}\" is none of {}", words.join(", ")));
        }
        found
    };
    texts.iter().filter_map(read).collect()
}

fn read_order(section: &Section<'_>) -> (Order, Option<u16>) {
    let word = section.word(&ORDER, &["none", "strict", "key"]);
    let path = section.text(&ORDER_KEY).unwrap_or("agent.id");
    let Some(path) = Path::new(path) else {
        section.fault(ORDER_KEY.name, format!("\"{path}\" is not a field like agent.id"));
        return (Order::None, None);
    };
    let order = match word {
        "strict" => Order::Strict,
        "key" => Order::Key(path),
        _ => Order::None,
    };
    if section.has(ORDER_KEY.name) && word != "key" {
        section.fault(ORDER_KEY.name, "leave out, or set `order = \"key\"`");
    }
    let express = section.integer(&EXPRESS_LEVEL, 0..=16);
    if express.is_some() && order == Order::Strict {
        let problem = "an express event overtakes others, which `order = \"strict\"` forbids";
        section.fault(EXPRESS_LEVEL.name, problem);
    }
    (order, express.map(|level| level as u16))
}

fn read_storm(section: &Section<'_>) -> Option<StormSettings> {
    let tables = [("digest", Rest::Summary), ("dedup", Rest::Nothing)];
    let mut found = None;
    for (name, rest) in tables {
        let Some(table) = section.table(name) else { continue };
        let texts = table.texts(&BY).unwrap_or_else(|| vec!["rule.id".into(), "agent.id".into()]);
        let path = |text: &String| {
            let path = Path::new(text);
            if path.is_none() {
                table.fault(BY.name, format!("\"{text}\" is not a field like rule.id"));
            }
            path
        };
        let by: Vec<Path> = texts.iter().filter_map(path).collect();
        if texts.is_empty() || texts.len() > STORM_FIELDS_MAX {
            table.fault(BY.name, format!("it names 1 to {STORM_FIELDS_MAX} fields"));
        }
        let window = table.duration(&STORM_WINDOW, secs(1)..=secs(7 * 86_400));
        table.finish();
        if found.is_some() {
            section.fault(name, "give either `digest` or `dedup`, not both");
        }
        found = Some(StormSettings { rest, by, window });
    }
    found
}

fn read_retry(retry: &Section<'_>) -> RetrySettings {
    let day = secs(86_400);
    let settings = RetrySettings {
        initial: retry.duration(&INITIAL, ms(1)..=secs(3600)),
        max: retry.duration(&MAX, ms(1)..=day),
        age_max: retry.duration(&MAX_AGE, secs(1)..=day * 3650),
        server_wait_max: retry.duration(&SERVER_WAIT_MAX, secs(1)..=day * 30),
        pending_max: u64::from(retry.count(&MAX_PENDING, 1..=1_000_000)),
    };
    if settings.initial > settings.max {
        retry.fault(INITIAL.name, "it is longer than `max`");
    }
    settings
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_manual() {
        let settings = LaneSettings::default();
        assert_eq!(settings.concurrency, 8);
        assert_eq!(settings.retry.max, secs(300));
        assert_eq!(settings.retry.age_max, secs(72 * 3600));
        assert_eq!(settings.retry.pending_max, 10_000);
        assert_eq!(settings.breaker.failures, 5);
        assert_eq!(settings.in_flight_max(), 8);
    }
}
