//! `queue import`: makes a queue of what `queue export` wrote, with every id as it was.
//!
//! All lines are read and checked before the first is taken. Then they are written to a database
//! beside the queue, in steps, each with a note of how far it is: an import that was cut short goes
//! on where it was. The result is counted anew, and only then it becomes the queue, in one step. So
//! there is a whole import or none. A queue that holds anything is never replaced.

mod build;
mod check;

use std::{fs::File, io, path::Path, sync::Arc};

use holdfast_model::LogId;

use self::{
    build::Builder,
    check::{Fingerprint, Lines},
};
use crate::{
    engine::{
        keys,
        load::Damage,
        new_log_id,
        state::{State, failed, get},
        verify::{Report, no_limits, verify},
    },
    error::QueueError,
    store::{
        BATCH_WRITES_MAX, Store, Write,
        sled::{Draft, SledStore},
    },
};

const DRAFT: &str = "sled.import";
/// How far an import is: what it reads, and how many batches are applied. Goes with every batch.
const PROGRESS: &[u8] = b"\0import";
/// Batches between two syncs.
const SYNC_BATCHES: u64 = 64;
/// Most faults that are named at once.
pub const FAULTS_MAX: usize = 20;

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineFault {
    /// Counted from 1.
    pub line: u64,
    /// Empty when it is about the line as a whole.
    pub field: String,
    pub problem: String,
}

/// Why there was no import. The queue is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error("could not read the file")]
    Read(#[source] io::Error),
    /// At most [`FAULTS_MAX`], of `count`.
    #[error("{count} lines of the file are faulty")]
    Lines { faults: Vec<LineFault>, count: u64 },
    #[error("the queue holds another log, `{held}`; the file is of `{log}`")]
    OtherLog { held: LogId, log: LogId },
    #[error("the queue of log `{log}` is not empty")]
    NotEmpty { log: LogId },
    #[error("the file changed while it was read")]
    Changed,
    /// As counted from what was imported.
    #[error("what the file holds does not add up")]
    Unsound { problems: Vec<String> },
    #[error("it was stopped; the same import goes on where it was")]
    Stopped,
}

/// What an import is told, and asked.
pub struct Options<'a> {
    /// Takes a queue whose counts did not add up when it was exported, either.
    pub unsound: bool,
    /// Told how many lines of how many are done, at each step. Answers whether to go on.
    pub watch: &'a mut dyn FnMut(Step) -> bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many lines are checked.
    Checked { lines: u64 },
    /// So many lines of so many are written. `resumed`: an earlier import had written some.
    Written { lines: u64, total: u64, resumed: bool },
    /// All is written and counted anew; it is not in place.
    Counted,
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Imported {
    pub lines: u64,
    pub report: Report,
}

/// Imports the file into the stopped queue at `folder`.
pub fn import(
    file: &Path,
    folder: &Path,
    mut options: Options<'_>,
) -> Result<Imported, ImportError> {
    let checked = check::check(open(file)?, &mut options)?;
    std::fs::create_dir_all(folder).map_err(|error| {
        QueueError::io(format!("make the queue's directory {}", folder.display()), error)
    })?;
    // Held to the end: its lock keeps a gateway out.
    let held = held(folder, &checked.log)?;
    let draft = Draft::new(folder, DRAFT);
    draft.check_space(checked.bytes_packed)?;
    let store = take_up(&draft, &checked.fingerprint)?;
    write(&*store, open(file)?, &checked, &mut options)?;
    let report = verify(Arc::clone(&store) as Arc<dyn Store>, folder)?;
    store.check_blobs()?;
    if !report.problems.is_empty() && !options.unsound {
        return Err(ImportError::Unsound { problems: report.problems });
    }
    tell(&mut options, Step::Counted)?;
    drop(store);
    draft.put_in_place()?;
    drop(held);
    // Where there was an empty queue it lies under the draft's name now.
    draft.discard()?;
    Ok(Imported { lines: checked.lines, report })
}

fn open(file: &Path) -> Result<File, ImportError> {
    File::open(file).map_err(ImportError::Read)
}

fn tell(options: &mut Options<'_>, step: Step) -> Result<(), ImportError> {
    if (options.watch)(step) { Ok(()) } else { Err(ImportError::Stopped) }
}

/// The queue that is there, locked; refused when it holds anything.
fn held(folder: &Path, log: &LogId) -> Result<Option<Arc<SledStore>>, ImportError> {
    let store = match SledStore::open_existing(folder) {
        Ok(store) => Arc::new(store),
        Err(QueueError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    if get(&*store, keys::FORMAT)?.is_none() {
        return Ok(Some(store));
    }
    let again = Arc::clone(&store) as Arc<dyn Store>;
    let state = State::load(again, no_limits(), new_log_id, folder, Damage::Report)?;
    let is_empty = state.meta.events_total == 0
        && state.corrupt == 0
        && state.damaged.is_empty()
        && state.boxes.values().all(|dead| dead.count == 0)
        && state.lanes.values().all(|lane| lane.retries.is_empty());
    match state.meta.log_id {
        _ if is_empty => Ok(Some(store)),
        held if held == *log => Err(ImportError::NotEmpty { log: held }),
        held => Err(ImportError::OtherLog { held, log: log.clone() }),
    }
}

/// The draft of an earlier import of the same file, or a new one.
fn take_up(draft: &Draft, fingerprint: &Fingerprint) -> Result<Arc<SledStore>, ImportError> {
    if draft.exists() {
        match draft.open() {
            Ok(store) if progress(&*store, fingerprint)?.is_some() => return Ok(store),
            // Of another file, or cut short before its first step.
            Ok(_) | Err(QueueError::Unreadable { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        draft.discard()?;
    }
    Ok(draft.open()?)
}

/// How many batches are applied, if the store is a draft of this file.
fn progress(store: &dyn Store, fingerprint: &Fingerprint) -> Result<Option<u64>, QueueError> {
    let stored = get(store, PROGRESS)?.unwrap_or_default();
    let batches = stored.strip_prefix(fingerprint.bytes()).and_then(|rest| rest.first_chunk());
    Ok(batches.map(|bytes| u64::from_be_bytes(*bytes)))
}

fn write(
    store: &dyn Store,
    file: File,
    checked: &check::Checked,
    options: &mut Options<'_>,
) -> Result<(), ImportError> {
    let done = progress(store, &checked.fingerprint)?.unwrap_or(0);
    let mut steps = Steps { store, fingerprint: &checked.fingerprint, done, applied: 0 };
    let mut lines = Lines::new(file);
    let mut builder = Builder::default();
    while let Some((number, line)) = lines.next()? {
        // It was checked, so it reads unless the file is another one now.
        line.and_then(|line| builder.take(line, number)).map_err(|_| ImportError::Changed)?;
        while builder.writes.len() >= BATCH_WRITES_MAX - 1 {
            let rest = builder.writes.split_off(BATCH_WRITES_MAX - 1);
            steps.apply(std::mem::replace(&mut builder.writes, rest))?;
            let resumed = done > 0;
            tell(options, Step::Written { lines: number, total: checked.lines, resumed })?;
        }
    }
    if lines.fingerprint() != checked.fingerprint {
        return Err(ImportError::Changed);
    }
    let last = builder.finish().map_err(|_| ImportError::Changed)?;
    for step in std::mem::take(&mut builder.writes).chunks(BATCH_WRITES_MAX - 1) {
        steps.apply(step.to_vec())?;
    }
    for step in last.chunks(BATCH_WRITES_MAX - 1) {
        steps.apply(step.to_vec())?;
    }
    store.apply(vec![Write::Remove(PROGRESS.to_vec())]).map_err(|e| failed("write to", e))?;
    store.sync().map_err(|source| failed("sync", source))?;
    Ok(())
}

/// The batches, which are the same for the same file: so those that are applied are passed over.
struct Steps<'a> {
    store: &'a dyn Store,
    fingerprint: &'a Fingerprint,
    /// Applied by an earlier import.
    done: u64,
    applied: u64,
}

impl Steps<'_> {
    fn apply(&mut self, mut writes: Vec<Write>) -> Result<(), QueueError> {
        self.applied += 1;
        if self.applied <= self.done {
            return Ok(());
        }
        let mut note = self.fingerprint.bytes().to_vec();
        note.extend_from_slice(&self.applied.to_be_bytes());
        writes.push(Write::Put(PROGRESS.to_vec(), note));
        self.store.apply(writes).map_err(|source| failed("write to", source))?;
        if self.applied.is_multiple_of(SYNC_BATCHES) {
            self.store.sync().map_err(|source| failed("sync", source))?;
        }
        Ok(())
    }
}
