//! Merging small chunks keeps every event, its number and its bytes, and the counts exact.

use bytes::Bytes;
use holdfast_model::{NewEvent, Reject, RejectReason, Seq};
use holdfast_queue::{Append, QueueEngine, ReadLimit};

use crate::{
    bed::Bed,
    make::{NOON, alert, batch, delivered, noise},
};

async fn everything(bed: &Bed) -> Vec<(Seq, Bytes, String)> {
    let events = bed.events(1).await;
    events.iter().map(|e| (e.seq, e.body.clone(), e.source.to_string())).collect()
}

async fn merging_keeps_every_event_in_order_with_its_number_source_and_bytes(mut bed: Bed) {
    let lane = bed.lane("slack").await;
    for n in 0..300_u64 {
        let source = ["wazuh", "http", "syslog"][n as usize % 3];
        bed.q().append(batch(source, NOON, vec![alert(n)])).await.unwrap();
        if n % 50 == 17 {
            // Gaps, which chunks do not reach over, and a chunk that needs no merging.
            let reject =
                Reject { reason: RejectReason::Invalid, message: String::new(), raw: noise(9, n) };
            bed.q()
                .append(Append { rejects: vec![reject], ..batch(source, NOON, vec![]) })
                .await
                .unwrap();
            bed.append(1_000..1_064).await;
        }
    }
    let before = (everything(&bed).await, bed.ledger(&lane).await);
    let report = bed.report().await;
    assert!(report.chunks > 300);
    // Small chunks of an earlier run are merged, too, without any new ones.
    bed.upkeep_at(NOON).await;
    let report = bed.report().await;
    assert_eq!(report.problems, [] as [String; 0]);
    assert!(report.chunks < 60, "{} chunks; a short run at the end waits", report.chunks);
    bed.append([5]).await;
    let (events, ledger) = (everything(&bed).await, bed.ledger(&lane).await);
    assert_eq!(events[..before.0.len()], before.0);
    assert_eq!(ledger.seen, before.1.seen + 1);
    bed.sound().await;
}

async fn single_alerts_end_in_full_chunks(mut bed: Bed) {
    let lane = bed.lane("slack").await;
    for round in 0..8 {
        bed.append_singles(round * 100..(round + 1) * 100).await;
        let bytes = bed.q().stats().bytes_live;
        bed.upkeep_at(NOON).await;
        assert!(bed.q().stats().bytes_live < bytes);
    }
    let events = everything(&bed).await;
    assert_eq!(events.len(), 800);
    let chunks = bed.report().await.chunks;
    assert!(chunks <= 800 / 64 + 64, "{chunks} chunks; fewer than one more may wait");
    assert_eq!(everything(&bed).await, events);
    // A lane in the middle of what was merged goes on from there.
    bed.settle(&lane, delivered(1..=100)).await;
    bed.crash(0);
    let limit = ReadLimit { events_max: 3, bytes_max: usize::MAX };
    let page = bed.page(101, limit).await;
    assert_eq!(page.events.iter().map(|event| event.seq).collect::<Vec<_>>(), [101, 102, 103]);
    assert_eq!(bed.ledger(&lane).await.unsettled, 700);
    bed.sound().await;
}

async fn large_small_and_full_chunks_in_turn_are_merged_where_they_fit(mut bed: Bed) {
    bed.lane("slack").await;
    for n in 0..150_u64 {
        let body = noise([10, 3_000, 20_000, 60_000, 120_000][n as usize % 5], n);
        bed.try_append(vec![NewEvent::alert(body)]).await.unwrap();
    }
    let before = everything(&bed).await;
    bed.upkeep_at(NOON).await;
    bed.crash(0);
    assert_eq!(everything(&bed).await, before);
    bed.sound().await;
}

#[tokio::test]
async fn a_crash_in_the_midst_of_merging_loses_nothing() {
    let mut bed = Bed::memory();
    let lane = bed.lane("slack").await;
    bed.append_singles(0..400).await;
    let (events, ledger) = (everything(&bed).await, bed.ledger(&lane).await);
    bed.hold_syncs();
    // Each step would be a commit of its own; as one operation fails, the steps before it count.
    bed.q().upkeep(NOON).await.unwrap_err();
    for kept in 0..=bed.memory_store().unsynced() {
        let mut after = bed.after_crash(kept);
        assert_eq!(everything(&after).await, events);
        assert_eq!(after.ledger(&lane).await, ledger);
        after.append_singles(0..64).await;
        after.upkeep_at(NOON).await;
        after.sound().await;
    }
    bed.crash(0);
}

crate::promises!(
    merging_keeps_every_event_in_order_with_its_number_source_and_bytes,
    single_alerts_end_in_full_chunks,
    large_small_and_full_chunks_in_turn_are_merged_where_they_fit,
);
