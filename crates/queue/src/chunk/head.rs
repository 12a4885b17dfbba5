//! What a chunk says about itself without being unpacked.

use holdfast_model::Timestamp;

use super::{CHUNK_BYTES_MAX, CHUNK_EVENTS_MAX};
use crate::{error::QueueError, record::show_key};

const VERSION: u8 = 1;
pub(crate) const HEAD_BYTES: usize = 44;

/// What precedes the compressed events: all that trimming, merging and counting need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) parts: u8,
    pub(crate) count: u16,
    pub(super) plain_bytes: u32,
    pub(super) packed_crc: u32,
    pub(crate) packed_bytes: u32,
    /// Events in the log before this chunk, counted from the log's birth.
    pub(crate) events_before: u64,
    pub(crate) last_received: Timestamp,
    /// 1 in a tombstone: the events were damaged and set aside, only their count is left.
    pub(super) lost: u64,
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
        let bytes: &[u8; HEAD_BYTES] =
            first_part.first_chunk().ok_or(corrupt("it is cut short"))?;
        let u32_at = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
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
        is_small(self.count, self.plain_bytes, usize::from(self.parts)) && !self.is_tombstone()
    }

    pub(crate) fn plain_bytes(&self) -> usize {
        self.plain_bytes as usize
    }
}

pub(super) fn is_small(count: u16, plain_bytes: u32, parts: usize) -> bool {
    usize::from(count) <= CHUNK_EVENTS_MAX / 2
        && (plain_bytes as usize) <= CHUNK_BYTES_MAX / 2
        && parts == 1
}
