//! Replay jobs.
//!
//! Dead letters for their own lane go back to pending there, under their old key, as fast as the
//! lane takes them. A stretch of the log, and dead letters for another destination, go through a
//! lane of the job's own (`own`), under a key of the job's, and below live traffic.
//!
//! The queue counts what was moved and what became of it, in the same writes, so a job goes on
//! where it stood after a crash and moves nothing twice. A dead letter that dies again is not met
//! again: a job only goes forward.

mod own;
mod survey;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use holdfast_model::{Chain, units::Rate};
use holdfast_queue::{
    DEAD_STEP_MAX, DeadId, DeadQuery, JobRecord, JobState, QueueEngine, QueueError,
};
use tokio::{
    sync::{Mutex, Notify},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use self::own::OwnLane;
pub use self::survey::{Survey, filter_of, survey};
use crate::{clock::Clock, lanes::Lanes, operator::Operator, pace::Pace};

/// How often running jobs are looked at when nothing else wakes them.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Dead letters looked at for one step.
const SCAN_MAX: usize = 2_048;

/// Runs all jobs, one step of each in turn.
pub struct Jobs {
    engine: Arc<dyn QueueEngine>,
    clock: Clock,
    lanes: Lanes,
    operator: Operator,
    wake: Arc<Notify>,
    /// Held while a job is read, changed and written, by the API too.
    lock: Arc<Mutex<()>>,
    paces: HashMap<u64, Pace>,
    /// The lanes of jobs that have one for themselves.
    own: BTreeMap<u64, OwnLane>,
    /// Jobs that have copied all dead letters they are about, in this run.
    copied: HashSet<u64>,
}

/// What the API asks for; the rest of a [`JobRecord`] is the job's own.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    pub query: DeadQuery,
    /// Only this one.
    pub only: Option<DeadId>,
}

impl Selection {
    pub fn of(job: &JobRecord) -> Self {
        let owner = job.owner.clone().unwrap_or_else(|| job.lane.to_string());
        // What dies while the job runs is not its business: it would never end.
        let until = job.created_at.saturating_add(Duration::from_millis(1));
        let query = DeadQuery {
            owner: Some(owner.clone()),
            reason: job.reason,
            since: job.since,
            until: Some(job.until.map_or(until, |asked| asked.min(until))),
            rule_id: job.rule_id.clone(),
            after: job.cursor.clone(),
            limit: DEAD_STEP_MAX,
            scan_max: SCAN_MAX,
        };
        let only = job.only.map(|seq| DeadId { owner: owner.clone(), seq });
        Self { query, only }
    }
}

/// How many dead letters match, all of them looked at.
pub async fn count(engine: &dyn QueueEngine, query: &DeadQuery) -> Result<u64, QueueError> {
    let mut query = DeadQuery { limit: 1_000, scan_max: SCAN_MAX, ..query.clone() };
    let mut total = 0;
    loop {
        let page = engine.dead_letters(query.clone()).await?;
        total += page.letters.len() as u64;
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(total),
        }
    }
}

impl Jobs {
    pub fn new(
        engine: Arc<dyn QueueEngine>,
        clock: Clock,
        lanes: impl Into<Lanes>,
        wake: Arc<Notify>,
        lock: Arc<Mutex<()>>,
    ) -> Self {
        let (lanes, operator) = (lanes.into(), Operator::silent());
        let (paces, own, copied) = (HashMap::new(), BTreeMap::new(), HashSet::new());
        Self { engine, clock, lanes, operator, wake, lock, paces, own, copied }
    }

    /// Tells the operator of every job that ends.
    #[must_use]
    pub fn telling(self, operator: Operator) -> Self {
        Self { operator, ..self }
    }

    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            match self.step_all().await {
                // There may be more to do at once.
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => tracing::error!(error = %Chain(&error), "a replay job cannot go on"),
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.wake.notified() => {}
                () = sleep(LOOK_EVERY) => {}
            }
        }
        self.stop_all().await;
    }

    /// Says whether a job came forward.
    async fn step_all(&mut self) -> Result<bool, QueueError> {
        let lock = Arc::clone(&self.lock);
        let _changing = lock.lock().await;
        let lanes = self.engine.lanes();
        let mut jobs = self.engine.jobs().await?;
        // An ended job is looked at until its lane is gone.
        let has_lane = |job: &JobRecord| {
            self.own.contains_key(&job.id) || lanes.iter().any(|lane| lane.job == Some(job.id))
        };
        jobs.retain(|job| !job.state.has_ended() || has_lane(job));
        self.paces.retain(|id, _| jobs.iter().any(|job| job.id == *id));
        let mut forward = false;
        for job in jobs {
            forward |= match job.own_lane() {
                Some(name) => self.step_own(job, &name, &lanes).await?,
                None if job.state == JobState::Running => self.step(job).await?,
                None => false,
            };
        }
        Ok(forward)
    }

    async fn step(&mut self, job: JobRecord) -> Result<bool, QueueError> {
        let Some(lane) = self.lanes.get(&job.lane) else { return Ok(false) };
        let by_rate = self.paced(&job);
        let budget = lane.room_for_retries().min(by_rate).min(DEAD_STEP_MAX as u64);
        if budget == 0 {
            return Ok(false);
        }
        let (ids, more) = self.next_ids(&job, budget as usize).await?;
        if !ids.is_empty() {
            let heads = self.engine.revive(ids, Some(job.id)).await?;
            if let Some(pace) = self.paces.get_mut(&job.id) {
                pace.spend(heads.len() as u32);
            }
            // A lane that stops meanwhile finds the records at its next start.
            lane.revived(heads).await.ok();
        }
        if !more {
            self.finish_if_settled(job.id).await?;
        }
        Ok(more)
    }

    /// How many may be moved now by the job's rate.
    fn paced(&mut self, job: &JobRecord) -> u64 {
        if job.rate_count == 0 {
            return u64::MAX;
        }
        let now = Instant::now();
        let rate = Rate { count: job.rate_count, per: job.rate_per };
        self.paces.entry(job.id).or_insert_with(|| Pace::empty(rate, now)).tokens(now)
    }

    /// The next dead letters, and whether there may be more behind them.
    async fn next_ids(
        &self,
        job: &JobRecord,
        budget: usize,
    ) -> Result<(Vec<DeadId>, bool), QueueError> {
        let selection = Selection::of(job);
        if let Some(only) = selection.only {
            let done = job.cursor.is_some() || self.engine.dead_letter(&only).await?.is_none();
            return Ok(if done { (Vec::new(), false) } else { (vec![only], true) });
        }
        let query = DeadQuery { limit: budget, ..selection.query };
        let page = self.engine.dead_letters(query).await?;
        let ids: Vec<DeadId> = page.letters.into_iter().map(|(id, _)| id).collect();
        if ids.is_empty()
            && let Some(next) = page.next
        {
            // Nothing matched in this stretch; remember how far it was looked at.
            let job = JobRecord { cursor: Some(next), ..job.clone() };
            self.engine.put_job(job).await?;
            return Ok((Vec::new(), true));
        }
        Ok((ids, page.next.is_some()))
    }

    /// A job ends when all that it moved is settled.
    async fn finish_if_settled(&mut self, id: u64) -> Result<(), QueueError> {
        let jobs = self.engine.jobs().await?;
        let Some(job) = jobs.into_iter().find(|job| job.id == id) else { return Ok(()) };
        let settled = job.progress.delivered + job.progress.duplicate + job.progress.failed;
        if settled >= job.moved && job.state == JobState::Running {
            self.end(&job, JobState::Done, String::new()).await?;
        }
        Ok(())
    }
}
