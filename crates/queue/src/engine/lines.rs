//! The lines of an export, as they are written and read.
//!
//! ```text
//! queue         the log's name, its head and its counts
//! event, lost   the log in order; `lost` stands for events whose bytes were damaged
//! retry         a record that waits for another try, whole
//! dead_letter   a dead letter, whole
//! lane          a lane's position, counters and state
//! raw           small records that people need not read: positions of sources, jobs, audit …
//! end           how many lines there were, so that a file that is cut short is noticed
//! ```

use std::borrow::Cow;

use bytes::Bytes;
use holdfast_model::{Kind, Timestamp};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    engine::{lane::LaneRecord, state::Meta},
    types::{DeadLetter, RetryRecord},
};

/// What the first line says.
pub(crate) const FORMAT: &str = "holdfast-export 1";

/// Letters of records that have lines of their own, or belong to one store alone; the rest is raw.
pub(crate) const NOT_RAW: &[u8] = b"\0fmtlrbdyz";

/// One line.
#[derive(Serialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub(crate) enum Line {
    Queue(QueueLine),
    Event(EventLine),
    Lost(LostLine),
    Retry(RetryLine),
    DeadLetter(DeadLine),
    Lane(LaneLine),
    Raw(RawLine),
    End(EndLine),
}

#[derive(Serialize, Deserialize)]
pub(crate) struct QueueLine {
    pub(crate) format: String,
    /// Of the store, which raw records have.
    pub(crate) layout: String,
    pub(crate) queue: Meta,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct EventLine {
    pub(crate) id: String,
    pub(crate) seq: u64,
    pub(crate) kind: Kind,
    pub(crate) source: String,
    pub(crate) received_at: Timestamp,
    pub(crate) parent: Option<String>,
    /// An object; a text with base64 when it is none.
    #[serde(with = "crate::types::body")]
    pub(crate) alert: Bytes,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct LostLine {
    pub(crate) seq: u64,
    pub(crate) count: u64,
    pub(crate) received_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct RetryLine {
    pub(crate) retry_of: String,
    pub(crate) retry: RetryRecord,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct DeadLine {
    pub(crate) dead_letter_of: String,
    pub(crate) id: String,
    pub(crate) dead_letter: DeadLetter,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct LaneLine {
    pub(crate) lane: String,
    pub(crate) is: LaneRecord,
}

/// Key and value in base64.
#[derive(Serialize, Deserialize)]
pub(crate) struct RawLine {
    pub(crate) key: String,
    pub(crate) value: String,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct EndLine {
    /// With this one.
    pub(crate) lines: u64,
    /// Records that could not be read, so are not in the export.
    pub(crate) damaged: u64,
}

/// What is wrong with a line, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) field: String,
    pub(crate) problem: String,
}

impl Wrong {
    pub(crate) fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

#[derive(Deserialize)]
struct Tag<'a> {
    #[serde(borrow)]
    record: Cow<'a, str>,
}

impl Line {
    /// Reads a line; names the field that does not read.
    pub(crate) fn read(text: &[u8]) -> Result<Self, Wrong> {
        let tag: Tag<'_> = serde_json::from_slice(text).map_err(|error| {
            let found = if error.is_data() { "record" } else { "" };
            Wrong::new(found, error.to_string())
        })?;
        Ok(match &*tag.record {
            "queue" => Self::Queue(read(text)?),
            "event" => Self::Event(read(text)?),
            "lost" => Self::Lost(read(text)?),
            "retry" => Self::Retry(read(text)?),
            "dead_letter" => Self::DeadLetter(read(text)?),
            "lane" => Self::Lane(read(text)?),
            "raw" => Self::Raw(read(text)?),
            "end" => Self::End(read(text)?),
            other => return Err(Wrong::new("record", format!("\"{other}\" is not known"))),
        })
    }

    /// Lines come in the order of these.
    pub(crate) fn rank(&self) -> u8 {
        match self {
            Self::Queue(_) => 0,
            Self::Event(_) | Self::Lost(_) => 1,
            Self::Retry(_) => 2,
            Self::DeadLetter(_) => 3,
            Self::Lane(_) => 4,
            Self::Raw(_) => 5,
            Self::End(_) => 6,
        }
    }
}

fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, Wrong> {
    let mut json = serde_json::Deserializer::from_slice(text);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let field = error.path().to_string();
        // A missing one is named by the problem.
        let field = if field == "." { String::new() } else { field };
        Wrong { field, problem: error.into_inner().to_string() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> Wrong {
        match Line::read(text.as_bytes()) {
            Err(wrong) => wrong,
            Ok(_) => panic!("it reads: {text}"),
        }
    }

    #[test]
    fn a_line_that_does_not_read_names_its_field() {
        assert_eq!(wrong("{").field, "");
        assert_eq!(wrong("{\"id\":1}").field, "record");
        assert_eq!(wrong("{\"record\":\"alarm\"}").field, "record");
        let event = |seq: &str, received: &str| {
            format!(
                "{{\"record\":\"event\",\"id\":\"x\",\"seq\":{seq},\"kind\":\"alert\",\"source\":\
                 \"s\",\"received_at\":\"{received}\",\"parent\":null,\"alert\":{{}}}}"
            )
        };
        assert!(Line::read(event("1", "2026-03-10T12:00:00Z").as_bytes()).is_ok());
        assert_eq!(wrong(&event("\"1\"", "2026-03-10T12:00:00Z")).field, "seq");
        assert_eq!(wrong(&event("1", "noon")).field, "received_at");
        let missing = wrong("{\"record\":\"lost\",\"seq\":1,\"count\":1}");
        assert!(missing.problem.contains("received_at"), "{missing:?}");
        let retry =
            "{\"record\":\"retry\",\"retry_of\":\"a\",\"retry\":{\"members\":[{\"seq\":true}]}}";
        assert_eq!(wrong(retry).field, "retry.members[0].seq");
    }
}
