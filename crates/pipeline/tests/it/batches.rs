use std::collections::BTreeSet;

use holdfast_model::{DeadReason, LaneState, NewEvent, Reason, Seq};
use holdfast_queue::{Append, QueueEngine};

use crate::rig::*;

fn sizes(far: &FarEnd) -> Vec<usize> {
    far.requests().iter().map(|request| request.seqs.len()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_batch_goes_when_it_is_full_and_the_rest_when_it_has_waited() {
    let (mut rig, far) = (Rig::new(), FarEnd::new());
    let batches = settings(|s| (s.batch.events_max, s.batch.wait_max) = (100, secs(2)));
    rig.lane("a", batches, &far).await;
    rig.append(0..250).await;
    rig.until("full ones", || far.count() == 2).await;
    assert!(far.now() < secs(1));
    rig.drained("a").await;
    assert_eq!(sizes(&far), [100, 100, 50]);
    assert!(
        (secs(2)..secs(2) + ms(200)).contains(&far.requests()[2].at),
        "{:?}",
        far.requests()[2].at
    );
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_cut_by_bytes() {
    let (mut rig, far) = (Rig::new(), FarEnd::new());
    let batches = settings(|s| (s.batch.events_max, s.batch.bytes_max) = (100, 1_024));
    rig.lane("a", batches, &far).await;
    rig.append_bodies(vec![format!("{{\"x\":\"{}\"}}", "y".repeat(300)); 10]).await;
    rig.append_bodies(vec![format!("{{\"x\":\"{}\"}}", "y".repeat(3_000)); 2]).await;
    rig.drained("a").await;
    assert_eq!(sizes(&far), [3, 3, 3, 1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_rate_makes_full_batches() {
    let (mut rig, far) = (Rig::new(), FarEnd::new());
    let slow = settings(|s| {
        s.batch.events_max = 1_000;
        s.rate = Some(holdfast_model::units::Rate { count: 1, per: secs(10) });
    });
    rig.lane("a", slow, &far).await;
    for _ in 0..100 {
        rig.append(0..10).await;
        tokio::time::sleep(ms(99)).await;
    }
    rig.drained("a").await;
    assert!(far.count() <= 3, "what comes while it waits goes along: {:?}", sizes(&far));
}

#[tokio::test(start_paused = true)]
async fn the_one_poison_of_a_batch_is_found_by_halving_and_the_healthy_arrive_once() {
    for poison in [0, 5, 15] {
        let far =
            FarEnd::answering(|request| match request.rules.iter().any(|rule| rule == "666") {
                true => Answer::Fail(Reason::Refused),
                false => Answer::Take,
            });
        let mut rig = Rig::new();
        rig.lane("a", settings(|s| s.batch.events_max = 16), &far).await;
        let seqs = rig.append((0..16).map(|n| if n == poison { 666 } else { n })).await;
        let ledger = rig.drained("a").await;
        assert_eq!((ledger.delivered, ledger.dead), (15, 1));
        assert_eq!(rig.dead("a").await, [(seqs[poison as usize], DeadReason::Refused)]);
        assert_eq!((far.taken().len(), far.distinct_taken()), (15, 15));
        assert_eq!(far.count(), 9, "{:?}", sizes(&far));
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_too_large_is_halved_at_once() {
    let far = FarEnd::answering(|request| match request.seqs.len() {
        0..=10 => Answer::Take,
        _ => Answer::Fail(Reason::TooLarge),
    });
    let mut rig = Rig::new();
    rig.lane("a", settings(|s| (s.batch.events_max, s.concurrency) = (40, 1)), &far).await;
    rig.append(0..40).await;
    assert_eq!(rig.drained("a").await.delivered, 40);
    assert_eq!(sizes(&far), [40, 20, 10, 10, 20, 10, 10]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_refused_whole_stops_at_the_poison_limit() {
    let far = FarEnd::answering(|_| Answer::Fail(Reason::Refused));
    let mut rig = Rig::new();
    rig.lane("a", settings(|s| (s.batch.events_max, s.concurrency) = (64, 1)), &far).await;
    rig.append(0..200).await;
    rig.until_state("a", LaneState::ConfigFailed).await;
    let singles = far.requests().iter().filter(|request| request.seqs.len() == 1).count();
    assert_eq!(singles, 10);
    rig.until("all settled", || rig.view("a").in_flight == 0).await;
    tokio::time::sleep(secs(1)).await;
    let ledger = rig.ledger("a").await;
    assert_eq!((ledger.pending(), ledger.dead), (200, 0));
    far.answers(|_| Answer::Take);
    rig.handle("a").resume().await.unwrap();
    assert_eq!(rig.drained("a").await.delivered, 200);
}

#[tokio::test(start_paused = true)]
async fn the_requests_of_a_halved_batch_count_toward_the_rate() {
    let far = FarEnd::answering(|request| match request.seqs.len() {
        1 => Answer::Take,
        _ => Answer::Fail(Reason::TooLarge),
    });
    let mut rig = Rig::new();
    let paced = settings(|s| {
        s.batch.events_max = 8;
        s.rate = Some(holdfast_model::units::Rate { count: 1, per: secs(1) });
    });
    rig.lane("a", paced, &far).await;
    rig.append(0..8).await;
    rig.drained("a").await;
    assert_eq!(far.count(), 15);
    rig.append(0..1).await;
    rig.drained("a").await;
    assert!(far.requests()[15].at >= secs(15), "{:?}", far.requests()[15]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_keeps_its_members_and_its_key_until_it_is_settled_across_restarts() {
    let far = FarEnd::answering(|request| match request.attempt {
        1..=4 => Answer::Fail(Reason::ServerFault),
        _ => Answer::Take,
    });
    let batches = || settings(|s| (s.batch.events_max, s.concurrency) = (50, 2));
    let mut rig = Rig::new();
    rig.append(0..100).await;
    for tries in [2, 5] {
        rig.lane("a", batches(), &far).await;
        rig.until("tries", || far.count() >= tries).await;
        rig.until("their settlement", || rig.view("a").in_flight == 0).await;
        rig = if tries == 2 { rig.restart().await } else { rig.crash(usize::MAX).await };
    }
    rig.append(0..30).await;
    rig.lane("a", batches(), &far).await;
    assert_eq!(rig.drained("a").await.delivered, 130);
    let old = far.requests().into_iter().filter(|request| request.seqs[0] <= 100);
    let batches: BTreeSet<(String, Vec<Seq>)> =
        old.map(|request| (request.key, request.seqs)).collect();
    assert_eq!(batches.len(), 2, "{batches:?}");
    assert!(batches.iter().all(|(key, seqs)| key.starts_with("b-") && seqs.len() == 50));
}

#[tokio::test(start_paused = true)]
async fn a_bulk_answer_that_refuses_thousands_is_stored_in_steps() {
    for first_try_fails in [false, true] {
        let far = FarEnd::answering(move |request| {
            if first_try_fails && request.attempt == 1 {
                return Answer::Fail(Reason::ServerFault);
            }
            let refused = |n| (n % 100 != 0).then_some(Reason::Refused);
            Answer::Each((0..request.seqs.len()).map(refused).collect())
        });
        let mut rig = Rig::new();
        rig.lane("a", settings(|s| s.batch.events_max = 2_000), &far).await;
        rig.append((0..2_000).map(|_| 1)).await;
        let ledger = rig.drained("a").await;
        assert_eq!((ledger.delivered, ledger.dead), (20, 1_980));
        assert_eq!(far.count(), 1 + usize::from(first_try_fails));
        assert!(!rig.has_stopped("a"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_too_large_for_one_record_waits_in_parts_and_nothing_is_lost() {
    let far = FarEnd::answering(|request| match request.attempt {
        1 => Answer::Fail(Reason::ServerFault),
        _ => Answer::Take,
    });
    let mut rig = Rig::new();
    let large = settings(|s| {
        (s.batch.events_max, s.batch.bytes_max) = (100, 32 << 20);
        s.retry.initial = secs(60);
    });
    rig.lane("a", large, &far).await;
    rig.handle("a").pause("a test").await.unwrap();
    let mut state = 1_u64;
    for _ in 0..15 {
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        let body: Vec<u8> = (0..500_000).map(|_| noise()).collect();
        let append = Append {
            source: "test".into(),
            received_at: rig.clock.now(),
            events: vec![NewEvent::alert(body)],
            rejects: vec![],
            position: None,
            idempotency: None,
            from_source: true,
        };
        rig.queue.append(append).await.unwrap();
    }
    rig.handle("a").resume().await.unwrap();
    rig.until("the failure", || rig.view("a").retrying == 15).await;
    assert_eq!(rig.ledger("a").await.retrying, 15);
    assert_eq!(rig.drained("a").await.delivered, 15);
    let sizes = sizes(&far);
    assert_eq!(sizes[0], 15);
    assert_eq!((sizes[1..].iter().sum::<usize>(), far.distinct_taken()), (15, 15), "{sizes:?}");
    assert!(sizes.len() > 2, "{sizes:?}");
}
