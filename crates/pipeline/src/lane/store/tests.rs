use holdfast_model::{Kind, Timestamp};
use holdfast_queue::StoredEvent;

use super::*;

fn record(seqs: impl IntoIterator<Item = Seq>) -> RetryRecord {
    let member = |seq| StoredEvent {
        seq,
        kind: Kind::Alert,
        source: "a".into(),
        received_at: Timestamp(0),
        parent: None,
        body: Default::default(),
    };
    RetryRecord {
        members: seqs.into_iter().map(member).collect(),
        due: Timestamp(1),
        tries: 1,
        attempts: Vec::new(),
        first_active_ms: 0,
        in_doubt: false,
        job: None,
        slots: Slots::NONE,
    }
}

fn ids(records: &[RetryRecord]) -> Vec<Seq> {
    records.iter().map(RetryRecord::id).collect()
}

#[test]
fn a_record_that_does_not_fit_is_halved_and_remembers_its_parts() {
    let (mut records, mut parts) = (vec![record(1..=8), record([20])], HashMap::new());
    assert!(halve(&mut records, &mut parts));
    assert!(halve(&mut records, &mut parts));
    assert_eq!(ids(&records), [1, 3, 5, 7, 20]);
    let mut of_first = parts.remove(&1).unwrap();
    of_first.sort_unstable();
    assert_eq!((of_first, parts.len()), (vec![3, 5, 7], 0));
    assert!(halve(&mut records, &mut parts));
    assert!(!halve(&mut records, &mut parts), "single events cannot be halved");
}

#[test]
fn records_that_shrink_away_in_the_same_call_do_not_remain() {
    let items = [
        Settle {
            retries_done: vec![1],
            retry: vec![record([1, 2]), record([3, 4])],
            ..Settle::default()
        },
        Settle { retries_done: vec![3], retry: vec![record([4])], ..Settle::default() },
    ];
    let heads = remaining(&items);
    assert_eq!(
        heads.iter().map(|head| (head.id, head.members)).collect::<Vec<_>>(),
        [(1, 2), (4, 1)]
    );
}

#[test]
fn settlements_without_records_become_one_and_keep_their_order_around_those_with() {
    let span = |seq| vec![Span::one(seq)];
    let plain = |seq| Settle { spans: span(seq), delivered: 1, ..Settle::default() };
    let with_record = Settle { spans: span(9), retry: vec![record([9])], ..Settle::default() };
    let mut items = vec![plain(2), plain(1), with_record, plain(3)];
    merge_plain(&mut items);
    assert_eq!(items.len(), 3);
    assert_eq!(
        (items[0].delivered, items[0].spans.as_slice()),
        (2, [Span::one(1), Span::one(2)].as_slice())
    );
    assert_eq!(items[1].retry.len(), 1);
}
