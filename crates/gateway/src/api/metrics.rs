//! `/metrics`: what is counted as it happens, and what is asked when somebody looks.
//!
//! Depths and states are read from the queue at each scrape and never kept by increments, so they
//! cannot drift.

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use holdfast_model::{DeadReason, LaneState};
use holdfast_queue::{DeadId, QueueEngine, Stats};
use prometheus::{
    Encoder, GaugeVec, Histogram, HistogramOpts, IntCounter, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use super::{Api, destinations::Lane, problem::Problem};

/// Upper edges in seconds: from a fast NVMe drive to one that is in trouble.
const FSYNC_SECONDS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];
const GROUP_ALERTS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1_000.0, 5_000.0, 20_000.0];

/// What is asked when somebody looks.
pub(crate) struct Scrape {
    registry: Registry,
    /// Held from setting to printing.
    lock: Mutex<()>,
    lanes: Lanes,
    tails: Tails,
    queue_bytes: IntGauge,
    queue_capacity: IntGauge,
    events_in_log: IntGauge,
    fsync: Histogram,
    group: Histogram,
    free: IntGauge,
    reserved: IntGauge,
    dead_bytes: IntGauge,
    consumer_lag: IntGaugeVec,
    corrupt: IntCounter,
}

/// What is asked of each lane.
struct Lanes {
    queue_alerts: IntGaugeVec,
    queue_oldest: GaugeVec,
    state: IntGaugeVec,
    throttled_until: GaugeVec,
    retries: IntGaugeVec,
    dead_letters: IntGaugeVec,
    imbalance: IntGaugeVec,
}

impl Lanes {
    fn register(make: &Make<'_>) -> prometheus::Result<Self> {
        let lane = ["destination"];
        Ok(Self {
            queue_alerts: make.gauges(
                "queue_alerts",
                "Events that a lane has not settled.",
                &lane,
            )?,
            queue_oldest: make.floats(
                "queue_oldest_alert_timestamp_seconds",
                "When the oldest event that a lane has not settled was received; 0: there is none.",
                &lane,
            )?,
            state: make.gauges(
                "destination_state",
                "1 for the state that a lane is in.",
                &["destination", "state"],
            )?,
            throttled_until: make.floats(
                "destination_throttled_until_timestamp_seconds",
                "Until when the destination asked us to wait; 0: it did not.",
                &lane,
            )?,
            retries: make.gauges(
                "retries_scheduled",
                "Events that wait for another try.",
                &lane,
            )?,
            dead_letters: make.gauges(
                "dead_letters",
                "Events that were given up and are kept.",
                &lane,
            )?,
            imbalance: make.gauges(
                "ledger_imbalance_alerts",
                "What a lane's ledger misses: must be 0.",
                &lane,
            )?,
        })
    }
}

impl Lanes {
    fn reset(&self) {
        for gauges in
            [&self.queue_alerts, &self.state, &self.retries, &self.dead_letters, &self.imbalance]
        {
            gauges.reset();
        }
        self.queue_oldest.reset();
        self.throttled_until.reset();
    }
}

/// What is asked of each source that reads a file.
struct Tails {
    tail_position: IntGaugeVec,
    tail_unread: IntGaugeVec,
    tail_last_read: GaugeVec,
    refused: IntGaugeVec,
}

impl Tails {
    fn register(make: &Make<'_>) -> prometheus::Result<Self> {
        let source = ["source"];
        Ok(Self {
            tail_position: make.gauges(
                "source_tail_position_bytes",
                "How far into its current file a source has read.",
                &source,
            )?,
            tail_unread: make.gauges(
                "source_tail_unread_bytes",
                "How much of its current file a source has not read.",
                &source,
            )?,
            tail_last_read: make.floats(
                "source_tail_last_read_timestamp_seconds",
                "When a source last read something; 0: never in this run.",
                &source,
            )?,
            refused: make.gauges(
                "source_refused_requests",
                "Requests that a source's own listener has refused in this run.",
                &source,
            )?,
        })
    }
}

impl Scrape {
    pub(super) fn register(registry: Registry) -> prometheus::Result<Self> {
        let make = Make { registry: &registry };
        let scrape = Self {
            lanes: Lanes::register(&make)?,
            tails: Tails::register(&make)?,
            queue_bytes: make
                .gauge("queue_bytes", "Live bytes: log, retry records, dead letters.")?,
            queue_capacity: make
                .gauge("queue_capacity_bytes", "Live bytes at which input is refused.")?,
            events_in_log: make.gauge("log_events", "Events that the log holds.")?,
            fsync: make.histogram(
                "storage_fsync_duration_seconds",
                "How long one sync of the queue took.",
                FSYNC_SECONDS,
            )?,
            group: make.histogram(
                "storage_group_commit_alerts",
                "Events that shared one sync.",
                GROUP_ALERTS,
            )?,
            free: make.gauge("storage_free_bytes", "Free bytes on the queue's disk.")?,
            reserved: make
                .gauge("storage_reserved_bytes", "Size of the reserve file; 0: given up.")?,
            dead_bytes: make.gauge("dead_letter_bytes", "Live bytes of dead letters.")?,
            consumer_lag: make.gauges(
                "consumer_lag_events",
                "Events that a consumer has not looked at, or not acknowledged. At most 100 consumers.",
                &["consumer"],
            )?,
            corrupt: {
                let corrupt = IntCounter::new(
                    "holdfast_storage_corrupt_records_total",
                    "Stored records that were damaged and set aside.",
                )?;
                registry.register(Box::new(corrupt.clone()))?;
                corrupt
            },
            registry: registry.clone(),
            lock: Mutex::default(),
        };
        make.build_info()?;
        Ok(scrape)
    }

    fn storage(&self, stats: &Stats) {
        let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.queue_bytes.set(signed(stats.bytes_live));
        self.queue_capacity.set(signed(stats.bytes_max));
        self.events_in_log.set(signed(stats.events_in_log));
        self.free.set(signed(stats.bytes_free));
        self.reserved.set(signed(stats.bytes_reserved));
        self.dead_bytes.set(signed(stats.bytes_dead));
        let known = self.corrupt.get();
        self.corrupt.inc_by(stats.chunks_corrupt.saturating_sub(known));
    }

    fn lane(&self, lane: &Lane) {
        let name = [lane.name.as_str()];
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.lanes.queue_alerts.with_label_values(&name).set(signed(lane.ledger.pending));
        self.lanes.retries.with_label_values(&name).set(signed(lane.ledger.retrying));
        self.lanes.dead_letters.with_label_values(&name).set(signed(lane.ledger.dead));
        self.lanes.imbalance.with_label_values(&name).set(lane.ledger.difference);
        let oldest = lane.oldest_pending_at.map_or(0.0, |at| at.seconds());
        self.lanes.queue_oldest.with_label_values(&name).set(oldest);
        let until = lane.throttled_until.map_or(0.0, |at| at.seconds());
        self.lanes.throttled_until.with_label_values(&name).set(until);
        for state in LaneState::NAMES {
            let is = i64::from(state == lane.state);
            self.lanes.state.with_label_values(&[lane.name.as_str(), state]).set(is);
        }
    }
}

/// Makes and registers one metric with our prefix.
struct Make<'a> {
    registry: &'a Registry,
}

impl Make<'_> {
    fn opts(name: &str, help: &str) -> Opts {
        Opts::new(format!("holdfast_{name}"), help)
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        let gauge = IntGauge::with_opts(Self::opts(name, help))?;
        self.registry.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        let gauges = IntGaugeVec::new(Self::opts(name, help), labels)?;
        self.registry.register(Box::new(gauges.clone()))?;
        Ok(gauges)
    }

    fn floats(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
        let gauges = GaugeVec::new(Self::opts(name, help), labels)?;
        self.registry.register(Box::new(gauges.clone()))?;
        Ok(gauges)
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
        let opts = HistogramOpts::new(format!("holdfast_{name}"), help).buckets(buckets.to_vec());
        let histogram = Histogram::with_opts(opts)?;
        self.registry.register(Box::new(histogram.clone()))?;
        Ok(histogram)
    }

    fn build_info(&self) -> prometheus::Result<()> {
        let info = self.gauges("build_info", "What is running: always 1.", &["version"])?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(())
    }
}

/// Shows the metrics, in Prometheus' text format
///
/// Where the listener is on this machine alone, no token is needed.
#[utoipa::path(
    get, path = "/metrics", tag = "health", operation_id = "metrics",
    responses((status = 200, description = "The metrics.", body = String,
        content_type = "text/plain",
        example = "holdfast_build_info{version=\"0.1.0\"} 1\n")),
)]
pub(crate) async fn show(State(api): State<Arc<Api>>) -> Result<Response, Problem> {
    api.scrape.storage(&api.engine.stats());
    let lanes = api.lane_views().await?;
    let lags = super::consumers::lags(&api).await?;
    let _one_at_a_time = api.scrape.lock.lock().unwrap_or_else(PoisonError::into_inner);
    // A lane that was renamed must not go on under its old name.
    api.scrape.lanes.reset();
    lanes.iter().for_each(|lane| api.scrape.lane(lane));
    api.scrape.consumer_lag.reset();
    for (name, lag) in lags {
        let lag = i64::try_from(lag).unwrap_or(i64::MAX);
        api.scrape.consumer_lag.with_label_values(&[name.as_str()]).set(lag);
    }
    let mut of_replays = 0;
    for dead in api.engine.dead_boxes() {
        let count = i64::try_from(dead.count).unwrap_or(i64::MAX);
        // Replays come and go: their names are no labels.
        if holdfast_queue::job_of_lane(&dead.owner).is_some() {
            of_replays += count;
        } else {
            api.scrape.lanes.dead_letters.with_label_values(&[&dead.owner]).set(count);
        }
    }
    api.scrape.lanes.dead_letters.with_label_values(&["replays"]).set(of_replays);
    for (micros, events) in api.engine.commits().take_recent() {
        api.scrape.fsync.observe(Duration::from_micros(micros).as_secs_f64());
        if events > 0 {
            api.scrape.group.observe(events as f64);
        }
    }
    for source in &api.sources.all() {
        let (name, health) = ([source.name.as_str()], &source.health);
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let position = health.position_bytes.load(Ordering::Relaxed);
        api.scrape.tails.tail_position.with_label_values(&name).set(signed(position));
        let unread = health.unread_bytes.load(Ordering::Relaxed);
        api.scrape.tails.tail_unread.with_label_values(&name).set(signed(unread));
        let seconds = health.last_read_ms.load(Ordering::Relaxed) as f64 / 1000.0;
        api.scrape.tails.tail_last_read.with_label_values(&name).set(seconds);
        let refused = health.refused.load(Ordering::Relaxed);
        api.scrape.tails.refused.with_label_values(&name).set(signed(refused));
        // Every combination exists from the start.
        for reason in [DeadReason::Invalid, DeadReason::TooLong] {
            api.metrics.died(&DeadId::source_owner(source.name.as_str()), reason, 0);
        }
    }
    api.callbacks.counters.exist(&api.lanes);
    let mut text = Vec::new();
    let encoder = TextEncoder::new();
    if let Err(error) = encoder.encode(&api.scrape.registry.gather(), &mut text) {
        tracing::error!(%error, "cannot write the metrics");
    }
    Ok(([(header::CONTENT_TYPE, encoder.format_type().to_owned())], text).into_response())
}
