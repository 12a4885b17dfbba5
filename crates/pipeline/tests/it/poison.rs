use std::sync::atomic::Ordering;

use holdfast_model::{DeadReason, LaneState, Reason};
use holdfast_queue::{DeadEnd, QueueEngine};

use crate::rig::*;

fn refusing(rule: &'static str) -> impl FnMut(&Request) -> Answer + Send + 'static {
    move |request| match request.rules.iter().any(|one| one == rule) {
        true => Answer::Fail(Reason::Refused),
        false => Answer::Take,
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_event_is_a_dead_letter_at_once_with_what_was_answered() {
    let far = FarEnd::answering(refusing("666"));
    let mut rig = Rig::new();
    rig.lane("a", settings(|_| {}), &far).await;
    let seqs = rig.append([1, 666, 3]).await;
    let ledger = rig.drained("a").await;
    assert_eq!((ledger.delivered, ledger.dead), (2, 1));
    let letter = rig.dead_letters("a").await.remove(0);
    assert_eq!((letter.event.seq, letter.reason, letter.tries), (seqs[1], DeadReason::Refused, 1));
    assert_eq!(letter.event.body, alert(666).as_bytes());
    assert!(letter.attempts[0].excerpt.ends_with("no"), "{:?}", letter.attempts);
}

#[tokio::test(start_paused = true)]
async fn one_bad_rule_does_not_park_the_lane() {
    let far = FarEnd::answering(refusing("7"));
    let mut rig = Rig::new();
    rig.lane("a", settings(|_| {}), &far).await;
    rig.append([7; 50]).await;
    rig.append([1]).await;
    let ledger = rig.drained("a").await;
    assert_eq!((ledger.dead, ledger.delivered, rig.state("a")), (50, 1, LaneState::Active));
}

#[tokio::test(start_paused = true)]
async fn refusals_over_three_rules_park_the_lane_and_those_events_go_back_to_pending() {
    let far = FarEnd::answering(|_| Answer::Fail(Reason::Refused));
    let mut rig = Rig::new();
    rig.lane("a", settings(|_| {}), &far).await;
    rig.append((0..100).map(|n| n % 3)).await;
    rig.until_state("a", LaneState::ConfigFailed).await;
    assert!(far.count() <= 10 + 8, "{}", far.count());
    tokio::time::sleep(secs(86_400)).await;
    let ledger = rig.ledger("a").await;
    assert_eq!(
        (ledger.pending(), ledger.dead),
        (100, 0),
        "not even its probes become dead letters"
    );
    assert!(far.count() > 280);
    far.answers(|_| Answer::Take);
    rig.handle("a").resume().await.unwrap();
    assert_eq!(rig.drained("a").await.delivered, 100);
}

#[tokio::test(start_paused = true)]
async fn refusals_go_back_to_pending_also_when_the_queue_is_slow_to_store_them() {
    let far = FarEnd::answering(|request| {
        Answer::After(ms(request.seqs[0] * 10), Box::new(Answer::Fail(Reason::Refused)))
    });
    let mut rig = Rig::new();
    rig.lane("a", settings(|s| s.concurrency = 16), &far).await;
    rig.queue.gate.send_replace(false);
    rig.append((0..16).map(|n| n % 3)).await;
    rig.until_state("a", LaneState::ConfigFailed).await;
    rig.queue.gate.send_replace(true);
    rig.until("all settled", || rig.view("a").in_flight == 0).await;
    tokio::time::sleep(secs(1)).await;
    let ledger = rig.ledger("a").await;
    assert_eq!((ledger.retrying, ledger.dead), (16, 0));
    assert_eq!(rig.view("a").retrying, 16);
}

#[tokio::test(start_paused = true)]
async fn a_truly_poisonous_event_dies_once_the_setting_is_right_again() {
    let far = FarEnd::answering(|_| Answer::Fail(Reason::Refused));
    let mut rig = Rig::new();
    rig.lane("a", settings(|_| {}), &far).await;
    rig.append((0..30).map(|n| n % 3)).await;
    let poison = rig.append([666]).await[0];
    rig.until_state("a", LaneState::ConfigFailed).await;
    far.answers(refusing("666"));
    let ledger = rig.drained("a").await;
    assert_eq!((ledger.delivered, rig.dead("a").await), (30, vec![(poison, DeadReason::Refused)]));
}

#[tokio::test(start_paused = true)]
async fn refusals_beside_successes_of_the_same_answer_do_not_park_the_lane() {
    let far = FarEnd::answering(|request| {
        let odd = |seq: &u64| (seq % 2 == 1).then_some(Reason::Refused);
        Answer::Each(request.seqs.iter().map(odd).collect())
    });
    let mut rig = Rig::new();
    rig.lane("a", settings(|s| s.batch.events_max = 50), &far).await;
    rig.append((0..100).map(|n| n / 2 % 5)).await;
    let ledger = rig.drained("a").await;
    assert_eq!((ledger.delivered, ledger.dead, rig.state("a")), (50, 50, LaneState::Active));
}

#[tokio::test(start_paused = true)]
async fn when_the_dead_letters_are_full_the_lane_waits_and_nothing_is_lost() {
    let far = FarEnd::answering(refusing("666"));
    let mut rig = Rig::new();
    rig.lane_with_dead_max("a", settings(|s| s.concurrency = 1), &far, 1).await;
    let seqs = rig.append([666, 666, 3, 4]).await;
    rig.until_state("a", LaneState::BackedUp).await;
    tokio::time::sleep(secs(3_600)).await;
    let (requests, ledger) = (far.count(), rig.ledger("a").await);
    assert!(requests <= 3, "{requests}");
    assert_eq!((ledger.dead, ledger.pending()), (1, 4 - requests as u64 + 1));
    assert!(rig.queue.states.load(Ordering::SeqCst) <= 3, "it does not flap");
    let purged = rig.queue.remove_dead(vec![rig.dead_id("a", seqs[0])], DeadEnd::Purged).await;
    assert_eq!(purged.unwrap(), 1);
    let ledger = rig.drained("a").await;
    assert_eq!((ledger.delivered, ledger.dead, ledger.purged), (2, 1, 1));
    assert_eq!(rig.dead("a").await, [(seqs[1], DeadReason::Refused)]);
}

#[tokio::test(start_paused = true)]
async fn full_dead_letters_do_not_end_a_pause() {
    let far = FarEnd::answering(|request| match request.seqs[0] {
        1 => Answer::Fail(Reason::Refused),
        _ => Answer::After(secs(10), Box::new(Answer::Fail(Reason::Refused))),
    });
    let mut rig = Rig::new();
    rig.lane_with_dead_max("a", settings(|_| {}), &far, 1).await;
    rig.append([1, 2]).await;
    rig.until("the first", || far.count() == 2).await;
    rig.handle("a").pause("a test").await.unwrap();
    rig.until("the second", || rig.view("a").in_flight == 0).await;
    assert_eq!(rig.state("a"), LaneState::Paused);
    assert_eq!(rig.ledger("a").await.retrying, 1);
    rig.handle("a").resume().await.unwrap();
    assert_eq!(rig.state("a"), LaneState::BackedUp);
}
