//! Replay jobs and the audit trail.

use std::time::Duration;

use holdfast_model::{DeadReason, Name, Seq, Timestamp};
use serde::{Deserialize, Serialize};

use super::DeadId;

/// Jobs that have ended and are kept; the oldest go first.
pub const JOBS_ENDED_MAX: usize = 1_000;
/// How long a job that has ended is kept.
pub const JOBS_ENDED_AGE_MAX: Duration = Duration::from_secs(30 * 86_400);
/// Audit entries that are kept; the oldest go first.
pub const AUDIT_MAX: u64 = 100_000;

/// What a job's own lane is called, before its number.
const LANE_PREFIX: &str = "replay-";

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
    /// It cannot go on; its `problem` says why.
    Failed,
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
    /// The lane of the destination that it sends to.
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
    /// Events that matched when it was made.
    pub total: u64,
    /// Dead letters put back to pending so far, or copied to the job's own lane.
    pub moved: u64,
    pub progress: JobProgress,
    pub cursor: Option<DeadId>,
    pub ended_at: Option<Timestamp>,
    /// Whose dead letters it sends, where those are not the lane's own.
    pub owner: Option<String>,
    /// What of the log it sends, instead of dead letters.
    pub log: Option<LogStretch>,
    /// Where its own lane ends. The queue sets it when it makes that lane.
    pub lane_end: Option<LaneEnd>,
    /// Why it failed.
    pub problem: String,
}

/// What of the log a job sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStretch {
    pub from: Seq,
    /// One past the last.
    pub to: Seq,
    /// The conditions, as JSON.
    pub filter: String,
    /// Send also what the destination's own `when` would not let pass.
    pub ignore_when: bool,
}

/// Where a job's lane ends: it reads nothing from there on, and holds nothing back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneEnd {
    pub seq: Seq,
    /// Events ever stored before.
    pub events: u64,
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

// === impl JobRecord ===

impl JobRecord {
    /// A job to a destination, about nothing yet.
    pub fn new(lane: Name, created_at: Timestamp) -> Self {
        Self {
            id: 0,
            state: JobState::Running,
            created_at,
            request: String::new(),
            idempotency_key: None,
            lane,
            reason: None,
            since: None,
            until: None,
            rule_id: None,
            only: None,
            rate_count: 0,
            rate_per: Duration::ZERO,
            total: 0,
            moved: 0,
            progress: JobProgress::default(),
            cursor: None,
            ended_at: None,
            owner: None,
            log: None,
            lane_end: None,
            problem: String::new(),
        }
    }

    /// The lane that the job has for itself: when it sends what is not the destination's own lane's.
    pub fn own_lane(&self) -> Option<Name> {
        let foreign = self.owner.as_deref().is_some_and(|owner| owner != self.lane.as_str());
        if self.log.is_some() || foreign { job_lane(self.id) } else { None }
    }
}

// === impl JobState ===

impl JobState {
    pub fn has_ended(self) -> bool {
        match self {
            Self::Running | Self::Paused => false,
            Self::Cancelled | Self::Done | Self::Failed => true,
        }
    }
}

fn job_lane(id: u64) -> Option<Name> {
    Name::new(&format!("{LANE_PREFIX}{id}")).ok()
}

/// The job whose own lane this would be. No destination may have such a name.
pub fn job_of_lane(lane: &str) -> Option<u64> {
    let id = lane.strip_prefix(LANE_PREFIX)?.parse().ok()?;
    job_lane(id).filter(|name| name.as_str() == lane).map(|_| id)
}
