use std::cell::RefCell;

use holdfast_model::settings::{Node, Section, Value};
use holdfast_pipeline::filter::Filter;
use holdfast_queue::Start;

use crate::rig::*;

pub(crate) fn only_rule(id: u64) -> Filter {
    let id = Node { line: 1, value: Value::Text(id.to_string()) };
    let entries = [("rule_ids".to_owned(), Node { line: 1, value: Value::List(vec![id]) })];
    let faults = RefCell::default();
    let filter = Filter::read(&Section::new("when", 1, &entries, &faults));
    assert_eq!(*faults.borrow(), []);
    filter
}

#[tokio::test(start_paused = true)]
async fn every_event_arrives_once_and_in_order_when_nothing_fails() {
    let (mut rig, far) = (Rig::new(), FarEnd::new());
    rig.lane("a", settings(|s| s.concurrency = 1), &far).await;
    let mut seqs = rig.append(0..700).await;
    seqs.extend(rig.append(0..2_300).await);
    let ledger = rig.drained("a").await;
    assert_eq!((ledger.seen, ledger.delivered), (3_000, 3_000));
    assert_eq!(far.taken(), seqs);
}

#[tokio::test(start_paused = true)]
async fn with_concurrency_every_event_arrives_once() {
    let far = FarEnd::answering(|request| {
        Answer::After(ms(request.seqs[0] * 7 % 50), Box::new(Answer::Take))
    });
    let mut rig = Rig::new();
    rig.lane("a", settings(|s| s.concurrency = 32), &far).await;
    let seqs = rig.append(0..2_000).await;
    assert_eq!(rig.drained("a").await.delivered, 2_000);
    let mut taken = far.taken();
    taken.sort_unstable();
    assert_eq!(taken, seqs);
    assert_eq!(far.most_under_way.load(std::sync::atomic::Ordering::SeqCst), 32);
}

#[tokio::test(start_paused = true)]
async fn only_matching_events_are_sent_and_the_rest_is_settled_and_counted() {
    let (mut rig, far) = (Rig::new(), FarEnd::new());
    rig.lane("a", settings(|s| s.filter = only_rule(3)), &far).await;
    let seqs = rig.append((0..1_000).map(|n| n % 10)).await;
    let ledger = rig.drained("a").await;
    assert_eq!((ledger.delivered, ledger.filtered), (100, 900));
    assert!(far.taken().iter().all(|seq| (seq - seqs[0]) % 10 == 3));
    rig.append([1, 2, 4]).await;
    assert_eq!(rig.drained("a").await.filtered, 903, "settled without anything to send");
}

#[tokio::test(start_paused = true)]
async fn a_lane_goes_on_where_it_stood_after_a_restart() {
    let (mut rig, far) = (Rig::new(), FarEnd::new());
    rig.lane("a", settings(|_| {}), &far).await;
    rig.append(0..500).await;
    rig.until("half of it", || far.count() >= 200).await;
    let mut rig = rig.restart().await;
    rig.append(0..500).await;
    rig.lane("a", settings(|_| {}), &far).await;
    let ledger = rig.drained("a").await;
    assert_eq!((ledger.seen, ledger.delivered), (1_000, 1_000));
    assert_eq!(
        (far.taken().len(), far.distinct_taken()),
        (1_000, 1_000),
        "a clean stop repeats nothing"
    );
}

#[tokio::test(start_paused = true)]
async fn a_new_lane_begins_at_the_head_unless_it_wants_all() {
    let mut rig = Rig::new();
    rig.append([1, 2, 3]).await;
    let (from_head, from_begin) = (FarEnd::new(), FarEnd::new());
    rig.lane("head", settings(|s| s.start = Start::New), &from_head).await;
    rig.lane("all", settings(|_| {}), &from_begin).await;
    rig.append([4]).await;
    assert_eq!(rig.drained("head").await.seen, 1);
    assert_eq!(rig.drained("all").await.seen, 4);
    assert_eq!((from_head.count(), from_begin.count()), (1, 4));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_read_for_a_while_loses_nothing() {
    let (mut rig, far) = (Rig::new(), FarEnd::new());
    rig.queue.failing_reads.store(3, std::sync::atomic::Ordering::SeqCst);
    rig.lane("a", settings(|_| {}), &far).await;
    rig.append(0..100).await;
    assert_eq!(rig.drained("a").await.delivered, 100);
    assert!(far.now() >= secs(15), "it waits between two reads");
}
