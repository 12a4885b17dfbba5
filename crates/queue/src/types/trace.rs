//! Where one event stands, lane by lane.

use super::{DeadLetter, RetryRecord};

/// What the records say of one event in one lane.
#[derive(Clone, Debug)]
pub struct Trace {
    /// A lane, or the source (`source.<name>`) that kept the record as a dead letter.
    pub owner: String,
    pub standing: Standing,
}

#[derive(Clone, Debug)]
pub enum Standing {
    /// The lane began behind it.
    BeforeLane,
    /// In the log, and the lane has not settled it.
    Unsettled,
    /// In a record that waits for another try, or is being tried.
    Retrying(Box<RetryRecord>),
    Dead(Box<DeadLetter>),
    /// Delivered, filtered, expired or purged: of a single event no more is kept.
    Settled,
    /// More batches wait than one look goes through.
    Unknown,
}
