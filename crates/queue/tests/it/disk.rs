//! The full disk: sources are refused early, settling goes on, sled never sees it.

use holdfast_model::Timestamp;
use holdfast_queue::{Append, QueueEngine, QueueError, store::memory::MemoryStore};

use crate::{
    bed::{Bed, MIB},
    make::{NOON, alert, batch, delivered},
};

fn space(bed: &Bed, free: u64, reserve: u64) -> &MemoryStore {
    bed.memory_store().set_space(free, reserve);
    bed.memory_store()
}

/// Waits until the writing thread has seen that there is no room.
async fn until_starved(bed: &Bed) {
    while !bed.q().stats().disk_full {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn below_64_mib_sources_are_refused_and_settling_goes_on() {
    let mut bed = Bed::memory();
    let lane = bed.lane("slack").await;
    bed.append(0..100).await;
    space(&bed, 63 * MIB, 0);
    let refused = bed.try_append(vec![alert(1)]).await;
    let Err(QueueError::DiskFull { bytes_free, bytes_needed }) = refused else {
        panic!("{refused:?}")
    };
    assert!(bytes_free == 63 * MIB && bytes_needed > 64 * MIB);
    assert!(bed.q().stats().disk_full);
    bed.settle(&lane, delivered(1..=100)).await;
    let own = Append { from_source: false, ..batch("holdfast", NOON, vec![alert(2)]) };
    bed.q().append(own).await.unwrap();

    space(&bed, 70 * MIB, 0);
    bed.append([3]).await;
    assert!(!bed.q().stats().disk_full);
    bed.sound().await;
}

#[tokio::test]
async fn that_there_is_room_again_is_seen_without_a_new_alert() {
    let mut bed = Bed::memory();
    space(&bed, 20 * MIB, 0);
    bed.try_append(vec![alert(1)]).await.unwrap_err();
    space(&bed, 90 * MIB, 0);
    bed.upkeep_at(NOON).await;
    assert!(!bed.q().stats().disk_full);
}

#[tokio::test]
async fn the_reserve_is_given_up_before_anything_waits() {
    let bed = Bed::memory();
    let lane = bed.lane("slack").await;
    bed.append([1]).await;
    space(&bed, MIB, 256 * MIB);
    bed.settle(&lane, delivered([1])).await;
    let stats = bed.q().stats();
    assert_eq!((stats.bytes_reserved, stats.bytes_free), (0, 257 * MIB));
    bed.append([2]).await;
}

#[tokio::test]
async fn below_12_mib_nothing_is_written_until_there_is_room_and_nothing_is_lost() {
    let mut bed = Bed::memory();
    let lane = bed.lane("slack").await;
    bed.append(0..3).await;
    space(&bed, 11 * MIB, 0);
    let waiting = bed.q().settle(&lane, vec![delivered([1, 2])]);
    let more = async {
        until_starved(&bed).await;
        // Sources are told at once, also while others wait.
        let refused = bed.try_append(vec![alert(9)]).await;
        assert!(matches!(refused, Err(QueueError::DiskFull { .. })), "{refused:?}");
        assert_eq!(bed.memory_store().unsynced(), 0);
        // What only reads does not wait.
        assert_eq!(bed.ledger(&lane).await.delivered, 0);
        assert_eq!(bed.q().jobs().await.unwrap().len(), 0);
        assert_eq!(bed.q().idempotent([0; 16]).await.unwrap(), None);
        assert_eq!(bed.numbers(1).await, [0, 1, 2]);
        space(&bed, 200 * MIB, 0);
    };
    let (settled, ()) = tokio::join!(waiting, more);
    settled.unwrap();
    assert_eq!(bed.ledger(&lane).await.delivered, 2);
    bed.append([3]).await;
    bed.sound().await;
}

#[tokio::test]
async fn a_queue_that_waits_for_room_can_be_closed() {
    let mut bed = Bed::memory();
    let lane = bed.lane("slack").await;
    bed.append(0..3).await;
    space(&bed, MIB, 0);
    let engine = bed.q();
    let (settled, closed) = tokio::join!(engine.settle(&lane, vec![delivered([1])]), async {
        until_starved(&bed).await;
        engine.close().await
    });
    assert!(matches!(settled, Err(QueueError::Closed)), "{settled:?}");
    assert!(matches!(closed, Err(QueueError::Closed)), "{closed:?}");
    bed.crash(0);
    assert_eq!(bed.ledger(&lane).await.unsettled, 3);
    bed.sound().await;
}

#[tokio::test]
async fn merging_waits_for_room_and_trimming_does_not() {
    let mut bed = Bed::memory();
    let lane = bed.lane("slack").await;
    bed.append_singles(0..128).await;
    bed.settle(&lane, delivered(1..=10)).await;
    space(&bed, 40 * MIB, 0);
    bed.upkeep_at(Timestamp(NOON.0 + 48 * 3_600_000)).await;
    assert_eq!(bed.report().await.chunks, 118);
}
