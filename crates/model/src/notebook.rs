//! What a destination must know again after a restart, and a remote system cannot tell it.

use std::{error::Error, fmt};

use async_trait::async_trait;
use bytes::Bytes;

/// Largest page, in bytes.
pub const PAGE_BYTES_MAX: usize = 16 * 1024;

/// A few small pages a destination that are on stable storage, such as how much of a day's quota is
/// used. A page belongs to the destination's name and is replaced as a whole.
#[async_trait]
pub trait Notebook: Send + Sync + fmt::Debug {
    /// What was written last; `None` when nothing ever was.
    async fn read(&self, page: &str) -> Result<Option<Bytes>, NotebookError>;

    /// Returns once it is on stable storage.
    async fn write(&self, page: &str, text: Bytes) -> Result<(), NotebookError>;
}

#[derive(Debug, thiserror::Error)]
#[error("what must be remembered cannot be kept")]
pub struct NotebookError(#[source] pub Box<dyn Error + Send + Sync>);
