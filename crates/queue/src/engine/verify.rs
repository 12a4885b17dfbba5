//! `queue verify`: counts everything anew, from the records alone, and repairs nothing.

use std::{collections::BTreeMap, ops::ControlFlow, path::Path, sync::Arc, time::Duration};

use holdfast_model::{Name, Seq};

use crate::{
    chunk::{self, Head},
    engine::{
        Limits, aside, dead, keys,
        lane::Lane,
        load::Damage,
        new_log_id,
        read::{self, End},
        state::{State, all, get, records_under, scan},
    },
    error::QueueError,
    record,
    spans::Span,
    store::Store,
    types::{DeadId, Window, is_express},
};

/// What the records say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    pub log_id: String,
    pub head: Seq,
    pub events: u64,
    pub chunks: u64,
    pub dead_letters: u64,
    pub set_aside: u64,
    pub unclean: bool,
    pub lanes: Vec<LaneReport>,
    /// Everything that does not add up. Empty: the queue is sound.
    pub problems: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct LaneReport {
    pub name: Name,
    pub position: Seq,
    pub ledger: holdfast_model::Ledger,
}

/// Reads every record of a stopped queue and compares all counts with it. Only what a crash left
/// half done is finished first, as the next start would.
pub fn verify(store: Arc<dyn Store>, path: &Path) -> Result<Report, QueueError> {
    must_exist(&*store, path)?;
    let store_again = Arc::clone(&store);
    let state = State::load(store_again, no_limits(), new_log_id, path, Damage::Report)?;
    let mut report = Report {
        log_id: state.meta.log_id.to_string(),
        head: state.meta.next_seq,
        set_aside: state.corrupt,
        unclean: state.unclean,
        problems: state.damaged.clone(),
        ..Report::default()
    };
    check_chunks(&state, &mut report)?;
    check_dead(&state, &mut report)?;
    for (name, lane) in &state.lanes {
        check_lane(&state, name, lane, &mut report)?;
    }
    check_strays(&state, &mut report)?;
    check_children(&state, &mut report)?;
    for consumer in state.consumers.values().filter(|one| one.reach > state.meta.next_seq) {
        let (name, reach) = (&consumer.name, consumer.reach);
        report.problems.push(format!("consumer {name} is at {reach}, behind the log's head"));
    }
    let mut keys = 0;
    scan(&*store, b"i", |_, _| {
        keys += 1;
        ControlFlow::Continue(())
    })?;
    expect(&mut report.problems, "idempotency keys", state.meta.idempotency_keys, keys);
    Ok(report)
}

/// An empty store is no queue.
pub(crate) fn must_exist(store: &dyn Store, path: &Path) -> Result<(), QueueError> {
    if get(store, keys::FORMAT)?.is_some() {
        return Ok(());
    }
    let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
    Err(QueueError::io(format!("find a queue at {}", path.display()), missing))
}

/// For looking only.
pub(crate) fn no_limits() -> Limits {
    Limits {
        bytes_max: u64::MAX,
        retention: Duration::MAX,
        dead_age_max: Duration::MAX,
        idempotency_window: Duration::MAX,
        idempotency_keys_max: usize::MAX,
    }
}

fn expect(problems: &mut Vec<String>, what: &str, recorded: u64, counted: u64) {
    if recorded != counted {
        problems.push(format!("{what}: recorded {recorded}, counted {counted}"));
    }
}

fn check_chunks(state: &State, report: &mut Report) -> Result<(), QueueError> {
    let store = &*state.store;
    let mut firsts = Vec::new();
    let mut bytes = 0;
    scan(store, keys::CHUNKS, |key, value| {
        let first = keys::chunk_first(key);
        if let Some(first) = first
            && firsts.last() != Some(&first)
        {
            firsts.push(first);
        }
        bytes += (key.len() + value.len()) as u64;
        ControlFlow::Continue(())
    })?;
    let (mut before, mut last_end) = (Some(state.meta.events_trimmed), 0);
    for first in firsts {
        report.chunks += 1;
        let Some((head, count)) = check_chunk(store, first, report)? else {
            before = None;
            continue;
        };
        if first < last_end {
            report.problems.push(format!("the chunk at {first} overlaps the one before it"));
        }
        if let Some(before) = before {
            let what = format!("events before chunk {first}");
            expect(&mut report.problems, &what, head.events_before, before);
        }
        report.events += count;
        before = Some(head.events_before + count);
        last_end = first + count;
    }
    if let Some(before) = before {
        expect(&mut report.problems, "events ever stored", state.meta.events_total, before);
    }
    if last_end > state.meta.next_seq {
        report.problems.push(format!("the log goes on to {last_end}, behind its head"));
    }
    expect(&mut report.problems, "bytes of chunks", state.meta.chunk_bytes, bytes);
    let stored = state.meta.events_total - state.meta.events_trimmed;
    expect(&mut report.problems, "events in the log", stored, report.events);
    Ok(())
}

/// The head of a chunk, and its events; `None` when it is damaged.
fn check_chunk(
    store: &dyn Store,
    first: Seq,
    report: &mut Report,
) -> Result<Option<(Head, u64)>, QueueError> {
    let key = keys::chunk(first);
    let whole = read::whole_chunk(store, first)?;
    let head = Head::decode(&key, &whole);
    if let Ok(head) = head
        && head.is_tombstone()
    {
        return Ok(Some((head, u64::from(head.count))));
    }
    match (head, chunk::entries(&key, &whole)) {
        (Ok(head), Ok(events)) => {
            let what = format!("events in chunk {first}");
            expect(&mut report.problems, &what, u64::from(head.count), events.len() as u64);
            Ok(Some((head, u64::from(head.count))))
        }
        (_, Err(error)) | (Err(error), _) => {
            report.problems.push(format!("the chunk at {first}: {error}"));
            Ok(None)
        }
    }
}

fn check_dead(state: &State, report: &mut Report) -> Result<(), QueueError> {
    let mut counted: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut ids = Vec::new();
    scan(&*state.store, b"d", |key, value| {
        if let Some((owner, seq)) = keys::dead_id(key) {
            let (count, bytes) = counted.entry(owner.clone()).or_default();
            *bytes += (key.len() + value.len()) as u64;
            if key.last() == Some(&0) {
                *count += 1;
                ids.push(DeadId { owner, seq });
            }
        }
        ControlFlow::Continue(())
    })?;
    for id in &ids {
        if let Err(error) = dead::load(&*state.store, id) {
            report.problems.push(format!("dead letter {} of {}: {error}", id.seq, id.owner));
        }
    }
    report.dead_letters = ids.len() as u64;
    for (owner, stored) in &state.boxes {
        let (count, bytes) = counted.remove(owner).unwrap_or_default();
        expect(&mut report.problems, &format!("dead letters of {owner}"), stored.count, count);
        let what = format!("bytes of {owner}'s dead letters");
        expect(&mut report.problems, &what, stored.bytes, bytes);
    }
    for (owner, (count, _)) in counted {
        expect(&mut report.problems, &format!("dead letters of {owner}"), 0, count);
    }
    Ok(())
}

fn check_lane(
    state: &State,
    name: &Name,
    lane: &Lane,
    report: &mut Report,
) -> Result<(), QueueError> {
    let position = lane.spans.position();
    let Some(before) = before(state, position, report) else { return Ok(()) };
    let dead = state.boxes.get(name.as_str()).map_or(0, |dead| dead.count);
    let ledger = lane.view().ledger(state.meta.events_total, before, dead);
    if ledger.imbalance() != 0 {
        let by = ledger.imbalance();
        report.problems.push(format!("the ledger of lane {name} is out by {by}: {ledger:?}"));
    }
    if position > state.meta.next_seq {
        report.problems.push(format!("lane {name} is at {position}, behind the log's head"));
    }
    for Span { from, to, count } in lane.spans.above() {
        if let (Some(from_before), Some(to_before)) =
            (self::before(state, from, report), self::before(state, to, report))
        {
            let what = format!("events of {from}..{to}, settled by lane {name}");
            expect(&mut report.problems, &what, count, to_before.saturating_sub(from_before));
        }
    }
    for (id, retry) in &lane.retries {
        let record = aside::open_retry(state, name, *id, retry.generation)?;
        for seq in record.members.iter().map(|member| member.seq) {
            if !lane.spans.contains(seq) && !lane.express.spans.contains(seq) {
                let problem = "is unread, and waits for a retry";
                report.problems.push(format!("event {seq} of lane {name} {problem}"));
            }
        }
    }
    if lane.express.is_used() {
        check_express(state, name, lane, report)?;
    }
    for (key, value) in all(&*state.store, &keys::windows(name.as_str()))? {
        if let Err(error) = record::open::<Window>(&key, &value) {
            report.problems.push(format!("a window of lane {name}: {error}"));
        }
    }
    report.lanes.push(LaneReport { name: name.clone(), position, ledger });
    Ok(())
}

/// Counts the express class anew, event by event: what is settled of it, and what the other class
/// has passed.
fn check_express(
    state: &State,
    name: &Name,
    lane: &Lane,
    report: &mut Report,
) -> Result<(), QueueError> {
    let open = lane.express.open();
    let (mut ahead, mut above) = (0_i64, 0_u64);
    let mut next = read::first_chunk(&*state.store)?;
    while let Some(first) = next {
        let key = keys::chunk(first);
        let whole = read::whole_chunk(&*state.store, first)?;
        // A damaged chunk is a problem already.
        for event in chunk::unpack(&key, first, &whole).unwrap_or_default() {
            if !is_express(&open.boundaries, event.seq, event.facets().level) {
                continue;
            }
            let settled = lane.express.spans.contains(event.seq);
            ahead += i64::from(settled) - i64::from(lane.spans.contains(event.seq));
            above += u64::from(settled && event.seq >= open.position);
        }
        next = read::following(&*state.store, first)?.map(|(first, _)| first);
    }
    let stretches: u64 = open.settled.iter().map(|span| span.count).sum();
    expect(&mut report.problems, &format!("express events of lane {name}"), stretches, above);
    if ahead != lane.express.ahead {
        let recorded = lane.express.ahead;
        let what = format!("settled express events of lane {name}, less those passed");
        report.problems.push(format!("{what}: recorded {recorded}, counted {ahead}"));
    }
    Ok(())
}

/// Retry records that no lane knows of.
fn check_strays(state: &State, report: &mut Report) -> Result<(), QueueError> {
    let stored = records_under(&*state.store, b"r")?.len();
    let known: usize = state.lanes.values().map(|lane| lane.retries.len()).sum();
    if state.damaged.is_empty() {
        expect(&mut report.problems, "retry records", known as u64, stored as u64);
    }
    Ok(())
}

/// An event comes behind its parent, and both before the head.
fn check_children(state: &State, report: &mut Report) -> Result<(), QueueError> {
    let head = state.meta.next_seq;
    scan(&*state.store, b"c", |key, _| {
        let fits = |(parent, child)| parent < child && child < head;
        if !keys::child_id(key).is_some_and(fits) {
            let key = crate::record::show_key(key);
            report.problems.push(format!("{key} names an event that is not in the log"));
        }
        ControlFlow::Continue(())
    })
}

fn before(state: &State, position: Seq, report: &mut Report) -> Option<u64> {
    let end = End { head: state.meta.next_seq, events_total: state.meta.events_total };
    match read::events_before(&*state.store, position, end, state.meta.events_trimmed) {
        Ok(Some(before)) => Some(before),
        Ok(None) => {
            report.problems.push(format!("the events behind {position} are not in the log"));
            None
        }
        Err(error) => {
            report.problems.push(error.to_string());
            None
        }
    }
}
