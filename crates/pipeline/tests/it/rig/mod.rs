//! A gateway without its edges: a queue in memory, lanes, scripted far ends, scripted time.

mod far_end;
mod oracle;
mod queue;

use std::{
    collections::BTreeMap,
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use holdfast_model::{DeadReason, Destination, LaneState, Ledger, Name, NewEvent, Seq, Timestamp};
use holdfast_pipeline::{
    Clock, LaneConfig, LaneHandle, LaneSettings, LaneView, Lanes, Metrics, Surroundings, lane,
};
use holdfast_queue::{
    Append, DeadId, DeadLetter, DeadQuery, Engine, Limits, QueueEngine, RetryRecord, Start,
    store::memory::MemoryStore,
};
use prometheus::Registry;
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

pub(crate) use self::{
    far_end::{Answer, FarEnd, Request, throttle},
    oracle::{Oracle, Witness},
    queue::Watched,
};

const BEGIN: Timestamp = Timestamp(1_770_000_000_000);
/// The longest, in scripted time, that anything is waited for.
const PATIENCE: Duration = Duration::from_secs(3_600);

pub(crate) struct Rig {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) queue: Arc<Watched>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    pub(crate) stop: CancellationToken,
    /// Where lanes find lookups.
    known: Lanes,
    lanes: BTreeMap<String, Running>,
}

struct Running {
    handle: LaneHandle,
    task: JoinHandle<()>,
    turns: Arc<AtomicU64>,
}

/// Settings for tests: a lane that begins with what the log has.
pub(crate) fn settings(change: impl FnOnce(&mut LaneSettings)) -> LaneSettings {
    let mut settings = LaneSettings { start: Start::All, ..LaneSettings::default() };
    change(&mut settings);
    settings
}

pub(crate) fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// An alert of a rule.
pub(crate) fn alert(rule: u64) -> String {
    format!(r#"{{"rule":{{"id":"{rule}","level":5}}}}"#)
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::over(Arc::default(), Clock::scripted(BEGIN))
    }

    pub(crate) fn over(store: Arc<MemoryStore>, clock: Clock) -> Self {
        let limits = Limits {
            bytes_max: 1 << 30,
            retention: secs(1),
            dead_age_max: secs(90 * 86_400),
            idempotency_window: secs(86_400),
            idempotency_keys_max: 1_000,
        };
        let shared = Arc::clone(&store) as Arc<dyn holdfast_queue::store::Store>;
        let engine = Engine::start(shared, limits, clock.now(), Path::new("memory")).unwrap();
        Self {
            store,
            queue: Arc::new(Watched::new(Arc::new(engine))),
            clock,
            metrics: Metrics::register(&Registry::new()).unwrap(),
            stop: CancellationToken::new(),
            known: Lanes::default(),
            lanes: BTreeMap::new(),
        }
    }

    pub(crate) async fn lane(&mut self, name: &str, settings: LaneSettings, far: &Arc<FarEnd>) {
        self.lane_with_dead_max(name, settings, far, u64::MAX).await;
    }

    pub(crate) async fn lane_with_dead_max(
        &mut self,
        name: &str,
        settings: LaneSettings,
        far: &Arc<FarEnd>,
        dead_bytes_max: u64,
    ) {
        let far = Arc::clone(far) as Arc<dyn Destination>;
        self.lane_to(name, settings, far, dead_bytes_max).await;
    }

    pub(crate) async fn lane_to(
        &mut self,
        name: &str,
        settings: LaneSettings,
        destination: Arc<dyn Destination>,
        dead_bytes_max: u64,
    ) {
        let config = LaneConfig {
            name: Name::new(name).unwrap(),
            kind: "fake",
            settings,
            destination,
            dead_bytes_max,
        };
        let engine = Arc::clone(&self.queue) as Arc<dyn QueueEngine>;
        let around = Surroundings { lanes: self.known.clone(), ..Surroundings::default() };
        let (clock, stop) = (self.clock.clone(), self.stop.clone());
        let opened = lane::open_among(config, engine, clock, &self.metrics, around, stop);
        let (handle, run) = opened.await.unwrap();
        self.known.insert(Name::new(name).unwrap(), handle.clone());
        let turns = Arc::new(AtomicU64::new(0));
        let counted = Counted { inner: Box::pin(run), turns: Arc::clone(&turns) };
        let task = tokio::spawn(counted);
        self.lanes.insert(name.to_owned(), Running { handle, task, turns });
    }

    /// Appends one alert for each rule, in one batch. Answers their numbers.
    pub(crate) async fn append(&self, rules: impl IntoIterator<Item = u64>) -> Vec<Seq> {
        self.append_bodies(rules.into_iter().map(alert).collect()).await
    }

    pub(crate) async fn append_bodies(&self, bodies: Vec<String>) -> Vec<Seq> {
        let append = Append {
            source: "test".into(),
            received_at: self.clock.now(),
            events: bodies.into_iter().map(NewEvent::alert).collect(),
            rejects: Vec::new(),
            position: None,
            idempotency: None,
            from_source: true,
        };
        let appended = self.queue.append(append).await.unwrap();
        (appended.first.unwrap()..=appended.last.unwrap()).collect()
    }

    pub(crate) fn handle(&self, lane: &str) -> LaneHandle {
        self.lanes[lane].handle.clone()
    }

    pub(crate) fn view(&self, lane: &str) -> LaneView {
        self.lanes[lane].handle.view()
    }

    pub(crate) fn state(&self, lane: &str) -> LaneState {
        self.view(lane).state.state
    }

    /// How often the lane's task was woken.
    pub(crate) fn turns(&self, lane: &str) -> u64 {
        self.lanes[lane].turns.load(Ordering::SeqCst)
    }

    /// The ledger, which is balanced at every moment.
    pub(crate) async fn ledger(&self, lane: &str) -> Ledger {
        let ledger = self.queue.ledger(&Name::new(lane).unwrap()).await.unwrap();
        assert_eq!(ledger.imbalance(), 0, "{ledger:?}");
        ledger
    }

    /// Waits, in scripted time, until something is so.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let begin = Instant::now();
        while !is_so() {
            assert!(begin.elapsed() < PATIENCE, "in vain for: {what}");
            look_again(begin).await;
        }
    }

    /// Waits until the lane has nothing pending.
    pub(crate) async fn drained(&self, lane: &str) -> Ledger {
        let begin = Instant::now();
        loop {
            let ledger = self.ledger(lane).await;
            if ledger.pending() == 0 && self.view(lane).in_flight == 0 {
                return ledger;
            }
            assert!(begin.elapsed() < PATIENCE, "{ledger:?} {:?}", self.view(lane));
            look_again(begin).await;
        }
    }

    pub(crate) async fn until_state(&self, lane: &str, state: LaneState) {
        self.until(state.as_str(), || self.state(lane) == state).await;
    }

    pub(crate) async fn dead(&self, lane: &str) -> Vec<(Seq, DeadReason)> {
        self.dead_letters(lane)
            .await
            .into_iter()
            .map(|letter| (letter.event.seq, letter.reason))
            .collect()
    }

    pub(crate) async fn dead_letters(&self, lane: &str) -> Vec<DeadLetter> {
        let owner = Some(lane.to_owned());
        let query =
            DeadQuery { owner, limit: 100_000, scan_max: 1_000_000, ..DeadQuery::default() };
        let page = self.queue.dead_letters(query).await.unwrap();
        page.letters.into_iter().map(|(_, letter)| letter).collect()
    }

    /// Brings dead letters back while their lane is not running.
    pub(crate) async fn revive(&self, ids: Vec<DeadId>) {
        let count = ids.len();
        assert_eq!(self.queue.revive(ids, None).await.unwrap().len(), count);
    }

    pub(crate) fn dead_id(&self, lane: &str, seq: Seq) -> DeadId {
        DeadId { owner: lane.to_owned(), seq }
    }

    pub(crate) async fn record(&self, lane: &str, id: Seq) -> Option<RetryRecord> {
        self.queue.retry(&Name::new(lane).unwrap(), id).await.unwrap()
    }

    /// Cuts the power: everything that was synced stays, and the first `kept` writes that were not.
    pub(crate) async fn crash(self, kept: usize) -> Self {
        let Self { store, clock, lanes, queue, .. } = self;
        for (_, running) in lanes {
            running.task.abort();
            running.task.await.ok();
        }
        drop(queue);
        Self::over(Arc::new(store.crash(kept)), clock)
    }

    /// Stops as the gateway does and starts again over the same store.
    pub(crate) async fn restart(self) -> Self {
        self.stop.cancel();
        for (_, running) in self.lanes {
            running.task.await.unwrap();
        }
        self.queue.close().await.unwrap();
        Self::over(self.store, self.clock)
    }

    /// The lane's task has ended by itself.
    pub(crate) fn has_stopped(&self, lane: &str) -> bool {
        self.lanes[lane].task.is_finished()
    }
}

/// A hundredth of the time that has passed is precise enough.
async fn look_again(begin: Instant) {
    tokio::time::sleep((begin.elapsed() / 100).clamp(ms(5), secs(1))).await;
}

struct Counted {
    inner: Pin<Box<dyn Future<Output = ()> + Send>>,
    turns: Arc<AtomicU64>,
}

impl Future for Counted {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.turns.fetch_add(1, Ordering::SeqCst);
        self.inner.as_mut().poll(context)
    }
}
