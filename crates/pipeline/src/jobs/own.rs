//! Jobs with a lane of their own: its task is started, watched, and taken away with the job.

use std::sync::Arc;

use holdfast_model::{Chain, Name, units::Rate};
use holdfast_queue::{AuditEntry, JobRecord, JobState, LaneSummary, QueueError};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Jobs, survey};
use crate::{
    lane::{self, JobLane, LaneConfig, LaneHandle, Surroundings},
    metrics::Metrics,
    operator::{Happening, Notice, Operator},
};

/// A job's lane at work.
pub(super) struct OwnLane {
    pub(super) handle: LaneHandle,
    /// What the destination's lane was made of when this one began.
    of: Arc<LaneConfig>,
    pub(super) stop: CancellationToken,
    pub(super) task: JoinHandle<()>,
}

impl Jobs {
    /// One look at a job that has a lane of its own. Says whether it came forward.
    pub(super) async fn step_own(
        &mut self,
        job: JobRecord,
        name: &Name,
        lanes: &[LaneSummary],
    ) -> Result<bool, QueueError> {
        let summary = lanes.iter().find(|lane| lane.name == *name);
        if job.state != JobState::Running {
            // What is under way ends first; then an ended job's lane goes.
            let was_running = self.own.contains_key(&job.id);
            if !self.wind_down(job.id) || !job.state.has_ended() {
                return Ok(false);
            }
            if summary.is_some() {
                self.end(&job, job.state, String::new()).await?;
            }
            if was_running && job.state == JobState::Failed {
                // The queue gave it up.
                self.note_end(&job).await;
            }
            return Ok(false);
        }
        if summary.is_none() {
            let problem = "its lane is gone; what it had sent is counted, the rest was not sent";
            self.end(&job, JobState::Failed, problem.into()).await?;
            return Ok(true);
        }
        let more = job.log.is_none() && self.fill(&job).await?;
        let current = self.jobs_now(job.id).await?.unwrap_or(job);
        if !more && self.is_through(&current, name) {
            if !self.wind_down(current.id) {
                return Ok(false);
            }
            self.end(&current, JobState::Done, String::new()).await?;
            return Ok(true);
        }
        self.keep_running(&current, name).await?;
        Ok(more)
    }

    /// Everything that the lane had is settled, by what is stored.
    fn is_through(&self, job: &JobRecord, name: &Name) -> bool {
        let lanes = self.engine.lanes();
        let Some(lane) = lanes.iter().find(|lane| lane.name == *name) else { return false };
        let end = job.lane_end.map_or(0, |end| end.seq);
        let copied = job.log.is_some() || self.copied.contains(&job.id);
        copied && lane.position >= end && lane.retrying == 0
    }

    /// Stops the job's lane. Says whether it has stopped.
    fn wind_down(&mut self, id: u64) -> bool {
        let Some(running) = self.own.get(&id) else { return true };
        running.stop.cancel();
        let stopped = running.task.is_finished();
        if stopped {
            self.own.remove(&id);
        }
        stopped
    }

    /// Starts the job's lane where it does not run, and anew where its destination has changed.
    async fn keep_running(&mut self, job: &JobRecord, name: &Name) -> Result<(), QueueError> {
        let Some(live) = self.lanes.get(&job.lane) else {
            // Its destination is not there just now; the job waits for it.
            self.wind_down(job.id);
            return Ok(());
        };
        if let Some(running) = self.own.get(&job.id) {
            let current = Arc::ptr_eq(&running.of, live.config()) && !running.task.is_finished();
            if current || !self.wind_down(job.id) {
                return Ok(());
            }
        }
        let of = Arc::clone(live.config());
        let mut settings = of.settings.clone();
        // Every event of a replay is asked for, and none is fresh.
        (settings.express_level, settings.storm, settings.canary) = (None, None, None);
        // Without a rate of its own, the live lane's is kept by what that lends.
        settings.rate =
            (job.rate_count > 0).then_some(Rate { count: job.rate_count, per: job.rate_per });
        if let Some(log) = &job.log {
            match survey::stored_filter(job, log, &of.settings.filter) {
                Ok(filter) => settings.filter = filter,
                Err(faults) => {
                    let problem = format!("its filter cannot be read: {}", faults.join("; "));
                    self.end(job, JobState::Failed, problem).await?;
                    return Ok(());
                }
            }
        }
        let config = LaneConfig { name: name.clone(), settings, ..(*of).clone() };
        let end = job.lane_end.map_or(0, |end| end.seq);
        let own = JobLane { id: job.id, end, live };
        // A replay's lane comes and goes, so its name must not become a label.
        let Ok(metrics) = Metrics::register(&prometheus::Registry::new()) else { return Ok(()) };
        let stop = CancellationToken::new();
        let engine = Arc::clone(&self.engine);
        let opened = lane::open_for(
            config,
            Some(own),
            engine,
            self.clock.clone(),
            &metrics,
            Surroundings { operator: Operator::silent(), lanes: self.lanes.clone() },
            stop.clone(),
        );
        let (handle, run) = match opened.await {
            // The queue has ended the job meanwhile.
            Err(QueueError::NoLane { .. }) => return Ok(()),
            opened => opened?,
        };
        let task = tokio::spawn(run);
        self.own.insert(job.id, OwnLane { handle, of, stop, task });
        Ok(())
    }

    /// Copies dead letters into the job's lane, as many as it has room for. Says whether there may
    /// be more.
    async fn fill(&mut self, job: &JobRecord) -> Result<bool, QueueError> {
        let Some(running) = self.own.get(&job.id) else { return Ok(false) };
        let lane = running.handle.clone();
        let budget = lane.room_for_retries().min(holdfast_queue::DEAD_STEP_MAX as u64);
        if budget == 0 || self.copied.contains(&job.id) {
            return Ok(false);
        }
        let (ids, more) = self.next_ids(job, budget as usize).await?;
        if !ids.is_empty() {
            let heads = self.engine.copy_dead(ids, job.id).await?;
            // A lane that stops meanwhile finds the records at its next start.
            lane.revived(heads).await.ok();
        }
        if !more {
            self.copied.insert(job.id);
        }
        Ok(more)
    }

    async fn jobs_now(&self, id: u64) -> Result<Option<JobRecord>, QueueError> {
        Ok(self.engine.jobs().await?.into_iter().find(|job| job.id == id))
    }

    /// Ends the job in the queue and writes that down.
    pub(super) async fn end(
        &mut self,
        job: &JobRecord,
        how: JobState,
        problem: String,
    ) -> Result<(), QueueError> {
        let at = self.clock.now();
        self.copied.remove(&job.id);
        let ended = self.engine.end_job(job.id, how, problem, at).await?;
        if let Some(ended) = ended.filter(|_| !job.state.has_ended()) {
            self.note_end(&ended).await;
        }
        Ok(())
    }

    async fn note_end(&self, ended: &JobRecord) {
        self.operator.tell(notice_of(ended));
        let progress = ended.progress;
        let word = match ended.state {
            JobState::Done => "done",
            JobState::Failed => "failed",
            JobState::Running | JobState::Paused | JobState::Cancelled => "ended",
        };
        let entry = AuditEntry {
            at: self.clock.now(),
            who: "holdfast".into(),
            action: format!("replay {word}"),
            subject: ended.id.to_string(),
            detail: format!(
                "{} delivered, {} duplicate, {} failed of {}. {}",
                progress.delivered, progress.duplicate, progress.failed, ended.total, ended.problem
            ),
        };
        tracing::info!(job = ended.id, state = word, detail = entry.detail, "a replay has ended");
        if let Err(error) = self.engine.add_audit(entry).await {
            tracing::error!(error = %Chain(&error), "cannot write the audit entry");
        }
    }

    /// Stops every job's lane and waits for what is under way.
    pub(super) async fn stop_all(&mut self) {
        for running in self.own.values() {
            running.stop.cancel();
        }
        for (_, running) in std::mem::take(&mut self.own) {
            running.task.await.ok();
        }
    }
}

fn notice_of(job: &JobRecord) -> Notice {
    let (id, lane, progress) = (job.id, &job.lane, &job.progress);
    let (delivered, failed) = (progress.delivered + progress.duplicate, progress.failed);
    Notice {
        happening: Happening::Job,
        subject: id.to_string(),
        state: "done",
        level: if failed > 0 { 7 } else { 3 },
        text: format!(
            "Holdfast: replay {id} to {lane} has ended: {delivered} delivered, {failed} dead again"
        ),
        reason: String::new(),
    }
}
