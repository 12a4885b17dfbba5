//! Reads one file, plain or compressed, from an offset on, into batches.
//!
//! A plain file is looked at again after each read: if its first line is no longer the same, what
//! was read may belong to another content, and is thrown away. So truncation in place is noticed
//! even when the file has grown past the offset again.

use std::{
    io::{self, Read},
    time::{Duration, SystemTime},
};

use bytes::Bytes;

use super::{
    batch::{Batch, Form, Record},
    folder::Opened,
    lines::Splitter,
    parts::Part,
    position::{Head, Position},
    unpack::Unpacked,
};

/// What one read takes at most, and so about what one batch holds.
const BLOCK_BYTES: usize = 1024 * 1024;
const RECORDS_MAX: usize = 1024;
/// How much of a compressed part is skipped before the caller may stop.
const SKIP_BYTES: usize = 16 * BLOCK_BYTES;

#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// The content before our offset is gone.
    #[error("it was truncated in place")]
    Truncated,
    #[error("it cannot be read")]
    Io(#[from] io::Error),
}

#[derive(Debug)]
pub(super) enum Next {
    Batch(Batch),
    /// Something was read that is no record yet.
    Again,
    /// Everything the file holds now was read.
    Drained,
}

pub(super) struct Reader {
    pub(super) opened: Opened,
    pub(super) part: Option<Part>,
    unpacking: Option<Unpacking>,
    splitter: Splitter,
    head: Option<Head>,
    form: Form,
    /// As of the last read; 0 for a compressed part, whose size says nothing.
    size: u64,
}

/// A compressed part cannot be read from the middle.
struct Unpacking {
    decoder: Unpacked,
    to_skip: u64,
    /// Met behind bytes that are good and were handed out first.
    fault: Option<io::Error>,
    /// Nothing more can be read from it.
    ended: bool,
}

impl Reader {
    pub(super) fn new(
        opened: Opened,
        part: Option<Part>,
        offset: u64,
        form: Form,
    ) -> io::Result<Self> {
        let head = Head::of(&opened.beginning()?);
        let unpacking = match opened.packed {
            Some(packing) => {
                let decoder = Unpacked::new(packing, opened.file.try_clone()?)?;
                Some(Unpacking { decoder, to_skip: offset, fault: None, ended: false })
            }
            None => None,
        };
        let splitter = Splitter::new(offset, form.line_bytes_max);
        Ok(Self { opened, part, unpacking, splitter, head, form, size: 0 })
    }

    pub(super) fn position(&self) -> Position {
        let head = self.head.as_ref().map(Head::fingerprint);
        Position::new(self.opened.identity, self.splitter.offset(), head, self.part)
    }

    /// Begins anew where it stands: a decoder is of no use after a fault.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        if self.opened.packed.is_some() {
            let again = Opened::at(self.opened.path.clone())?;
            *self = Self::new(again, self.part, self.splitter.offset(), self.form.clone())?;
        }
        Ok(())
    }

    /// Takes what was read so far for the whole of a compressed part.
    pub(super) fn end_here(&mut self) {
        if let Some(unpacking) = &mut self.unpacking {
            unpacking.ended = true;
        }
    }

    /// Whether nobody has written to the file for so long.
    pub(super) fn is_quiet_for(&self, wait: Duration) -> bool {
        let modified = self.opened.file.metadata().and_then(|metadata| metadata.modified());
        modified.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age >= wait))
    }

    pub(super) fn next_batch(&mut self) -> Result<Next, ReadError> {
        let mut records = self.cut();
        if records.is_empty() {
            if self.fill()? == 0 {
                return Ok(Next::Drained);
            }
            records = self.cut();
        }
        Ok(if records.is_empty() { Next::Again } else { Next::Batch(self.batch(records)) })
    }

    /// The last line, when nobody will finish it.
    pub(super) fn finish(&mut self) -> Option<Batch> {
        let start = self.splitter.offset();
        let piece = self.splitter.finish()?;
        let record = Record::of(piece, &self.form, || self.place(start));
        Some(self.batch(vec![(record, self.splitter.offset())]))
    }

    fn batch(&self, records: Vec<(Record, u64)>) -> Batch {
        let unread_bytes = self.size.saturating_sub(self.splitter.offset());
        Batch { records, position: self.position(), unread_bytes }
    }

    /// Makes records of what was read.
    fn cut(&mut self) -> Vec<(Record, u64)> {
        let mut records = Vec::new();
        while records.len() < RECORDS_MAX {
            let before = self.splitter.offset();
            let Some(piece) = self.splitter.piece() else { break };
            let record = Record::of(piece, &self.form, || self.place(before));
            records.push((record, self.splitter.offset()));
        }
        records
    }

    fn place(&self, offset: u64) -> String {
        format!("{} at or after byte {offset}", self.opened.path.display())
    }

    /// Reads a block behind what is not cut yet. Answers how many bytes it read or skipped.
    fn fill(&mut self) -> Result<usize, ReadError> {
        let (block, read) = match &mut self.unpacking {
            Some(unpacking) => match unpacking.skip()? {
                0 => unpacking.read(self.splitter.carry())?,
                skipped => return Ok(skipped),
            },
            None => self.read_plain()?,
        };
        if read > 0 {
            self.splitter.feed(Bytes::from(block));
        }
        Ok(read)
    }

    fn read_plain(&mut self) -> Result<(Vec<u8>, usize), ReadError> {
        let size = self.opened.file.metadata()?.len();
        if size < self.splitter.offset() {
            return Err(ReadError::Truncated);
        }
        if size < self.splitter.read_offset() {
            // Only an unfinished line was taken back. It is read anew.
            self.splitter = Splitter::new(self.splitter.offset(), self.form.line_bytes_max);
        }
        let mut at = self.splitter.read_offset();
        let wanted = usize::try_from(size - at).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
        let carry = self.splitter.carry();
        // Exactly as large as needed: events keep their block in memory as long as they live.
        let mut block = Vec::with_capacity(carry.len() + wanted);
        block.extend_from_slice(carry);
        let mut read = 0;
        while read < wanted {
            let spare = rustix::buffer::spare_capacity(&mut block);
            match rustix::io::pread(&self.opened.file, spare, at) {
                Ok(0) => break,
                Ok(count) => {
                    read += count;
                    at += count as u64;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(ReadError::Io(error.into())),
            }
        }
        self.size = size;
        self.check_head()?;
        Ok((block, read))
    }

    fn check_head(&mut self) -> Result<(), ReadError> {
        let beginning = self.opened.beginning()?;
        match &self.head {
            Some(head) if head.begins(&beginning) => Ok(()),
            Some(_) => Err(ReadError::Truncated),
            None => {
                self.head = Head::of(&beginning);
                Ok(())
            }
        }
    }
}

// === impl Unpacking ===

impl Unpacking {
    fn skip(&mut self) -> io::Result<usize> {
        if self.ended {
            return Ok(0);
        }
        let wanted = self.to_skip.min(SKIP_BYTES as u64);
        let skipped = io::copy(&mut (&mut self.decoder).take(wanted), &mut io::sink())?;
        self.to_skip -= skipped;
        if skipped < wanted {
            // The part ends before our place, so there is nothing after it.
            self.to_skip = 0;
        }
        Ok(usize::try_from(skipped).unwrap_or(usize::MAX))
    }

    fn read(&mut self, carry: &[u8]) -> io::Result<(Vec<u8>, usize)> {
        if self.ended {
            return Ok((Vec::new(), 0));
        }
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        let mut block = Vec::with_capacity(carry.len() + BLOCK_BYTES);
        block.extend_from_slice(carry);
        block.resize(carry.len() + BLOCK_BYTES, 0);
        let mut end = carry.len();
        while end < block.len() {
            match self.decoder.read(&mut block[end..]) {
                Ok(0) => break,
                Ok(count) => end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if end > carry.len() => {
                    self.fault = Some(error);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        let read = end - carry.len();
        block.truncate(end);
        Ok((block, read))
    }
}
