//! Rotation: a file that is full, or whose time is over, gets a name with the time, and a new one is
//! begun. Old ones are compressed and, beyond the number to keep, removed.
//!
//! Promises: no line is lost or split; only files that were named here are compressed or removed;
//! what an earlier process left half done is done again; a file that cannot be rotated is appended
//! to, because a line is worth more than a name.
//!
//! Does not promise that compressing has ended when a line is delivered: it has a thread of its own.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use flate2::{Compression, write::GzEncoder};
use holdfast_model::{
    Timestamp,
    settings::{Section, Setting},
};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::MODE;

pub(super) const ROTATE: Setting = Setting::optional(
    "rotate",
    "{ size = \"100MiB\", every = \"24h\", keep = 10, gzip = true }",
    "Begins a new file before one would grow beyond `size` (1 KiB to 1 TiB), and with the first line \
     of each period of `every` (1 minute to 366 days; periods are counted in UTC, so \"24h\" ends at \
     midnight). The old one gets the time behind its name; `keep` of them stay (1 to 10000, 10 if not \
     given), compressed unless `gzip = false`. Without it the file grows; logrotate may move it away.",
);

const SIZE: Setting = Setting::optional("size", "\"100MiB\"", "Longest file.");
const EVERY: Setting = Setting::optional("every", "\"24h\"", "Longest period of one file.");
const KEEP: Setting = Setting::new("keep", "10", "Old files that stay.");
const GZIP: Setting = Setting::new("gzip", "true", "Whether old files are compressed.");

const SIZE_BOUNDS: std::ops::RangeInclusive<u64> = 1024..=1 << 40;
const EVERY_BOUNDS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(366 * 24 * 3600);

/// Behind a compressed file that is not whole yet.
const PART: &str = ".gz.part";

/// Names that are tried in one millisecond.
const SAME_NAMES_MAX: u32 = 100;

#[derive(Clone, Debug)]
pub(super) struct Rotation {
    size: Option<u64>,
    every: Option<Duration>,
    keep: usize,
    gzip: bool,
    /// A thread is tidying up.
    tidying: Arc<AtomicBool>,
}

/// Reads the table; the outer `None` says that it has faults.
pub(super) fn read(section: &Section<'_>) -> Option<Option<Rotation>> {
    let given = section.has(ROTATE.name);
    let Some(table) = section.table(ROTATE.name) else { return (!given).then_some(None) };
    let size = table.has(SIZE.name).then(|| table.size(&SIZE, SIZE_BOUNDS));
    let every = table.has(EVERY.name).then(|| table.duration(&EVERY, EVERY_BOUNDS));
    let keep = table.count(&KEEP, 1..=10_000) as usize;
    let gzip = table.bool(&GZIP);
    table.finish();
    if size.is_none() && every.is_none() {
        section.fault(ROTATE.name, "give `size` or `every`, or both");
        return None;
    }
    Some(Some(Rotation { size, every, keep, gzip, tidying: Arc::default() }))
}

// === impl Rotation ===

impl Rotation {
    /// Whether a file of `length` bytes, last written at `written`, ends before `adding` more.
    pub(super) fn is_due(
        &self,
        length: u64,
        written: SystemTime,
        adding: u64,
        now: SystemTime,
    ) -> bool {
        let is_full = self.size.is_some_and(|size| length.saturating_add(adding) > size);
        let is_over = self.every.is_some_and(|every| period(now, every) > period(written, every));
        length > 0 && (is_full || is_over)
    }

    /// Gives the file its name with the time. It must be synced.
    pub(super) fn rotate(&self, path: &Path, now: SystemTime) -> io::Result<()> {
        let stem = stamped(path, now);
        for number in 1..=SAME_NAMES_MAX {
            let mut name = stem.clone();
            if number > 1 {
                name.push(format!("-{number}"));
            }
            let gz = with(&name, ".gz");
            if fs::exists(&gz)? {
                continue;
            }
            match rename_to_new(path, Path::new(&name)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => return other.and_then(|()| sync_folder(path)),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Compresses and removes in a thread of its own, unless one is at it.
    pub(super) fn tidy_beside(&self, path: &Path) {
        if self.tidying.swap(true, Ordering::SeqCst) {
            return;
        }
        let (rotation, path) = (self.clone(), path.to_owned());
        let run = move || {
            if let Err(error) = rotation.tidy(&path) {
                tracing::warn!(path = %path.display(), %error, "old files are not tidied up; the next rotation tries again");
            }
            rotation.tidying.store(false, Ordering::SeqCst);
        };
        if let Err(error) = std::thread::Builder::new().name("file-rotate".into()).spawn(run) {
            tracing::warn!(%error, "no thread to tidy up old files");
            self.tidying.store(false, Ordering::SeqCst);
        }
    }

    /// Removes what is too much and compresses the rest.
    pub(super) fn tidy(&self, path: &Path) -> io::Result<()> {
        let whole = old_files(path)?.into_iter().filter(|old| !old.is_part);
        let mut bases: Vec<String> = whole.map(|old| old.base).collect();
        // The time in it makes the order of names that of age.
        bases.sort_unstable();
        bases.dedup();
        let surplus = bases.len().saturating_sub(self.keep);
        let folder = path.parent().unwrap_or(Path::new("/"));
        for old in old_files(path)? {
            let name = folder.join(&old.name);
            if old.is_part || bases[..surplus].contains(&old.base) {
                remove(&name)?;
            } else if self.gzip && !old.is_compressed {
                compress(&name)?;
            }
        }
        sync_folder(path)
    }
}

/// The number of the period that a time is in.
fn period(at: SystemTime, every: Duration) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    since / every.as_secs().max(1)
}

fn stamped(path: &Path, now: SystemTime) -> std::ffi::OsString {
    let millis = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let time = Timestamp(u64::try_from(millis).unwrap_or(u64::MAX)).to_string();
    let time: String = time.chars().filter(|c| !matches!(c, '-' | ':')).collect();
    with(path.as_os_str(), &format!(".{time}"))
}

fn with(name: &OsStr, more: &str) -> std::ffi::OsString {
    let mut name = name.to_owned();
    name.push(more);
    name
}

/// Renames unless the new name is taken.
fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Some file systems cannot. Nobody else makes such names.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => match fs::exists(to)? {
            true => Err(io::ErrorKind::AlreadyExists.into()),
            false => fs::rename(from, to),
        },
        other => Ok(other?),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// A file that was rotated.
struct Old {
    name: String,
    /// Its name without what compressing puts behind it.
    base: String,
    is_compressed: bool,
    is_part: bool,
}

/// All files whose names were made here, and no other.
fn old_files(path: &Path) -> io::Result<Vec<Old>> {
    let Some(own) = path.file_name().and_then(OsStr::to_str) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in fs::read_dir(path.parent().unwrap_or(Path::new("/")))? {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        let Some(rest) = name.strip_prefix(own).and_then(|rest| rest.strip_prefix('.')) else {
            continue;
        };
        let is_part = rest.ends_with(PART);
        let time = rest.strip_suffix(PART).or_else(|| rest.strip_suffix(".gz")).unwrap_or(rest);
        if !is_time(time) {
            continue;
        }
        let (base, is_compressed) = (format!("{own}.{time}"), time != rest);
        found.push(Old { name, base, is_compressed, is_part });
    }
    Ok(found)
}

/// `20260310T061128.189Z`, perhaps with a number: `…Z-2`.
fn is_time(text: &str) -> bool {
    const PATTERN: &[u8] = b"00000000T000000.000Z";
    let (time, number) = match text.split_once('-') {
        Some((time, number)) => (time, Some(number)),
        None => (text, None),
    };
    let fits = |(byte, pattern): (u8, &u8)| match pattern {
        b'0' => byte.is_ascii_digit(),
        _ => byte == *pattern,
    };
    let digits = |number: &str| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    time.len() == PATTERN.len() && time.bytes().zip(PATTERN).all(fits) && number.is_none_or(digits)
}

/// Puts a compressed file in the place of a plain one. The plain one stays until the other is on
/// stable storage.
fn compress(plain: &Path) -> io::Result<()> {
    let part = PathBuf::from(with(plain.as_os_str(), PART));
    let written = write_compressed(plain, &part).and_then(|()| {
        fs::rename(&part, with(plain.as_os_str(), ".gz"))?;
        sync_folder(plain)
    });
    if let Err(error) = written {
        // What is left of it is removed the next time, if not now.
        remove(&part).ok();
        return Err(error);
    }
    remove(plain)
}

fn write_compressed(plain: &Path, part: &Path) -> io::Result<()> {
    let mut from = File::open(plain)?;
    let mut options = OpenOptions::new();
    let to = options.write(true).create(true).truncate(true).mode(MODE).open(part)?;
    let mut encoder = GzEncoder::new(to, Compression::default());
    io::copy(&mut from, &mut encoder)?;
    encoder.finish()?.sync_all()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn rotation(size: Option<u64>, every: Option<u64>, keep: usize, gzip: bool) -> Rotation {
        let every = every.map(Duration::from_secs);
        Rotation { size, every, keep, gzip, tidying: Arc::default() }
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_ends_when_it_is_full_or_its_period_is_over() {
        let day = 86_400;
        #[rustfmt::skip]
        let table = [
            // size, every, length, last written, adding, now, due
            (Some(100), None, 90, 0, 10, 9 * day, false),
            (Some(100), None, 91, 0, 10, 0, true),
            (Some(100), None, 0, 0, 500, 0, false), // An empty file takes any batch.
            (Some(100), None, u64::MAX, 0, 1, 0, true),
            (None, Some(day), 1, day - 1, 1, day - 1, false),
            (None, Some(day), 1, day - 1, 1, day, true),
            (None, Some(day), 0, day - 1, 1, day, false),
            (None, Some(day), 1, 2 * day, 1, day, false), // The clock went back.
            (Some(100), Some(day), 1, 0, 1, day, true),
        ];
        for (size, every, length, written, adding, now, expected) in table {
            let due = rotation(size, every, 1, true).is_due(length, at(written), adding, at(now));
            assert_eq!(due, expected, "{size:?} {every:?} {length} {written} {adding} {now}");
        }
    }

    #[test]
    fn a_name_is_new_and_tells_the_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ndjson");
        for text in ["1", "2", "3"] {
            fs::write(&path, text).unwrap();
            rotation(Some(1), None, 9, false).rotate(&path, at(1_773_123_088)).unwrap();
        }
        let expected = [
            "a.ndjson.20260310T061128.000Z",
            "a.ndjson.20260310T061128.000Z-2",
            "a.ndjson.20260310T061128.000Z-3",
        ];
        assert_eq!(names(folder.path()), expected);
        assert_eq!(fs::read_to_string(folder.path().join(expected[2])).unwrap(), "3");
        assert!(expected.iter().all(|name| is_time(name.strip_prefix("a.ndjson.").unwrap())));
    }

    #[test]
    fn old_files_are_compressed_the_oldest_removed_and_others_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.ndjson");
        #[rustfmt::skip]
        let before = [
            "a.ndjson", "a.ndjson.1", "a.ndjson.bak", "a.ndjson.20260310T061128.000Z.txt",
            "b.ndjson.20260310T061128.000Z", "a.ndjson.20260310",
            "a.ndjson.20260301T000000.000Z", "a.ndjson.20260302T000000.000Z.gz",
            "a.ndjson.20260303T000000.000Z", "a.ndjson.20260303T000000.000Z.gz.part",
            "a.ndjson.20260303T000000.000Z-2", "a.ndjson.20260304T000000.000Z.gz.part",
        ];
        for name in before {
            fs::write(folder.path().join(name), format!("{name}\n")).unwrap();
        }
        rotation(Some(1), None, 2, true).tidy(&path).unwrap();
        let mut expected = before[..6].to_vec();
        expected.push("a.ndjson.20260303T000000.000Z.gz");
        expected.push("a.ndjson.20260303T000000.000Z-2.gz");
        expected.sort_unstable();
        assert_eq!(names(folder.path()), expected);
        let compressed = File::open(folder.path().join("a.ndjson.20260303T000000.000Z.gz"));
        let mut text = String::new();
        flate2::read::GzDecoder::new(compressed.unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "a.ndjson.20260303T000000.000Z\n");
    }
}
