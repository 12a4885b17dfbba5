use std::{collections::BTreeMap, sync::Arc};

use holdfast_model::{DeadReason, Name, Reason, Seq};
use holdfast_pipeline::jobs::Jobs;
use holdfast_queue::{JobProgress, JobRecord, JobState, QueueEngine};
use tokio::sync::{Mutex, Notify};

use crate::rig::*;

pub(crate) fn job(rig: &Rig) -> JobRecord {
    JobRecord {
        request: "{}".into(),
        rate_per: secs(1),
        ..JobRecord::new(Name::new("a").unwrap(), rig.clock.now())
    }
}

fn run_jobs(rig: &Rig) {
    let engine = Arc::clone(&rig.queue) as Arc<dyn QueueEngine>;
    let lanes = BTreeMap::from([(Name::new("a").unwrap(), rig.handle("a"))]);
    let jobs = Jobs::new(
        engine,
        rig.clock.clone(),
        lanes,
        Arc::new(Notify::new()),
        Arc::new(Mutex::new(())),
    );
    tokio::spawn(jobs.run(rig.stop.clone()));
}

pub(crate) async fn current(rig: &Rig, id: u64) -> JobRecord {
    rig.queue.jobs().await.unwrap().into_iter().find(|job| job.id == id).unwrap()
}

pub(crate) async fn ended(rig: &Rig, id: u64) -> JobRecord {
    let begin = tokio::time::Instant::now();
    loop {
        let job = current(rig, id).await;
        if job.state == JobState::Done {
            return job;
        }
        assert!(begin.elapsed() < secs(3_600), "{job:?}");
        tokio::time::sleep(ms(20)).await;
    }
}

/// A lane with dead letters: one for each event, of rules 0, 1 and 2 in turn.
async fn with_dead(count: u64, far: &Arc<FarEnd>) -> (Rig, Vec<Seq>) {
    let mut rig = Rig::new();
    far.answers(|_| Answer::Fail(Reason::Refused));
    rig.lane("a", settings(|s| s.poison_limit = 1_000_000), far).await;
    let seqs = rig.append((0..count).map(|n| n % 3)).await;
    assert_eq!(rig.drained("a").await.dead, count);
    far.answers(|_| Answer::Take);
    (rig, seqs)
}

#[tokio::test(start_paused = true)]
async fn a_replay_brings_the_selected_dead_letters_back_under_the_same_key() {
    let far = FarEnd::new();
    let (rig, seqs) = with_dead(90, &far).await;
    far.answers(|request| if request.seqs[0] % 2 == 0 { Answer::Take } else { Answer::Duplicate });
    run_jobs(&rig);
    let job =
        rig.queue.put_job(JobRecord { rule_id: Some("1".into()), ..job(&rig) }).await.unwrap();
    let job = ended(&rig, job.id).await;
    assert_eq!(job.progress, JobProgress { delivered: 15, duplicate: 15, failed: 0 });
    assert_eq!(job.moved, 30);
    let ledger = rig.drained("a").await;
    assert_eq!((ledger.delivered, ledger.dead), (30, 60));
    for n in [1, 4, 88] {
        let requests = far.requests_for(seqs[n]);
        assert_eq!(requests.len(), 2);
        assert_eq!((&requests[0].key, requests[1].attempt), (&requests[1].key, 2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_single_dead_letter_can_be_replayed_and_one_that_is_gone_ends_the_job() {
    let far = FarEnd::new();
    let (rig, seqs) = with_dead(9, &far).await;
    run_jobs(&rig);
    for _ in 0..2 {
        let job = rig.queue.put_job(JobRecord { only: Some(seqs[4]), ..job(&rig) }).await.unwrap();
        ended(&rig, job.id).await;
    }
    let ledger = rig.drained("a").await;
    assert_eq!((ledger.delivered, ledger.dead), (1, 8));
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_dies_again_is_not_replayed_again_by_the_same_job() {
    let far = FarEnd::new();
    let (rig, seqs) = with_dead(100, &far).await;
    let bad = seqs[10];
    far.answers(move |request| match request.seqs[0] == bad {
        true => Answer::Fail(Reason::Refused),
        false => Answer::Take,
    });
    run_jobs(&rig);
    let job = rig.queue.put_job(job(&rig)).await.unwrap();
    let job = ended(&rig, job.id).await;
    assert_eq!(job.progress, JobProgress { delivered: 99, duplicate: 0, failed: 1 });
    assert_eq!(rig.dead("a").await, [(bad, DeadReason::Refused)]);
    assert_eq!(far.requests_for(bad).len(), 2);
    assert_eq!(rig.dead_letters("a").await[0].tries, 2);
}

#[tokio::test(start_paused = true)]
async fn what_dies_while_a_job_runs_is_left_alone() {
    let far = FarEnd::new();
    let (rig, _) = with_dead(40, &far).await;
    far.answers(|request| match request.rules[0].as_str() {
        "666" => Answer::Fail(Reason::Refused),
        _ => Answer::After(secs(2), Box::new(Answer::Take)),
    });
    run_jobs(&rig);
    let job = rig.queue.put_job(job(&rig)).await.unwrap();
    rig.until("its begin", || far.under_way() > 0).await;
    let late = rig.append([666]).await[0];
    assert_eq!(ended(&rig, job.id).await.moved, 40);
    assert_eq!(rig.dead("a").await, [(late, DeadReason::Refused)]);
}

#[tokio::test(start_paused = true)]
async fn a_replay_keeps_its_rate_also_across_a_restart() {
    let far = FarEnd::new();
    let (rig, _) = with_dead(100, &far).await;
    let before = far.now();
    run_jobs(&rig);
    let slow = JobRecord { rate_count: 2, ..job(&rig) };
    let id = rig.queue.put_job(slow).await.unwrap().id;
    rig.until("a third", || far.count() >= 133).await;
    let mut rig = rig.restart().await;
    rig.lane("a", settings(|_| {}), &far).await;
    run_jobs(&rig);
    assert_eq!(ended(&rig, id).await.progress.delivered, 100);
    let took = far.now() - before;
    assert!(took >= secs(48) && took < secs(53), "{took:?}");
    let mut taken = far.taken();
    taken.dedup();
    assert_eq!(taken.len(), 100, "nothing is moved twice");
}

#[tokio::test(start_paused = true)]
async fn a_replay_goes_on_after_a_crash_in_its_middle() {
    let far = FarEnd::new();
    let (rig, _) = with_dead(500, &far).await;
    far.answers(|_| Answer::After(ms(100), Box::new(Answer::Take)));
    run_jobs(&rig);
    let id = rig.queue.put_job(job(&rig)).await.unwrap().id;
    rig.until("some of it", || far.count() >= 600).await;
    let mut rig = rig.crash(1).await;
    rig.lane("a", settings(|_| {}), &far).await;
    run_jobs(&rig);
    let job = ended(&rig, id).await;
    assert_eq!((job.moved, job.progress.delivered), (500, 500));
    let ledger = rig.drained("a").await;
    assert_eq!((ledger.delivered, ledger.dead), (500, 0));
    assert_eq!(far.distinct_taken(), 500);
}

#[tokio::test(start_paused = true)]
async fn a_large_replay_leaves_room_for_live_events_and_does_not_dawdle() {
    let far = FarEnd::new();
    let (rig, _) = with_dead(5_000, &far).await;
    let mut rig = rig.restart().await;
    let narrow = settings(|s| (s.retry.pending_max, s.concurrency) = (100, 8));
    rig.lane("a", narrow, &far).await;
    run_jobs(&rig);
    let job = rig.queue.put_job(job(&rig)).await.unwrap();
    far.answers(|_| Answer::After(ms(10), Box::new(Answer::Take)));
    let before = far.now();
    rig.append(0..500).await;
    ended(&rig, job.id).await;
    assert_eq!(rig.drained("a").await.delivered, 5_500);
    assert!(far.now() - before < secs(120), "{:?}", far.now() - before);
}

#[tokio::test(start_paused = true)]
async fn a_replay_without_a_rate_is_as_fast_as_its_lane() {
    let far = FarEnd::new();
    let (rig, _) = with_dead(4_000, &far).await;
    far.answers(|_| Answer::After(ms(10), Box::new(Answer::Take)));
    run_jobs(&rig);
    let before = far.now();
    let job = rig.queue.put_job(job(&rig)).await.unwrap();
    ended(&rig, job.id).await;
    assert!(far.now() - before < secs(8), "eight in ten milliseconds: {:?}", far.now() - before);
}

#[tokio::test(start_paused = true)]
async fn a_paused_job_moves_nothing() {
    let far = FarEnd::new();
    let (rig, _) = with_dead(10, &far).await;
    run_jobs(&rig);
    let paused = JobRecord { state: JobState::Paused, ..job(&rig) };
    let mut paused = rig.queue.put_job(paused).await.unwrap();
    tokio::time::sleep(secs(60)).await;
    assert_eq!(rig.ledger("a").await.dead, 10);
    paused.state = JobState::Running;
    rig.queue.put_job(paused.clone()).await.unwrap();
    ended(&rig, paused.id).await;
    assert_eq!(rig.drained("a").await.delivered, 10);
}
