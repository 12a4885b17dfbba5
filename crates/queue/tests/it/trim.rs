//! Trimming and `max_size`: what a lane needs stays; sources are refused; settling goes on.

use std::time::Duration;

use holdfast_model::{NewEvent, Timestamp};
use holdfast_queue::{Append, QueueEngine, QueueError, Settle, Span, StoredEvent};

use crate::{
    bed::Bed,
    make::{NOON, batch, dead, delivered, noise},
};

const DAY_MS: u64 = 24 * 3_600_000;

/// A body that takes about a KiB in the store, whatever the compression.
fn kib(n: u64) -> NewEvent {
    NewEvent::alert(noise(1_000, n))
}

async fn trimming_removes_nothing_that_a_lane_has_not_passed(mut bed: Bed) {
    let (fast, slow) = (bed.lane("fast").await, bed.lane("slow").await);
    bed.append(0..640).await;
    bed.settle(&fast, delivered(1..=640)).await;
    bed.settle(&slow, delivered(1..=100)).await;
    bed.upkeep_at(Timestamp(NOON.0 + 30 * DAY_MS)).await;
    bed.crash(0);
    // The chunk in which the slow lane stands stays whole.
    assert!(bed.numbers(1).await.into_iter().eq(64..640));
    assert!(bed.numbers(101).await.into_iter().eq(100..640));
    let ledger = bed.ledger(&slow).await;
    assert_eq!((ledger.seen, ledger.unsettled), (640, 540));
    bed.sound().await;
    bed.settle(
        &slow,
        Settle {
            spans: vec![Span { from: 101, to: 641, count: 540 }],
            delivered: 540,
            ..Settle::default()
        },
    )
    .await;
    bed.upkeep_at(Timestamp(NOON.0 + 30 * DAY_MS)).await;
    assert_eq!((bed.q().stats().events_in_log, bed.q().stats().bytes_live), (0, 0));
    bed.append([7]).await;
    assert_eq!(bed.ledger(&slow).await.unsettled, 1);
    bed.sound().await;
}

async fn events_stay_for_the_retention_after_every_lane_has_passed_them(mut bed: Bed) {
    let lane = bed.lane("slack").await;
    bed.append(0..64).await;
    bed.now = Timestamp(NOON.0 + DAY_MS / 2);
    bed.append(64..128).await;
    bed.settle(&lane, delivered(1..=128)).await;
    bed.upkeep_at(Timestamp(NOON.0 + DAY_MS)).await;
    assert_eq!(bed.q().stats().events_in_log, 128);
    bed.upkeep_at(Timestamp(NOON.0 + DAY_MS + 1)).await;
    bed.crash(0);
    assert!(bed.numbers(1).await.into_iter().eq(64..128));
    bed.upkeep_at(Timestamp(NOON.0 + 2 * DAY_MS)).await;
    assert_eq!(bed.q().stats().events_in_log, 0);
    bed.sound().await;
}

async fn what_waits_for_a_retry_does_not_hold_the_log(mut bed: Bed) {
    let lane = bed.lane("slack").await;
    bed.append(0..64).await;
    let first = StoredEvent::of(&bed.events(1).await[0]);
    let item = Settle {
        spans: vec![Span { from: 1, to: 65, count: 64 }],
        delivered: 63,
        retry: vec![crate::make::retry(vec![first.clone()])],
        ..Settle::default()
    };
    bed.settle(&lane, item).await;
    bed.upkeep_at(Timestamp(NOON.0 + 2 * DAY_MS)).await;
    assert_eq!(bed.q().stats().events_in_log, 0);
    assert_eq!(bed.q_retry(&lane, 1).await.unwrap().members, [first]);
    bed.sound().await;
}

async fn at_max_size_sources_are_refused_and_settling_goes_on(mut bed: Bed) {
    bed.reopen_with(|limits| limits.bytes_max = 1_000_000).await;
    let lane = bed.lane("slack").await;
    let mut taken = 0;
    let refused = loop {
        match bed.try_append((0..64).map(|n| kib(taken + n)).collect()).await {
            Ok(_) => taken += 64,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, QueueError::Full { bytes_max: 1_000_000, .. }), "{refused}");
    assert!(taken > 640 && bed.q().stats().queue_full);
    bed.upkeep_at(NOON).await;
    assert!(bed.q().stats().queue_full, "nothing has changed");

    // The whole log dies in this lane, so the dead letters double what is kept.
    let events = bed.events(1).await;
    for some in events.chunks(90) {
        let spans = vec![Span {
            from: some[0].seq,
            to: some[0].seq + some.len() as u64,
            count: some.len() as u64,
        }];
        let letters = some.iter().map(|event| dead(StoredEvent::of(event))).collect();
        bed.settle(&lane, Settle { spans, dead: letters, ..Settle::default() }).await;
    }
    let stats = bed.q().stats();
    assert!(stats.bytes_dead > 900_000 && stats.bytes_live > 1_800_000, "{stats:?}");
    assert_eq!(bed.ledger(&lane).await.dead, taken);

    // Dead letters are live bytes: the log behind them goes for room, and it is still not enough.
    let refused = bed.try_append(vec![kib(0); 100]).await;
    assert!(matches!(refused, Err(QueueError::Full { .. })));
    assert_eq!(bed.q().stats().events_in_log, 0);
    bed.sound().await;
    let ids = bed.dead_ids("slack").await;
    for some in ids.chunks(32) {
        let end = holdfast_queue::DeadEnd::Purged;
        bed.q().remove_dead(some.to_vec(), end).await.unwrap();
    }
    bed.try_append(vec![kib(0); 100]).await.unwrap();
    assert!(!bed.q().stats().queue_full);
    bed.sound().await;
}

async fn for_room_only_as_much_is_trimmed_as_is_needed_and_only_what_retention_holds(mut bed: Bed) {
    bed.reopen_with(|limits| limits.bytes_max = 1_000_000).await;
    let lane = bed.lane("slack").await;
    for n in 0..14 {
        bed.try_append((0..64).map(|m| kib(n * 64 + m)).collect()).await.unwrap();
    }
    bed.settle(&lane, delivered(1..=320)).await;
    bed.try_append((0..64).map(|n| kib(9_000 + n)).collect()).await.unwrap();
    bed.try_append((0..64).map(|n| kib(9_100 + n)).collect()).await.unwrap();
    let stats = bed.q().stats();
    assert_eq!(stats.events_in_log, 16 * 64 - 64, "one chunk made room");
    assert!(stats.bytes_live <= 1_000_000 && !stats.queue_full);
    // Four more may go for room; what the lane has not passed may not.
    let mut taken = 0;
    while bed.try_append((0..64).map(|m| kib(20_000 + taken * 64 + m)).collect()).await.is_ok() {
        taken += 1;
    }
    assert_eq!(taken, 4);
    bed.crash(0);
    assert_eq!(bed.events(1).await[0].seq, 321);
    bed.sound().await;
}

/// In memory alone: the headroom has 256 MiB at least.
#[tokio::test]
async fn holdfast_s_own_events_may_use_the_headroom() {
    let mut bed = Bed::memory();
    let body = noise(5 << 20, 1);
    bed.reopen_with(|limits| limits.bytes_max = 100_000).await;
    bed.lane("slack").await;
    while bed.try_append((0..64).map(kib).collect()).await.is_ok() {}
    let own = |count| Append {
        from_source: false,
        ..batch("holdfast", NOON, (0..count).map(kib).collect())
    };
    bed.q().append(own(500)).await.unwrap();
    assert!(matches!(bed.try_append(vec![kib(1)]).await, Err(QueueError::Full { .. })));
    let mut taken = 0;
    let refused = loop {
        let own = Append { events: vec![NewEvent::alert(body.clone()); 4], ..own(0) };
        match bed.q().append(own).await {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, QueueError::Full { .. }) && taken > 5, "{refused} after {taken}");
    bed.sound().await;
}

async fn a_queue_without_retention_empties_as_its_lanes_go(mut bed: Bed) {
    bed.reopen_with(|limits| limits.retention = Duration::ZERO).await;
    let lane = bed.lane("slack").await;
    for round in 0..20 {
        bed.append(round * 100..(round + 1) * 100).await;
        bed.settle(&lane, delivered(round * 100 + 1..=round * 100 + 100)).await;
        bed.upkeep_at(Timestamp(NOON.0 + round * 1_000 + 1)).await;
        assert!(bed.q().stats().events_in_log <= 100);
        if round % 6 == 0 {
            bed.crash(0);
            bed.lane("slack").await;
        }
    }
    assert_eq!(bed.ledger(&lane).await.delivered, 2_000);
    bed.sound().await;
}

crate::promises!(
    trimming_removes_nothing_that_a_lane_has_not_passed,
    events_stay_for_the_retention_after_every_lane_has_passed_them,
    what_waits_for_a_retry_does_not_hold_the_log,
    at_max_size_sources_are_refused_and_settling_goes_on,
    for_room_only_as_much_is_trimmed_as_is_needed_and_only_what_retention_holds,
    a_queue_without_retention_empties_as_its_lanes_go,
);
