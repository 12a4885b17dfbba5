//! `digest` and `dedup`: the first at once, the rest counted.

use holdfast_model::{DeadReason, Reason};
use holdfast_pipeline::{
    LaneSettings, Path,
    storm::{Rest, StormSettings},
};

use crate::rig::*;

fn calm(rest: Rest) -> LaneSettings {
    let by = vec![Path::new("rule.id").unwrap()];
    settings(|s| s.storm = Some(StormSettings { rest, by, window: secs(60) }))
}

#[tokio::test(start_paused = true)]
async fn a_storm_is_its_first_message_and_one_summary_with_the_count_across_a_crash() {
    let far = FarEnd::new();
    let mut rig = Rig::new();
    rig.lane("a", calm(Rest::Summary), &far).await;
    for _ in 0..20 {
        rig.append((0..500).map(|_| 5_710)).await;
    }
    rig.until("the first", || far.count() == 1).await;
    tokio::time::sleep(secs(2)).await;
    let mut rig = rig.crash(usize::MAX).await;
    rig.lane("a", calm(Rest::Summary), &far).await;
    rig.until("the summary", || far.count() == 2).await;
    let ledger = rig.drained("a").await;
    assert_eq!((ledger.delivered, ledger.suppressed), (2, 9_998));
    let summary = &far.requests()[1];
    assert_eq!(summary.seq(), 2, "it stands for the first that was held back");
    assert!(summary.key.ends_with("-2.d.a"), "{}", summary.key);
    assert!(summary.at >= secs(58), "not before its window is over: {:?}", summary.at);
    rig.append([5_710]).await;
    rig.until("a new window", || far.count() == 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_summary_that_nobody_takes_is_a_dead_letter_with_all_it_stands_for_and_can_be_replayed() {
    let far = FarEnd::answering(|request| match request.key.contains(".d.") {
        true => Answer::Fail(Reason::Refused),
        false => Answer::Take,
    });
    let mut rig = Rig::new();
    rig.lane("a", calm(Rest::Summary), &far).await;
    rig.append((0..100).map(|_| 7)).await;
    rig.until("the refusal", || far.count() == 2).await;
    let ledger = rig.drained("a").await;
    assert_eq!((ledger.delivered, ledger.suppressed, ledger.dead), (1, 98, 1));
    assert_eq!(rig.dead("a").await, [(2, DeadReason::Refused)]);
    let letter = rig.dead_letters("a").await.remove(0);
    let body: serde_json::Value = serde_json::from_slice(&letter.event.body).unwrap();
    let said = &body["holdfast"]["summary"];
    assert_eq!(said["count"], 99);
    assert_eq!(said["samples"].as_array().map(Vec::len), Some(20));
    assert!(said["last_id"].as_str().unwrap().ends_with("-100"));
    far.answers(|_| Answer::Take);
    let mut rig = rig.restart().await;
    rig.revive(vec![rig.dead_id("a", 2)]).await;
    rig.lane("a", calm(Rest::Summary), &far).await;
    let ledger = rig.drained("a").await;
    assert_eq!((ledger.delivered, ledger.suppressed, ledger.dead), (2, 98, 0));
    let requests = far.requests();
    assert_eq!(requests[1].key, requests[2].key, "the same delivery");
}

#[tokio::test(start_paused = true)]
async fn dedup_sends_no_summary_and_counts() {
    let far = FarEnd::new();
    let mut rig = Rig::new();
    rig.lane("a", calm(Rest::Nothing), &far).await;
    rig.append((0..50).map(|n| n % 2)).await;
    rig.drained("a").await;
    tokio::time::sleep(secs(120)).await;
    rig.append([0, 1]).await;
    rig.until("the next", || far.count() == 4).await;
    let ledger = rig.drained("a").await;
    assert_eq!((ledger.delivered, ledger.suppressed), (4, 48));
    let mut rig = rig.restart().await;
    rig.lane("a", calm(Rest::Nothing), &far).await;
    rig.append([0]).await;
    assert_eq!(
        rig.drained("a").await.suppressed,
        48,
        "a window that held nothing back is not stored"
    );
}

#[tokio::test(start_paused = true)]
async fn a_backlog_is_summed_up_as_the_storm_itself_would_have_been() {
    let far = FarEnd::new();
    let mut rig = Rig::new();
    rig.lane("a", calm(Rest::Summary), &far).await;
    rig.handle("a").pause("test").await.unwrap();
    for _ in 0..12 {
        rig.append((0..10).map(|_| 9)).await;
        tokio::time::sleep(secs(15)).await;
    }
    rig.handle("a").resume().await.unwrap();
    rig.until("three windows", || far.count() >= 6).await;
    let ledger = rig.drained("a").await;
    assert_eq!((ledger.delivered, ledger.suppressed), (6, 114));
}

#[tokio::test(start_paused = true)]
async fn express_events_pass_and_a_lane_without_the_setting_ends_its_windows() {
    let far = FarEnd::new();
    let mut rig = Rig::new();
    let mut express = calm(Rest::Summary);
    express.express_level = Some(12);
    rig.lane("a", express, &far).await;
    let critical = || r#"{"rule":{"id":"1","level":13}}"#.to_owned();
    rig.append_bodies((0..5).map(|_| critical()).collect()).await;
    rig.until("all of them", || far.count() == 5).await;
    rig.append((0..5).map(|_| 1)).await;
    rig.until("the first", || far.count() == 6).await;
    tokio::time::sleep(secs(2)).await;
    let mut rig = rig.restart().await;
    rig.lane("a", settings(|_| {}), &far).await;
    rig.until("the summary at once", || far.count() == 7).await;
    let ledger = rig.drained("a").await;
    assert_eq!((ledger.delivered, ledger.suppressed), (7, 3));
}
