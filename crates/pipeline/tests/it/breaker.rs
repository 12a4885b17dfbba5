use holdfast_model::{LaneState, Reason};

use crate::rig::*;

#[tokio::test(start_paused = true)]
async fn an_outage_costs_attempts_and_not_the_backlog() {
    let far = FarEnd::answering(|_| Answer::Fail(Reason::Connect));
    let mut rig = Rig::new();
    let batches = || settings(|s| (s.concurrency, s.batch.events_max) = (4, 10));
    rig.lane("a", batches(), &far).await;
    rig.append(0..5_000).await;
    rig.until_state("a", LaneState::Open).await;
    tokio::time::sleep(secs(36_000)).await;
    let ledger = rig.ledger("a").await;
    // Five failures open it, while up to three more are under way.
    assert!(ledger.retrying <= 8 * 10, "{ledger:?}");
    assert_eq!(ledger.unsettled + ledger.retrying, 5_000);
    // The dice spread them evenly up to five minutes.
    assert!((100..400).contains(&far.count()), "{}", far.count());
    rig.append(0..100).await;
    far.answers(|_| Answer::Take);
    assert_eq!(rig.drained("a").await.delivered, 5_100);
    assert_eq!(far.distinct_taken(), far.taken().len());
}

#[tokio::test(start_paused = true)]
async fn probes_follow_the_schedule_and_never_repeat_an_event_while_there_is_another() {
    let far =
        FarEnd::answering(|_| Answer::After(ms(200), Box::new(Answer::Fail(Reason::ServerFault))));
    let mut rig = Rig::new();
    rig.lane("a", settings(|s| (s.breaker.failures, s.concurrency) = (1, 1)), &far).await;
    rig.append([1, 2]).await;
    rig.until_state("a", LaneState::Open).await;
    tokio::time::sleep(secs(7_200)).await;
    let requests = far.requests();
    assert!(requests.len() > 24, "{}", requests.len());
    for pair in requests.windows(2) {
        assert_ne!(pair[0].seq(), pair[1].seq());
        let wait = pair[1].at - pair[0].at - ms(200);
        assert!(wait >= ms(99) && wait <= secs(301), "{wait:?}");
    }
    let ledger = rig.ledger("a").await;
    assert_eq!((ledger.retrying, ledger.unsettled), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn the_log_is_asked_for_another_event_before_a_probe_repeats_one() {
    let far = FarEnd::answering(|_| Answer::Fail(Reason::ServerFault));
    let mut rig = Rig::new();
    rig.lane("a", settings(|s| (s.breaker.failures, s.concurrency) = (1, 1)), &far).await;
    rig.append([1]).await;
    rig.until("a few probes with the only event", || far.count() >= 4).await;
    let (second, before) = (rig.append([2]).await[0], far.count());
    rig.until("more probes", || far.count() >= before + 4).await;
    // One may have been on its way when the event came.
    let seqs: Vec<_> = far.requests()[before..].iter().map(Request::seq).collect();
    let first = seqs.iter().position(|seq| *seq == second);
    assert!(first.is_some_and(|first| first <= 1), "{seqs:?}");
    assert!(seqs[1..].windows(2).all(|pair| pair[0] != pair[1]), "{seqs:?}");
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_the_lane_ramps_up() {
    let far = FarEnd::answering(|_| Answer::Fail(Reason::ServerFault));
    let mut rig = Rig::new();
    rig.lane("a", settings(|s| s.concurrency = 20), &far).await;
    rig.append(0..200).await;
    rig.until_state("a", LaneState::Open).await;
    rig.until("nothing under way", || rig.view("a").in_flight == 0).await;
    let before = far.count();
    far.answers(|_| Answer::After(secs(10), Box::new(Answer::Take)));
    rig.drained("a").await;
    let requests = &far.requests()[before..];
    let mut rounds: Vec<usize> = Vec::new();
    let mut last = None;
    for request in requests {
        match last {
            Some(last) if request.at - last < secs(5) => *rounds.last_mut().unwrap() += 1,
            _ => rounds.push(1),
        }
        last = Some(request.at);
    }
    assert_eq!(rounds[..7], [1, 1, 2, 4, 8, 16, 20], "the probe, then the ramp");
}

#[tokio::test(start_paused = true)]
async fn a_restart_during_an_outage_finds_out_with_one_event() {
    let far = FarEnd::answering(|_| Answer::Fail(Reason::ServerFault));
    let mut rig = Rig::new();
    rig.lane("a", settings(|_| {}), &far).await;
    rig.append(0..1_000).await;
    rig.until_state("a", LaneState::Open).await;
    let mut rig = rig.restart().await;
    let before = far.count();
    rig.lane("a", settings(|_| {}), &far).await;
    assert_eq!(rig.state("a"), LaneState::Open);
    tokio::time::sleep(ms(90)).await;
    assert_eq!(far.count(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn a_black_hole_delays_only_its_own_lane() {
    let (hole, healthy) = (FarEnd::answering(|_| Answer::Hang), FarEnd::new());
    let mut rig = Rig::new();
    rig.lane("hole", settings(|_| {}), &hole).await;
    rig.lane("healthy", settings(|_| {}), &healthy).await;
    rig.append(0..2_000).await;
    assert_eq!(rig.drained("healthy").await.delivered, 2_000);
    assert!(healthy.now() < secs(1), "no timeout of the other lane has passed");
    assert_eq!((healthy.count(), hole.count()), (2_000, 8));
    tokio::time::sleep(secs(3_600)).await;
    rig.append(0..10).await;
    assert_eq!(rig.drained("healthy").await.delivered, 2_010);
    assert!(hole.count() < 60, "{}", hole.count());
    assert_eq!(rig.state("hole"), LaneState::Open);
    assert!(hole.requests().iter().skip(8).all(|request| request.attempt > 1 && request.in_doubt));
}
