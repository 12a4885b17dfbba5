use holdfast_model::{DeadReason, LaneState, Reason};
use holdfast_pipeline::settings::InDoubt;

use crate::rig::*;

#[tokio::test(start_paused = true)]
async fn after_an_unclean_stop_what_was_under_way_is_in_doubt_and_sent_again() {
    let far = FarEnd::answering(|_| Answer::Hang);
    let mut rig = Rig::new();
    let two = || settings(|s| s.concurrency = 2);
    rig.lane("a", two(), &far).await;
    let seqs = rig.append(0..10).await;
    rig.until("two under way", || far.count() == 2).await;
    let mut rig = rig.crash(usize::MAX).await;
    far.answers(|_| Answer::Take);
    rig.lane("a", two(), &far).await;
    assert_eq!(rig.drained("a").await.delivered, 10);
    let in_doubt = far.requests().into_iter().filter(|request| request.in_doubt);
    assert_eq!(in_doubt.map(|request| request.seq()).collect::<Vec<_>>(), seqs[..2]);
}

#[tokio::test(start_paused = true)]
async fn no_more_than_the_window_is_in_doubt() {
    let far = FarEnd::answering(|_| Answer::Hang);
    let mut rig = Rig::new();
    let window = || settings(|s| (s.concurrency, s.batch.events_max) = (2, 5));
    rig.lane("a", window(), &far).await;
    let seqs = rig.append(0..40).await;
    rig.until("two under way", || far.count() == 2).await;
    let mut rig = rig.crash(usize::MAX).await;
    far.answers(|_| Answer::Take);
    rig.lane("a", window(), &far).await;
    rig.drained("a").await;
    let again = far.requests().split_off(2).into_iter().filter(|request| request.in_doubt);
    assert_eq!(again.flat_map(|request| request.seqs).collect::<Vec<_>>(), seqs[..10]);
}

#[tokio::test(start_paused = true)]
async fn after_an_unclean_stop_the_operator_may_keep_what_is_in_doubt_instead() {
    let far = FarEnd::answering(|request| match request.seqs[0] {
        1 => Answer::Fail(Reason::ServerFault),
        _ => Answer::Hang,
    });
    let mut rig = Rig::new();
    let keep = || {
        settings(|s| {
            (s.concurrency, s.in_doubt) = (2, InDoubt::DeadLetter);
            s.retry.initial = secs(1);
        })
    };
    rig.lane("a", keep(), &far).await;
    let seqs = rig.append(0..10).await;
    rig.until("two hang", || far.under_way() == 2).await;
    rig.until("one waits", || rig.view("a").retrying == 1).await;
    let mut rig = rig.crash(usize::MAX).await;
    far.answers(|_| Answer::Take);
    rig.lane("a", keep(), &far).await;
    let ledger = rig.drained("a").await;
    assert_eq!((ledger.delivered, ledger.dead), (8, 2));
    let reason = DeadReason::InDoubt;
    assert_eq!(
        rig.dead("a").await,
        [(seqs[1], reason), (seqs[2], reason)],
        "not the one that waited"
    );
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_was_under_way_at_an_unclean_stop_is_in_doubt_too() {
    let far = FarEnd::answering(|request| match request.attempt {
        1 => Answer::Fail(Reason::ServerFault),
        _ => Answer::Hang,
    });
    let mut rig = Rig::new();
    rig.lane("a", settings(|_| {}), &far).await;
    rig.append([1]).await;
    rig.until("the retry", || far.count() == 2).await;
    let mut rig = rig.crash(usize::MAX).await;
    far.answers(|_| Answer::Take);
    rig.lane("a", settings(|_| {}), &far).await;
    rig.drained("a").await;
    let requests = far.requests();
    assert_eq!((requests[1].in_doubt, requests[2].in_doubt), (false, true));
}

#[tokio::test(start_paused = true)]
async fn after_a_clean_stop_nothing_is_in_doubt() {
    let far = FarEnd::new();
    let mut rig = Rig::new();
    rig.lane("a", settings(|_| {}), &far).await;
    rig.append(0..10).await;
    rig.drained("a").await;
    let mut rig = rig.restart().await;
    rig.append(0..10).await;
    rig.lane("a", settings(|s| s.in_doubt = InDoubt::DeadLetter), &far).await;
    assert_eq!(rig.drained("a").await.delivered, 20);
    assert!(far.requests().iter().all(|request| !request.in_doubt));
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_event_is_sent_again_or_kept_as_the_operator_says() {
    for (in_doubt, dead) in [(InDoubt::Resend, 0), (InDoubt::DeadLetter, 1)] {
        let far = FarEnd::answering(|request| match request.attempt {
            1 => Answer::Hang,
            _ => Answer::Take,
        });
        let mut rig = Rig::new();
        rig.lane("a", settings(|s| (s.in_doubt, s.timeout) = (in_doubt, secs(10))), &far).await;
        rig.append([1]).await;
        let ledger = rig.drained("a").await;
        assert_eq!((ledger.dead, ledger.delivered), (dead, 1 - dead));
        assert!(far.now() >= secs(10));
        if let Some(again) = far.requests().get(1) {
            assert!(again.in_doubt);
        }
    }
}

/// Wherever the power is cut.
#[tokio::test(start_paused = true)]
async fn a_crash_repeats_at_most_the_window_and_loses_nothing() {
    for round in 0..20 {
        let far = FarEnd::answering(move |request| match (request.seqs[0] + round) % 7 {
            0 if request.attempt == 1 => Answer::Fail(Reason::ServerFault),
            1 => Answer::Take,
            n => Answer::After(ms(n * 3), Box::new(Answer::Take)),
        });
        let window = || settings(|s| (s.concurrency, s.batch.events_max) = (4, 5));
        let mut rig = Rig::new();
        rig.lane("a", window(), &far).await;
        rig.append(0..300).await;
        let enough = 10 + round as usize * 2;
        rig.until("some of it", || far.count() >= enough).await;
        let mut rig = rig.crash(round as usize % 3).await;
        rig.lane("a", window(), &far).await;
        let ledger = rig.drained("a").await;
        assert_eq!((ledger.seen, ledger.delivered), (300, 300));
        assert_eq!(far.distinct_taken(), 300);
        let repeated = far.taken().len() - 300;
        assert!(repeated <= 20, "{repeated} in round {round}");
    }
}

const LAG: std::time::Duration = std::time::Duration::from_secs(15);

#[tokio::test(start_paused = true)]
async fn what_may_have_arrived_is_tried_again_only_when_a_search_would_show_it() {
    for reason in [Reason::InDoubt, Reason::ServerFault, Reason::BadAnswer, Reason::Connect] {
        let far = FarEnd::answering(move |request| match request.attempt {
            1 => Answer::Fail(reason),
            2 => Answer::Fail(Reason::Connect),
            _ => Answer::Take,
        });
        far.searches(LAG);
        let mut rig = Rig::new();
        let soon = || settings(|s| (s.retry.initial, s.retry.max) = (ms(1), ms(200)));
        rig.lane("a", soon(), &far).await;
        rig.append([1]).await;
        rig.until("it waits", || rig.view("a").retrying == 1).await;
        rig.handle("a").retry_now().await.unwrap();
        rig.drained("a").await;
        let requests = far.requests();
        assert_eq!(requests.len(), 3);
        let doubt = reason != Reason::Connect;
        assert_eq!(requests[1].at >= requests[0].at + LAG, doubt, "{reason:?}");
        let in_doubt: Vec<bool> = requests.iter().map(|request| request.in_doubt).collect();
        assert_eq!(in_doubt, [false, doubt, doubt], "a doubt outlasts what failed since");
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_does_not_probe_with_what_a_search_would_miss() {
    let far = FarEnd::answering(|request| match request.attempt {
        1 => Answer::Fail(Reason::InDoubt),
        _ => Answer::Take,
    });
    far.searches(LAG);
    let mut rig = Rig::new();
    rig.lane("a", settings(|s| (s.breaker.failures, s.retry.max) = (1, secs(1))), &far).await;
    let seqs = rig.append([1]).await;
    rig.until_state("a", LaneState::Open).await;
    let later = rig.append([2]).await;
    rig.drained("a").await;
    let of = |seq| far.requests_for(seq);
    assert!(of(seqs[0])[1].at >= of(seqs[0])[0].at + LAG);
    assert!(of(later[0])[0].at < of(seqs[0])[1].at, "another goes first");
}

#[tokio::test(start_paused = true)]
async fn after_an_unclean_stop_what_was_under_way_waits_until_a_search_would_show_it() {
    let far = FarEnd::answering(|request| match request.seqs[0] {
        1 => Answer::Fail(Reason::ServerFault),
        _ => Answer::Hang,
    });
    far.searches(LAG);
    let two = || settings(|s| s.concurrency = 2);
    let mut rig = Rig::new();
    rig.lane("a", two(), &far).await;
    let seqs = rig.append(0..3).await;
    rig.until("all were sent", || far.count() == 3).await;
    let mut rig = rig.crash(usize::MAX).await;
    far.answers(|_| Answer::Take);
    let begun = far.now();
    rig.lane("a", two(), &far).await;
    rig.handle("a").retry_now().await.unwrap();
    assert_eq!(rig.drained("a").await.delivered, 3);
    for request in &far.requests()[3..] {
        assert!(request.in_doubt && request.at >= begun + LAG, "{request:?}");
    }
    // What came later was never under way, and does not wait.
    let rig = rig.crash(usize::MAX).await;
    let mut rig = rig;
    rig.lane("a", two(), &far).await;
    let begun = far.now();
    let fresh = rig.append([7]).await;
    rig.drained("a").await;
    let request = far.requests_for(fresh[0]).remove(0);
    assert!(!request.in_doubt && request.at < begun + LAG, "{request:?} {seqs:?}");
}

#[tokio::test(start_paused = true)]
async fn where_a_search_decides_nothing_in_doubt_is_given_up() {
    let far = FarEnd::answering(|request| match request.attempt {
        1 => Answer::Hang,
        _ => Answer::Duplicate,
    });
    far.searches(LAG);
    let mut rig = Rig::new();
    let keep = |s: &mut holdfast_pipeline::LaneSettings| s.in_doubt = InDoubt::DeadLetter;
    rig.lane("a", settings(keep), &far).await;
    rig.append([1]).await;
    let ledger = rig.drained("a").await;
    assert_eq!((ledger.delivered, ledger.dead), (1, 0));
}
