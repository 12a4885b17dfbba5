//! A database in the making beside the queue's own: filled, then put in its place in one step.
//!
//! Until [`Draft::put_in_place`] the queue's own database is untouched, and a crash leaves nothing
//! but a folder that the next attempt takes up or removes. The step itself is one rename, or one
//! exchange of two names, so a crash leaves the old database or the new one and never neither.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};

use super::{
    AtomicU64, DATABASE_FOLDER, OPEN_BYTES_MIN, SledStore, build_wall, free_bytes, open_locked,
    sync_all_under, sync_directory,
};
use crate::error::QueueError;

/// See the module header.
#[derive(Debug)]
pub(crate) struct Draft {
    folder: PathBuf,
    path: PathBuf,
}

impl Draft {
    /// Of the queue at `folder`; nothing is made yet.
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        Self { folder: folder.to_owned(), path: folder.join(name) }
    }

    /// Refuses when what is to be written would not fit: sled must never see a full disk.
    ///
    /// sled's file is about 1.4 times its content; large values that do not compress took 2.5.
    pub(crate) fn check_space(&self, bytes: u64) -> Result<(), QueueError> {
        let bytes_needed = bytes.saturating_mul(3).saturating_add(OPEN_BYTES_MIN);
        let bytes_free = free_bytes(&self.folder);
        if bytes_free < bytes_needed {
            return Err(QueueError::DiskFull { bytes_free, bytes_needed });
        }
        Ok(())
    }

    pub(crate) fn bytes_on_disk(&self) -> u64 {
        bytes_under(&self.path)
    }

    pub(crate) fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Opens it, or makes it.
    pub(crate) fn open(&self) -> Result<Arc<SledStore>, QueueError> {
        let new = !self.exists();
        if new {
            fs::create_dir_all(&self.path).map_err(|error| self.failed("make", error))?;
        }
        let db = open_locked(&self.path)?;
        if new {
            build_wall(&db).map_err(|error| self.failed("begin", io::Error::other(error)))?;
        }
        let store = SledStore {
            db,
            folder: self.folder.clone(),
            database: self.path.clone(),
            reserve_bytes: 0,
            reserve_held: AtomicU64::new(0),
        };
        store.check_sync()?;
        Ok(Arc::new(store))
    }

    /// Removes it, and what an earlier attempt left.
    pub(crate) fn discard(&self) -> Result<(), QueueError> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(self.failed("remove", error))
            }
            _ => Ok(()),
        }
    }

    /// Puts it in the place of the queue's database, or where there is none. Nobody may have the
    /// draft open; the old database may be, so that its lock keeps others out.
    pub(crate) fn put_in_place(&self) -> Result<(), QueueError> {
        sync_all_under(&self.path).map_err(|error| self.failed("sync", error))?;
        let wanted = self.folder.join(DATABASE_FOLDER);
        let flags = if wanted.exists() { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
        renameat_with(CWD, &self.path, CWD, &wanted, flags).map_err(|error| match error {
            Errno::EXIST => QueueError::Locked { path: wanted.clone() },
            other => self.failed("put in place", other.into()),
        })?;
        sync_directory(&self.folder);
        Ok(())
    }

    fn failed(&self, action: &str, error: io::Error) -> QueueError {
        QueueError::io(format!("{action} {}; the queue is as it was", self.path.display()), error)
    }
}

/// Bytes that the queue's database takes on the disk.
pub(crate) fn bytes_on_disk(folder: &Path) -> u64 {
    bytes_under(&folder.join(DATABASE_FOLDER))
}

fn bytes_under(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(data) if data.is_dir() => bytes_under(&entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    });
    bytes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_before_anything_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let draft = Draft::new(folder.path(), "sled.draft");
        let refused = draft.check_space(u64::MAX / 4);
        assert!(matches!(refused, Err(QueueError::DiskFull { .. })), "{refused:?}");
        assert!(draft.check_space(1).is_ok() && !draft.exists());
    }
}
