//! The store on disk: one sled tree, by the measured rules of DESIGN 5.
//!
//! Promises what [`Store`] says, given a disk whose `fdatasync` is honest. sled itself never sees a
//! full disk: the engine asks [`Store::space`] before it writes, and the reserve file is given up
//! first.

mod draft;
mod torn;

use std::{
    fs::{self, File, OpenOptions},
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use rand::Rng;

pub(crate) use self::draft::{Draft, bytes_on_disk};
use super::{BATCH_WRITES_MAX, Space, Store, StoreError, Visit, Write, real_sync};
use crate::error::QueueError;

/// Memory for sled's own cache, in bytes; more does not help (DESIGN 5).
const CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// So that 17 values of 24 KiB stay below a quarter of it, and sled makes no blobs.
const SEGMENT_BYTES: usize = 2 * 1024 * 1024;
/// sled gives up its lock a moment *after* the last handle is dropped.
const LOCK_TRIES_MAX: u32 = 250;
const LOCK_WAIT: Duration = Duration::from_millis(20);
/// A database on a full disk does not open; with this much it does.
const OPEN_BYTES_MIN: u64 = 64 * 1024 * 1024;
/// How often a scan touches the leaf of each large value it comes by.
///
/// sled looks at what its cache holds only after 64 accesses to one of its 256 shards, and a scan
/// accesses a leaf once: so it would keep up to 64 leaves a shard, of about 80 KiB each. Reading
/// out 4 million alerts took 261 MiB so, and takes 78 MiB with these, at 6 % of the speed.
const TOUCHES: usize = 3;
const LARGE_VALUE_BYTES: usize = 1024;
const RESERVE_FILE: &str = "reserve";
const DATABASE_FOLDER: &str = "sled";
/// Empty keys between the small records and the chunks. sled rewrites a leaf of up to 17 neighbouring
/// keys as a whole, so records that change with every commit should not share one with chunks. What
/// this gains was not measured alone; it did not change the bytes on disk.
const WALL_KEYS: u8 = 64;
/// A database in the making. It holds nothing yet, so what a crash left of it may go.
const NEW_FOLDER: &str = "sled.new";

/// See the module header.
#[derive(Debug)]
pub struct SledStore {
    db: ::sled::Db,
    folder: PathBuf,
    /// Where sled's own files lie.
    database: PathBuf,
    reserve_bytes: u64,
    reserve_held: AtomicU64,
}

impl SledStore {
    /// Opens or makes the store under `folder`.
    ///
    /// # Errors
    ///
    /// [`QueueError::Locked`] when another process has it, [`QueueError::Unreadable`] when sled
    /// cannot read it, [`QueueError::SyncNotReal`] when this binary's syncs promise nothing.
    /// Nothing is ever deleted but the reserve file, and what a crash left half made: a new database,
    /// or a snapshot of sled's.
    pub fn open(folder: &Path, reserve_bytes: u64) -> Result<Self, QueueError> {
        fs::create_dir_all(folder).map_err(|error| {
            QueueError::io(format!("make the queue's directory {}", folder.display()), error)
        })?;
        let reserve = folder.join(RESERVE_FILE);
        if free_bytes(folder) < OPEN_BYTES_MIN && reserve.exists() {
            tracing::warn!(path = %reserve.display(), "the disk is nearly full; giving up the reserve");
            fs::remove_file(&reserve)
                .map_err(|error| QueueError::io("give up the reserve file", error))?;
        }
        make_new(folder)?;
        let database = folder.join(DATABASE_FOLDER);
        let db = open_locked(&database)?;
        let store = Self {
            db,
            folder: folder.to_owned(),
            database,
            reserve_bytes,
            reserve_held: AtomicU64::new(file_bytes(&reserve)),
        };
        store.check_sync()?;
        store.check_blobs()?;
        sync_directory(folder);
        store.restore_reserve();
        Ok(store)
    }

    /// Opens an existing store for `queue verify` and `inspect`: makes nothing, takes no reserve.
    pub fn open_existing(folder: &Path) -> Result<Self, QueueError> {
        let database = folder.join(DATABASE_FOLDER);
        if !database.join("db").exists() {
            let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(QueueError::io(format!("find a queue at {}", folder.display()), missing));
        }
        let db = open_locked(&database)?;
        Ok(Self {
            db,
            folder: folder.to_owned(),
            database,
            reserve_bytes: 0,
            reserve_held: AtomicU64::new(0),
        })
    }

    /// Writes and flushes, and refuses to go on unless sled reached a real sync.
    fn check_sync(&self) -> Result<(), QueueError> {
        let before = real_sync::count();
        let stamp = rand::rng().next_u64().to_be_bytes();
        let failed = |source: ::sled::Error| QueueError::Store {
            action: "write to",
            source: std::sync::Arc::new(source),
        };
        self.db.insert(b"\0sync-check", &stamp).map_err(failed)?;
        self.db.flush().map_err(failed)?;
        if real_sync::count() == before {
            return Err(QueueError::SyncNotReal { path: self.folder.clone() });
        }
        Ok(())
    }

    /// sled never syncs its `blobs/`; our values are cut so that it makes none.
    pub fn check_blobs(&self) -> Result<(), QueueError> {
        let path = self.database.join("blobs");
        let files = fs::read_dir(&path).map_or(0, Iterator::count);
        if files > 0 { Err(QueueError::BlobsPresent { path, files }) } else { Ok(()) }
    }
}

/// Makes a new database where there is none, so that a power cut leaves all of it or nothing.
///
/// sled writes its `conf` file in two steps and never syncs it; a half of it does not open. So a new
/// database is made under another name, every file of it is synced, and only then it is renamed.
fn make_new(folder: &Path) -> Result<(), QueueError> {
    let (wanted, draft) = (folder.join(DATABASE_FOLDER), folder.join(NEW_FOLDER));
    if wanted.exists() {
        return Ok(());
    }
    let failed = |error| QueueError::io(format!("make a new queue in {}", folder.display()), error);
    if draft.exists() {
        fs::remove_dir_all(&draft).map_err(failed)?;
    }
    let db = open_locked(&draft)?;
    build_wall(&db).map_err(|error| failed(std::io::Error::other(error)))?;
    drop(db);
    sync_all_under(&draft).map_err(failed)?;
    fs::rename(&draft, &wanted).map_err(failed)?;
    sync_directory(folder);
    Ok(())
}

fn build_wall(db: &::sled::Db) -> ::sled::Result<()> {
    for brick in 0..WALL_KEYS {
        db.insert([b'y', brick], &[])?;
    }
    db.flush().map(|_| ())
}

fn sync_all_under(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { sync_all_under(&path)? } else { File::open(&path)?.sync_all()? }
    }
    File::open(folder)?.sync_all()
}

fn open_locked(path: &Path) -> Result<::sled::Db, QueueError> {
    let config = ::sled::Config::new()
        .path(path)
        .cache_capacity(CACHE_BYTES)
        .segment_size(SEGMENT_BYTES)
        .flush_every_ms(None);
    for attempt in 1.. {
        torn::remove_torn(path).map_err(|error| {
            QueueError::io(format!("look for torn snapshots in {}", path.display()), error)
        })?;
        match config.open() {
            Ok(db) => return Ok(db),
            Err(::sled::Error::Io(error)) if is_lock(&error) => {
                if attempt >= LOCK_TRIES_MAX {
                    return Err(QueueError::Locked { path: path.to_owned() });
                }
                thread::sleep(LOCK_WAIT);
            }
            Err(::sled::Error::Io(error)) => {
                return Err(QueueError::io(format!("open {}", path.display()), error));
            }
            Err(error) => {
                let detail = error.to_string();
                return Err(QueueError::Unreadable { path: path.to_owned(), detail });
            }
        }
    }
    unreachable!("the loop ends by returning")
}

/// sled wraps the lock's error into one of kind `Other`, whose text names the cause.
fn is_lock(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::WouldBlock || error.to_string().contains("WouldBlock")
}

fn file_bytes(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |data| data.len())
}

/// Free for this process. Unknown counts as plenty: a file system without `statvfs` must not stop
/// the intake.
fn free_bytes(folder: &Path) -> u64 {
    rustix::fs::statvfs(folder).map_or(u64::MAX, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// A new file's name is on stable storage only when its directory is.
fn sync_directory(folder: &Path) {
    for path in [
        Some(folder.join(DATABASE_FOLDER)),
        Some(folder.to_owned()),
        folder.parent().map(Path::to_owned),
    ] {
        if let Some(path) = path
            && let Ok(directory) = File::open(path)
        {
            directory.sync_all().ok();
        }
    }
}

impl Store for SledStore {
    fn apply(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        debug_assert!(writes.len() <= BATCH_WRITES_MAX);
        let mut batch = ::sled::Batch::default();
        for write in writes {
            match write {
                Write::Put(key, value) => batch.insert(key, value),
                Write::Remove(key) => batch.remove(key),
            }
        }
        Ok(self.db.apply_batch(batch)?)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.db.flush()?;
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.db.get(key)?.map(|value| value.to_vec()))
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        for row in self.db.range(from..to) {
            let (key, value) = row?;
            if value.len() >= LARGE_VALUE_BYTES {
                for _ in 0..TOUCHES {
                    self.db.contains_key(&key)?;
                }
            }
            if let ControlFlow::Break(()) = visit(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    fn last_at(&self, floor: &[u8], key: &[u8]) -> Result<Option<(Vec<u8>, Vec<u8>)>, StoreError> {
        let last = self.db.range(floor..=key).next_back().transpose()?;
        Ok(last.map(|(key, value)| (key.to_vec(), value.to_vec())))
    }

    fn space(&self) -> Space {
        Space { free: free_bytes(&self.folder), reserve: self.reserve_held.load(Ordering::Relaxed) }
    }

    fn give_up_reserve(&self) {
        if self.reserve_held.swap(0, Ordering::Relaxed) > 0 {
            let path = self.folder.join(RESERVE_FILE);
            tracing::warn!(path = %path.display(), "the disk is nearly full; giving up the reserve");
            if let Err(error) = fs::remove_file(&path) {
                tracing::error!(path = %path.display(), %error, "cannot give up the reserve");
            }
        }
    }

    /// Takes the reserve when at least as much again would stay free beside it.
    fn restore_reserve(&self) {
        let held = self.reserve_held.load(Ordering::Relaxed);
        let wanted = self.reserve_bytes;
        if held >= wanted || free_bytes(&self.folder) < wanted.saturating_mul(2) + OPEN_BYTES_MIN {
            return;
        }
        let path = self.folder.join(RESERVE_FILE);
        let taken =
            OpenOptions::new().create(true).truncate(false).write(true).open(&path).and_then(
                |file| {
                    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, wanted)?;
                    file.sync_all()
                },
            );
        match taken {
            Ok(()) => self.reserve_held.store(wanted, Ordering::Relaxed),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot take the reserve");
                fs::remove_file(&path).ok();
            }
        }
    }
}
