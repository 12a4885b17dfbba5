use holdfast_model::{NewEvent, Timestamp};

use super::*;
use crate::{
    chunk::{Entry, Packed},
    store::memory::MemoryStore,
};

const ALL: ReadLimit = ReadLimit { events_max: 1_000, bytes_max: usize::MAX };

/// A log of these chunks, each with its first number and its events.
fn log(chunks: &[(Seq, u64)]) -> MemoryStore {
    let store = MemoryStore::default();
    let mut before = 0;
    for &(first, count) in chunks {
        let entry = |n: u64| Entry {
            source: "wazuh".into(),
            received_at: Timestamp(0),
            event: NewEvent::alert(format!("{n}")),
        };
        let packed = Packed::new(&(first..first + count).map(entry).collect::<Vec<_>>()).unwrap();
        store.apply(packed.writes(&keys::chunk(first), before)).unwrap();
        before += count;
    }
    store
}

fn found(store: &MemoryStore, from: Seq, head: Seq, events_total: u64) -> Option<(Vec<Seq>, Seq)> {
    match page(store, from, End { head, events_total }, ALL, true).unwrap() {
        Found::Page(page) => Some((page.events.iter().map(|event| event.seq).collect(), page.next)),
        Found::Changed => None,
        Found::Damaged(first) => panic!("{first} is damaged"),
    }
}

#[test]
fn a_merged_chunk_that_reaches_over_the_head_is_read_only_up_to_it() {
    let store = log(&[(1, 10), (11, 5)]);
    assert_eq!(found(&store, 1, 5, 4), Some((vec![1, 2, 3, 4], 5)));
    assert_eq!(found(&store, 3, 13, 12), Some(((3..=12).collect(), 13)));
    assert_eq!(found(&store, 5, 5, 4), Some((vec![], 5)));
}

#[test]
fn a_page_that_does_not_add_up_is_not_given() {
    assert_eq!(found(&log(&[(1, 10), (11, 5)]), 1, 17, 16), None, "the end is missing");
    let hole = log(&[(1, 10), (11, 5), (16, 5)]);
    hole.remove(&part_key(&keys::chunk(11), 0));
    assert_eq!(found(&hole, 1, 21, 20), None, "the middle is missing");
    assert_eq!(found(&hole, 11, 21, 20), None, "what should contain it does not");
}

#[test]
fn events_before_a_position_are_counted_over_gaps_and_are_unknown_when_trimmed_since() {
    let store = log(&[(1, 10), (14, 6), (25, 2)]);
    let end = End { head: 30, events_total: 18 };
    let before = |position, trimmed| events_before(&store, position, end, trimmed).unwrap();
    for (position, expected) in [(1, 0), (5, 4), (11, 10), (13, 10), (14, 10), (19, 15), (20, 16)] {
        assert_eq!(before(position, 0), Some(expected), "{position}");
    }
    assert_eq!((before(27, 0), before(29, 0), before(30, 0)), (Some(18), Some(18), Some(18)));
    store.remove(&part_key(&keys::chunk(1), 0));
    assert_eq!((before(12, 10), before(12, 0)), (Some(10), None));
    assert_eq!(before(14, 10), Some(10));
}
