//! Promise 8: after a failed write or sync nothing more is acknowledged, until the next start.

use std::sync::atomic::Ordering;

use holdfast_queue::{QueueEngine, QueueError, Start};

use crate::{
    bed::Bed,
    make::{NOON, alert, delivered},
};

async fn nothing_is_acknowledged_after(bed: &mut Bed, expected: &str) {
    let lane = bed.q().lanes()[0].name.clone();
    let mut failure = bed.q().failure();
    assert_eq!(*failure.borrow_and_update(), None);
    let error = bed.try_append(vec![alert(4)]).await.unwrap_err();
    assert!(matches!(error, QueueError::Failed { .. }), "{error}");
    failure.wait_for(Option::is_some).await.unwrap();
    let reason = failure.borrow().clone().unwrap();
    assert!(reason.contains(expected), "{reason}");

    // The store works again, and still the engine promises nothing.
    bed.memory_store().fail_apply.store(false, Ordering::SeqCst);
    bed.memory_store().fail_sync.store(false, Ordering::SeqCst);
    let failed = |result| matches!(result, Err(QueueError::Failed { .. }));
    assert!(failed(bed.try_append(vec![alert(5)]).await.map(|_| ())));
    assert!(failed(bed.q().settle(&lane, vec![delivered([1])]).await));
    assert!(failed(bed.q().open_lane(&lane, Start::New).await.map(|_| ())));
    assert!(failed(bed.q().upkeep(NOON).await));
    assert!(failed(bed.q().close().await));
    assert_eq!(bed.q().stats().head, 4, "what is not acknowledged is not shown");
    assert_eq!(bed.numbers(1).await, [1, 2, 3]);

    bed.crash(0);
    assert_eq!(bed.numbers(1).await, [1, 2, 3]);
    bed.append([6]).await;
    bed.sound().await;
}

async fn with_three_alerts() -> Bed {
    let bed = Bed::memory();
    bed.lane("slack").await;
    bed.append([1, 2, 3]).await;
    bed
}

#[tokio::test]
async fn nothing_is_acknowledged_after_a_failed_write() {
    let mut bed = with_three_alerts().await;
    bed.memory_store().fail_apply.store(true, Ordering::SeqCst);
    nothing_is_acknowledged_after(
        &mut bed,
        "could not write to the store: an injected write error",
    )
    .await;
}

#[tokio::test]
async fn nothing_is_acknowledged_after_a_failed_sync() {
    let mut bed = with_three_alerts().await;
    bed.memory_store().fail_sync.store(true, Ordering::SeqCst);
    nothing_is_acknowledged_after(&mut bed, "could not sync the store: an injected sync error")
        .await;
}

#[tokio::test]
async fn everyone_whose_commit_failed_is_told_and_so_is_whoever_waits_behind() {
    let bed = with_three_alerts().await;
    bed.hold_syncs();
    let lane = bed.q().lanes()[0].name.clone();
    let settles = (1..=3).map(|seq| bed.q().settle(&lane, vec![delivered([seq])]));
    for result in bed.in_one_group(settles).await {
        assert!(matches!(result, Err(QueueError::Failed { .. })), "{result:?}");
    }
    assert_eq!(bed.ledger(&lane).await.delivered, 0);
}

#[tokio::test]
async fn a_closed_queue_says_so() {
    let bed = with_three_alerts().await;
    bed.q().close().await.unwrap();
    assert!(matches!(bed.try_append(vec![alert(1)]).await, Err(QueueError::Closed)));
    assert!(matches!(bed.q().close().await, Err(QueueError::Closed)));
    assert_eq!(*bed.q().failure().borrow(), None, "that is no failure");
}

#[tokio::test]
async fn an_operation_whose_caller_went_away_is_still_carried_out() {
    let mut bed = with_three_alerts().await;
    let lane = bed.q().lanes()[0].name.clone();
    {
        let settle = bed.q().settle(&lane, vec![delivered([1])]);
        let timeout = tokio::time::timeout(std::time::Duration::ZERO, settle);
        timeout.await.ok();
    }
    bed.append([4]).await;
    assert_eq!(bed.ledger(&lane).await.delivered, 1);
    bed.sound().await;
}
