//! A remote endpoint for osqueryd over TLS: enrolment, configuration, logs, distributed queries.
//!
//! Promises: a log is answered with success only once it is on stable storage, and everything else
//! is answered with an `error`, on which osqueryd keeps what it has and sends it again; a host is
//! known by its node key alone, which outlives a restart; bodies, hosts, connections, and requests
//! of each address and host have limits; a wrong enroll secret is refused and counted.
//!
//! Does not promise: that a batch whose answer was lost is not taken twice after a restart (within
//! one run it is known by its lines); that files are carved: that is refused.
//!
//! Quirks: osqueryd looks at no status. An empty body, or JSON without `error` and without
//! `node_invalid`, is success, whatever stands above it; on `node_invalid` it enrols anew. Released
//! versions speak TLS 1.2.
//!
//! Source: osquery `docs/wiki/deployment/remote.md`, `plugins/remote/enroll/tls_enroll.cpp`,
//! `plugins/logger/tls_logger.cpp`, `osquery/remote/transports/tls.cpp`,
//! `tools/tests/test_http_server.py`.

mod answers;
mod bodies;
mod keys;
mod listen;
mod logs;
mod settings;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use holdfast_model::{Chain, Intake, IntakeBatch, IntakeError};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::{answers::Door, keys::Keys, settings::Options};
use super::{Kind, Source, SourceHealth};
use crate::fleet;

pub(super) const KIND: Kind = Kind {
    name: "osquery_tls",
    summary: "A TLS endpoint that osqueryd enrols with, takes its configuration from and logs to.",
    settings: settings::ALL,
    build: settings::build,
};

/// Before an address that cannot be listened on, or a queue that refuses, is tried again.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct OsqueryTls {
    name: Arc<str>,
    options: Arc<Options>,
}

#[async_trait]
impl Source for OsqueryTls {
    fn position_key(&self) -> String {
        format!("osquery_tls:{}", self.options.listen)
    }

    async fn run(
        self: Box<Self>,
        intake: Arc<dyn Intake>,
        health: Arc<SourceHealth>,
        stop: CancellationToken,
    ) {
        let Some(keys) = self.keys(&intake, &health, &stop).await else { return };
        let served = fleet::serve(&self.name, self.options.hosts_max);
        let Some(listener) = self.listener(&health, &stop).await else { return };
        let options = Arc::clone(&self.options);
        let door = Door::new(Arc::clone(&self.name), options, intake, health, served.fleet(), keys);
        listen::serve(listener, Arc::new(door), &self.options, stop).await;
    }
}

impl OsqueryTls {
    /// The key that node keys are made with: the stored one, or a new one, stored before it is used.
    async fn keys(
        &self,
        intake: &Arc<dyn Intake>,
        health: &SourceHealth,
        stop: &CancellationToken,
    ) -> Option<Keys> {
        let epoch = self.options.key_epoch;
        loop {
            let error = match intake.position(&self.name).await {
                Ok(stored) => {
                    if let Some(keys) = stored.and_then(|stored| Keys::read(&stored, epoch)) {
                        return Some(keys);
                    }
                    let (keys, position) = match Keys::draw(epoch) {
                        Some(made) => made,
                        None => {
                            health.set_trouble("the system has no random numbers");
                            return None;
                        }
                    };
                    let position = Some(position);
                    let batch = IntakeBatch { position, ..IntakeBatch::default() };
                    match intake.append(&self.name, batch).await {
                        Ok(_) => return Some(keys),
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            health.set_trouble(Chain(&error).to_string());
            if matches!(error, IntakeError::Stopping | IntakeError::Queue(_)) {
                tracing::error!(source = %self.name, error = %Chain(&error), "the source stops");
                return None;
            }
            wait(stop).await?;
        }
    }

    async fn listener(
        &self,
        health: &SourceHealth,
        stop: &CancellationToken,
    ) -> Option<TcpListener> {
        let address = self.options.listen;
        loop {
            match TcpListener::bind(address).await {
                Ok(listener) => {
                    let address = listener.local_addr().unwrap_or(address);
                    tracing::info!(source = %self.name, %address, "osqueryd may come");
                    health.clear_trouble();
                    return Some(listener);
                }
                Err(error) => {
                    let trouble = format!("cannot listen on {address}: {}", Chain(&error));
                    if health.trouble().as_deref() != Some(&trouble) {
                        tracing::warn!(source = %self.name, trouble, "nothing is taken in");
                        health.set_trouble(trouble);
                    }
                    wait(stop).await?;
                }
            }
        }
    }
}

async fn wait(stop: &CancellationToken) -> Option<()> {
    tokio::select! {
        () = stop.cancelled() => None,
        () = tokio::time::sleep(AGAIN) => Some(()),
    }
}
