use std::{path::PathBuf, sync::Arc, time::Duration};

/// Why the queue could not do as asked: one variant for each thing a caller does differently.
///
/// Messages say what failed and leave the cause to `source`.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QueueError {
    /// Sources must hold their input back until there is room.
    #[error("the queue is full: {bytes_live} of {bytes_max} bytes")]
    Full { bytes_live: u64, bytes_max: u64 },
    /// The same, because of the disk.
    #[error("the disk is full: {bytes_free} bytes are free, {bytes_needed} are needed")]
    DiskFull { bytes_free: u64, bytes_needed: u64 },
    #[error("{what} has {bytes} bytes, more than the {bytes_max} that fit")]
    TooLarge { what: &'static str, bytes: u64, bytes_max: u64 },
    #[error("there is no lane `{lane}`")]
    NoLane { lane: String },
    #[error("the lane `{lane}` is in use")]
    InUse { lane: String },
    #[error("the queue is closed")]
    Closed,
    /// A write or sync failed, so nothing can be promised any more.
    #[error("the queue has failed: {reason}")]
    Failed { reason: Arc<str> },
    #[error("another process has the queue at {} open", path.display())]
    Locked { path: PathBuf },
    #[error("the queue at {} has the format `{found}`; this version reads `{expected}`", path.display())]
    OtherFormat { path: PathBuf, found: String, expected: &'static str },
    #[error(
        "the queue at {} cannot be read: {detail}. Nothing was changed. Keep a copy of the whole directory; \
         `queue.path` may point to a new, empty one meanwhile", path.display()
    )]
    Unreadable { path: PathBuf, detail: String },
    #[error(
        "the sync of {} did not reach fdatasync, so nothing would survive a power cut; \
         this binary was linked wrongly", path.display()
    )]
    SyncNotReal { path: PathBuf },
    #[error("{} holds {files} files; sled never syncs those, so the queue is not safe", path.display())]
    BlobsPresent { path: PathBuf, files: usize },
    #[error("the record {key} is damaged: {problem}")]
    Corrupt { key: String, problem: &'static str },
    #[error("could not {action}")]
    Io {
        action: String,
        #[source]
        source: Arc<std::io::Error>,
    },
    #[error("could not {action} the store")]
    Store {
        action: &'static str,
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
}

impl QueueError {
    /// How long a refused source should wait before it tries again.
    pub const RETRY_AFTER: Duration = Duration::from_secs(5);

    pub(crate) fn io(action: impl Into<String>, source: std::io::Error) -> Self {
        Self::Io { action: action.into(), source: Arc::new(source) }
    }
}
