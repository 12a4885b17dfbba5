//! What a manager does to its alerts: `analysisd` writes and rotates, `monitord` compresses.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use tempfile::TempDir;

use crate::sources::alerts_file::parts::Part;

pub(super) struct Wazuh {
    folder: TempDir,
    file: Option<File>,
    day: u32,
    number: u32,
    next: u64,
    unfinished: Option<String>,
    /// Every line that is, or was, in a file and was not truncated away.
    pub(super) written: Vec<String>,
    /// How many of them are in the current file.
    pub(super) in_current: usize,
}

impl Wazuh {
    /// Begins two days before the end of a year.
    pub(super) fn new() -> Self {
        let mut wazuh = Self {
            folder: tempfile::tempdir().unwrap(),
            file: None,
            day: 363,
            number: 0,
            next: 0,
            unfinished: None,
            written: Vec::new(),
            in_current: 0,
        };
        wazuh.open();
        wazuh
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("alerts.json")
    }

    pub(super) fn part(&self) -> Part {
        // Twelve months of thirty days are enough for order.
        let (year, rest) = (2025 + (self.day - 4) / 360, (self.day - 4) % 360);
        let months =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let (month, day) = (months[(rest / 30) as usize], rest % 30 + 1);
        let number = if self.number > 0 { format!("-{:03}", self.number) } else { String::new() };
        format!("{year}/{month}/ossec-alerts-{day:02}{number}").parse().unwrap()
    }

    pub(super) fn plain(&self, part: Part) -> PathBuf {
        self.folder.path().join(part.plain())
    }

    fn open(&mut self) {
        let dated = self.plain(self.part());
        fs::create_dir_all(dated.parent().unwrap()).unwrap();
        self.file = Some(File::options().append(true).create(true).open(&dated).unwrap());
        drop(fs::remove_file(self.path()));
        fs::hard_link(&dated, self.path()).unwrap();
        self.in_current = 0;
    }

    fn close(&mut self) {
        self.finish();
        let file = self.file.take().unwrap();
        if file.metadata().unwrap().len() == 0 {
            fs::remove_file(self.plain(self.part())).unwrap();
        }
    }

    pub(super) fn midnight(&mut self, days: u32) {
        self.close();
        (self.day, self.number) = (self.day + days, 0);
        self.open();
    }

    pub(super) fn size_limit(&mut self) {
        self.close();
        self.number += 1;
        self.open();
    }

    /// The clock was set back: `analysisd` goes on in an older part.
    pub(super) fn back(&mut self, days: u32) {
        self.close();
        (self.day, self.number) = (self.day - days, 0);
        self.open();
    }

    pub(super) fn alert(&mut self) -> String {
        self.next += 1;
        format!("{{\"n\":{},\"pad\":\"{}\"}}", self.next, "x".repeat(self.next as usize % 90))
    }

    pub(super) fn write_alerts(&mut self, count: usize) {
        self.finish();
        for _ in 0..count {
            let alert = self.alert();
            self.write_raw(format!("{alert}\n").as_bytes());
            self.took(alert);
        }
    }

    /// Half a line reaches the file, because a buffer was full.
    pub(super) fn write_half(&mut self) {
        self.finish();
        let alert = self.alert();
        let (half, rest) = alert.split_at(alert.len() / 2);
        self.write_raw(half.as_bytes());
        self.unfinished = Some(format!("{rest}\n"));
        self.took(alert);
    }

    /// And the rest of it.
    pub(super) fn finish(&mut self) {
        if let Some(rest) = self.unfinished.take() {
            self.write_raw(rest.as_bytes());
        }
    }

    pub(super) fn write_raw(&mut self, bytes: &[u8]) {
        self.file.as_mut().unwrap().write_all(bytes).unwrap();
    }

    fn took(&mut self, alert: String) {
        self.written.push(alert);
        self.in_current += 1;
    }

    /// Somebody runs `> alerts.json`. Whatever is past `taken` in the current file is gone.
    pub(super) fn truncate(&mut self, taken: usize) {
        self.finish();
        let first = self.written.len() - self.in_current;
        self.written.truncate(first.max(taken));
        self.in_current = 0;
        self.file.as_ref().unwrap().set_len(0).unwrap();
    }

    /// What `monitord` does to the parts before today's.
    pub(super) fn compress_old(&self) {
        let current = self.plain(self.part());
        for path in files(self.folder.path()) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with("ossec-") && name.ends_with(".json") && path != current {
                compress(&path);
            }
        }
    }
}

/// The plain file goes only after the compressed one is complete.
pub(super) fn compress(path: &Path) -> PathBuf {
    let packed = PathBuf::from(format!("{}.gz", path.display()));
    let mut encoder = GzEncoder::new(File::create(&packed).unwrap(), Compression::fast());
    encoder.write_all(&fs::read(path).unwrap()).unwrap();
    encoder.finish().unwrap();
    fs::remove_file(path).unwrap();
    packed
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}
