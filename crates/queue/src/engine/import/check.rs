//! Reads the whole file once and names every fault, before anything is written.

use std::io::{BufRead, BufReader, Read};

use holdfast_model::LogId;

use super::{FAULTS_MAX, ImportError, LineFault, Options, Step, build::Builder, tell};
use crate::{
    engine::lines::{Line, Wrong},
    store::Write,
};

/// Longest line: a retry record of 64 MiB, as base64.
const LINE_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// Lines between two words about progress.
const TELL_LINES: u64 = 1_000;

/// Tells one file from another, and one version's batches from another's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint(Vec<u8>);

impl Fingerprint {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A file without faults.
pub(super) struct Checked {
    pub(super) log: LogId,
    pub(super) lines: u64,
    /// What will be written.
    pub(super) bytes_packed: u64,
    pub(super) fingerprint: Fingerprint,
}

/// The lines of a file, with their numbers.
pub(super) struct Lines<R> {
    from: BufReader<R>,
    number: u64,
    bytes: u64,
    crc: crc32fast::Hasher,
    text: Vec<u8>,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(from: R) -> Self {
        let from = BufReader::with_capacity(256 * 1024, from);
        Self { from, number: 0, bytes: 0, crc: crc32fast::Hasher::new(), text: Vec::new() }
    }

    #[expect(clippy::type_complexity, reason = "a line's number, and the line or what is wrong")]
    pub(super) fn next(&mut self) -> Result<Option<(u64, Result<Line, Wrong>)>, ImportError> {
        self.text.clear();
        let mut bounded = (&mut self.from).take(LINE_BYTES_MAX);
        let read = bounded.read_until(b'\n', &mut self.text).map_err(ImportError::Read)?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        self.bytes += read as u64;
        self.crc.update(&self.text);
        let line = if self.text.last() == Some(&b'\n') {
            Line::read(self.text.trim_ascii_end())
        } else if read as u64 == LINE_BYTES_MAX {
            Err(Wrong::new("", format!("it is longer than {LINE_BYTES_MAX} bytes")))
        } else {
            Err(Wrong::new("", "it has no end, so the file is cut short"))
        };
        Ok(Some((self.number, line)))
    }

    /// Of what was read so far.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        let version = env!("CARGO_PKG_VERSION");
        let crc = self.crc.clone().finalize();
        Fingerprint(format!("{version} {} {} {crc:08x} ", self.bytes, self.number).into_bytes())
    }
}

pub(super) fn check(file: impl Read, options: &mut Options<'_>) -> Result<Checked, ImportError> {
    let mut lines = Lines::new(file);
    let mut builder = Builder::default();
    let (mut faults, mut count, mut bytes_packed) = (Vec::new(), 0, 0);
    let mut fault = |line, Wrong { field, problem }| {
        count += 1;
        if faults.len() < FAULTS_MAX {
            faults.push(LineFault { line, field, problem });
        }
    };
    while let Some((number, line)) = lines.next()? {
        if let Err(wrong) = line.and_then(|line| builder.take(line, number)) {
            fault(number, wrong);
        }
        bytes_packed += builder.writes.drain(..).map(|write| write.bytes() as u64).sum::<u64>();
        if number.is_multiple_of(TELL_LINES) {
            tell(options, Step::Checked { lines: number })?;
        }
    }
    match builder.finish() {
        Ok(last) => {
            bytes_packed += last.iter().map(|write| Write::bytes(write) as u64).sum::<u64>()
        }
        Err(wrong) => fault(lines.number.max(1), wrong),
    }
    let (Some(log), 0) = (builder.log().cloned(), count) else {
        return Err(ImportError::Lines { faults, count });
    };
    tell(options, Step::Checked { lines: lines.number })?;
    Ok(Checked { log, lines: lines.number, bytes_packed, fingerprint: lines.fingerprint() })
}
