//! Alerts as a busy manager writes them: the shipped samples, each time with another time, id,
//! agent, source address and port, so that they compress about as well as real ones.
//!
//! The number of an alert stands in its `id` after the dot; [`numbers`] finds it again.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use memchr::memmem;

const SAMPLES: &str = include_str!("../data/alerts.ndjson");
const ID_PREFIX: &str = r#""manager":{"name":"wazuh-server"},"id":""#;
const EPOCH: u64 = 1_773_122_537;
const ALERTS_PER_SECOND: u64 = 1000;
const AGENTS: u64 = 200;
const HOSTS: [&str; 5] = ["web", "db", "win-fs", "docker-host-", "bastion"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Timestamp,
    SyslogTime,
    Id,
    AgentId,
    AgentName,
    AgentIp,
    FiredTimes,
    SourceIp,
    SourcePort,
}

/// The object a value is in, what stands before it and what ends it, and whether it is replaced
/// wherever it stands.
const FIELDS: [(&str, &str, &str, Field, bool); 9] = [
    ("", r#"{"timestamp":""#, "\"", Field::Timestamp, false),
    (r#""predecoder":{"#, r#""timestamp":""#, "\"", Field::SyslogTime, true),
    ("", ID_PREFIX, "\"", Field::Id, true),
    ("", r#""agent":{"id":""#, "\"", Field::AgentId, false),
    (r#""agent":{"#, r#","name":""#, "\"", Field::AgentName, true),
    (r#""agent":{"#, r#","ip":""#, "\"", Field::AgentIp, true),
    ("", r#""firedtimes":"#, ",", Field::FiredTimes, false),
    ("", r#""srcip":""#, "\"", Field::SourceIp, true),
    ("", r#""srcport":""#, "\"", Field::SourcePort, true),
];

enum Part {
    Text(String),
    Value(Field),
}

/// See the module header.
pub(crate) struct Alerts {
    templates: Vec<Vec<Part>>,
}

impl Alerts {
    pub(crate) fn new() -> Self {
        Self { templates: SAMPLES.lines().map(template).collect() }
    }

    /// Appends one alert and its line break.
    pub(crate) fn write(&self, number: u64, out: &mut Vec<u8>) {
        let dice = dice(number);
        let template = &self.templates[(dice % self.templates.len() as u64) as usize];
        for part in template {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Value(field) => {
                    // Nothing can fail: `out` is memory.
                    field.write(number, dice, out).ok();
                }
            }
        }
        out.push(b'\n');
    }

    /// A file of the alerts `0..count`; returns its length.
    pub(crate) fn write_file(&self, path: &Path, count: u64) -> io::Result<u64> {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        let (mut line, mut bytes) = (Vec::new(), 0);
        for number in 0..count {
            line.clear();
            self.write(number, &mut line);
            file.write_all(&line)?;
            bytes += line.len() as u64;
        }
        file.into_inner()?.sync_data()?;
        Ok(bytes)
    }
}

impl Field {
    fn write(self, number: u64, dice: u64, out: &mut Vec<u8>) -> io::Result<()> {
        let agent = dice / 64 % AGENTS;
        let seconds = EPOCH + number / ALERTS_PER_SECOND;
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        match self {
            Self::Timestamp => {
                let ms = number % ALERTS_PER_SECOND;
                write!(out, "2026-03-10T{hour:02}:{minute:02}:{second:02}.{ms:03}+0000")
            }
            Self::SyslogTime => write!(out, "Mar 10 {hour:02}:{minute:02}:{second:02}"),
            Self::Id => write!(out, "{seconds}.{number}"),
            Self::AgentId => write!(out, "{agent:03}"),
            Self::AgentName => write!(out, "{}{agent:03}", HOSTS[agent as usize % HOSTS.len()]),
            Self::AgentIp => write!(out, "10.20.{}.{}", agent / 50, agent % 50 + 1),
            Self::FiredTimes => write!(out, "{}", dice / 16384 % 40 + 1),
            Self::SourceIp => {
                let host = dice >> 20;
                write!(out, "203.{}.113.{}", host % 64, host / 64 % 254 + 1)
            }
            Self::SourcePort => write!(out, "{}", 1024 + (dice >> 40) % 64_000),
        }
    }
}

/// Cuts a sample at the values that vary.
fn template(sample: &str) -> Vec<Part> {
    let mut cuts: Vec<(usize, usize, Field)> = Vec::new();
    for (object, prefix, end, field, everywhere) in FIELDS {
        let Some((start, value)) = find(sample, object, prefix, end) else { continue };
        // The manager's own alerts keep its name: `ID_PREFIX` holds it.
        if value == "wazuh-server" {
            continue;
        }
        // A short value stands for other things elsewhere.
        if everywhere && value.len() > 4 {
            let found = sample.match_indices(value);
            cuts.extend(found.map(|(at, value)| (at, at + value.len(), field)));
        } else {
            cuts.push((start, start + value.len(), field));
        }
    }
    cuts.sort_unstable_by_key(|cut| (cut.0, usize::MAX - cut.1));
    let (mut parts, mut done) = (Vec::new(), 0);
    for (start, end, field) in cuts {
        if start < done {
            continue;
        }
        parts.push(Part::Text(sample[done..start].to_owned()));
        parts.push(Part::Value(field));
        done = end;
    }
    parts.push(Part::Text(sample[done..].to_owned()));
    parts
}

fn find<'a>(sample: &'a str, object: &str, prefix: &str, end: &str) -> Option<(usize, &'a str)> {
    let from = sample.find(object)?;
    let start = from + sample[from..].find(prefix)? + prefix.len();
    let length = sample[start..].find(end)?;
    Some((start, &sample[start..start + length]))
}

/// The numbers of all alerts in a body.
pub(crate) fn numbers(body: &[u8]) -> impl Iterator<Item = u64> {
    let finder = memmem::find_iter(body, ID_PREFIX);
    finder.filter_map(|at| {
        let id = &body[at + ID_PREFIX.len()..];
        let dot = memchr::memchr(b'.', &id[..id.len().min(24)])?;
        let digits = id[dot + 1..].iter().take_while(|byte| byte.is_ascii_digit());
        Some(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
    })
}

/// splitmix64: the same alerts in every run.
fn dice(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
