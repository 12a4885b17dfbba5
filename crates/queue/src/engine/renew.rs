//! `queue renew`: a new name for the log of a restored old copy.
//!
//! The copy goes on counting where it was copied, so it would give ids to new events that the
//! original gave to others. Under a new name no id is given twice. Nothing else changes.

use std::{path::Path, sync::Arc};

use holdfast_model::{LogId, Timestamp};

use crate::{
    engine::{
        keys,
        load::Damage,
        new_log_id,
        state::State,
        verify::{must_exist, no_limits},
    },
    error::QueueError,
    record::Sealed,
    store::{Store, sled::SledStore},
    types::AuditEntry,
};

/// The log's names, before and after.
#[derive(Clone, Debug)]
pub struct Renewed {
    pub before: LogId,
    pub after: LogId,
    pub events: u64,
    pub dead_letters: u64,
    pub retrying: u64,
}

/// Renames the log of the stopped queue at `folder`, in one write.
pub fn renew(folder: &Path, now: Timestamp) -> Result<Renewed, QueueError> {
    let store = Arc::new(SledStore::open_existing(folder)?);
    must_exist(&*store, folder)?;
    let store = store as Arc<dyn Store>;
    let mut state = State::load(store, no_limits(), new_log_id, folder, Damage::Report)?;
    let after = new_log_id();
    let before = std::mem::replace(&mut state.meta.log_id, after.clone());
    let entry = AuditEntry {
        at: now,
        who: "queue renew".into(),
        action: "renew".into(),
        subject: before.to_string(),
        detail: format!("the log is {after} now"),
    };
    let mut writes = Sealed::new(&entry)?.writes(&keys::audit(state.meta.next_audit));
    state.meta.next_audit += 1;
    writes.push(state.meta_write()?);
    state.apply(writes)?;
    state.sync()?;
    Ok(Renewed {
        before,
        after,
        events: state.meta.events_total - state.meta.events_trimmed,
        dead_letters: state.boxes.values().map(|dead| dead.count).sum(),
        retrying: state.lanes.values().map(|lane| lane.retrying).sum(),
    })
}
