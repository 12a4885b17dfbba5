//! Dead letters: listing, removing, bringing back.

use std::{collections::BTreeSet, ops::ControlFlow};

use holdfast_model::{Facets, Name};

use crate::{
    engine::{
        aside,
        group::{Change, Group},
        keys,
        lane::Retry,
        settle::part_keys,
        state::{State, failed, get, join, joined},
    },
    error::QueueError,
    record::{self, Sealed, part_key},
    store::Store,
    types::{DeadEnd, DeadId, DeadLetter, DeadPage, DeadQuery, JobRecord, RetryHead, RetryRecord},
};

/// Most ids that one scan of the store brings, which holds it for so long.
const SCAN_IDS_MAX: usize = 256;

pub(super) fn load(store: &dyn Store, id: &DeadId) -> Result<Option<DeadLetter>, QueueError> {
    let key = keys::dead(&id.owner, id.seq);
    match joined(store, &key)? {
        Some(bytes) => {
            let mut letter: DeadLetter = record::open(&key, &bytes)?;
            letter.event.seq = id.seq;
            Ok(Some(letter))
        }
        None => Ok(None),
    }
}

/// One page, in key order: by owner, then by number. And the damaged ones that were passed over,
/// to be set aside.
pub(super) fn list(
    store: &dyn Store,
    query: &DeadQuery,
) -> Result<(DeadPage, Vec<DeadId>), QueueError> {
    let (mut page, mut damaged) = (DeadPage::default(), Vec::new());
    let mut after = query.after.clone();
    let mut scanned = 0;
    while page.letters.len() < query.limit && scanned < query.scan_max {
        let step = (query.scan_max - scanned).min(SCAN_IDS_MAX);
        let ids = next_ids(store, query.owner.as_deref(), after.as_ref(), step)?;
        if ids.is_empty() {
            return Ok((page, damaged));
        }
        for id in ids {
            scanned += 1;
            after = Some(id.clone());
            match load(store, &id) {
                Ok(Some(letter)) if matches(query, &letter) => page.letters.push((id, letter)),
                Ok(_) => {}
                Err(QueueError::Corrupt { .. }) => damaged.push(id),
                Err(error) => return Err(error),
            }
            if page.letters.len() >= query.limit {
                break;
            }
        }
    }
    page.next = after;
    Ok((page, damaged))
}

fn next_ids(
    store: &dyn Store,
    owner: Option<&str>,
    after: Option<&DeadId>,
    count: usize,
) -> Result<Vec<DeadId>, QueueError> {
    let (mut from, to) = match owner {
        Some(owner) => keys::under(&keys::dead_of(owner)),
        None => keys::under(b"d"),
    };
    if let Some(after) = after {
        from = from.max(keys::dead(&after.owner, after.seq.saturating_add(1)));
    }
    let mut ids = Vec::new();
    store
        .scan(&from, &to, &mut |key, _| {
            if key.last() == Some(&0)
                && let Some((owner, seq)) = keys::dead_id(key)
            {
                ids.push(DeadId { owner, seq });
            }
            if ids.len() < count { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
        .map_err(|source| failed("read from", source))?;
    Ok(ids)
}

fn matches(query: &DeadQuery, letter: &DeadLetter) -> bool {
    let rule = || Facets::read(&letter.event.body).rule_id;
    query.reason.is_none_or(|reason| letter.reason == reason)
        && query.since.is_none_or(|since| letter.died_at >= since)
        && query.until.is_none_or(|until| letter.died_at < until)
        && query.rule_id.as_deref().is_none_or(|wanted| rule().as_deref() == Some(wanted))
}

/// Runs on the writing thread.
pub(super) fn remove(
    state: &mut State,
    group: &mut Group,
    ids: &[DeadId],
    end: DeadEnd,
) -> Result<u64, QueueError> {
    // What the store shows must be all there is, and each is looked up in it once.
    group.close(state)?;
    let mut removed = 0;
    for id in ids.iter().collect::<BTreeSet<_>>() {
        let Some(Stored { parts: removes, bytes }) = stored(state, id)? else { continue };
        let rest = group.begin(state, Change { removes, ..Change::default() }, 0)?;
        leave(state, group, id, bytes);
        if let Ok(name) = Name::new(&state.owner_now(&id.owner))
            && let Some(lane) = state.lanes.get_mut(&name)
        {
            *lane.counters.of(end) += 1;
            group.touch_lane(&name);
        }
        group.finish(state, rest)?;
        removed += 1;
    }
    Ok(removed)
}

/// A dead letter as it lies in the store: the keys of its parts, and its bytes.
struct Stored {
    parts: Vec<Vec<u8>>,
    bytes: u64,
}

fn stored(state: &State, id: &DeadId) -> Result<Option<Stored>, QueueError> {
    let key = keys::dead(&id.owner, id.seq);
    let Some(first) = get(&*state.store, &part_key(&key, 0))? else { return Ok(None) };
    let parts = record::parts_of(&first);
    let bytes = join(&*state.store, &key, parts)?.len() + parts * (key.len() + 1);
    Ok(Some(Stored { parts: part_keys(&key, parts).collect(), bytes: bytes as u64 }))
}

fn leave(state: &mut State, group: &mut Group, id: &DeadId, bytes: u64) {
    let owner = state.owner_now(&id.owner);
    let dead = state.dead_box(&owner);
    dead.count = dead.count.saturating_sub(1);
    dead.bytes = dead.bytes.saturating_sub(bytes);
    group.touch_owner(&owner);
}

/// A dead letter as the writing thread finds it; a damaged one is set aside and passed over.
pub(super) fn load_sound(
    state: &mut State,
    group: &mut Group,
    id: &DeadId,
) -> Result<Option<DeadLetter>, QueueError> {
    // The store must show what was settled, or removed, in this group.
    group.close(state)?;
    match load(&*state.store, id) {
        Err(QueueError::Corrupt { .. }) => {
            aside::dead(state, group, std::slice::from_ref(id))?;
            Ok(None)
        }
        found => found,
    }
}

/// Runs on the writing thread: dead letters of lanes become retry records that are due at once.
/// What is absent, damaged, or no lane's is passed over.
pub(super) fn revive(
    state: &mut State,
    group: &mut Group,
    ids: &[DeadId],
    job: Option<u64>,
) -> Result<Vec<RetryHead>, QueueError> {
    let mut heads = Vec::new();
    for id in ids {
        let Ok(name) = Name::new(&state.owner_now(&id.owner)) else { continue };
        let Some(letter) = load_sound(state, group, id)? else { continue };
        let Some(Stored { parts: removes, bytes }) = stored(state, id)? else { continue };
        let due = state.now;
        let Some(lane) = state.lanes.get(&name) else { continue };
        let record = RetryRecord {
            members: vec![letter.event],
            due,
            tries: letter.tries,
            attempts: letter.attempts,
            // A person asked for it, so its age begins anew.
            first_active_ms: lane.active_ms,
            in_doubt: false,
            job,
            slots: letter.slots,
        };
        let (sealed, head) = (Sealed::new(&record)?, record.head());
        if lane.retries.contains_key(&head.id) {
            // It waits already; taking its place would lose whom it waits with.
            continue;
        }
        let key = keys::retry(name.as_str(), head.id, 0);
        // Counted with the move itself, so that no crash makes a job move or count it twice.
        let job = job.and_then(|job| state.jobs.get(&job)).map(|job| JobRecord {
            moved: job.moved + 1,
            cursor: Some(id.clone()),
            ..job.clone()
        });
        let beside = match &job {
            Some(job) => Sealed::new(job)?.writes(&keys::job(job.id)),
            None => Vec::new(),
        };
        let change = Change { puts: sealed.writes(&key), removes, beside };
        let rest = group.begin(state, change, 0)?;
        leave(state, group, id, bytes);
        if let Some(job) = job {
            state.jobs.insert(job.id, job);
            state.jobs_changed = true;
        }
        let (parts, bytes) = (sealed.parts(), sealed.size(&key));
        state.lane(&name)?.add_retry(Retry { head, generation: 0, parts, bytes });
        group.touch_lane(&name);
        group.finish(state, rest)?;
        heads.push(head);
    }
    Ok(heads)
}
