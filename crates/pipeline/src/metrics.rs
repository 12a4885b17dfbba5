//! What the pipeline counts.
//!
//! Names are `holdfast_<noun>_<unit>`, in base units; counters end in `_total`. Label values come
//! from enums or from the configuration, never from alerts, and every combination exists from the
//! start, so that `rate()` works from the first failure.

use holdfast_model::Reason;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, core::Collector,
};

/// Upper edges in seconds, from a local answer to a slow API.
const ATTEMPT_SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Upper edges in seconds, from accepted to confirmed: up to an outage over the weekend.
const LATENCY_SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0,
    3_600.0, 14_400.0, 86_400.0,
];

const RESULTS: [&str; 5] = ["delivered", "dead", "filtered", "suppressed", "purged"];
const OUTCOMES: [&str; 4] = ["ok", "retry", "permanent", "ambiguous"];
const REJECTED: [&str; 5] = ["invalid", "too_large", "queue_full", "disk_full", "auth"];

const INGEST_ALERTS: Family = Family {
    name: "holdfast_ingest_alerts_total",
    help: "Alerts that sources brought in, by what became of them.",
    labels: &["source", "result"],
};
const INGEST_REJECTED: Family = Family {
    name: "holdfast_ingest_rejected_total",
    help: "Records or requests of sources that were not taken.",
    labels: &["source", "reason"],
};
const INGEST_ACK: Family = Family {
    name: "holdfast_ingest_ack_duration_seconds",
    help: "From a batch's arrival until it was on stable storage.",
    labels: &["source"],
};
const DELIVERIES: Family = Family {
    name: "holdfast_deliveries_total",
    help: "Events that a lane has settled, by result.",
    labels: &["destination", "result"],
};
const ATTEMPTS: Family = Family {
    name: "holdfast_delivery_attempts_total",
    help: "Requests to destinations, by outcome.",
    labels: &["destination", "outcome"],
};
const FAILURES: Family = Family {
    name: "holdfast_delivery_failures_total",
    help: "Requests to destinations, and items of bulk requests, that failed, by reason.",
    labels: &["destination", "reason"],
};
const ATTEMPT_DURATION: Family = Family {
    name: "holdfast_delivery_attempt_duration_seconds",
    help: "How long one request took.",
    labels: &["destination"],
};
const LATENCY: Family = Family {
    name: "holdfast_delivery_latency_seconds",
    help: "From accepted to confirmed.",
    labels: &["destination"],
};
const WAIT: Family = Family {
    name: "holdfast_queue_wait_seconds",
    help: "From accepted to the first attempt.",
    labels: &["destination"],
};
const DEAD_LETTERS: Family = Family {
    name: "holdfast_dead_letters_total",
    help: "Events that lanes and sources gave up on.",
    labels: &["destination", "reason"],
};
const DROPPED: Family = Family {
    name: "holdfast_dropped_alerts_total",
    help: "Alerts that left without being delivered or kept: must stay 0 unless asked for.",
    labels: &["destination", "reason"],
};
const FILTER_ERRORS: Family = Family {
    name: "holdfast_filter_errors_total",
    help: "Events that passed because `where` erred with them.",
    labels: &["destination"],
};
const TEMPLATE_ERRORS: Family = Family {
    name: "holdfast_template_errors_total",
    help: "Requests that were sent with the default, because a template erred.",
    labels: &["destination"],
};
const ENRICHMENTS: Family = Family {
    name: "holdfast_enrichments_total",
    help: "Questions to lookups before an event was sent, by whether they were answered in time.",
    labels: &["destination", "outcome"],
};
const IN_FLIGHT: Family = Family {
    name: "holdfast_delivery_in_flight",
    help: "Events being sent right now.",
    labels: &["destination"],
};
const LAST_SUCCESS: Family = Family {
    name: "holdfast_destination_last_success_timestamp_seconds",
    help: "When the destination last took something; 0: never in this run.",
    labels: &["destination"],
};
const LAST_FAILURE: Family = Family {
    name: "holdfast_destination_last_failure_timestamp_seconds",
    help: "When a request last failed; 0: never in this run.",
    labels: &["destination"],
};

const CANARY_LAST_SUCCESS: Family = Family {
    name: "holdfast_canary_last_success_timestamp_seconds",
    help: "When the destination last took a canary; 0: never in this run.",
    labels: &["destination"],
};
const CANARY_LATENCY: Family = Family {
    name: "holdfast_canary_latency_seconds",
    help: "From a canary's place in the log to its receipt.",
    labels: &["destination"],
};

/// What one metric is called and labelled by.
struct Family {
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
}

/// Registered once and handed to who counts.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub ingest_alerts: IntCounterVec,
    pub ingest_rejected: IntCounterVec,
    pub ingest_ack_seconds: HistogramVec,
    deliveries: IntCounterVec,
    attempts: IntCounterVec,
    failures: IntCounterVec,
    attempt_seconds: HistogramVec,
    latency_seconds: HistogramVec,
    wait_seconds: HistogramVec,
    dead_letters_total: IntCounterVec,
    dropped: IntCounterVec,
    filter_errors: IntCounterVec,
    template_errors: IntCounterVec,
    enrichments: IntCounterVec,
    pub in_flight: IntGaugeVec,
    pub last_success: GaugeVec,
    pub last_failure: GaugeVec,
    canary_last_success: GaugeVec,
    canary_seconds: HistogramVec,
}

/// One lane's counters, looked up once.
#[derive(Clone, Debug)]
pub struct LaneMetrics {
    pub delivered: IntCounter,
    pub filtered: IntCounter,
    /// Held back by storm control; a summary or a count stands for them.
    pub suppressed: IntCounter,
    pub dead: IntCounter,
    pub attempts_ok: IntCounter,
    pub attempts_retry: IntCounter,
    pub attempts_permanent: IntCounter,
    pub attempts_ambiguous: IntCounter,
    pub attempt_seconds: Histogram,
    pub latency_seconds: Histogram,
    pub wait_seconds: Histogram,
    pub dropped_corrupt: IntCounter,
    pub dropped_expired: IntCounter,
    pub canary_last_success: Gauge,
    pub canary_seconds: Histogram,
    pub filter_errors: IntCounter,
    pub template_errors: IntCounter,
    pub enrichments_answered: IntCounter,
    pub enrichments_missing: IntCounter,
    pub last_success: Gauge,
    pub last_failure: Gauge,
    in_flight: IntGauge,
    failures: Vec<(Reason, IntCounter)>,
    all: Metrics,
    lane: String,
}

// === impl Metrics ===

impl Metrics {
    /// Fails if called twice on one registry: two owners of a name is a bug.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            ingest_alerts: INGEST_ALERTS.counter(registry)?,
            ingest_rejected: INGEST_REJECTED.counter(registry)?,
            ingest_ack_seconds: INGEST_ACK.histogram(registry, ATTEMPT_SECONDS)?,
            deliveries: DELIVERIES.counter(registry)?,
            attempts: ATTEMPTS.counter(registry)?,
            failures: FAILURES.counter(registry)?,
            attempt_seconds: ATTEMPT_DURATION.histogram(registry, ATTEMPT_SECONDS)?,
            latency_seconds: LATENCY.histogram(registry, LATENCY_SECONDS)?,
            wait_seconds: WAIT.histogram(registry, LATENCY_SECONDS)?,
            dead_letters_total: DEAD_LETTERS.counter(registry)?,
            dropped: DROPPED.counter(registry)?,
            filter_errors: FILTER_ERRORS.counter(registry)?,
            template_errors: TEMPLATE_ERRORS.counter(registry)?,
            enrichments: ENRICHMENTS.counter(registry)?,
            in_flight: IN_FLIGHT.int_gauge(registry)?,
            last_success: LAST_SUCCESS.gauge(registry)?,
            last_failure: LAST_FAILURE.gauge(registry)?,
            canary_last_success: CANARY_LAST_SUCCESS.gauge(registry)?,
            canary_seconds: CANARY_LATENCY.histogram(registry, LATENCY_SECONDS)?,
        })
    }

    /// Makes every combination of a source exist.
    pub fn source(&self, source: &str) {
        for result in ["accepted", "duplicate", "rejected"] {
            self.ingest_alerts.with_label_values(&[source, result]);
        }
        for reason in REJECTED {
            self.ingest_rejected.with_label_values(&[source, reason]);
        }
        self.ingest_ack_seconds.with_label_values(&[source]);
    }

    /// Makes every combination of a lane exist, and finds its counters.
    pub fn lane(&self, lane: &str) -> LaneMetrics {
        let [delivered, dead, filtered, suppressed, _] =
            RESULTS.map(|result| self.deliveries.with_label_values(&[lane, result]));
        let [ok, retry, permanent, ambiguous] =
            OUTCOMES.map(|outcome| self.attempts.with_label_values(&[lane, outcome]));
        for reason in holdfast_model::DeadReason::ALL {
            self.dead_letters_total.with_label_values(&[lane, reason.as_str()]);
        }
        for reason in ["expired", "purged"] {
            self.dropped.with_label_values(&[lane, reason]);
        }
        LaneMetrics {
            delivered,
            filtered,
            suppressed,
            dead,
            attempts_ok: ok,
            attempts_retry: retry,
            attempts_permanent: permanent,
            attempts_ambiguous: ambiguous,
            attempt_seconds: self.attempt_seconds.with_label_values(&[lane]),
            latency_seconds: self.latency_seconds.with_label_values(&[lane]),
            wait_seconds: self.wait_seconds.with_label_values(&[lane]),
            filter_errors: self.filter_errors.with_label_values(&[lane]),
            dropped_expired: self.dropped.with_label_values(&[lane, "expired"]),
            canary_last_success: self.canary_last_success.with_label_values(&[lane]),
            canary_seconds: self.canary_seconds.with_label_values(&[lane]),
            template_errors: self.template_errors.with_label_values(&[lane]),
            enrichments_answered: self.enrichments.with_label_values(&[lane, "answered"]),
            enrichments_missing: self.enrichments.with_label_values(&[lane, "missing"]),
            dropped_corrupt: self.dropped.with_label_values(&[lane, "corrupt"]),
            last_success: self.last_success.with_label_values(&[lane]),
            last_failure: self.last_failure.with_label_values(&[lane]),
            in_flight: self.in_flight.with_label_values(&[lane]),
            failures: Reason::ALL
                .into_iter()
                .map(|reason| (reason, self.failures.with_label_values(&[lane, reason.as_str()])))
                .collect(),
            all: self.clone(),
            lane: lane.to_owned(),
        }
    }

    /// Alerts that an operator's purge, or an age limit, removed.
    pub fn dropped(&self, owner: &str, reason: &str, count: u64) {
        self.dropped.with_label_values(&[owner, reason]).inc_by(count);
        if reason == "purged" {
            self.deliveries.with_label_values(&[owner, reason]).inc_by(count);
        }
    }

    pub fn died(&self, owner: &str, reason: holdfast_model::DeadReason, count: u64) {
        self.dead_letters_total.with_label_values(&[owner, reason.as_str()]).inc_by(count);
    }
}

// === impl LaneMetrics ===

impl LaneMetrics {
    /// A request failed.
    pub fn failed(&self, reason: Reason) {
        self.item_failed(reason);
        let outcome = match reason {
            Reason::InDoubt => &self.attempts_ambiguous,
            Reason::Refused | Reason::TooLarge | Reason::Render => &self.attempts_permanent,
            Reason::Dns | Reason::Connect | Reason::Tls | Reason::ServerFault => {
                &self.attempts_retry
            }
            Reason::Throttled | Reason::Unauthorized | Reason::Forbidden => &self.attempts_retry,
            Reason::Misconfigured | Reason::BadAnswer => &self.attempts_retry,
        };
        outcome.inc();
    }

    /// An item of a request that did not fail as a whole.
    pub fn item_failed(&self, reason: Reason) {
        if let Some((_, counter)) = self.failures.iter().find(|(known, _)| *known == reason) {
            counter.inc();
        }
    }

    pub fn died(&self, reason: holdfast_model::DeadReason) {
        self.dead.inc();
        self.all.died(&self.lane, reason, 1);
    }

    pub fn in_flight(&self, events: usize) {
        self.in_flight.set(i64::try_from(events).unwrap_or(i64::MAX));
    }
}

// === impl Family ===

impl Family {
    fn opts(&self) -> Opts {
        Opts::new(self.name, self.help)
    }

    fn counter(&self, registry: &Registry) -> prometheus::Result<IntCounterVec> {
        registered(registry, IntCounterVec::new(self.opts(), self.labels)?)
    }

    fn gauge(&self, registry: &Registry) -> prometheus::Result<GaugeVec> {
        registered(registry, GaugeVec::new(self.opts(), self.labels)?)
    }

    fn int_gauge(&self, registry: &Registry) -> prometheus::Result<IntGaugeVec> {
        registered(registry, IntGaugeVec::new(self.opts(), self.labels)?)
    }

    fn histogram(&self, registry: &Registry, buckets: &[f64]) -> prometheus::Result<HistogramVec> {
        let opts = HistogramOpts::from(self.opts()).buckets(buckets.to_vec());
        registered(registry, HistogramVec::new(opts, self.labels)?)
    }
}

fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    one: C,
) -> prometheus::Result<C> {
    registry.register(Box::new(one.clone()))?;
    Ok(one)
}
