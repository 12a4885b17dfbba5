//! What the program did to its disk, as `disk.c` noted it.
//!
//! Promised: records come in the order in which they took effect, and a record cut short by the
//! end of the process is left out. Not promised: a way to read half a journal; it is held in
//! memory whole, so runs are kept to a few hundred megabytes.

use std::{collections::HashMap, fs, io, ops::Range, path::Path};

const MAGIC: u32 = 0x3143_4a50;
const HEADER_BYTES: usize = 80;

const CREATED: u64 = 1;
const TRUNCATED: u64 = 2;

pub(crate) struct Journal {
    pub(crate) bytes: Vec<u8>,
    pub(crate) records: Vec<Record>,
}

#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// Rising, with gaps; syncs refer to it.
    pub(crate) seq: u64,
    /// CLOCK_MONOTONIC, before the program learned that it was done.
    pub(crate) ns: u64,
    pub(crate) op: Op,
}

/// Paths are below the root; the root itself is `""`. Inode numbers are used anew after an unlink.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Open {
        ino: u64,
        path: String,
        created: bool,
        truncated: bool,
    },
    Write {
        ino: u64,
        offset: u64,
        data: Range<usize>,
    },
    Resize {
        ino: u64,
        len: u64,
    },
    Allocate {
        ino: u64,
        mode: u64,
        offset: u64,
        len: u64,
    },
    SyncBegin {
        ino: u64,
    },
    SyncEnd {
        begin: u64,
        ok: bool,
    },
    SyncIgnored {
        ino: u64,
    },
    /// `sync_file_range` that reached libc: it makes nothing durable.
    SyncRange,
    Rename {
        from: String,
        to: String,
    },
    Link {
        from: String,
        to: String,
    },
    Unlink {
        path: String,
    },
    Mkdir {
        ino: u64,
        path: String,
    },
}

impl Journal {
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        Self::parse(fs::read(path)?)
    }

    pub(crate) fn parse(bytes: Vec<u8>) -> io::Result<Self> {
        let mut records: Vec<Record> = Vec::new();
        let mut at_seq: HashMap<u64, usize> = HashMap::new();
        let mut end = 0;
        while let Some(raw) = Raw::at(&bytes, end)? {
            end = raw.data.end;
            if raw.op == Raw::SHORT {
                if let Some(Op::Write { data, .. }) =
                    at_seq.get(&raw.of).map(|index| &mut records[*index].op)
                {
                    data.end = data.start + raw.length as usize;
                }
                continue;
            }
            at_seq.insert(raw.seq, records.len());
            records.push(raw.record(&bytes)?);
        }
        Ok(Self { bytes, records })
    }
}

/// One record's fields, before they mean anything.
struct Raw {
    op: u32,
    seq: u64,
    ns: u64,
    ino: u64,
    offset: u64,
    length: u64,
    of: u64,
    flags: u64,
    path: Range<usize>,
    path2: Range<usize>,
    data: Range<usize>,
}

impl Raw {
    const SHORT: u32 = 3;

    fn at(bytes: &[u8], at: usize) -> io::Result<Option<Self>> {
        let Some(header) = bytes.get(at..at + HEADER_BYTES) else { return Ok(None) };
        let u32_at = |i: usize| u32::from_le_bytes(header[i..i + 4].try_into().expect("4 bytes"));
        let u64_at = |i: usize| u64::from_le_bytes(header[i..i + 8].try_into().expect("8 bytes"));
        if u32_at(0) != MAGIC {
            return Err(io::Error::other(format!("no record at byte {at} of the journal")));
        }
        let path = at + HEADER_BYTES..at + HEADER_BYTES + u32_at(64) as usize;
        let path2 = path.end..path.end + u32_at(68) as usize;
        let data = path2.end..path2.end + u64_at(72) as usize;
        Ok((data.end <= bytes.len()).then(|| Self {
            op: u32_at(4),
            seq: u64_at(8),
            ns: u64_at(16),
            ino: u64_at(24),
            offset: u64_at(32),
            length: u64_at(40),
            of: u64_at(48),
            flags: u64_at(56),
            path,
            path2,
            data,
        }))
    }

    fn record(self, bytes: &[u8]) -> io::Result<Record> {
        let text = |range: &Range<usize>| {
            String::from_utf8(bytes[range.clone()].to_vec()).map_err(io::Error::other)
        };
        let (ino, path) = (self.ino, text(&self.path)?);
        let op = match self.op {
            1 => Op::Open {
                ino,
                path,
                created: self.flags & CREATED != 0,
                truncated: self.flags & TRUNCATED != 0,
            },
            2 => Op::Write { ino, offset: self.offset, data: self.data },
            4 => Op::Resize { ino, len: self.length },
            5 => Op::Allocate { ino, mode: self.flags, offset: self.offset, len: self.length },
            6 => Op::SyncBegin { ino },
            7 => Op::SyncEnd { begin: self.of, ok: self.length == 1 },
            8 => Op::SyncIgnored { ino },
            9 => Op::SyncRange,
            10 => Op::Rename { from: path, to: text(&self.path2)? },
            11 => Op::Link { from: path, to: text(&self.path2)? },
            12 => Op::Unlink { path },
            13 => Op::Mkdir { ino, path },
            other => return Err(io::Error::other(format!("unknown operation {other}"))),
        };
        // RENAME_EXCHANGE swaps two names, which the model has no word for.
        if matches!(op, Op::Rename { .. }) && self.flags & 2 != 0 {
            return Err(io::Error::other("RENAME_EXCHANGE is not modelled"));
        }
        Ok(Record { seq: self.seq, ns: self.ns, op })
    }
}
