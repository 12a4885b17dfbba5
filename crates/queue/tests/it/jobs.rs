//! Jobs with a lane of their own: over a stretch of the log, or filled with copies of dead letters.

use holdfast_model::{Name, NewEvent, Timestamp};
use holdfast_queue::{
    AuditEntry, DEAD_STEP_MAX, JOBS_ENDED_MAX, JobRecord, JobState, LogStretch, QueueEngine,
    Settle, Span, StoredEvent, job_of_lane,
};

use crate::{
    bed::Bed,
    lanes::job,
    make::{NOON, batch, dead, dead_id, delivered, noise, retry},
};

const DAY_MS: u64 = 24 * 3_600_000;

async fn log_job(bed: &Bed, lane: &Name, from: u64, to: u64) -> (JobRecord, Name) {
    let log = Some(LogStretch { from, to, filter: "{}".into(), ignore_when: false });
    let job = bed.q().put_job(JobRecord { log, ..job(lane, "{}".into()) }).await.unwrap();
    let own = job.own_lane().unwrap();
    assert_eq!(job_of_lane(own.as_str()), Some(job.id));
    (job, own)
}

async fn state_of(bed: &Bed, id: u64) -> Option<(JobState, String)> {
    let jobs = bed.q().jobs().await.unwrap();
    jobs.into_iter().find(|job| job.id == id).map(|job| (job.state, job.problem))
}

fn lane_names(bed: &Bed) -> Vec<String> {
    bed.q().lanes().iter().map(|lane| lane.name.to_string()).collect()
}

async fn a_job_s_lane_sees_its_stretch_of_the_log_and_goes_with_the_job(mut bed: Bed) {
    let live = bed.lane("slack").await;
    bed.append(0..200).await;
    bed.settle(&live, delivered(1..=200)).await;
    let (job, own) = log_job(&bed, &live, 51, 150).await;
    bed.append(200..300).await;
    let ledger = bed.ledger(&own).await;
    assert_eq!((ledger.seen, ledger.unsettled), (99, 99), "nothing before, nothing behind");
    bed.crash(0);
    bed.lane(own.as_str()).await;
    let event = bed.events(60).await.remove(0);
    let record = retry(vec![StoredEvent::of(&event)]);
    let spans = vec![Span { from: 51, to: 61, count: 10 }];
    bed.settle(&own, Settle { spans, retry: vec![record], ..delivered(51..60) }).await;
    let letter = dead(StoredEvent::of(&bed.events(61).await.remove(0)));
    let died = Settle { dead: vec![letter], spans: vec![Span::one(61)], ..Settle::default() };
    bed.settle(&own, died).await;
    let ledger = bed.ledger(&own).await;
    assert_eq!((ledger.delivered, ledger.retrying, ledger.dead, ledger.unsettled), (9, 1, 1, 88));
    bed.sound().await;
    let ended = bed.q().end_job(job.id, JobState::Cancelled, String::new(), NOON).await.unwrap();
    assert_eq!(ended.map(|job| job.state), Some(JobState::Cancelled));
    assert_eq!(lane_names(&bed), ["slack"]);
    assert_eq!(bed.dead_ids(own.as_str()).await.len(), 1, "its dead letters stay");
    // Whatever is said about it later.
    bed.q().put_job(JobRecord { state: JobState::Running, ..job.clone() }).await.unwrap();
    bed.q().end_job(job.id, JobState::Done, String::new(), NOON).await.unwrap();
    bed.crash(0);
    assert_eq!(state_of(&bed, job.id).await, Some((JobState::Cancelled, String::new())));
    assert_eq!(lane_names(&bed), ["slack"]);
    bed.sound().await;
}

async fn a_job_that_asks_for_more_than_the_log_has_gets_what_it_has(mut bed: Bed) {
    let live = bed.lane("slack").await;
    bed.append(0..128).await;
    bed.settle(&live, delivered(1..=128)).await;
    bed.upkeep_at(Timestamp(NOON.0 + 2 * DAY_MS)).await;
    bed.append(128..192).await;
    let (job, own) = log_job(&bed, &live, 0, u64::MAX).await;
    let log = job.log.unwrap();
    assert_eq!((log.from, log.to), (129, 193));
    assert_eq!(bed.ledger(&own).await.unsettled, 64);
    let (_, empty) = log_job(&bed, &live, 190, 150).await;
    assert_eq!(bed.ledger(&empty).await.seen, 0);
    bed.sound().await;
}

async fn what_a_job_needs_outlives_the_retention_and_no_longer_than_it_needs_it(mut bed: Bed) {
    let live = bed.lane("slack").await;
    bed.append(0..256).await;
    bed.settle(&live, delivered(1..=256)).await;
    let (_, own) = log_job(&bed, &live, 65, 129).await;
    let later = Timestamp(NOON.0 + 30 * DAY_MS);
    bed.upkeep_at(later).await;
    assert_eq!(bed.q().stats().events_in_log, 192, "what comes before it is not needed");
    bed.settle(&own, delivered(65..129)).await;
    bed.upkeep_at(later).await;
    assert_eq!(bed.q().stats().events_in_log, 0, "at its end it holds nothing");
    let ledger = bed.ledger(&own).await;
    assert_eq!((ledger.seen, ledger.delivered), (64, 64));
    bed.sound().await;
}

async fn a_full_queue_takes_from_a_job_what_it_still_needed_and_says_so(mut bed: Bed) {
    let live = bed.lane("slack").await;
    let kib = |n: u64| NewEvent::alert(noise(1_000, n));
    bed.try_append((0..128).map(kib).collect()).await.unwrap();
    bed.settle(&live, delivered(1..=128)).await;
    let bytes_max = bed.q().stats().bytes_live + 20_000;
    bed.reopen_with(|limits| limits.bytes_max = bytes_max).await;
    let (job, own) = log_job(&bed, &live, 1, 129).await;
    bed.q().append(batch("wazuh", bed.now, (200..300).map(kib).collect())).await.unwrap();
    let (state, problem) = state_of(&bed, job.id).await.unwrap();
    assert_eq!(state, JobState::Failed);
    assert!(problem.contains("full"), "{problem}");
    assert_eq!(lane_names(&bed), ["slack"]);
    assert!(bed.q().settle(&own, vec![delivered([1])]).await.is_err(), "its lane is gone");
    bed.sound().await;
}

async fn dead_letters_are_copied_to_a_job_s_lane_and_stay_where_they_are(mut bed: Bed) {
    let (live, other) = (bed.lane("slack").await, bed.lane("jira").await);
    bed.append(0..10).await;
    let letters = bed.events(1).await.iter().map(|event| dead(StoredEvent::of(event))).collect();
    let spans = vec![Span { from: 1, to: 11, count: 10 }];
    bed.settle(&live, Settle { spans, dead: letters, ..Settle::default() }).await;
    let owner = Some(live.to_string());
    let job = JobRecord { owner, ..job(&other, "{}".into()) };
    let job = bed.q().put_job(job).await.unwrap();
    let own = job.own_lane().unwrap();
    let ids: Vec<_> = (1..=7).map(|seq| dead_id(&live, seq)).collect();
    assert!(ids.len() <= DEAD_STEP_MAX);
    let heads = bed.q().copy_dead(ids.clone(), job.id).await.unwrap();
    assert_eq!(heads.len(), 7);
    assert!(bed.q().copy_dead(ids, job.id).await.unwrap().is_empty(), "they wait already");
    bed.append(10..20).await;
    bed.crash(0);
    let ledger = bed.ledger(&own).await;
    assert_eq!((ledger.seen, ledger.retrying, ledger.imbalance()), (7, 7, 0));
    assert_eq!(bed.ledger(&live).await.dead, 10);
    let stored = bed.q().jobs().await.unwrap().remove(0);
    assert_eq!((stored.moved, stored.cursor), (7, Some(dead_id(&live, 7))));
    bed.lane(own.as_str()).await;
    bed.settle(&own, Settle { retries_done: vec![1, 2], delivered: 2, ..Settle::default() }).await;
    bed.sound().await;
    bed.upkeep_at(Timestamp(NOON.0 + 2 * DAY_MS)).await;
    bed.q().end_job(job.id, JobState::Cancelled, String::new(), NOON).await.unwrap();
    assert_eq!(lane_names(&bed), ["jira", "slack"]);
    bed.sound().await;
}

async fn jobs_that_ended_are_kept_up_to_a_number_and_an_age(mut bed: Bed) {
    let live = bed.lane("slack").await;
    let ended = |id: u64| JobRecord {
        state: JobState::Done,
        ended_at: Some(Timestamp(NOON.0 + id)),
        ..job(&live, "{}".into())
    };
    let puts = (0..JOBS_ENDED_MAX as u64 + 40).map(|id| bed.q().put_job(ended(id)));
    for put in puts {
        put.await.unwrap();
    }
    let running = bed.q().put_job(job(&live, "{}".into())).await.unwrap();
    for _ in 0..3 {
        bed.upkeep_at(NOON).await;
    }
    bed.crash(0);
    let jobs = bed.q().jobs().await.unwrap();
    assert_eq!((jobs.len(), jobs[0].id), (JOBS_ENDED_MAX + 1, 41));
    for _ in 0..40 {
        bed.upkeep_at(Timestamp(NOON.0 + 31 * DAY_MS)).await;
    }
    let jobs = bed.q().jobs().await.unwrap();
    assert_eq!(jobs.iter().map(|job| job.id).collect::<Vec<_>>(), [running.id]);
    bed.sound().await;
}

/// A job whose lane's record is damaged sends nothing that nobody asked for.
#[tokio::test]
async fn a_job_whose_place_is_lost_has_failed() {
    let mut bed = Bed::memory();
    let live = bed.lane("slack").await;
    bed.append(0..100).await;
    let (job, own) = log_job(&bed, &live, 11, 50).await;
    bed.settle(&own, delivered(11..20)).await;
    let mut key = b"l".to_vec();
    key.extend_from_slice(own.as_str().as_bytes());
    key.extend_from_slice(b"\0\0");
    bed.memory_store().damage(&key, |value| *value.last_mut().unwrap() ^= 1);
    bed.crash(0);
    let (state, problem) = state_of(&bed, job.id).await.unwrap();
    assert_eq!(state, JobState::Failed);
    assert!(problem.contains("damaged"), "{problem}");
    assert_eq!(bed.ledger(&own).await.pending(), 0);
    bed.q().end_job(job.id, JobState::Failed, String::new(), NOON).await.unwrap();
    bed.sound().await;
}

#[tokio::test]
async fn old_audit_entries_go_and_the_newest_stay() {
    let bed = Bed::memory();
    let entry = |n: u64| AuditEntry {
        at: NOON,
        who: "soc".into(),
        action: "pause".into(),
        subject: n.to_string(),
        detail: String::new(),
    };
    let all = holdfast_queue::AUDIT_MAX + 20;
    for step in (0..all).collect::<Vec<_>>().chunks(500) {
        let adds = step.iter().map(|n| bed.q().add_audit(entry(*n)));
        futures_util::future::try_join_all(adds).await.unwrap();
    }
    for _ in 0..3 {
        bed.q().upkeep(NOON).await.unwrap();
    }
    let kept = bed.q().audit(usize::MAX).await.unwrap();
    assert_eq!(kept.len() as u64, holdfast_queue::AUDIT_MAX);
}

crate::promises!(
    a_job_s_lane_sees_its_stretch_of_the_log_and_goes_with_the_job,
    a_job_that_asks_for_more_than_the_log_has_gets_what_it_has,
    what_a_job_needs_outlives_the_retention_and_no_longer_than_it_needs_it,
    a_full_queue_takes_from_a_job_what_it_still_needed_and_says_so,
    dead_letters_are_copied_to_a_job_s_lane_and_stay_where_they_are,
    jobs_that_ended_are_kept_up_to_a_number_and_an_age,
);
