//! `queue export`: everything a stopped queue holds, as NDJSON, and nothing changed.
//!
//! `queue import` makes the same queue of it. One line a record, see `engine/lines.rs`; an event can stand
//! in the log and behind it, in a retry record or a dead letter. What is damaged is left out,
//! counted as lost where counts depend on it, and its bytes stay where they are.

use std::{ops::ControlFlow, path::Path, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use holdfast_model::{Event, Name, Seq, Timestamp};

use crate::{
    chunk::{self, Head},
    engine::{
        dead, keys,
        lines::{
            DeadLine, EndLine, EventLine, FORMAT, LaneLine, Line, LostLine, NOT_RAW, QueueLine,
            RawLine, RetryLine,
        },
        load::Damage,
        new_log_id, read,
        state::{Meta, State, join, scan},
        verify::{must_exist, no_limits},
    },
    error::QueueError,
    record,
    store::Store,
    types::{DeadId, RetryRecord},
};

/// Takes one line, without its end.
pub type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> std::io::Result<()>;

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    pub lines: u64,
    pub events: u64,
    /// Records that could not be read, so are not in the export.
    pub damaged: u64,
}

/// Writes everything.
pub fn export(store: Arc<dyn Store>, path: &Path, sink: Sink<'_>) -> Result<Exported, QueueError> {
    must_exist(&*store, path)?;
    let again = Arc::clone(&store);
    let mut state = State::load(again, no_limits(), new_log_id, path, Damage::Report)?;
    let damaged = state.damaged.len() as u64;
    let mut out = Out { sink, done: Exported { damaged, ..Exported::default() } };
    // Of the chunks as they lie there, which an import makes anew.
    let queue = Meta { chunk_bytes: 0, merged_to: 1, ..state.meta.clone() };
    let (format, layout) = (FORMAT.into(), keys::FORMAT_NAME.into());
    out.write(Line::Queue(QueueLine { format, layout, queue }))?;
    out.log(&state)?;
    out.retries(&state)?;
    let missing = out.dead_letters(&state)?;
    for (name, lane) in &mut state.lanes {
        // As the next start does with what it sets aside.
        lane.counters.purged +=
            missing.iter().filter(|owner| *owner == name.as_str()).count() as u64;
        let is = lane.to_record();
        out.write(Line::Lane(LaneLine { lane: name.to_string(), is }))?;
    }
    out.rest(&*store)?;
    let (lines, damaged) = (out.done.lines + 1, out.done.damaged);
    out.write(Line::End(EndLine { lines, damaged }))?;
    Ok(out.done)
}

struct Out<'a> {
    sink: Sink<'a>,
    done: Exported,
}

impl Out<'_> {
    fn write(&mut self, line: Line) -> Result<(), QueueError> {
        let line = serde_json::to_vec(&line)
            .map_err(|error| QueueError::io("write a record as JSON", error.into()))?;
        self.done.lines += 1;
        (self.sink)(&line).map_err(|error| QueueError::io("write the export", error))
    }

    fn log(&mut self, state: &State) -> Result<(), QueueError> {
        let store = &*state.store;
        let mut next = read::first_chunk(store)?;
        let mut before = state.meta.events_trimmed;
        let mut received = Timestamp(0);
        while let Some(first) = next {
            let following = read::following(store, first)?;
            let key = keys::chunk(first);
            let whole = read::whole_chunk(store, first)?;
            let head = Head::decode(&key, &whole).ok();
            received = head.map_or(received, |head| head.last_received);
            match chunk::unpack(&key, first, &whole) {
                Ok(events) => {
                    before += events.len() as u64;
                    events.iter().try_for_each(|event| self.event(state, event))?;
                }
                Err(_) => {
                    let count = match (head, &following) {
                        (Some(head), _) => u64::from(head.count),
                        // What the next one counts before it, or the log at its end.
                        (None, Some((next, value))) => Head::decode(&keys::chunk(*next), value)
                            .map_or(1, |next| next.events_before.saturating_sub(before)),
                        (None, None) => state.meta.events_total.saturating_sub(before),
                    };
                    before += count;
                    self.done.damaged += u64::from(!head.is_some_and(|head| head.is_tombstone()));
                    let lost = LostLine { seq: first, count, received_at: received };
                    self.write(Line::Lost(lost))?;
                }
            }
            next = following.map(|(first, _)| first);
        }
        Ok(())
    }

    fn event(&mut self, state: &State, event: &Event) -> Result<(), QueueError> {
        self.done.events += 1;
        self.write(Line::Event(EventLine {
            id: state.meta.log_id.event(event.seq).to_string(),
            seq: event.seq,
            kind: event.kind,
            source: event.source.to_string(),
            received_at: event.received_at,
            parent: event.parent.as_ref().map(ToString::to_string),
            alert: event.body.clone(),
        }))
    }

    fn retries(&mut self, state: &State) -> Result<(), QueueError> {
        for (name, lane) in &state.lanes {
            for (id, retry) in &lane.retries {
                let record = open_retry(state, name, *id, retry.generation, retry.parts)?;
                let retry_of = name.to_string();
                self.write(Line::Retry(RetryLine { retry_of, retry: record }))?;
            }
        }
        Ok(())
    }

    /// The owners of those that do not read, one each.
    fn dead_letters(&mut self, state: &State) -> Result<Vec<String>, QueueError> {
        let (mut ids, mut missing) = (Vec::new(), Vec::new());
        scan(&*state.store, b"d", |key, _| {
            if key.last() == Some(&0)
                && let Some((owner, seq)) = keys::dead_id(key)
            {
                ids.push(DeadId { owner, seq });
            }
            ControlFlow::Continue(())
        })?;
        for DeadId { owner, seq } in ids {
            let letter = match dead::load(&*state.store, &DeadId { owner: owner.clone(), seq }) {
                Ok(Some(letter)) => letter,
                Ok(None) | Err(QueueError::Corrupt { .. }) => {
                    self.done.damaged += 1;
                    missing.push(owner);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let id = state.meta.log_id.event(seq).to_string();
            self.write(Line::DeadLetter(DeadLine {
                dead_letter_of: owner,
                id,
                dead_letter: letter,
            }))?;
        }
        Ok(missing)
    }

    /// What has no line of its own, in key order.
    fn rest(&mut self, store: &dyn Store) -> Result<(), QueueError> {
        for letter in (0..u8::MAX).filter(|letter| !NOT_RAW.contains(letter)) {
            let mut result = Ok(());
            scan(store, &[letter], |key, value| {
                let (key, value) = (STANDARD.encode(key), STANDARD.encode(value));
                result = self.write(Line::Raw(RawLine { key, value }));
                if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            result?;
        }
        Ok(())
    }
}

fn open_retry(
    state: &State,
    name: &Name,
    id: Seq,
    generation: u8,
    parts: usize,
) -> Result<RetryRecord, QueueError> {
    let key = keys::retry(name.as_str(), id, generation);
    record::open(&key, &join(&*state.store, &key, parts)?)
}
