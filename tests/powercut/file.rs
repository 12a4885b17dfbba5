//! One file's bytes on a disk that may lose power: what is certain, and what may or may not be.
//!
//! The kernel writes back any dirty page at any moment, so after a cut each page of 4 KiB holds
//! its durable content with any number of the later writes applied in order, and each page decides
//! for itself. Changes of size are metadata and become durable in order. Not modelled: a page that
//! is torn inside, and a disk that returns bytes nobody wrote.

use std::{collections::BTreeMap, ops::Range};

use rand::{RngExt, rngs::StdRng};

pub(crate) const PAGE: usize = 4096;

#[derive(Default)]
pub(crate) struct FileState {
    durable: Vec<u8>,
    /// Not covered by a sync yet, oldest first.
    pending: Vec<Change>,
}

struct Change {
    seq: u64,
    what: What,
}

#[derive(Clone)]
enum What {
    Write { offset: usize, data: Range<usize> },
    Resize(usize),
    Extend(usize),
}

impl FileState {
    pub(crate) fn write(&mut self, seq: u64, offset: u64, data: Range<usize>) {
        self.pending.push(Change { seq, what: What::Write { offset: offset as usize, data } });
    }

    pub(crate) fn resize(&mut self, seq: u64, len: u64) {
        self.pending.push(Change { seq, what: What::Resize(len as usize) });
    }

    /// Preallocation: the file is at least this long, and reads as zeros there.
    pub(crate) fn extend(&mut self, seq: u64, len: u64) {
        self.pending.push(Change { seq, what: What::Extend(len as usize) });
    }

    /// Whether a sync would have to write the file's size, and not its bytes alone.
    pub(crate) fn size_is_dirty(&self) -> bool {
        self.pending.iter().any(|change| match &change.what {
            What::Write { offset, data } => offset + data.len() > self.durable.len(),
            What::Resize(_) | What::Extend(_) => true,
        })
    }

    /// A sync that began at `begin` has ended: what was noted before it is certain now.
    pub(crate) fn commit(&mut self, begin: u64, journal: &[u8]) {
        let covered = self.pending.partition_point(|change| change.seq < begin);
        for change in self.pending.drain(..covered) {
            apply(&mut self.durable, &change.what, journal);
        }
    }

    /// The bytes as the program itself would read them.
    pub(crate) fn live(&self, journal: &[u8]) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for change in &self.pending {
            apply(&mut bytes, &change.what, journal);
        }
        bytes
    }

    /// The bytes after a cut; each dirty page was written back with probability `keep`.
    pub(crate) fn after_cut(&self, keep: f64, dice: &mut StdRng, journal: &[u8]) -> Vec<u8> {
        let sizes: Vec<usize> = (0..self.pending.len())
            .filter(|i| !matches!(self.pending[*i].what, What::Write { .. }))
            .collect();
        let kept = dice.random_range(0..=sizes.len());
        let lost_from = sizes.get(kept).copied().unwrap_or(usize::MAX);

        let mut bytes = self.durable.clone();
        for i in &sizes[..kept] {
            apply(&mut bytes, &self.pending[*i].what, journal);
        }
        for (page, changes) in self.by_page() {
            let writable = self.writes_that_can_show(page, &changes, lost_from);
            let count = if writable > 0 && dice.random_bool(keep) {
                dice.random_range(1..=writable)
            } else {
                0
            };
            self.put_page(&mut bytes, page, &changes, count, lost_from, journal);
        }
        bytes
    }

    /// For each page with a pending write: all changes that touch it, oldest first.
    fn by_page(&self) -> BTreeMap<usize, Vec<usize>> {
        let mut pages: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for change in &self.pending {
            if let What::Write { offset, data } = &change.what {
                for page in offset / PAGE..(offset + data.len()).div_ceil(PAGE) {
                    pages.entry(page).or_default();
                }
            }
        }
        for (i, change) in self.pending.iter().enumerate() {
            let touched = match &change.what {
                What::Write { offset, data } => offset / PAGE..(offset + data.len()).div_ceil(PAGE),
                What::Resize(len) => len / PAGE..usize::MAX,
                What::Extend(_) => continue,
            };
            pages.range_mut(touched).for_each(|(_, changes)| changes.push(i));
        }
        pages
    }

    /// Writes behind a lost cut of the file went to blocks that no durable metadata points to.
    fn writes_that_can_show(&self, page: usize, changes: &[usize], lost_from: usize) -> usize {
        changes
            .iter()
            .take_while(|i| {
                let cut =
                    matches!(self.pending[**i].what, What::Resize(len) if len < (page + 1) * PAGE);
                !(cut && **i >= lost_from)
            })
            .filter(|i| matches!(self.pending[**i].what, What::Write { .. }))
            .count()
    }

    /// Builds one page from its durable bytes, `count` of its writes, and the sizes that were kept.
    fn put_page(
        &self,
        bytes: &mut Vec<u8>,
        page: usize,
        changes: &[usize],
        count: usize,
        lost_from: usize,
        journal: &[u8],
    ) {
        let start = page * PAGE;
        let mut content = [0u8; PAGE];
        let old = self.durable.get(start..self.durable.len().min(start + PAGE)).unwrap_or(&[]);
        content[..old.len()].copy_from_slice(old);
        let mut needed = 0;
        let mut writes = 0;
        for i in changes {
            match &self.pending[*i].what {
                What::Write { offset, data } if writes < count => {
                    writes += 1;
                    let from = (*offset).max(start);
                    let to = (offset + data.len()).min(start + PAGE);
                    let source = data.start + from - offset..data.start + to - offset;
                    content[from - start..to - start].copy_from_slice(&journal[source]);
                    needed = needed.max(to);
                }
                What::Resize(len) if *i < lost_from => {
                    content[len.saturating_sub(start).min(PAGE)..].fill(0);
                    needed = needed.min(*len);
                }
                What::Write { .. } | What::Resize(_) | What::Extend(_) => {}
            }
        }
        if bytes.len() < needed {
            bytes.resize(needed, 0);
        }
        let end = bytes.len().min(start + PAGE);
        if start < end {
            bytes[start..end].copy_from_slice(&content[..end - start]);
        }
    }
}

fn apply(bytes: &mut Vec<u8>, what: &What, journal: &[u8]) {
    match what {
        What::Write { offset, data } => {
            let end = offset + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*offset..end].copy_from_slice(&journal[data.clone()]);
        }
        What::Resize(len) => bytes.resize(*len, 0),
        What::Extend(len) => bytes.resize((*len).max(bytes.len()), 0),
    }
}
