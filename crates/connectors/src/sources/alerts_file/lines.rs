//! Cuts a stream of bytes into lines, in bounded memory, without copying them. Pure.
//!
//! A line that is not finished waits. A line longer than the limit is skipped however long it is,
//! and only its beginning is kept. Zeros at the beginning of a line are what a crash leaves where
//! the file system had grown the file but not written it: they are counted as a hole and cut off,
//! so that the first alert written after the crash is not lost with them.

use bytes::{Buf, Bytes};

/// How much is kept of a line that is too long.
pub(super) const KEPT_BYTES_MAX: usize = 64 * 1024;

/// What a line turns out to be. Blank lines are nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Without its line break.
    Line(Bytes),
    TooLong {
        kept: Bytes,
        bytes: u64,
    },
    /// So many zero bytes.
    Hole(u64),
}

/// A line that is being skipped.
#[derive(Debug)]
struct Skipped {
    kept: Bytes,
    bytes: u64,
}

#[derive(Debug)]
pub(super) struct Splitter {
    line_bytes_max: usize,
    /// Where the first byte that is in no piece yet stands in the stream.
    offset: u64,
    /// Zeros since `offset`.
    zeros: u64,
    skipped: Option<Skipped>,
    /// What is not cut yet.
    block: Bytes,
    /// So much of `block` holds no line break.
    searched: usize,
}

impl Splitter {
    pub(super) fn new(offset: u64, line_bytes_max: usize) -> Self {
        let block = Bytes::new();
        Self { line_bytes_max, offset, zeros: 0, skipped: None, block, searched: 0 }
    }

    /// Everything before this is in a piece that was handed out, or blank.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// From where the next block continues.
    pub(super) fn read_offset(&self) -> u64 {
        let skipped = self.skipped.as_ref().map_or(0, |skipped| skipped.bytes);
        self.offset + self.zeros + skipped + self.block.len() as u64
    }

    /// What the next block must begin with.
    pub(super) fn carry(&self) -> &[u8] {
        &self.block
    }

    /// Takes the carry together with what follows it.
    pub(super) fn feed(&mut self, block: Bytes) {
        debug_assert!(block.starts_with(&self.block), "the carry is the block's beginning");
        self.block = block;
    }

    /// The next piece, or `None` until more is fed.
    pub(super) fn piece(&mut self) -> Option<Piece> {
        loop {
            if self.skipped.is_some() {
                return self.skip();
            }
            if self.searched == 0 {
                let zeros = self.block.iter().take_while(|byte| **byte == 0).count();
                self.block.advance(zeros);
                self.zeros += zeros as u64;
            }
            if self.block.is_empty() {
                return None;
            }
            if self.zeros > 0 {
                return self.hole();
            }
            let Some(at) = memchr::memchr(b'\n', &self.block[self.searched..]) else {
                self.searched = self.block.len();
                if self.searched > self.line_bytes_max {
                    self.begin_skipping();
                }
                return None;
            };
            let line = self.block.split_to(self.searched + at);
            self.block.advance(1);
            self.searched = 0;
            self.offset += line.len() as u64 + 1;
            if let Some(piece) = self.judge(line) {
                return Some(piece);
            }
        }
    }

    /// The last piece, when nothing will follow: a line without its line break is a line.
    pub(super) fn finish(&mut self) -> Option<Piece> {
        if let Some(skipped) = self.skipped.take() {
            self.offset += skipped.bytes;
            return Some(Piece::TooLong { kept: skipped.kept, bytes: skipped.bytes });
        }
        if self.zeros > 0 {
            return self.hole();
        }
        let line = std::mem::take(&mut self.block);
        self.searched = 0;
        self.offset += line.len() as u64;
        self.judge(line)
    }

    fn judge(&self, line: Bytes) -> Option<Piece> {
        if line.trim_ascii().is_empty() {
            return None;
        }
        if line.len() > self.line_bytes_max {
            let bytes = line.len() as u64;
            return Some(Piece::TooLong { kept: beginning(&line), bytes });
        }
        Some(Piece::Line(line))
    }

    fn hole(&mut self) -> Option<Piece> {
        let zeros = std::mem::take(&mut self.zeros);
        self.offset += zeros;
        Some(Piece::Hole(zeros))
    }

    fn begin_skipping(&mut self) {
        let block = std::mem::take(&mut self.block);
        self.searched = 0;
        self.skipped = Some(Skipped { kept: beginning(&block), bytes: block.len() as u64 });
    }

    fn skip(&mut self) -> Option<Piece> {
        let skipped = self.skipped.as_mut()?;
        let Some(at) = memchr::memchr(b'\n', &self.block) else {
            skipped.bytes += self.block.len() as u64;
            self.block.clear();
            return None;
        };
        skipped.bytes += at as u64;
        self.block.advance(at + 1);
        let Skipped { kept, bytes } = self.skipped.take()?;
        self.offset += bytes + 1;
        Some(Piece::TooLong { kept, bytes })
    }
}

/// A copy, because a slice would keep the whole block in memory for as long as it lives.
fn beginning(line: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&line[..line.len().min(KEPT_BYTES_MAX)])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn feed(splitter: &mut Splitter, more: &[u8]) {
        let block = [splitter.carry(), more].concat();
        splitter.feed(block.into());
    }

    fn all(splitter: &mut Splitter) -> Vec<Piece> {
        std::iter::from_fn(|| splitter.piece()).collect()
    }

    fn line(text: &str) -> Piece {
        Piece::Line(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn a_partial_line_waits_and_blank_lines_are_nothing() {
        let mut splitter = Splitter::new(100, 64);
        feed(&mut splitter, b"{\"a\":1}\n\n \r\n{\"b\"");
        assert_eq!(all(&mut splitter), [line("{\"a\":1}")]);
        assert_eq!((splitter.offset(), splitter.read_offset()), (112, 116));
        feed(&mut splitter, b":2}\n");
        assert_eq!(all(&mut splitter), [line("{\"b\":2}")]);
        assert_eq!((splitter.offset(), splitter.read_offset()), (120, 120));
        assert_eq!(splitter.finish(), None);
    }

    #[test]
    fn the_limit_on_a_line_is_exact_and_a_long_line_leaves_the_next_one_whole() {
        for chunk in [1, 3, 100] {
            let mut splitter = Splitter::new(0, 4);
            let mut seen = Vec::new();
            for more in b"1234\n12345\n1\n123456789".chunks(chunk) {
                feed(&mut splitter, more);
                seen.extend(all(&mut splitter));
            }
            let long = |text: &'static str| Piece::TooLong {
                kept: Bytes::from_static(text.as_bytes()),
                bytes: 5,
            };
            let kept = match &seen[1] {
                Piece::TooLong { kept, bytes: 5 } if kept.starts_with(b"12345") => kept.clone(),
                other => panic!("{other:?}"),
            };
            assert_eq!(seen, [line("1234"), long("12345"), line("1")]);
            assert_eq!(kept.len(), 5);
            let last = splitter.finish();
            assert!(matches!(last, Some(Piece::TooLong { bytes: 9, .. })), "{last:?}");
            assert_eq!(splitter.offset(), 22);
        }
    }

    #[test]
    fn a_huge_line_is_skipped_in_bounded_memory() {
        let mut splitter = Splitter::new(0, 1024);
        let block = vec![b'x'; 1 << 20];
        for _ in 0..64 {
            feed(&mut splitter, &block);
            assert_eq!(splitter.piece(), None);
            assert!(splitter.carry().is_empty());
        }
        assert_eq!(splitter.offset(), 0, "a restart must begin with the line");
        feed(&mut splitter, b"\n{}\n");
        match splitter.piece() {
            Some(Piece::TooLong { kept, bytes }) => {
                assert_eq!((kept.len(), bytes), (KEPT_BYTES_MAX, 64 << 20));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(splitter.piece(), Some(line("{}")));
    }

    #[test]
    fn a_hole_does_not_take_the_alert_behind_it_along() {
        let mut splitter = Splitter::new(0, 16);
        for _ in 0..1000 {
            feed(&mut splitter, &[0; 4096]);
            assert_eq!(splitter.piece(), None);
            assert!(splitter.carry().is_empty());
        }
        feed(&mut splitter, b"\0{}\n\0\n{\0}\n\0");
        let expected = [Piece::Hole(4_096_001), line("{}"), Piece::Hole(1), line("{\0}")];
        assert_eq!(all(&mut splitter), expected);
        assert_eq!(splitter.finish(), Some(Piece::Hole(1)));
        assert_eq!(splitter.offset(), splitter.read_offset());
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_the_bytes_arrive(
            text in proptest::collection::vec(prop_oneof![3 => b'a'..b'c', 1 => Just(b'\n')], 0..300),
            sizes in proptest::collection::vec(1_usize..20, 1..300),
        ) {
            let mut splitter = Splitter::new(7, 10);
            let (mut rest, mut seen) = (text.as_slice(), Vec::new());
            for size in sizes.into_iter().chain([text.len()]) {
                let (more, later) = rest.split_at(size.min(rest.len()));
                feed(&mut splitter, more);
                seen.extend(all(&mut splitter));
                prop_assert_eq!(splitter.read_offset(), 7 + (text.len() - later.len()) as u64);
                rest = later;
            }
            seen.extend(splitter.finish());
            prop_assert_eq!(splitter.offset(), 7 + text.len() as u64);
            let expected: Vec<_> = text.split(|b| *b == b'\n').filter(|l| !l.is_empty()).collect();
            prop_assert_eq!(seen.len(), expected.len());
            for (piece, line) in seen.iter().zip(expected) {
                match piece {
                    Piece::Line(seen) => prop_assert_eq!(&seen[..], line),
                    Piece::TooLong { kept, bytes } => {
                        prop_assert_eq!(*bytes, line.len() as u64);
                        prop_assert!(line.len() > 10 && line.starts_with(&kept[..10]));
                    }
                    Piece::Hole(_) => prop_assert!(false, "no zeros were written"),
                }
            }
        }
    }
}
