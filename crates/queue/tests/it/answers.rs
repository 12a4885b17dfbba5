//! Promise 9: answers that come with a settlement enter the log with it, all or none.

use bytes::Bytes;
use holdfast_model::{EventId, Kind, Name, NewEvent, Seq};
use holdfast_queue::{Answer, QueueEngine, QueueError, Settle, Span, Stats, StoredEvent};

use crate::{
    bed::{Bed, MIB},
    crash::at_every_crash,
    make::{NOON, alert, delivered, noise, retry},
};

fn id(bed: &Bed, seq: Seq) -> EventId {
    bed.q().log_id().event(seq)
}

fn answer(bed: &Bed, parent: Seq, body: impl Into<Bytes>) -> Answer {
    let event = NewEvent { kind: Kind::Lookup, parent: Some(id(bed, parent)), body: body.into() };
    Answer { source: "vt".into(), received_at: NOON, event }
}

/// The event is settled, and so many answers of that size come of it.
fn answered(bed: &Bed, seq: Seq, count: u64, bytes: usize) -> Settle {
    let answers = (0..count).map(|n| answer(bed, seq, noise(bytes, 1_000 * seq + n))).collect();
    Settle { answers, ..delivered([seq]) }
}

async fn answers_enter_the_log_with_their_settlement_and_every_lane_counts_them(mut bed: Bed) {
    let (vt, siem) = (bed.lane("vt").await, bed.lane("siem").await);
    bed.append(0..3).await;
    let mut head = bed.q().head();
    head.borrow_and_update();
    let body = br#"{"virustotal":{"found":1},"integration":"virustotal"}"#.as_slice();
    let answers = vec![answer(&bed, 2, body), answer(&bed, 2, body)];
    bed.settle(&vt, Settle { answers, ..delivered([2]) }).await;
    assert!(head.has_changed().unwrap(), "whoever waits for events is woken");
    for crashed in [false, true] {
        if crashed {
            bed.crash(0);
        }
        let events = bed.events(4).await;
        assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), [4, 5]);
        for event in events {
            assert_eq!((event.kind, &*event.source, &*event.body), (Kind::Lookup, "vt", body));
            assert_eq!((event.parent.clone(), event.received_at), (Some(id(&bed, 2)), NOON));
        }
        let ledger = bed.ledger(&vt).await;
        assert_eq!((ledger.seen, ledger.delivered, ledger.unsettled), (5, 1, 4));
        assert_eq!(bed.ledger(&siem).await.seen, 5);
        assert_eq!(bed.q().children_of(2).await.unwrap(), [4, 5]);
        assert_eq!(bed.q().children_of(1).await.unwrap(), [] as [Seq; 0]);
    }
    bed.sound().await;
}

async fn answers_of_any_number_and_size_follow_what_waits_in_the_same_commit(mut bed: Bed) {
    let vt = bed.lane("vt").await;
    bed.append(0..40).await;
    for (n, (count, bytes)) in
        [(1, 10), (16, 3_000), (16, 9_000), (16, 100_000), (200, 50)].into_iter().enumerate()
    {
        let seq = n as Seq + 1;
        let first = *bed.q().head().borrow();
        let item = answered(&bed, seq, count, bytes);
        let alone = bed.append([1_000]);
        let both = futures_util::future::join(alone, bed.q().settle(&vt, vec![item]));
        both.await.1.unwrap();
        let children = bed.q().children_of(seq).await.unwrap();
        assert_eq!(children.len() as u64, count);
        assert!(children.iter().all(|child| *child >= first));
        let expected: Vec<Bytes> = (0..count).map(|n| noise(bytes, 1_000 * seq + n)).collect();
        let events = bed.events(first).await;
        let of_kind = events.iter().filter(|event| event.kind == Kind::Lookup);
        assert_eq!(of_kind.map(|event| event.body.clone()).collect::<Vec<_>>(), expected);
    }
    bed.sound().await;
    assert_eq!(bed.q().children_of(1).await.unwrap().len(), 1);
}

async fn a_settlement_that_is_refused_leaves_no_answer(mut bed: Bed) {
    let nobody = Name::new("nobody").unwrap();
    bed.append([1]).await;
    let item = answered(&bed, 1, 2, 10);
    let refused = bed.q().settle(&nobody, vec![item]).await;
    assert!(matches!(refused, Err(QueueError::NoLane { .. })));
    assert_eq!(bed.events(1).await.len(), 1);
    bed.sound().await;
}

async fn an_answer_of_a_high_level_is_of_the_express_class(mut bed: Bed) {
    let (vt, pager) = (bed.lane("vt").await, bed.lane("pager").await);
    bed.q().set_express(&pager, Some(12)).await.unwrap();
    bed.append(0..2).await;
    let loud = br#"{"rule":{"level":13}}"#.as_slice();
    let quiet = br#"{"rule":{"level":3}}"#.as_slice();
    let answers = vec![answer(&bed, 1, quiet), answer(&bed, 1, loud)];
    bed.settle(&vt, Settle { answers, ..delivered([1]) }).await;
    let item = Settle {
        express_spans: vec![Span { from: 1, to: 4, count: 0 }, Span::one(4)],
        delivered: 1,
        ..Settle::default()
    };
    bed.settle(&pager, item).await;
    let ledger = bed.ledger(&pager).await;
    assert_eq!((ledger.seen, ledger.delivered, ledger.unsettled), (4, 1, 3));
    bed.sound().await;
}

async fn at_max_size_answers_are_stored_and_those_who_ask_are_told_when_to_stop(mut bed: Bed) {
    let vt = bed.lane("vt").await;
    bed.append(0..4).await;
    bed.settle(&vt, delivered([4])).await;
    let live = bed.q().stats().bytes_live;
    bed.reopen_with(|limits| limits.bytes_max = live).await;
    bed.lane("vt").await;
    let refused = bed.try_append(vec![alert(9)]).await;
    assert!(matches!(refused, Err(QueueError::Full { .. })));
    assert!(bed.q().stats().has_headroom());
    bed.settle(&vt, answered(&bed, 1, 3, 60_000)).await;
    assert_eq!(bed.q().children_of(1).await.unwrap().len(), 3);
    assert!(bed.q().stats().bytes_live > live);
    bed.sound().await;
    let full = Stats {
        bytes_max: 100 * MIB,
        bytes_free: u64::MAX,
        bytes_live: 355 * MIB,
        ..Stats::default()
    };
    assert!(full.has_headroom());
    assert!(!Stats { bytes_live: 356 * MIB, ..full }.has_headroom());
    assert!(!Stats { bytes_free: MIB, ..full }.has_headroom());
    assert!(Stats { bytes_max: 10_000 * MIB, bytes_live: 10_999 * MIB, ..full }.has_headroom());
    assert!(!Stats { bytes_max: 10_000 * MIB, bytes_live: 11_000 * MIB, ..full }.has_headroom());
}

async fn the_children_of_a_trimmed_event_are_forgotten_and_of_others_kept(mut bed: Bed) {
    let vt = bed.lane("vt").await;
    bed.reopen_with(|limits| limits.retention = std::time::Duration::from_secs(60)).await;
    bed.lane("vt").await;
    bed.append([0]).await;
    bed.settle(&vt, answered(&bed, 1, 2, 10)).await;
    bed.settle(&vt, delivered([2, 3])).await;
    let later = holdfast_model::Timestamp(bed.now.0 + 120_000);
    bed.upkeep_at(later).await;
    bed.append([0]).await;
    bed.settle(&vt, answered(&bed, 4, 1, 10)).await;
    bed.upkeep_at(later).await;
    assert_eq!(bed.q().children_of(1).await.unwrap(), [] as [Seq; 0]);
    assert_eq!(bed.q().children_of(4).await.unwrap(), [5]);
    bed.sound().await;
}

#[tokio::test]
async fn a_power_cut_leaves_the_answers_and_their_settlement_or_neither() {
    for (count, bytes) in [(1, 10), (16, 3_000), (16, 200_000)] {
        let bed = Bed::memory();
        let vt = bed.lane("vt").await;
        bed.append(0..3).await;
        let event = StoredEvent::of(&bed.events(2).await[0]);
        let spans = vec![Span::one(2)];
        let waits = Settle { spans, retry: vec![retry(vec![event])], ..Settle::default() };
        bed.settle(&vt, waits).await;
        bed.hold_syncs();
        // Of an event in the log, and of one that has waited.
        let first = answered(&bed, 1, count, bytes);
        let second = answered(&bed, 2, count, bytes);
        let second = Settle { spans: Vec::new(), retries_done: vec![2], ..second };
        bed.q().settle(&vt, vec![first, second]).await.unwrap_err();
        at_every_crash(&bed, async |after, whole| {
            let ledger = after.ledger(&vt).await;
            let children = (
                after.q().children_of(1).await.unwrap().len() as u64,
                after.q().children_of(2).await.unwrap().len() as u64,
            );
            let lookups = after.events(1).await;
            let lookups = lookups.iter().filter(|event| event.kind == Kind::Lookup).count() as u64;
            assert_eq!(lookups, ledger.delivered * count, "{ledger:?}");
            match ledger.delivered {
                0 => assert_eq!((children, ledger.retrying), ((0, 0), 1)),
                1 => assert_eq!((children, ledger.retrying), ((count, 0), 1)),
                _ => assert_eq!((children, ledger.retrying), ((count, count), 0)),
            }
            assert!(!whole || ledger.delivered == 2);
        })
        .await;
    }
}

crate::promises!(
    answers_enter_the_log_with_their_settlement_and_every_lane_counts_them,
    answers_of_any_number_and_size_follow_what_waits_in_the_same_commit,
    a_settlement_that_is_refused_leaves_no_answer,
    an_answer_of_a_high_level_is_of_the_express_class,
    at_max_size_answers_are_stored_and_those_who_ask_are_told_when_to_stop,
    the_children_of_a_trimmed_event_are_forgotten_and_of_others_kept,
);
