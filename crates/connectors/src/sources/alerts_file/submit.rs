//! Hands batches to the intake until they are taken.
//!
//! A batch is never dropped and never overtaken. While the queue is full the same batch is offered
//! again; a batch that is too large is offered in pieces.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use holdfast_model::{Chain, Intake, IntakeError};
use tokio_util::sync::CancellationToken;

use super::{super::SourceHealth, batch::Batch};

/// However long the intake asks us to stay away, it is asked again after this, because room
/// appears as soon as a lane settles.
const RETRY_WAIT_MAX: Duration = Duration::from_secs(1);
const RETRY_WAIT_MIN: Duration = Duration::from_millis(20);

/// No more batches are wanted: the gateway stops, or the queue failed for good.
#[derive(Debug)]
pub(super) struct Closed;

pub(super) struct Submitter {
    pub(super) intake: Arc<dyn Intake>,
    pub(super) source: Arc<str>,
    pub(super) health: Arc<SourceHealth>,
    pub(super) stop: CancellationToken,
}

impl Submitter {
    /// Returns once all of the batch is on stable storage.
    pub(super) async fn submit(&self, mut batch: Batch) -> Result<(), Closed> {
        let total = batch.records.len();
        let (mut from, mut size) = (0, total);
        loop {
            let to = total.min(from + size);
            match self.intake.append(&self.source, batch.intake(from..to)).await {
                Ok(_) if to == total => break,
                Ok(_) => from = to,
                Err(IntakeError::TooLarge { .. }) if to - from > 1 => {
                    size = (to - from).div_ceil(2)
                }
                Err(error @ IntakeError::TooLarge { .. }) => {
                    if !batch.shrink(from) {
                        self.wait(&error, RETRY_WAIT_MAX).await?;
                    }
                }
                Err(
                    error @ (IntakeError::Full { retry_after, .. }
                    | IntakeError::DiskFull { retry_after, .. }),
                ) => self.wait(&error, retry_after).await?,
                Err(IntakeError::Stopping) => return Err(Closed),
                Err(error @ IntakeError::Queue(_)) => {
                    self.give_up(&error);
                    return Err(Closed);
                }
            }
        }
        self.health.clear_trouble();
        if total > 0 {
            self.health.read_at(now_ms(), batch.position.offset, batch.unread_bytes);
        }
        Ok(())
    }

    /// The position stored with this source's last batch.
    pub(super) async fn position(&self) -> Result<Option<bytes::Bytes>, Closed> {
        loop {
            match self.intake.position(&self.source).await {
                Ok(position) => return Ok(position),
                Err(IntakeError::Stopping) => return Err(Closed),
                Err(error @ IntakeError::Queue(_)) => {
                    self.give_up(&error);
                    return Err(Closed);
                }
                Err(error) => self.wait(&error, RETRY_WAIT_MAX).await?,
            }
        }
    }

    async fn wait(&self, error: &IntakeError, wait: Duration) -> Result<(), Closed> {
        self.health.set_trouble(format!("nothing is taken in: {}", Chain(error)));
        tokio::select! {
            () = self.stop.cancelled() => Err(Closed),
            () = tokio::time::sleep(wait.clamp(RETRY_WAIT_MIN, RETRY_WAIT_MAX)) => Ok(()),
        }
    }

    fn give_up(&self, error: &IntakeError) {
        let error = Chain(error).to_string();
        tracing::error!(source = %self.source, error, "the source stops");
        self.health.set_trouble(error);
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
