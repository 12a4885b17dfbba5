//! The open windows of storm control. The lane has them in memory; here they are its memory.

use std::sync::Arc;

use holdfast_model::{Name, Seq};

use crate::{
    engine::{
        aside,
        group::Group,
        keys,
        state::{Row, State, all},
    },
    error::QueueError,
    record::{self, Sealed, VALUE_BYTES_MAX, part_key},
    store::Write,
    types::{WINDOWS_STEP_MAX, Window},
};

/// Writes that one step of removing makes.
const STEP_WRITES_MAX: usize = 64;

/// The writes that store these windows and end those.
pub(super) fn writes(name: &Name, open: &[Window], done: &[Seq]) -> Result<Vec<Write>, QueueError> {
    let count = open.len() + done.len();
    if count > WINDOWS_STEP_MAX {
        let (bytes, bytes_max) = (count as u64, WINDOWS_STEP_MAX as u64);
        return Err(QueueError::TooLarge { what: "a settlement (in windows)", bytes, bytes_max });
    }
    let mut writes = Vec::with_capacity(count);
    for window in open {
        let key = keys::window(name.as_str(), window.first);
        let sealed = Sealed::new(window)?;
        if sealed.parts() > 1 {
            let (bytes, bytes_max) = (sealed.size(&key), VALUE_BYTES_MAX as u64);
            return Err(QueueError::TooLarge { what: "a window", bytes, bytes_max });
        }
        writes.extend(sealed.writes(&key));
    }
    writes.extend(
        done.iter().map(|first| Write::Remove(part_key(&keys::window(name.as_str(), *first), 0))),
    );
    Ok(writes)
}

/// A lane's windows. What is damaged is set aside: its events are counted as suppressed already,
/// and only the summary is lost. The group must be closed.
pub(super) fn load(
    state: &mut State,
    group: &mut Group,
    name: &Name,
) -> Result<Vec<Window>, QueueError> {
    let store = Arc::clone(&state.store);
    let mut windows = Vec::new();
    for (key, value) in all(&*store, &keys::windows(name.as_str()))? {
        match record::open::<Window>(&key, &value) {
            Ok(window) => windows.push(window),
            Err(error) => {
                aside::set_aside(state, group, vec![(key, value)], Vec::new(), &error, |_, _| {})?;
            }
        }
    }
    Ok(windows)
}

/// A lane that ends has no summaries any more.
pub(super) fn remove_all(
    state: &mut State,
    group: &mut Group,
    name: &Name,
) -> Result<(), QueueError> {
    group.close(state)?;
    let rows: Vec<Row> = all(&*state.store, &keys::windows(name.as_str()))?;
    for step in rows.chunks(STEP_WRITES_MAX) {
        group.reserve(state, step.len())?;
        group.extend(step.iter().map(|(key, _)| Write::Remove(key.clone())));
    }
    Ok(())
}
