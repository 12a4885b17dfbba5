//! How records are written: versioned, checksummed, compressed, in parts that sled keeps inline.
//!
//! A record larger than [`VALUE_BYTES_MAX`] is cut into parts under consecutive keys, because sled
//! puts larger values into files that it never syncs (DESIGN 5). The first part's head carries the
//! number of parts and the checksum over all.

use serde::{Serialize, de::DeserializeOwned};

use crate::{error::QueueError, pack, store::Write};

/// Largest value in the store, in bytes: a leaf of 17 such values stays below a quarter of a
/// 2 MiB segment.
pub(crate) const VALUE_BYTES_MAX: usize = 24 * 1024;

/// Most parts of one record, about 6 MiB: a part's number is one byte of its key. What does not fit
/// into one atomic batch is staged under an intent (see `engine::group`).
pub(crate) const PARTS_MAX: usize = 250;

const VERSION: u8 = 1;
/// Version, parts, checksum over all the rest, uncompressed length (0: not compressed).
const HEAD_BYTES: usize = 1 + 2 + 4 + 4;
/// Largest record after decompression, in bytes. A bound on what a damaged length can ask for.
const RECORD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Smaller records are stored as they are, with a length of 0: most are written at every commit.
const PACK_BYTES_MIN: usize = 512;

/// A record ready to be stored under a key and its parts.
#[derive(Clone, Debug)]
pub(crate) struct Sealed {
    bytes: Vec<u8>,
}

impl Sealed {
    pub(crate) fn new(record: &impl Serialize) -> Result<Self, QueueError> {
        let plain = postcard::to_stdvec(record)
            .map_err(|source| QueueError::io("encode a record", std::io::Error::other(source)))?;
        let (packed, length) = if plain.len() < PACK_BYTES_MIN {
            (plain, 0)
        } else {
            let packed = pack::compress(&plain)
                .map_err(|source| QueueError::io("compress a record", source))?;
            (packed, plain.len())
        };
        let parts = (HEAD_BYTES + packed.len()).div_ceil(VALUE_BYTES_MAX);
        if parts > PARTS_MAX || length > RECORD_BYTES_MAX {
            let bytes_max = (PARTS_MAX * VALUE_BYTES_MAX) as u64;
            let bytes = packed.len() as u64;
            return Err(QueueError::TooLarge { what: "a record", bytes, bytes_max });
        }
        let (parts, length) = ((parts as u16).to_le_bytes(), (length as u32).to_le_bytes());
        let mut bytes = Vec::with_capacity(HEAD_BYTES + packed.len());
        bytes.push(VERSION);
        bytes.extend_from_slice(&parts);
        bytes.extend_from_slice(&checksum(parts, length, &packed).to_le_bytes());
        bytes.extend_from_slice(&length);
        bytes.extend_from_slice(&packed);
        Ok(Self { bytes })
    }

    pub(crate) fn parts(&self) -> usize {
        self.bytes.len().div_ceil(VALUE_BYTES_MAX)
    }

    /// The writes that store it under `key` and its part keys.
    pub(crate) fn writes(&self, key: &[u8]) -> Vec<Write> {
        let parts = self.bytes.chunks(VALUE_BYTES_MAX).enumerate();
        parts.map(|(part, bytes)| Write::Put(part_key(key, part), bytes.to_vec())).collect()
    }

    /// Live bytes with keys.
    pub(crate) fn size(&self, key: &[u8]) -> u64 {
        (self.bytes.len() + self.parts() * (key.len() + 1)) as u64
    }
}

fn checksum(parts: [u8; 2], length: [u8; 4], packed: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&parts);
    hasher.update(&length);
    hasher.update(packed);
    hasher.finalize()
}

/// The key of one part. Part 0 comes first in key order.
pub(crate) fn part_key(key: &[u8], part: usize) -> Vec<u8> {
    let mut whole = Vec::with_capacity(key.len() + 1);
    whole.extend_from_slice(key);
    whole.push(part as u8);
    whole
}

/// How many parts the record has whose first part this is.
pub(crate) fn parts_of(first: &[u8]) -> usize {
    match first {
        [_, low, high, ..] => usize::from(u16::from_le_bytes([*low, *high])).clamp(1, PARTS_MAX),
        _ => 1,
    }
}

/// Puts a record together from its joined parts.
pub(crate) fn open<T: DeserializeOwned>(key: &[u8], bytes: &[u8]) -> Result<T, QueueError> {
    let corrupt = |problem| QueueError::Corrupt { key: show_key(key), problem };
    let head: &[u8; HEAD_BYTES] = bytes.first_chunk().ok_or(corrupt("it is cut short"))?;
    let [version, p0, p1, c0, c1, c2, c3, l0, l1, l2, l3] = *head;
    if version != VERSION {
        return Err(corrupt("its version is unknown"));
    }
    let packed = &bytes[HEAD_BYTES..];
    let (parts, length) = ([p0, p1], [l0, l1, l2, l3]);
    if checksum(parts, length, packed) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Err(corrupt("its checksum does not match"));
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > RECORD_BYTES_MAX {
        return Err(corrupt("its length is impossible"));
    }
    if length == 0 {
        return postcard::from_bytes(packed).map_err(|_| corrupt("it does not decode"));
    }
    let plain =
        zstd::bulk::decompress(packed, length).map_err(|_| corrupt("it does not decompress"))?;
    postcard::from_bytes(&plain).map_err(|_| corrupt("it does not decode"))
}

/// A key as people can read it: text where it is text, hexadecimal where it is not.
pub(crate) fn show_key(key: &[u8]) -> String {
    key.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(writes: &[Write]) -> Vec<u8> {
        writes
            .iter()
            .flat_map(|write| match write {
                Write::Put(_, value) => value.clone(),
                Write::Remove(_) => Vec::new(),
            })
            .collect()
    }

    #[test]
    fn a_large_record_is_cut_into_parts_and_put_together() {
        let text: Vec<u64> =
            (0..40_000_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
        let sealed = Sealed::new(&text).unwrap();
        let writes = sealed.writes(b"k");
        assert_eq!(writes.len(), sealed.parts());
        assert!(writes.len() > 10);
        let Write::Put(key, first) = &writes[0] else { panic!("a put") };
        assert_eq!((key.as_slice(), parts_of(first)), (&b"k\0"[..], writes.len()));
        assert_eq!(open::<Vec<u64>>(b"k", &joined(&writes)).unwrap(), text);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let sealed = Sealed::new(&"an alert".repeat(20)).unwrap();
        let good = joined(&sealed.writes(b"k"));
        for position in 0..good.len() {
            let mut bad = good.clone();
            bad[position] ^= 0x10;
            assert!(open::<String>(b"k", &bad).is_err(), "byte {position}");
        }
        assert!(open::<String>(b"k", &good[..5]).is_err());
    }

    #[test]
    fn a_record_with_more_parts_than_a_key_can_number_is_refused() {
        let noise: Vec<u64> =
            (0..1_600_000_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
        assert!(matches!(Sealed::new(&noise), Err(QueueError::TooLarge { .. })));
    }
}
