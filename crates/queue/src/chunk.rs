//! The log's unit of storage: some events with consecutive sequence numbers, compressed together.
//!
//! A chunk knows nothing of its own sequence numbers but what its key says, so it can be packed
//! before the log has given it a place. The place-dependent head is added when it is committed.

use std::sync::Arc;

use bytes::Bytes;
use holdfast_model::{Event, EventId, Kind, NewEvent, Seq, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    error::QueueError,
    record::{VALUE_BYTES_MAX, part_key, show_key},
    store::Write,
};

/// Events of a full chunk. Memory under a backlog follows the chunk's size (DESIGN 5).
pub(crate) const CHUNK_EVENTS_MAX: usize = 64;
/// Uncompressed bytes at which a chunk is full.
pub(crate) const CHUNK_BYTES_MAX: usize = 96 * 1024;

const VERSION: u8 = 1;
const ZSTD_LEVEL: i32 = 1;
pub(crate) const HEAD_BYTES: usize = 44;
const PLAIN_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What precedes the compressed events: all that trimming, merging and counting need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) parts: u8,
    pub(crate) count: u16,
    plain_bytes: u32,
    packed_crc: u32,
    pub(crate) packed_bytes: u32,
    /// Events in the log before this chunk, counted from the log's birth.
    pub(crate) events_before: u64,
    pub(crate) last_received: Timestamp,
    /// 1 in a tombstone: the events were damaged and set aside, only their count is left.
    lost: u64,
}

/// Events packed for storage, without a place yet.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    pub(crate) count: u16,
    plain_bytes: u32,
    last_received: Timestamp,
    bytes: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Index<'a> {
    #[serde(borrow)]
    sources: Vec<&'a str>,
    events: Vec<IndexEntry>,
}

#[derive(Serialize, Deserialize)]
struct IndexEntry {
    source: u16,
    kind: Kind,
    received_at: Timestamp,
    parent: Option<EventId>,
    bytes: u32,
}

/// An event that is about to be packed.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) source: Arc<str>,
    pub(crate) received_at: Timestamp,
    pub(crate) event: NewEvent,
}

// === impl Packed ===

impl Packed {
    pub(crate) fn new(entries: &[Entry]) -> Result<Self, QueueError> {
        let mut sources: Vec<&str> = Vec::new();
        let mut events = Vec::with_capacity(entries.len());
        let mut body_bytes = 0;
        for entry in entries {
            let known = sources.iter().position(|source| *source == &*entry.source);
            let source = known.unwrap_or_else(|| {
                sources.push(&entry.source);
                sources.len() - 1
            });
            body_bytes += entry.event.body.len();
            events.push(IndexEntry {
                source: source as u16,
                kind: entry.event.kind,
                received_at: entry.received_at,
                parent: entry.event.parent.clone(),
                bytes: entry.event.body.len() as u32,
            });
        }
        let index = postcard::to_stdvec(&Index { sources, events })
            .map_err(|source| QueueError::io("encode a chunk", std::io::Error::other(source)))?;
        let mut plain = Vec::with_capacity(4 + index.len() + body_bytes);
        plain.extend_from_slice(&(index.len() as u32).to_le_bytes());
        plain.extend_from_slice(&index);
        for entry in entries {
            plain.extend_from_slice(&entry.event.body);
        }
        let bytes = zstd::bulk::compress(&plain, ZSTD_LEVEL)
            .map_err(|source| QueueError::io("compress a chunk", source))?;
        Ok(Self {
            count: entries.len() as u16,
            plain_bytes: plain.len() as u32,
            last_received: entries.iter().map(|entry| entry.received_at).max().unwrap_or_default(),
            bytes,
        })
    }

    /// How many writes storing it takes.
    pub(crate) fn parts(&self) -> usize {
        (HEAD_BYTES + self.bytes.len()).div_ceil(VALUE_BYTES_MAX)
    }

    /// Live bytes with keys.
    pub(crate) fn size(&self) -> u64 {
        (HEAD_BYTES + self.bytes.len() + self.parts() * 10) as u64
    }

    /// The writes that store it under `key`.
    pub(crate) fn writes(&self, key: &[u8], events_before: u64) -> Vec<Write> {
        let head = Head {
            parts: self.parts() as u8,
            count: self.count,
            plain_bytes: self.plain_bytes,
            packed_crc: crc32fast::hash(&self.bytes),
            packed_bytes: self.bytes.len() as u32,
            events_before,
            last_received: self.last_received,
            lost: 0,
        };
        let mut whole = Vec::with_capacity(HEAD_BYTES + self.bytes.len());
        whole.extend_from_slice(&head.encode());
        whole.extend_from_slice(&self.bytes);
        let parts = whole.chunks(VALUE_BYTES_MAX).enumerate();
        parts.map(|(part, bytes)| Write::Put(part_key(key, part), bytes.to_vec())).collect()
    }
}

// === impl Head ===

impl Head {
    pub(crate) fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[0] = VERSION;
        bytes[1] = self.parts;
        bytes[2..4].copy_from_slice(&self.count.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.plain_bytes.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.packed_crc.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.packed_bytes.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.events_before.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.last_received.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.lost.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..40]);
        bytes[40..44].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the head of a chunk's first part.
    pub(crate) fn decode(key: &[u8], first_part: &[u8]) -> Result<Self, QueueError> {
        let corrupt = |problem| QueueError::Corrupt { key: show_key(key), problem };
        let bytes: &[u8; HEAD_BYTES] = first_part.first_chunk().ok_or(corrupt("it is cut short"))?;
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if crc32fast::hash(&bytes[..40]) != u32_at(40) {
            return Err(corrupt("the checksum of its head does not match"));
        }
        if bytes[0] != VERSION {
            return Err(corrupt("its version is unknown"));
        }
        Ok(Self {
            parts: bytes[1],
            count: u16::from_le_bytes([bytes[2], bytes[3]]),
            plain_bytes: u32_at(4),
            packed_crc: u32_at(8),
            packed_bytes: u32_at(12),
            events_before: u64_at(16),
            last_received: Timestamp(u64_at(24)),
            lost: u64_at(32),
        })
    }

    /// What is left in a damaged chunk's place, so that every lane counts its events.
    pub(crate) fn tombstone(count: u64, events_before: u64, last_received: Timestamp) -> Self {
        Self {
            parts: 1,
            count: u16::try_from(count).unwrap_or(u16::MAX),
            plain_bytes: 0,
            packed_crc: 0,
            packed_bytes: 0,
            events_before,
            last_received,
            lost: 1,
        }
    }

    pub(crate) fn is_tombstone(&self) -> bool {
        self.lost != 0
    }

    /// Live bytes of the chunk, with keys.
    pub(crate) fn size(&self) -> u64 {
        (HEAD_BYTES + self.packed_bytes as usize + usize::from(self.parts) * 10) as u64
    }

    /// A chunk that merging should join with its neighbours.
    pub(crate) fn is_small(&self) -> bool {
        usize::from(self.count) <= CHUNK_EVENTS_MAX / 2
            && (self.plain_bytes as usize) <= CHUNK_BYTES_MAX / 2
            && self.parts == 1
            && !self.is_tombstone()
    }

    pub(crate) fn plain_bytes(&self) -> usize {
        self.plain_bytes as usize
    }
}

/// Reads a chunk's events from its joined parts.
pub(crate) fn unpack(key: &[u8], first: Seq, bytes: &[u8]) -> Result<Vec<Arc<Event>>, QueueError> {
    let entries = entries(key, bytes)?;
    let numbered = entries.into_iter().zip(first..);
    let events = numbered.map(|(entry, seq)| {
        Arc::new(Event::new(seq, entry.event, entry.source, entry.received_at))
    });
    Ok(events.collect())
}

/// The same, without sequence numbers: what merging packs again.
pub(crate) fn entries(key: &[u8], bytes: &[u8]) -> Result<Vec<Entry>, QueueError> {
    let corrupt = |problem| QueueError::Corrupt { key: show_key(key), problem };
    let head = Head::decode(key, bytes)?;
    let packed = &bytes[HEAD_BYTES..];
    if packed.len() != head.packed_bytes as usize || crc32fast::hash(packed) != head.packed_crc {
        return Err(corrupt("its checksum does not match"));
    }
    let length = head.plain_bytes as usize;
    if length > PLAIN_BYTES_MAX {
        return Err(corrupt("its length is impossible"));
    }
    let plain = zstd::bulk::decompress(packed, length).map_err(|_| corrupt("it does not decompress"))?;
    let plain = Bytes::from(plain);
    let index_bytes: &[u8; 4] = plain.first_chunk().ok_or(corrupt("it has no index"))?;
    let bodies_at = 4 + u32::from_le_bytes(*index_bytes) as usize;
    let index = plain.get(4..bodies_at).ok_or(corrupt("its index is cut short"))?;
    let index: Index<'_> =
        postcard::from_bytes(index).map_err(|_| corrupt("its index does not decode"))?;
    let sources: Vec<Arc<str>> = index.sources.iter().map(|source| (*source).into()).collect();
    let mut at = bodies_at;
    let mut entries = Vec::with_capacity(index.events.len());
    for entry in &index.events {
        let end = at + entry.bytes as usize;
        let source = sources.get(usize::from(entry.source));
        let (Some(source), true) = (source, end <= plain.len()) else {
            return Err(corrupt("its index does not fit its events"));
        };
        let (kind, parent) = (entry.kind, entry.parent.clone());
        let event = NewEvent { kind, parent, body: plain.slice(at..end) };
        entries.push(Entry { source: Arc::clone(source), received_at: entry.received_at, event });
        at = end;
    }
    Ok(entries)
}

/// Cuts events into the stretches that become chunks.
pub(crate) fn cut(entries: &[Entry]) -> impl Iterator<Item = &[Entry]> {
    let mut rest = entries;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (mut taken, mut bytes) = (0, 0);
        for entry in rest.iter().take(CHUNK_EVENTS_MAX) {
            bytes += entry.event.body.len();
            if taken > 0 && bytes > CHUNK_BYTES_MAX {
                break;
            }
            taken += 1;
        }
        let (chunk, others) = rest.split_at(taken);
        rest = others;
        Some(chunk)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(source: &str, body: Vec<u8>) -> Entry {
        Entry { source: source.into(), received_at: Timestamp(7), event: NewEvent::alert(body) }
    }

    fn stored(packed: &Packed) -> Vec<u8> {
        packed.writes(b"c", 5).into_iter().flat_map(|write| match write {
            Write::Put(_, value) => value,
            Write::Remove(_) => Vec::new(),
        }).collect()
    }

    #[test]
    fn a_chunk_gives_back_its_events_byte_for_byte() {
        let entries = [entry("a", b"{\"x\":\"\xff\"}".to_vec()), entry("b", vec![]), entry("a", vec![b'x'; 90_000])];
        let packed = Packed::new(&entries).unwrap();
        let bytes = stored(&packed);
        let head = Head::decode(b"c", &bytes).unwrap();
        assert_eq!((head.count, head.events_before, head.last_received), (3, 5, Timestamp(7)));
        assert_eq!(head.size(), packed.size());
        let events = unpack(b"c", 40, &bytes).unwrap();
        let seen: Vec<_> = events.iter().map(|e| (e.seq, &*e.source, e.body.clone())).collect();
        let expected: Vec<_> = entries.iter().zip(40..).map(|(e, seq)| (seq, &*e.source, e.event.body.clone())).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let packed = Packed::new(&[entry("a", b"{\"x\":1}".to_vec())]).unwrap();
        let good = stored(&packed);
        for position in 0..good.len() {
            let mut bad = good.clone();
            bad[position] ^= 1;
            assert!(unpack(b"c", 1, &bad).is_err(), "byte {position}");
        }
    }

    #[test]
    fn cutting_respects_both_limits_and_loses_nothing() {
        let sizes = [10, CHUNK_BYTES_MAX, 10, CHUNK_BYTES_MAX * 3, 5];
        let mut entries: Vec<_> = sizes.iter().map(|n| entry("a", vec![b'x'; *n])).collect();
        entries.extend((0..200).map(|_| entry("a", vec![b'y'; 4])));
        let cut: Vec<_> = cut(&entries).collect();
        assert_eq!(cut.iter().map(|chunk| chunk.len()).sum::<usize>(), entries.len());
        for chunk in cut {
            let bytes: usize = chunk.iter().map(|e| e.event.body.len()).sum();
            assert!(chunk.len() <= CHUNK_EVENTS_MAX && (bytes <= CHUNK_BYTES_MAX || chunk.len() == 1));
        }
    }
}
