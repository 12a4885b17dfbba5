//! `queue export`: everything a stopped queue holds, as NDJSON, and nothing changed.
//!
//! One line an event of the log, then one a waiting retry with `"retry_of"`, then one a dead letter
//! with `"dead_letter_of"`. An event can stand in the log and behind it.

use std::{path::Path, sync::Arc};

use holdfast_model::{Kind, LogId, Timestamp};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    chunk,
    engine::{
        dead, keys,
        load::Damage,
        read,
        state::{State, all, join, scan},
        verify,
    },
    error::QueueError,
    record,
    store::Store,
    types::{DeadId, RetryRecord, StoredEvent},
};

/// Takes one line, without its end.
pub type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> std::io::Result<()>;

#[derive(Serialize)]
struct Line<'a> {
    id: String,
    seq: u64,
    kind: Kind,
    source: &'a str,
    received_at: Timestamp,
    parent: Option<String>,
    /// The event's body; a text when it is no JSON.
    #[serde(rename = "alert")]
    body: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_of: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letter_of: Option<&'a str>,
}

/// Prints everything.
pub fn export(store: Arc<dyn Store>, path: &Path, sink: Sink<'_>) -> Result<(), QueueError> {
    let unused = || LogId::from_random([0; 10]);
    let state = State::load(Arc::clone(&store), verify::no_limits(), unused, path, Damage::Report)?;
    let log = state.meta.log_id.clone();
    let mut next = read::first_chunk(&*store)?;
    while let Some(first) = next {
        let key = keys::chunk(first);
        let whole: Vec<u8> = all(&*store, &key)?.into_iter().flat_map(|(_, part)| part).collect();
        // `queue verify` names the damaged ones.
        for event in chunk::unpack(&key, first, &whole).unwrap_or_default() {
            if event.seq < state.meta.next_seq {
                write(sink, &log, &StoredEvent::of(&event), None, None)?;
            }
        }
        next = read::following(&*store, first)?.map(|(first, _)| first);
    }
    for (name, lane) in &state.lanes {
        for (id, retry) in &lane.retries {
            let key = keys::retry(name.as_str(), *id, retry.generation);
            let record: RetryRecord = record::open(&key, &join(&*store, &key, retry.parts)?)?;
            for member in &record.members {
                write(sink, &log, member, Some(name.as_str()), None)?;
            }
        }
    }
    let mut ids = Vec::new();
    scan(&*store, b"d", |key, _| {
        if key.last() == Some(&0)
            && let Some((owner, seq)) = keys::dead_id(key)
        {
            ids.push(DeadId { owner, seq });
        }
        std::ops::ControlFlow::Continue(())
    })?;
    for id in ids {
        if let Some(letter) = dead::load(&*store, &id)? {
            write(sink, &log, &letter.event, None, Some(&id.owner))?;
        }
    }
    Ok(())
}

fn write(
    sink: Sink<'_>,
    log: &LogId,
    event: &StoredEvent,
    retry_of: Option<&str>,
    dead_letter_of: Option<&str>,
) -> Result<(), QueueError> {
    let encode = |error| QueueError::io("write an event as JSON", std::io::Error::other(error));
    let text = String::from_utf8_lossy(&holdfast_model::alert::one_line(&event.body)).into_owned();
    let body = match RawValue::from_string(text.clone()) {
        Ok(body) => body,
        Err(_) => serde_json::value::to_raw_value(&text).map_err(encode)?,
    };
    let line = Line {
        id: log.event(event.seq).to_string(),
        seq: event.seq,
        kind: event.kind,
        source: &event.source,
        received_at: event.received_at,
        parent: event.parent.as_ref().map(ToString::to_string),
        body,
        retry_of,
        dead_letter_of,
    };
    let line = serde_json::to_vec(&line).map_err(encode)?;
    sink(&line).map_err(|error| QueueError::io("write the export", error))
}
