use holdfast_model::{LaneState, Reason};

use crate::rig::*;

#[tokio::test(start_paused = true)]
async fn a_pause_lets_what_is_under_way_end_and_persists_over_restarts() {
    let far = FarEnd::answering(|_| Answer::After(secs(1), Box::new(Answer::Take)));
    let mut rig = Rig::new();
    rig.lane("a", settings(|_| {}), &far).await;
    rig.append(0..100).await;
    rig.until("some under way", || far.under_way() == 8).await;
    rig.handle("a").pause("soc").await.unwrap();
    tokio::time::sleep(secs(60)).await;
    assert_eq!((far.count(), rig.ledger("a").await.delivered), (8, 8));
    let view = rig.view("a");
    assert_eq!(
        (view.state.state, view.state.reason.as_str()),
        (LaneState::Paused, "paused by soc")
    );

    let mut rig = rig.crash(0).await;
    rig.lane("a", settings(|_| {}), &far).await;
    tokio::time::sleep(secs(60)).await;
    assert_eq!((rig.state("a"), far.count()), (LaneState::Paused, 8));
    rig.handle("a").resume().await.unwrap();
    assert_eq!(rig.drained("a").await.delivered, 100);
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_on_stable_storage_when_it_is_answered() {
    let (mut rig, far) = (Rig::new(), FarEnd::new());
    rig.lane("a", settings(|_| {}), &far).await;
    rig.handle("a").pause("soc").await.unwrap();
    let mut rig = rig.crash(0).await;
    rig.lane("a", settings(|_| {}), &far).await;
    assert_eq!(rig.state("a"), LaneState::Paused);
}

#[tokio::test(start_paused = true)]
async fn a_paused_lane_settles_late_answers_and_stays_paused() {
    let answers = [Answer::Take, Answer::Fail(Reason::Unauthorized), throttle(5), Answer::Panic];
    for answer in answers {
        let far = FarEnd::answering(move |_| Answer::After(secs(1), Box::new(answer.clone())));
        let mut rig = Rig::new();
        rig.lane("a", settings(|_| {}), &far).await;
        rig.append(0..8).await;
        rig.until("all under way", || far.under_way() == 8).await;
        rig.handle("a").pause("soc").await.unwrap();
        rig.until("all landed", || rig.view("a").in_flight == 0).await;
        let ledger = rig.ledger("a").await;
        assert_eq!((ledger.unsettled, ledger.delivered + ledger.retrying), (0, 8));
        assert_eq!(rig.state("a"), LaneState::Paused);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_what_is_under_way_and_starts_nothing_new() {
    let far = FarEnd::answering(|request| {
        let answer =
            if request.seqs[0] % 2 == 0 { Answer::Take } else { Answer::Fail(Reason::Connect) };
        Answer::After(secs(3), Box::new(answer))
    });
    let mut rig = Rig::new();
    rig.lane("a", settings(|s| s.batch.events_max = 2), &far).await;
    rig.append(0..100).await;
    rig.until("some under way", || far.under_way() == 16).await;
    rig.stop.cancel();
    rig.append(0..100).await;
    rig.until("its end", || rig.has_stopped("a")).await;
    assert!((secs(3)..secs(4)).contains(&far.now()));
    let ledger = rig.ledger("a").await;
    assert_eq!((far.count(), ledger.delivered + ledger.retrying), (8, 16));
    assert!(rig.handle("a").pause("soc").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn an_idle_paused_or_parked_lane_stops_at_once() {
    for order in ["nothing", "pause", "park"] {
        let far = FarEnd::answering(move |_| match order {
            "park" => Answer::Fail(Reason::Unauthorized),
            _ => Answer::Take,
        });
        let mut rig = Rig::new();
        rig.lane("a", settings(|_| {}), &far).await;
        rig.append(0..10).await;
        rig.until("the answers", || far.count() > 0 && rig.view("a").in_flight == 0).await;
        if order == "pause" {
            rig.handle("a").pause("soc").await.unwrap();
        }
        rig.stop.cancel();
        rig.until("its end", || rig.has_stopped("a")).await;
        assert!(far.now() < secs(1));
    }
}
