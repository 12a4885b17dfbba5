//! From the store to the [`State`], at start: undoes what a crash cut short, sets aside what is
//! damaged.

use std::{collections::BTreeSet, ops::ControlFlow, path::Path, sync::Arc};

use holdfast_model::{LogId, Name, Seq, Timestamp};

use crate::{
    engine::{
        Limits, aside,
        group::Group,
        keys,
        lane::{Lane, Retry},
        read,
        state::{Meta, Rounds, Row, State, all, bare, get, join, joined, records_under, scan},
    },
    error::QueueError,
    record::{self, Sealed},
    spans::{Span, Spans},
    store::{Store, Write},
    types::{ConsumerRecord, DeadBox, JobRecord, JobState, RetryRecord, job_of_lane},
};

/// What to do with a damaged record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// Set it aside, and go on without it.
    SetAside,
    /// Name it, and change nothing.
    Report,
}

impl State {
    /// Reads what the store holds, or makes a new queue in an empty one.
    pub(crate) fn load(
        store: Arc<dyn Store>,
        limits: Limits,
        log_id: impl FnOnce() -> LogId,
        path: &Path,
        damage: Damage,
    ) -> Result<Self, QueueError> {
        let meta = read_meta(&*store, log_id, path)?;
        let mut state = Self {
            unclean: !meta.clean,
            rounds: rounds_after(&meta),
            store,
            limits,
            meta,
            lanes: Default::default(),
            boxes: Default::default(),
            jobs: Default::default(),
            jobs_changed: true,
            consumers: Default::default(),
            consumers_changed: true,
            adoption: None,
            corrupt: 0,
            damaged: Vec::new(),
            now: Timestamp(0),
            bytes_free: u64::MAX,
            bytes_refused: 0,
            disk_full: false,
        };
        state.undo_intent()?;
        scan(&*Arc::clone(&state.store), b"q", |key, _| {
            // One a record: its first part, or a bare key.
            state.corrupt += u64::from(aside::is_first(key));
            ControlFlow::Continue(())
        })?;
        let store = Arc::clone(&state.store);
        state.load_boxes(&*store, damage)?;
        state.load_jobs(&*store, damage)?;
        state.load_consumers(&*store, damage)?;
        state.finish_adoption()?;
        state.load_lanes(&*store, damage)?;
        Ok(state)
    }

    /// Removes the keys that a change had still to remove, or had staged in vain, when a crash cut
    /// it short. Doing it again after another crash is harmless.
    fn undo_intent(&mut self) -> Result<(), QueueError> {
        let Some(bytes) = get(&*self.store, keys::INTENT)? else { return Ok(()) };
        let keys: Vec<Vec<u8>> = record::open(keys::INTENT, &bytes)?;
        for step in keys.chunks(100) {
            self.apply(step.iter().map(|key| Write::Remove(key.clone())).collect())?;
        }
        self.apply(vec![Write::Remove(keys::INTENT.to_vec())])?;
        self.sync()
    }

    fn load_lanes(&mut self, store: &dyn Store, damage: Damage) -> Result<(), QueueError> {
        for key in records_under(store, b"l")? {
            let Some(name) = keys::lane_name(&record::part_key(&key, 0)).map(Name::new) else {
                continue;
            };
            let Ok(name) = name else { continue };
            let bytes = joined(store, &key)?.unwrap_or_default();
            let mut lane = match record::open(&key, &bytes) {
                Ok(stored) => {
                    let (mut lane, expected) = Lane::from_record(stored);
                    self.load_retries(store, &name, &mut lane, damage)?;
                    // Records that were set aside, just now or before a crash, left this lane.
                    lane.counters.purged += expected.saturating_sub(lane.retrying);
                    lane
                }
                Err(error) => {
                    let lane = self.rebuild_lane(store, &name, damage)?;
                    let rebuilt = Sealed::new(&lane.to_record())?.writes(&key);
                    self.damaged(all(store, &key)?, rebuilt, &error, damage)?;
                    lane
                }
            };
            lane.in_doubt |= self.unclean;
            let end = self.job_of(&name).and_then(|job| job.lane_end);
            self.lanes.insert(name, Lane { end, ..lane });
        }
        Ok(())
    }

    fn load_retries(
        &mut self,
        store: &dyn Store,
        name: &Name,
        lane: &mut Lane,
        damage: Damage,
    ) -> Result<BTreeSet<Seq>, QueueError> {
        let mut members = BTreeSet::new();
        let prefix = keys::retries(name.as_str());
        for key in records_under(store, &prefix)? {
            let first = get(store, &record::part_key(&key, 0))?.unwrap_or_default();
            let parts = record::parts_of(&first);
            let bytes = join(store, &key, parts)?;
            let id = keys::retry_id(&prefix, &record::part_key(&key, 0));
            match (record::open::<RetryRecord>(&key, &bytes), id) {
                (Ok(record), Some((_, generation, _))) => {
                    let bytes = (bytes.len() + parts * (key.len() + 1)) as u64;
                    lane.add_retry(Retry { head: record.head(), generation, parts, bytes });
                    members.extend(record.members.iter().map(|member| member.seq));
                }
                (Ok(_), None) => {}
                (Err(error), _) => self.damaged(all(store, &key)?, Vec::new(), &error, damage)?,
            }
        }
        Ok(members)
    }

    /// A lane whose own record is lost begins anew with everything the log has, but for what its
    /// retry records and dead letters show to be settled. That repeats events, and loses none.
    fn rebuild_lane(
        &mut self,
        store: &dyn Store,
        name: &Name,
        damage: Damage,
    ) -> Result<Lane, QueueError> {
        let job = self.job_of(name).and_then(|job| job.lane_end);
        let mut begin = read::first_chunk(store)?.unwrap_or(self.meta.next_seq);
        // Where in its stretch a job's lane was is lost, so nothing more of that is sent.
        begin = job.map_or(begin, |end| end.seq.max(begin));
        let mut lane = Lane::new(Spans::new(begin, &[]), 0, Timestamp(0));
        let mut settled = self.load_retries(store, name, &mut lane, damage)?;
        for key in records_under(store, &keys::dead_of(name.as_str()))? {
            let id = keys::dead_id(&record::part_key(&key, 0));
            settled.extend(id.map(|(_, seq)| seq));
        }
        let above = settled.split_off(&begin);
        for seq in above {
            lane.spans.add(Span::one(seq));
        }
        lane.parts_with(0, 0)?;
        lane.born_events = self.meta.events_trimmed.saturating_sub(settled.len() as u64);
        if let Some(end) = job {
            lane.born_events = end.events.saturating_sub(settled.len() as u64);
            self.give_up_job(name, damage)?;
        }
        lane.state.reason = "its record was damaged, so it began anew".into();
        Ok(lane)
    }

    fn job_of(&self, lane: &Name) -> Option<&JobRecord> {
        self.jobs.get(&job_of_lane(lane.as_str())?)
    }

    /// A job whose lane's record was damaged.
    fn give_up_job(&mut self, lane: &Name, damage: Damage) -> Result<(), QueueError> {
        let Some(mut job) = self.job_of(lane).cloned() else { return Ok(()) };
        if job.state.has_ended() || damage == Damage::Report {
            return Ok(());
        }
        job.state = JobState::Failed;
        job.ended_at = Some(job.created_at);
        job.problem = "how far it was is lost: its record was damaged".into();
        self.apply(Sealed::new(&job)?.writes(&keys::job(job.id)))?;
        self.jobs.insert(job.id, job);
        Ok(())
    }

    fn load_boxes(&mut self, store: &dyn Store, damage: Damage) -> Result<(), QueueError> {
        for (key, bytes) in all(store, b"b")? {
            let found = record::open::<DeadBox>(&key, &bytes);
            let stored = match found {
                Ok(stored) => stored,
                Err(error) => {
                    let owner = String::from_utf8_lossy(&key[1..]).into_owned();
                    let counted = count_box(store, owner)?;
                    let rebuilt = bare(&key, &Sealed::new(&counted)?)?;
                    self.damaged(vec![(key, bytes)], vec![rebuilt], &error, damage)?;
                    counted
                }
            };
            self.boxes.insert(stored.owner.clone(), stored);
        }
        Ok(())
    }

    fn load_jobs(&mut self, store: &dyn Store, damage: Damage) -> Result<(), QueueError> {
        for key in records_under(store, b"j")? {
            let bytes = joined(store, &key)?.unwrap_or_default();
            match record::open::<JobRecord>(&key, &bytes) {
                Ok(job) => {
                    self.jobs.insert(job.id, job);
                }
                Err(error) => self.damaged(all(store, &key)?, Vec::new(), &error, damage)?,
            }
        }
        Ok(())
    }

    /// A consumer whose record is damaged is gone: whoever asks for it is told so.
    fn load_consumers(&mut self, store: &dyn Store, damage: Damage) -> Result<(), QueueError> {
        for key in records_under(store, b"p")? {
            let bytes = joined(store, &key)?.unwrap_or_default();
            match record::open::<ConsumerRecord>(&key, &bytes) {
                Ok(consumer) => {
                    self.consumers.insert(consumer.name.clone(), Arc::new(consumer));
                }
                Err(error) => self.damaged(all(store, &key)?, Vec::new(), &error, damage)?,
            }
        }
        Ok(())
    }

    /// Sets a record aside, with what takes its place.
    fn damaged(
        &mut self,
        parts: Vec<Row>,
        instead: Vec<Write>,
        error: &QueueError,
        damage: Damage,
    ) -> Result<(), QueueError> {
        if damage == Damage::Report {
            self.damaged.push(error.to_string());
            return Ok(());
        }
        let mut group = Group::default();
        aside::set_aside(self, &mut group, parts, instead, error, |_, _| {})?;
        group.close(self)?;
        self.sync()
    }
}

fn read_meta(
    store: &dyn Store,
    log_id: impl FnOnce() -> LogId,
    path: &Path,
) -> Result<Meta, QueueError> {
    match get(store, keys::FORMAT)? {
        None => Ok(Meta {
            log_id: log_id(),
            next_seq: 1,
            events_total: 0,
            events_trimmed: 0,
            chunk_bytes: 0,
            next_job: 1,
            next_audit: 1,
            idempotency_keys: 0,
            merged_to: 1,
            clean: true,
        }),
        Some(name) if name == keys::FORMAT_NAME.as_bytes() => {
            let meta = get(store, keys::META)?.unwrap_or_default();
            record::open(keys::META, &meta).map_err(|error| QueueError::Unreadable {
                path: path.to_owned(),
                detail: error.to_string(),
            })
        }
        Some(name) => Err(QueueError::OtherFormat {
            path: path.to_owned(),
            found: String::from_utf8_lossy(&name).into_owned(),
            expected: keys::FORMAT_NAME,
        }),
    }
}

/// Where upkeep goes on after a start.
fn rounds_after(meta: &Meta) -> Rounds {
    if meta.merged_to == meta.next_seq {
        return Rounds { log_end: meta.merged_to, ..Rounds::default() };
    }
    // What an earlier run left unmerged is worth a look, however little it is.
    Rounds { small_chunks: usize::MAX / 2, ..Rounds::default() }
}

/// An owner's dead letters, counted anew.
fn count_box(store: &dyn Store, owner: String) -> Result<DeadBox, QueueError> {
    let mut counted = DeadBox { owner, ..DeadBox::default() };
    scan(store, &keys::dead_of(&counted.owner.clone()), |key, value| {
        counted.count += u64::from(key.last() == Some(&0));
        counted.bytes += (key.len() + value.len()) as u64;
        ControlFlow::Continue(())
    })?;
    Ok(counted)
}
