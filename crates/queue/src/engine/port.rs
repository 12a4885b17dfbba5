//! The engine behind its port: which calls go to the writing thread, and which read.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use holdfast_model::{Ledger, LogId, Name, Seq, Timestamp};
use tokio::sync::watch;

use super::{
    Engine, NoRoom, adopt, append, aside, children, consumers, dead, idempotency, jobs, keys,
    lane::LaneView,
    lanes, links,
    read::{self, Found},
    settle,
    state::{get, joined},
    upkeep,
};
use crate::{
    QueueEngine,
    error::QueueError,
    record::{self, Sealed},
    types::*,
};

/// How often a reading is repeated because the store changed meanwhile.
const TRIES_MAX: usize = 1_000;
/// Reads of a page after which it is taken as it is: the log itself does not add up then.
const STRICT_TRIES_MAX: usize = 100;
/// Until what was applied is also published: a sync takes so long.
const PUBLISH_WAIT: Duration = Duration::from_millis(1);

/// Bytes whose packing takes so long that it must not hold up other tasks.
const PACK_BYTES_MAX: usize = 1024 * 1024;

/// Packs in the caller's own time: here when it is little, where it may block when it is much.
async fn off_the_runtime<T: Send + 'static>(
    bytes: usize,
    pack: impl FnOnce() -> Result<T, QueueError> + Send + 'static,
) -> Result<T, QueueError> {
    if bytes <= PACK_BYTES_MAX {
        return pack();
    }
    match tokio::task::spawn_blocking(pack).await {
        Ok(packed) => packed,
        Err(error) => {
            Err(QueueError::Store { action: "pack for", source: std::sync::Arc::new(error) })
        }
    }
}

#[async_trait]
impl QueueEngine for Engine {
    fn log_id(&self) -> &LogId {
        &self.shared.log_id
    }

    fn head(&self) -> watch::Receiver<Seq> {
        self.shared.head.subscribe()
    }

    fn failure(&self) -> watch::Receiver<Option<std::sync::Arc<str>>> {
        self.shared.failure.subscribe()
    }

    async fn append(&self, append: Append) -> Result<Appended, QueueError> {
        let no_room = if append.from_source { NoRoom::Refuse } else { NoRoom::Wait };
        let bytes: usize = append.events.iter().map(|event| event.body.len()).sum();
        let prepared = off_the_runtime(bytes, move || append::prepare(append)).await?;
        self.operate(no_room, move |state, group| append::run(state, group, prepared)).await
    }

    async fn source_position(&self, source: &str) -> Result<Option<Bytes>, QueueError> {
        let key = keys::source(source);
        let position = self.blocking(move |store| get(store, &key)).await?;
        Ok(position.map(Bytes::from))
    }

    async fn idempotent(&self, key: [u8; 16]) -> Result<Option<IdempotentAnswer>, QueueError> {
        let head = self.shared.published().head;
        self.blocking(move |store| idempotency::find(store, &key, head)).await
    }

    async fn open_lane(&self, lane: &Name, start: Start) -> Result<LaneOpen, QueueError> {
        let lane = lane.clone();
        self.write(move |state, group| lanes::open(state, group, &lane, start)).await
    }

    async fn set_express(
        &self,
        lane: &Name,
        level: Option<u16>,
    ) -> Result<ExpressOpen, QueueError> {
        let lane = lane.clone();
        self.write(move |state, group| lanes::set_express(state, group, &lane, level)).await
    }

    async fn links_of(&self, seq: Seq) -> Result<Vec<LaneLink>, QueueError> {
        self.blocking(move |store| links::of(store, seq)).await
    }

    async fn children_of(&self, seq: Seq) -> Result<Vec<Seq>, QueueError> {
        self.blocking(move |store| children::of(store, seq)).await
    }

    async fn event_of(&self, lane: &Name, remote_id: &str) -> Result<Option<Seq>, QueueError> {
        let (lane, remote_id) = (lane.clone(), remote_id.to_owned());
        self.blocking(move |store| links::event(store, &lane, &remote_id)).await
    }

    async fn close_lane(&self, lane: &Name, in_order: bool) -> Result<(), QueueError> {
        let lane = lane.clone();
        self.write(move |state, group| lanes::close(state, group, &lane, in_order)).await
    }

    async fn adopt_lane(&self, old: &Name, new: &Name) -> Result<Adoption, QueueError> {
        // One that was given up in the middle comes to its end first.
        while self.write(adopt::step).await? {}
        let (old, new) = (old.clone(), new.clone());
        let done = self.write(move |state, group| adopt::begin(state, group, &old, &new)).await?;
        while done == Adoption::Done && self.write(adopt::step).await? {}
        Ok(done)
    }

    async fn limit_lane(&self, lane: &Name, limit: BacklogLimit) -> Result<(), QueueError> {
        let lane = lane.clone();
        self.write(move |state, _| {
            state.lane(&lane)?.limit = limit;
            Ok(())
        })
        .await
    }

    async fn read(&self, from: Seq, limit: ReadLimit) -> Result<Page, QueueError> {
        if let Some(page) = self.shared.read_recent(from, limit) {
            return Ok(page);
        }
        let end = self.shared.published().end();
        for tries in 0..TRIES_MAX {
            let strict = tries < STRICT_TRIES_MAX;
            let found = self.blocking(move |store| read::page(store, from, end, limit, strict));
            match found.await? {
                Found::Page(page) => {
                    if !strict {
                        tracing::error!(from, next = page.next, "the log's counts do not add up");
                    }
                    return Ok(page);
                }
                Found::Damaged(first) => {
                    self.write(move |state, group| aside::chunk(state, group, first)).await?;
                }
                Found::Changed => {}
            }
        }
        let key = record::show_key(&keys::chunk(from));
        Err(QueueError::Corrupt { key, problem: "it changes with every reading" })
    }

    async fn settle(&self, lane: &Name, items: Vec<Settle>) -> Result<(), QueueError> {
        let members = items.iter().flat_map(|item| &item.retry).flat_map(|record| &record.members);
        let answers = items.iter().flat_map(|item| &item.answers);
        let bytes: usize = members.map(|member| member.body.len()).sum::<usize>()
            + answers.map(|answer| answer.event.body.len()).sum::<usize>();
        let prepare = || items.into_iter().map(settle::prepare).collect::<Result<Vec<_>, _>>();
        let items = off_the_runtime(bytes, prepare).await?;
        let lane = lane.clone();
        self.write(move |state, group| settle::run(state, group, &lane, items)).await
    }

    async fn retry(&self, lane: &Name, id: Seq) -> Result<Option<RetryRecord>, QueueError> {
        let lane = lane.clone();
        self.write(move |state, group| settle::retry(state, group, &lane, id)).await
    }

    async fn set_lane_state(&self, lane: &Name, stored: StoredState) -> Result<(), QueueError> {
        let lane = lane.clone();
        self.write(move |state, group| lanes::set_state(state, group, &lane, stored)).await
    }

    async fn ledger(&self, name: &Name) -> Result<Ledger, QueueError> {
        for _ in 0..TRIES_MAX {
            let (lane, end, trimmed, dead) = {
                let published = self.shared.published();
                let missing = || QueueError::NoLane { lane: name.to_string() };
                let lane = published.lanes.get(name).cloned().ok_or_else(missing)?;
                let dead = published.boxes.get(name.as_str()).map_or(0, |dead| dead.count);
                (lane, published.end(), published.events_trimmed, dead)
            };
            let position = lane.position;
            let before = self
                .blocking(move |store| read::events_before(store, position, end, trimmed))
                .await;
            match before {
                Ok(Some(before)) => return Ok(lane.ledger(end.events_total, before, dead)),
                // Trimmed since this moment was published: the next one comes with the sync.
                Ok(None) => tokio::time::sleep(PUBLISH_WAIT).await,
                Err(QueueError::Corrupt { .. }) => {
                    self.write(move |state, group| aside::around(state, group, position)).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(self.failed())
    }

    fn lanes(&self) -> Vec<LaneSummary> {
        let summary = |(name, lane): (&Name, &LaneView)| LaneSummary {
            name: name.clone(),
            position: lane.position,
            state: lane.state.clone(),
            open: lane.open,
            last_open_at: lane.last_open_at,
            retrying: lane.retrying,
            retry_bytes: lane.retry_bytes,
            backlog: lane.backlog,
            job: lane.end.and_then(|_| job_of_lane(name.as_str())),
        };
        self.shared.published().lanes.iter().map(summary).collect()
    }

    async fn abandon_lane(&self, lane: &Name, end: DeadEnd) -> Result<u64, QueueError> {
        let lane = lane.clone();
        self.write(move |state, group| lanes::abandon(state, group, &lane, end)).await
    }

    async fn dead_letters(&self, query: DeadQuery) -> Result<DeadPage, QueueError> {
        let (page, damaged) = self.blocking(move |store| dead::list(store, &query)).await?;
        if !damaged.is_empty() {
            self.write(move |state, group| aside::dead(state, group, &damaged)).await?;
        }
        Ok(page)
    }

    async fn dead_letter(&self, id: &DeadId) -> Result<Option<DeadLetter>, QueueError> {
        let wanted = id.clone();
        match self.blocking(move |store| dead::load(store, &wanted)).await {
            Err(QueueError::Corrupt { .. }) => {
                let ids = [id.clone()];
                self.write(move |state, group| aside::dead(state, group, &ids)).await?;
                Ok(None)
            }
            found => found,
        }
    }

    async fn remove_dead(&self, ids: Vec<DeadId>, end: DeadEnd) -> Result<u64, QueueError> {
        let count = ids.len().min(DEAD_STEP_MAX);
        self.write(move |state, group| dead::remove(state, group, &ids[..count], end)).await
    }

    async fn revive(
        &self,
        ids: Vec<DeadId>,
        job: Option<u64>,
    ) -> Result<Vec<RetryHead>, QueueError> {
        let count = ids.len().min(DEAD_STEP_MAX);
        self.write(move |state, group| dead::revive(state, group, &ids[..count], job)).await
    }

    fn dead_boxes(&self) -> Vec<DeadBox> {
        self.shared.published().boxes.values().cloned().collect()
    }

    async fn trace(&self, seq: Seq) -> Result<Vec<Trace>, QueueError> {
        self.trace_event(seq).await
    }

    async fn standing(&self, lane: &Name, seq: Seq) -> Result<Option<Standing>, QueueError> {
        self.standing_of(lane, seq).await
    }

    async fn put_job(&self, job: JobRecord) -> Result<JobRecord, QueueError> {
        self.write(move |state, group| jobs::put(state, group, job)).await
    }

    async fn end_job(
        &self,
        id: u64,
        how: JobState,
        problem: String,
        at: Timestamp,
    ) -> Result<Option<JobRecord>, QueueError> {
        self.write(move |state, group| jobs::end(state, group, id, how, &problem, at)).await
    }

    async fn copy_dead(&self, ids: Vec<DeadId>, job: u64) -> Result<Vec<RetryHead>, QueueError> {
        let count = ids.len().min(DEAD_STEP_MAX);
        self.write(move |state, group| jobs::copy_dead(state, group, &ids[..count], job)).await
    }

    async fn jobs(&self) -> Result<Vec<JobRecord>, QueueError> {
        Ok(self.shared.published().jobs.values().cloned().collect())
    }

    async fn put_consumer(&self, record: ConsumerRecord) -> Result<(), QueueError> {
        self.write(move |state, group| consumers::put(state, group, record)).await
    }

    async fn remove_consumer(&self, name: &Name) -> Result<bool, QueueError> {
        let name = name.clone();
        self.write(move |state, group| consumers::remove(state, group, &name)).await
    }

    fn consumers(&self) -> Vec<Arc<ConsumerRecord>> {
        self.shared.published().consumers.values().cloned().collect()
    }

    async fn events_from(&self, seq: Seq) -> Result<u64, QueueError> {
        for _ in 0..TRIES_MAX {
            let (end, trimmed) = {
                let published = self.shared.published();
                (published.end(), published.events_trimmed)
            };
            let before =
                self.blocking(move |store| read::events_before(store, seq, end, trimmed)).await;
            match before {
                Ok(Some(before)) => return Ok(end.events_total.saturating_sub(before)),
                Ok(None) => tokio::time::sleep(PUBLISH_WAIT).await,
                Err(QueueError::Corrupt { .. }) => {
                    self.write(move |state, group| aside::around(state, group, seq)).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(self.failed())
    }

    async fn add_audit(&self, entry: AuditEntry) -> Result<(), QueueError> {
        let sealed = Sealed::new(&entry)?;
        self.write(move |state, group| {
            let key = keys::audit(state.meta.next_audit);
            let writes = sealed.writes(&key);
            group.reserve(state, writes.len())?;
            group.extend(writes);
            state.meta.next_audit += 1;
            Ok(())
        })
        .await
    }

    async fn audit(&self, limit: usize) -> Result<Vec<AuditEntry>, QueueError> {
        let next = self.shared.published().next_audit;
        self.blocking(move |store| {
            let first = next.saturating_sub(limit as u64).max(1);
            let mut entries = Vec::new();
            for number in (first..next).rev() {
                let key = keys::audit(number);
                let Some(bytes) = joined(store, &key)? else { continue };
                match record::open(&key, &bytes) {
                    Ok(entry) => entries.push(entry),
                    // It stays where it is, and hides no other.
                    Err(error) => tracing::error!(%error, "an audit entry is damaged"),
                }
            }
            Ok(entries)
        })
        .await
    }

    fn stats(&self) -> Stats {
        let space = self.shared.store.space();
        let stats = self.shared.published().stats;
        Stats {
            bytes_free: space.free,
            bytes_reserved: space.reserve,
            bytes_max: self.shared.bytes_max,
            ..stats
        }
    }

    async fn close(&self) -> Result<(), QueueError> {
        // Before asking for anything: a full disk is not waited for any more.
        self.shared.set_closing();
        let marked = self
            .write(|state, group| {
                upkeep::note_lanes(state, group)?;
                group.reserve(state, 1)?;
                state.meta.clean = true;
                group.push(state.meta_write()?);
                Ok(())
            })
            .await;
        self.operations.lock().unwrap_or_else(PoisonError::into_inner).take();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // It ends with its last operation, now that no sender is left.
            tokio::task::spawn_blocking(move || writer.join().ok()).await.ok();
        }
        marked
    }
}
