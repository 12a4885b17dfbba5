//! The one thread that writes: it takes everything that waits, stores it with one sync, and only
//! then answers.
//!
//! Group commit needs no timer: whatever arrives during one sync shares the next. After a failed
//! write or sync the thread answers everything with [`QueueError::Failed`], for good.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::{
    engine::{Shared, group::Group, state::State},
    error::QueueError,
};

/// Most operations in one group, so that the first of them does not wait for ever.
const GROUP_OPERATIONS_MAX: usize = 1_024;
/// Bytes at which a group is stored without looking for more.
const GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Operations that may wait for the writer.
pub(super) const WAITING_MAX: usize = 4_096;

/// Below this the reserve is given up, so that settling goes on.
const RESERVE_AT_BYTES: u64 = 32 * 1024 * 1024;
/// Below this nothing is written at all: sled must never see a full disk. It takes 2 MiB segments.
const WRITE_BYTES_MIN: u64 = 12 * 1024 * 1024;

/// Something to do on the writing thread.
pub(super) trait Operation: Send {
    /// Changes state and group. `false`: it was refused and has answered; nothing was changed.
    fn run(&mut self, state: &mut State, group: &mut Group) -> bool;

    /// Called when the group is on stable storage, or lost.
    fn done(self: Box<Self>, lost: Option<&QueueError>);
}

/// An operation made of a function and the place where its answer goes.
pub(super) struct Task<F, T> {
    run: Option<F>,
    answer: Option<T>,
    reply: Option<oneshot::Sender<Result<T, QueueError>>>,
}

impl<F, T> Task<F, T> {
    pub(super) fn new(run: F, reply: oneshot::Sender<Result<T, QueueError>>) -> Self {
        Self { run: Some(run), answer: None, reply: Some(reply) }
    }
}

impl<F, T> Operation for Task<F, T>
where
    F: FnOnce(&mut State, &mut Group) -> Result<T, QueueError> + Send,
    T: Send,
{
    fn run(&mut self, state: &mut State, group: &mut Group) -> bool {
        let Some(run) = self.run.take() else { return false };
        match run(state, group) {
            Ok(answer) => {
                self.answer = Some(answer);
                true
            }
            Err(error) => {
                // The caller may have gone away meanwhile.
                if let Some(reply) = self.reply.take() {
                    reply.send(Err(error)).ok();
                }
                false
            }
        }
    }

    fn done(self: Box<Self>, lost: Option<&QueueError>) {
        if let (Some(reply), Some(answer)) = (self.reply, self.answer) {
            reply.send(lost.map_or(Ok(answer), |error| Err(error.clone()))).ok();
        }
    }
}

/// Runs until the last sender is gone, or until something fails.
pub(super) fn run(
    mut state: State,
    shared: &Shared,
    mut operations: mpsc::Receiver<Box<dyn Operation>>,
) {
    while let Some(first) = operations.blocking_recv() {
        let mut group = Group::default();
        let mut waiting: Vec<Box<dyn Operation>> = Vec::new();
        wait_for_room(&mut state, shared);
        let mut next = Some(first);
        while let Some(mut operation) = next {
            if operation.run(&mut state, &mut group) {
                waiting.push(operation);
            }
            let more = group.fatal.is_none()
                && waiting.len() < GROUP_OPERATIONS_MAX
                && group.bytes < GROUP_BYTES_MAX;
            next = if more { operations.try_recv().ok() } else { None };
        }
        match commit(&mut state, shared, &mut group) {
            Ok(()) => waiting.into_iter().for_each(|operation| operation.done(None)),
            Err(error) => {
                let reason: Arc<str> = holdfast_model::Chain(&error).to_string().into();
                tracing::error!(error = %reason, "the queue failed; nothing more is acknowledged");
                let failed = QueueError::Failed { reason: Arc::clone(&reason) };
                shared.failure.send_replace(Some(reason));
                waiting.into_iter().for_each(|operation| operation.done(Some(&failed)));
                // Whoever still waits, or comes, is told as its sender closes.
                return;
            }
        }
    }
}

fn commit(state: &mut State, shared: &Shared, group: &mut Group) -> Result<(), QueueError> {
    if let Some(error) = group.fatal.take() {
        return Err(error);
    }
    group.close(state)?;
    if !group.applied {
        // Only questions were asked, or all was refused.
        shared.publish(state, Vec::new());
        return Ok(());
    }
    let started = tokio::time::Instant::now();
    state.sync()?;
    let (events, bytes) = (group.events.len(), group.bytes);
    shared.commits.record(started.elapsed(), events as u64, bytes as u64);
    shared.publish(state, std::mem::take(&mut group.events));
    Ok(())
}

/// Keeps sled from ever seeing a full disk: gives up the reserve, then waits.
fn wait_for_room(state: &mut State, shared: &Shared) {
    state.bytes_free = state.store.space().free;
    if state.bytes_free < RESERVE_AT_BYTES && state.store.space().reserve > 0 {
        state.store.give_up_reserve();
        state.bytes_free = state.store.space().free;
    }
    let mut told = false;
    while state.bytes_free < WRITE_BYTES_MIN && !shared.closing() {
        if !told {
            told = true;
            state.disk_full = true;
            shared.publish(state, Vec::new());
            tracing::error!(
                bytes_free = state.bytes_free,
                bytes_needed = WRITE_BYTES_MIN,
                "the disk is full; nothing can be stored or settled until there is room"
            );
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
        state.bytes_free = state.store.space().free;
    }
}
