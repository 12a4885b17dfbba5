//! The lane's loop: it starts flights, takes their landings, and stores what became of them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::BoxFuture;
use holdfast_model::{Chain, Name, Seq};
use holdfast_queue::{LaneOpen, QueueEngine, QueueError, Slots};
use tokio::{
    sync::{mpsc, watch},
    task::{Id, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    lane::{
        Command, JobLane, LaneConfig, LaneView,
        doubts::{self, Doubts},
        flight::{Craft, Landing},
        flights::Flights,
        health::{Health, Moment},
        loans::{Borrowing, Loans, Permit},
        notices::Notices,
        retries::Retries,
        store::Settling,
        verdicts::CheckAnswer,
        way::{Way, next_page},
    },
    lanes::Lanes,
    metrics::{LaneMetrics, Metrics},
    storm::Storm,
};

pub(super) struct Lane {
    pub(super) config: LaneConfig,
    pub(super) engine: Arc<dyn QueueEngine>,
    pub(super) clock: Clock,
    pub(super) metrics: LaneMetrics,
    pub(super) craft: Arc<Craft>,
    pub(super) view: Arc<Mutex<LaneView>>,
    pub(super) health: Health,
    pub(super) head: watch::Receiver<Seq>,
    pub(super) normal: Way,
    pub(super) express: Option<Way>,
    pub(super) storm: Storm,
    /// Slots of events that are on their way from the log into retry records.
    pub(super) parting: Slots,
    pub(super) retries: Retries,
    pub(super) retry_turn: bool,
    pub(super) doubts: Doubts,
    pub(super) search_lag: Option<Duration>,
    pub(super) tasks: JoinSet<Landing>,
    pub(super) flight_of_task: HashMap<Id, u64>,
    pub(super) flights: Flights,
    pub(super) next_flight: u64,
    pub(super) settling: Settling,
    /// Dead letters that go back to pending once they are stored.
    pub(super) to_revive: Vec<Seq>,
    /// Suspects that are dead, to be taken out of their retry records.
    pub(super) condemned: Vec<Seq>,
    pub(super) checking: Option<BoxFuture<'static, CheckAnswer>>,
    /// The check call was asked about the suspects there are.
    pub(super) check_asked: bool,
    /// The lane's own clock, which runs while it is active, up to `active_since`.
    pub(super) active_ms: u64,
    pub(super) active_since: Option<Instant>,
    /// Of a lookup: what its answers name as their source.
    pub(super) answers_as: Option<Arc<str>>,
    /// There was no room for what comes of an attempt; when to look again.
    pub(super) room_at: Option<Instant>,
    pub(super) last_error: String,
    pub(super) notices: Notices,
    /// The newest canary whose end is known.
    pub(super) canary_ended: Seq,
    pub(super) stopping: bool,
    pub(super) loans: Loans,
    /// Of a replay's own lane.
    pub(super) borrowing: Option<Borrowing>,
    pub(super) asking: Option<BoxFuture<'static, Permit>>,
}

impl Lane {
    pub(super) fn new(
        config: LaneConfig,
        job: Option<JobLane>,
        engine: Arc<dyn QueueEngine>,
        clock: Clock,
        metrics: &Metrics,
        opened: LaneOpen,
        shown: (Arc<Mutex<LaneView>>, Lanes),
    ) -> Self {
        let (view, lanes) = shown;
        let (wall, now) = (clock.now(), Instant::now());
        let metrics = metrics.lane(config.name.as_str());
        let borrowing = job.map(|job| {
            let live_name = job.live.config().name.clone();
            Borrowing::new(job.id, job.live, live_name, job.end)
        });
        let mut retries = Retries::new(borrowing.is_none());
        opened.retries.iter().for_each(|head| retries.add(*head));
        let search_lag = config.destination.search_lag();
        let live_name = borrowing.as_ref().map_or(&config.name, |borrowing| &borrowing.live_name);
        let answers_as = config.destination.is_lookup().then(|| Arc::from(live_name.as_str()));
        let head = *engine.head().borrow();
        let at = Moment { wall, now };
        let doubts =
            doubts::at_start(&mut retries, &opened, &config.settings, head, search_lag, at);
        let craft = Arc::new(Craft {
            keyed_as: keyed_as(&config.name, &opened, borrowing.as_ref()),
            job: borrowing.as_ref().map(|borrowing| borrowing.job),
            linked_as: live_name.clone(),
            ..Craft::of(&config, lanes, &engine, &clock, metrics.clone())
        });
        Self {
            normal: Way::normal(&opened, borrowing.as_ref().map(|borrowing| borrowing.end)),
            express: Way::express(&opened.express),
            storm: Storm::new(config.settings.storm.clone(), opened.windows),
            parting: Slots::NONE,
            health: Health::new(opened.state, &config.settings, now),
            head: engine.head(),
            active_ms: opened.active_ms,
            retries,
            doubts,
            search_lag,
            config,
            engine,
            clock,
            metrics,
            craft,
            view,
            retry_turn: true,
            tasks: JoinSet::new(),
            flight_of_task: HashMap::new(),
            flights: Flights::default(),
            next_flight: 1,
            settling: Settling::default(),
            to_revive: Vec::new(),
            condemned: Vec::new(),
            checking: None,
            check_asked: false,
            active_since: None,
            answers_as,
            room_at: None,
            last_error: String::new(),
            notices: Notices::default(),
            canary_ended: 0,
            stopping: false,
            loans: Loans::default(),
            borrowing,
            asking: None,
        }
    }

    pub(super) async fn run(
        mut self,
        mut orders: mpsc::Receiver<Command>,
        stop: CancellationToken,
    ) {
        match self.work(&mut orders, &stop).await {
            Ok(()) => tracing::debug!(lane = %self.config.name, "the lane has stopped"),
            Err(QueueError::NoLane { .. }) if self.borrowing.is_some() => {
                tracing::debug!(lane = %self.config.name, "the replay has ended, and its lane with it");
            }
            // The queue says so itself; here it is only the end of the lane.
            Err(error @ (QueueError::Closed | QueueError::Failed { .. })) => {
                tracing::debug!(lane = %self.config.name, error = %Chain(&error), "the lane ends");
            }
            Err(error) => {
                tracing::error!(lane = %self.config.name, error = %Chain(&error), "the lane cannot go on");
            }
        }
    }

    async fn work(
        &mut self,
        orders: &mut mpsc::Receiver<Command>,
        stop: &CancellationToken,
    ) -> Result<(), QueueError> {
        loop {
            let wake = self.advance().await?;
            let returned = Loans::returned(self.loans.returns());
            let follows = !self.stopping && self.borrowing.is_none();
            if self.stopping && self.flights.is_empty() && self.settling.is_idle() {
                return Ok(());
            }
            tokio::select! {
                result = next_of(&mut self.settling.call) => self.settled(result).await?,
                Some(joined) = self.tasks.join_next_with_id() => {
                    self.land(joined);
                    while let Some(joined) = self.tasks.try_join_next_with_id() {
                        self.land(joined);
                    }
                }
                (express, page) = next_page(&mut self.normal, self.express.as_mut()) => {
                    self.take_page(express, page)?;
                }
                answer = next_of(&mut self.checking) => self.checked(answer),
                Some(order) = orders.recv() => self.obey(order).await?,
                permit = next_of(&mut self.asking) => self.granted(permit),
                () = returned => {}
                // A replay's stretch of the log ends before the head.
                changed = self.head.changed(), if follows => {
                    changed.map_err(|_| QueueError::Closed)?;
                }
                () = sleep_until(wake) => {}
                () = stop.cancelled(), if !self.stopping => self.stopping = true,
            }
        }
    }

    /// Does all that can be done now. Answers when to look again at the latest.
    pub(super) async fn advance(&mut self) -> Result<Option<Instant>, QueueError> {
        let mut wake = None;
        if !self.stopping {
            self.refresh_secrets(&mut wake);
            self.read_what_expires(&mut wake);
            self.start_flights(&mut wake);
            self.lend(&mut wake);
        }
        self.end_windows(&mut wake);
        self.flush_skipped(&mut wake);
        self.detach_slow();
        self.keep_time();
        self.begin_settling();
        if std::mem::take(&mut self.health.changed) {
            self.report_state();
            self.tell_state();
            self.engine.set_lane_state(&self.config.name, self.health.stored.clone()).await?;
        }
        self.show();
        Ok(wake)
    }
}

/// The name in idempotency keys.
fn keyed_as(name: &Name, opened: &LaneOpen, borrowing: Option<&Borrowing>) -> Name {
    let own = || opened.keyed_as.clone().unwrap_or_else(|| name.clone());
    borrowing.map_or_else(own, |borrowing| borrowing.live_name.clone())
}

pub(super) fn soonest(wake: &mut Option<Instant>, at: Option<Instant>) {
    *wake = match (*wake, at) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Waits for a future that may not be there, and takes it away when it is done.
pub(super) async fn next_of<T>(slot: &mut Option<BoxFuture<'static, T>>) -> T {
    match slot {
        Some(future) => {
            let result = future.await;
            *slot = None;
            result
        }
        None => std::future::pending().await,
    }
}
