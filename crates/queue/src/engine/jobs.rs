//! Replay jobs, and the lanes that some of them have for themselves.
//!
//! A job's lane is made with the job and goes with its end. It holds the log back for retention
//! like any other lane, and yields first where the queue is full: then its job has failed.

use std::{ops::ControlFlow, sync::Arc};

use holdfast_model::{Name, Seq, Timestamp};

use crate::{
    engine::{
        aside, dead,
        group::{Change, Group},
        keys,
        lane::{LANE_PARTS_MAX, Lane, Retry},
        read::{self, End},
        settle::part_keys,
        state::{State, millis, scan},
    },
    error::QueueError,
    record::Sealed,
    spans::Spans,
    store::Write,
    types::{
        AUDIT_MAX, DeadId, JOBS_ENDED_AGE_MAX, JOBS_ENDED_MAX, JobRecord, JobState, LaneEnd,
        RetryHead, RetryRecord,
    },
};

/// Records of ended jobs, or of the audit trail, that one round of upkeep removes.
const REMOVED_MAX: usize = 32;

/// Stores a job, new or changed. One that has ended stays as it ended.
pub(super) fn put(
    state: &mut State,
    group: &mut Group,
    mut job: JobRecord,
) -> Result<JobRecord, QueueError> {
    let new = job.id == 0;
    if new {
        job.id = state.meta.next_job;
    } else if let Some(stored) = state.jobs.get(&job.id) {
        if stored.state.has_ended() {
            return Ok(stored.clone());
        }
        // Counted by moves and settlements alone.
        job.moved = stored.moved;
        job.progress = stored.progress;
        job.lane_end = stored.lane_end;
    }
    let lane = match job.own_lane() {
        Some(name) if new => Some((name, new_lane(state, group, &mut job)?)),
        _ => None,
    };
    let writes = Sealed::new(&job)?.writes(&keys::job(job.id));
    group.reserve(state, writes.len() + 1)?;
    group.extend(writes);
    if let Some((name, lane)) = lane {
        group.touch_lane(&name);
        state.lanes.insert(name, lane);
    }
    state.meta.next_job += u64::from(new);
    note(state, job.clone());
    Ok(job)
}

fn note(state: &mut State, job: JobRecord) {
    state.jobs.insert(job.id, job);
    state.jobs_changed = true;
}

/// A lane over the job's stretch of the log; over nothing for a job that copies dead letters.
fn new_lane(state: &mut State, group: &mut Group, job: &mut JobRecord) -> Result<Lane, QueueError> {
    let head = state.meta.next_seq;
    let (mut from, mut to) = (head, head);
    if let Some(log) = &mut job.log {
        // The oldest chunk, and the newest, may be under way.
        group.close(state)?;
        let oldest = read::first_chunk(&*state.store)?.unwrap_or(head);
        to = log.to.min(head);
        from = log.from.max(oldest).min(to);
        (log.from, log.to) = (from, to);
    }
    let born = events_before(state, group, from)?;
    let end = LaneEnd { seq: to, events: events_before(state, group, to)? };
    job.lane_end = Some(end);
    let lane = Lane::new(Spans::new(from, &[]), born, state.now);
    Ok(Lane { end: Some(end), ..lane })
}

fn events_before(state: &mut State, group: &mut Group, seq: Seq) -> Result<u64, QueueError> {
    let end = End { head: state.meta.next_seq, events_total: state.meta.events_total };
    let (store, trimmed) = (Arc::clone(&state.store), state.meta.events_trimmed);
    let before = match read::events_before(&*store, seq, end, trimmed) {
        Err(QueueError::Corrupt { .. }) => {
            aside::around(state, group, seq)?;
            read::events_before(&*store, seq, end, trimmed)?
        }
        found => found?,
    };
    Ok(before.unwrap_or(trimmed))
}

/// Ends a job, unless it has ended, and takes its own lane away. What that lane's retry records
/// still held is not sent any more.
pub(super) fn end(
    state: &mut State,
    group: &mut Group,
    id: u64,
    how: JobState,
    problem: &str,
    at: Timestamp,
) -> Result<Option<JobRecord>, QueueError> {
    let Some(mut job) = state.jobs.get(&id).cloned() else { return Ok(None) };
    if !job.state.has_ended() {
        // First of all: a job whose lane is half gone must not go on after a crash.
        (job.state, job.ended_at, job.problem) = (how, Some(at), problem.to_owned());
        let writes = Sealed::new(&job)?.writes(&keys::job(id));
        group.reserve(state, writes.len())?;
        group.extend(writes);
        note(state, job.clone());
    }
    if let Some(name) = job.own_lane().filter(|name| state.lanes.contains_key(name)) {
        remove_retries(state, group, &name)?;
        group.reserve(state, LANE_PARTS_MAX)?;
        group.extend(part_keys(&keys::lane(name.as_str()), LANE_PARTS_MAX).map(Write::Remove));
        state.lanes.remove(&name);
    }
    Ok(Some(job))
}

/// Counted as expired, so that a crash in the middle leaves a lane that adds up.
fn remove_retries(state: &mut State, group: &mut Group, name: &Name) -> Result<(), QueueError> {
    // What was stored in this group must be there before it goes.
    group.close(state)?;
    let retries: Vec<Retry> = state.lane(name)?.retries.values().copied().collect();
    for retry in retries {
        let key = keys::retry(name.as_str(), retry.head.id, retry.generation);
        let removes = part_keys(&key, retry.parts).collect();
        let rest = group.begin(state, Change { removes, ..Change::default() }, 0)?;
        let lane = state.lane(name)?;
        lane.take_retry(retry.head.id);
        lane.counters.expired += u64::from(retry.head.members);
        group.touch_lane(name);
        group.finish(state, rest)?;
    }
    // The lane's own record goes next, and must not be written behind that.
    group.close(state)
}

/// The queue is full: jobs that hold back what nobody else does have failed. Says whether one did.
pub(super) fn yield_room(state: &mut State, group: &mut Group) -> Result<bool, QueueError> {
    let others = state.lanes.values().filter(|lane| lane.end.is_none());
    let lowest = others.map(Lane::lowest).min().unwrap_or(state.meta.next_seq);
    let holds = |job: &&JobRecord| {
        let lane = job.own_lane().and_then(|name| state.lanes.get(&name));
        lane.is_some_and(|lane| lane.holds_log() && lane.spans.position() < lowest)
    };
    let holding: Vec<u64> = state.jobs.values().filter(holds).map(|job| job.id).collect();
    for id in &holding {
        tracing::warn!(job = id, "the queue is full, so what a replay still needed goes first");
        let problem = "the queue was full, and what the replay still needed of the log was trimmed";
        end(state, group, *id, JobState::Failed, problem, state.now)?;
    }
    Ok(!holding.is_empty())
}

/// Runs on the writing thread: dead letters become retry records of the job's own lane, due at
/// once. They stay where they are, too: their own lane has not delivered them.
pub(super) fn copy_dead(
    state: &mut State,
    group: &mut Group,
    ids: &[DeadId],
    job: u64,
) -> Result<Vec<RetryHead>, QueueError> {
    let mut heads = Vec::new();
    for id in ids {
        let Some(letter) = dead::load_sound(state, group, id)? else { continue };
        let Some(stored) = state.jobs.get(&job).filter(|job| !job.state.has_ended()) else { break };
        let Some(name) = stored.own_lane() else { break };
        let moved =
            JobRecord { moved: stored.moved + 1, cursor: Some(id.clone()), ..stored.clone() };
        let Some(lane) = state.lanes.get(&name) else { break };
        let untried = RetryRecord::untried(vec![letter.event], state.now, lane.active_ms);
        let record = RetryRecord { job: Some(job), slots: letter.slots, ..untried };
        let (sealed, head) = (Sealed::new(&record)?, record.head());
        if lane.retries.contains_key(&head.id) {
            continue;
        }
        let key = keys::retry(name.as_str(), head.id, 0);
        let beside = Sealed::new(&moved)?.writes(&keys::job(job));
        let change = Change { puts: sealed.writes(&key), removes: Vec::new(), beside };
        let rest = group.begin(state, change, 0)?;
        note(state, moved);
        let (parts, bytes) = (sealed.parts(), sealed.size(&key));
        let lane = state.lane(&name)?;
        // The lane sees one event more than its stretch of the log holds.
        lane.born_events = lane.born_events.saturating_sub(1);
        lane.add_retry(Retry { head, generation: 0, parts, bytes });
        group.touch_lane(&name);
        group.finish(state, rest)?;
        heads.push(head);
    }
    Ok(heads)
}

/// One round of upkeep: jobs that ended long ago, or are too many, go; so do old audit entries.
pub(super) fn expire(state: &mut State, group: &mut Group) -> Result<(), QueueError> {
    let ended: Vec<&JobRecord> = state.jobs.values().filter(|job| job.state.has_ended()).collect();
    let too_many = ended.len().saturating_sub(JOBS_ENDED_MAX);
    let oldest = Timestamp(state.now.0.saturating_sub(millis(JOBS_ENDED_AGE_MAX)));
    let old = |job: &JobRecord| job.ended_at.is_some_and(|at| at < oldest);
    let gone = ended.iter().enumerate().filter(|(n, job)| *n < too_many || old(job));
    let gone: Vec<u64> = gone.map(|(_, job)| job.id).take(REMOVED_MAX).collect();
    for id in gone {
        let Some(job) = state.jobs.get(&id) else { continue };
        let lane = job.own_lane();
        if lane.as_ref().is_some_and(|name| state.lanes.contains_key(name)) {
            continue;
        }
        let parts = Sealed::new(job)?.parts();
        group.reserve(state, parts + 1)?;
        group.extend(part_keys(&keys::job(id), parts).map(Write::Remove));
        if let Some(name) = lane
            && state.boxes.get(name.as_str()).is_some_and(|dead| dead.count == 0)
        {
            state.boxes.remove(name.as_str());
            group.push(Write::Remove(keys::dead_box(name.as_str())));
        }
        state.jobs.remove(&id);
        state.jobs_changed = true;
    }
    expire_audit(state, group)
}

fn expire_audit(state: &mut State, group: &mut Group) -> Result<(), QueueError> {
    let keep_from = keys::audit(state.meta.next_audit.saturating_sub(AUDIT_MAX));
    if state.meta.next_audit <= AUDIT_MAX {
        return Ok(());
    }
    let mut old = Vec::new();
    scan(&*Arc::clone(&state.store), b"a", |key, _| {
        if key < keep_from.as_slice() && old.len() < REMOVED_MAX {
            old.push(key.to_vec());
            return ControlFlow::Continue(());
        }
        ControlFlow::Break(())
    })?;
    group.reserve(state, old.len())?;
    group.extend(old.into_iter().map(Write::Remove));
    Ok(())
}
