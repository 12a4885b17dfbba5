//! `express_level`: a fresh critical alert does not wait behind a backlog.

use holdfast_model::{Reason, Seq};

use crate::rig::*;

fn of_level(level: u64) -> String {
    format!(r#"{{"rule":{{"id":"1","level":{level}}}}}"#)
}

fn at(level: Option<u16>) -> holdfast_pipeline::LaneSettings {
    settings(|s| (s.express_level, s.concurrency) = (level, 2))
}

fn slow(request: &Request) -> Answer {
    assert!(!request.seqs.is_empty());
    Answer::After(secs(1), Box::new(Answer::Take))
}

#[tokio::test(start_paused = true)]
async fn a_critical_alert_overtakes_the_backlog() {
    let far = FarEnd::answering(slow);
    let mut rig = Rig::new();
    rig.lane("a", at(Some(12)), &far).await;
    rig.append_bodies((0..3_000).map(|_| of_level(5)).collect()).await;
    rig.until("some of the backlog", || far.count() > 10).await;
    let before = far.count();
    let critical = rig.append_bodies(vec![of_level(12), of_level(11), of_level(15)]).await;
    rig.until("the critical ones", || far.requests_for(critical[2]).len() == 1).await;
    let next: Vec<Seq> = far.requests()[before..].iter().map(|request| request.seq()).collect();
    let place = |seq: Seq| next.iter().position(|sent| *sent == seq);
    assert!(place(critical[0]).is_some_and(|place| place <= 3), "{next:?}");
    assert!(place(critical[2]).is_some_and(|place| place <= 4), "{next:?}");
    assert_eq!(place(critical[1]), None, "it is below the level");
    assert_eq!(rig.drained("a").await.delivered, 3_003);
    assert_eq!(far.taken().len(), 3_003);
}

#[tokio::test(start_paused = true)]
async fn a_level_that_changes_while_there_is_a_backlog_skips_and_repeats_nothing() {
    let far = FarEnd::answering(slow);
    let mut rig = Rig::new();
    let mut total = 0;
    for (round, level) in
        [None, Some(12), Some(3), None, Some(7), Some(15), None].into_iter().enumerate()
    {
        rig.lane("a", at(level), &far).await;
        let levels = (0..80).map(|n| of_level((n * 5 + round as u64) % 16));
        total += rig.append_bodies(levels.collect()).await.len();
        let goal = far.count() + 30;
        rig.until("some requests", || far.count() >= goal).await;
        rig = rig.restart().await;
    }
    rig.lane("a", at(None), &far).await;
    assert_eq!(rig.drained("a").await.delivered, total as u64);
    let mut taken = far.taken();
    taken.sort_unstable();
    assert!(taken.into_iter().eq(1..=total as Seq), "each once: every end was orderly");
}

#[tokio::test(start_paused = true)]
async fn a_crash_repeats_no_more_than_what_was_under_way() {
    let far = FarEnd::answering(slow);
    let mut rig = Rig::new();
    for _ in 0..6 {
        rig.lane("a", at(Some(10)), &far).await;
        rig.append_bodies((0..40).map(|n| of_level(n % 16)).collect()).await;
        let goal = far.count() + 25;
        rig.until("some requests", || far.count() >= goal).await;
        rig = rig.crash(0).await;
    }
    rig.lane("a", at(Some(10)), &far).await;
    let ledger = rig.drained("a").await;
    assert_eq!((ledger.delivered, far.distinct_taken()), (240, 240));
    assert!(far.count() <= 240 + 6 * 2, "{} requests", far.count());
}

#[tokio::test(start_paused = true)]
async fn an_express_event_that_fails_is_retried_and_dies_like_any_other() {
    let far = FarEnd::answering(|request| match (request.rules[0].as_str(), request.attempt) {
        ("bad", _) => Answer::Fail(Reason::Refused),
        (_, 1) => Answer::Fail(Reason::ServerFault),
        _ => Answer::Take,
    });
    let mut rig = Rig::new();
    rig.lane("a", at(Some(10)), &far).await;
    let bad = r#"{"rule":{"id":"bad","level":13}}"#.to_owned();
    rig.append_bodies(vec![of_level(12), of_level(3), bad]).await;
    let ledger = rig.drained("a").await;
    assert_eq!((ledger.delivered, ledger.dead), (2, 1));
}
