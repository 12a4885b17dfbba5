use crate::rig::*;

fn spoil(value: &mut [u8]) {
    if let Some(last) = value.last_mut() {
        *last ^= 0xff;
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_stretch_of_the_log_is_purged_and_counted_and_the_rest_arrives() {
    let mut rig = Rig::new();
    for _ in 0..5 {
        rig.append(0..10).await;
    }
    let far = FarEnd::new();
    let mut chunk = b"z".to_vec();
    chunk.extend(21_u64.to_be_bytes());
    assert_eq!(rig.store.damage(&chunk, |value| spoil(value)), 1);
    // Only then does the log come from the store.
    rig = rig.restart().await;
    rig.lane("a", settings(|_| {}), &far).await;
    let ledger = rig.drained("a").await;
    assert_eq!((ledger.seen, ledger.delivered, ledger.purged), (50, 40, 10));
    let expected: Vec<u64> = (1..21).chain(31..51).collect();
    let mut taken = far.taken();
    taken.sort_unstable();
    assert_eq!(taken, expected);
    rig.append(0..10).await;
    assert_eq!(rig.drained("a").await.delivered, 50);
}

#[tokio::test(start_paused = true)]
async fn what_was_delivered_before_its_chunk_was_damaged_is_not_counted_twice() {
    let far = FarEnd::answering(|request| match request.seqs[0] {
        3 | 15 => Answer::Hang,
        _ => Answer::Take,
    });
    let mut rig = Rig::new();
    rig.lane("a", settings(|_| {}), &far).await;
    rig.append(0..10).await;
    rig.append(0..10).await;
    rig.until("the others", || far.taken().len() == 18).await;
    rig.until("their settlement", || rig.view("a").in_flight == 2).await;
    rig.store.damage(b"z", |value| spoil(value));
    let mut rig = rig.crash(usize::MAX).await;
    rig.lane("a", settings(|_| {}), &far).await;
    let ledger = rig.drained("a").await;
    assert_eq!((ledger.delivered, ledger.purged), (18, 2));
}
