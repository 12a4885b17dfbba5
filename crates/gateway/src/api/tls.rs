//! The listeners' certificates, exchanged under running connections.
//!
//! Promises: a certificate whose files changed is served within a minute, or at a reload; files
//! that do not work change nothing and are complained of until they do.

use std::{
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use rustls::ServerConfig;

use crate::config::{TlsError, TlsFiles};

/// What a new connection is served with.
pub(crate) type Current = Arc<ArcSwap<ServerConfig>>;

/// See the module header.
pub(crate) struct Tls {
    files: Mutex<Watched>,
    pub(crate) main: Current,
    pub(crate) callbacks: Current,
}

struct Watched {
    files: TlsFiles,
    /// What the files were when they were last taken.
    stamps: Vec<Option<Stamp>>,
}

/// Changes when a file is written, or another takes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    length: u64,
    inode: u64,
}

impl Tls {
    pub(crate) fn new(files: TlsFiles) -> Result<Self, TlsError> {
        let stamps = stamps(&files);
        let loaded = files.load()?;
        Ok(Self {
            files: Mutex::new(Watched { files, stamps }),
            main: Arc::new(ArcSwap::new(loaded.main)),
            callbacks: Arc::new(ArcSwap::new(loaded.callbacks)),
        })
    }

    /// Takes the files if they changed; says whether they did. On an error the old ones stay, and
    /// the next call tries again.
    pub(crate) fn refresh(&self) -> Result<bool, TlsError> {
        let mut watched = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        // Before reading: what is written meanwhile is seen the next time.
        let now = stamps(&watched.files);
        if now == watched.stamps {
            return Ok(false);
        }
        let loaded = watched.files.load()?;
        self.main.store(loaded.main);
        self.callbacks.store(loaded.callbacks);
        watched.stamps = now;
        Ok(true)
    }

    /// Takes the files of a new configuration.
    pub(crate) fn replace(&self, files: TlsFiles) -> Result<(), TlsError> {
        let mut watched = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = stamps(&files);
        let loaded = files.load()?;
        self.main.store(loaded.main);
        self.callbacks.store(loaded.callbacks);
        *watched = Watched { files, stamps };
        Ok(())
    }
}

fn stamps(files: &TlsFiles) -> Vec<Option<Stamp>> {
    let (clients, callers) = (files.client_ca.as_ref(), files.callbacks_ca.as_ref());
    let paths = [Some(&files.cert), Some(&files.key), clients, callers];
    paths.into_iter().flatten().map(|path| stamp(path)).collect()
}

fn stamp(path: &Path) -> Option<Stamp> {
    let file = path.metadata().ok()?;
    let modified = (file.mtime(), file.mtime_nsec());
    Some(Stamp { modified, length: file.len(), inode: file.ino() })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use rcgen::{CertifiedKey, generate_simple_self_signed};

    use super::*;

    fn write(path: &Path, text: &str) {
        // As certbot does it: the new file takes the old one's place.
        let new = path.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(&new, path).unwrap();
    }

    #[test]
    fn new_files_are_taken_and_bad_ones_change_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let make = || generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let put = |made: &CertifiedKey<rcgen::KeyPair>| {
            write(&path("cert"), &made.cert.pem());
            write(&path("key"), &made.signing_key.serialize_pem());
        };
        put(&make());
        let files =
            TlsFiles { cert: path("cert"), key: path("key"), client_ca: None, callbacks_ca: None };
        let tls = Tls::new(files).unwrap();
        let first = tls.main.load_full();
        let same = || Arc::ptr_eq(&first, &tls.main.load_full());
        assert!(!tls.refresh().unwrap() && same(), "nothing changed");

        let second = make();
        write(&path("cert"), &second.cert.pem());
        let error = tls.refresh().unwrap_err().to_string();
        assert!(error.contains("do not go together") && same(), "{error}");
        assert!(tls.refresh().is_err(), "it says so again");
        write(&path("cert"), "nothing");
        assert!(tls.refresh().is_err() && same());
        fs::remove_file(path("cert")).unwrap();
        assert!(tls.refresh().is_err() && same());

        put(&second);
        assert!(tls.refresh().unwrap() && !same());
        assert!(!tls.refresh().unwrap());
    }
}
