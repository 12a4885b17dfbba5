//! The layout of the one tree: a letter for what it is, then what names it, in key order.
//!
//! ```text
//! f                      format, plain text, readable by every version
//! m                      meta: log id, head, counts
//! n                      marker of an adoption under way: old and new name of a lane
//! t                      intent: keys of a write that is larger than one atomic batch
//! e <seq:8> <lane>        link, by its event
//! k <lane> 0 <hash:16>    link, by the remote id: the event's number
//! c <seq:8> <seq:8>       child of an event: the parent's number, then its own
//! w <lane> 0 <first:8>    window of storm control
//! l <lane> 0 <part>      lane: position, settled spans, counters, state
//! r <lane> 0 <seq:8> <generation> <part>   retry record
//! p <name> 0 <part>      consumer: what it asked for, and how far it is
//! b <owner>              how many dead letters an owner has
//! d <owner> 0 <seq:8> <part>               dead letter
//! s <source key>         source position
//! i <key:16>             idempotency key: hour, head and answer
//! j <id:8> <part>        replay job
//! a <number:8> <part>    audit entry
//! q <key>                a damaged record, set aside under its old key
//! z <seq:8> <part>       log chunk, by its first sequence number
//! ```
//!
//! Chunks come last, behind a wall of empty keys (`y`, see `store::sled`): sled rewrites a whole leaf
//! of neighbouring keys, and the small records that change with every commit must not share one
//! with chunks.

use holdfast_model::Seq;
use sha2::{Digest, Sha256};

/// Every chunk's key begins with this.
pub(crate) const CHUNKS: &[u8] = b"z";
pub(crate) const FORMAT: &[u8] = b"f";
pub(crate) const META: &[u8] = b"m";
pub(crate) const INTENT: &[u8] = b"t";
pub(crate) const ADOPTION: &[u8] = b"n";

/// What a store of this version holds under [`FORMAT`].
pub(crate) const FORMAT_NAME: &str = "holdfast-queue 2";

fn key(letter: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = vec![letter];
    for part in parts {
        key.extend_from_slice(part);
    }
    key
}

pub(crate) fn chunk(first: Seq) -> Vec<u8> {
    key(b'z', &[&first.to_be_bytes()])
}

pub(crate) fn lane(name: &str) -> Vec<u8> {
    key(b'l', &[name.as_bytes(), b"\0"])
}

/// The lane's name in the key of its record's first part.
pub(crate) fn lane_name(key: &[u8]) -> Option<&str> {
    let name = key.strip_prefix(b"l")?.strip_suffix(b"\0\0")?;
    std::str::from_utf8(name).ok()
}

pub(crate) fn retry(lane: &str, id: Seq, generation: u8) -> Vec<u8> {
    key(b'r', &[lane.as_bytes(), b"\0", &id.to_be_bytes(), &[generation]])
}

pub(crate) fn retries(lane: &str) -> Vec<u8> {
    key(b'r', &[lane.as_bytes(), b"\0"])
}

pub(crate) fn dead_box(owner: &str) -> Vec<u8> {
    key(b'b', &[owner.as_bytes()])
}

pub(crate) fn dead(owner: &str, seq: Seq) -> Vec<u8> {
    key(b'd', &[owner.as_bytes(), b"\0", &seq.to_be_bytes()])
}

/// The prefix of an owner's dead letters.
pub(crate) fn dead_of(owner: &str) -> Vec<u8> {
    key(b'd', &[owner.as_bytes(), b"\0"])
}

pub(crate) fn window(lane: &str, first: Seq) -> Vec<u8> {
    key(b'w', &[lane.as_bytes(), b"\0", &first.to_be_bytes()])
}

/// The prefix of a lane's windows.
pub(crate) fn windows(lane: &str) -> Vec<u8> {
    key(b'w', &[lane.as_bytes(), b"\0"])
}

pub(crate) fn link(seq: Seq, lane: &str) -> Vec<u8> {
    key(b'e', &[&seq.to_be_bytes(), lane.as_bytes()])
}

/// The prefix of an event's links.
pub(crate) fn links_of(seq: Seq) -> Vec<u8> {
    key(b'e', &[&seq.to_be_bytes()])
}

/// The event and the lane of the key of a link's only part.
pub(crate) fn link_id(key: &[u8]) -> Option<(Seq, &str)> {
    let (seq, rest) = key.strip_prefix(b"e")?.split_first_chunk()?;
    let (_part, lane) = rest.split_last()?;
    Some((Seq::from_be_bytes(*seq), std::str::from_utf8(lane).ok()?))
}

/// The prefix of a lane's links by remote id.
pub(crate) fn linked_of(lane: &str) -> Vec<u8> {
    key(b'k', &[lane.as_bytes(), b"\0"])
}

/// A remote id can be long, so its hash stands for it.
pub(crate) fn linked(lane: &str, remote_id: &str) -> Vec<u8> {
    let hash = Sha256::digest(remote_id.as_bytes());
    key(b'k', &[lane.as_bytes(), b"\0", &hash[..16]])
}

/// `seq` has the parent `parent`.
pub(crate) fn child(parent: Seq, seq: Seq) -> Vec<u8> {
    key(b'c', &[&parent.to_be_bytes(), &seq.to_be_bytes()])
}

/// The prefix of an event's children.
pub(crate) fn children_of(parent: Seq) -> Vec<u8> {
    key(b'c', &[&parent.to_be_bytes()])
}

/// The parent and the child of such a key.
pub(crate) fn child_id(key: &[u8]) -> Option<(Seq, Seq)> {
    let (parent, rest) = key.strip_prefix(b"c")?.split_first_chunk()?;
    let child = rest.try_into().ok()?;
    Some((Seq::from_be_bytes(*parent), Seq::from_be_bytes(child)))
}

pub(crate) fn consumer(name: &str) -> Vec<u8> {
    key(b'p', &[name.as_bytes(), b"\0"])
}

pub(crate) fn source(name: &str) -> Vec<u8> {
    key(b's', &[name.as_bytes()])
}

pub(crate) fn idempotency(hash: &[u8; 16]) -> Vec<u8> {
    key(b'i', &[hash])
}

pub(crate) fn job(id: u64) -> Vec<u8> {
    key(b'j', &[&id.to_be_bytes()])
}

pub(crate) fn audit(number: u64) -> Vec<u8> {
    key(b'a', &[&number.to_be_bytes()])
}

pub(crate) fn set_aside(original: &[u8]) -> Vec<u8> {
    key(b'q', &[original])
}

/// The range of all keys that begin with `prefix`.
pub(crate) fn under(prefix: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    (prefix.to_vec(), end)
}

/// The first sequence number of a chunk's key.
pub(crate) fn chunk_first(key: &[u8]) -> Option<Seq> {
    match key {
        [b'z', seq @ .., _part] => Some(Seq::from_be_bytes(seq.try_into().ok()?)),
        _ => None,
    }
}

/// Owner and sequence number of a dead letter's key.
pub(crate) fn dead_id(key: &[u8]) -> Option<(String, Seq)> {
    let rest = key.strip_prefix(b"d")?;
    let end = rest.iter().position(|b| *b == 0)?;
    let owner = String::from_utf8(rest[..end].to_vec()).ok()?;
    let seq = rest.get(end + 1..end + 9)?;
    Some((owner, Seq::from_be_bytes(seq.try_into().ok()?)))
}

/// Id, generation and part of a retry record's key, behind the lane's prefix.
pub(crate) fn retry_id(prefix: &[u8], key: &[u8]) -> Option<(Seq, u8, u8)> {
    match key.strip_prefix(prefix)? {
        [seq @ .., generation, part] => {
            Some((Seq::from_be_bytes(seq.try_into().ok()?), *generation, *part))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_by_sequence_number_and_read_back() {
        assert!(chunk(255) < chunk(256));
        assert_eq!(chunk_first(&crate::record::part_key(&chunk(77), 3)), Some(77));
        let dead = crate::record::part_key(&dead("source.wazuh", 9), 0);
        assert_eq!(dead_id(&dead), Some(("source.wazuh".into(), 9)));
        assert_eq!(lane_name(&crate::record::part_key(&lane("ab"), 0)), Some("ab"));
        assert_eq!(lane_name(&crate::record::part_key(&lane("ab"), 1)), None);
        let retry = crate::record::part_key(&retry("a", 5, 2), 1);
        assert_eq!(retry_id(&retries("a"), &retry), Some((5, 2, 1)));
        assert_eq!(child_id(&child(7, 300)), Some((7, 300)));
        assert!(child(7, 300).starts_with(&children_of(7)));
    }

    #[test]
    fn one_lane_s_keys_do_not_reach_into_another_s() {
        let (from, to) = under(&retries("a"));
        let other = retry("ab", 1, 0);
        assert!(!(from..to).contains(&other));
        assert_eq!(under(b"a\xff"), (b"a\xff".to_vec(), b"b".to_vec()));
    }
}
