//! Named readers: their records survive, they hold the log when asked to, and let it go.

use holdfast_model::{Name, NewEvent, Seq, Timestamp};
use holdfast_queue::{
    CONSUMERS_MAX, ConsumerRecord, IN_HAND_MAX, QueueEngine, QueueError, store::Store,
};

use crate::{
    bed::Bed,
    make::{NOON, delivered, noise},
};

const DAY_MS: u64 = 24 * 3_600_000;

fn record(name: &str, hold: bool, reach: Seq) -> ConsumerRecord {
    ConsumerRecord {
        name: Name::new(name).unwrap(),
        owner: "soc".into(),
        created_at: NOON,
        when: "{\"level\":10}".into(),
        max_in_flight: 1_000,
        ack_wait_ms: 30_000,
        hold,
        reach,
        open: Vec::new(),
        ahead: Vec::new(),
    }
}

fn stored(bed: &Bed) -> Vec<ConsumerRecord> {
    bed.q().consumers().iter().map(|consumer| ConsumerRecord::clone(consumer)).collect()
}

async fn what_a_consumer_acknowledged_survives_a_crash(mut bed: Bed) {
    bed.append(0..100).await;
    // As large as one can get.
    let hand = |from: Seq| (0..IN_HAND_MAX as Seq).map(|n| from + 977 * n).collect::<Vec<_>>();
    let full = ConsumerRecord {
        reach: 1 << 40,
        open: hand(1 << 39),
        ahead: hand(1 << 40),
        ..record("siem", false, 1)
    };
    bed.q().put_consumer(full.clone()).await.unwrap();
    bed.crash(0);
    assert_eq!(stored(&bed), vec![full.clone()]);
    let next = ConsumerRecord { reach: 51, open: vec![7, 9], ahead: vec![60], ..full };
    bed.q().put_consumer(next.clone()).await.unwrap();
    bed.q().put_consumer(record("tickets", false, 3)).await.unwrap();
    bed.crash(0);
    assert_eq!(stored(&bed), [next.clone(), record("tickets", false, 3)]);
    assert_eq!((next.position(), stored(&bed)[1].position()), (7, 3));
    assert!(bed.q().remove_consumer(&next.name).await.unwrap());
    assert!(!bed.q().remove_consumer(&next.name).await.unwrap());
    bed.crash(0);
    assert_eq!(stored(&bed), [record("tickets", false, 3)]);
    bed.sound().await;
}

async fn too_many_consumers_or_too_much_in_hand_is_refused_and_changes_nothing(mut bed: Bed) {
    for number in 0..CONSUMERS_MAX {
        bed.q().put_consumer(record(&format!("c{number}"), false, 1)).await.unwrap();
    }
    let one_more = bed.q().put_consumer(record("more", false, 1)).await.unwrap_err();
    assert!(matches!(one_more, QueueError::TooLarge { what: "the set of consumers", .. }));
    let open = (1..=IN_HAND_MAX as Seq + 1).collect();
    let hand = ConsumerRecord { open, ..record("c1", false, 5_000) };
    assert!(matches!(bed.q().put_consumer(hand).await, Err(QueueError::TooLarge { .. })));
    bed.q().put_consumer(record("c1", false, 1)).await.unwrap();
    assert_eq!(stored(&bed).len(), CONSUMERS_MAX);
    bed.sound().await;
}

async fn retention_waits_for_a_consumer_that_holds_and_for_no_other(mut bed: Bed) {
    let lane = bed.lane("slack").await;
    bed.append(0..640).await;
    bed.settle(&lane, delivered(1..=640)).await;
    bed.q().put_consumer(record("archive", true, 201)).await.unwrap();
    bed.q().put_consumer(record("reader", false, 1)).await.unwrap();
    bed.upkeep_at(Timestamp(NOON.0 + 2 * DAY_MS)).await;
    bed.crash(0);
    // The chunk in which it stands stays whole.
    assert!(bed.numbers(1).await.into_iter().eq(192..640));
    let open = ConsumerRecord { open: vec![400], ..record("archive", true, 641) };
    bed.q().put_consumer(open).await.unwrap();
    bed.upkeep_at(Timestamp(NOON.0 + 2 * DAY_MS)).await;
    assert!(bed.numbers(1).await.into_iter().eq(384..640), "what is not acknowledged is held");
    bed.q().remove_consumer(&Name::new("archive").unwrap()).await.unwrap();
    bed.upkeep_at(Timestamp(NOON.0 + 2 * DAY_MS)).await;
    assert_eq!(bed.q().stats().events_in_log, 0, "a removed one frees the log");
    bed.sound().await;
}

async fn a_full_queue_takes_what_only_a_consumer_holds(mut bed: Bed) {
    bed.reopen_with(|limits| limits.bytes_max = 64 * 1024).await;
    let lane = bed.lane("slack").await;
    bed.q().put_consumer(record("archive", true, 1)).await.unwrap();
    let kib = |n: u64| NewEvent::alert(noise(1_000, n));
    for n in 0..200 {
        bed.try_append(vec![kib(n)]).await.unwrap();
        bed.settle(&lane, delivered([n + 1])).await;
    }
    // What is trimmed can still be in memory; a new process has none of it.
    bed.crash(0);
    let oldest = bed.events(1).await[0].seq;
    assert!(oldest > 100, "{oldest}");
    assert_eq!(stored(&bed)[0].position(), 1, "where it stands says that something is missing");
    bed.sound().await;
}

async fn events_from_a_place_are_counted_and_never_subtracted(mut bed: Bed) {
    bed.append(0..10).await;
    let reject = holdfast_model::Reject {
        raw: "{".into(),
        reason: holdfast_model::intake::RejectReason::Invalid,
        message: "cut".into(),
    };
    let append = holdfast_queue::Append {
        rejects: vec![reject],
        ..crate::make::batch("wazuh", bed.now, Vec::new())
    };
    bed.q().append(append).await.unwrap();
    bed.append(10..20).await;
    for (from, count) in [(0, 20), (1, 20), (11, 10), (12, 10), (21, 1), (22, 0), (900, 0)] {
        assert_eq!(bed.q().events_from(from).await.unwrap(), count, "from {from}");
    }
    bed.sound().await;
}

crate::promises!(
    what_a_consumer_acknowledged_survives_a_crash,
    too_many_consumers_or_too_much_in_hand_is_refused_and_changes_nothing,
    retention_waits_for_a_consumer_that_holds_and_for_no_other,
    a_full_queue_takes_what_only_a_consumer_holds,
    events_from_a_place_are_counted_and_never_subtracted,
);

#[tokio::test]
async fn a_damaged_consumer_is_set_aside_and_stops_nothing() {
    let mut bed = Bed::memory();
    bed.append(0..5).await;
    bed.q().put_consumer(record("archive", true, 1)).await.unwrap();
    bed.q().put_consumer(record("siem", false, 2)).await.unwrap();
    bed.close().await;
    let key = b"parchive\0\0".to_vec();
    let mut value = bed.memory_store().get(&key).unwrap().unwrap();
    *value.last_mut().unwrap() ^= 1;
    bed.memory_store().apply(vec![holdfast_queue::store::Write::Put(key, value)]).unwrap();
    bed.memory_store().sync().unwrap();
    bed.try_open().unwrap();
    assert_eq!(stored(&bed), [record("siem", false, 2)]);
    assert_eq!(bed.q().stats().chunks_corrupt, 1);
    bed.sound().await;
}
