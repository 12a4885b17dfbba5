//! The port that sources call.

use std::{error::Error, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    event::{EventId, NewEvent},
    lane::DeadReason,
};

/// Why a source's record did not become an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectReason {
    Invalid,
    TooLong,
}

/// A record that is no alert. It becomes a dead letter of the source, with its raw bytes.
#[derive(Clone, Debug)]
pub struct Reject {
    pub reason: RejectReason,
    /// What is wrong with it, and where it was, for people.
    pub message: String,
    /// The record, or as much of it as is kept.
    pub raw: Bytes,
}

/// What a source brings in at once: all of it is taken, or none.
#[derive(Clone, Debug, Default)]
pub struct IntakeBatch {
    pub events: Vec<NewEvent>,
    pub rejects: Vec<Reject>,
    /// The source's own position behind this batch, committed with it.
    pub position: Option<Bytes>,
    /// A request's idempotency key, committed with it.
    pub idempotency: Option<Idempotency>,
}

/// A request that must not be taken twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// Hash over token and key.
    pub key: [u8; 16],
    /// Hash over the body, so that another body under the same key is noticed.
    pub body: [u8; 8],
}

/// The batch is on stable storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    pub accepted: u64,
    pub rejected: u64,
    pub first: Option<EventId>,
    pub last: Option<EventId>,
}

/// Why a batch was not taken. Nothing of it is stored.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    #[error("the queue is full: {bytes_live} of {bytes_max} bytes")]
    Full { bytes_live: u64, bytes_max: u64, retry_after: Duration },
    #[error("the disk is full: {bytes_free} bytes are free, {bytes_needed} are needed")]
    DiskFull { bytes_free: u64, bytes_needed: u64, retry_after: Duration },
    #[error("the batch of {bytes} bytes is too large to be taken whole")]
    TooLarge { bytes: u64 },
    #[error("the gateway is stopping")]
    Stopping,
    #[error("the queue failed")]
    Queue(#[source] Box<dyn Error + Send + Sync>),
}

/// Where sources put what they bring in.
#[async_trait]
pub trait Intake: Send + Sync {
    /// Stores the batch, all or none, and returns once it is on stable storage. Only then may the
    /// source acknowledge it or move on.
    async fn append(&self, source: &Arc<str>, batch: IntakeBatch) -> Result<Accepted, IntakeError>;

    /// The position that was committed with the source's last batch.
    async fn position(&self, source: &str) -> Result<Option<Bytes>, IntakeError>;
}

impl From<RejectReason> for DeadReason {
    fn from(reason: RejectReason) -> Self {
        match reason {
            RejectReason::Invalid => Self::Invalid,
            RejectReason::TooLong => Self::TooLong,
        }
    }
}
