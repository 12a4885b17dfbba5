//! Named readers: their records, and what they hold of the log.
//!
//! A record is one value, replaced as a whole at each acknowledgement. What is in hand and not
//! acknowledged is in it; what was handed out since is not, and is handed out again after a crash.

use std::sync::Arc;

use holdfast_model::Name;

use crate::{
    engine::{
        group::Group,
        keys, read,
        state::{State, bare_part},
    },
    error::QueueError,
    record::{Sealed, part_key},
    store::Write,
    types::{CONSUMERS_MAX, ConsumerRecord, IN_HAND_MAX},
};

/// Stores a consumer, new or changed.
pub(super) fn put(
    state: &mut State,
    group: &mut Group,
    record: ConsumerRecord,
) -> Result<(), QueueError> {
    let too_many = |what, size: usize, size_max: usize| {
        let (bytes, bytes_max) = (size as u64, size_max as u64);
        Err(QueueError::TooLarge { what, bytes, bytes_max })
    };
    let known = state.consumers.contains_key(&record.name);
    if !known && state.consumers.len() >= CONSUMERS_MAX {
        return too_many("the set of consumers", CONSUMERS_MAX + 1, CONSUMERS_MAX);
    }
    let in_hand = record.open.len().max(record.ahead.len());
    if in_hand > IN_HAND_MAX {
        return too_many("a consumer's hand (in events)", in_hand, IN_HAND_MAX);
    }
    let write = bare_part(&keys::consumer(record.name.as_str()), &Sealed::new(&record)?)?;
    group.reserve(state, 1)?;
    group.push(write);
    state.consumers.insert(record.name.clone(), Arc::new(record));
    state.consumers_changed = true;
    Ok(())
}

/// Forgets a consumer. Says whether there was one.
pub(super) fn remove(
    state: &mut State,
    group: &mut Group,
    name: &Name,
) -> Result<bool, QueueError> {
    if state.consumers.remove(name).is_none() {
        return Ok(false);
    }
    state.consumers_changed = true;
    group.reserve(state, 1)?;
    group.push(Write::Remove(part_key(&keys::consumer(name.as_str()), 0)));
    Ok(true)
}

/// The queue is full: what consumers hold and no lane needs may go. They find it gone when they ask.
pub(super) fn yielded(
    state: &State,
    before: Option<holdfast_model::Seq>,
) -> Result<(), QueueError> {
    let oldest = read::first_chunk(&*state.store)?.unwrap_or(state.meta.next_seq);
    if before.is_none_or(|before| before >= oldest) {
        return Ok(());
    }
    for consumer in state.consumers.values().filter(|one| one.hold && one.position() < oldest) {
        let name = consumer.name.as_str();
        tracing::warn!(consumer = name, "the queue is full, so what a consumer held went first");
    }
    Ok(())
}
