use std::sync::atomic::Ordering;

use holdfast_model::{LaneState, Reason};
use holdfast_queue::QueueEngine;

use crate::{delivery::only_rule, rig::*};

#[tokio::test(start_paused = true)]
async fn never_more_than_the_window_is_under_way() {
    let far = FarEnd::answering(|_| Answer::After(ms(20), Box::new(Answer::Take)));
    let mut rig = Rig::new();
    rig.lane("a", settings(|s| (s.concurrency, s.batch.events_max) = (3, 7)), &far).await;
    rig.append(0..2_000).await;
    rig.drained("a").await;
    assert_eq!(far.most_under_way.load(Ordering::SeqCst), 21);
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_free_only_when_its_settlement_is_on_stable_storage() {
    let (mut rig, far) = (Rig::new(), FarEnd::new());
    let window = || settings(|s| (s.concurrency, s.batch.events_max) = (4, 5));
    rig.lane("a", window(), &far).await;
    rig.queue.gate.send_replace(false);
    rig.append(0..100).await;
    tokio::time::sleep(secs(60)).await;
    assert_eq!((far.taken().len(), rig.view("a").in_flight), (20, 20));
    let mut rig = rig.crash(0).await;
    rig.lane("a", window(), &far).await;
    assert_eq!(rig.drained("a").await.delivered, 100);
    assert_eq!((far.taken().len(), far.distinct_taken()), (120, 100));
}

#[tokio::test(start_paused = true)]
async fn what_is_told_while_a_settlement_is_under_way_is_not_lost() {
    let mut seen = 0;
    let far = FarEnd::answering(move |_| {
        seen += 1;
        if seen % 3 == 0 { Answer::Fail(Reason::ServerFault) } else { Answer::Take }
    });
    let mut rig = Rig::new();
    rig.lane("a", settings(|s| s.breaker.failures = 1_000), &far).await;
    let gate = rig.queue.gate.clone();
    tokio::spawn(async move {
        for n in 0.. {
            gate.send_replace(n % 2 == 1);
            tokio::time::sleep(ms(37)).await;
        }
    });
    for n in 0..200 {
        rig.append([n]).await;
        tokio::time::sleep(ms(n % 50)).await;
        if n % 40 == 13 {
            rig.handle("a").pause("a test").await.unwrap();
            rig.handle("a").retry_now().await.unwrap();
            rig.handle("a").resume().await.unwrap();
        }
    }
    assert_eq!(rig.drained("a").await.delivered, 200);
}

#[tokio::test(start_paused = true)]
async fn a_slow_attempt_does_not_hold_the_log_back() {
    let far = FarEnd::answering(|request| match request.seqs[0] {
        1 => Answer::After(secs(60), Box::new(Answer::Take)),
        _ => Answer::Take,
    });
    let mut rig = Rig::new();
    let patient = settings(|s| (s.timeout, s.filter) = (secs(3_600), only_rule(1)));
    rig.lane("a", patient, &far).await;
    let slow = rig.append([1]).await[0];
    for n in 0..14 {
        rig.append((0..5_000).map(|n| 2 + n % 2)).await;
        let read = 5_000 * (n + 1);
        let begin = tokio::time::Instant::now();
        while rig.ledger("a").await.filtered < read {
            assert!(begin.elapsed() < secs(30));
            tokio::time::sleep(ms(5)).await;
        }
    }
    rig.until("the move", || rig.queue.lanes()[0].position > slow).await;
    let record = rig.record("a", slow).await.unwrap();
    assert!(record.in_doubt);
    let ledger = rig.ledger("a").await;
    assert_eq!((ledger.filtered, ledger.retrying, rig.view("a").in_flight), (70_000, 1, 1));
    assert_eq!(rig.view("a").retrying, 0, "it is not due beside the attempt that goes on");
    let ledger = rig.drained("a").await;
    assert_eq!((ledger.delivered, far.count()), (1, 1), "the attempt itself went on");
    assert_eq!(rig.view("a").retrying, 0);
    assert_eq!(rig.record("a", slow).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_crash_while_a_slow_attempt_is_detached_sends_it_again() {
    let far = FarEnd::answering(|_| Answer::Hang);
    let mut rig = Rig::new();
    let batches = || {
        settings(|s| {
            (s.timeout, s.filter) = (secs(600), only_rule(1));
            s.batch.events_max = 3;
        })
    };
    rig.lane("a", batches(), &far).await;
    let slow = rig.append([1, 1, 1]).await[0];
    for _ in 0..14 {
        rig.append((0..5_000).map(|_| 2)).await;
    }
    rig.until("the move", || rig.queue.lanes()[0].position > slow + 3).await;
    let mut rig = rig.crash(usize::MAX).await;
    far.answers(|_| Answer::Take);
    rig.lane("a", batches(), &far).await;
    let ledger = rig.drained("a").await;
    assert_eq!((ledger.delivered, ledger.filtered), (3, 70_000));
    let requests = far.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests[1].in_doubt && requests[1].key == requests[0].key);
}

#[tokio::test(start_paused = true)]
async fn a_detached_attempt_that_fails_is_retried_like_any_other() {
    let far = FarEnd::answering(|request| match request.attempt {
        1 => Answer::After(secs(60), Box::new(Answer::Fail(Reason::ServerFault))),
        _ => Answer::Take,
    });
    let mut rig = Rig::new();
    rig.lane("a", settings(|s| (s.timeout, s.filter) = (secs(600), only_rule(1))), &far).await;
    rig.append([1]).await;
    for _ in 0..13 {
        rig.append((0..5_000).map(|_| 2)).await;
    }
    let ledger = rig.drained("a").await;
    assert_eq!((ledger.delivered, ledger.filtered), (1, 65_000));
    assert_eq!(far.requests().iter().map(|request| request.attempt).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_lane_with_nothing_to_do_sleeps() {
    let (mut rig, far) = (Rig::new(), FarEnd::new());
    rig.lane("idle", settings(|_| {}), &far).await;
    rig.append(0..100).await;
    rig.drained("idle").await;
    tokio::time::sleep(secs(1)).await;
    let (turns, reads) = (rig.turns("idle"), rig.queue.reads.load(Ordering::SeqCst));
    tokio::time::sleep(secs(36_000)).await;
    assert_eq!((rig.turns("idle"), rig.queue.reads.load(Ordering::SeqCst)), (turns, reads));
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_may_not_send_sleeps_and_does_not_read() {
    let reasons = [Reason::Unauthorized, Reason::Misconfigured, Reason::Connect];
    for (n, reason) in reasons.into_iter().enumerate() {
        let far = FarEnd::answering(move |_| Answer::Fail(reason));
        let mut rig = Rig::new();
        rig.lane("a", settings(|_| {}), &far).await;
        rig.append(0..10_000).await;
        rig.until("it stops", || rig.state("a") != LaneState::Active).await;
        if n == 1 {
            rig.handle("a").pause("a test").await.unwrap();
        }
        tokio::time::sleep(secs(600)).await;
        let (turns, reads) = (rig.turns("a"), rig.queue.reads.load(Ordering::SeqCst));
        assert!(reads <= 3, "{reads}");
        tokio::time::sleep(secs(3_600)).await;
        let turned = rig.turns("a") - turns;
        assert!(turned <= 60 + 14 * 6, "{reason:?}: {turned} turns in an hour");
        assert_eq!(rig.queue.reads.load(Ordering::SeqCst), reads);
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_batch_a_token_or_a_retry_takes_a_turn_or_two_and_no_more() {
    let far = FarEnd::answering(|request| match request.attempt {
        1 => Answer::Fail(Reason::ServerFault),
        _ => Answer::Take,
    });
    let mut rig = Rig::new();
    let slow = settings(|s| {
        (s.batch.events_max, s.batch.wait_max) = (10, secs(100));
        s.rate = Some(holdfast_model::units::Rate { count: 1, per: secs(60) });
        (s.retry.initial, s.retry.max) = (secs(1_000), secs(1_000));
    });
    rig.lane("a", slow, &far).await;
    rig.append(0..5).await;
    rig.drained("a").await;
    assert!(rig.turns("a") < 30, "{}", rig.turns("a"));
}
