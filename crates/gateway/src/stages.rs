//! The stages of an orderly end, and what begins it.

use std::time::Duration;

use holdfast_model::Chain;
use holdfast_queue::{Engine, QueueEngine};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::run::RunError;

/// How a person says that it is to end. Taken before anything answers: until then a signal ends
/// the process at once, and whoever has seen it ready may send one.
pub(crate) struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl EndSignals {
    pub(crate) fn take() -> Result<Self, RunError> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(RunError::Signals)?,
            interrupt: signal(SignalKind::interrupt()).map_err(RunError::Signals)?,
        })
    }
}

/// What stops together.
pub(crate) struct Stages {
    pub(crate) reloads: CancellationToken,
    pub(crate) sources: CancellationToken,
    pub(crate) lanes: CancellationToken,
    pub(crate) rest: CancellationToken,
    pub(crate) reload_tasks: TaskTracker,
    pub(crate) source_tasks: TaskTracker,
    pub(crate) lane_tasks: TaskTracker,
    pub(crate) rest_tasks: TaskTracker,
}

impl Stages {
    pub(crate) fn new() -> Self {
        Self {
            reloads: CancellationToken::new(),
            sources: CancellationToken::new(),
            lanes: CancellationToken::new(),
            rest: CancellationToken::new(),
            reload_tasks: TaskTracker::new(),
            source_tasks: TaskTracker::new(),
            lane_tasks: TaskTracker::new(),
            rest_tasks: TaskTracker::new(),
        }
    }

    /// Stops in the order of the flow, each stage with its time. What is cut short is sent again.
    pub(crate) async fn stop(&self, patience: Duration, engine: &Engine) {
        tracing::info!("stopping");
        let mut lanes_finished = true;
        for (name, token, tasks) in [
            // One that is under way comes to its end: what it has stopped it starts again.
            ("reloads", &self.reloads, &self.reload_tasks),
            ("sources", &self.sources, &self.source_tasks),
            ("lanes", &self.lanes, &self.lane_tasks),
            ("api", &self.rest, &self.rest_tasks),
        ] {
            token.cancel();
            tasks.close();
            if timeout(patience, tasks.wait()).await.is_err() {
                tracing::warn!(
                    stage = name,
                    left = tasks.len(),
                    "did not stop in time; nothing is lost"
                );
                lanes_finished &= name != "lanes";
            }
        }
        if !lanes_finished {
            // Closing would call this a clean end, and what is still under way would not be in doubt.
            return;
        }
        match timeout(patience, engine.close()).await {
            Ok(Ok(())) => tracing::info!("stopped"),
            Ok(Err(error)) => {
                tracing::warn!(error = %Chain(&error), "the queue did not close cleanly")
            }
            Err(_) => tracing::warn!("the queue did not close in time"),
        }
    }
}

/// Until a person says so, or the queue cannot promise anything any more.
pub(crate) async fn wait_for_end(engine: &Engine, mut signals: EndSignals) -> Result<(), RunError> {
    let mut failure = engine.failure();
    tokio::select! {
        _ = signals.terminate.recv() => Ok(()),
        _ = signals.interrupt.recv() => Ok(()),
        failed = failure.wait_for(Option::is_some) => {
            let reason = failed.ok().and_then(|reason| reason.clone());
            Err(RunError::QueueFailed(reason.unwrap_or_else(|| "it is gone".into())))
        }
    }
}
