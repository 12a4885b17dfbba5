//! `queue verify`: counts everything anew, from the records alone.

use std::{collections::BTreeMap, ops::ControlFlow};

use holdfast_model::{LogId, Name, Seq};

use crate::{
    chunk::{self, Head},
    engine::{
        Limits, dead, keys, read,
        state::{State, scan},
    },
    error::QueueError,
    record,
    store::Store,
    types::{DeadId, RetryRecord},
};

/// What the records say.
#[derive(Clone, Debug, Default)]
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

#[derive(Clone, Debug)]
pub struct LaneReport {
    pub name: Name,
    pub position: Seq,
    pub ledger: holdfast_model::Ledger,
}

/// Reads every record of a stopped queue and compares all counts with it.
pub fn verify(store: std::sync::Arc<dyn Store>, path: &std::path::Path) -> Result<Report, QueueError> {
    let limits = Limits {
        bytes_max: u64::MAX,
        retention: std::time::Duration::MAX,
        dead_age_max: std::time::Duration::MAX,
        idempotency_window: std::time::Duration::MAX,
        idempotency_keys_max: usize::MAX,
    };
    if crate::engine::state::get(&*store, keys::FORMAT)?.is_none() {
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(QueueError::io(format!("find a queue at {}", path.display()), missing));
    }
    let unused = || LogId::from_random([0; 10]);
    let state = State::load(std::sync::Arc::clone(&store), limits, unused, path)?;
    let mut report = Report {
        log_id: state.meta.log_id.to_string(),
        head: state.meta.next_seq,
        set_aside: state.corrupt,
        unclean: state.unclean,
        ..Report::default()
    };
    let chunk_bytes = check_chunks(&*store, &mut report)?;
    expect(&mut report.problems, "bytes of chunks", state.meta.chunk_bytes, chunk_bytes);
    let stored = state.meta.events_total - state.meta.events_trimmed;
    let events = report.events;
    expect(&mut report.problems, "events in the log", stored, events);
    check_dead(&state, &mut report)?;
    check_lanes(&state, &mut report)?;
    Ok(report)
}

fn expect(problems: &mut Vec<String>, what: &str, recorded: u64, counted: u64) {
    if recorded != counted {
        problems.push(format!("{what}: recorded {recorded}, counted {counted}"));
    }
}

fn check_chunks(store: &dyn Store, report: &mut Report) -> Result<u64, QueueError> {
    let (mut bytes, mut before, mut last_end) = (0, None, 0);
    let mut firsts = Vec::new();
    scan(store, b"c", |key, value| {
        if key.last() == Some(&0)
            && let Some(first) = keys::chunk_first(key)
        {
            firsts.push((first, Head::decode(key, value)));
        }
        ControlFlow::Continue(())
    })?;
    for (first, head) in firsts {
        report.chunks += 1;
        let head = match head {
            Ok(head) => head,
            Err(error) => {
                report.problems.push(error.to_string());
                before = None;
                continue;
            }
        };
        let count = u64::from(head.count);
        if first < last_end {
            report.problems.push(format!("the chunk at {first} overlaps the one before it"));
        }
        if before.is_some_and(|before| before != head.events_before) {
            let (recorded, counted) = (head.events_before, before.unwrap_or(0));
            expect(&mut report.problems, &format!("events before chunk {first}"), recorded, counted);
        }
        if !head.is_tombstone() {
            let (_, joined) = read::whole(store, first)?;
            match chunk::unpack(&keys::chunk(first), first, &joined) {
                Ok(events) => expect(
                    &mut report.problems,
                    &format!("events in chunk {first}"),
                    count,
                    events.len() as u64,
                ),
                Err(error) => report.problems.push(error.to_string()),
            }
        }
        report.events += count;
        bytes += head.size();
        before = Some(head.events_before + count);
        last_end = first + count;
    }
    Ok(bytes)
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
            report.problems.push(error.to_string());
        }
    }
    report.dead_letters = ids.len() as u64;
    for (owner, stored) in &state.boxes {
        let (count, bytes) = counted.remove(owner).unwrap_or_default();
        expect(&mut report.problems, &format!("dead letters of {owner}"), stored.count, count);
        expect(&mut report.problems, &format!("bytes of {owner}'s dead letters"), stored.bytes, bytes);
    }
    for (owner, (count, _)) in counted {
        expect(&mut report.problems, &format!("dead letters of {owner}"), 0, count);
    }
    Ok(())
}

fn check_lanes(state: &State, report: &mut Report) -> Result<(), QueueError> {
    let (head, total) = (state.meta.next_seq, state.meta.events_total);
    for (name, lane) in &state.lanes {
        let position = lane.spans.position();
        let before = read::events_before(&*state.store, position, head, total)?;
        let dead = state.boxes.get(name.as_str()).map_or(0, |dead| dead.count);
        let ledger = lane.ledger(total, before, dead);
        if ledger.imbalance() != 0 {
            let by = ledger.imbalance();
            report.problems.push(format!("the ledger of lane {name} is out by {by}: {ledger:?}"));
        }
        let mut members = 0;
        for (id, retry) in &lane.retries {
            let key = keys::retry(name.as_str(), *id, retry.generation);
            let record: RetryRecord = record::open(&key, &state.join(&key, retry.parts)?)?;
            members += record.members.len() as u64;
            for member in &record.members {
                if !lane.spans.contains(member.seq) {
                    let seq = member.seq;
                    report.problems.push(format!("lane {name} has event {seq} twice: unread, and waiting for a retry"));
                }
            }
        }
        expect(&mut report.problems, &format!("events waiting in lane {name}"), lane.retrying, members);
        report.lanes.push(LaneReport { name: name.clone(), position, ledger });
    }
    Ok(())
}
