//! A destination's own way through the log: read → filter → attempt → settle.
//!
//! One task per lane owns everything of it. Nothing is shared between lanes but the queue.
//!
//! # Promises
//!
//! - An event is settled only after its attempt ended, and its slot is free only when the
//!   settlement is on stable storage: at most `concurrency × batch.max_events` events are sent
//!   again after a crash.
//! - A lane that may not send does not read either: an outage costs attempts, not the backlog.
//! - Trouble is told as an operator event, but never trouble with operator events alone.
//! - A task that ends, by panic too, leaves its events unsettled, so they are sent again.
//!
//! # Not promised
//!
//! Order, unless the settings ask for it: with `order = "none"` a retried event arrives after later
//! ones. Items that one bulk answer refuses arrive after the others of their request in any case.

mod canaries;
mod decide;
mod digests;
mod doubts;
mod enrich;
mod family;
mod flight;
mod flights;
mod health;
mod held;
mod land;
mod loans;
mod notices;
mod orders;
mod overflow;
mod poisons;
mod probes;
mod reader;
mod records;
mod retries;
mod run;
mod salvo;
mod start;
mod store;
mod suspects;
mod verdicts;
mod way;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use holdfast_model::{Destination, LaneState, Name, Seq, Timestamp};
use holdfast_queue::{QueueEngine, QueueError, RetryHead, StoredState};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use self::loans::Permit;
use crate::{
    canary,
    clock::Clock,
    filter::Filter,
    lanes::Lanes,
    metrics::Metrics,
    operator::Operator,
    settings::{LaneSettings, Loops, OnOverflow},
};

/// Events that a replay leaves room for among those that wait for a retry.
const ROOM_LEFT_FREE: u64 = 64;

/// Commands that may wait for a lane.
const COMMANDS_MAX: usize = 256;

/// What a lane is made of.
#[derive(Clone, Debug)]
pub struct LaneConfig {
    pub name: Name,
    /// The destination's type.
    pub kind: &'static str,
    pub settings: LaneSettings,
    pub destination: Arc<dyn Destination>,
    /// Live bytes of dead letters at which lanes park instead of giving up more.
    pub dead_bytes_max: u64,
}

/// Whom a lane speaks to beside its queue and its destination.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Who hears of its trouble.
    pub operator: Operator,
    /// Where it finds the lookups that it asks.
    pub lanes: Lanes,
}

/// What a lane shows of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneView {
    pub name: Name,
    pub kind: &'static str,
    pub state: StoredState,
    /// Everything below has been read, in this run or before.
    pub read_to: Seq,
    /// Events being sent right now.
    pub in_flight: u64,
    /// Events that wait for another one, for order.
    pub held: u64,
    /// Events in retry records that are not being sent.
    pub retrying: u64,
    pub retry_oldest: Option<Timestamp>,
    pub next_retry: Option<Timestamp>,
    pub concurrency: u32,
    pub failures_in_row: u32,
    pub last_error: String,
    /// The newest canary whose end is known.
    pub canary_ended: Seq,
}

/// What makes a lane a replay's own: it has a name of its own in the queue, sends to another lane's
/// destination under that one's name, and below it.
#[derive(Clone, Debug)]
pub(crate) struct JobLane {
    pub(crate) id: u64,
    /// Where its stretch of the log ends.
    pub(crate) end: Seq,
    pub(crate) live: LaneHandle,
}

/// A running lane.
#[derive(Clone, Debug)]
pub struct LaneHandle {
    /// What the lane was made of.
    config: Arc<LaneConfig>,
    view: Arc<Mutex<LaneView>>,
    commands: mpsc::Sender<Command>,
    pending_max: u64,
    pub on_overflow: OnOverflow,
    pub canary: Option<Duration>,
}

pub(crate) enum Command {
    Pause {
        by: String,
        done: oneshot::Sender<()>,
    },
    Resume {
        done: oneshot::Sender<()>,
    },
    RetryNow {
        done: oneshot::Sender<()>,
    },
    /// A replay's lane asks for the right to one attempt.
    Lend {
        reply: oneshot::Sender<Permit>,
    },
    /// A parked or open lane tries at once. A pause stays.
    TryNow {
        done: oneshot::Sender<()>,
    },
    /// Unread events before this go.
    ExpireTo(Seq),
    /// Dead letters that are retry records now.
    Revived {
        heads: Vec<RetryHead>,
        done: oneshot::Sender<()>,
    },
}

/// The lane has stopped.
#[derive(Debug, thiserror::Error)]
#[error("the lane has stopped")]
pub struct Stopped;

impl LaneHandle {
    pub fn view(&self) -> LaneView {
        self.lock().clone()
    }

    /// What the lane was made of.
    pub fn config(&self) -> &Arc<LaneConfig> {
        &self.config
    }

    /// Its `when`.
    pub fn filter(&self) -> Filter {
        self.config.settings.filter.clone()
    }

    /// Waits for the right to one attempt; for ever when the lane has stopped.
    pub(crate) async fn borrow(&self) -> Permit {
        let (reply, answer) = oneshot::channel();
        if self.send(Command::Lend { reply }).await.is_ok()
            && let Ok(permit) = answer.await
        {
            return permit;
        }
        std::future::pending().await
    }

    fn lock(&self) -> MutexGuard<'_, LaneView> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops sending until somebody resumes; what is under way ends. Durable when it returns.
    pub async fn pause(&self, by: &str) -> Result<(), Stopped> {
        let (done, end) = oneshot::channel();
        self.send(Command::Pause { by: by.to_owned(), done }).await?;
        end.await.map_err(|_| Stopped)
    }

    /// Ends a pause; a parked or open lane reads its secrets anew and tries at once.
    pub async fn resume(&self) -> Result<(), Stopped> {
        let (done, end) = oneshot::channel();
        self.send(Command::Resume { done }).await?;
        end.await.map_err(|_| Stopped)
    }

    /// A parked or open lane reads its secrets anew and tries at once; a pause stays.
    pub async fn try_now(&self) -> Result<(), Stopped> {
        let (done, end) = oneshot::channel();
        self.send(Command::TryNow { done }).await?;
        end.await.map_err(|_| Stopped)
    }

    /// Unread events before `to` expire. Comes to nothing when the lane has too much to do just
    /// now: who asks will ask again.
    pub fn expire_to(&self, to: Seq) {
        self.commands.try_send(Command::ExpireTo(to)).ok();
    }

    /// Makes every waiting retry due.
    pub async fn retry_now(&self) -> Result<(), Stopped> {
        let (done, end) = oneshot::channel();
        self.send(Command::RetryNow { done }).await?;
        end.await.map_err(|_| Stopped)
    }

    /// Returns when the view shows them.
    pub(crate) async fn revived(&self, heads: Vec<RetryHead>) -> Result<(), Stopped> {
        let (done, end) = oneshot::channel();
        self.send(Command::Revived { heads, done }).await?;
        end.await.map_err(|_| Stopped)
    }

    /// How many more events may wait for a retry, with some room left for live traffic.
    pub(crate) fn room_for_retries(&self) -> u64 {
        let view = self.lock();
        let left_free = ROOM_LEFT_FREE.min(self.pending_max / 2);
        self.pending_max.saturating_sub(view.retrying + view.in_flight + left_free)
    }

    async fn send(&self, command: Command) -> Result<(), Stopped> {
        self.commands.send(command).await.map_err(|_| Stopped)
    }
}

/// Opens a lane in the queue and makes its task; the caller spawns it.
pub async fn open(
    config: LaneConfig,
    engine: Arc<dyn QueueEngine>,
    clock: Clock,
    metrics: &Metrics,
    stop: CancellationToken,
) -> Result<(LaneHandle, impl Future<Output = ()> + Send + 'static), QueueError> {
    open_among(config, engine, clock, metrics, Surroundings::default(), stop).await
}

/// As [`open`]; tells the operator of its trouble, and asks lookups among the other lanes.
pub async fn open_among(
    mut config: LaneConfig,
    engine: Arc<dyn QueueEngine>,
    clock: Clock,
    metrics: &Metrics,
    around: Surroundings,
    stop: CancellationToken,
) -> Result<(LaneHandle, impl Future<Output = ()> + Send + 'static), QueueError> {
    config.settings.filter.pass_canaries(canary::source(&config.name));
    config.settings.filter.of_lane(config.name.as_str());
    let is_lookup = config.destination.is_lookup();
    let refuses_loops = match config.settings.loops {
        Some(loops) => loops == Loops::Refuse,
        None => is_lookup || config.destination.acts_on_wazuh(),
    };
    if refuses_loops {
        config.settings.filter.refuse_loops(is_lookup);
    }
    open_for(config, None, engine, clock, metrics, around, stop).await
}

/// The same for a replay's own lane, which the queue has made with the job.
pub(crate) async fn open_for(
    config: LaneConfig,
    job: Option<JobLane>,
    engine: Arc<dyn QueueEngine>,
    clock: Clock,
    metrics: &Metrics,
    around: Surroundings,
    stop: CancellationToken,
) -> Result<(LaneHandle, impl Future<Output = ()> + Send + 'static), QueueError> {
    let mut opened = engine.open_lane(&config.name, config.settings.start).await?;
    let level = config.settings.express_level;
    if opened.express.level() != level {
        opened.express = engine.set_express(&config.name, level).await?;
    }
    let view = LaneView {
        name: config.name.clone(),
        kind: config.kind,
        state: opened.state.clone(),
        read_to: opened.position,
        in_flight: 0,
        held: 0,
        retrying: 0,
        retry_oldest: None,
        next_retry: None,
        concurrency: config.settings.concurrency,
        failures_in_row: 0,
        last_error: String::new(),
        canary_ended: 0,
    };
    let (commands, orders) = mpsc::channel(COMMANDS_MAX);
    let handle = LaneHandle {
        view: Arc::new(Mutex::new(view)),
        config: Arc::new(config.clone()),
        commands,
        pending_max: config.settings.retry.pending_max,
        on_overflow: config.settings.on_overflow,
        canary: config.settings.canary,
    };
    let notices = notices::Notices::new(around.operator, &opened.state);
    let shown = (Arc::clone(&handle.view), around.lanes);
    let mut lane = run::Lane::new(config, job, engine, clock, metrics, opened, shown);
    lane.notices = notices;
    Ok((handle, lane.run(orders, stop)))
}

/// Whether a state keeps a lane from delivering what it has.
pub fn is_healthy(state: LaneState) -> bool {
    match state {
        LaneState::Active => true,
        LaneState::Throttled { .. } | LaneState::Open | LaneState::BackedUp => false,
        LaneState::AuthFailed | LaneState::ConfigFailed | LaneState::Paused => false,
    }
}
