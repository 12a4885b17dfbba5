//! The folder around the file: the current file, its dated parts, its renamed siblings.
//!
//! Only looks and opens. Which file is to be read next is decided in `follow.rs`.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, ErrorKind, Read},
    os::unix::fs::{DirEntryExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::{
    parts::{self, Packing, Part, Sibling},
    position::{HEAD_BYTES_MAX, Identity},
    unpack::Unpacked,
};

/// A file that was opened, with what its descriptor (not its name) says it is.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) identity: Identity,
    pub(super) packed: Option<Packing>,
}

#[derive(Debug)]
pub(super) struct Folder {
    /// The file to follow.
    pub(super) path: PathBuf,
    dir: PathBuf,
    name: String,
    /// Whether Wazuh keeps parts with dated names under it.
    dated: bool,
}

// === impl Opened ===

impl Opened {
    pub(super) fn at(path: PathBuf) -> io::Result<Self> {
        // Not blocking, because opening a named pipe would otherwise wait for its writer.
        let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let file = File::options().read(true).custom_flags(flags).open(&path)?;
        let metadata = file.metadata()?;
        only_file(&metadata)?;
        let packed = path.file_name().and_then(OsStr::to_str).and_then(Packing::of);
        Ok(Self { file, path, identity: Identity::of(&metadata), packed })
    }

    /// The first bytes of what is in the file, uncompressed.
    pub(super) fn beginning(&self) -> io::Result<Vec<u8>> {
        let mut seen = Vec::with_capacity(HEAD_BYTES_MAX);
        if let Some(packing) = self.packed {
            // Through its own descriptor, because reading moves the place it reads at.
            let again = File::open(&self.path)?;
            let unpacked = Unpacked::new(packing, again)?;
            unpacked.take(HEAD_BYTES_MAX as u64).read_to_end(&mut seen)?;
        } else {
            rustix::io::pread(&self.file, rustix::buffer::spare_capacity(&mut seen), 0)?;
        }
        Ok(seen)
    }

    /// Behind the last line break: whoever starts at the end starts with a whole line.
    pub(super) fn last_line_end(&self) -> io::Result<u64> {
        const STRIDE: u64 = 64 * 1024;
        let mut end = self.file.metadata()?.len();
        while end > 0 {
            let start = end.saturating_sub(STRIDE);
            let mut block = vec![0; usize::try_from(end - start).unwrap_or_default()];
            self.file.read_exact_at(&mut block, start)?;
            if let Some(at) = memchr::memrchr(b'\n', &block) {
                return Ok(start + at as u64 + 1);
            }
            end = start;
        }
        Ok(0)
    }
}

fn only_file(metadata: &fs::Metadata) -> io::Result<()> {
    if metadata.is_file() { Ok(()) } else { Err(io::Error::other("it is not a regular file")) }
}

/// `None` when there is no such file, which is no error here.
pub(super) fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

// === impl Folder ===

impl Folder {
    pub(super) fn around(path: PathBuf, dated: bool) -> Self {
        let dir = path.parent().unwrap_or(Path::new("/")).to_owned();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { path, dir, name, dated }
    }

    /// Which file stands at the path now.
    pub(super) fn current(&self) -> io::Result<Option<Identity>> {
        let Some(metadata) = if_there(fs::metadata(&self.path))? else { return Ok(None) };
        only_file(&metadata)?;
        Ok(Some(Identity::of(&metadata)))
    }

    pub(super) fn open_current(&self) -> io::Result<Option<Opened>> {
        if_there(Opened::at(self.path.clone()))
    }

    /// Plain, or compressed when the plain file is gone. While `gzip` works both are there.
    pub(super) fn open_part(&self, part: Part) -> io::Result<Option<Opened>> {
        match if_there(Opened::at(self.dir.join(part.plain())))? {
            Some(opened) => Ok(Some(opened)),
            None => if_there(Opened::at(self.packed(part))),
        }
    }

    /// Every dated part from `from` on, oldest first.
    pub(super) fn parts_from(&self, from: Part) -> io::Result<Vec<Part>> {
        let mut found = Vec::new();
        for (year, month, folder) in self.months()? {
            if !from.is_at_most_in(year, month) {
                continue;
            }
            for entry in if_there(fs::read_dir(folder))?.into_iter().flatten() {
                let name = entry?.file_name();
                let part = name.to_str().and_then(|n| Part::from_file_name(year, month, n));
                found.extend(part.filter(|part| *part >= from));
            }
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Every dated part after `part`, oldest first.
    ///
    /// Wazuh makes parts in order, but folders are listed one after the other: a part can appear
    /// in a folder already listed, and its successor in the next. So when the first look finds
    /// anything it is repeated; by then everything before that is there.
    pub(super) fn parts_after(&self, part: Part) -> io::Result<Vec<Part>> {
        let look = || {
            let mut found = self.parts_from(part)?;
            found.retain(|found| *found > part);
            Ok(found)
        };
        let found = look()?;
        if found.is_empty() { Ok(found) } else { look() }
    }

    pub(super) fn packed(&self, part: Part) -> PathBuf {
        self.dir.join(part.packed())
    }

    /// The dated name of a file, if it has one. The newest are looked at first.
    pub(super) fn part_of(&self, identity: Identity) -> io::Result<Option<Part>> {
        let mut months = self.months()?;
        months.sort_unstable();
        for (year, month, folder) in months.into_iter().rev() {
            for entry in if_there(fs::read_dir(folder))?.into_iter().flatten() {
                let entry = entry?;
                if entry.ino() != identity.ino {
                    continue;
                }
                let name = entry.file_name();
                let part = name.to_str().and_then(|n| Part::from_file_name(year, month, n));
                let metadata = if_there(entry.metadata())?;
                if part.is_some() && metadata.is_some_and(|m| Identity::of(&m) == identity) {
                    return Ok(part);
                }
            }
        }
        Ok(None)
    }

    /// Files that `logrotate` and its like renamed, oldest first.
    pub(super) fn siblings(&self) -> io::Result<Vec<Sibling>> {
        let mut names = Vec::new();
        for entry in if_there(fs::read_dir(&self.dir))?.into_iter().flatten() {
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(parts::siblings(&self.name, names))
    }

    pub(super) fn open_sibling(&self, sibling: &Sibling) -> io::Result<Option<Opened>> {
        if_there(Opened::at(self.dir.join(&sibling.name)))
    }

    fn months(&self) -> io::Result<Vec<(u16, u8, PathBuf)>> {
        let mut months = Vec::new();
        if !self.dated {
            return Ok(months);
        }
        for (year, folder) in named(&self.dir, parts::year)? {
            months.extend(named(&folder, parts::month)?.into_iter().map(|(m, f)| (year, m, f)));
        }
        Ok(months)
    }
}

/// The folders in `dir` whose name means something.
fn named<T>(dir: &Path, read: fn(&str) -> Option<T>) -> io::Result<Vec<(T, PathBuf)>> {
    let mut found = Vec::new();
    for entry in if_there(fs::read_dir(dir))?.into_iter().flatten() {
        let entry = entry?;
        let Some(value) = entry.file_name().to_str().and_then(read) else { continue };
        if entry.file_type()?.is_dir() {
            found.push((value, entry.path()));
        }
    }
    Ok(found)
}
