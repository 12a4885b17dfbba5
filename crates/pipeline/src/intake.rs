//! Where sources put what they bring in: stamp, append, count.
//!
//! Promises that an answer is given only once the batch is on stable storage. Takes no alert apart:
//! a source has checked it.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use holdfast_model::{Accepted, Intake, IntakeBatch, IntakeError, RejectReason};
use holdfast_queue::{Append, DeadId, QueueEngine, QueueError};
use tokio::time::Instant;

use crate::{clock::Clock, metrics::Metrics};

/// One source's way into the log.
pub struct QueueIntake {
    engine: Arc<dyn QueueEngine>,
    clock: Clock,
    metrics: Metrics,
    /// Largest batch in bytes.
    batch_bytes_max: u64,
    /// What the source's position is kept under: its type and path, so that a rename continues.
    position_key: String,
}

impl QueueIntake {
    pub fn new(
        engine: Arc<dyn QueueEngine>,
        clock: Clock,
        metrics: Metrics,
        batch_bytes_max: u64,
        position_key: String,
    ) -> Self {
        Self { engine, clock, metrics, batch_bytes_max, position_key }
    }

    fn count_refused(&self, source: &str, error: &IntakeError, alerts: u64) {
        let reason = match error {
            IntakeError::Full { .. } => "queue_full",
            IntakeError::DiskFull { .. } => "disk_full",
            IntakeError::TooLarge { .. } => "too_large",
            IntakeError::Stopping | IntakeError::Queue(_) => return,
        };
        self.metrics.ingest_rejected.with_label_values(&[source, reason]).inc_by(alerts.max(1));
    }
}

#[async_trait]
impl Intake for QueueIntake {
    async fn append(&self, source: &Arc<str>, batch: IntakeBatch) -> Result<Accepted, IntakeError> {
        let started = Instant::now();
        let alerts = batch.events.len() as u64;
        let bytes: u64 = batch.events.iter().map(|event| event.body.len() as u64).sum();
        if bytes > self.batch_bytes_max {
            let error = IntakeError::TooLarge { bytes };
            self.count_refused(source, &error, alerts);
            return Err(error);
        }
        let reasons: Vec<RejectReason> = batch.rejects.iter().map(|reject| reject.reason).collect();
        let append = Append {
            source: Arc::clone(source),
            received_at: self.clock.now(),
            events: batch.events,
            rejects: batch.rejects,
            position: batch.position.map(|position| (self.position_key.clone(), position)),
            idempotency: batch.idempotency,
            from_source: true,
        };
        let appended = self.engine.append(append).await.map_err(|error| {
            let error = intake_error(error);
            self.count_refused(source, &error, alerts);
            error
        })?;
        let counted = &self.metrics.ingest_alerts;
        counted.with_label_values(&[source, "accepted"]).inc_by(appended.accepted);
        counted.with_label_values(&[source, "rejected"]).inc_by(appended.rejected);
        for reason in reasons {
            let word = match reason {
                RejectReason::Invalid => "invalid",
                RejectReason::TooLong => "too_large",
            };
            self.metrics.ingest_rejected.with_label_values(&[source, word]).inc();
            self.metrics.died(&DeadId::source_owner(source), reason.into(), 1);
        }
        let seconds = started.elapsed().as_secs_f64();
        self.metrics.ingest_ack_seconds.with_label_values(&[source]).observe(seconds);
        let id = |seq| self.engine.log_id().event(seq);
        Ok(Accepted {
            accepted: appended.accepted,
            rejected: appended.rejected,
            first: appended.first.map(id),
            last: appended.last.map(id),
        })
    }

    async fn position(&self, _source: &str) -> Result<Option<Bytes>, IntakeError> {
        self.engine.source_position(&self.position_key).await.map_err(intake_error)
    }
}

fn intake_error(error: QueueError) -> IntakeError {
    let retry_after = QueueError::RETRY_AFTER;
    match error {
        QueueError::Full { bytes_live, bytes_max } => {
            IntakeError::Full { bytes_live, bytes_max, retry_after }
        }
        QueueError::DiskFull { bytes_free, bytes_needed } => {
            IntakeError::DiskFull { bytes_free, bytes_needed, retry_after }
        }
        QueueError::TooLarge { bytes, .. } => IntakeError::TooLarge { bytes },
        QueueError::Closed => IntakeError::Stopping,
        other => IntakeError::Queue(Box::new(other)),
    }
}
