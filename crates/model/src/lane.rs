//! A lane's state and its ledger.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Whether a lane works, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaneState {
    Active,
    /// The remote system asked us to wait until then.
    Throttled {
        until: Timestamp,
    },
    /// The breaker is open: the destination fails, and is probed now and then.
    Open,
    /// The credentials were refused. A person must act.
    AuthFailed,
    /// A setting is wrong, so every event would fail. A person must act.
    ConfigFailed,
    /// Too many events wait for a retry, or the dead letters are full.
    BackedUp,
    /// A person said so.
    Paused,
}

impl LaneState {
    /// The values of the metric label `state`.
    pub const NAMES: [&'static str; 8] = [
        "active",
        "throttled",
        "open",
        "auth_failed",
        "config_failed",
        "backed_up",
        "paused",
        "orphaned",
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Throttled { .. } => "throttled",
            Self::Open => "open",
            Self::AuthFailed => "auth_failed",
            Self::ConfigFailed => "config_failed",
            Self::BackedUp => "backed_up",
            Self::Paused => "paused",
        }
    }

    /// Whether the lane waits for a person.
    pub fn is_parked(self) -> bool {
        matches!(self, Self::AuthFailed | Self::ConfigFailed)
    }
}

/// Why a lane, or a source, gave a record up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadReason {
    /// The destination will never take it (a permanent error).
    Refused,
    /// The destination forbids this one event and takes others.
    Forbidden,
    TooLarge,
    Render,
    /// `retry.max_age` is over.
    TooOld,
    /// It may have arrived, and `in_doubt = "dead_letter"`.
    InDoubt,
    /// A source's record is not a JSON object.
    Invalid,
    /// A source's record is longer than `max_line`.
    TooLong,
    /// A stored record does not match its checksum.
    Corrupt,
}

impl DeadReason {
    pub const ALL: [Self; 9] = [
        Self::Refused,
        Self::Forbidden,
        Self::TooLarge,
        Self::Render,
        Self::TooOld,
        Self::InDoubt,
        Self::Invalid,
        Self::TooLong,
        Self::Corrupt,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Forbidden => "forbidden",
            Self::TooLarge => "too_large",
            Self::Render => "render",
            Self::TooOld => "too_old",
            Self::InDoubt => "in_doubt",
            Self::Invalid => "invalid",
            Self::TooLong => "too_long",
            Self::Corrupt => "corrupt",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text)
    }
}

/// Where every event of a lane is. Each term is counted from its own records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Events in the log from the lane's birth to the head.
    pub seen: u64,
    pub filtered: u64,
    pub delivered: u64,
    /// Events in the log that the lane has not settled.
    pub unsettled: u64,
    /// Events in the lane's retry records.
    pub retrying: u64,
    pub dead: u64,
    pub suppressed: u64,
    pub expired: u64,
    pub purged: u64,
}

impl Ledger {
    pub fn pending(&self) -> u64 {
        self.unsettled + self.retrying
    }

    /// What the terms miss, or have too much, against `seen`. Promise 3: it is 0.
    pub fn imbalance(&self) -> i64 {
        let settled = self.filtered + self.delivered + self.dead + self.suppressed;
        let accounted = settled + self.expired + self.purged + self.pending();
        self.seen as i64 - accounted as i64
    }
}
