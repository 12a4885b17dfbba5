//! Idempotency keys: what was answered to a request, so that a repeat gets the same answer.
//!
//! They live in the store alone, because a million of them in memory would cost more than all the
//! rest of the engine.

use std::ops::ControlFlow;

use holdfast_model::{Seq, Timestamp, intake::Idempotency};
use serde::{Deserialize, Serialize};

use crate::{
    engine::{
        group::Group,
        keys,
        state::{State, failed, get, millis},
    },
    error::QueueError,
    store::{Store, Write},
    types::{Appended, IdempotentAnswer},
};

const MS_PER_HOUR: u64 = 3_600_000;
/// Keys that one step of upkeep looks at.
const STEP_KEYS_MAX: usize = 512;

#[derive(Serialize, Deserialize)]
struct Stored {
    hour: u32,
    /// The log's head behind the batch. Readers see the answer once their head has come so far,
    /// for before that it is not on stable storage.
    head: Seq,
    answer: IdempotentAnswer,
}

pub(super) fn answer(idempotency: &Idempotency, appended: &Appended) -> IdempotentAnswer {
    IdempotentAnswer {
        body: idempotency.body,
        accepted: u32::try_from(appended.accepted).unwrap_or(u32::MAX),
        rejected: u32::try_from(appended.rejected).unwrap_or(u32::MAX),
        first: appended.first.unwrap_or(0),
    }
}

/// The write that keeps an answer, and whether its key is a new one.
pub(super) fn write(
    state: &State,
    group: &Group,
    idempotency: &Idempotency,
    received_at: Timestamp,
    head: Seq,
    answer: IdempotentAnswer,
) -> Result<(Write, bool), QueueError> {
    let key = keys::idempotency(&idempotency.key);
    // The batch under way is not in the store yet.
    let new = !group.keys.contains(&idempotency.key) && get(&*state.store, &key)?.is_none();
    let keys_max = state.limits.idempotency_keys_max as u64;
    if new && state.meta.idempotency_keys >= keys_max {
        let what = "the set of idempotency keys";
        return Err(QueueError::TooLarge { what, bytes: keys_max + 1, bytes_max: keys_max });
    }
    let stored = Stored { hour: hour_of(received_at), head, answer };
    let value = postcard::to_stdvec(&stored)
        .map_err(|source| QueueError::io("encode a key", std::io::Error::other(source)))?;
    Ok((Write::Put(key, value), new))
}

pub(super) fn find(
    store: &dyn Store,
    key: &[u8; 16],
    head: Seq,
) -> Result<Option<IdempotentAnswer>, QueueError> {
    let bytes = get(store, &keys::idempotency(key))?;
    let stored = bytes.and_then(|bytes| postcard::from_bytes::<Stored>(&bytes).ok());
    Ok(stored.filter(|stored| stored.head <= head).map(|stored| stored.answer))
}

/// Removes keys that are older than the window, some at each call, round and round.
pub(super) fn expire(
    state: &mut State,
    group: &mut Group,
    now: Timestamp,
) -> Result<(), QueueError> {
    // A key renewed in the batch under way must not look old.
    group.close(state)?;
    let window = millis(state.limits.idempotency_window);
    let oldest = hour_of(Timestamp(now.0.saturating_sub(window)));
    let from = match state.rounds.key_after.take() {
        Some(after) => [keys::idempotency(&after), vec![0]].concat(),
        None => b"i".to_vec(),
    };
    let (mut looked_at, mut gone, mut last) = (0, Vec::new(), None);
    state
        .store
        .scan(&from, &keys::under(b"i").1, &mut |key, value| {
            let stored = postcard::from_bytes::<Stored>(value);
            if stored.map_or(true, |stored| stored.hour < oldest) {
                gone.push(key.to_vec());
            }
            looked_at += 1;
            last = key.get(1..17).and_then(|key| <[u8; 16]>::try_from(key).ok());
            if looked_at < STEP_KEYS_MAX {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })
        .map_err(|source| failed("read from", source))?;
    if looked_at == STEP_KEYS_MAX {
        state.rounds.key_after = last;
    }
    for key in gone {
        group.reserve(state, 1)?;
        group.push(Write::Remove(key));
        state.meta.idempotency_keys = state.meta.idempotency_keys.saturating_sub(1);
    }
    Ok(())
}

fn hour_of(at: Timestamp) -> u32 {
    u32::try_from(at.0 / MS_PER_HOUR).unwrap_or(u32::MAX)
}
