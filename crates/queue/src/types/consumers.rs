//! Named readers of the pull API, as they are stored.

use holdfast_model::{Name, Seq, Timestamp};
use serde::{Deserialize, Serialize};

/// Consumers that a queue keeps.
pub const CONSUMERS_MAX: usize = 100;
/// Most events that one consumer may have in hand, which bounds its record.
pub const IN_HAND_MAX: usize = 1_000;

/// A named reader and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerRecord {
    pub name: Name,
    /// The name of the token that made it.
    pub owner: String,
    pub created_at: Timestamp,
    /// The conditions, as JSON.
    pub when: String,
    pub max_in_flight: u32,
    pub ack_wait_ms: u64,
    /// Retention waits for it.
    pub hold: bool,
    /// Everything below was looked at: it is acknowledged, or filtered, or open.
    pub reach: Seq,
    /// Below `reach` and not acknowledged, in order. At most [`IN_HAND_MAX`].
    pub open: Vec<Seq>,
    /// At or above `reach` and acknowledged already, in order. At most [`IN_HAND_MAX`].
    pub ahead: Vec<Seq>,
}

impl ConsumerRecord {
    /// Below this it needs nothing of the log.
    pub fn position(&self) -> Seq {
        self.open.first().copied().unwrap_or(self.reach).min(self.reach)
    }
}
