//! The HTTP side: what is served, and who may call it.
//!
//! Every request passes the same gates in the same order: host and origin ([`guard`]), then token
//! and role ([`auth`]), then its route. Errors are RFC 9457 problems ([`problem`]).

mod alerts;
mod auth;
mod body;
mod console;
mod dead_letters;
mod destinations;
mod event;
mod guard;
mod health;
mod ingest;
mod metrics;
mod problem;
mod reload;
mod replays;
mod server;
mod upload;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{get, post},
};
use holdfast_model::Intake;
use holdfast_pipeline::{Clock, Lanes, Metrics};
use holdfast_queue::Engine;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Role, Token},
    reload::{Reloader, Sources},
};

pub(crate) use self::{ingest::SOURCE as HTTP_SOURCE, server::serve};

/// Bytes of request bodies that may be in memory at once, in KiB; further ones wait.
const BODIES_KIB_MAX: usize = 64 * 1024;

/// What the routes work with.
pub(crate) struct Api {
    pub engine: Arc<Engine>,
    pub lanes: Lanes,
    pub intake: Arc<dyn Intake>,
    pub clock: Clock,
    pub metrics: Metrics,
    pub scrape: metrics::Scrape,
    pub sources: Sources,
    pub tokens: Vec<Token>,
    /// Accepted `Host` names, beside IP literals.
    pub hosts: Vec<String>,
    /// The listener is on loopback, where `/metrics` and the lanes' health are anonymous.
    pub loopback: bool,
    pub body_bytes_max: usize,
    pub line_bytes_max: usize,
    /// Wakes the replay jobs.
    pub jobs_wake: Arc<Notify>,
    /// Held while a replay job is read, changed and written.
    pub jobs_lock: Arc<tokio::sync::Mutex<()>>,
    pub reloader: Reloader,
    readers: alerts::Readers,
    console: console::Console,
    bodies: Arc<Semaphore>,
    /// Idempotency keys whose requests are under way.
    under_way: Mutex<HashSet<[u8; 16]>>,
}

/// What [`Api`] is made of.
pub(crate) struct Parts {
    pub engine: Arc<Engine>,
    pub lanes: Lanes,
    pub intake: Arc<dyn Intake>,
    pub clock: Clock,
    pub metrics: Metrics,
    pub registry: prometheus::Registry,
    pub sources: Sources,
    pub tokens: Vec<Token>,
    pub hosts: Vec<String>,
    pub loopback: bool,
    pub body_bytes_max: usize,
    pub line_bytes_max: usize,
    pub jobs_wake: Arc<Notify>,
    pub jobs_lock: Arc<tokio::sync::Mutex<()>>,
    pub reloader: Reloader,
    /// Lets go whoever waits for events.
    pub stop: CancellationToken,
}

impl Api {
    pub(crate) fn new(parts: Parts) -> prometheus::Result<Self> {
        Ok(Self {
            scrape: metrics::Scrape::register(parts.registry)?,
            engine: parts.engine,
            lanes: parts.lanes,
            intake: parts.intake,
            clock: parts.clock,
            metrics: parts.metrics,
            sources: parts.sources,
            tokens: parts.tokens,
            hosts: parts.hosts,
            loopback: parts.loopback,
            body_bytes_max: parts.body_bytes_max,
            line_bytes_max: parts.line_bytes_max,
            jobs_wake: parts.jobs_wake,
            jobs_lock: parts.jobs_lock,
            reloader: parts.reloader,
            readers: alerts::Readers::new(parts.stop),
            console: console::Console::default(),
            bodies: Arc::new(Semaphore::new(BODIES_KIB_MAX)),
            under_way: Mutex::default(),
        })
    }
}

/// All routes. A role that a route needs stands beside it.
pub(crate) fn router(api: Arc<Api>) -> Router {
    let ingest = Router::new()
        .route("/v1/alerts", post(ingest::post_alerts))
        .layer(middleware::from_fn_with_state((Arc::clone(&api), Role::Ingest), auth::require));
    let read = Router::new()
        .route("/v1/alerts", get(alerts::list))
        .route("/v1/alerts/stream", get(alerts::stream))
        .route("/v1/destinations", get(destinations::list))
        .route("/v1/destinations/{name}", get(destinations::show))
        .route("/v1/dead-letters", get(dead_letters::list))
        .route("/v1/dead-letters/{id}", get(dead_letters::show))
        .layer(middleware::from_fn_with_state((Arc::clone(&api), Role::Read), auth::require));
    let admin = Router::new()
        .route("/v1/destinations/{name}/pause", post(destinations::pause))
        .route("/v1/destinations/{name}/resume", post(destinations::resume))
        .route("/v1/destinations/{name}/retry-now", post(destinations::retry_now))
        .route("/v1/dead-letters/purge", post(dead_letters::purge))
        .route("/v1/dead-letters/{id}", axum::routing::delete(dead_letters::remove))
        .route("/v1/dead-letters/{id}/replay", post(dead_letters::replay))
        .route("/v1/replays", get(replays::list).post(replays::start))
        .route("/v1/replays/{id}", get(replays::show))
        .route("/v1/replays/{id}/{action}", post(replays::act))
        .route("/v1/audit", get(destinations::audit))
        .route("/v1/reload", post(reload::reload))
        .route("/v1/console/links", post(console::link))
        .layer(middleware::from_fn_with_state((Arc::clone(&api), Role::Admin), auth::require));
    let open_on_loopback = Router::new()
        .route("/metrics", get(metrics::show))
        .route("/health/destinations", get(health::destinations))
        .layer(middleware::from_fn_with_state(Arc::clone(&api), auth::require_unless_loopback));
    Router::new()
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/", get(console::page))
        .merge(ingest)
        .merge(read)
        .merge(admin)
        .merge(open_on_loopback)
        .fallback(problem::no_such_route)
        .layer(middleware::from_fn_with_state(Arc::clone(&api), guard::check))
        .layer(DefaultBodyLimit::disable())
        .with_state(api)
}
