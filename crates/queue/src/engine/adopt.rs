//! One lane takes the place of another: `renamed_from`.
//!
//! It has happened once the marker is stored, in one batch with the lane's record under its new
//! name: position, ledger and counts go over in one step. The records that still lie under the old
//! name follow in steps of their own; where a crash cuts that short, the next start goes on.
//!
//! While they follow, the marker says whose they are: [`State::owner_now`].

use std::{collections::BTreeSet, ops::ControlFlow, sync::Arc};

use holdfast_model::{Name, Seq};
use serde::{Deserialize, Serialize};

use crate::{
    engine::{
        group::{Change, Group},
        keys,
        lane::LANE_PARTS_MAX,
        state::{Row, State, bare, failed, get},
    },
    error::QueueError,
    record::{self, Sealed, part_key, parts_of},
    store::{Store, Write},
    types::{Adoption, JobRecord},
};

/// Parts of records that one step moves, unless a single record has more.
const STEP_PARTS_MAX: usize = 40;

/// An adoption under way, as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Marker {
    pub(crate) old: Name,
    pub(crate) new: Name,
}

/// The step that counts. The rest follows with [`step`].
pub(super) fn begin(
    state: &mut State,
    group: &mut Group,
    old: &Name,
    new: &Name,
) -> Result<Adoption, QueueError> {
    let open = match state.lanes.get(old) {
        None => return Ok(Adoption::NoSuchLane),
        Some(_) if state.lanes.contains_key(new) => return Ok(Adoption::Occupied),
        Some(lane) => lane.open,
    };
    if open {
        return Err(QueueError::InUse { lane: old.to_string() });
    }
    // Nothing of the old lane may be in the batch under way.
    group.close(state)?;
    group.reserve(state, 2 * LANE_PARTS_MAX + 4)?;
    let Some(mut lane) = state.lanes.remove(old) else { return Ok(Adoption::NoSuchLane) };
    // What was sent under the old name and is not settled keeps its idempotency key.
    lane.keyed_as.get_or_insert_with(|| old.clone());
    state.lanes.insert(new.clone(), lane);
    let key = keys::lane(old.as_str());
    group.extend((0..LANE_PARTS_MAX).map(|part| Write::Remove(part_key(&key, part))));
    if let Some(letters) = state.boxes.remove(old.as_str()) {
        let dead = state.dead_box(new.as_str());
        dead.count += letters.count;
        dead.bytes += letters.bytes;
        group.push(Write::Remove(keys::dead_box(old.as_str())));
        group.touch_owner(new.as_str());
    }
    group.touch_lane(new);
    let marker = Marker { old: old.clone(), new: new.clone() };
    group.push(bare(keys::ADOPTION, &Sealed::new(&marker)?)?);
    state.adoption = Some(marker);
    group.close(state)?;
    Ok(Adoption::Done)
}

/// Moves some of what still lies under the old name. Says whether there may be more.
pub(super) fn step(state: &mut State, group: &mut Group) -> Result<bool, QueueError> {
    let Some(Marker { old, new }) = state.adoption.clone() else { return Ok(false) };
    // The store must show all there is.
    group.close(state)?;
    let moved = move_retries(state, group, &old, &new)?
        || move_dead(state, group, &old, &new)?
        || move_windows(state, group, &old, &new)?
        || move_links(state, group, &old, &new)?
        || move_job(state, group, &old, &new)?;
    if !moved {
        group.reserve(state, 1)?;
        group.push(Write::Remove(keys::ADOPTION.to_vec()));
        state.adoption = None;
    }
    group.close(state)?;
    Ok(moved)
}

fn move_retries(
    state: &mut State,
    group: &mut Group,
    old: &Name,
    new: &Name,
) -> Result<bool, QueueError> {
    let (from, to) = (keys::retries(old.as_str()), keys::retries(new.as_str()));
    let rows = first_rows(&*state.store, &from)?;
    let rest = group.begin(state, renamed(&rows, &from, &to), 0)?;
    // At a start the lanes are loaded later, with the bytes as they then are.
    if let Some(lane) = state.lanes.get_mut(new) {
        for (key, value) in rows.iter().filter(|(key, _)| key.last() == Some(&0)) {
            let Some((id, ..)) = keys::retry_id(&from, key) else { continue };
            let parts = parts_of(value) as u64;
            if let Some(mut retry) = lane.take_retry(id) {
                retry.bytes = moved_bytes(retry.bytes, parts, old, new);
                lane.add_retry(retry);
            }
        }
    }
    group.finish(state, rest)?;
    Ok(!rows.is_empty())
}

fn move_dead(
    state: &mut State,
    group: &mut Group,
    old: &Name,
    new: &Name,
) -> Result<bool, QueueError> {
    let (from, to) = (keys::dead_of(old.as_str()), keys::dead_of(new.as_str()));
    let rows = first_rows(&*state.store, &from)?;
    if rows.is_empty() {
        return Ok(false);
    }
    let rest = group.begin(state, renamed(&rows, &from, &to), 0)?;
    let dead = state.dead_box(new.as_str());
    dead.bytes = moved_bytes(dead.bytes, rows.len() as u64, old, new);
    group.touch_owner(new.as_str());
    group.finish(state, rest)?;
    Ok(true)
}

fn move_windows(
    state: &mut State,
    group: &mut Group,
    old: &Name,
    new: &Name,
) -> Result<bool, QueueError> {
    let (from, to) = (keys::windows(old.as_str()), keys::windows(new.as_str()));
    let rows = first_rows(&*state.store, &from)?;
    let rest = group.begin(state, renamed(&rows, &from, &to), 0)?;
    group.finish(state, rest)?;
    Ok(!rows.is_empty())
}

/// Both halves of each link go together: the one by the remote id says whose event it is.
fn move_links(
    state: &mut State,
    group: &mut Group,
    old: &Name,
    new: &Name,
) -> Result<bool, QueueError> {
    let (from, to) = (keys::linked_of(old.as_str()), keys::linked_of(new.as_str()));
    let rows = first_rows(&*state.store, &from)?;
    let mut change = renamed(&rows, &from, &to);
    // Several remote ids may belong to one event, which has one link. A damaged one goes over as
    // it is.
    let events = rows.iter().filter_map(|(key, value)| record::open::<Seq>(key, value).ok());
    for seq in events.collect::<BTreeSet<_>>() {
        let by_event = part_key(&keys::link(seq, old.as_str()), 0);
        if let Some(link) = get(&*state.store, &by_event)? {
            change.puts.push(Write::Put(part_key(&keys::link(seq, new.as_str()), 0), link));
            change.removes.push(by_event);
        }
    }
    let rest = group.begin(state, change, 0)?;
    group.finish(state, rest)?;
    Ok(!rows.is_empty())
}

/// A replay job of the old lane goes on with the new one.
fn move_job(
    state: &mut State,
    group: &mut Group,
    old: &Name,
    new: &Name,
) -> Result<bool, QueueError> {
    let of_old = |job: &&JobRecord| job.lane == *old || job.owner.as_deref() == Some(old.as_str());
    let Some(job) = state.jobs.values().find(of_old) else { return Ok(false) };
    let mut job = job.clone();
    if job.lane == *old {
        job.lane = new.clone();
    }
    if job.owner.as_deref() == Some(old.as_str()) {
        job.owner = Some(new.to_string());
    }
    if let Some(cursor) = &mut job.cursor
        && cursor.owner == old.as_str()
    {
        cursor.owner = new.to_string();
    }
    let writes = Sealed::new(&job)?.writes(&keys::job(job.id));
    group.reserve(state, writes.len())?;
    group.extend(writes);
    state.jobs.insert(job.id, job);
    state.jobs_changed = true;
    Ok(true)
}

/// The first records under a prefix, whole, as many as fit into a step.
fn first_rows(store: &dyn Store, prefix: &[u8]) -> Result<Vec<Row>, QueueError> {
    let record = |key: &[u8]| key.split_last().map(|(_part, key)| key.to_vec());
    let (from, to) = keys::under(prefix);
    let mut rows: Vec<Row> = Vec::new();
    store
        .scan(&from, &to, &mut |key, value| {
            let same = rows.last().is_some_and(|(last, _)| record(last) == record(key));
            if rows.len() >= STEP_PARTS_MAX && !same {
                return ControlFlow::Break(());
            }
            rows.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })
        .map_err(|source| failed("read from", source))?;
    Ok(rows)
}

fn renamed(rows: &[Row], from: &[u8], to: &[u8]) -> Change {
    let put = |(key, value): &Row| {
        let key = [to, &key[from.len()..]].concat();
        Write::Put(key, value.clone())
    };
    Change {
        puts: rows.iter().map(put).collect(),
        removes: rows.iter().map(|(key, _)| key.clone()).collect(),
        beside: Vec::new(),
    }
}

/// Live bytes count keys, and those have the name in them.
fn moved_bytes(bytes: u64, parts: u64, old: &Name, new: &Name) -> u64 {
    let (before, after) = (old.as_str().len() as u64, new.as_str().len() as u64);
    (bytes + parts * after).saturating_sub(parts * before)
}

impl State {
    /// Whose a dead letter is that lies under `owner`.
    pub(crate) fn owner_now(&self, owner: &str) -> String {
        match &self.adoption {
            Some(Marker { old, new }) if old.as_str() == owner => new.to_string(),
            Some(_) | None => owner.to_owned(),
        }
    }

    /// Does what a crash left of an adoption. Boxes and jobs are loaded, the lanes not yet.
    pub(crate) fn finish_adoption(&mut self) -> Result<(), QueueError> {
        let store = Arc::clone(&self.store);
        let Some(bytes) = get(&*store, keys::ADOPTION)? else { return Ok(()) };
        self.adoption = Some(record::open(keys::ADOPTION, &bytes)?);
        let mut group = Group::default();
        while step(self, &mut group)? {}
        group.close(self)?;
        self.sync()
    }
}
