//! What the writing thread publishes after each commit, and readers use without waiting for it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use holdfast_model::{Event, LogId, Name, Seq};
use tokio::sync::watch;

use crate::{
    engine::{lane::LaneView, read::End, state::State},
    ring::Ring,
    store::Store,
    types::{ConsumerRecord, DeadBox, JobRecord, Page, ReadLimit, Stats},
};

/// Decoded events that lanes share, in bytes.
const RING_BYTES_MAX: usize = 8 * 1024 * 1024;

pub(crate) struct Shared {
    pub(super) store: Arc<dyn Store>,
    pub(super) log_id: LogId,
    pub(super) bytes_max: u64,
    pub(super) head: watch::Sender<Seq>,
    pub(super) failure: watch::Sender<Option<Arc<str>>>,
    pub(super) commits: Commits,
    ring: RwLock<Ring>,
    published: Mutex<Published>,
    closing: AtomicBool,
}

/// A consistent moment of the small records.
#[derive(Clone, Debug, Default)]
pub(super) struct Published {
    pub(super) events_total: u64,
    pub(super) events_trimmed: u64,
    pub(super) head: Seq,
    pub(super) next_audit: u64,
    pub(super) stats: Stats,
    pub(super) lanes: BTreeMap<Name, LaneView>,
    pub(super) boxes: BTreeMap<String, DeadBox>,
    pub(super) jobs: BTreeMap<u64, JobRecord>,
    pub(super) consumers: BTreeMap<Name, Arc<ConsumerRecord>>,
}

/// How commits go; the gateway makes metrics of it.
#[derive(Debug, Default)]
pub struct Commits {
    pub count: AtomicU64,
    pub events: AtomicU64,
    pub bytes: AtomicU64,
    /// Sync times not yet collected, in microseconds, with the events that shared each.
    recent: Mutex<Vec<(u64, u64)>>,
}

/// Commits whose times wait to be collected; later ones are not kept until they are.
const RECENT_MAX: usize = 100_000;

// === impl Commits ===

impl Commits {
    pub(super) fn record(&self, sync: Duration, events: u64, bytes: u64) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.events.fetch_add(events, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() < RECENT_MAX {
            recent.push((u64::try_from(sync.as_micros()).unwrap_or(u64::MAX), events));
        }
    }

    /// Sync times in microseconds and events per commit, since the last call.
    pub fn take_recent(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.recent.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

// === impl Published ===

impl Published {
    pub(super) fn end(&self) -> End {
        End { head: self.head, events_total: self.events_total }
    }
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(state: &State) -> Self {
        Self {
            store: Arc::clone(&state.store),
            log_id: state.meta.log_id.clone(),
            bytes_max: state.limits.bytes_max,
            head: watch::Sender::new(state.meta.next_seq),
            failure: watch::Sender::new(None),
            commits: Commits::default(),
            ring: RwLock::new(Ring::new(RING_BYTES_MAX, state.meta.next_seq)),
            published: Mutex::default(),
            closing: AtomicBool::new(false),
        }
    }

    pub(super) fn published(&self) -> MutexGuard<'_, Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// From now on a full disk is not waited for.
    pub(super) fn set_closing(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    /// The first reason stays.
    pub(super) fn fail(&self, reason: Arc<str>) {
        self.failure.send_if_modified(|shown| {
            let first = shown.is_none();
            shown.get_or_insert(reason);
            first
        });
    }

    pub(super) fn read_recent(&self, from: Seq, limit: ReadLimit) -> Option<Page> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).read(from, limit)
    }

    /// Shows readers what is now on stable storage.
    pub(super) fn publish(&self, state: &mut State, events: Vec<Arc<Event>>) {
        let head = state.meta.next_seq;
        {
            let mut published = self.published();
            published.events_total = state.meta.events_total;
            published.events_trimmed = state.meta.events_trimmed;
            published.head = head;
            published.next_audit = state.meta.next_audit;
            published.stats = state.stats();
            published.lanes =
                state.lanes.iter().map(|(name, lane)| (name.clone(), lane.view())).collect();
            published.boxes.clone_from(&state.boxes);
            if std::mem::take(&mut state.jobs_changed) {
                published.jobs.clone_from(&state.jobs);
            }
            if std::mem::take(&mut state.consumers_changed) {
                published.consumers.clone_from(&state.consumers);
            }
        }
        self.ring.write().unwrap_or_else(PoisonError::into_inner).push(events, head);
        self.head.send_if_modified(|shown| std::mem::replace(shown, head) != head);
    }
}
