//! Promise 1: when an append returns, all of it is on stable storage, with the source's position.

use bytes::Bytes;
use futures_util::future::join_all;
use holdfast_model::{DeadReason, EventId, Kind, NewEvent, Reject, RejectReason, Timestamp};
use holdfast_queue::{Append, DeadId, QueueEngine};

use crate::{
    bed::Bed,
    make::{NOON, alert, batch, number},
};

async fn an_acknowledged_alert_survives_a_crash_with_its_position(mut bed: Bed) {
    let position = Some(("wazuh".to_owned(), Bytes::from_static(b"offset 300")));
    let append = Append { position, ..batch("wazuh", NOON, (0..300).map(alert).collect()) };
    let appended = bed.q().append(append).await.unwrap();
    assert_eq!((appended.first, appended.last, appended.accepted), (Some(1), Some(300), 300));

    bed.crash(0);
    assert_eq!(bed.numbers(1).await, (0..300).collect::<Vec<_>>());
    assert_eq!(bed.q().source_position("wazuh").await.unwrap().unwrap(), "offset 300");
    assert_eq!(bed.q().source_position("another").await.unwrap(), None);
    bed.sound().await;
}

async fn an_event_keeps_every_field_and_every_byte(mut bed: Bed) {
    let parent = EventId { log: bed.q().log_id().clone(), seq: 7 };
    let body = Bytes::from_static(b"{\"full_log\":\"\xff\xfe\"}");
    let lookup = NewEvent { kind: Kind::Lookup, parent: Some(parent.clone()), body: body.clone() };
    let at = Timestamp(NOON.0 + 5);
    bed.q().append(batch("virustotal", at, vec![lookup])).await.unwrap();
    for round in ["from the ring", "from the store"] {
        let events = bed.events(1).await;
        let event = &events[0];
        assert_eq!((event.seq, event.kind, event.received_at), (1, Kind::Lookup, at), "{round}");
        assert_eq!(
            (&*event.source, &event.parent, &event.body),
            ("virustotal", &Some(parent.clone()), &body)
        );
        bed.crash(0);
    }
}

async fn singles_and_batches_keep_their_order_and_are_numbered_without_gaps(mut bed: Bed) {
    let sizes = [1, 200, 1, 3, 64, 65, 16, 17, 1, 1, 500];
    let mut next = 0;
    for size in sizes {
        let appended = bed.append(next..next + size).await;
        assert_eq!((appended.first, appended.last), (Some(next + 1), Some(next + size)));
        next += size;
    }
    bed.crash(0);
    let events = bed.events(1).await;
    assert!(events.iter().zip(1..).all(|(event, seq)| event.seq == seq));
    assert_eq!(bed.numbers(1).await, (0..next).collect::<Vec<_>>());
    bed.sound().await;
}

async fn whoever_waits_shares_a_commit_and_everyone_gets_its_own_numbers(mut bed: Bed) {
    let writers = (0..200_u64).map(|n| bed.append([n]));
    let appended = join_all(writers).await;
    let events = bed.events(1).await;
    for (n, appended) in (0..).zip(&appended) {
        let seq = appended.first.unwrap();
        let event = events.iter().find(|event| event.seq == seq).unwrap();
        assert_eq!(number(&event.body), n);
    }
    assert!(bed.q().stats().events_in_log == 200);
    bed.crash(0);
    assert_eq!(bed.events(1).await.len(), 200);
    bed.sound().await;
}

async fn a_reject_becomes_a_dead_letter_of_its_source_and_takes_a_number(mut bed: Bed) {
    let reject = |reason, raw: &'static [u8]| Reject {
        reason,
        message: "line 3".into(),
        raw: Bytes::from_static(raw),
    };
    let rejects =
        vec![reject(RejectReason::Invalid, b"\xff{"), reject(RejectReason::TooLong, b"{\"a")];
    let append = Append { rejects, ..batch("wazuh", NOON, vec![alert(1), alert(2)]) };
    let appended = bed.q().append(append).await.unwrap();
    assert_eq!((appended.accepted, appended.rejected, appended.last), (2, 2, Some(2)));
    let after = bed.append([5]).await;
    assert_eq!(after.first, Some(5), "3 and 4 name the dead letters");

    bed.crash(0);
    assert_eq!(bed.numbers(1).await, [1, 2, 5]);
    let owner = DeadId::source_owner("wazuh");
    let ids = bed.dead_ids(&owner).await;
    assert_eq!(ids.iter().map(|id| id.seq).collect::<Vec<_>>(), [3, 4]);
    let letter = bed.q().dead_letter(&ids[0]).await.unwrap().unwrap();
    assert_eq!((letter.reason, &*letter.message), (DeadReason::Invalid, "line 3"));
    assert_eq!((&letter.event.body[..], letter.event.seq), (&b"\xff{"[..], 3));
    assert_eq!(bed.q().dead_boxes()[0].count, 2);
    bed.sound().await;
}

async fn a_batch_of_rejects_alone_moves_the_position_and_leaves_a_gap(mut bed: Bed) {
    let lane = bed.lane("slack").await;
    bed.append([1]).await;
    let raw = Bytes::from_static(b"no json");
    let rejects = vec![Reject { reason: RejectReason::Invalid, message: String::new(), raw }];
    let position = Some(("wazuh".to_owned(), Bytes::from_static(b"2")));
    let append = Append { rejects, position, ..batch("wazuh", NOON, Vec::new()) };
    let appended = bed.q().append(append).await.unwrap();
    assert_eq!((appended.first, appended.last), (None, None));
    bed.append([3]).await;

    bed.crash(0);
    assert_eq!(bed.numbers(1).await, [1, 3]);
    assert_eq!(bed.q().source_position("wazuh").await.unwrap().unwrap(), "2");
    assert_eq!((bed.ledger(&lane).await.seen, *bed.q().head().borrow()), (2, 4));
    bed.sound().await;
}

async fn two_queues_have_different_log_ids_and_one_keeps_its_own(mut bed: Bed) {
    let id = bed.q().log_id().clone();
    assert_ne!(&id, Bed::memory().q().log_id());
    bed.crash(0);
    assert_eq!(&id, bed.q().log_id());
    bed.reopen().await;
    assert_eq!(&id, bed.q().log_id());
}

crate::promises!(
    an_acknowledged_alert_survives_a_crash_with_its_position,
    an_event_keeps_every_field_and_every_byte,
    singles_and_batches_keep_their_order_and_are_numbered_without_gaps,
    whoever_waits_shares_a_commit_and_everyone_gets_its_own_numbers,
    a_reject_becomes_a_dead_letter_of_its_source_and_takes_a_number,
    a_batch_of_rejects_alone_moves_the_position_and_leaves_a_gap,
    two_queues_have_different_log_ids_and_one_keeps_its_own,
);
