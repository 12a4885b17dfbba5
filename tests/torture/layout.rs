//! Wazuh's folders of alerts: dated parts, and `alerts.json` as a hard link to the current one.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};

use crate::support::wait::civil;

/// 2026-03-10, so that a run passes into another month.
const FIRST_DAY: u64 = 20_522;
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

pub(crate) struct Layout {
    folder: PathBuf,
    day: u64,
    part: u32,
    current: File,
    current_path: PathBuf,
    /// Parts of the day so far.
    parts: Vec<PathBuf>,
    /// Parts of earlier days that are not compressed yet.
    old: Vec<PathBuf>,
    pub(crate) rotations: u32,
    pub(crate) compressed: u32,
}

impl Layout {
    pub(crate) fn new(folder: &Path) -> io::Result<Self> {
        let path = dated(folder, FIRST_DAY, 0);
        let layout = Self {
            current: create(&path)?,
            day: FIRST_DAY,
            part: 0,
            parts: vec![path.clone()],
            old: Vec::new(),
            folder: folder.to_owned(),
            rotations: 0,
            compressed: 0,
            current_path: path,
        };
        layout.link()?;
        Ok(layout)
    }

    pub(crate) fn alerts(folder: &Path) -> PathBuf {
        folder.join("alerts.json")
    }

    /// As analysisd does it: the path is missing for a moment.
    fn link(&self) -> io::Result<()> {
        let link = Self::alerts(&self.folder);
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::hard_link(&self.current_path, link)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.current.write_all(bytes)
    }

    /// A size limit was reached: the next part of the same day.
    pub(crate) fn next_part(&mut self) -> io::Result<()> {
        self.part += 1;
        self.begin()
    }

    /// Midnight. What was the day's becomes a matter for `monitord`.
    pub(crate) fn next_day(&mut self) -> io::Result<()> {
        self.old.append(&mut self.parts);
        self.day += 1;
        self.part = 0;
        self.begin()
    }

    fn begin(&mut self) -> io::Result<()> {
        if self.current.metadata()?.len() == 0 {
            fs::remove_file(&self.current_path)?;
            self.parts.retain(|part| *part != self.current_path);
            self.old.retain(|part| *part != self.current_path);
        }
        self.current_path = dated(&self.folder, self.day, self.part);
        self.current = create(&self.current_path)?;
        self.parts.push(self.current_path.clone());
        self.rotations += 1;
        self.link()
    }

    /// As monitord does it: the compressed file grows beside the plain one, which then goes.
    pub(crate) fn compress_old(&mut self) -> io::Result<()> {
        for plain in std::mem::take(&mut self.old) {
            let mut name = plain.clone().into_os_string();
            name.push(".gz");
            let mut encoder = GzEncoder::new(File::create(name)?, Compression::fast());
            encoder.write_all(&fs::read(&plain)?)?;
            encoder.finish()?;
            fs::remove_file(&plain)?;
            self.compressed += 1;
        }
        Ok(())
    }
}

fn dated(folder: &Path, day: u64, part: u32) -> PathBuf {
    let (year, month, day) = civil(day);
    let month = MONTHS[month as usize - 1];
    let part = if part == 0 { String::new() } else { format!("-{part:03}") };
    folder.join(format!("{year}/{month}/ossec-alerts-{day:02}{part}.json"))
}

fn create(path: &Path) -> io::Result<File> {
    fs::create_dir_all(path.parent().expect("a dated folder"))?;
    OpenOptions::new().append(true).create(true).open(path)
}
