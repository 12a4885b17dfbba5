//! Promises 2 to 4: settlements survive, what is not settled is read again, every term is counted.

use std::time::Duration;

use holdfast_model::{DeadReason, Ledger, Seq, Timestamp};
use holdfast_queue::{
    AttemptNote, DeadLetter, QueueEngine, QueueError, RetryRecord, Settle, Span, Start,
    StoredEvent, keep_attempt,
};

use crate::{
    bed::Bed,
    make::{NOON, dead, dead_id, delivered, retry},
};

async fn stored(bed: &Bed, seq: Seq) -> StoredEvent {
    StoredEvent::of(&bed.events(seq).await[0])
}

async fn what_a_lane_has_not_settled_is_read_again_by_the_next_start(mut bed: Bed) {
    let lane = bed.lane("slack").await;
    bed.append(0..10).await;
    bed.settle(&lane, delivered([1, 2, 5, 9])).await;
    bed.crash(0);
    let open = bed.q().open_lane(&lane, Start::New).await.unwrap();
    assert_eq!(open.position, 3, "everything below is settled");
    assert_eq!(open.settled, [Span::one(5), Span::one(9)]);
    assert!(open.unclean, "so what was in flight is in doubt");
    assert_eq!(bed.numbers(open.position).await, (2..10).collect::<Vec<_>>());
    let ledger = bed.ledger(&lane).await;
    assert_eq!((ledger.seen, ledger.delivered, ledger.unsettled), (10, 4, 6));
    bed.sound().await;
}

async fn spans_are_settled_in_any_order_and_join(mut bed: Bed) {
    let lane = bed.lane("slack").await;
    bed.append(0..200).await;
    let mut order: Vec<Seq> = (1..=200).collect();
    for n in 0..order.len() {
        order.swap(n, (n * 7919 + 13) % 200);
    }
    for (n, chunk) in order.chunks(7).enumerate() {
        bed.settle(&lane, delivered(chunk.iter().copied())).await;
        if n % 8 == 0 {
            bed.crash(0);
            bed.lane("slack").await;
            assert_eq!(bed.ledger(&lane).await.imbalance(), 0);
        }
    }
    let open = bed.q().open_lane(&lane, Start::New).await.unwrap();
    assert_eq!((open.position, open.settled.len()), (201, 0));
    bed.sound().await;
}

async fn every_kind_of_settlement_has_its_own_term(mut bed: Bed) {
    let lane = bed.lane("slack").await;
    bed.append(0..8).await;
    let item = Settle {
        spans: vec![Span { from: 1, to: 8, count: 7 }],
        filtered: 1,
        delivered: 1,
        expired: 1,
        purged: 2,
        retry: vec![retry(vec![stored(&bed, 6).await])],
        dead: vec![dead(stored(&bed, 7).await)],
        active: Duration::from_millis(1_500),
        ..Settle::default()
    };
    bed.settle(&lane, item).await;
    let expected = Ledger {
        seen: 8,
        filtered: 1,
        delivered: 1,
        unsettled: 1,
        retrying: 1,
        dead: 1,
        suppressed: 0,
        expired: 1,
        purged: 2,
    };
    assert_eq!(bed.ledger(&lane).await, expected);
    bed.crash(0);
    assert_eq!(bed.ledger(&lane).await, expected);
    assert_eq!(bed.q().open_lane(&lane, Start::New).await.unwrap().active_ms, 1_500);
    bed.sound().await;
}

async fn a_retry_record_survives_whole_with_its_due_time_and_attempts(mut bed: Bed) {
    let lane = bed.lane("slack").await;
    bed.append(0..3).await;
    let mut attempts = Vec::new();
    for n in 1..=30 {
        let outcome = "server_fault".to_owned();
        let excerpt = "try later".to_owned();
        keep_attempt(
            &mut attempts,
            AttemptNote { n, at: NOON, outcome, status: Some(503), excerpt },
        );
    }
    let kept: Vec<u32> = attempts.iter().map(|note| note.n).collect();
    assert_eq!(kept, (1..=5).chain(16..=30).collect::<Vec<_>>(), "the first 5 and the last 15");
    let record = RetryRecord {
        due: Timestamp(NOON.0 + 90_000),
        tries: 30,
        attempts,
        first_active_ms: 77,
        in_doubt: true,
        ..retry(vec![stored(&bed, 2).await, stored(&bed, 3).await])
    };
    let spans = vec![Span { from: 2, to: 4, count: 2 }];
    bed.settle(&lane, Settle { spans, retry: vec![record.clone()], ..Settle::default() }).await;
    bed.crash(0);
    let open = bed.q().open_lane(&lane, Start::New).await.unwrap();
    assert_eq!(open.retries, [record.head()]);
    assert_eq!(bed.q_retry(&lane, 2).await, Some(record));
    assert_eq!(bed.q_retry(&lane, 3).await, None, "the first member names the record");
    bed.sound().await;
}

async fn a_retry_is_replaced_over_and_over_and_dies_in_one_step(mut bed: Bed) {
    let lane = bed.lane("slack").await;
    bed.append(0..2).await;
    let first = retry(vec![stored(&bed, 1).await]);
    bed.settle(
        &lane,
        Settle { spans: vec![Span::one(1)], retry: vec![first.clone()], ..Settle::default() },
    )
    .await;
    // More often than a generation can count.
    for tries in 2..=300 {
        let again = RetryRecord { tries, ..first.clone() };
        let item = Settle { retries_done: vec![1], retry: vec![again], ..Settle::default() };
        bed.settle(&lane, item).await;
        if tries % 90 == 0 {
            bed.crash(0);
            bed.lane("slack").await;
            assert_eq!(bed.q_retry(&lane, 1).await.unwrap().tries, tries);
        }
    }
    bed.sound().await;
    bed.lane("slack").await;
    let letter =
        DeadLetter { reason: DeadReason::TooOld, tries: 300, ..dead(stored(&bed, 1).await) };
    bed.settle(
        &lane,
        Settle { retries_done: vec![1], dead: vec![letter.clone()], ..Settle::default() },
    )
    .await;
    bed.crash(0);
    let ledger = bed.ledger(&lane).await;
    assert_eq!((ledger.retrying, ledger.dead, ledger.unsettled), (0, 1, 1));
    assert_eq!(bed.q().dead_letter(&dead_id(&lane, 1)).await.unwrap(), Some(letter));
    assert_eq!(bed.q_retry(&lane, 1).await, None);
    bed.sound().await;
}

async fn a_replaced_record_that_was_not_named_as_done_is_still_counted_once(mut bed: Bed) {
    let lane = bed.lane("slack").await;
    bed.append([0]).await;
    let record = retry(vec![stored(&bed, 1).await]);
    let spans = vec![Span::one(1)];
    bed.settle(&lane, Settle { spans, retry: vec![record.clone()], ..Settle::default() }).await;
    bed.settle(&lane, Settle { retry: vec![record], ..Settle::default() }).await;
    assert_eq!(bed.ledger(&lane).await.retrying, 1);
    bed.sound().await;
}

async fn a_stretch_settled_twice_is_not_counted_twice(mut bed: Bed) {
    let lane = bed.lane("slack").await;
    bed.append(0..3).await;
    bed.settle(&lane, delivered([2])).await;
    bed.settle(&lane, Settle { spans: vec![Span::one(2)], ..Settle::default() }).await;
    let ledger = bed.ledger(&lane).await;
    assert_eq!((ledger.unsettled, ledger.delivered), (2, 1));
    bed.sound().await;
}

async fn settlements_for_an_unknown_lane_change_nothing(mut bed: Bed) {
    let lane = holdfast_model::Name::new("nobody").unwrap();
    bed.append([1]).await;
    let refused = bed.q().settle(&lane, vec![delivered([1])]).await;
    assert!(matches!(refused, Err(QueueError::NoLane { .. })));
    assert!(matches!(bed.q().ledger(&lane).await, Err(QueueError::NoLane { .. })));
    assert!(bed.q().lanes().is_empty());
    bed.sound().await;
}

async fn a_widely_scattered_settled_set_is_kept(mut bed: Bed) {
    let lane = bed.lane("slack").await;
    for n in 0..8 {
        bed.append(n * 2_500..(n + 1) * 2_500).await;
    }
    // Every second one: 10,000 stretches above the position.
    let items = (0..20).map(|n| delivered((1..=500).map(|m| n * 1_000 + 2 * m)));
    bed.q().settle(&lane, items.collect()).await.unwrap();
    bed.crash(0);
    let open = bed.q().open_lane(&lane, Start::New).await.unwrap();
    assert_eq!((open.position, open.settled.len()), (1, 10_000));
    assert_eq!(bed.ledger(&lane).await.delivered, 10_000);
    let others = (0..10_000).map(|n| 2 * n + 1);
    bed.settle(&lane, delivered(others)).await;
    bed.crash(0);
    assert_eq!(bed.q().open_lane(&lane, Start::New).await.unwrap().position, 20_001);
    bed.sound().await;
}

crate::promises!(
    what_a_lane_has_not_settled_is_read_again_by_the_next_start,
    spans_are_settled_in_any_order_and_join,
    every_kind_of_settlement_has_its_own_term,
    a_retry_record_survives_whole_with_its_due_time_and_attempts,
    a_retry_is_replaced_over_and_over_and_dies_in_one_step,
    a_replaced_record_that_was_not_named_as_done_is_still_counted_once,
    a_stretch_settled_twice_is_not_counted_twice,
    settlements_for_an_unknown_lane_change_nothing,
    a_widely_scattered_settled_set_is_kept,
);
