use std::{sync::atomic::Ordering, time::Duration};

use holdfast_model::{LaneState, Reason, units::Rate};

use crate::rig::*;

#[tokio::test(start_paused = true)]
async fn after_a_429_nothing_is_sent_before_its_time_and_other_lanes_do_not_notice() {
    let (mut rig, other) = (Rig::new(), FarEnd::new());
    let mut served = 0;
    let far = FarEnd::answering(move |_| {
        served += 1;
        if served == 10 { throttle(7) } else { Answer::Take }
    });
    rig.lane("a", settings(|s| s.concurrency = 1), &far).await;
    rig.lane("b", settings(|s| s.concurrency = 1), &other).await;
    rig.append(0..100).await;
    rig.drained("b").await;
    assert!(other.requests().iter().all(|request| request.at < secs(1)));
    assert!(matches!(rig.state("a"), LaneState::Throttled { .. }));
    assert_eq!(rig.drained("a").await.delivered, 100);
    let requests = far.requests();
    assert!(requests[10].at >= requests[9].at + secs(7), "{:?}", &requests[9..11]);
}

#[tokio::test(start_paused = true)]
async fn a_429_holds_across_a_restart() {
    let far = FarEnd::answering(|request| match request.at < secs(7) {
        true => throttle(7),
        false => Answer::Take,
    });
    let mut rig = Rig::new();
    rig.lane("a", settings(|s| s.concurrency = 1), &far).await;
    rig.append(0..100).await;
    rig.until("the answer", || rig.view("a").retrying == 1).await;
    let mut rig = rig.crash(usize::MAX).await;
    rig.lane("a", settings(|s| s.concurrency = 1), &far).await;
    assert_eq!(rig.drained("a").await.delivered, 100);
    assert_eq!(far.requests().iter().filter(|request| request.at < secs(7)).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pause_in_between_does_not_shorten_a_429() {
    let far = FarEnd::answering(|request| match request.at < secs(60) {
        true => throttle(60),
        false => Answer::Take,
    });
    let mut rig = Rig::new();
    rig.lane("a", settings(|s| s.concurrency = 1), &far).await;
    rig.append(0..10).await;
    rig.until("the answer", || rig.view("a").retrying == 1).await;
    rig.handle("a").pause("a test").await.unwrap();
    rig.handle("a").resume().await.unwrap();
    rig.handle("a").retry_now().await.unwrap();
    rig.drained("a").await;
    assert!(far.requests()[1].at >= secs(60));
}

#[tokio::test(start_paused = true)]
async fn a_server_cannot_ask_for_more_than_the_limit() {
    let far = FarEnd::answering(|request| match request.at < secs(60) {
        true => throttle(86_400),
        false => Answer::Take,
    });
    let mut rig = Rig::new();
    rig.lane("a", settings(|s| s.retry.server_wait_max = secs(60)), &far).await;
    rig.append([1]).await;
    rig.drained("a").await;
    assert!((secs(60)..secs(61)).contains(&far.requests()[1].at));
}

#[tokio::test(start_paused = true)]
async fn a_503_with_a_time_is_obeyed_like_a_429() {
    let far = FarEnd::answering(|request| match request.attempt {
        1 => Answer::FailFor(Reason::ServerFault, secs(30)),
        _ => Answer::Take,
    });
    let mut rig = Rig::new();
    rig.lane("a", settings(|s| s.concurrency = 1), &far).await;
    rig.append([1]).await;
    rig.drained("a").await;
    assert!(far.requests()[1].at >= secs(30));
}

#[tokio::test(start_paused = true)]
async fn an_items_429_delays_that_item_and_halves_the_pace() {
    let mut first = true;
    let far = FarEnd::answering(move |request| {
        if std::mem::take(&mut first) {
            let results = (0..request.seqs.len()).map(|n| (n == 1).then_some(Reason::Throttled));
            return Answer::Each(results.collect());
        }
        Answer::Take
    });
    let mut rig = Rig::new();
    let batches = settings(|s| {
        s.batch.events_max = 4;
        s.concurrency = 8;
        s.retry.initial = secs(20);
    });
    rig.lane("a", batches, &far).await;
    let seqs = rig.append(0..4).await;
    rig.until("the answer", || far.taken().len() == 3).await;
    rig.until("its settlement", || rig.view("a").in_flight == 0).await;
    assert_eq!((rig.state("a"), rig.view("a").concurrency), (LaneState::Active, 4));
    assert_eq!(rig.drained("a").await.delivered, 4);
    assert_eq!(far.requests()[1].seqs, [seqs[1]], "the others are not sent again");
    for n in 0..10 {
        rig.append([n]).await;
        rig.drained("a").await;
    }
    assert_eq!(rig.view("a").concurrency, 8, "success makes it faster again");
}

#[tokio::test(start_paused = true)]
async fn what_waited_during_an_outage_arrives_at_the_configured_rate() {
    const OUTAGE: Duration = Duration::from_secs(1_000);
    let far = FarEnd::answering(|request| match request.at < OUTAGE {
        true => Answer::Fail(Reason::Connect),
        false => Answer::Take,
    });
    let mut rig = Rig::new();
    let rate = Rate { count: 100, per: secs(1) };
    rig.lane("a", settings(|s| s.rate = Some(rate)), &far).await;
    for _ in 0..10 {
        rig.append(0..1_000).await;
    }
    assert_eq!(rig.drained("a").await.delivered, 10_000);
    let taken: Vec<_> = far.requests().into_iter().filter(|request| request.at >= OUTAGE).collect();
    let begin = taken[0].at;
    let mut per_second = vec![0; 200];
    for request in &taken {
        per_second[(request.at - begin).as_secs() as usize] += 1;
    }
    assert!(per_second[..6].is_sorted(), "it ramps up: {:?}", &per_second[..10]);
    assert!(per_second.iter().all(|count| *count <= 101), "{per_second:?}");
    let steady = &per_second[10..95];
    assert!(steady.iter().all(|count| *count >= 98), "{per_second:?}");
    assert!(far.most_under_way.load(Ordering::SeqCst) <= 8);
}
