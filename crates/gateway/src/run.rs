//! `holdfast run`: everything is made, started in the order of its use, and stopped in the order
//! of the flow: sources, lanes, jobs, API, queue.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::{IsTerminal, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
    time::Duration,
};

use holdfast_connectors::sources::{Source, SourceHealth};
use holdfast_model::{Chain, Name, Secret};
use holdfast_pipeline::{Clock, LaneHandle, Metrics, QueueIntake, jobs::Jobs, lane};
use holdfast_queue::{Engine, Limits, QueueEngine, QueueError};
use rand::Rng;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::Notify,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    api::{self, Api, Parts, SourceStatus},
    cli::{Exit, LogFormat},
    config::{self, Config, Role, Token},
};

const UPKEEP_EVERY: Duration = Duration::from_secs(1);
/// How long a lane without a destination holds its events.
const ORPHAN_KEEP: Duration = Duration::from_secs(7 * 86_400);
/// Largest batch of any source, in bytes.
const BATCH_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Why the gateway could not start or had to end.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error("cannot listen on {address}")]
    Listen {
        address: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot prepare the state directory {path}")]
    State {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot open the queue")]
    Queue(#[source] QueueError),
    #[error("the queue failed: {0}")]
    QueueFailed(Arc<str>),
    #[error("cannot register the metrics")]
    Metrics(#[from] prometheus::Error),
    #[error("cannot wait for signals")]
    Signals(#[source] std::io::Error),
}

pub(crate) fn main(path: &Path, log_format: LogFormat) -> Exit {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(faults) => {
            crate::cli::show_faults(path, &faults);
            return Exit::Configuration;
        }
    };
    start_log(log_format);
    holdfast_connectors::http::install_crypto();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            return Exit::Failed;
        }
    };
    let result = runtime.block_on(run(config));
    // A hung blocking call of a destination must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match result {
        Ok(()) => Exit::Done,
        Err(error) => {
            tracing::error!(error = %Chain(&error), "the gateway ends");
            match error {
                RunError::Queue(QueueError::Locked { .. }) => Exit::Busy,
                _ => Exit::Failed,
            }
        }
    }
}

fn start_log(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("HOLDFAST_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Colours are for people; a log file or journal gets plain text.
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}

/// What stops together.
struct Stages {
    sources: CancellationToken,
    lanes: CancellationToken,
    rest: CancellationToken,
    source_tasks: TaskTracker,
    lane_tasks: TaskTracker,
    rest_tasks: TaskTracker,
}

impl Stages {
    fn new() -> Self {
        Self {
            sources: CancellationToken::new(),
            lanes: CancellationToken::new(),
            rest: CancellationToken::new(),
            source_tasks: TaskTracker::new(),
            lane_tasks: TaskTracker::new(),
            rest_tasks: TaskTracker::new(),
        }
    }
}

async fn run(config: Config) -> Result<(), RunError> {
    prepare_state(&config.node.state)?;
    let address = config.server.listen;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| RunError::Listen { address: address.to_string(), source })?;
    let clock = Clock::system();
    let engine = open_queue(&config, &clock).await?;
    let registry = prometheus::Registry::new();
    registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
    let metrics = Metrics::register(&registry)?;
    let stages = Stages::new();
    let shutdown_timeout = config.node.shutdown_timeout;
    let tokens = tokens(&config)?;
    let lanes = start_lanes(config.destinations, &engine, &clock, &metrics, &stages).await?;
    let sources = start_sources(config.sources, &engine, &clock, &metrics, &stages);
    let (jobs_wake, jobs_lock) = (Arc::new(Notify::new()), Arc::new(tokio::sync::Mutex::new(())));
    let jobs = Jobs::new(
        Arc::clone(&engine) as Arc<dyn QueueEngine>,
        clock.clone(),
        lanes.clone(),
        Arc::clone(&jobs_wake),
        Arc::clone(&jobs_lock),
    );
    // Replays have lanes of their own, which stop as the others do.
    stages.lane_tasks.spawn(jobs.run(stages.lanes.clone()));
    stages.rest_tasks.spawn(upkeep(
        Arc::clone(&engine),
        clock.clone(),
        lanes.clone(),
        stages.rest.clone(),
    ));
    metrics.source(api::HTTP_SOURCE);
    let intake = QueueIntake::new(
        Arc::clone(&engine) as Arc<dyn QueueEngine>,
        clock.clone(),
        metrics.clone(),
        BATCH_BYTES_MAX,
        api::HTTP_SOURCE.to_owned(),
    );
    let api = Api::new(Parts {
        engine: Arc::clone(&engine),
        lanes,
        intake: Arc::new(intake),
        clock,
        metrics,
        registry,
        sources,
        tokens,
        hosts: config.server.hosts.clone(),
        loopback: address.ip().is_loopback(),
        body_bytes_max: config.server.body_bytes_max,
        line_bytes_max: config.server.line_bytes_max,
        jobs_wake,
        jobs_lock,
    })?;
    let router = api::router(Arc::new(api));
    stages.rest_tasks.spawn(api::serve(listener, router, stages.rest.clone()));
    tracing::info!(
        %address,
        node = %config.node.name,
        log = %engine.log_id(),
        version = env!("CARGO_PKG_VERSION"),
        "holdfast is running"
    );
    let ended = wait_for_end(&engine).await;
    stop(stages, shutdown_timeout, &engine).await;
    ended
}

fn prepare_state(path: &Path) -> Result<(), RunError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(path)
        .map_err(|source| RunError::State { path: path.display().to_string(), source })
}

async fn open_queue(config: &Config, clock: &Clock) -> Result<Arc<Engine>, RunError> {
    let queue = config.queue.clone();
    let limits = Limits {
        bytes_max: queue.bytes_max,
        retention: queue.retention,
        dead_age_max: queue.dead_age_max,
        idempotency_window: config.idempotency.window,
        idempotency_keys_max: config.idempotency.keys_max,
    };
    let now = clock.now();
    let opened = tokio::task::spawn_blocking(move || {
        Engine::open(&queue.path, limits, queue.reserve_bytes, now)
    });
    match opened.await {
        Ok(Ok(engine)) => Ok(Arc::new(engine)),
        Ok(Err(error)) => Err(RunError::Queue(error)),
        Err(error) => Err(RunError::QueueFailed(error.to_string().into())),
    }
}

/// The configured tokens, or the one that the first start writes to `<state>/admin.token`.
fn tokens(config: &Config) -> Result<Vec<Token>, RunError> {
    if !config.server.tokens.is_empty() {
        return Ok(config.server.tokens.clone());
    }
    let path = config.node.state.join("admin.token");
    let failed = |source| RunError::State { path: path.display().to_string(), source };
    let secret = match std::fs::read_to_string(&path) {
        Ok(token) => token.trim().to_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut random = [0; 32];
            rand::rng().fill_bytes(&mut random);
            let token = hex::encode(random);
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
                .map_err(failed)?;
            file.write_all(format!("{token}\n").as_bytes())
                .and_then(|()| file.sync_all())
                .map_err(failed)?;
            tracing::info!(path = %path.display(), "no tokens are configured; wrote an admin token");
            token
        }
        Err(error) => return Err(failed(error)),
    };
    let name = Name::new("admin").map_err(|error| failed(std::io::Error::other(error)))?;
    Ok(vec![Token { name, role: Role::Admin, secret: Secret::new(secret) }])
}

async fn start_lanes(
    configs: Vec<holdfast_pipeline::LaneConfig>,
    engine: &Arc<Engine>,
    clock: &Clock,
    metrics: &Metrics,
    stages: &Stages,
) -> Result<BTreeMap<Name, LaneHandle>, RunError> {
    let mut lanes = BTreeMap::new();
    for config in configs {
        let name = config.name.clone();
        let queue = Arc::clone(engine) as Arc<dyn QueueEngine>;
        let opened = lane::open(config, queue, clock.clone(), metrics, stages.lanes.clone()).await;
        let (handle, task) = opened.map_err(RunError::Queue)?;
        stages.lane_tasks.spawn(task);
        lanes.insert(name, handle);
    }
    Ok(lanes)
}

fn start_sources(
    configured: Vec<(Name, Box<dyn Source>)>,
    engine: &Arc<Engine>,
    clock: &Clock,
    metrics: &Metrics,
    stages: &Stages,
) -> Vec<SourceStatus> {
    let mut statuses = Vec::new();
    for (name, source) in configured {
        let health = Arc::new(SourceHealth::default());
        metrics.source(name.as_str());
        let intake = QueueIntake::new(
            Arc::clone(engine) as Arc<dyn QueueEngine>,
            clock.clone(),
            metrics.clone(),
            BATCH_BYTES_MAX,
            source.position_key(),
        );
        let task = source.run(Arc::new(intake), Arc::clone(&health), stages.sources.clone());
        stages.source_tasks.spawn(task);
        statuses.push(SourceStatus { name, health });
    }
    statuses
}

/// Trims, merges and expires once a second; gives up orphaned lanes after their time.
async fn upkeep(
    engine: Arc<Engine>,
    clock: Clock,
    lanes: BTreeMap<Name, LaneHandle>,
    stop: CancellationToken,
) {
    let mut ticks = interval(UPKEEP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let now = clock.now();
        if let Err(error) = engine.upkeep(now).await {
            tracing::warn!(error = %Chain(&error), "the queue's upkeep failed");
            continue;
        }
        for lane in engine.lanes() {
            let orphaned = lane.job.is_none() && !lanes.contains_key(&lane.name);
            if orphaned && now.since(lane.last_open_at) > ORPHAN_KEEP {
                match engine.abandon_lane(&lane.name).await {
                    Ok(0) => {}
                    Ok(expired) => tracing::warn!(
                        lane = %lane.name, expired, "an orphaned lane's events expired"
                    ),
                    Err(error) => tracing::error!(error = %Chain(&error), "cannot expire a lane"),
                }
            }
        }
    }
}

/// Until a person says so, or the queue cannot promise anything any more.
async fn wait_for_end(engine: &Engine) -> Result<(), RunError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    let mut failure = engine.failure();
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        failed = failure.wait_for(Option::is_some) => {
            let reason = failed.ok().and_then(|reason| reason.clone());
            Err(RunError::QueueFailed(reason.unwrap_or_else(|| "it is gone".into())))
        }
    }
}

/// Stops in the order of the flow, each stage with its time. What is cut short is sent again.
async fn stop(stages: Stages, patience: Duration, engine: &Engine) {
    tracing::info!("stopping");
    let mut lanes_finished = true;
    for (name, token, tasks) in [
        ("sources", &stages.sources, &stages.source_tasks),
        ("lanes", &stages.lanes, &stages.lane_tasks),
        ("api", &stages.rest, &stages.rest_tasks),
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
        Ok(Err(error)) => tracing::warn!(error = %Chain(&error), "the queue did not close cleanly"),
        Err(_) => tracing::warn!("the queue did not close in time"),
    }
}
