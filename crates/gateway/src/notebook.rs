//! What a destination keeps in the queue, beside the sources' positions.
//!
//! Promises: a page that was written is on stable storage, and is there again after a restart, a
//! reload, and under a new name for as long as the settings say which name it was.
//!
//! Does not promise to forget: the pages of a destination that is gone stay, small as they are.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use holdfast_model::{Name, Notebook, NotebookError, notebook::PAGE_BYTES_MAX};
use holdfast_pipeline::Clock;
use holdfast_queue::{Append, Engine, QueueEngine};

/// Longest name of a page, in bytes.
const PAGE_NAME_BYTES_MAX: usize = 64;

/// See the module header.
#[derive(Clone)]
pub(crate) struct QueueNotebook {
    pub(crate) engine: Arc<Engine>,
    pub(crate) clock: Clock,
    pub(crate) destination: Name,
    /// What it was called before: `renamed_from`.
    pub(crate) before: Option<Name>,
}

/// Why a page is not kept.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error("the page `{page}` has {bytes} bytes, and at most {PAGE_BYTES_MAX} fit")]
    TooLong { page: String, bytes: usize },
    #[error("a page's name has 1 to {PAGE_NAME_BYTES_MAX} bytes")]
    Name,
}

impl QueueNotebook {
    fn key(destination: &Name, page: &str) -> Result<String, NotebookError> {
        if page.is_empty() || page.len() > PAGE_NAME_BYTES_MAX {
            return Err(NotebookError(Box::new(Unfit::Name)));
        }
        Ok(format!("note:{destination}/{page}"))
    }

    async fn read_of(
        &self,
        destination: &Name,
        page: &str,
    ) -> Result<Option<Bytes>, NotebookError> {
        let key = Self::key(destination, page)?;
        let found = self.engine.source_position(&key).await;
        found.map_err(|error| NotebookError(Box::new(error)))
    }
}

#[async_trait]
impl Notebook for QueueNotebook {
    async fn read(&self, page: &str) -> Result<Option<Bytes>, NotebookError> {
        let own = self.read_of(&self.destination, page).await?;
        match (own, &self.before) {
            (None, Some(before)) => self.read_of(before, page).await,
            (own, _) => Ok(own),
        }
    }

    async fn write(&self, page: &str, text: Bytes) -> Result<(), NotebookError> {
        let key = Self::key(&self.destination, page)?;
        if text.len() > PAGE_BYTES_MAX {
            let (page, bytes) = (page.to_owned(), text.len());
            return Err(NotebookError(Box::new(Unfit::TooLong { page, bytes })));
        }
        let append = Append {
            source: self.destination.as_str().into(),
            received_at: self.clock.now(),
            events: Vec::new(),
            rejects: Vec::new(),
            position: Some((key, text)),
            idempotency: None,
            from_source: false,
        };
        let stored = self.engine.append(append).await;
        stored.map(drop).map_err(|error| NotebookError(Box::new(error)))
    }
}

impl std::fmt::Debug for QueueNotebook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueueNotebook").field("destination", &self.destination).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use holdfast_model::Timestamp;
    use holdfast_queue::{Limits, store::memory::MemoryStore};

    use super::*;

    fn engine(store: &Arc<MemoryStore>, bytes_max: u64) -> Arc<Engine> {
        let limits = Limits {
            bytes_max,
            retention: std::time::Duration::ZERO,
            dead_age_max: std::time::Duration::MAX,
            idempotency_window: std::time::Duration::ZERO,
            idempotency_keys_max: 1,
        };
        let store = Arc::clone(store) as Arc<dyn holdfast_queue::store::Store>;
        Arc::new(Engine::start(store, limits, Timestamp(1), Path::new("memory")).unwrap())
    }

    fn notebook(engine: &Arc<Engine>, name: &str, before: Option<&str>) -> QueueNotebook {
        QueueNotebook {
            engine: Arc::clone(engine),
            clock: Clock::system(),
            destination: Name::new(name).unwrap(),
            before: before.map(|name| Name::new(name).unwrap()),
        }
    }

    #[tokio::test]
    async fn a_page_is_there_after_a_crash_and_under_a_new_name_and_for_nobody_else() {
        let store = Arc::new(MemoryStore::default());
        let vt = notebook(&engine(&store, 1 << 40), "vt", None);
        assert_eq!(vt.read("quota").await.unwrap(), None);
        vt.write("quota", Bytes::from_static(b"7 of 500")).await.unwrap();
        let store = Arc::new(store.crash(0));
        let engine = engine(&store, 1 << 40);
        let read =
            async |name, before| notebook(&engine, name, before).read("quota").await.unwrap();
        let seven = Some(Bytes::from_static(b"7 of 500"));
        assert_eq!(read("vt", None).await, seven);
        assert_eq!(read("virustotal", None).await, None);
        assert_eq!(read("virustotal", Some("vt")).await, seven);
        let renamed = notebook(&engine, "virustotal", Some("vt"));
        renamed.write("quota", Bytes::from_static(b"8 of 500")).await.unwrap();
        assert_eq!(read("virustotal", Some("vt")).await.unwrap(), "8 of 500");
        assert_eq!(read("vt", None).await, seven);
        assert_eq!(engine.stats().events_in_log, 0, "a page is no event");
    }

    #[tokio::test]
    async fn what_is_no_page_is_refused_and_one_that_finds_no_room_is_not_kept() {
        let store = Arc::new(MemoryStore::default());
        let vt = notebook(&engine(&store, 1 << 40), "vt", None);
        let long = Bytes::from(vec![b'x'; PAGE_BYTES_MAX]);
        vt.write("cache", long.clone()).await.unwrap();
        assert_eq!(vt.read("cache").await.unwrap(), Some(long));
        let longer = Bytes::from(vec![b'x'; PAGE_BYTES_MAX + 1]);
        assert!(vt.write("cache", longer).await.is_err());
        for name in ["", &"x".repeat(65)] {
            assert!(vt.read(name).await.is_err() && vt.write(name, Bytes::new()).await.is_err());
        }
        store.fail_sync.store(true, std::sync::atomic::Ordering::SeqCst);
        assert!(vt.write("quota", Bytes::from_static(b"1")).await.is_err());
    }
}
