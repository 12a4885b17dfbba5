//! One event through every lane: what waits or is dead is never shown as settled.

use holdfast_model::{Name, Reject, RejectReason};
use holdfast_queue::{Append, DeadEnd, QueueEngine, Settle, Span, Standing, Start, StoredEvent};

use crate::{
    bed::Bed,
    make::{NOON, batch, dead, dead_id, delivered, retry},
};

async fn standing(bed: &Bed, lane: &Name, seq: u64) -> Standing {
    let traces = bed.q().trace(seq).await.unwrap();
    let found = traces.into_iter().find(|trace| trace.owner == lane.as_str());
    found.unwrap().standing
}

async fn an_event_is_found_wherever_it_stands(mut bed: Bed) {
    bed.append(0..2).await;
    let lane = Name::new("slack").unwrap();
    bed.q().open_lane(&lane, Start::New).await.unwrap();
    bed.append(2..10).await;
    let events = bed.events(3).await;
    let stored = |seq: u64| StoredEvent::of(&events[seq as usize - 3]);
    bed.settle(&lane, delivered([3, 4])).await;
    let spans = vec![Span { from: 5, to: 8, count: 3 }];
    let records = vec![retry(vec![stored(5), stored(7)]), retry(vec![stored(6)])];
    bed.settle(&lane, Settle { spans, retry: records, ..Settle::default() }).await;
    let letter =
        Settle { spans: vec![Span::one(8)], dead: vec![dead(stored(8))], ..Settle::default() };
    bed.settle(&lane, letter).await;
    for _ in 0..2 {
        for seq in [1, 2] {
            assert!(matches!(standing(&bed, &lane, seq).await, Standing::BeforeLane), "{seq}");
        }
        for seq in [3, 4] {
            assert!(matches!(standing(&bed, &lane, seq).await, Standing::Settled), "{seq}");
        }
        for (seq, members) in [(5, 2), (6, 1), (7, 2)] {
            let found = standing(&bed, &lane, seq).await;
            let Standing::Retrying(record) = found else { panic!("{seq}: {found:?}") };
            assert_eq!(record.members.len(), members);
        }
        assert!(matches!(standing(&bed, &lane, 8).await, Standing::Dead(_)));
        for seq in [11, 12, u64::MAX] {
            assert!(bed.q().trace(seq).await.unwrap().is_empty(), "{seq} is not there yet");
        }
        for seq in [9, 10] {
            assert!(matches!(standing(&bed, &lane, seq).await, Standing::Unsettled), "{seq}");
        }
        bed.crash(0);
        bed.q().open_lane(&lane, Start::New).await.unwrap();
    }
    bed.q().revive(vec![dead_id(&lane, 8)], None).await.unwrap();
    assert!(matches!(standing(&bed, &lane, 8).await, Standing::Retrying(_)));
    bed.settle(&lane, Settle { retries_done: vec![8], delivered: 1, ..Settle::default() }).await;
    assert!(matches!(standing(&bed, &lane, 8).await, Standing::Settled));
    bed.q().abandon_lane(&lane, DeadEnd::Expired).await.unwrap();
    assert!(matches!(standing(&bed, &lane, 9).await, Standing::Settled));
    bed.sound().await;
}

async fn a_source_s_dead_letter_is_found_too(bed: Bed) {
    let reject = Reject {
        reason: RejectReason::Invalid,
        message: "line 1: it is no object".into(),
        raw: "[1]".into(),
    };
    let append = Append { rejects: vec![reject], ..batch("http", NOON, Vec::new()) };
    bed.q().append(append).await.unwrap();
    let page = bed.q().dead_letters(holdfast_queue::DeadQuery {
        limit: 1,
        scan_max: 1,
        ..holdfast_queue::DeadQuery::default()
    });
    let (id, _) = page.await.unwrap().letters.remove(0);
    let traces = bed.q().trace(id.seq).await.unwrap();
    let found = traces.iter().find(|trace| trace.owner == id.owner);
    assert!(matches!(found.unwrap().standing, Standing::Dead(_)), "{traces:?}");
    bed.q().remove_dead(vec![id.clone()], DeadEnd::Purged).await.unwrap();
    assert!(bed.q().trace(id.seq).await.unwrap().is_empty());
}

async fn more_batches_than_one_look_goes_through_are_not_called_settled(bed: Bed) {
    let lane = bed.lane("siem").await;
    bed.append(0..302).await;
    let events = bed.events(1).await;
    let stored = |seq: u64| StoredEvent::of(&events[seq as usize - 1]);
    let records = (0..150).map(|n| retry(vec![stored(2 * n + 2), stored(2 * n + 3)])).collect();
    let spans = vec![Span { from: 1, to: 303, count: 302 }];
    bed.settle(&lane, Settle { spans, retry: records, delivered: 2, ..Settle::default() }).await;
    assert!(matches!(standing(&bed, &lane, 1).await, Standing::Settled));
    assert!(matches!(standing(&bed, &lane, 301).await, Standing::Retrying(_)));
    assert!(matches!(standing(&bed, &lane, 302).await, Standing::Unknown));
}

crate::promises!(
    an_event_is_found_wherever_it_stands,
    a_source_s_dead_letter_is_found_too,
    more_batches_than_one_look_goes_through_are_not_called_settled,
);
