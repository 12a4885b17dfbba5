//! Idempotency: a repeated request gets the answer that the first one got.

use std::time::Duration;

use holdfast_model::{Timestamp, intake::Idempotency};
use holdfast_queue::{Append, IdempotentAnswer, QueueEngine, QueueError};

use crate::{
    bed::Bed,
    make::{NOON, alert, batch},
};

fn keyed(bed: &Bed, key: u64) -> Append {
    let idempotency = Idempotency { key: wide(key), body: *b"contents" };
    Append { idempotency: Some(idempotency), ..batch("http", bed.now, vec![alert(key)]) }
}

fn wide(key: u64) -> [u8; 16] {
    (u128::from(key) * 0x9e37_79b9_7f4a_7c15_0000_0001).to_be_bytes()
}

async fn the_answer_under_an_idempotency_key_survives_with_its_alerts(mut bed: Bed) {
    bed.append(0..3).await;
    bed.q().append(keyed(&bed, 7)).await.unwrap();
    let answer = IdempotentAnswer { body: *b"contents", accepted: 1, rejected: 0, first: 4 };
    assert_eq!(bed.q().idempotent(wide(7)).await.unwrap(), Some(answer));
    bed.crash(0);
    assert_eq!(bed.q().idempotent(wide(7)).await.unwrap(), Some(answer));
    assert_eq!(bed.q().idempotent(wide(8)).await.unwrap(), None);
    bed.sound().await;
}

async fn keys_leave_after_their_window_and_not_before(mut bed: Bed) {
    for key in 0..700 {
        bed.q().append(keyed(&bed, key)).await.unwrap();
    }
    bed.now = Timestamp(NOON.0 + 12 * 3_600_000);
    for key in 700..1_300 {
        bed.q().append(keyed(&bed, key)).await.unwrap();
    }
    for minute in 0..10 {
        bed.upkeep_at(Timestamp(NOON.0 + 26 * 3_600_000 + minute * 60_000)).await;
    }
    for key in 0..1_300 {
        let found = bed.q().idempotent(wide(key)).await.unwrap();
        assert_eq!(found.is_some(), key >= 700, "{key}");
    }
    bed.sound().await;
}

async fn a_request_whose_key_cannot_be_kept_is_refused(mut bed: Bed) {
    bed.reopen_with(|limits| limits.idempotency_keys_max = 2).await;
    for key in [1, 2, 2] {
        bed.q().append(keyed(&bed, key)).await.unwrap();
    }
    let refused = bed.q().append(keyed(&bed, 3)).await;
    assert!(matches!(refused, Err(QueueError::TooLarge { .. })));
    bed.append([9]).await;
    bed.limits.idempotency_window = Duration::from_secs(3_600);
    bed.reopen().await;
    bed.upkeep_at(Timestamp(NOON.0 + 3 * 3_600_000)).await;
    bed.q().append(keyed(&bed, 3)).await.unwrap();
    bed.sound().await;
}

#[tokio::test]
async fn an_answer_is_not_given_before_its_alerts_are_on_stable_storage() {
    let bed = Bed::memory();
    bed.hold_syncs();
    bed.q().append(keyed(&bed, 1)).await.unwrap_err();
    assert_eq!(bed.memory_store().unsynced(), 1, "it was applied");
    assert_eq!(bed.q().idempotent(wide(1)).await.unwrap(), None);
}

crate::promises!(
    the_answer_under_an_idempotency_key_survives_with_its_alerts,
    keys_leave_after_their_window_and_not_before,
    a_request_whose_key_cannot_be_kept_is_refused,
);
