//! A file, one event a line.
//!
//! Promises: with `sync` a receipt means that the lines and the file's name are on stable
//! storage; a write that fails half-way is cut off again, and half a line left by a power cut is
//! ended before the next one, so a reader sees whole lines or one that does not parse; a file that
//! was moved away or deleted (logrotate) is created anew; with `rotate` it is moved away by us.
//!
//! Does not promise: that a line is there once. Wants to be the only writer; two destinations must
//! not share a file.

mod rotate;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use holdfast_model::{
    DeliveryError, Destination, Reason, Receipt, Shipment,
    delivery::Delivered,
    settings::{Section, Setting},
};
use tokio::time::Instant;

use self::rotate::Rotation;
use super::{Context, Kind};
use crate::{
    body::{self, Shape},
    serial::Serial,
};

pub(super) const KIND: Kind = Kind {
    name: "file",
    summary: "Appends alerts to a file, one JSON object a line.",
    example: r#"
path = "/var/lib/holdfast/archive.ndjson"
format = "envelope"
"#,
    settings: &[&PATH, &FORMAT, &SYNC, &rotate::ROTATE],
    batches: true,
    http: false,
    build,
};

const PATH: Setting = Setting::optional(
    "path",
    "\"/var/lib/holdfast/archive.ndjson\"",
    "The file, from the root. Its folder must exist. It is created with mode 0640.",
);

const FORMAT: Setting = Setting::new(
    "format",
    "\"alert\"",
    "\"alert\": each alert as Wazuh wrote it. \"envelope\": with the event's id and seq around it.",
);

const SYNC: Setting = Setting::new(
    "sync",
    "true",
    "Whether lines are on stable storage before they count as delivered. Without it a power cut \
     may lose the last ones.",
);

/// How long a file that could not be rotated is only appended to.
const ROTATE_PAUSE: Duration = Duration::from_secs(60);

/// Readable by the group, which is how log readers are let in; never by others.
const MODE: u32 = 0o640;

#[derive(Debug)]
struct FileDestination {
    format: Shape,
    timeout: Duration,
    appender: Serial<Appender>,
}

#[derive(Debug)]
struct Appender {
    path: PathBuf,
    sync: bool,
    rotation: Option<Rotation>,
    open: Option<Open>,
    /// It could not be rotated; not tried again before then.
    rotate_after: Option<Instant>,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Which file it is, whatever it is called now.
    identity: (u64, u64),
    /// Its last line has no end.
    torn: bool,
}

#[derive(Debug, thiserror::Error)]
enum AppendError {
    #[error("cannot open `{path}`")]
    Open { path: PathBuf, source: io::Error },
    #[error("`{path}` is not a regular file")]
    NotAFile { path: PathBuf },
    #[error("cannot write to `{path}`")]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot make what was written to `{path}` durable")]
    Sync { path: PathBuf, source: io::Error },
}

fn build(section: &Section<'_>, context: &Context) -> Option<Arc<dyn Destination>> {
    let path = PathBuf::from(section.required_text(&PATH));
    let format = match section.word(&FORMAT, &["alert", "envelope"]) {
        "envelope" => Shape::Envelope,
        _ => Shape::Bare,
    };
    let sync = section.bool(&SYNC);
    let rotation = rotate::read(section);
    if !path.is_absolute() {
        if !path.as_os_str().is_empty() {
            section.fault(PATH.name, "it must begin at the root, with a `/`");
        }
        return None;
    }
    let appender =
        Serial::new(Appender { path, sync, rotation: rotation?, open: None, rotate_after: None });
    Some(Arc::new(FileDestination { format, timeout: context.timeout, appender }))
}

#[async_trait]
impl Destination for FileDestination {
    async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError> {
        let lines = body::lines(&shipment.members, self.format)?;
        let append = move |appender: &mut Appender| Ok(appender.append(&lines)?);
        self.appender.run(self.timeout, append).await?;
        Ok(Delivered::All(Receipt::default()))
    }
}

// === impl Appender ===

impl Appender {
    /// Appends whole lines, all or none.
    fn append(&mut self, lines: &[u8]) -> Result<(), AppendError> {
        let open = match self.open.take().filter(|open| open.is_at(&self.path)) {
            Some(open) => open,
            None => {
                // What an earlier process did not finish.
                if let Some(rotation) = &self.rotation {
                    rotation.tidy_beside(&self.path);
                }
                Open::at(&self.path, self.sync)?
            }
        };
        let open = self.rotated(open, lines.len() as u64)?;
        let write = |source| AppendError::Write { path: self.path.clone(), source };
        let before = open.file.metadata().map_err(write)?.len();
        let mut written = 0;
        let head: &[u8] = if open.torn { b"\n" } else { b"" };
        for bytes in [head, lines] {
            if let Err(source) = write_counted(&open.file, bytes, &mut written) {
                open.take_back(before, written);
                return Err(write(source));
            }
        }
        if self.sync
            && let Err(source) = open.file.sync_data()
        {
            // The kernel may have marked the pages clean, so a second sync proves nothing: the
            // lines are written anew by the next try, through a handle of its own.
            open.take_back(before, written);
            return Err(AppendError::Sync { path: self.path.clone(), source });
        }
        self.open = Some(Open { torn: false, ..open });
        Ok(())
    }
}

impl Appender {
    /// The file to append to: this one, or a new one where it has come to its end.
    fn rotated(&mut self, open: Open, adding: u64) -> Result<Open, AppendError> {
        let Some(rotation) = &self.rotation else { return Ok(open) };
        let begun = Instant::now();
        if self.rotate_after.is_some_and(|after| begun < after) {
            return Ok(open);
        }
        let now = SystemTime::now();
        let rotate = || -> io::Result<bool> {
            let metadata = open.file.metadata()?;
            if !rotation.is_due(metadata.len(), metadata.modified()?, adding, now) {
                return Ok(false);
            }
            open.file.sync_all()?;
            rotation.rotate(&self.path, now)?;
            Ok(true)
        };
        match rotate() {
            Ok(false) => return Ok(open),
            Ok(true) => {}
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "cannot be rotated; it is appended to");
                self.rotate_after = Some(begun + ROTATE_PAUSE);
                return Ok(open);
            }
        }
        rotation.tidy_beside(&self.path);
        Open::at(&self.path, self.sync)
    }
}

/// Writes everything, and leaves in `written` how much has left when it fails.
fn write_counted(mut file: &File, mut bytes: &[u8], written: &mut u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                *written += count as u64;
                bytes = &bytes[count..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

// === impl Open ===

impl Open {
    fn at(path: &Path, sync: bool) -> Result<Self, AppendError> {
        let failed = |source| AppendError::Open { path: path.to_owned(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(MODE)
            .open(path)
            .map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(AppendError::NotAFile { path: path.to_owned() });
        }
        if sync && let Some(folder) = path.parent() {
            // A new file's name is on stable storage only with its folder.
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        }
        let torn = metadata.len() > 0 && {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))
                .and_then(|_| file.read_exact(&mut last))
                .map_err(failed)?;
            last != *b"\n"
        };
        Ok(Self { file, identity: (metadata.dev(), metadata.ino()), torn })
    }

    /// Whether the path still leads to this file.
    fn is_at(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == self.identity)
    }

    /// Cuts off what was written, unless somebody else has written since. If that fails too, the
    /// next opening finds the torn line.
    fn take_back(self, before: u64, written: u64) {
        let is_ours = self.file.metadata().is_ok_and(|now| now.len() == before + written);
        if is_ours && let Err(error) = self.file.set_len(before) {
            tracing::debug!(%error, "half a line stays in the file");
        }
    }
}

// === impl AppendError ===

impl From<AppendError> for DeliveryError {
    fn from(error: AppendError) -> Self {
        use io::ErrorKind::{
            InvalidFilename, IsADirectory, NotADirectory, NotFound, PermissionDenied,
            ReadOnlyFilesystem,
        };
        let reason = match &error {
            AppendError::NotAFile { .. } => Reason::Misconfigured,
            AppendError::Open { source, .. } => match source.kind() {
                InvalidFilename | IsADirectory | NotADirectory | NotFound | PermissionDenied
                | ReadOnlyFilesystem => Reason::Misconfigured,
                // The disk is full, there are too many open files, …: they pass.
                _ => Reason::ServerFault,
            },
            AppendError::Write { .. } | AppendError::Sync { .. } => Reason::ServerFault,
        };
        Self::caused_by(reason, error)
    }
}

#[cfg(test)]
mod tests;
