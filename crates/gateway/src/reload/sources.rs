//! The sources that run just now. They go on from their position, which is kept by type and path.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use holdfast_connectors::sources::{Source, SourceHealth};
use holdfast_model::Name;
use holdfast_pipeline::{Clock, Metrics, QueueIntake};
use holdfast_queue::{Engine, QueueEngine};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::Run;

/// A configured source, for health and metrics.
#[derive(Clone, Debug)]
pub(crate) struct SourceStatus {
    pub(crate) name: Name,
    pub(crate) health: Arc<SourceHealth>,
}

/// What the API shows of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources(Arc<RwLock<Vec<SourceStatus>>>);

impl Sources {
    pub(crate) fn all(&self) -> Vec<SourceStatus> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, status: SourceStatus) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(status);
    }

    fn remove(&self, name: &Name) {
        let mut sources = self.0.write().unwrap_or_else(PoisonError::into_inner);
        sources.retain(|source| source.name != *name);
    }
}

/// What a source is made with, and those that run.
pub(crate) struct SourceRuns {
    pub(crate) engine: Arc<Engine>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    pub(crate) shown: Sources,
    /// Ends all sources.
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) batch_bytes_max: u64,
    pub(crate) runs: BTreeMap<Name, Run>,
}

impl SourceRuns {
    pub(super) async fn stop(&mut self, names: &[String], patience: Duration) {
        for name in names.iter().filter_map(|name| Name::new(name).ok()) {
            let Some(run) = self.runs.remove(&name) else { continue };
            if !run.end(patience).await {
                tracing::warn!(source = %name, "the source was cut off; nothing is lost");
            }
            self.shown.remove(&name);
        }
    }

    pub(super) fn start(&mut self, built: Vec<(Name, Box<dyn Source>)>, names: &[String]) {
        for (name, source) in built {
            if !names.iter().any(|wanted| wanted == name.as_str()) {
                continue;
            }
            let health = Arc::new(SourceHealth::default());
            self.metrics.source(name.as_str());
            let intake = QueueIntake::new(
                Arc::clone(&self.engine) as Arc<dyn QueueEngine>,
                self.clock.clone(),
                self.metrics.clone(),
                self.batch_bytes_max,
                source.position_key(),
            );
            let stop = self.stop.child_token();
            let task = source.run(Arc::new(intake), Arc::clone(&health), stop.clone());
            let task = self.tasks.spawn(task);
            self.shown.add(SourceStatus { name: name.clone(), health });
            self.runs.insert(name, Run { stop, task });
        }
    }
}
