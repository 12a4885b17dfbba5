//! From one configuration to the next while everything runs. A start is the change from nothing.
//!
//! Promises: a file with faults changes nothing and says so; a lane or source whose settings did not
//! change is not touched, its connections included; a changed lane ends its attempts with the old
//! settings and goes on from its position with the new ones; a lane that is gone is an orphan with
//! all its events; one reload at a time, in the order in which they were asked for.
//!
//! Does not promise that a changed lane's attempts end well: after `shutdown_timeout` they are cut
//! off, and their events are in doubt as after a crash.
//!
//! What is to be done is decided by [`plan`], which is pure; [`hands`] do it.

mod hands;
mod plan;
mod report;
mod sources;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use futures_util::future::{join, join_all};
use holdfast_model::{Chain, Name, settings::Fault};
use holdfast_pipeline::operator::{Happening, Notice};
use holdfast_queue::{AuditEntry, QueueEngine, QueueError};
use prometheus::{IntCounterVec, Opts, Registry};
use tokio::{
    signal::unix::Signal,
    sync::{mpsc, oneshot},
};
use tokio_util::sync::CancellationToken;

use self::{hands::Act, plan::Plan};
pub(crate) use self::{
    hands::{Hands, Run},
    report::Report,
    sources::{SourceRuns, Sources},
};
use crate::{
    config::{self, Config, Fixed, Prints},
    notify,
};

/// Reloads that may wait for their turn; further ones are refused.
const WAITING_MAX: usize = 64;
/// Who reloads by a signal, in the audit.
const BY_SIGNAL: &str = "SIGHUP";

/// Why there was no reload.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReloadError {
    #[error("the new configuration has {} faults; nothing was changed", .0.len())]
    Faults(Vec<Fault>),
    #[error("the queue failed while the lanes were changed")]
    Queue(#[source] QueueError),
    #[error("the gateway is stopping")]
    Stopping,
    #[error("too many reloads wait already")]
    Busy,
}

/// Without any the gateway would have no door.
const TOKENS_STAY: &str = "`server.tokens` has none any more, so those of before stay valid until \
    the next start, which takes `admin.token`";

struct Wish {
    who: String,
    done: oneshot::Sender<Result<Report, ReloadError>>,
}

/// Asks for reloads.
#[derive(Clone, Debug)]
pub(crate) struct Reloader(mpsc::Sender<Wish>);

impl Reloader {
    /// Returns when it is done.
    pub(crate) async fn reload(&self, who: &str) -> Result<Report, ReloadError> {
        let (done, end) = oneshot::channel();
        self.0.try_send(Wish { who: who.to_owned(), done }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ReloadError::Busy,
            mpsc::error::TrySendError::Closed(_) => ReloadError::Stopping,
        })?;
        end.await.unwrap_or(Err(ReloadError::Stopping))
    }
}

/// What runs by the configuration, and the configuration that it runs by.
pub(crate) struct Running {
    path: PathBuf,
    hands: Hands,
    fixed: Fixed,
    prints: Prints,
    lanes: BTreeMap<Name, Run>,
    sources: SourceRuns,
    reloads: IntCounterVec,
    /// The valid tokens are the configuration's, not the generated one.
    has_tokens: bool,
}

impl Running {
    /// Starts everything of a configuration.
    pub(crate) async fn start(
        path: PathBuf,
        config: Config,
        hands: Hands,
        sources: SourceRuns,
        registry: &Registry,
    ) -> Result<Self, StartError> {
        let opts = Opts::new(
            "holdfast_config_reloads_total",
            "Reloads of the configuration, by outcome: a failed one changed nothing.",
        );
        let reloads = IntCounterVec::new(opts, &["outcome"])?;
        registry.register(Box::new(reloads.clone()))?;
        for outcome in ["ok", "failed"] {
            reloads.with_label_values(&[outcome]);
        }
        let mut running = Self {
            path,
            hands,
            fixed: Fixed::of(&config),
            prints: Prints::default(),
            lanes: BTreeMap::new(),
            sources,
            reloads,
            has_tokens: !config.server.tokens.is_empty(),
        };
        // Against nothing no file is at fault.
        let plan = Plan::between(&running.prints, &config.prints).unwrap_or_default();
        running.carry_out(&plan, config).await.map_err(StartError::Queue)?;
        Ok(running)
    }

    /// The task takes wishes and signals until `stop`; the caller spawns it.
    pub(crate) fn serve(
        mut self,
        mut hangup: Signal,
        stop: CancellationToken,
    ) -> (Reloader, impl Future<Output = ()> + Send + 'static) {
        let (sender, mut wishes) = mpsc::channel::<Wish>(WAITING_MAX);
        let task = async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    Some(()) = hangup.recv() => {
                        // It says in the log, the metrics and the audit how it went.
                        self.reload(BY_SIGNAL).await.ok();
                    }
                    Some(Wish { who, done }) = wishes.recv() => {
                        // Whoever asked may have gone away.
                        done.send(self.reload(&who).await).ok();
                    }
                }
            }
        };
        (Reloader(sender), task)
    }

    async fn reload(&mut self, who: &str) -> Result<Report, ReloadError> {
        tracing::info!(who, path = %self.path.display(), "reading the configuration anew");
        notify::reloading();
        let result = self.try_reload().await;
        notify::ready();
        let outcome = if result.is_ok() { "ok" } else { "failed" };
        self.report(&result);
        let detail = match &result {
            Ok(report) => report.summary(),
            Err(error) => Chain(error).to_string(),
        };
        let entry = AuditEntry {
            at: self.hands.clock.now(),
            who: who.to_owned(),
            action: "reload".to_owned(),
            subject: self.path.display().to_string(),
            detail: format!("{outcome}: {detail}"),
        };
        if let Err(error) = self.hands.engine.add_audit(entry).await {
            tracing::error!(error = %Chain(&error), "cannot write the audit entry");
        }
        // Whoever sees it counted finds the rest of it.
        self.reloads.with_label_values(&[outcome]).inc();
        result
    }

    async fn try_reload(&mut self) -> Result<Report, ReloadError> {
        let path = self.path.clone();
        // It reads files, and compiles filters and templates.
        let loaded = tokio::task::spawn_blocking(move || config::load(&path)).await;
        let config = loaded.map_err(|_| ReloadError::Stopping)?.map_err(ReloadError::Faults)?;
        self.forget_ended();
        let plan = Plan::between(&self.prints, &config.prints).map_err(ReloadError::Faults)?;
        let fixed = Fixed::of(&config);
        let restart = self.fixed.differences(&fixed);
        self.hands.patience = config.node.shutdown_timeout;
        let fixed_secrets = config.prints.fixed_secrets.clone();
        let mut notes = plan.notes.clone();
        let (tokens, files) = (config.server.tokens.clone(), config.server.tls.clone());
        notes.extend(self.carry_out(&plan, config).await.map_err(ReloadError::Queue)?);
        self.hands.wake_parked(&plan.kept).await;
        if tokens.is_empty() && self.has_tokens {
            notes.push(TOKENS_STAY.to_owned());
        }
        self.has_tokens |= !tokens.is_empty();
        notes.extend(self.hands.adopt_live(tokens, files).await);
        Ok(Report::new(&plan, notes, restart, fixed_secrets))
    }

    /// A lane that ended by itself runs by no settings, so it changes in any case.
    fn forget_ended(&mut self) {
        for (name, run) in &self.lanes {
            if run.task.is_finished()
                && let Some(print) = self.prints.destinations.get_mut(name.as_str())
            {
                print.settings = Default::default();
            }
        }
    }

    /// Does what the plan says. Answers what a person should know.
    async fn carry_out(&mut self, plan: &Plan, config: Config) -> Result<Vec<String>, QueueError> {
        let Config { prints, sources, destinations, .. } = config;
        self.sources.stop(&plan.sources_stop, self.hands.patience).await;
        // A replay job must not put events into a lane between its end and its beginning.
        let jobs = Arc::clone(&self.hands.jobs_lock);
        let _no_jobs = jobs.lock().await;
        let mut configs: BTreeMap<String, _> =
            destinations.into_iter().map(|config| (config.name.to_string(), config)).collect();
        let (mut begin, mut end, mut go_on) = (Vec::new(), Vec::new(), Vec::new());
        for step in &plan.lanes {
            let act = Act::new(step, &mut self.lanes, &mut configs);
            match step {
                plan::Step::Start { .. } => begin.push(act),
                plan::Step::Remove { .. } => end.push(act),
                plan::Step::Change { .. } | plan::Step::Rename { .. } => go_on.push(act),
            }
        }
        let hands = &self.hands;
        let all = |acts: Vec<Act>| join_all(acts.into_iter().map(|act| hands.carry_out(act)));
        // What begins may use what another leaves, as a file.
        let one_after_the_other = async {
            let mut done = all(end).await;
            done.extend(all(begin).await);
            done
        };
        let (mut done, others) = join(one_after_the_other, all(go_on)).await;
        done.extend(others);
        self.sources.start(sources, &plan.sources_start);
        self.prints = prints;
        let (mut notes, mut failure) = (Vec::new(), None);
        for done in done {
            self.lanes.extend(done.runs);
            notes.extend(done.note);
            if let Some((name, error)) = done.failed {
                // It does not run, so the next reload begins with it anew.
                self.prints.destinations.remove(name.as_str());
                failure = Some(error);
            }
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(notes),
        }
    }

    /// In the log and to the operator.
    fn report(&self, result: &Result<Report, ReloadError>) {
        let path = self.path.display();
        let (state, level, text, reason) = match result {
            Ok(report) => {
                let summary = report.summary();
                tracing::info!(%path, summary, "the configuration was reloaded");
                for note in report.remarks() {
                    tracing::warn!(%path, note, "reload");
                }
                ("ok", 3, "Holdfast: the configuration was reloaded", summary)
            }
            Err(ReloadError::Faults(faults)) => {
                for fault in faults {
                    let fault = config::Located(&self.path, fault).to_string();
                    tracing::error!(fault, "the new configuration has a fault");
                }
                tracing::error!(%path, faults = faults.len(), "nothing was changed");
                let first = faults.first();
                let first = first.map(|fault| config::Located(&self.path, fault).to_string());
                let text = "Holdfast: the new configuration has faults; nothing was changed";
                ("failed", 10, text, first.unwrap_or_default())
            }
            Err(error) => {
                tracing::error!(%path, error = %Chain(error), "the reload failed");
                ("failed", 10, "Holdfast: a reload failed", Chain(error).to_string())
            }
        };
        self.hands.operator.tell(Notice {
            happening: Happening::Reload,
            subject: "configuration".to_owned(),
            state,
            level,
            text: text.to_owned(),
            reason,
        });
    }
}

/// Why the lanes and sources could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("cannot register the metrics")]
    Metrics(#[from] prometheus::Error),
    #[error("cannot open the lanes")]
    Queue(#[source] QueueError),
}
