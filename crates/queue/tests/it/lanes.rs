//! Lanes, their state and their end; jobs and the audit trail.

use futures_util::future::Either;
use holdfast_model::{LaneState, Name, Timestamp};
use holdfast_queue::{
    AuditEntry, DeadEnd, JobProgress, JobRecord, JobState, QueueEngine, Settle, Span, Start,
    StoredEvent, StoredState,
};

use crate::{
    bed::Bed,
    make::{NOON, delivered, retry},
};

async fn a_new_lane_begins_at_the_head_or_with_everything(mut bed: Bed) {
    bed.append(0..10).await;
    let (new, all) = (Name::new("new").unwrap(), Name::new("all").unwrap());
    assert_eq!(bed.q().open_lane(&new, Start::New).await.unwrap().position, 11);
    assert_eq!(bed.q().open_lane(&all, Start::All).await.unwrap().position, 1);
    bed.append(10..15).await;
    bed.crash(0);
    // A lane that is known goes on where it was, whatever it would begin with.
    assert_eq!(bed.q().open_lane(&new, Start::All).await.unwrap().position, 11);
    assert_eq!(bed.q().open_lane(&all, Start::New).await.unwrap().position, 1);
    assert_eq!((bed.ledger(&new).await.seen, bed.ledger(&all).await.seen), (5, 15));
    bed.sound().await;
}

async fn a_lane_that_begins_with_everything_counts_only_what_the_log_still_has(mut bed: Bed) {
    let first = bed.lane("first").await;
    bed.append(0..128).await;
    bed.settle(&first, delivered(1..=128)).await;
    bed.append(128..130).await;
    bed.upkeep_at(Timestamp(NOON.0 + 2 * 24 * 3_600_000)).await;
    let late = Name::new("late").unwrap();
    assert_eq!(bed.q().open_lane(&late, Start::All).await.unwrap().position, 129);
    assert_eq!(bed.ledger(&late).await.seen, 2);
    bed.sound().await;
}

async fn a_lane_opened_while_its_first_events_are_being_stored_misses_none(mut bed: Bed) {
    let lane = Name::new("slack").unwrap();
    let (_, open) = tokio::join!(bed.append([1]), bed.q().open_lane(&lane, Start::All));
    assert_eq!(open.unwrap().position, 1);
    assert_eq!(bed.ledger(&lane).await.unsettled, 1);
    bed.sound().await;
}

async fn a_lane_s_state_survives_a_restart(mut bed: Bed) {
    let lane = bed.lane("slack").await;
    let until = Timestamp(NOON.0 + 60_000);
    let state = LaneState::Throttled { until };
    let stored = StoredState { state, reason: "429".into(), since: NOON };
    bed.q().set_lane_state(&lane, stored.clone()).await.unwrap();
    bed.crash(0);
    assert_eq!(bed.q().lanes()[0].state, stored);
    assert_eq!(bed.q().open_lane(&lane, Start::New).await.unwrap().state, stored);
}

async fn after_an_orderly_end_nothing_is_in_doubt(mut bed: Bed) {
    let lane = bed.lane("slack").await;
    bed.reopen().await;
    assert!(!bed.q().open_lane(&lane, Start::New).await.unwrap().unclean);
    bed.crash(0);
    assert!(bed.q().open_lane(&lane, Start::New).await.unwrap().unclean);
    // Opened again in one run, as a reload does: it was closed in order.
    assert!(!bed.q().open_lane(&lane, Start::New).await.unwrap().unclean);
}

async fn a_lane_without_a_destination_is_an_orphan_and_its_age_is_known(mut bed: Bed) {
    bed.lane("slack").await;
    let later = Timestamp(NOON.0 + 8 * 24 * 3_600_000);
    bed.upkeep_at(later).await;
    bed.crash(0);
    let orphan = &bed.q().lanes()[0];
    assert!(!orphan.open);
    assert_eq!(orphan.last_open_at, later, "though nothing was settled for days");
}

async fn an_abandoned_lane_has_everything_settled_as_expired(mut bed: Bed) {
    let lane = bed.lane("slack").await;
    bed.append(0..100).await;
    let stored: Vec<_> = bed.events(1).await[..3].iter().map(|e| StoredEvent::of(e)).collect();
    let item = Settle {
        spans: vec![Span { from: 1, to: 4, count: 3 }, Span::one(50)],
        delivered: 1,
        retry: vec![retry(stored)],
        ..Settle::default()
    };
    bed.settle(&lane, item).await;
    // Events of the same commit belong to it as well.
    let (_, expired) =
        tokio::join!(bed.append([100, 101]), bed.q().abandon_lane(&lane, DeadEnd::Expired));
    assert_eq!(expired.unwrap(), 101);
    bed.crash(0);
    let ledger = bed.ledger(&lane).await;
    assert_eq!((ledger.pending(), ledger.expired, ledger.delivered), (0, 101, 1));
    bed.sound().await;
}

#[tokio::test]
async fn what_is_appended_and_abandoned_in_one_commit_is_expired() {
    let mut bed = Bed::memory();
    let lane = bed.lane("slack").await;
    let append = bed.append_own([1, 2, 3]);
    let abandon = async { bed.q().abandon_lane(&lane, DeadEnd::Expired).await.map(|_| ()) };
    for result in bed.in_one_group([Either::Left(append), Either::Right(abandon)].into_iter()).await
    {
        result.unwrap();
    }
    let ledger = bed.ledger(&lane).await;
    assert_eq!((ledger.unsettled, ledger.expired, ledger.imbalance()), (0, 3, 0));
    bed.sound().await;
}

pub(crate) fn job(lane: &Name, request: String) -> JobRecord {
    let idempotency_key = Some("k".into());
    JobRecord { request, idempotency_key, total: 3, ..JobRecord::new(lane.clone(), NOON) }
}

async fn a_job_s_progress_is_stored_with_the_settlements_that_made_it(mut bed: Bed) {
    let lane = bed.lane("slack").await;
    bed.append(0..3).await;
    let first = bed.q().put_job(job(&lane, "{}".into())).await.unwrap();
    let second = bed
        .q()
        .put_job(job(
            &lane,
            crate::make::noise(40_000, 1).iter().map(|b| format!("{b:02x}")).collect(),
        ))
        .await
        .unwrap();
    assert_eq!((first.id, second.id), (1, 2));
    let progress = JobProgress { delivered: 1, duplicate: 0, failed: 1 };
    let jobs = vec![(1, progress), (1, progress), (99, progress)];
    bed.settle(&lane, Settle { jobs, ..delivered([1]) }).await;
    // A change of the job does not set back what is counted elsewhere.
    let paused = JobRecord { state: JobState::Paused, moved: 2, ..first };
    bed.q().put_job(paused).await.unwrap();
    bed.crash(0);
    let jobs = bed.q().jobs().await.unwrap();
    assert_eq!(jobs.len(), 2);
    assert_eq!((jobs[0].state, jobs[0].moved), (JobState::Paused, 0));
    assert_eq!(jobs[0].progress, JobProgress { delivered: 2, duplicate: 0, failed: 2 });
    assert_eq!(jobs[1], second);
    assert_eq!(bed.q().put_job(job(&lane, "{}".into())).await.unwrap().id, 3);
}

async fn the_audit_trail_gives_the_newest_entries_first(mut bed: Bed) {
    for n in 0..5 {
        let entry = AuditEntry {
            at: NOON,
            who: "soc".into(),
            action: "purge".into(),
            subject: format!("dead letter {n}"),
            detail: String::new(),
        };
        bed.q().add_audit(entry).await.unwrap();
    }
    bed.crash(0);
    let subjects = |entries: Vec<AuditEntry>| -> Vec<String> {
        entries.into_iter().map(|entry| entry.subject).collect()
    };
    let newest = subjects(bed.q().audit(2).await.unwrap());
    assert_eq!(newest, ["dead letter 4", "dead letter 3"]);
    assert_eq!(bed.q().audit(100).await.unwrap().len(), 5);
}

crate::promises!(
    a_new_lane_begins_at_the_head_or_with_everything,
    a_lane_that_begins_with_everything_counts_only_what_the_log_still_has,
    a_lane_opened_while_its_first_events_are_being_stored_misses_none,
    a_lane_s_state_survives_a_restart,
    after_an_orderly_end_nothing_is_in_doubt,
    a_lane_without_a_destination_is_an_orphan_and_its_age_is_known,
    an_abandoned_lane_has_everything_settled_as_expired,
    a_job_s_progress_is_stored_with_the_settlements_that_made_it,
    the_audit_trail_gives_the_newest_entries_first,
);
