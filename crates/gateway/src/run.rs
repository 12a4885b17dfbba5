//! `holdfast run`: everything is made, started in the order of its use, and stopped in the order
//! of the flow: reloads, sources, lanes, jobs, API, queue.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::{IsTerminal, Write},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use holdfast_connectors::secrets::LiveSecret;
use holdfast_model::{Chain, Name, Secret, settings::SecretSpec};
use holdfast_pipeline::{Clock, Lanes, Metrics, Operator, QueueIntake, jobs::Jobs};
use holdfast_queue::{Engine, Limits, QueueEngine, QueueError};
use rand::Rng;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::Notify,
};

use crate::{
    api::{self, Access, Api, Live, Parts, Tls},
    cli::{Exit, LogFormat},
    config::{self, Config, Role, ServerConfig, Token},
    notify,
    reload::{self, Hands, Reloader, Running, SourceRuns, Sources},
    stages::{self, EndSignals, Stages},
    upkeep::Upkeep,
};

/// Largest batch of any source, in bytes.
const BATCH_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Why the gateway could not start or had to end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
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
    #[error("cannot use the certificates of `server.tls`")]
    Tls(#[from] config::TlsError),
    #[error("cannot start the lanes and sources")]
    Start(#[from] reload::StartError),
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
    let result = runtime.block_on(run(path.to_owned(), config));
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

/// What everything else is made with.
struct Core {
    engine: Arc<Engine>,
    clock: Clock,
    registry: prometheus::Registry,
    metrics: Metrics,
    stages: Stages,
    operator: Operator,
    lanes: Lanes,
    sources: Sources,
    jobs_wake: Arc<Notify>,
    jobs_lock: Arc<tokio::sync::Mutex<()>>,
}

async fn run(path: PathBuf, config: Config) -> Result<(), RunError> {
    prepare_state(&config.node.state)?;
    let address = config.server.listen;
    let listener = listen(address).await?;
    let callbacks = match config.server.callbacks {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    let core = Core::open(&config).await?;
    let signals = EndSignals::take()?;
    let live = live(&config, &core.clock)?;
    let (node, server) = (config.node.clone(), config.server.clone());
    let keep = config.idempotency.window;
    let reloader = core.start_configured(path, config, live.clone()).await?;
    core.start_rest();
    core.serve(listener, callbacks, live, server, keep, reloader)?;
    tracing::info!(
        %address,
        node = %node.name,
        log = %core.engine.log_id(),
        version = env!("CARGO_PKG_VERSION"),
        "holdfast is running"
    );
    notify::ready();
    let ended = stages::wait_for_end(&core.engine, signals).await;
    notify::stopping();
    core.stages.stop(node.shutdown_timeout, &core.engine).await;
    ended
}

impl Core {
    async fn open(config: &Config) -> Result<Self, RunError> {
        let clock = Clock::system();
        let engine = open_queue(config, &clock).await?;
        let registry = prometheus::Registry::new();
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        let metrics = Metrics::register(&registry)?;
        let stages = Stages::new();
        let queue = Arc::clone(&engine) as Arc<dyn QueueEngine>;
        let (operator, notices) = Operator::new(queue, clock.clone(), stages.rest.clone());
        stages.rest_tasks.spawn(notices);
        Ok(Self {
            engine,
            clock,
            registry,
            metrics,
            stages,
            operator,
            lanes: Lanes::default(),
            sources: Sources::default(),
            jobs_wake: Arc::default(),
            jobs_lock: Arc::default(),
        })
    }

    fn queue(&self) -> Arc<dyn QueueEngine> {
        Arc::clone(&self.engine) as Arc<dyn QueueEngine>
    }

    /// Lanes and sources, and the task that changes them.
    async fn start_configured(
        &self,
        path: PathBuf,
        config: Config,
        live: Live,
    ) -> Result<Reloader, RunError> {
        let hands = Hands {
            engine: Arc::clone(&self.engine),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            operator: self.operator.clone(),
            lanes: self.lanes.clone(),
            stop: self.stages.lanes.clone(),
            tasks: self.stages.lane_tasks.clone(),
            jobs_lock: Arc::clone(&self.jobs_lock),
            patience: config.node.shutdown_timeout,
            queue_bytes_max: config.queue.bytes_max,
            dead_bytes_max: config.queue.dead_bytes_max,
            live,
        };
        let sources = SourceRuns {
            engine: Arc::clone(&self.engine),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            shown: self.sources.clone(),
            stop: self.stages.sources.clone(),
            tasks: self.stages.source_tasks.clone(),
            batch_bytes_max: BATCH_BYTES_MAX,
            runs: BTreeMap::new(),
        };
        // Before anything runs: without a handler the signal would end the process.
        let hangup = signal(SignalKind::hangup()).map_err(RunError::Signals)?;
        let running = Running::start(path, config, hands, sources, &self.registry).await?;
        let (reloader, task) = running.serve(hangup, self.stages.reloads.clone());
        self.stages.reload_tasks.spawn(task);
        Ok(reloader)
    }

    /// Jobs and upkeep.
    fn start_rest(&self) {
        let (lanes, wake) = (self.lanes.clone(), Arc::clone(&self.jobs_wake));
        let lock = Arc::clone(&self.jobs_lock);
        let jobs = Jobs::new(self.queue(), self.clock.clone(), lanes, wake, lock);
        let jobs = jobs.telling(self.operator.clone());
        // Replays have lanes of their own, which stop as the others do.
        self.stages.lane_tasks.spawn(jobs.run(self.stages.lanes.clone()));
        let upkeep = Upkeep {
            engine: Arc::clone(&self.engine),
            clock: self.clock.clone(),
            lanes: self.lanes.clone(),
            operator: self.operator.clone(),
            over: BTreeMap::new(),
        };
        self.stages.rest_tasks.spawn(upkeep.run(self.stages.rest.clone()));
        let live = notify::live(Arc::clone(&self.engine), self.stages.rest.clone());
        self.stages.rest_tasks.spawn(live);
    }

    fn serve(
        &self,
        listener: TcpListener,
        callbacks: Option<TcpListener>,
        live: Live,
        server: ServerConfig,
        keep: Duration,
        reloader: Reloader,
    ) -> Result<(), RunError> {
        self.metrics.source(api::HTTP_SOURCE);
        let counters = api::CallbackCounters::register(&self.registry)?;
        let (lanes, clock) = (self.lanes.clone(), self.clock.clone());
        let desk = api::Desk::new(self.queue(), lanes, clock, counters, keep);
        let desk = Arc::new(desk);
        let intake = QueueIntake::new(
            self.queue(),
            self.clock.clone(),
            self.metrics.clone(),
            BATCH_BYTES_MAX,
            api::HTTP_SOURCE.to_owned(),
        );
        let api = Api::new(Parts {
            engine: Arc::clone(&self.engine),
            lanes: self.lanes.clone(),
            intake: Arc::new(intake),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            registry: self.registry.clone(),
            sources: self.sources.clone(),
            access: Arc::clone(&live.access),
            hosts: server.hosts,
            loopback: server.listen.ip().is_loopback(),
            callbacks_here: callbacks.is_none() && server.listen.ip().is_loopback(),
            callbacks: Arc::clone(&desk),
            body_bytes_max: server.body_bytes_max,
            line_bytes_max: server.line_bytes_max,
            jobs_wake: Arc::clone(&self.jobs_wake),
            jobs_lock: Arc::clone(&self.jobs_lock),
            reloader,
            stop: self.stages.rest.clone(),
        })?;
        let (stop, tasks) = (&self.stages.rest, &self.stages.rest_tasks);
        let certificate = live.tls.as_ref().map(|tls| Arc::clone(&tls.main));
        tasks.spawn(api::serve(listener, api::router(Arc::new(api)), certificate, stop.clone()));
        if let Some(listener) = callbacks {
            let certificate = live.tls.as_ref().map(|tls| Arc::clone(&tls.callbacks));
            let router = api::callbacks_router(desk);
            tasks.spawn(api::serve(listener, router, certificate, stop.clone()));
        }
        tasks.spawn(live.watch(stop.clone()));
        Ok(())
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, RunError> {
    let listening = TcpListener::bind(address).await;
    listening.map_err(|source| RunError::Listen { address: address.to_string(), source })
}

/// What of the server is read anew while it runs.
fn live(config: &Config, clock: &Clock) -> Result<Live, RunError> {
    for warning in config.warnings(clock.now()) {
        tracing::warn!("{warning}");
    }
    let server = &config.server;
    let reachable = !server.listen.ip().to_canonical().is_loopback();
    if server.insecure && server.tls.is_none() && reachable {
        tracing::warn!("there is no TLS: tokens and alerts can be read on the way");
    }
    let access = Arc::new(Access::new(tokens(config)?));
    let tls = config.server.tls.clone().map(Tls::new).transpose()?.map(Arc::new);
    Ok(Live { access, tls })
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
    let spec = SecretSpec::Literal(Secret::new(secret));
    let secret =
        LiveSecret::resolve(&spec).map_err(|error| failed(std::io::Error::other(error)))?;
    Ok(vec![Token { name, role: Role::Admin, secret: Arc::new(secret), expires: None }])
}
