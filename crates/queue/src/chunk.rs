//! The log's unit of storage: some events with consecutive sequence numbers, compressed together.
//!
//! A chunk knows nothing of its own sequence numbers but what its key says, so it can be packed
//! before the log has given it a place. The place-dependent head is added when it is committed.

mod head;

use std::sync::Arc;

use bytes::Bytes;
use holdfast_model::{Event, EventId, Kind, NewEvent, Seq, Timestamp};
use serde::{Deserialize, Serialize};

pub(crate) use self::head::Head;
use self::head::{HEAD_BYTES, is_small};
use crate::{
    error::QueueError,
    pack,
    record::{PARTS_MAX, VALUE_BYTES_MAX, part_key, show_key},
    store::Write,
};

/// Events of a full chunk. Memory under a backlog follows the chunk's size (DESIGN 5).
pub(crate) const CHUNK_EVENTS_MAX: usize = 64;
/// Uncompressed bytes at which a chunk is full.
pub(crate) const CHUNK_BYTES_MAX: usize = 48 * 1024;

/// Most parts of a chunk that small appends share: see `engine::group`.
pub(crate) const SEALED_PARTS_MAX: usize = 8;

const PLAIN_BYTES_MAX: usize = 64 * 1024 * 1024;

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
        let bytes =
            pack::compress(&plain).map_err(|source| QueueError::io("compress a chunk", source))?;
        // Only a single event can be that large: the part's number is one byte of its key.
        if HEAD_BYTES + bytes.len() > PARTS_MAX * VALUE_BYTES_MAX {
            let (bytes, bytes_max) = (bytes.len() as u64, (PARTS_MAX * VALUE_BYTES_MAX) as u64);
            return Err(QueueError::TooLarge { what: "an event", bytes, bytes_max });
        }
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

    /// A chunk that merging should join with its neighbours; see [`Head::is_small`].
    pub(crate) fn is_small(&self) -> bool {
        is_small(self.count, self.plain_bytes, self.parts())
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
    let plain =
        zstd::bulk::decompress(packed, length).map_err(|_| corrupt("it does not decompress"))?;
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

/// Cuts events into the stretches that become chunks, about equally large: a small rest would only
/// have to be merged later.
pub(crate) fn cut(entries: &[Entry]) -> impl Iterator<Item = &[Entry]> {
    let bytes: usize = entries.iter().map(|entry| entry.event.body.len()).sum();
    let chunks =
        entries.len().div_ceil(CHUNK_EVENTS_MAX).max(bytes.div_ceil(CHUNK_BYTES_MAX / 8 * 7));
    let events_max = entries.len().div_ceil(chunks.max(1)).min(CHUNK_EVENTS_MAX);
    let mut rest = entries;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (mut taken, mut bytes) = (0, 0);
        for entry in rest.iter().take(events_max) {
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
mod tests;
