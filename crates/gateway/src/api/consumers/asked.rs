//! What is asked of consumers, and what is wrong with it.

use std::time::Duration;

use holdfast_model::{EventId, Name, Seq, Timestamp, units};
use holdfast_queue::{ConsumerRecord, IN_HAND_MAX, QueueEngine};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::api::{
    Api,
    alerts::{
        Begin, Failure, place,
        query::{read_cursor, read_start, read_time},
    },
    problem::{Kind, Problem},
};

const ACK_WAIT_DEFAULT: Duration = Duration::from_secs(30);
const ACK_WAIT_MIN: Duration = Duration::from_millis(100);
const ACK_WAIT_MAX: Duration = Duration::from_secs(12 * 3_600);
/// Conditions, as JSON, in bytes.
const WHEN_BYTES_MAX: usize = 4 * 1024;

/// A named reader
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ConsumerRequest, example = json!({"when": {"level": 10}, "max_in_flight": 500,
    "ack_wait": "30s", "start": "newest"}))]
pub(crate) struct Put {
    /// The keys of `when`, as in the configuration.
    #[serde(default)]
    #[schema(value_type = Object, required = false)]
    pub(super) when: Map<String, Value>,
    /// How many may be handed out and not acknowledged, 1 to 1000; 1000.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1000)]
    pub(super) max_in_flight: Option<u32>,
    /// After so long without an acknowledgement an event is handed out again, 100ms to 12h; 30s.
    #[serde(default)]
    pub(super) ack_wait: Option<String>,
    /// Retention waits for it, within `queue.max_size`. Needs the role admin.
    #[serde(default)]
    pub(super) hold: bool,
    /// Where a new one begins: `oldest`, which it does unless told otherwise, or `newest`.
    #[serde(default)]
    #[schema(pattern = "^(oldest|newest)$")]
    pub(super) start: Option<String>,
    /// A new one begins behind this cursor.
    #[serde(default)]
    pub(super) cursor: Option<String>,
    /// A new one begins with what was received then or later.
    #[serde(default)]
    #[schema(format = DateTime)]
    pub(super) since: Option<String>,
}

/// Where to go on: one of these
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ConsumerSeek, example = json!({"start": "oldest"}))]
pub(crate) struct Seek {
    /// `oldest` or `newest`.
    #[serde(default)]
    #[schema(pattern = "^(oldest|newest)$")]
    pub(super) start: Option<String>,
    /// Behind this cursor.
    #[serde(default)]
    pub(super) cursor: Option<String>,
    /// With what was received then or later.
    #[serde(default)]
    #[schema(format = DateTime)]
    pub(super) since: Option<String>,
}

/// What is done: single events, or all up to a place
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ConsumerAck, example = json!({"ids": ["k3v9x0aq2m-42"]}))]
pub(crate) struct Ack {
    /// Events' ids, at most 1000.
    #[serde(default)]
    pub(super) ids: Option<Vec<String>>,
    /// A cursor: everything up to it is done, whoever has it.
    #[serde(default)]
    pub(super) up_to: Option<String>,
}

/// What is given back
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ConsumerNack, example = json!({"ids": ["k3v9x0aq2m-42"], "delay": "10s"}))]
pub(crate) struct Nack {
    /// Events' ids, at most 1000.
    #[serde(default)]
    pub(super) ids: Option<Vec<String>>,
    /// When they come again, up to 12h; at once.
    #[serde(default)]
    pub(super) delay: Option<String>,
}

pub(super) fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(Kind::BadRequest, detail)
}

/// A place that is named in one way, at most.
pub(super) fn begin(
    start: Option<&str>,
    cursor: Option<&str>,
    since: Option<&str>,
) -> Result<Option<Begin>, Problem> {
    match (start, cursor, since) {
        (None, None, None) => Ok(None),
        (Some(start), None, None) => read_start(start).map(Some),
        (None, Some(cursor), None) => read_cursor(cursor).map(Some),
        (None, None, Some(since)) => Ok(Some(Begin::At(read_time("since", since)?))),
        _ => Err(bad("give one of `start`, `cursor` and `since`")),
    }
}

/// The numbers of events that the log has, or had.
pub(super) fn seqs(api: &Api, ids: &[String]) -> Result<Vec<Seq>, Problem> {
    if ids.len() > IN_HAND_MAX {
        return Err(bad(format!("`ids`: there are more than {IN_HAND_MAX}")));
    }
    let head = *api.engine.head().borrow();
    let read = |text: &String| match text.parse::<EventId>() {
        Ok(id) if id.log == *api.engine.log_id() && (1..head).contains(&id.seq) => Ok(id.seq),
        _ => Err(bad(format!("`ids`: \"{text}\" is no event of this log"))),
    };
    ids.iter().map(read).collect()
}

pub(super) fn delay(text: Option<&str>) -> Result<Duration, Problem> {
    match text.map(units::parse_duration) {
        None => Ok(Duration::ZERO),
        Some(Ok(delay)) if delay <= ACK_WAIT_MAX => Ok(delay),
        Some(_) => Err(bad("`delay` must be a number with a unit, up to 12h")),
    }
}

impl Put {
    /// What is to be stored of a new one, which stands nowhere yet.
    pub(super) fn record(
        &self,
        name: Name,
        owner: String,
        created_at: Timestamp,
    ) -> Result<ConsumerRecord, Problem> {
        let max_in_flight = self.max_in_flight.unwrap_or(IN_HAND_MAX as u32);
        if !(1..=IN_HAND_MAX as u32).contains(&max_in_flight) {
            return Err(bad(format!("`max_in_flight` must be 1 to {IN_HAND_MAX}")));
        }
        let ack_wait = match self.ack_wait.as_deref().map(units::parse_duration) {
            None => ACK_WAIT_DEFAULT,
            Some(Ok(wait)) if (ACK_WAIT_MIN..=ACK_WAIT_MAX).contains(&wait) => wait,
            Some(_) => return Err(bad("`ack_wait` must be a number with a unit, 100ms to 12h")),
        };
        let when = Value::Object(self.when.clone()).to_string();
        if when.len() > WHEN_BYTES_MAX {
            return Err(bad(format!("`when` is longer than {WHEN_BYTES_MAX} bytes")));
        }
        Ok(ConsumerRecord {
            name,
            owner,
            created_at,
            when,
            max_in_flight,
            ack_wait_ms: u64::try_from(ack_wait.as_millis()).unwrap_or(u64::MAX),
            hold: self.hold,
            reach: 0,
            open: Vec::new(),
            ahead: Vec::new(),
        })
    }

    /// Where a new one begins.
    pub(super) async fn place(&self, api: &Api) -> Result<Seq, Failure> {
        let (start, cursor, since) = (&self.start, &self.cursor, &self.since);
        let begin = begin(start.as_deref(), cursor.as_deref(), since.as_deref())?;
        place(api, &begin.unwrap_or(Begin::Oldest)).await
    }
}
