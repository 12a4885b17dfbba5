//! Which events have which one as their parent.
//!
//! An index beside the log: a key for each child, written with it. It goes when the log has trimmed
//! the parent, whose children nobody can ask for any more.

use std::ops::ControlFlow;

use holdfast_model::Seq;

use crate::{
    engine::{
        group::Group,
        keys, read,
        state::{State, scan},
    },
    error::QueueError,
    store::{Store, Write},
    types::CHILDREN_MAX,
};

/// Keys that one step of expiry removes.
const STEP_MAX: usize = 64;

/// The oldest children of an event, at most [`CHILDREN_MAX`].
pub(super) fn of(store: &dyn Store, parent: Seq) -> Result<Vec<Seq>, QueueError> {
    let mut found = Vec::new();
    scan(store, &keys::children_of(parent), |key, _| {
        found.extend(keys::child_id(key).map(|(_, child)| child));
        if found.len() < CHILDREN_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(found)
}

/// One step of forgetting the children of events that the log has trimmed.
pub(super) fn expire(state: &mut State, group: &mut Group) -> Result<(), QueueError> {
    let begin = read::first_chunk(&*state.store)?.unwrap_or(state.meta.next_seq);
    let mut old = Vec::new();
    scan(&*state.store, b"c", |key, _| {
        let trimmed = keys::child_id(key).is_none_or(|(parent, _)| parent < begin);
        if !trimmed || old.len() >= STEP_MAX {
            return ControlFlow::Break(());
        }
        old.push(key.to_vec());
        ControlFlow::Continue(())
    })?;
    if !old.is_empty() {
        group.reserve(state, old.len())?;
        group.extend(old.into_iter().map(Write::Remove));
    }
    Ok(())
}
