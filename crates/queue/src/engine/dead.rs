//! Dead letters: listing, removing, bringing back.

use std::ops::ControlFlow;

use holdfast_model::{Facets, Name, Timestamp};

use crate::{
    engine::{
        group::Group,
        keys, settle,
        state::{Retry, State, failed, get, join},
    },
    error::QueueError,
    record::{self, Sealed},
    store::Store,
    types::{DeadEnd, DeadId, DeadLetter, DeadPage, DeadQuery, RetryHead, RetryRecord},
};

pub(super) fn load(store: &dyn Store, id: &DeadId) -> Result<Option<DeadLetter>, QueueError> {
    let key = keys::dead(&id.owner, id.seq);
    let Some(first) = get(store, &record::part_key(&key, 0))? else { return Ok(None) };
    let bytes = join(store, &key, record::parts_of(&first))?;
    record::open(&key, &bytes).map(Some)
}

/// One page, in key order: by owner, then by number.
pub(super) fn list(store: &dyn Store, query: &DeadQuery) -> Result<DeadPage, QueueError> {
    let mut page = DeadPage::default();
    let mut after = query.after.clone();
    let mut scanned = 0;
    while page.letters.len() < query.limit && scanned < query.scan_max {
        let step = (query.scan_max - scanned).min(256);
        let ids = next_ids(store, query.owner.as_deref(), after.as_ref(), step)?;
        let Some(last) = ids.last() else {
            return Ok(DeadPage { next: None, ..page });
        };
        after = Some(last.clone());
        for id in ids {
            scanned += 1;
            let matching = match load(store, &id) {
                Ok(letter) => letter.filter(|letter| matches(query, letter)),
                // Set aside at the next start; listing goes on meanwhile.
                Err(error) => {
                    tracing::error!(owner = %id.owner, seq = id.seq, %error, "a dead letter is damaged");
                    None
                }
            };
            if let Some(letter) = matching {
                page.letters.push((id.clone(), letter));
            }
            if page.letters.len() >= query.limit {
                after = Some(id);
                break;
            }
        }
    }
    page.next = after;
    Ok(page)
}

fn next_ids(
    store: &dyn Store,
    owner: Option<&str>,
    after: Option<&DeadId>,
    count: usize,
) -> Result<Vec<DeadId>, QueueError> {
    let (mut from, to) = match owner {
        Some(owner) => {
            let mut prefix = keys::dead(owner, 0);
            prefix.truncate(prefix.len() - 8);
            keys::under(&prefix)
        }
        None => keys::under(b"d"),
    };
    if let Some(after) = after {
        from = from.max(keys::dead(&after.owner, after.seq + 1));
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
    let mut removed = 0;
    for id in ids {
        if take(state, group, id, 0)?.is_none() {
            continue;
        }
        removed += 1;
        let Ok(name) = Name::new(&id.owner) else { continue };
        if let Some(lane) = state.lanes.get_mut(&name) {
            match end {
                DeadEnd::Purged => lane.counters.purged += 1,
                DeadEnd::Expired => lane.counters.expired += 1,
            }
            group.touch_lane(&name);
        }
    }
    Ok(removed)
}

/// Takes a dead letter's records away, reserving `more` writes beside them.
fn take(
    state: &mut State,
    group: &mut Group,
    id: &DeadId,
    more: usize,
) -> Result<Option<()>, QueueError> {
    let key = keys::dead(&id.owner, id.seq);
    let Some(first) = get(&*state.store, &record::part_key(&key, 0))? else { return Ok(None) };
    let parts = record::parts_of(&first);
    let bytes = join(&*state.store, &key, parts)?.len() + parts * (key.len() + 1);
    group.reserve(state, parts + more)?;
    group.extend(settle::remove_parts(&key, parts));
    if let Some(dead) = state.boxes.get_mut(&id.owner) {
        dead.count = dead.count.saturating_sub(1);
        dead.bytes = dead.bytes.saturating_sub(bytes as u64);
    }
    group.touch_owner(&id.owner);
    Ok(Some(()))
}

/// Runs on the writing thread: dead letters of a lane become retry records that are due at once.
pub(super) fn revive(
    state: &mut State,
    group: &mut Group,
    ids: &[DeadId],
    job: Option<u64>,
    now: Timestamp,
) -> Result<Vec<RetryHead>, QueueError> {
    let mut heads = Vec::new();
    for id in ids {
        let Ok(name) = Name::new(&id.owner) else { continue };
        // What was removed or applied in this group is seen already: the store shows every applied
        // batch, and a batch under way is closed first.
        group.close(state)?;
        let Some(letter) = load(&*state.store, id)? else { continue };
        let record = RetryRecord {
            members: vec![letter.event],
            due: now,
            tries: letter.tries,
            attempts: letter.attempts,
            // A person asked for it, so its age begins anew.
            first_active_ms: state.lane(&name)?.active_ms,
            in_doubt: false,
            job,
        };
        let (sealed, head) = (Sealed::new(&record)?, record.head());
        let lane = state.lane(&name)?;
        let generation = lane.retries.get(&head.id).map_or(0, |old| old.generation.wrapping_add(1));
        let key = keys::retry(name.as_str(), head.id, generation);
        take(state, group, id, sealed.parts())?;
        group.extend(sealed.writes(&key));
        let (parts, bytes) = (sealed.parts(), sealed.size(&key));
        state.lane(&name)?.add_retry(Retry { head, generation, parts, bytes });
        group.touch_lane(&name);
        heads.push(head);
    }
    Ok(heads)
}
