//! Half-written snapshot files that a crash left behind.
//!
//! sled writes a snapshot as `snap.<lsn>.generating` and renames it when it is whole and synced. At
//! the next start it means to pass over such drafts, but looks for another name (`.in___motion`),
//! takes the draft for the newest snapshot, and does not open the database when it is torn. A
//! `kill -9` at the wrong moment of a start is enough. The snapshot before it is still there, and
//! without one sled reads its whole log, so a torn draft holds nothing that is needed.
//!
//! Removes torn drafts alone, and only while nobody has the database open: a draft of a live
//! process is not torn but under way.

use std::{
    fs::{self, File},
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

/// At the end of a snapshot: the length before compression, and the checksum.
const LENGTH_BYTES: usize = 8;
const CHECKSUM_BYTES: usize = 4;

/// Removes the torn drafts of the database under `folder`, if nobody has it open.
pub(super) fn remove_torn(folder: &Path) -> std::io::Result<()> {
    // What sled locks.
    let Ok(database) = File::open(folder.join("db")) else { return Ok(()) };
    if flock(&database, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let draft = name.starts_with("snap.") && name.ends_with(".generating");
        if draft && !is_whole(&fs::read(&path)?) {
            tracing::warn!(path = %path.display(), "removing a snapshot that a crash left half-written");
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// What sled asks of a snapshot before it reads it.
fn is_whole(bytes: &[u8]) -> bool {
    let Some((rest, checksum)) = bytes.split_last_chunk::<CHECKSUM_BYTES>() else { return false };
    rest.len() > LENGTH_BYTES
        && crc32fast::hash(&rest[..rest.len() - LENGTH_BYTES]) == u32::from_le_bytes(*checksum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sled::open_locked;

    fn database() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let db = open_locked(folder.path()).unwrap();
        db.insert(b"a", b"1").unwrap();
        db.flush().unwrap();
        drop(db);
        // The snapshot is written when a database is opened that holds something.
        drop(open_locked(folder.path()).unwrap());
        folder
    }

    fn snapshot(folder: &Path) -> std::path::PathBuf {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let is_snapshot = |path: &std::path::PathBuf| {
            path.file_name().unwrap().to_string_lossy().starts_with("snap.")
        };
        names.into_iter().find(is_snapshot).unwrap()
    }

    #[test]
    fn a_snapshot_torn_anywhere_does_not_keep_the_database_shut() {
        let folder = database();
        let whole = fs::read(snapshot(folder.path())).unwrap();
        assert!(is_whole(&whole), "sled's own snapshot");
        let draft = folder.path().join("snap.FFFFFFFFFFFFFFF0.generating");
        for kept in [0, 1, 11, 12, 13, whole.len() / 2, whole.len() - 1] {
            fs::write(&draft, &whole[..kept]).unwrap();
            let db = open_locked(folder.path()).unwrap();
            assert_eq!(db.get(b"a").unwrap().unwrap(), b"1", "{kept} bytes kept");
            assert!(!draft.exists(), "{kept} bytes kept");
        }
    }

    #[test]
    fn sled_alone_does_not_open_beside_a_torn_draft() {
        let folder = database();
        fs::write(folder.path().join("snap.FFFFFFFFFFFFFFF0.generating"), b"").unwrap();
        let opened = ::sled::Config::new().path(folder.path()).segment_size(2 << 20).open();
        assert!(matches!(opened, Err(::sled::Error::Corruption { .. })), "no need for this file");
    }

    #[test]
    fn a_draft_of_a_process_that_has_the_database_is_left_alone() {
        let folder = database();
        let db = open_locked(folder.path()).unwrap();
        let draft = folder.path().join("snap.FFFFFFFFFFFFFFF0.generating");
        fs::write(&draft, b"half").unwrap();
        remove_torn(folder.path()).unwrap();
        assert!(draft.exists());
        drop(db);
    }
}
