//! Promise 5: dead letters stay until a person, or their age limit, removes them; both are counted.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::Either;
use holdfast_model::{DeadReason, Name, NewEvent, Reject, RejectReason, Timestamp};
use holdfast_queue::{
    Append, DEAD_STEP_MAX, DeadEnd, DeadId, DeadLetter, DeadQuery, QueueEngine, Settle, Span,
    StoredEvent,
};

use crate::{
    bed::Bed,
    make::{NOON, alert, batch, dead, dead_id, noise, number},
};

/// A lane in which these many events are dead, each a second after the one before.
async fn with_dead(bed: &Bed, name: &str, count: u64) -> Name {
    let lane = bed.lane(name).await;
    let position = bed.q().lanes().iter().find(|l| l.name == lane).unwrap().position;
    bed.append(0..count).await;
    let events = bed.events(position).await;
    let died_at = |seq: u64| Timestamp(NOON.0 + seq * 1_000);
    let letters = events.iter().map(|event| DeadLetter {
        died_at: died_at(event.seq),
        reason: if event.seq % 2 == 0 { DeadReason::Refused } else { DeadReason::TooOld },
        ..dead(StoredEvent::of(event))
    });
    let to = *bed.q().head().borrow();
    let spans = vec![Span { from: position, to, count: events.len() as u64 }];
    bed.settle(&lane, Settle { spans, dead: letters.collect(), ..Settle::default() }).await;
    lane
}

async fn seqs(bed: &Bed, query: DeadQuery) -> Vec<u64> {
    let mut found = Vec::new();
    let mut query = DeadQuery { scan_max: 7, limit: 3, ..query };
    loop {
        let page = bed.q().dead_letters(query.clone()).await.unwrap();
        assert!(page.letters.len() <= 3);
        found.extend(page.letters.iter().map(|(id, _)| id.seq));
        let Some(next) = page.next else { return found };
        query.after = Some(next);
    }
}

async fn dead_letters_survive_and_are_found_by_owner_reason_time_and_rule(mut bed: Bed) {
    let lane = with_dead(&bed, "slack", 40).await;
    with_dead(&bed, "slack-2", 5).await;
    bed.crash(0);
    let owner = Some(lane.to_string());
    let of = |query: DeadQuery| DeadQuery { owner: owner.clone(), ..query };
    assert_eq!(seqs(&bed, of(DeadQuery::default())).await, (1..=40).collect::<Vec<_>>());
    let refused = of(DeadQuery { reason: Some(DeadReason::Refused), ..DeadQuery::default() });
    assert_eq!(seqs(&bed, refused).await, (1..=20).map(|n| 2 * n).collect::<Vec<_>>());
    let at = |seq: u64| Some(Timestamp(NOON.0 + seq * 1_000));
    let between = of(DeadQuery { since: at(10), until: at(13), ..DeadQuery::default() });
    assert_eq!(seqs(&bed, between).await, [10, 11, 12]);
    let rule = of(DeadQuery { rule_id: Some("3".into()), ..DeadQuery::default() });
    let of_rule: Vec<u64> = (1..=40).filter(|seq| (seq - 1) % 7 == 3).collect();
    assert_eq!(seqs(&bed, rule).await, of_rule);
    let all = seqs(&bed, DeadQuery::default()).await;
    assert_eq!(all.len(), 45 + 40, "the second lane took the first one's events, too");
    bed.sound().await;
}

async fn a_removed_dead_letter_is_counted_as_purged_or_expired(mut bed: Bed) {
    let lane = with_dead(&bed, "slack", 10).await;
    // Twice the same, and one that is not there.
    let ids: Vec<DeadId> = [1, 2, 2, 99].iter().map(|seq| dead_id(&lane, *seq)).collect();
    assert_eq!(bed.q().remove_dead(ids, DeadEnd::Purged).await.unwrap(), 2);
    let expired = vec![dead_id(&lane, 3)];
    assert_eq!(bed.q().remove_dead(expired, DeadEnd::Expired).await.unwrap(), 1);
    bed.crash(0);
    let ledger = bed.ledger(&lane).await;
    assert_eq!((ledger.dead, ledger.purged, ledger.expired), (7, 2, 1));
    bed.sound().await;
}

async fn one_call_removes_no_more_than_one_step(mut bed: Bed) {
    let lane = with_dead(&bed, "slack", 100).await;
    let ids: Vec<DeadId> = (1..=100).map(|seq| dead_id(&lane, seq)).collect();
    let removed = bed.q().remove_dead(ids.clone(), DeadEnd::Purged).await.unwrap();
    assert_eq!(removed, DEAD_STEP_MAX as u64);
    assert_eq!(bed.q().revive(ids[50..].to_vec(), None).await.unwrap().len(), DEAD_STEP_MAX);
    bed.sound().await;
}

async fn a_revived_dead_letter_is_pending_again_with_its_history(mut bed: Bed) {
    let lane = with_dead(&bed, "slack", 5).await;
    let ids = vec![dead_id(&lane, 2), dead_id(&lane, 2), dead_id(&lane, 4), dead_id(&lane, 77)];
    let source = DeadId { owner: DeadId::source_owner("wazuh"), seq: 1 };
    let heads = bed.q().revive([ids, vec![source]].concat(), Some(9)).await.unwrap();
    assert_eq!(
        heads.iter().map(|head| (head.id, head.job)).collect::<Vec<_>>(),
        [(2, Some(9)), (4, Some(9))]
    );
    bed.crash(0);
    let ledger = bed.ledger(&lane).await;
    assert_eq!((ledger.dead, ledger.retrying, ledger.pending()), (3, 2, 2));
    let record = bed.q_retry(&lane, 4).await.unwrap();
    assert_eq!((record.tries, record.job, number(&record.members[0].body)), (1, Some(9), 3));
    bed.sound().await;

    // It dies once more, and is brought back once more.
    let letter = dead(record.members[0].clone());
    bed.settle(&lane, Settle { retries_done: vec![4], dead: vec![letter], ..Settle::default() })
        .await;
    assert_eq!(bed.q().revive(vec![dead_id(&lane, 4)], None).await.unwrap().len(), 1);
    assert_eq!(bed.ledger(&lane).await.retrying, 2);
    bed.sound().await;
}

async fn a_job_s_moves_are_counted_with_the_moves_themselves(mut bed: Bed) {
    let lane = with_dead(&bed, "slack", 5).await;
    let job = bed.q().put_job(crate::lanes::job(&lane, "{}".into())).await.unwrap();
    let ids = vec![dead_id(&lane, 2), dead_id(&lane, 4), dead_id(&lane, 77)];
    bed.q().revive(ids.clone(), Some(job.id)).await.unwrap();
    bed.crash(0);
    // As after a crash that took the answer: what is moved already is not counted again.
    bed.q().revive(ids, Some(job.id)).await.unwrap();
    let job = bed.q().jobs().await.unwrap().remove(0);
    assert_eq!((job.moved, job.cursor), (2, Some(dead_id(&lane, 4))));
    bed.sound().await;
}

async fn what_is_settled_and_revived_in_one_commit_is_not_missed(mut bed: Bed) {
    let lane = bed.lane("slack").await;
    bed.append([1]).await;
    let event = StoredEvent::of(&bed.events(1).await[0]);
    let died = Settle { spans: vec![Span::one(1)], dead: vec![dead(event)], ..Settle::default() };
    let settled = bed.q().settle(&lane, vec![died]);
    let revived = bed.q().revive(vec![dead_id(&lane, 1)], None);
    let (settled, revived) = tokio::join!(settled, revived);
    settled.unwrap();
    assert_eq!(revived.unwrap().len(), 1);
    assert_eq!(bed.ledger(&lane).await.retrying, 1);
    bed.sound().await;
}

#[tokio::test]
async fn what_dies_and_is_purged_in_one_commit_is_gone_and_counted() {
    let mut bed = Bed::memory();
    let lane = bed.lane("slack").await;
    bed.append([1]).await;
    let event = StoredEvent::of(&bed.events(1).await[0]);
    let died = Settle { spans: vec![Span::one(1)], dead: vec![dead(event)], ..Settle::default() };
    let settle = async { bed.q().settle(&lane, vec![died]).await.map(|()| 0) };
    let purge = bed.q().remove_dead(vec![dead_id(&lane, 1)], DeadEnd::Purged);
    let both = [Either::Left(settle), Either::Right(purge)];
    let results = bed.in_one_group(both.into_iter()).await;
    assert_eq!(results.last().unwrap().as_ref().unwrap(), &1);
    let ledger = bed.ledger(&lane).await;
    assert_eq!((ledger.dead, ledger.purged), (0, 1));
    bed.sound().await;
}

async fn dead_letters_past_their_age_expire_whatever_their_number(mut bed: Bed) {
    let lane = bed.lane("slack").await;
    bed.append(0..120).await;
    let events = bed.events(1).await;
    // The lowest numbers died last: they were tried for long.
    let letters = events.iter().map(|event| DeadLetter {
        died_at: Timestamp(NOON.0 - event.seq * 3_600_000),
        ..dead(StoredEvent::of(event))
    });
    let spans = vec![Span { from: 1, to: 121, count: 120 }];
    bed.settle(&lane, Settle { spans, dead: letters.collect(), ..Settle::default() }).await;
    bed.reopen_with(|limits| limits.dead_age_max = Duration::from_secs(100 * 3600)).await;
    for _ in 0..10 {
        bed.upkeep_at(NOON).await;
    }
    let left = bed.dead_ids("slack").await;
    assert_eq!(left.iter().map(|id| id.seq).collect::<Vec<_>>(), (1..=100).collect::<Vec<_>>());
    let ledger = bed.ledger(&lane).await;
    assert_eq!((ledger.dead, ledger.expired), (100, 20));
    bed.sound().await;
}

async fn large_dead_letters_are_removed_and_revived_whole(mut bed: Bed) {
    let lane = bed.lane("slack").await;
    let bodies = [noise(1024 * 1024, 1), noise(4 * 1024 * 1024, 2), noise(1024 * 1024, 3)];
    bed.try_append(bodies.iter().cloned().map(NewEvent::alert).collect()).await.unwrap();
    let events = bed.events(1).await;
    let letters = events.iter().map(|event| dead(StoredEvent::of(event))).collect();
    let spans = vec![Span { from: 1, to: 4, count: 3 }];
    bed.settle(&lane, Settle { spans, dead: letters, ..Settle::default() }).await;
    let ids = vec![dead_id(&lane, 1), dead_id(&lane, 2)];
    assert_eq!(bed.q().revive(ids, None).await.unwrap().len(), 2);
    let gone = vec![dead_id(&lane, 3)];
    assert_eq!(bed.q().remove_dead(gone, DeadEnd::Purged).await.unwrap(), 1);
    bed.crash(0);
    assert_eq!(bed.q_retry(&lane, 2).await.unwrap().members[0].body, bodies[1]);
    let ledger = bed.ledger(&lane).await;
    assert_eq!((ledger.retrying, ledger.dead, ledger.purged), (2, 0, 1));
    bed.sound().await;
}

async fn dead_letters_of_a_source_are_purged_by_a_person(mut bed: Bed) {
    let raw = Bytes::from_static(b"no json");
    let reject = Reject { reason: RejectReason::Invalid, message: String::new(), raw };
    let append = Append { rejects: vec![reject; 3], ..batch("wazuh", NOON, vec![alert(0)]) };
    bed.q().append(append).await.unwrap();
    let ids = bed.dead_ids(&DeadId::source_owner("wazuh")).await;
    assert_eq!(bed.q().remove_dead(ids[..2].to_vec(), DeadEnd::Purged).await.unwrap(), 2);
    bed.crash(0);
    assert_eq!(bed.q().dead_boxes()[0].count, 1);
    bed.sound().await;
}

crate::promises!(
    dead_letters_survive_and_are_found_by_owner_reason_time_and_rule,
    a_removed_dead_letter_is_counted_as_purged_or_expired,
    one_call_removes_no_more_than_one_step,
    a_revived_dead_letter_is_pending_again_with_its_history,
    a_job_s_moves_are_counted_with_the_moves_themselves,
    what_is_settled_and_revived_in_one_commit_is_not_missed,
    dead_letters_past_their_age_expire_whatever_their_number,
    large_dead_letters_are_removed_and_revived_whole,
    dead_letters_of_a_source_are_purged_by_a_person,
);
