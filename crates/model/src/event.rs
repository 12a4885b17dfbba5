use std::{
    fmt,
    str::FromStr,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{facets::Facets, time::Timestamp};

/// An event's place in the log. Rises; gaps are allowed.
pub type Seq = u64;

/// Length of a log's random name, in characters.
pub const LOG_ID_CHARS: usize = 10;

/// The random name a new queue draws once and keeps, so that a lost or re-created queue never
/// repeats an event id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LogId(Arc<str>);

/// `<log_id>-<seq>`: names one event for ever.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EventId {
    pub log: LogId,
    pub seq: Seq,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an event id: expected <log id>-<number>")]
pub struct BadEventId;

/// What an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// From Wazuh. Whatever comes through a source is this.
    Alert,
    /// What an intelligence service answered.
    Lookup,
    /// What a remote system told us.
    Callback,
    /// A marked test event.
    Canary,
    /// Holdfast about itself: a lane changed state, a job ended.
    Operator,
}

/// An event before the log has given it a place.
#[derive(Clone, Debug)]
pub struct NewEvent {
    pub kind: Kind,
    pub parent: Option<EventId>,
    /// The record exactly as it came, invalid UTF-8 included.
    pub body: Bytes,
}

/// One record of the log.
#[derive(Debug)]
pub struct Event {
    pub seq: Seq,
    pub kind: Kind,
    /// The name of the source that brought it in.
    pub source: Arc<str>,
    pub received_at: Timestamp,
    pub parent: Option<EventId>,
    pub body: Bytes,
    facets: OnceLock<Facets>,
}

// === impl LogId ===

impl LogId {
    /// Takes ten characters of `[a-z0-9]`.
    pub fn new(text: &str) -> Result<Self, BadEventId> {
        let clean = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if text.len() == LOG_ID_CHARS && clean { Ok(Self(text.into())) } else { Err(BadEventId) }
    }

    /// Builds a name from randomness the caller supplies.
    pub fn from_random(random: [u8; LOG_ID_CHARS]) -> Self {
        const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        let text: String = random.iter().map(|r| LETTERS[usize::from(*r) % 36] as char).collect();
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn event(&self, seq: Seq) -> EventId {
        EventId { log: self.clone(), seq }
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl EventId ===

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.log, self.seq)
    }
}

impl FromStr for EventId {
    type Err = BadEventId;

    fn from_str(text: &str) -> Result<Self, BadEventId> {
        let (log, seq) = text.split_once('-').ok_or(BadEventId)?;
        let canonical = !seq.starts_with('+') && (seq == "0" || !seq.starts_with('0'));
        let seq = seq.parse().ok().filter(|_| canonical).ok_or(BadEventId)?;
        Ok(Self { log: LogId::new(log)?, seq })
    }
}

// === impl Kind ===

impl Kind {
    pub const ALL: [Self; 5] =
        [Self::Alert, Self::Lookup, Self::Callback, Self::Canary, Self::Operator];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::Lookup => "lookup",
            Self::Callback => "callback",
            Self::Canary => "canary",
            Self::Operator => "operator",
        }
    }
}

// === impl NewEvent ===

impl NewEvent {
    pub fn alert(body: impl Into<Bytes>) -> Self {
        Self { kind: Kind::Alert, parent: None, body: body.into() }
    }
}

// === impl Event ===

impl Event {
    pub fn new(seq: Seq, new: NewEvent, source: Arc<str>, received_at: Timestamp) -> Self {
        let NewEvent { kind, parent, body } = new;
        Self { seq, kind, source, received_at, parent, body, facets: OnceLock::new() }
    }

    /// The fields that filters look at, read from the body once and shared by all lanes.
    pub fn facets(&self) -> &Facets {
        self.facets.get_or_init(|| Facets::read(&self.body))
    }
}

impl Clone for Event {
    fn clone(&self) -> Self {
        let new =
            NewEvent { kind: self.kind, parent: self.parent.clone(), body: self.body.clone() };
        Self::new(self.seq, new, Arc::clone(&self.source), self.received_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_id_reads_back_what_it_prints_and_nothing_else() {
        let id = LogId::from_random([1, 2, 3, 40, 50, 60, 70, 80, 90, 100]).event(42);
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in [
            "",
            "abc-1",
            "abcdefghij",
            "abcdefghij-",
            "abcdefghij-01",
            "abcdefghij-+1",
            "ABCDEFGHIJ-1",
        ] {
            assert_eq!(bad.parse::<EventId>(), Err(BadEventId), "{bad}");
        }
    }
}
