//! The HTTP side: what is served, and who may call it.
//!
//! Every request passes the same gates in the same order: host and origin ([`guard`]), then token
//! and role ([`auth`]), then its route. Errors are RFC 9457 problems ([`problem`]).

mod alerts;
mod audit;
mod auth;
mod body;
mod callbacks;
mod console;
mod consumers;
mod dead_letters;
mod destinations;
mod event;
mod extract;
mod guard;
mod health;
mod ingest;
mod live;
mod metrics;
mod openapi;
mod problem;
mod reload;
mod replays;
mod routes;
mod server;
mod timeline;
mod tls;
mod trial;
mod upload;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use holdfast_model::Intake;
use holdfast_pipeline::{Clock, Lanes, Metrics};
use holdfast_queue::Engine;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::reload::{Reloader, Sources};

pub(crate) use self::{
    auth::Access,
    callbacks::{Counters as CallbackCounters, Desk, router as callbacks_router},
    ingest::SOURCE as HTTP_SOURCE,
    live::Live,
    routes::router,
    server::serve,
    tls::Tls,
};

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
    pub access: Arc<Access>,
    /// Accepted `Host` names, beside IP literals.
    pub hosts: Vec<String>,
    /// The listener is on loopback, where `/metrics` and the lanes' health are anonymous.
    pub loopback: bool,
    /// Callbacks have no listener of their own.
    pub callbacks_here: bool,
    pub callbacks: Arc<Desk>,
    pub body_bytes_max: usize,
    pub line_bytes_max: usize,
    /// Wakes the replay jobs.
    pub jobs_wake: Arc<Notify>,
    /// Held while a replay job is read, changed and written.
    pub jobs_lock: Arc<tokio::sync::Mutex<()>>,
    pub reloader: Reloader,
    readers: alerts::Readers,
    consumers: consumers::Desks,
    console: console::Console,
    /// For tests of destinations.
    tests: Semaphore,
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
    pub access: Arc<Access>,
    pub hosts: Vec<String>,
    pub loopback: bool,
    pub callbacks_here: bool,
    pub callbacks: Arc<Desk>,
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
            consumers: consumers::Desks::of(&*parts.engine),
            engine: parts.engine,
            lanes: parts.lanes,
            intake: parts.intake,
            clock: parts.clock,
            metrics: parts.metrics,
            sources: parts.sources,
            access: parts.access,
            hosts: parts.hosts,
            loopback: parts.loopback,
            callbacks_here: parts.callbacks_here,
            callbacks: parts.callbacks,
            body_bytes_max: parts.body_bytes_max,
            line_bytes_max: parts.line_bytes_max,
            jobs_wake: parts.jobs_wake,
            jobs_lock: parts.jobs_lock,
            reloader: parts.reloader,
            readers: alerts::Readers::new(parts.stop),
            console: console::Console::default(),
            tests: Semaphore::new(trial::TESTS_MAX),
            bodies: Arc::new(Semaphore::new(BODIES_KIB_MAX)),
            under_way: Mutex::default(),
        })
    }
}
