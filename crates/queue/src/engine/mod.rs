//! The engine: many callers, one writing thread, readers that never wait for it.

mod adopt;
mod append;
mod arrivals;
mod aside;
mod backlog;
mod children;
pub mod compact;
mod consumers;
mod dead;
pub mod export;
mod express;
mod group;
mod idempotency;
pub mod import;
mod jobs;
mod keys;
mod lane;
mod lanes;
mod lines;
mod links;
mod load;
mod port;
mod read;
pub mod renew;
mod settle;
mod shared;
mod state;
mod trace;
mod upkeep;
pub mod verify;
mod windows;
mod writer;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use holdfast_model::{LogId, Timestamp};
use rand::Rng;
use tokio::sync::{mpsc, oneshot};

pub use self::shared::Commits;
use self::{
    group::Group,
    load::Damage,
    shared::Shared,
    state::State,
    writer::{Operation, Task},
};
use crate::{
    error::QueueError,
    store::{Store, Write, sled::SledStore},
};

/// The limits an engine keeps.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Live bytes at which sources are refused.
    pub bytes_max: u64,
    /// How long events stay after every lane has passed them.
    pub retention: Duration,
    /// How long a dead letter is kept.
    pub dead_age_max: Duration,
    pub idempotency_window: Duration,
    pub idempotency_keys_max: usize,
}

/// See [`crate::QueueEngine`].
pub struct Engine {
    shared: Arc<Shared>,
    operations: Mutex<Option<mpsc::Sender<Box<dyn Operation>>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// Whether an operation may be refused at once when there is no room at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoRoom {
    Wait,
    Refuse,
}

impl Engine {
    /// Opens the queue under `folder` on disk, or makes a new one.
    pub fn open(
        folder: &Path,
        limits: Limits,
        reserve_bytes: u64,
        now: Timestamp,
    ) -> Result<Self, QueueError> {
        let store = Arc::new(SledStore::open(folder, reserve_bytes)?);
        Self::start(store, limits, now, folder)
    }

    /// Starts an engine over any store.
    pub fn start(
        store: Arc<dyn Store>,
        limits: Limits,
        now: Timestamp,
        path: &Path,
    ) -> Result<Self, QueueError> {
        let mut state = State::load(store, limits, new_log_id, path, Damage::SetAside)?;
        lanes::tick(&mut state, now);
        state.bytes_free = state.store.space().free;
        state.meta.clean = false;
        let format = Write::Put(keys::FORMAT.to_vec(), keys::FORMAT_NAME.as_bytes().to_vec());
        state.apply(vec![format, state.meta_write()?])?;
        state.sync()?;
        let shared = Arc::new(Shared::new(&state));
        shared.publish(&mut state, Vec::new());
        let (sender, operations) = mpsc::channel(writer::WAITING_MAX);
        let for_writer = Arc::clone(&shared);
        let writer = std::thread::Builder::new()
            .name("queue-writer".into())
            .spawn(move || writer::run(state, &for_writer, operations))
            .map_err(|error| QueueError::io("start the writing thread", error))?;
        Ok(Self { shared, operations: Mutex::new(Some(sender)), writer: Mutex::new(Some(writer)) })
    }

    pub fn commits(&self) -> &Commits {
        &self.shared.commits
    }

    /// One round of upkeep: expiry, trimming, merging. The gateway calls it about once a second.
    /// Each step is an operation of its own, so that others get their turn between them.
    pub async fn upkeep(&self, now: Timestamp) -> Result<(), QueueError> {
        self.write(move |state, group| upkeep::begin(state, group, now)).await?;
        for _ in 0..upkeep::ROUND_STEPS_MAX {
            if !self.write(upkeep::trim).await? {
                break;
            }
        }
        for _ in 0..upkeep::ROUND_STEPS_MAX {
            if !self.write(upkeep::merge).await? {
                break;
            }
        }
        Ok(())
    }

    /// Runs a function on the writing thread and returns once its effect is on stable storage.
    async fn write<T: Send + 'static>(
        &self,
        run: impl FnOnce(&mut State, &mut Group) -> Result<T, QueueError> + Send + 'static,
    ) -> Result<T, QueueError> {
        self.operate(NoRoom::Wait, run).await
    }

    async fn operate<T: Send + 'static>(
        &self,
        no_room: NoRoom,
        run: impl FnOnce(&mut State, &mut Group) -> Result<T, QueueError> + Send + 'static,
    ) -> Result<T, QueueError> {
        let sender = {
            let operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
            operations.clone().ok_or(QueueError::Closed)?
        };
        let (reply, answer) = oneshot::channel();
        let task = Task::new(run, reply, no_room == NoRoom::Refuse);
        if sender.send(Box::new(task)).await.is_err() {
            return Err(self.failed());
        }
        drop(sender);
        answer.await.unwrap_or_else(|_| Err(self.failed()))
    }

    fn failed(&self) -> QueueError {
        match &*self.shared.failure.borrow() {
            Some(reason) => QueueError::Failed { reason: Arc::clone(reason) },
            None => QueueError::Closed,
        }
    }

    /// Runs a reading function where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        run: impl FnOnce(&dyn Store) -> Result<T, QueueError> + Send + 'static,
    ) -> Result<T, QueueError> {
        let store = Arc::clone(&self.shared.store);
        match tokio::task::spawn_blocking(move || run(&*store)).await {
            Ok(result) => result,
            Err(error) => Err(QueueError::Store { action: "read from", source: Arc::new(error) }),
        }
    }
}

/// What a new log is called.
fn new_log_id() -> LogId {
    let mut random = [0; 10];
    rand::rng().fill_bytes(&mut random);
    LogId::from_random(random)
}

impl Drop for Engine {
    /// A writing thread that waits for a full disk must not hold the store for ever.
    fn drop(&mut self) {
        self.shared.set_closing();
    }
}
