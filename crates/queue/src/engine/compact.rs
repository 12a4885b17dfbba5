//! `queue compact`: a stopped queue written anew, so that its file is as large as what it holds.
//!
//! Every record is copied as it lies there, into a database beside the old one. The copy is counted
//! anew and compared; only then it takes the old one's place, in one step. Whatever stops it before
//! that leaves the queue as it was, and the next attempt begins anew.

use std::{ops::ControlFlow, path::Path, sync::Arc};

use crate::{
    engine::{
        state::failed,
        verify::{Report, verify},
    },
    error::QueueError,
    store::{
        BATCH_WRITES_MAX, Store, Write,
        sled::{Draft, SledStore, bytes_on_disk},
    },
};

const DRAFT: &str = "sled.compact";
/// Bytes copied between two syncs.
const SYNC_BYTES: u64 = 64 * 1024 * 1024;
/// Written anew by the database itself: its check, and the wall before the chunks.
const NOT_COPIED: [u8; 2] = [0, b'y'];

/// What was gained; nothing when the file was as small as it gets, and then it is the old one still.
#[derive(Clone, Debug)]
pub struct Compacted {
    pub records: u64,
    pub bytes_before: u64,
    pub bytes_after: u64,
    pub report: Report,
}

/// Why it did not happen. The queue is as it was.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error("it was stopped; the queue is as it was")]
    Stopped,
    #[error(
        "the copy does not count up to what the queue does: {difference}; the queue is as it was"
    )]
    Differs { difference: String },
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many records of so many are copied.
    Copied { records: u64, total: u64 },
    /// The copy is complete and compared; it is not in place.
    Compared,
    /// It is in place; the old one is not removed.
    Swapped,
}

/// Compacts the stopped queue at `folder`. `watch` is told each step and may stop between two.
pub fn compact(
    folder: &Path,
    watch: &mut dyn FnMut(Step) -> ControlFlow<()>,
) -> Result<Compacted, CompactError> {
    let mut tell = |step| match watch(step) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(CompactError::Stopped),
    };
    // Held to the end: its lock keeps a gateway out.
    let old = Arc::new(SledStore::open_existing(folder)?);
    let before = verify(Arc::clone(&old) as Arc<dyn Store>, folder)?;
    let bytes_before = bytes_on_disk(folder);
    let (total, bytes) = measure(&*old)?;
    let draft = Draft::new(folder, DRAFT);
    draft.discard()?;
    draft.check_space(bytes)?;
    let new = draft.open()?;
    copy(&*old, &*new, |records| tell(Step::Copied { records, total }))?;
    let after = verify(Arc::clone(&new) as Arc<dyn Store>, folder)?;
    new.check_blobs()?;
    if after != before {
        let difference = format!("{before:?} became {after:?}");
        return Err(CompactError::Differs { difference });
    }
    drop(new);
    tell(Step::Compared)?;
    if draft.bytes_on_disk() >= bytes_before {
        draft.discard()?;
        let bytes_after = bytes_before;
        return Ok(Compacted { records: total, bytes_before, bytes_after, report: after });
    }
    draft.put_in_place()?;
    tell(Step::Swapped)?;
    drop(old);
    // Under the draft's name lies the old database now.
    draft.discard()?;
    let bytes_after = bytes_on_disk(folder);
    Ok(Compacted { records: total, bytes_before, bytes_after, report: after })
}

fn visit_all(
    store: &dyn Store,
    mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
) -> Result<(), QueueError> {
    let mut all = |key: &[u8], value: &[u8]| match key.first() {
        Some(letter) if !NOT_COPIED.contains(letter) => visit(key, value),
        _ => ControlFlow::Continue(()),
    };
    store.scan(&[], &[u8::MAX; 2], &mut all).map_err(|source| failed("read from", source))
}

fn measure(store: &dyn Store) -> Result<(u64, u64), QueueError> {
    let (mut records, mut bytes) = (0, 0);
    visit_all(store, |key, value| {
        records += 1;
        bytes += (key.len() + value.len()) as u64;
        ControlFlow::Continue(())
    })?;
    Ok((records, bytes))
}

fn copy(
    old: &dyn Store,
    new: &dyn Store,
    mut tell: impl FnMut(u64) -> Result<(), CompactError>,
) -> Result<(), CompactError> {
    let (mut batch, mut records, mut unsynced) = (Vec::new(), 0, 0);
    let put = |batch: &mut Vec<Write>, unsynced: &mut u64, end: bool| {
        new.apply(std::mem::take(batch)).map_err(|source| failed("write to", source))?;
        if end || *unsynced > SYNC_BYTES {
            *unsynced = 0;
            new.sync().map_err(|source| failed("sync", source))?;
        }
        Ok::<(), QueueError>(())
    };
    let mut stopped = None;
    visit_all(old, |key, value| {
        batch.push(Write::Put(key.to_vec(), value.to_vec()));
        records += 1;
        unsynced += (key.len() + value.len()) as u64;
        if batch.len() < BATCH_WRITES_MAX {
            return ControlFlow::Continue(());
        }
        let done = put(&mut batch, &mut unsynced, false).map_err(CompactError::from);
        match done.and_then(|()| tell(records)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                stopped = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    if let Some(error) = stopped {
        return Err(error);
    }
    put(&mut batch, &mut unsynced, true)?;
    tell(records)
}
