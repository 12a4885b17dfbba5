use std::sync::{Arc, atomic::Ordering};

use holdfast_model::{DeadReason, LaneState, Reason};
use holdfast_pipeline::LaneSettings;

use crate::rig::*;

/// A lane whose breaker never opens.
fn patient(change: impl FnOnce(&mut LaneSettings)) -> LaneSettings {
    settings(|s| {
        s.breaker.failures = 1_000_000;
        s.breaker.ratio = 2.0;
        change(s);
    })
}

fn failing_until(attempt: u32) -> Arc<FarEnd> {
    FarEnd::answering(move |request| match request.attempt < attempt {
        true => Answer::Fail(Reason::ServerFault),
        false => Answer::Take,
    })
}

#[tokio::test(start_paused = true)]
async fn every_try_has_the_same_key_and_the_next_number_across_restarts() {
    let far = failing_until(7);
    let mut rig = Rig::new();
    rig.append([1]).await;
    for tries in [2, 4, 5] {
        rig.lane("a", patient(|_| {}), &far).await;
        rig.until("more tries", || far.count() >= tries).await;
        rig.until("its settlement", || rig.view("a").retrying == 1).await;
        rig = if tries == 4 { rig.restart().await } else { rig.crash(usize::MAX).await };
    }
    rig.lane("a", patient(|_| {}), &far).await;
    assert_eq!(rig.drained("a").await.delivered, 1);
    let requests = far.requests();
    let attempts: Vec<u32> = requests.iter().map(|request| request.attempt).collect();
    assert_eq!(attempts, (1..=7).collect::<Vec<_>>());
    assert!(requests.iter().all(|request| request.key == requests[0].key));
}

#[tokio::test(start_paused = true)]
async fn no_retry_comes_before_it_is_due() {
    let far = failing_until(9);
    let mut rig = Rig::new();
    let begin = rig.clock.now();
    rig.lane("a", patient(|s| s.retry.max = secs(20)), &far).await;
    let seq = rig.append([1]).await[0];
    for tries in 1..9 {
        rig.until("a stored retry", || rig.view("a").retrying == 1 && far.count() == tries).await;
        let record = rig.record("a", seq).await.unwrap();
        assert_eq!((record.tries as usize, record.attempts.len()), (tries, tries));
        rig.until("the next try", || far.count() > tries).await;
        let at = far.requests()[tries].at;
        let due = record.due.since(begin);
        assert!(at >= due && at <= due + ms(50), "due {due:?}, tried {at:?}");
    }
    rig.drained("a").await;
}

#[tokio::test(start_paused = true)]
async fn an_event_that_fails_for_too_long_is_a_dead_letter() {
    let far = failing_until(u32::MAX);
    let mut rig = Rig::new();
    let age = secs(600);
    rig.lane("a", patient(|s| (s.retry.max, s.retry.age_max) = (secs(30), age)), &far).await;
    let seq = rig.append([1]).await[0];
    let ledger = rig.drained("a").await;
    assert_eq!((ledger.dead, rig.dead("a").await), (1, vec![(seq, DeadReason::TooOld)]));
    assert!(far.now() >= age && far.now() < age + secs(60), "{:?}", far.now());
    let letter = rig.dead_letters("a").await.remove(0);
    assert_eq!(letter.tries as usize, far.count());
    let kept: Vec<u32> = letter.attempts.iter().map(|note| note.n).collect();
    assert_eq!(kept.len(), 20);
    assert_eq!(kept[..5], [1, 2, 3, 4, 5], "the first five stay");
    assert_eq!(kept[19], letter.tries);
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_is_not_active_does_not_age_its_events() {
    let far = failing_until(u32::MAX);
    let mut rig = Rig::new();
    let impatient = || patient(|s| (s.retry.max, s.retry.age_max) = (secs(1), secs(60)));
    rig.lane("a", impatient(), &far).await;
    rig.append([1]).await;
    rig.until("a few tries", || far.count() >= 5).await;
    rig.handle("a").pause("a test").await.unwrap();
    tokio::time::sleep(secs(3_600)).await;
    let mut rig = rig.restart().await;
    rig.lane("a", impatient(), &far).await;
    let before = far.count();
    tokio::time::sleep(secs(3_600)).await;
    assert_eq!(far.count(), before);
    rig.handle("a").resume().await.unwrap();
    rig.until("more tries", || far.count() >= before + 20).await;
    assert_eq!(rig.ledger("a").await.dead, 0);
    rig.drained("a").await;
    assert_eq!(rig.dead("a").await[0].1, DeadReason::TooOld);
}

#[tokio::test(start_paused = true)]
async fn the_active_time_between_pauses_and_restarts_adds_up() {
    let far = failing_until(u32::MAX);
    let impatient = || {
        patient(|s| {
            (s.retry.initial, s.retry.max, s.retry.age_max) = (secs(10), secs(10), secs(100));
        })
    };
    let mut rig = Rig::new();
    rig.lane("a", impatient(), &far).await;
    rig.append([1]).await;
    let mut active = secs(0);
    while rig.ledger("a").await.dead == 0 {
        tokio::time::sleep(secs(5)).await;
        active += secs(5);
        rig.handle("a").pause("a test").await.unwrap();
        tokio::time::sleep(secs(1_000)).await;
        rig = rig.restart().await;
        rig.lane("a", impatient(), &far).await;
        rig.handle("a").resume().await.unwrap();
    }
    assert!((secs(100)..secs(125)).contains(&active), "{active:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lane_with_too_many_retries_stops_reading_and_recovers() {
    let far = failing_until(u32::MAX);
    let mut rig = Rig::new();
    let narrow = patient(|s| (s.retry.pending_max, s.concurrency) = (20, 4));
    rig.lane("a", narrow, &far).await;
    rig.append(0..200).await;
    rig.until_state("a", LaneState::BackedUp).await;
    tokio::time::sleep(secs(3_000)).await;
    let ledger = rig.ledger("a").await;
    assert!((20..=24).contains(&ledger.retrying), "{ledger:?}");
    assert!(rig.queue.states.load(Ordering::SeqCst) < 10, "it does not flap");
    far.answers(|_| Answer::Take);
    assert_eq!(rig.drained("a").await.delivered, 200);
    assert_eq!(rig.state("a"), LaneState::Active);
}

#[tokio::test(start_paused = true)]
async fn a_lane_at_its_limit_does_not_change_its_state_with_every_event() {
    let far = failing_until(2);
    let mut rig = Rig::new();
    let narrow = patient(|s| (s.retry.pending_max, s.retry.initial) = (100, secs(60)));
    rig.lane("a", narrow, &far).await;
    rig.append(0..1_000).await;
    assert_eq!(rig.drained("a").await.delivered, 1_000);
    // Twice for every ten that have gone.
    let changes = rig.queue.states.load(Ordering::SeqCst);
    assert!((50..180).contains(&changes), "{changes}");
}

#[tokio::test(start_paused = true)]
async fn retry_now_makes_everything_due() {
    let far = failing_until(2);
    let mut rig = Rig::new();
    let slow = patient(|s| (s.retry.initial, s.retry.max) = (secs(36_000), secs(36_000)));
    rig.lane("a", slow, &far).await;
    rig.append(0..50).await;
    rig.until("the failures", || rig.view("a").retrying == 50).await;
    // The dice may have given a short wait to some.
    let at_once = far.now();
    rig.handle("a").retry_now().await.unwrap();
    rig.drained("a").await;
    assert!(far.now() < at_once + secs(1), "{:?}", far.now());
}

#[tokio::test(start_paused = true)]
async fn a_panic_costs_one_attempt() {
    let far = FarEnd::answering(|request| match (request.seqs[0] % 3, request.attempt) {
        (0, 1) => Answer::Panic,
        _ => Answer::Take,
    });
    let mut rig = Rig::new();
    rig.lane("a", patient(|_| {}), &far).await;
    rig.append(0..30).await;
    assert_eq!(rig.drained("a").await.delivered, 30);
    assert_eq!((far.count(), far.distinct_taken()), (40, 30));
    let again = far.requests().into_iter().filter(|request| request.attempt == 2);
    assert!(again.into_iter().all(|request| request.in_doubt), "nobody knows how far it came");
}

#[tokio::test(start_paused = true)]
async fn a_panic_at_every_try_ends_in_a_dead_letter() {
    let far = FarEnd::answering(|_| Answer::Panic);
    let mut rig = Rig::new();
    let short = patient(|s| (s.retry.max, s.retry.age_max) = (secs(1), secs(30)));
    rig.lane("a", short, &far).await;
    rig.append([1]).await;
    assert_eq!(rig.drained("a").await.dead, 1);
}
