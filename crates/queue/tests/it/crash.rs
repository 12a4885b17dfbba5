//! A power cut between any two batches: what was acknowledged is there, the rest is there whole or
//! not at all. In memory, where every such moment can be had.

use bytes::Bytes;
use holdfast_model::{Name, NewEvent, Reject, RejectReason};
use holdfast_queue::{Append, DeadId, QueueEngine, QueueError, Settle, Span, Start, StoredEvent};

use crate::{
    bed::Bed,
    make::{NOON, alert, batch, dead, delivered, noise, retry},
};

/// Runs `check` on what every possible crash leaves of the batches that wait for a sync.
pub(crate) async fn at_every_crash(bed: &Bed, mut check: impl AsyncFnMut(&mut Bed, bool)) {
    let batches = bed.memory_store().unsynced();
    for kept in 0..=batches {
        let mut after = bed.after_crash(kept);
        check(&mut after, kept == batches).await;
        after.sound().await;
        // And it goes on.
        after.append([1, 2]).await;
        after.sound().await;
    }
}

async fn events_and_rejects(bed: &Bed) -> (u64, u64) {
    let rejects = bed.dead_ids(&DeadId::source_owner("wazuh")).await.len() as u64;
    (bed.events(1).await.len() as u64, rejects)
}

#[tokio::test]
async fn position_and_events_agree_after_a_crash_at_every_possible_point() {
    let bed = Bed::memory();
    let reject =
        || Reject { reason: RejectReason::Invalid, message: String::new(), raw: noise(100, 1) };
    let mut appends = Vec::new();
    let mut taken = (0, 0);
    for n in 0..600_u64 {
        let (events, rejects) = ([1, 1, 30, 1, 200, 0][n as usize % 6], u64::from(n % 9 == 0) * 2);
        taken = (taken.0 + events, taken.1 + rejects);
        let position = Bytes::from(format!("{} {}", taken.0, taken.1));
        appends.push(Append {
            rejects: (0..rejects).map(|_| reject()).collect(),
            position: Some(("wazuh".into(), position)),
            from_source: false,
            ..batch("wazuh", NOON, (0..events).map(alert).collect())
        });
    }
    bed.hold_syncs();
    let appends = appends.into_iter().map(|append| bed.q().append(append));
    let results = bed.in_one_group(appends).await;
    assert!(results.iter().all(|result| matches!(result, Err(QueueError::Failed { .. }))));
    assert!(bed.memory_store().unsynced() > 10);

    at_every_crash(&bed, async |after, _| {
        let position = after.q().source_position("wazuh").await.unwrap();
        let position = position.unwrap_or_else(|| Bytes::from_static(b"0 0"));
        let (events, rejects) = events_and_rejects(after).await;
        assert_eq!(position, format!("{events} {rejects}"));
    })
    .await;
}

#[tokio::test]
async fn an_event_too_large_for_one_batch_is_there_whole_or_not_at_all() {
    let bed = Bed::memory();
    bed.append([1]).await;
    bed.hold_syncs();
    let body = noise(3 * 1024 * 1024, 7);
    let position = Some(("wazuh".to_owned(), Bytes::from_static(b"behind it")));
    let events = vec![alert(2), NewEvent::alert(body.clone()), alert(3)];
    let append = Append { position, ..batch("wazuh", NOON, events) };
    bed.q().append(append).await.unwrap_err();
    assert!(bed.memory_store().unsynced() > 2, "it was staged");

    at_every_crash(&bed, async |after, whole| {
        let events = after.events(1).await;
        let position = after.q().source_position("wazuh").await.unwrap();
        match events.len() {
            1 => assert!(position.is_none() && !whole),
            4 => assert!(position.is_some() && events[2].body == body),
            other => panic!("{other} events"),
        }
    })
    .await;
}

#[tokio::test]
async fn a_retry_record_in_parts_replaces_the_old_one_whole_or_not_at_all() {
    let bed = Bed::memory();
    let lane = bed.lane("slack").await;
    let bodies = (0..6).map(|n| NewEvent::alert(noise(1024 * 1024, n))).collect();
    bed.try_append(bodies).await.unwrap();
    let events = bed.events(1).await;
    let members = |range: std::ops::Range<usize>| -> Vec<StoredEvent> {
        events[range].iter().map(|event| StoredEvent::of(event)).collect()
    };
    let spans = vec![Span { from: 1, to: 7, count: 6 }];
    let retry_all = vec![retry(members(0..5))];
    bed.settle(&lane, Settle { spans, retry: retry_all, delivered: 1, ..Settle::default() }).await;

    bed.hold_syncs();
    // The batch halves: one part waits on, one is dead, one was delivered.
    let halved = Settle {
        retries_done: vec![1],
        delivered: 1,
        retry: vec![retry(members(0..2)), retry(members(2..3))],
        dead: vec![dead(members(4..5).remove(0))],
        ..Settle::default()
    };
    bed.q().settle(&lane, vec![halved]).await.unwrap_err();
    assert!(bed.memory_store().unsynced() > 4, "both ends of it were staged");

    at_every_crash(&bed, async |after, whole| {
        let retries = after.q().open_lane(&lane, Start::All).await.unwrap().retries;
        let ledger = after.ledger(&lane).await;
        let ids: Vec<_> = retries.iter().map(|head| (head.id, head.members)).collect();
        if ids == [(1, 5)] {
            assert!(!whole);
            assert_eq!((ledger.retrying, ledger.dead, ledger.delivered), (5, 0, 1));
        } else {
            assert_eq!(ids, [(1, 2), (3, 1)]);
            assert_eq!((ledger.retrying, ledger.dead, ledger.delivered), (3, 1, 2));
        }
        let record = after.q().retry(&lane, 1).await.unwrap().unwrap();
        assert_eq!(record.members, members(0..record.members.len()));
    })
    .await;
}

#[tokio::test]
async fn settlements_of_several_lanes_and_appends_in_one_group_survive_in_order() {
    let bed = Bed::memory();
    let names = ["a", "b", "c"];
    for name in names {
        bed.lane(name).await;
    }
    bed.append(0..400).await;
    let events = bed.events(1).await;
    bed.hold_syncs();
    let settle = |name: &str, seq: u64| {
        let (name, stored) = (Name::new(name).unwrap(), StoredEvent::of(&events[seq as usize - 1]));
        let spans = vec![Span::one(seq)];
        let item = match seq % 3 {
            0 => Settle { spans, retry: vec![retry(vec![stored])], ..Settle::default() },
            1 => Settle { spans, dead: vec![dead(stored)], ..Settle::default() },
            _ => delivered([seq]),
        };
        let bed = &bed;
        async move { bed.q().settle(&name, vec![item]).await.unwrap_err() }
    };
    let each = names.iter().flat_map(|name| (1..=300).map(move |seq| (name, seq)));
    bed.in_one_group(each.map(|(name, seq)| settle(name, seq))).await;
    assert!(bed.memory_store().unsynced() > 2);

    at_every_crash(&bed, async |after, whole| {
        for name in names {
            let ledger = after.ledger(&Name::new(name).unwrap()).await;
            // In order, so what survived is everything up to some number.
            let settled = ledger.delivered + ledger.retrying + ledger.dead;
            assert_eq!(ledger.delivered, settled.div_ceil(3) - u64::from(settled % 3 == 1));
            assert!(!whole || settled == 300);
        }
    })
    .await;
}

#[tokio::test]
async fn the_undoing_of_a_crashed_write_can_itself_be_cut_short() {
    let bed = Bed::memory();
    bed.hold_syncs();
    let events = (0..5).map(|n| NewEvent::alert(noise(1024 * 1024, n))).collect();
    bed.try_append(events).await.unwrap_err();
    let batches = bed.memory_store().unsynced();

    // All but the last batch, whose start undoes the rest but never gets to sync it.
    let torn = bed.memory_store().crash(batches - 1);
    torn.fail_sync.store(true, std::sync::atomic::Ordering::SeqCst);
    let torn = std::sync::Arc::new(torn);
    let limits = crate::bed::limits();
    let path = std::path::Path::new("bed");
    let started = holdfast_queue::Engine::start(torn.clone(), limits, NOON, path);
    assert!(started.is_err());
    for kept in 0..=torn.unsynced() {
        let mut after = Bed::over(std::sync::Arc::new(torn.crash(kept)));
        assert_eq!(after.events(1).await.len(), 0);
        after.sound().await;
    }
}
