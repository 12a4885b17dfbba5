//! One attempt: it sends once and says how it ended. Takes a refused batch apart.
//!
//! Settles nothing and decides nothing about the lane. A crash in the middle loses nothing: until
//! the lane has settled the flight's events, they are unsettled in the queue.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use holdfast_model::{
    Delivered, DeliveryError, Destination, Event, LogId, Member, Name, Reason, Seq, Shipment,
    Timestamp, delivery_key, summary_key,
};
use holdfast_queue::{AttemptNote, QueueEngine, QueueError, RetryHead};
use tokio::time::{Instant, timeout};

use crate::{
    clock::Clock,
    lane::{
        LaneConfig,
        enrich::{self, Enricher},
        records::Ended,
        salvo::{self, Answer, Attempt},
    },
    lanes::Lanes,
    metrics::LaneMetrics,
    settings::InDoubt,
    settlement::{Failure, Outcome},
    storm,
};

/// What every flight of a lane shares.
pub(super) struct Craft {
    pub(super) lane: Name,
    /// The name in idempotency keys: the lane's, or an older one of it; a replay's lane sends under
    /// that of its destination.
    pub(super) keyed_as: Name,
    /// The lane whose links are this one's: a replay's are its destination's.
    pub(super) linked_as: Name,
    pub(super) enricher: Enricher,
    /// The replay whose own lane this is.
    pub(super) job: Option<u64>,
    pub(super) log_id: LogId,
    pub(super) destination: Arc<dyn Destination>,
    pub(super) engine: Arc<dyn QueueEngine>,
    pub(super) clock: Clock,
    pub(super) metrics: LaneMetrics,
    pub(super) timeout: Duration,
    pub(super) poison_limit: u32,
    pub(super) in_doubt: InDoubt,
}

/// Where a flight's events are stored.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Origin {
    Log,
    /// In the log, as an event of the express class.
    Express,
    Retry(RetryHead),
    /// In these retry records, which the lane made while the flight was under way.
    Detached(Vec<Seq>),
}

impl Origin {
    /// The retry records that hold the events.
    pub(super) fn records(&self) -> Vec<Seq> {
        match self {
            Self::Log | Self::Express => Vec::new(),
            Self::Retry(head) => vec![head.id],
            Self::Detached(ids) => ids.clone(),
        }
    }
}

/// A flight before it starts.
pub(super) struct Plan {
    pub(super) number: u64,
    pub(super) origin: Origin,
    /// Of the log; a retry record is loaded by the flight.
    pub(super) events: Vec<Arc<Event>>,
    pub(super) in_doubt: bool,
    /// The lane's own clock.
    pub(super) active_ms: u64,
}

/// What a flight's events have behind them.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    pub(super) tries: u32,
    pub(super) attempts: Vec<AttemptNote>,
    pub(super) first_active_ms: Option<u64>,
    pub(super) in_doubt: bool,
    pub(super) job: Option<u64>,
}

/// How a flight ended.
pub(super) struct Landing {
    pub(super) number: u64,
    pub(super) past: Past,
    /// Empty when there was nothing to send: the record is gone, or unreadable.
    pub(super) members: Vec<Ended>,
    /// The failure of a whole request, for the lane's state.
    pub(super) failure: Option<Failure>,
    /// Two different events were forbidden, and none was taken.
    pub(super) forbidden_twice: bool,
    /// How many requests it took.
    pub(super) requests: u32,
    pub(super) at: Timestamp,
    /// The record could not be read; it stays where it is.
    pub(super) unreadable: Option<QueueError>,
}

impl Craft {
    /// That of a lane of its own, which was never renamed.
    pub(super) fn of(
        config: &LaneConfig,
        lanes: Lanes,
        engine: &Arc<dyn QueueEngine>,
        clock: &Clock,
        metrics: LaneMetrics,
    ) -> Self {
        let settings = &config.settings;
        Self {
            lane: config.name.clone(),
            keyed_as: config.name.clone(),
            linked_as: config.name.clone(),
            enricher: Enricher {
                lookups: settings.enrich.clone(),
                wait: settings.enrich_wait,
                lanes,
            },
            job: None,
            log_id: engine.log_id().clone(),
            destination: Arc::clone(&config.destination),
            engine: Arc::clone(engine),
            clock: clock.clone(),
            metrics,
            timeout: settings.timeout,
            poison_limit: settings.poison_limit,
            in_doubt: settings.in_doubt,
        }
    }

    pub(super) async fn fly(self: Arc<Self>, plan: Plan) -> Landing {
        let mut landing = Landing::of(plan.number, Vec::new(), self.clock.now());
        let (past, events) = match self.load(plan).await {
            Ok(loaded) => loaded,
            Err(error) => return Landing { unreadable: Some(error), ..landing },
        };
        landing.at = self.clock.now();
        if past.tries == 0 {
            for event in &events {
                let waited = landing.at.since(event.received_at);
                self.metrics.wait_seconds.observe(waited.as_secs_f64());
            }
        }
        let searches = self.destination.search_lag().is_some();
        if past.in_doubt && self.in_doubt == InDoubt::DeadLetter && !searches {
            let why = "the gateway stopped while it may have been under way";
            landing.members = unknown(events, why);
            return Landing { past, ..landing };
        }
        let mut members = self.members(&events, &past).await;
        if let Some(outcomes) = self.held_back(&members).await {
            landing.members = events.into_iter().zip(outcomes).collect();
            return Landing { past, ..landing };
        }
        self.enrich(&mut members).await;
        let sent = salvo::send(members, self.poison_limit, &*self).await;
        Landing {
            past,
            members: events.into_iter().zip(sent.outcomes).collect(),
            failure: sent.failure,
            forbidden_twice: sent.forbidden_twice,
            requests: sent.requests,
            ..landing
        }
    }

    async fn load(&self, plan: Plan) -> Result<(Past, Vec<Arc<Event>>), QueueError> {
        let Origin::Retry(head) = plan.origin else {
            let past = Past {
                first_active_ms: Some(plan.active_ms),
                in_doubt: plan.in_doubt,
                job: self.job,
                ..Past::default()
            };
            return Ok((past, plan.events));
        };
        let Some(record) = self.engine.retry(&self.lane, head.id).await? else {
            return Ok((Past::default(), Vec::new()));
        };
        let past = Past {
            tries: record.tries,
            attempts: record.attempts,
            first_active_ms: Some(record.first_active_ms),
            in_doubt: record.in_doubt || plan.in_doubt,
            job: record.job,
        };
        let events = record.members.iter().map(|stored| Arc::new(stored.to_event())).collect();
        Ok((past, events))
    }

    async fn members(&self, events: &[Arc<Event>], past: &Past) -> Vec<Member> {
        let mut members: Vec<_> = events.iter().map(|event| self.member(event, past)).collect();
        for member in members.iter_mut().filter(|member| member.event.parent.is_some()) {
            member.parent = self.parent(&member.event).await;
        }
        members
    }

    async fn enrich(&self, members: &mut [Member]) {
        self.enricher.enrich(members).await;
        for enrichment in members.iter().flat_map(|member| &member.enrichments) {
            match enrichment.answers {
                Ok(_) => self.metrics.enrichments_answered.inc(),
                Err(_) => self.metrics.enrichments_missing.inc(),
            }
        }
    }

    /// When one of them is too early, none is sent: it waits alone, and the others go at once.
    async fn held_back(&self, members: &[Member]) -> Option<Vec<Outcome>> {
        let mut early = Vec::with_capacity(members.len());
        for member in members {
            early.push(self.is_early(member).await);
        }
        let outcome = |early| match early {
            true => Outcome::Failed(Failure {
                reason: Reason::Connect,
                ..failure("nothing was sent: what it is about has not been delivered here yet")
            }),
            false => Outcome::Unsent,
        };
        early.contains(&true).then(|| early.into_iter().map(outcome).collect())
    }

    fn member(&self, event: &Arc<Event>, past: &Past) -> Member {
        let id = self.log_id.event(event.seq);
        let key = match (storm::is_summary(event), self.job) {
            (false, job) => delivery_key(&id, &self.keyed_as, job),
            (true, None) => summary_key(&id, &self.keyed_as),
            (true, Some(job)) => format!("{}.r{job}", summary_key(&id, &self.keyed_as)),
        };
        let (event, attempt, in_doubt) = (Arc::clone(event), past.tries + 1, past.in_doubt);
        Member { attempt, in_doubt, ..Member::first(id, key, event) }
    }

    fn count(&self, results: &Answer) {
        match results {
            Ok(results) => {
                self.metrics.attempts_ok.inc();
                for error in results.iter().filter_map(|result| result.as_ref().err()) {
                    self.metrics.item_failed(error.reason);
                }
            }
            Err(error) => self.metrics.failed(error.reason),
        }
    }
}

impl Attempt for Craft {
    /// One request, bounded here so that no destination can forget to.
    async fn attempt(&self, shipment: &Shipment) -> Answer {
        let started = Instant::now();
        // The destination's own limit is the same and knows more; this one is for those without.
        let patience = self.timeout + self.timeout / 10 + Duration::from_millis(100);
        // A panic costs this attempt, of which nobody knows how far it came.
        let guarded = AssertUnwindSafe(self.destination.deliver(shipment)).catch_unwind();
        let outcome = match timeout(patience, guarded).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => {
                tracing::error!(lane = %self.lane, "the destination's code panicked");
                Err(DeliveryError::new(Reason::InDoubt).with_excerpt(PANICKED))
            }
            Err(elapsed) => Err(DeliveryError::caused_by(Reason::InDoubt, elapsed)),
        };
        self.metrics.attempt_seconds.observe(started.elapsed().as_secs_f64());
        let count = shipment.members.len();
        let mut results = match outcome {
            Ok(Delivered::All(receipt)) => Ok((0..count).map(|_| Ok(receipt.clone())).collect()),
            Ok(Delivered::Each(results)) if results.len() == count => Ok(results),
            Ok(Delivered::Each(results)) => {
                let given = format!("{} results for {count} events", results.len());
                Err(DeliveryError::new(Reason::BadAnswer).with_excerpt(given))
            }
            Err(error) => Err(error),
        };
        for receipt in results.iter_mut().flatten().filter_map(|result| result.as_mut().ok()) {
            let answers = std::mem::take(&mut receipt.answers);
            receipt.answers = enrich::within_limits(&self.lane, answers);
        }
        self.count(&results);
        results
    }
}

const PANICKED: &str = "the destination's code panicked; this is a fault of Holdfast";

// === impl Landing ===

impl Landing {
    fn of(number: u64, members: Vec<Ended>, at: Timestamp) -> Self {
        Self {
            number,
            past: Past::default(),
            members,
            failure: None,
            forbidden_twice: false,
            requests: 0,
            at,
            unreadable: None,
        }
    }

    /// The landing of a flight whose own task panicked: what it sent is unknown.
    pub(super) fn crashed(number: u64, events: Vec<Arc<Event>>, at: Timestamp) -> Self {
        let members = unknown(events, PANICKED);
        let failure = Some(failure(PANICKED));
        Self { failure, ..Self::of(number, members, at) }
    }
}

fn unknown(events: Vec<Arc<Event>>, why: &str) -> Vec<Ended> {
    events.into_iter().map(|event| (event, Outcome::Failed(failure(why)))).collect()
}

fn failure(why: &str) -> Failure {
    Failure { reason: Reason::InDoubt, status: None, retry_after: None, excerpt: why.to_owned() }
}
