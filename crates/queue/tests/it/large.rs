//! What needs more than one atomic batch is taken whole, or refused whole.

use holdfast_model::NewEvent;
use holdfast_queue::{QueueEngine, QueueError, Settle, Span, StoredEvent};

use crate::{
    bed::Bed,
    make::{alert, dead, delivered, noise, retry},
};

async fn an_incompressible_alert_of_one_mebibyte_is_taken_whole(mut bed: Bed) {
    let body = noise(1024 * 1024, 1);
    bed.try_append(vec![alert(1), NewEvent::alert(body.clone()), alert(2)]).await.unwrap();
    bed.crash(0);
    let events = bed.events(1).await;
    assert_eq!((events.len(), &events[1].body), (3, &body));
    bed.sound().await;
}

async fn a_body_of_sixteen_mebibytes_and_15_000_alerts_is_taken_whole(mut bed: Bed) {
    let alerts = |n: u64| {
        let noise = noise(400, n).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        NewEvent::alert(format!(
            r#"{{"rule":{{"level":3}},"n":{n},"full_log":"{noise}","pad":"{}"}}"#,
            "x".repeat(250)
        ))
    };
    let events: Vec<_> = (0..15_000).map(alerts).collect();
    let bytes: usize = events.iter().map(|event| event.body.len()).sum();
    assert!(bytes > 15 * 1024 * 1024);
    let appended = bed.try_append(events).await.unwrap();
    assert_eq!(appended.accepted, 15_000);
    bed.crash(0);
    assert_eq!(bed.numbers(1).await, (0..15_000).collect::<Vec<_>>());
    bed.sound().await;
}

async fn a_body_that_cannot_be_taken_whole_is_refused_and_leaves_nothing(mut bed: Bed) {
    bed.append([1]).await;
    let one = NewEvent::alert(noise(1024 * 1024, 2));
    let refused = bed.try_append(vec![one; 50]).await;
    assert!(matches!(refused, Err(QueueError::TooLarge { .. })), "{refused:?}");
    let refused = bed.try_append(vec![NewEvent::alert(noise(7 * 1024 * 1024, 3))]).await;
    assert!(matches!(refused, Err(QueueError::TooLarge { .. })), "{refused:?}");
    bed.append([2]).await;
    bed.crash(0);
    assert_eq!(bed.numbers(1).await, [1, 2]);
    bed.sound().await;
}

async fn a_retry_record_of_500_members_is_kept_in_parts_and_read_back(mut bed: Bed) {
    let lane = bed.lane("archive").await;
    let bodies: Vec<_> = (0..500).map(|n| NewEvent::alert(noise(8_000, n))).collect();
    bed.try_append(bodies).await.unwrap();
    let members: Vec<_> = bed.events(1).await.iter().map(|event| StoredEvent::of(event)).collect();
    let spans = vec![Span { from: 1, to: 501, count: 500 }];
    let item = Settle { spans, retry: vec![retry(members.clone())], ..Settle::default() };
    bed.settle(&lane, item).await;
    for tries in 2..5 {
        bed.crash(0);
        let record = bed.q_retry(&lane, 1).await.unwrap();
        assert_eq!((record.members.len(), record.tries), (500, tries - 1));
        let again = holdfast_queue::RetryRecord { tries, ..record };
        let item = Settle { retries_done: vec![1], retry: vec![again], ..Settle::default() };
        bed.settle(&lane, item).await;
        assert_eq!(bed.ledger(&lane).await.retrying, 500);
    }
    bed.sound().await;
    let done = Settle { retries_done: vec![1], ..delivered([]) };
    bed.settle(&lane, Settle { delivered: 500, ..done }).await;
    let chunks_alone = bed.q().lanes()[0].retry_bytes;
    assert_eq!((chunks_alone, bed.ledger(&lane).await.delivered), (0, 500));
    bed.sound().await;
}

async fn many_retries_of_one_shipment_are_settled_in_one_step(mut bed: Bed) {
    let lane = bed.lane("archive").await;
    bed.append(0..500).await;
    let events = bed.events(1).await;
    let items = events.iter().map(|event| Settle {
        spans: vec![Span::one(event.seq)],
        retry: vec![retry(vec![StoredEvent::of(event)])],
        ..Settle::default()
    });
    bed.q().settle(&lane, items.collect()).await.unwrap();
    assert_eq!(bed.ledger(&lane).await.retrying, 500);
    // Half of them go out together; the other half die together.
    let done = Settle { retries_done: (1..=250).collect(), delivered: 250, ..Settle::default() };
    bed.settle(&lane, done).await;
    let letters = events[250..].iter().map(|event| dead(StoredEvent::of(event))).collect();
    let died = Settle { retries_done: (251..=500).collect(), dead: letters, ..Settle::default() };
    bed.settle(&lane, died).await;
    bed.crash(0);
    let ledger = bed.ledger(&lane).await;
    assert_eq!((ledger.retrying, ledger.delivered, ledger.dead), (0, 250, 250));
    bed.sound().await;
}

crate::promises!(
    an_incompressible_alert_of_one_mebibyte_is_taken_whole,
    a_body_of_sixteen_mebibytes_and_15_000_alerts_is_taken_whole,
    a_body_that_cannot_be_taken_whole_is_refused_and_leaves_nothing,
    a_retry_record_of_500_members_is_kept_in_parts_and_read_back,
    many_retries_of_one_shipment_are_settled_in_one_step,
);
