//! The alert and options files of one run.

use std::{
    collections::hash_map::RandomState,
    fs::{self, DirBuilder, OpenOptions},
    hash::{BuildHasher, Hasher},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::OnceLock,
    time::{SystemTime, UNIX_EPOCH},
};

use holdfast_model::{DeliveryError, Reason};
use rustix::process::geteuid;

/// When this process first ran a script: what is older was left by an earlier one.
static BEGAN: OnceLock<SystemTime> = OnceLock::new();

/// The files of one run. They go when it goes, however it ends.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) alert: PathBuf,
    pub(super) options: Option<PathBuf>,
}

/// A lane's own folder of such files.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    runtime_dir: PathBuf,
    own: PathBuf,
}

/// Why there are no files.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("cannot use the folder `{}`", .0.display())]
    Folder(PathBuf, #[source] io::Error),
    #[error("`{}` is refused, because others can write in it; choose another runtime_dir", .0.display())]
    Shared(PathBuf),
    #[error("`{}` is refused, because it is not a folder of our own that nobody else can enter", .0.display())]
    NotOurs(PathBuf),
    #[error("cannot write `{}`", .0.display())]
    Write(PathBuf, #[source] io::Error),
}

// === impl Folder ===

impl Folder {
    pub(super) fn new(runtime_dir: PathBuf, lane: &str) -> Self {
        BEGAN.get_or_init(SystemTime::now);
        let own = runtime_dir.join(lane);
        Self { runtime_dir, own }
    }

    /// Makes the folder, and removes what a process that was killed has left in it.
    pub(super) fn prepare(&self) -> Result<(), FileError> {
        let failed = |error| FileError::Folder(self.own.clone(), error);
        // Also says no when a link stands in the place of the last part.
        DirBuilder::new().recursive(true).mode(0o700).create(&self.own).map_err(failed)?;
        let runtime = fs::metadata(&self.runtime_dir).map_err(failed)?;
        if runtime.mode() & 0o022 != 0 {
            return Err(FileError::Shared(self.runtime_dir.clone()));
        }
        let own = fs::symlink_metadata(&self.own).map_err(failed)?;
        let private = own.is_dir() && own.mode() & 0o077 == 0;
        if !private || own.uid() != geteuid().as_raw() {
            return Err(FileError::NotOurs(self.own.clone()));
        }
        for entry in fs::read_dir(&self.own).map_err(failed)?.flatten() {
            let written = entry.metadata().and_then(|metadata| metadata.modified());
            if written.is_ok_and(|at| BEGAN.get().is_some_and(|began| at < *began)) {
                remove(&entry.path());
            }
        }
        Ok(())
    }

    /// Writes the files under names like Wazuh's: `<script>-<seconds>-<random>.alert`. That of the
    /// options gets a line break, as there.
    pub(super) fn write(
        &self,
        script: &str,
        alert: &[u8],
        options: Option<&str>,
    ) -> Result<Files, FileError> {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let random = RandomState::new().build_hasher().finish();
        let stem = self.own.join(format!("{script}-{seconds}-{random}"));
        let path = |extension: &str| PathBuf::from(format!("{}.{extension}", stem.display()));
        // Made before the files, so that half of them go too.
        let files = Files { alert: path("alert"), options: options.map(|_| path("options")) };
        write_private(&files.alert, alert)?;
        if let (Some(path), Some(options)) = (&files.options, options) {
            write_private(path, format!("{options}\n").as_bytes())?;
        }
        Ok(files)
    }
}

fn write_private(path: &Path, text: &[u8]) -> Result<(), FileError> {
    let failed = |error| FileError::Write(path.to_owned(), error);
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(text).map_err(failed)
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "a script's file cannot be removed");
    }
}

// === impl Files ===

impl Drop for Files {
    fn drop(&mut self) {
        remove(&self.alert);
        if let Some(options) = &self.options {
            remove(options);
        }
    }
}

// === impl FileError ===

impl From<FileError> for DeliveryError {
    fn from(error: FileError) -> Self {
        use io::ErrorKind::{
            AlreadyExists, InvalidFilename, NotADirectory, NotFound, PermissionDenied,
            ReadOnlyFilesystem,
        };
        let reason = match &error {
            FileError::Shared(_) | FileError::NotOurs(_) => Reason::Misconfigured,
            FileError::Folder(_, source) => match source.kind() {
                AlreadyExists | InvalidFilename | NotADirectory | NotFound | PermissionDenied
                | ReadOnlyFilesystem => Reason::Misconfigured,
                _ => Reason::Connect,
            },
            // The disk is full, …: nothing was sent, and it passes.
            FileError::Write(..) => Reason::Connect,
        };
        Self::caused_by(reason, error)
    }
}
