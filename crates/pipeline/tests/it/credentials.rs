use std::sync::atomic::Ordering;

use holdfast_model::{DeadReason, LaneState, Reason};

use crate::rig::*;

#[tokio::test(start_paused = true)]
async fn a_401_parks_the_lane_at_once_with_all_its_events() {
    let far = FarEnd::answering(|_| Answer::Fail(Reason::Unauthorized));
    let mut rig = Rig::new();
    rig.lane("a", settings(|s| s.concurrency = 4), &far).await;
    rig.append(0..100).await;
    rig.until_state("a", LaneState::AuthFailed).await;
    tokio::time::sleep(secs(299)).await;
    assert!(far.count() <= 4, "{}", far.count());
    tokio::time::sleep(secs(3_600)).await;
    assert!((12..=16).contains(&far.count()), "one every five minutes: {}", far.count());
    let ledger = rig.ledger("a").await;
    assert_eq!((ledger.pending(), ledger.dead), (100, 0));
    assert_eq!(far.refreshes.load(Ordering::SeqCst), 65, "at once, then every minute");
}

#[tokio::test(start_paused = true)]
async fn a_parked_lane_goes_on_when_its_secret_has_changed() {
    let far = FarEnd::answering(|_| Answer::Fail(Reason::Unauthorized));
    let mut rig = Rig::new();
    rig.lane("a", settings(|_| {}), &far).await;
    rig.append(0..100).await;
    rig.until_state("a", LaneState::AuthFailed).await;
    tokio::time::sleep(secs(100)).await;
    let changed_at = far.now();
    far.answers(|_| Answer::Take);
    far.secret_changed.store(true, Ordering::SeqCst);
    assert_eq!(rig.drained("a").await.delivered, 100);
    assert!(far.now() < changed_at + secs(62), "{:?}", far.now() - changed_at);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_rotated_already_costs_no_wait() {
    let mut old = true;
    let far = FarEnd::answering(move |_| match std::mem::take(&mut old) {
        true => Answer::Fail(Reason::Unauthorized),
        false => Answer::Take,
    });
    far.secret_changed.store(true, Ordering::SeqCst);
    let mut rig = Rig::new();
    rig.lane("a", settings(|s| s.concurrency = 1), &far).await;
    rig.append(0..10).await;
    rig.drained("a").await;
    assert!(far.now() < secs(1), "{:?}", far.now());
}

#[tokio::test(start_paused = true)]
async fn a_parked_lane_goes_on_when_a_person_says_so_and_after_a_restart() {
    for resume in [true, false] {
        let far = FarEnd::answering(|_| Answer::Fail(Reason::Misconfigured));
        let mut rig = Rig::new();
        rig.lane("a", settings(|_| {}), &far).await;
        rig.append(0..100).await;
        rig.until_state("a", LaneState::ConfigFailed).await;
        tokio::time::sleep(secs(36_000)).await;
        let ledger = rig.ledger("a").await;
        assert_eq!((ledger.pending(), ledger.dead), (100, 0));
        far.answers(|_| Answer::Take);
        let now = far.now();
        if resume {
            rig.handle("a").resume().await.unwrap();
        } else {
            rig = rig.restart().await;
            rig.lane("a", settings(|_| {}), &far).await;
        }
        assert_eq!(rig.drained("a").await.delivered, 100);
        assert!(far.now() < now + secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_bulk_answer_that_blames_the_setting_for_every_item_parks_the_lane() {
    let all = |request: &Request| {
        Answer::Each(request.seqs.iter().map(|_| Some(Reason::Misconfigured)).collect())
    };
    let far = FarEnd::answering(all);
    let mut rig = Rig::new();
    rig.lane("a", settings(|s| s.batch.events_max = 10), &far).await;
    rig.append(0..1_000).await;
    rig.until_state("a", LaneState::ConfigFailed).await;
    tokio::time::sleep(secs(3_600)).await;
    assert!(far.count() < 8 + 13, "{}", far.count());
    assert_eq!(rig.ledger("a").await.dead, 0);
}

#[tokio::test(start_paused = true)]
async fn a_403_for_one_events_content_kills_that_event_alone() {
    let far = FarEnd::answering(|request| match request.rules[0].as_str() {
        "666" => Answer::Fail(Reason::Forbidden),
        _ => Answer::Take,
    });
    let mut rig = Rig::new();
    rig.lane("a", settings(|s| s.concurrency = 2), &far).await;
    let seqs = rig.append([1, 2, 666, 4, 5].into_iter().chain(10..30)).await;
    let ledger = rig.drained("a").await;
    assert_eq!((ledger.delivered, ledger.dead), (24, 1));
    assert_eq!(rig.dead("a").await, [(seqs[2], DeadReason::Forbidden)]);
    assert_eq!(rig.state("a"), LaneState::Active);
    assert_eq!(far.checks.load(Ordering::SeqCst), 0, "another event decides");
}

#[tokio::test(start_paused = true)]
async fn two_different_403s_park_the_lane_with_all_its_events() {
    let far = FarEnd::answering(|_| Answer::Fail(Reason::Forbidden));
    let mut rig = Rig::new();
    rig.lane("a", settings(|s| s.concurrency = 1), &far).await;
    rig.append(0..50).await;
    rig.until_state("a", LaneState::AuthFailed).await;
    assert_eq!(far.count(), 2);
    tokio::time::sleep(secs(3_600)).await;
    let ledger = rig.ledger("a").await;
    assert_eq!((ledger.pending(), ledger.dead), (50, 0));
    far.answers(|_| Answer::Take);
    rig.handle("a").resume().await.unwrap();
    assert_eq!(rig.drained("a").await.delivered, 50);
}

#[tokio::test(start_paused = true)]
async fn a_lone_forbidden_event_is_tried_by_the_schedule_until_another_decides() {
    let far = FarEnd::answering(|request| match request.rules[0].as_str() {
        "666" => Answer::Fail(Reason::Forbidden),
        _ => Answer::Take,
    });
    let mut rig = Rig::new();
    rig.lane("a", settings(|_| {}), &far).await;
    let bad = rig.append([666]).await[0];
    tokio::time::sleep(secs(3_600)).await;
    assert_eq!((rig.state("a"), rig.ledger("a").await.dead), (LaneState::Active, 0));
    assert!((10..80).contains(&far.count()), "{}", far.count());
    rig.append([1]).await;
    rig.drained("a").await;
    assert_eq!(rig.dead("a").await, [(bad, DeadReason::Forbidden)]);
}

#[tokio::test(start_paused = true)]
async fn the_check_call_decides_a_403_when_there_is_no_other_event() {
    let far = FarEnd::answering(|_| Answer::Fail(Reason::Forbidden));
    far.check_answers(Ok(()));
    let mut rig = Rig::new();
    rig.lane("a", settings(|_| {}), &far).await;
    let bad = rig.append([1]).await[0];
    rig.drained("a").await;
    assert_eq!(rig.dead("a").await, [(bad, DeadReason::Forbidden)]);
    assert_eq!((rig.state("a"), far.count()), (LaneState::Active, 1));
    assert_eq!(far.checks.load(Ordering::SeqCst), 1);

    far.check_answers(Err(Reason::Unauthorized));
    rig.append([2]).await;
    rig.until_state("a", LaneState::AuthFailed).await;
    assert_eq!((rig.ledger("a").await.pending(), far.count()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_forbidden_member_of_a_batch_dies_alone() {
    let far = FarEnd::answering(|request| match request.rules.iter().any(|rule| rule == "666") {
        true => Answer::Fail(Reason::Forbidden),
        false => Answer::Take,
    });
    let mut rig = Rig::new();
    rig.lane("a", settings(|s| s.batch.events_max = 8), &far).await;
    let seqs = rig.append([1, 2, 3, 4, 5, 666, 7, 8]).await;
    let ledger = rig.drained("a").await;
    assert_eq!(
        (ledger.delivered, rig.dead("a").await),
        (7, vec![(seqs[5], DeadReason::Forbidden)])
    );
    assert_eq!(far.taken().len(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_batch_in_which_two_are_forbidden_and_none_is_taken_parks_the_lane() {
    let far = FarEnd::answering(|_| Answer::Fail(Reason::Forbidden));
    let mut rig = Rig::new();
    rig.lane("a", settings(|s| (s.batch.events_max, s.concurrency) = (64, 1)), &far).await;
    rig.append(0..640).await;
    rig.until_state("a", LaneState::AuthFailed).await;
    assert!(far.count() <= 10, "halving stops: {}", far.count());
    let ledger = rig.ledger("a").await;
    assert_eq!((ledger.pending(), ledger.dead), (640, 0));
    far.answers(|_| Answer::Take);
    rig.handle("a").resume().await.unwrap();
    assert_eq!(rig.drained("a").await.delivered, 640);
}
