use std::time::{Duration, SystemTime, UNIX_EPOCH};

use holdfast_model::Timestamp;
use tokio::time::Instant;

/// Wall time for what is stored, and tokio's time, which tests can pause, for waiting.
#[derive(Clone, Debug)]
pub struct Clock {
    /// In tests wall time follows tokio's: this is what it showed at `begin`.
    scripted: Option<(Timestamp, Instant)>,
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self { scripted: None }
    }

    /// A clock that begins at `start` and moves with tokio's time.
    pub fn scripted(start: Timestamp) -> Self {
        Self { scripted: Some((start, Instant::now())) }
    }

    pub fn now(&self) -> Timestamp {
        match self.scripted {
            Some((start, begin)) => start.saturating_add(begin.elapsed()),
            None => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
            }
        }
    }

    /// How long until a stored wall time, at most `wait_max`: after a jump of the clock nothing
    /// waits longer than its schedule could have said.
    pub fn until(&self, due: Timestamp, wait_max: Duration) -> Duration {
        due.since(self.now()).min(wait_max)
    }
}
