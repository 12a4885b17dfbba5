//! Replays that have a lane of their own, and where they stand among live traffic.

use std::{collections::BTreeMap, sync::Arc};

use holdfast_model::{LaneState, Name, Reason, Seq};
use holdfast_pipeline::jobs::Jobs;
use holdfast_queue::{JobProgress, JobRecord, JobState, LogStretch, QueueEngine, Start};
use tokio::sync::{Mutex, Notify};

use crate::{
    replay::{current, ended, job},
    rig::*,
};

pub(crate) fn run_jobs(rig: &Rig, lanes: &[&str]) {
    let engine = Arc::clone(&rig.queue) as Arc<dyn QueueEngine>;
    let handle = |name: &&str| (Name::new(name).unwrap(), rig.handle(name));
    let lanes: BTreeMap<_, _> = lanes.iter().map(handle).collect();
    let (wake, lock) = (Arc::new(Notify::new()), Arc::new(Mutex::new(())));
    let jobs = Jobs::new(engine, rig.clock.clone(), lanes, wake, lock);
    tokio::spawn(jobs.run(rig.stop.clone()));
}

pub(crate) fn of_log(rig: &Rig, filter: &str) -> JobRecord {
    let filter = filter.to_owned();
    let log = LogStretch { from: 0, to: Seq::MAX, filter, ignore_when: false };
    JobRecord { log: Some(log), ..job(rig) }
}

fn of_job(far: &FarEnd, id: u64) -> Vec<Request> {
    let end = format!(".a.r{id}");
    far.requests().into_iter().filter(|request| request.key.ends_with(&end)).collect()
}

async fn until_ended(rig: &Rig, id: u64) -> JobRecord {
    let begin = tokio::time::Instant::now();
    loop {
        let job = current(rig, id).await;
        if job.state.has_ended() {
            return job;
        }
        assert!(begin.elapsed() < secs(3_600), "{job:?}");
        tokio::time::sleep(ms(20)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stretch_of_the_log_is_sent_again_under_keys_of_its_own() {
    let far = FarEnd::new();
    let mut rig = Rig::new();
    rig.lane("a", settings(|_| {}), &far).await;
    let seqs = rig.append((0..90).map(|n| n % 3)).await;
    rig.drained("a").await;
    far.answers(|request| if request.seqs[0] % 2 == 0 { Answer::Take } else { Answer::Duplicate });
    run_jobs(&rig, &["a"]);
    let job = rig.queue.put_job(of_log(&rig, r#"{"rule_ids":["1"]}"#)).await.unwrap();
    let later = rig.append([1, 1]).await;
    let job = ended(&rig, job.id).await;
    assert_eq!(job.progress, JobProgress { delivered: 15, duplicate: 15, failed: 0 });
    let sent: Vec<Seq> = of_job(&far, job.id).iter().map(Request::seq).collect();
    let wanted = seqs.iter().copied().skip(1).step_by(3);
    assert!(sent.into_iter().eq(wanted), "{later:?} came after it was asked for");
    assert!(rig.queue.lanes().iter().all(|lane| lane.job.is_none()), "its lane is gone");
    assert_eq!(rig.drained("a").await.delivered, 92, "the live lane's ledger has no part in it");
}

#[tokio::test(start_paused = true)]
async fn a_replay_stands_behind_everything_that_is_live() {
    let far = FarEnd::answering(|_| Answer::After(ms(10), Box::new(Answer::Take)));
    let mut rig = Rig::new();
    rig.lane("a", settings(|s| s.concurrency = 2), &far).await;
    rig.append(0..200).await;
    rig.drained("a").await;
    run_jobs(&rig, &["a"]);
    let job = rig.queue.put_job(of_log(&rig, "{}")).await.unwrap();
    rig.until("some were sent", || of_job(&far, job.id).len() > 20).await;
    let before = far.count();
    let live = rig.append(0..50).await;
    rig.until("all live ones were sent", || !far.requests_for(live[49]).is_empty()).await;
    let between = far.requests().split_off(before);
    let last = between.iter().rposition(|request| live.contains(&request.seqs[0])).unwrap();
    let of_job = between[..last].iter().filter(|request| request.key.contains(".r")).count();
    assert!(of_job <= 2, "{of_job} of the replay between 50 live ones");
    ended(&rig, job.id).await;
}

#[tokio::test(start_paused = true)]
async fn dead_letters_that_go_back_to_their_lane_stand_behind_what_is_live_too() {
    let far = FarEnd::answering(|_| Answer::Fail(Reason::Refused));
    let mut rig = Rig::new();
    rig.lane("a", settings(|s| (s.concurrency, s.poison_limit) = (1, 1_000_000)), &far).await;
    let dead = rig.append(0..100).await;
    assert_eq!(rig.drained("a").await.dead, 100);
    far.answers(|_| Answer::After(ms(10), Box::new(Answer::Take)));
    run_jobs(&rig, &["a"]);
    let job = rig.queue.put_job(job(&rig)).await.unwrap();
    rig.until("they are back", || rig.view("a").retrying > 20).await;
    let before = far.count();
    let live = rig.append(0..30).await;
    rig.until("all live ones were sent", || !far.requests_for(live[29]).is_empty()).await;
    let between = far.requests().split_off(before);
    let of_job = between.iter().filter(|request| dead.contains(&request.seqs[0])).count();
    assert!(of_job <= 1, "{of_job}");
    assert_eq!(ended(&rig, job.id).await.progress.delivered, 100);
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_is_down_or_paused_gets_nothing_of_a_replay() {
    let far = FarEnd::new();
    let mut rig = Rig::new();
    rig.lane("a", settings(|_| {}), &far).await;
    rig.append(0..50).await;
    rig.drained("a").await;
    rig.handle("a").pause("test").await.unwrap();
    run_jobs(&rig, &["a"]);
    let job = rig.queue.put_job(of_log(&rig, "{}")).await.unwrap();
    tokio::time::sleep(secs(60)).await;
    assert!(of_job(&far, job.id).is_empty());
    rig.handle("a").resume().await.unwrap();
    assert_eq!(ended(&rig, job.id).await.progress.delivered, 50);
}

#[tokio::test(start_paused = true)]
async fn what_fails_in_a_replay_is_a_dead_letter_of_the_replay_and_the_live_lane_is_fine() {
    let far = FarEnd::new();
    let mut rig = Rig::new();
    rig.lane("a", settings(|s| s.poison_limit = 1_000), &far).await;
    let seqs = rig.append(0..40).await;
    rig.drained("a").await;
    let bad = seqs[7];
    far.answers(move |request| match request.seqs[0] == bad {
        true => Answer::Fail(Reason::Refused),
        false if request.attempt == 1 => Answer::Fail(Reason::ServerFault),
        false => Answer::Take,
    });
    run_jobs(&rig, &["a"]);
    let job = rig.queue.put_job(of_log(&rig, "{}")).await.unwrap();
    let job = ended(&rig, job.id).await;
    assert_eq!(job.progress, JobProgress { delivered: 39, duplicate: 0, failed: 1 });
    assert_eq!(rig.dead(job.own_lane().unwrap().as_str()).await.len(), 1);
    assert_eq!((rig.state("a"), rig.ledger("a").await.dead), (LaneState::Active, 0));
}

#[tokio::test(start_paused = true)]
async fn dead_letters_go_to_another_destination_and_stay_dead_in_their_own_lane() {
    let (far, other) = (FarEnd::answering(|_| Answer::Fail(Reason::Refused)), FarEnd::new());
    let mut rig = Rig::new();
    rig.lane("b", settings(|s| s.poison_limit = 1_000_000), &far).await;
    let seqs = rig.append((0..120).map(|n| n % 3)).await;
    rig.lane("a", settings(|s| s.start = Start::New), &other).await;
    assert_eq!(rig.drained("b").await.dead, 120);
    run_jobs(&rig, &["a", "b"]);
    let job = JobRecord { owner: Some("b".into()), rule_id: Some("2".into()), ..job(&rig) };
    let job = rig.queue.put_job(job).await.unwrap();
    let job = ended(&rig, job.id).await;
    assert_eq!((job.moved, job.progress.delivered), (40, 40));
    let mut sent: Vec<Seq> = of_job(&other, job.id).iter().map(Request::seq).collect();
    sent.sort_unstable();
    assert!(sent.into_iter().eq(seqs.iter().copied().skip(2).step_by(3)));
    assert_eq!(rig.ledger("b").await.dead, 120);
    assert_eq!(rig.ledger("a").await.delivered, 0);
}

#[tokio::test(start_paused = true)]
async fn a_crash_in_the_middle_repeats_at_most_the_window_and_loses_nothing() {
    for kept in 0..4 {
        let far = FarEnd::new();
        let mut rig = Rig::new();
        let four = || settings(|s| s.concurrency = 4);
        rig.lane("a", four(), &far).await;
        rig.append(0..200).await;
        rig.drained("a").await;
        far.answers(|_| Answer::After(ms(3), Box::new(Answer::Take)));
        run_jobs(&rig, &["a"]);
        let job = rig.queue.put_job(of_log(&rig, "{}")).await.unwrap();
        rig.until("some were sent", || of_job(&far, job.id).len() > 50).await;
        rig.stop.cancel();
        let mut rig = rig.crash(kept).await;
        rig.lane("a", four(), &far).await;
        run_jobs(&rig, &["a"]);
        let ended = ended(&rig, job.id).await;
        assert_eq!(ended.progress.delivered, 200);
        let sent = of_job(&far, job.id);
        let distinct: std::collections::BTreeSet<Seq> = sent.iter().map(Request::seq).collect();
        assert_eq!(distinct.len(), 200);
        assert!(sent.len() <= 204, "{} in round {kept}", sent.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_replay_ends_with_what_was_under_way() {
    let far = FarEnd::new();
    let mut rig = Rig::new();
    rig.lane("a", settings(|s| s.concurrency = 2), &far).await;
    rig.append(0..100).await;
    rig.drained("a").await;
    far.answers(|_| Answer::After(ms(50), Box::new(Answer::Take)));
    run_jobs(&rig, &["a"]);
    let job = rig.queue.put_job(of_log(&rig, "{}")).await.unwrap();
    rig.until("some were sent", || of_job(&far, job.id).len() > 10).await;
    let cancelled = JobRecord { state: JobState::Cancelled, ..current(&rig, job.id).await };
    rig.queue.put_job(cancelled).await.unwrap();
    rig.until("its lane is gone", || rig.queue.lanes().iter().all(|lane| lane.job.is_none())).await;
    let job = until_ended(&rig, job.id).await;
    assert_eq!(job.state, JobState::Cancelled);
    assert_eq!(of_job(&far, job.id).len() as u64, job.progress.delivered);
    assert!(job.progress.delivered < 100);
}
