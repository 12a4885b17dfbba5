//! The one thread that writes: it takes everything that waits, stores it with one sync, and only
//! then answers.
//!
//! Group commit needs no timer: whatever arrives during one sync shares the next. After a failed
//! write or sync the thread answers everything with [`QueueError::Failed`], for good.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot};

use crate::{
    engine::{append::SOURCE_BYTES_FREE_MIN, group::Group, shared::Shared, state::State},
    error::QueueError,
};

/// Most operations in one group, so that the first of them does not wait for ever.
const GROUP_OPERATIONS_MAX: usize = 1_024;
/// Bytes at which a group is stored without looking for more.
const GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The same when the disk is nearly full: a group must fit into what is left.
const GROUP_BYTES_MAX_NEARLY_FULL: usize = 1024 * 1024;
/// Operations that may wait for the writer.
pub(super) const WAITING_MAX: usize = 4_096;

/// Below this the reserve is given up, so that settling goes on.
const RESERVE_AT_BYTES: u64 = 32 * 1024 * 1024;
/// Below this nothing is written at all: sled must never see a full disk. It takes 2 MiB segments.
const WRITE_BYTES_MIN: u64 = 12 * 1024 * 1024;
/// How often a full disk is looked at again.
const SPACE_WAIT: Duration = Duration::from_millis(200);

/// Something to do on the writing thread.
pub(super) trait Operation: Send {
    /// Changes state and group, or refuses and changes nothing.
    fn run(&mut self, state: &mut State, group: &mut Group);

    /// Answers at once if it is one that must not wait for a full disk. Says whether it did.
    fn refuse(&mut self, error: &QueueError) -> bool;

    /// Answers, now that the group is on stable storage, or lost. A refusal waits until then as
    /// well, so that whoever is refused finds the reason published.
    fn done(self: Box<Self>, lost: Option<&QueueError>);
}

type Operations = mpsc::Receiver<Box<dyn Operation>>;

/// An operation made of a function and the place where its answer goes.
pub(super) struct Task<F, T> {
    run: Option<F>,
    answer: Option<Result<T, QueueError>>,
    reply: Option<oneshot::Sender<Result<T, QueueError>>>,
    /// It brings a source's input, which is refused when there is no room at all.
    refusable: bool,
}

impl<F, T> Task<F, T> {
    pub(super) fn new(
        run: F,
        reply: oneshot::Sender<Result<T, QueueError>>,
        refusable: bool,
    ) -> Self {
        Self { run: Some(run), answer: None, reply: Some(reply), refusable }
    }
}

impl<F, T> Operation for Task<F, T>
where
    F: FnOnce(&mut State, &mut Group) -> Result<T, QueueError> + Send,
    T: Send,
{
    fn run(&mut self, state: &mut State, group: &mut Group) {
        let Some(run) = self.run.take() else { return };
        let answer = run(state, group);
        // A store that cannot be read may leave an operation half done.
        if let Err(error @ QueueError::Store { .. }) = &answer
            && group.fatal.is_none()
        {
            group.fatal = Some(error.clone());
        }
        self.answer = Some(answer);
    }

    fn refuse(&mut self, error: &QueueError) -> bool {
        if self.refusable
            && let Some(reply) = self.reply.take()
        {
            // The caller may have gone away meanwhile; so below.
            reply.send(Err(error.clone())).ok();
        }
        self.refusable
    }

    fn done(self: Box<Self>, lost: Option<&QueueError>) {
        let (Some(reply), Some(answer)) = (self.reply, self.answer) else { return };
        let answer = match (answer, lost) {
            (Ok(_) | Err(QueueError::Store { .. }), Some(lost)) => Err(lost.clone()),
            (answer, _) => answer,
        };
        reply.send(answer).ok();
    }
}

/// Runs until the last sender is gone, or until something fails.
pub(super) fn run(mut state: State, shared: &Shared, mut operations: Operations) {
    let _told = TellOfPanic(shared);
    // Taken from the channel, and waiting for room.
    let mut held: VecDeque<Box<dyn Operation>> = VecDeque::new();
    while let Some(first) = held.pop_front().or_else(|| operations.blocking_recv()) {
        held.push_front(first);
        if !wait_for_room(&mut state, shared, &mut held, &mut operations) {
            return;
        }
        if held.is_empty() {
            // All was refused. What comes now must wait for room first.
            continue;
        }
        let (mut group, waiting) = gather(&mut state, &mut held, &mut operations);
        match commit(&mut state, shared, &mut group) {
            Ok(()) => waiting.into_iter().for_each(|operation| operation.done(None)),
            Err(error) => {
                let reason: Arc<str> = holdfast_model::Chain(&error).to_string().into();
                tracing::error!(error = %reason, "the queue failed; nothing more is acknowledged");
                let failed = QueueError::Failed { reason: Arc::clone(&reason) };
                shared.fail(reason);
                waiting.into_iter().for_each(|operation| operation.done(Some(&failed)));
                // Whoever still waits, or comes, is told as its sender closes.
                return;
            }
        }
    }
}

/// Runs what waits, as much as one group takes.
fn gather(
    state: &mut State,
    held: &mut VecDeque<Box<dyn Operation>>,
    operations: &mut Operations,
) -> (Group, Vec<Box<dyn Operation>>) {
    let nearly_full = state.bytes_free < SOURCE_BYTES_FREE_MIN;
    let bytes_max = if nearly_full { GROUP_BYTES_MAX_NEARLY_FULL } else { GROUP_BYTES_MAX };
    let mut group = Group::default();
    let mut waiting: Vec<Box<dyn Operation>> = Vec::new();
    while group.fatal.is_none() && waiting.len() < GROUP_OPERATIONS_MAX && group.bytes < bytes_max {
        let Some(mut operation) = held.pop_front().or_else(|| operations.try_recv().ok()) else {
            break;
        };
        operation.run(state, &mut group);
        waiting.push(operation);
    }
    (group, waiting)
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

/// Keeps sled from ever seeing a full disk: gives up the reserve, then waits. Sources are refused
/// meanwhile, all else is held. `false`: the engine is closing and nothing more may be written.
fn wait_for_room(
    state: &mut State,
    shared: &Shared,
    held: &mut VecDeque<Box<dyn Operation>>,
    operations: &mut Operations,
) -> bool {
    state.bytes_free = shared.store.space().free;
    if state.bytes_free < RESERVE_AT_BYTES && shared.store.space().reserve > 0 {
        shared.store.give_up_reserve();
        state.bytes_free = shared.store.space().free;
    }
    let mut told = false;
    while state.bytes_free < WRITE_BYTES_MIN {
        if shared.closing() {
            return false;
        }
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
        let (bytes_free, bytes_needed) = (state.bytes_free, SOURCE_BYTES_FREE_MIN);
        let refusal = QueueError::DiskFull { bytes_free, bytes_needed };
        while held.len() < WAITING_MAX
            && let Ok(operation) = operations.try_recv()
        {
            held.push_back(operation);
        }
        held.retain_mut(|operation| !operation.refuse(&refusal));
        if held.is_empty() {
            return true;
        }
        std::thread::sleep(SPACE_WAIT);
        state.bytes_free = shared.store.space().free;
    }
    true
}

/// A panic on the writing thread is a failure like any other: the process must end.
struct TellOfPanic<'a>(&'a Shared);

impl Drop for TellOfPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail("the writing thread panicked".into());
        }
    }
}
