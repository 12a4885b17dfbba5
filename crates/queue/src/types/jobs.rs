//! Replay jobs and the audit trail.

use std::time::Duration;

use holdfast_model::{DeadReason, Name, Seq, Timestamp};
use serde::{Deserialize, Serialize};

use super::DeadId;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobProgress {
    pub delivered: u64,
    pub duplicate: u64,
    pub failed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    Running,
    Paused,
    Cancelled,
    Done,
}

/// A replay, as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    pub id: u64,
    pub state: JobState,
    pub created_at: Timestamp,
    /// The request that made it, as JSON, for people and for the repeat under the same key.
    pub request: String,
    pub idempotency_key: Option<String>,
    pub lane: Name,
    pub reason: Option<DeadReason>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub rule_id: Option<String>,
    /// Only this one.
    pub only: Option<Seq>,
    /// Events per `rate_per`; 0: as fast as it goes.
    pub rate_count: u32,
    pub rate_per: Duration,
    /// Dead letters that matched when it was made.
    pub total: u64,
    /// Dead letters put back to pending so far.
    pub moved: u64,
    pub progress: JobProgress,
    pub cursor: Option<DeadId>,
    pub ended_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    pub at: Timestamp,
    /// The token's name.
    pub who: String,
    pub action: String,
    pub subject: String,
    pub detail: String,
}
