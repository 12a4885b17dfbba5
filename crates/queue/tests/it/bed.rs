//! What the tests stand on: a queue over either store, that can be closed, crashed and counted.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
    task::Poll,
    time::Duration,
};

use futures_util::future::maybe_done;
use holdfast_model::{Event, Ledger, Name, NewEvent, Seq, Timestamp};
use holdfast_queue::{
    Append, Appended, DeadId, DeadQuery, Engine, Limits, Page, QueueEngine, QueueError, ReadLimit,
    RetryRecord, Settle, Start,
    store::{Store, memory::MemoryStore, sled::SledStore},
    verify::{Report, verify},
};
use tempfile::TempDir;

use crate::make::{NOON, alert, batch, number};

pub(crate) const MIB: u64 = 1024 * 1024;
pub(crate) const ALL: ReadLimit = ReadLimit { events_max: usize::MAX, bytes_max: usize::MAX };

enum Kind {
    Memory(Arc<MemoryStore>),
    Sled { folder: TempDir, store: Option<Arc<SledStore>> },
}

pub(crate) struct Bed {
    kind: Kind,
    pub(crate) limits: Limits,
    pub(crate) now: Timestamp,
    engine: Option<Engine>,
}

pub(crate) fn limits() -> Limits {
    Limits {
        bytes_max: u64::MAX / 4,
        retention: Duration::from_secs(24 * 3600),
        dead_age_max: Duration::from_secs(90 * 24 * 3600),
        idempotency_window: Duration::from_secs(24 * 3600),
        idempotency_keys_max: 1_000_000,
    }
}

// === impl Bed ===

impl Bed {
    pub(crate) fn memory() -> Self {
        Self::over(Arc::default())
    }

    pub(crate) fn over(store: Arc<MemoryStore>) -> Self {
        let mut bed = Self { kind: Kind::Memory(store), limits: limits(), now: NOON, engine: None };
        bed.open();
        bed
    }

    pub(crate) fn sled() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let kind = Kind::Sled { folder, store: None };
        let mut bed = Self { kind, limits: limits(), now: NOON, engine: None };
        bed.open();
        bed
    }

    pub(crate) fn q(&self) -> &Engine {
        self.engine.as_ref().unwrap()
    }

    pub(crate) fn memory_store(&self) -> &MemoryStore {
        match &self.kind {
            Kind::Memory(store) => store,
            Kind::Sled { .. } => panic!("not in memory"),
        }
    }

    pub(crate) fn try_open(&mut self) -> Result<(), QueueError> {
        let store = self.store();
        self.engine = Some(Engine::start(store, self.limits.clone(), self.now, Path::new("bed"))?);
        Ok(())
    }

    fn open(&mut self) {
        self.try_open().unwrap();
    }

    fn store(&mut self) -> Arc<dyn Store> {
        match &mut self.kind {
            Kind::Memory(store) => Arc::clone(store) as Arc<dyn Store>,
            Kind::Sled { folder, store } => {
                let open = || Arc::new(SledStore::open(folder.path(), 0).unwrap());
                Arc::clone(store.get_or_insert_with(open)) as Arc<dyn Store>
            }
        }
    }

    pub(crate) async fn close(&mut self) {
        if let Some(engine) = self.engine.take() {
            engine.close().await.unwrap();
        }
    }

    pub(crate) async fn reopen(&mut self) {
        self.close().await;
        if let Kind::Sled { store, .. } = &mut self.kind {
            *store = None;
        }
        self.open();
    }

    pub(crate) async fn reopen_with(&mut self, change: impl FnOnce(&mut Limits)) {
        change(&mut self.limits);
        self.reopen().await;
    }

    /// Ends without closing, and starts anew. In memory, of what was not synced the first `kept`
    /// batches stay; on disk the process' own death is as far as a test of this kind goes.
    pub(crate) fn crash(&mut self, kept: usize) {
        self.engine = None;
        match &mut self.kind {
            Kind::Memory(store) => *store = Arc::new(store.crash(kept)),
            Kind::Sled { store, .. } => *store = None,
        }
        self.open();
    }

    /// What a crash would leave just now, beside the queue that goes on.
    pub(crate) fn after_crash(&self, kept: usize) -> Self {
        Self::over(Arc::new(self.memory_store().crash(kept)))
    }

    /// Batches that a crash may take.
    pub(crate) fn unsynced(&self) -> usize {
        match &self.kind {
            Kind::Memory(store) => store.unsynced(),
            Kind::Sled { .. } => 0,
        }
    }

    /// From now on nothing reaches stable storage, and nothing is acknowledged.
    pub(crate) fn hold_syncs(&self) {
        self.memory_store().fail_sync.store(true, Ordering::SeqCst);
    }

    /// Runs operations that no source can be refused for, so that all share one commit: the writing
    /// thread is kept waiting for room until the last of them waits, too.
    pub(crate) async fn in_one_group<F: Future>(
        &self,
        operations: impl Iterator<Item = F>,
    ) -> Vec<F::Output> {
        self.memory_store().set_space(MIB, 0);
        let release = async { self.memory_store().set_space(u64::MAX / 2, 0) };
        // Each is polled once, and so sent, before the last one releases them; without tokio's
        // budget, which would put off all but the first 128.
        let together = futures_util::future::join(join_in_order(operations), release);
        tokio::task::unconstrained(together).await.0
    }

    /// Closes, counts everything anew, and opens again.
    pub(crate) async fn report(&mut self) -> Report {
        self.close().await;
        let report = verify(self.store(), Path::new("bed")).unwrap();
        if let Kind::Sled { store: Some(store), .. } = &self.kind {
            store.check_blobs().unwrap();
        }
        self.open();
        report
    }

    /// Everything adds up: by the engine's own counts and by counting anew.
    pub(crate) async fn sound(&mut self) {
        let before = self.q().stats();
        let mut ledgers = Vec::new();
        for lane in self.q().lanes() {
            let ledger = self.q().ledger(&lane.name).await.unwrap();
            assert_eq!(ledger.imbalance(), 0, "{} {ledger:?}", lane.name);
            ledgers.push(ledger);
        }
        let report = self.report().await;
        assert_eq!(report.problems, [] as [String; 0]);
        let counted: Vec<Ledger> = report.lanes.iter().map(|lane| lane.ledger).collect();
        assert_eq!(counted, ledgers);
        let after = self.q().stats();
        assert_eq!(before.bytes_live, after.bytes_live, "live bytes are kept, and counted alike");
        assert_eq!(before.events_in_log, after.events_in_log);
    }

    pub(crate) async fn upkeep_at(&mut self, now: Timestamp) {
        self.now = now;
        self.q().upkeep(now).await.unwrap();
    }

    // What sources do.

    pub(crate) async fn try_append(&self, events: Vec<NewEvent>) -> Result<Appended, QueueError> {
        self.q().append(batch("wazuh", self.now, events)).await
    }

    /// Appends alerts as Holdfast's own, which wait for room instead of being refused.
    pub(crate) async fn append_own(
        &self,
        numbers: impl IntoIterator<Item = u64>,
    ) -> Result<(), QueueError> {
        let events = numbers.into_iter().map(alert).collect();
        let append = Append { from_source: false, ..batch("holdfast", self.now, events) };
        self.q().append(append).await.map(|_| ())
    }

    /// Appends alerts with these numbers in them.
    pub(crate) async fn append(&self, numbers: impl IntoIterator<Item = u64>) -> Appended {
        self.try_append(numbers.into_iter().map(alert).collect()).await.unwrap()
    }

    /// Appends so many alerts one by one, each in a chunk of its own.
    pub(crate) async fn append_singles(&self, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            self.append([number]).await;
        }
    }

    // What lanes do.

    pub(crate) async fn lane(&self, name: &str) -> Name {
        let name = Name::new(name).unwrap();
        self.q().open_lane(&name, Start::All).await.unwrap();
        name
    }

    pub(crate) async fn page(&self, from: Seq, limit: ReadLimit) -> Page {
        self.q().read(from, limit).await.unwrap()
    }

    /// Everything readable from `from` on.
    pub(crate) async fn events(&self, from: Seq) -> Vec<Arc<Event>> {
        let page = self.page(from, ALL).await;
        assert_eq!(page.next, from.max(*self.q().head().borrow()));
        page.events
    }

    /// The numbers in the readable alerts.
    pub(crate) async fn numbers(&self, from: Seq) -> Vec<u64> {
        self.events(from).await.iter().map(|event| number(&event.body)).collect()
    }

    pub(crate) async fn settle(&self, lane: &Name, item: Settle) {
        self.q().settle(lane, vec![item]).await.unwrap();
    }

    pub(crate) async fn q_retry(&self, lane: &Name, id: Seq) -> Option<RetryRecord> {
        self.q().retry(lane, id).await.unwrap()
    }

    pub(crate) async fn ledger(&self, lane: &Name) -> Ledger {
        self.q().ledger(lane).await.unwrap()
    }

    pub(crate) async fn dead_ids(&self, owner: &str) -> Vec<DeadId> {
        let owner = Some(owner.to_owned());
        let query = DeadQuery { owner, limit: 1_000, scan_max: 10_000, ..DeadQuery::default() };
        let page = self.q().dead_letters(query).await.unwrap();
        page.letters.into_iter().map(|(id, _)| id).collect()
    }
}

/// Like `join_all`, which sends more than a few in any order.
async fn join_in_order<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.map(|future| Box::pin(maybe_done(future))).collect();
    std::future::poll_fn(|context| {
        let waiting = futures.iter_mut().filter_map(|future| match future.as_mut().poll(context) {
            Poll::Ready(()) => None,
            Poll::Pending => Some(()),
        });
        if waiting.count() == 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    futures.iter_mut().filter_map(|future| future.as_mut().take_output()).collect()
}
