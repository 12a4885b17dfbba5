//! Stops, adopts and starts lanes, one by one and each in its own time.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use holdfast_model::{Chain, Name};
use holdfast_pipeline::{
    Clock, LaneConfig, Lanes, Metrics, Operator, Surroundings, lane, settings::OnOverflow,
};
use holdfast_queue::{Adoption, BacklogLimit, Engine, QueueEngine, QueueError};
use tokio::{sync::Mutex, task::JoinHandle, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::plan::Step;
use crate::{
    api::Live,
    config::{TlsFiles, Token},
    notebook::QueueNotebook,
    recall::Recall,
};

/// A lane or source that runs.
#[derive(Debug)]
pub(crate) struct Run {
    pub(super) stop: CancellationToken,
    pub(super) task: JoinHandle<()>,
}

/// What a lane is made with.
pub(crate) struct Hands {
    pub(crate) engine: Arc<Engine>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    pub(crate) operator: Operator,
    pub(crate) lanes: Lanes,
    /// Ends all lanes.
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
    /// Held while lanes change, so that no replay job speaks to one that ends.
    pub(crate) jobs_lock: Arc<Mutex<()>>,
    /// How long attempts under way may take to end.
    pub(crate) patience: Duration,
    /// Of which a lane's `max_backlog` is a share.
    pub(crate) queue_bytes_max: u64,
    /// As the running gateway has it: lanes must agree on it.
    pub(crate) dead_bytes_max: u64,
    /// Tokens and certificates.
    pub(crate) live: Live,
}

/// What is to be done with one lane, in this order.
#[derive(Default)]
pub(super) struct Act {
    stop: Option<(Name, Run)>,
    /// The lane that the one to start takes the place of.
    adopt: Option<Name>,
    start: Option<LaneConfig>,
}

/// What came of it.
#[derive(Default)]
pub(super) struct Done {
    pub(super) runs: Option<(Name, Run)>,
    pub(super) note: Option<String>,
    /// It does not run, because the queue failed with it.
    pub(super) failed: Option<(Name, QueueError)>,
}

impl Act {
    /// Takes out of `running` and `configs` what the step is about.
    pub(super) fn new(
        step: &Step,
        running: &mut BTreeMap<Name, Run>,
        configs: &mut BTreeMap<String, LaneConfig>,
    ) -> Self {
        let (stop, start, adopt) = match step {
            Step::Change { name } => (Some(name), Some(name), None),
            Step::Start { name, adopts } => (None, Some(name), adopts.as_ref()),
            Step::Rename { from, to } => (Some(from), Some(to), Some(from)),
            Step::Remove { name } => (Some(name), None, None),
        };
        let name = |text: &String| Name::new(text).ok();
        Self {
            stop: stop.and_then(name).and_then(|name| running.remove_entry(&name)),
            adopt: adopt.and_then(name),
            start: start.and_then(|name| configs.remove(name)),
        }
    }
}

impl Run {
    /// Ends it. `false`: it was cut off, or had ended by itself.
    pub(super) async fn end(mut self, patience: Duration) -> bool {
        let by_itself = self.task.is_finished();
        self.stop.cancel();
        match timeout(patience, &mut self.task).await {
            Ok(ended) => ended.is_ok() && !by_itself,
            Err(_) => {
                self.task.abort();
                // An error is what an abort ends with.
                self.task.await.ok();
                false
            }
        }
    }
}

impl Hands {
    pub(super) async fn carry_out(&self, act: Act) -> Done {
        let name = act.start.as_ref().map(|config| &config.name);
        let name = name.or(act.stop.as_ref().map(|(name, _)| name)).cloned();
        match self.try_carry_out(act).await {
            Ok(done) => done,
            Err(error) => {
                name.iter().for_each(|name| self.lanes.remove(name));
                Done { failed: name.map(|name| (name, error)), ..Done::default() }
            }
        }
    }

    async fn try_carry_out(&self, act: Act) -> Result<Done, QueueError> {
        let Act { stop, adopt, start } = act;
        if let Some((name, run)) = stop {
            let in_order = run.end(self.patience).await;
            if !in_order {
                tracing::warn!(lane = %name, "the lane was cut off; nothing is lost");
            }
            self.engine.close_lane(&name, in_order).await?;
            let goes_on = start.as_ref().is_some_and(|config| config.name == name);
            if !goes_on {
                self.lanes.remove(&name);
            }
        }
        let Some(config) = start else { return Ok(Done::default()) };
        let note = match &adopt {
            Some(old) => self.adopt(old, &config.name).await?,
            None => None,
        };
        let runs = Some((config.name.clone(), self.start(config).await?));
        Ok(Done { runs, note, failed: None })
    }

    async fn adopt(&self, old: &Name, new: &Name) -> Result<Option<String>, QueueError> {
        Ok(match self.engine.adopt_lane(old, new).await? {
            Adoption::Done => {
                tracing::info!(%old, %new, "the lane goes on under its new name");
                None
            }
            // At every start but the first.
            Adoption::NoSuchLane => None,
            Adoption::Occupied => Some(format!(
                "destinations.{new}: it has a position of its own already, so `renamed_from` comes \
                 to nothing and `{old}` stays an orphan"
            )),
        })
    }

    async fn start(&self, mut config: LaneConfig) -> Result<Run, QueueError> {
        config.dead_bytes_max = self.dead_bytes_max;
        let name = config.name.clone();
        let destination = Arc::clone(&config.destination);
        let before = config.settings.renamed_from.clone();
        destination.keep_in(Arc::new(QueueNotebook {
            engine: Arc::clone(&self.engine),
            clock: self.clock.clone(),
            destination: name.clone(),
            before: before.clone(),
        }));
        let limit = BacklogLimit {
            bytes_max: config.settings.max_backlog.bytes(self.queue_bytes_max),
            blocks: config.settings.on_overflow == OnOverflow::Block,
        };
        let queue = Arc::clone(&self.engine) as Arc<dyn QueueEngine>;
        let stop = self.stop.child_token();
        let around = Surroundings { operator: self.operator.clone(), lanes: self.lanes.clone() };
        let (handle, task) = lane::open_among(
            config,
            queue,
            self.clock.clone(),
            &self.metrics,
            around,
            stop.clone(),
        )
        .await?;
        self.engine.limit_lane(&name, limit).await?;
        let task = self.tasks.spawn(task);
        self.lanes.insert(name.clone(), handle);
        if destination.is_lookup() {
            let names = std::iter::once(name).chain(before).collect();
            let recall = Recall { destination, names };
            let queue = Arc::clone(&self.engine) as Arc<dyn QueueEngine>;
            self.tasks.spawn(recall.run(queue, stop.clone()));
        }
        Ok(Run { stop, task })
    }

    /// Takes over tokens and certificates; answers what a person should know. Certificates that are
    /// unfit leave everything of this as it is.
    pub(super) async fn adopt_live(
        &self,
        tokens: Vec<Token>,
        files: Option<TlsFiles>,
    ) -> Vec<String> {
        if tokens.is_empty() {
            // `admin.token` holds on.
            self.live.refresh().await;
            return Vec::new();
        }
        let live = self.live.clone();
        let adopted = tokio::task::spawn_blocking(move || live.adopt(tokens, files)).await;
        match adopted {
            Ok(Ok(())) => Vec::new(),
            Ok(Err(error)) => {
                let why = Chain(&error).to_string();
                vec![format!("the new certificates and tokens are not in use: {why}")]
            }
            Err(_) => vec!["the new certificates and tokens are not in use".to_owned()],
        }
    }

    /// A parked lane tries again at a reload, changed or not: what it waits for may lie outside.
    pub(super) async fn wake_parked(&self, names: &[String]) {
        for name in names.iter().filter_map(|name| Name::new(name).ok()) {
            if let Some(lane) = self.lanes.get(&name)
                && lane.view().state.state.is_parked()
            {
                // One that has stopped needs no waking.
                lane.try_now().await.ok();
            }
        }
    }
}
