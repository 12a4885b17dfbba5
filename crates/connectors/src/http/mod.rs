//! The only way out over HTTP.
//!
//! Promises: every exchange ends within its time limit, the reading of the answer included; at
//! most [`DRAIN_BYTES_MAX`] of an answer are read; a redirect is not followed and no proxy is
//! taken from the environment; nothing is sent twice behind the caller's back, unless hyper knows
//! that no byte of the first try was written; no address and no credential gets into an error.
//!
//! Does not promise: that a request was not acted upon when it ends in
//! [`Reason::InDoubt`].
//!
//! HTTP/1.1 with kept connections, not HTTP/2: each attempt has a connection of its own, so one
//! that stalls or breaks costs one attempt, and giving up closes it.

mod answer;
mod classify;
#[cfg(test)]
pub(crate) mod fake;
mod rehearsal;
#[cfg(test)]
mod tests;
mod transport;

use std::{fmt, sync::Arc, time::Duration};

use holdfast_model::{DeliveryError, Reason};
use reqwest::{Request, redirect};
use rustls::{ClientConfig, RootCertStore, crypto::CryptoProvider};
use tokio::time::{Instant, timeout_at};

pub(crate) use self::{
    answer::masked,
    rehearsal::is_rehearsal,
    transport::{is_permanent, tls_reason},
};
pub use self::{
    answer::{Answer, EXCERPT_READ_BYTES_MAX, mask},
    classify::{RETRY_AFTER_MAX, classify, retry_after},
    rehearsal::{Rehearsed, rehearse},
};

/// `User-Agent` of every request.
pub const USER_AGENT: &str = concat!("holdfast/", env!("CARGO_PKG_VERSION"));

/// Most of an answer that is read, in bytes. Up to here it is read to its end, so that the
/// connection can be used again; a longer answer costs the connection instead.
pub const DRAIN_BYTES_MAX: usize = 64 * 1024;

/// Longest wait for a connection, the TLS handshake included.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(10);

/// How long an unused connection is kept. Shorter than the usual limits of load balancers (60 s),
/// so that they rarely hang up while a request is on its way, which would leave it in doubt.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// Unused connections kept for one host.
const IDLE_CONNECTIONS_MAX: usize = 256;

/// What a client is made from.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Longest wait for one exchange, connect to last byte.
    pub timeout: Duration,
    /// Whether it will speak TLS. Only then are the machine's trusted roots read.
    pub tls: bool,
}

/// Sends requests, each within the time limit. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client {
    inner: reqwest::Client,
    timeout: Duration,
}

/// Makes a client.
pub fn client(settings: Settings) -> Result<Client, reqwest::Error> {
    let inner = builder(settings).build()?;
    Ok(Client { inner, timeout: settings.timeout })
}

/// Makes ring the cryptography of every rustls user in this process that brings none of its own.
/// The client here brings its own; call it once at start for the others. Repeating it is harmless.
pub fn install_crypto() {
    // An error says that there is one already, which is all that is wanted.
    drop(rustls::crypto::ring::default_provider().install_default());
}

fn builder(settings: Settings) -> reqwest::ClientBuilder {
    let roots = if settings.tls { trusted_roots() } else { RootCertStore::empty() };
    builder_trusting(settings, roots)
}

fn builder_trusting(settings: Settings, roots: RootCertStore) -> reqwest::ClientBuilder {
    let tls = tls_config(Arc::new(rustls::crypto::ring::default_provider()), roots);
    let builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .referer(false)
        .http1_only()
        .tcp_nodelay(true)
        // Less than the whole, so that a connection that cannot be made is told from an answer
        // that does not come.
        .connect_timeout(CONNECT_TIMEOUT_MAX.min(settings.timeout / 2))
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX);
    match tls {
        Ok(tls) => builder.tls_backend_preconfigured(tls),
        // Cannot be: ring has every suite of the default versions. reqwest says so if it is.
        Err(_) => builder,
    }
}

fn tls_config(
    provider: Arc<CryptoProvider>,
    roots: RootCertStore,
) -> Result<ClientConfig, rustls::Error> {
    let versions =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(versions.with_root_certificates(roots).with_no_client_auth())
}

/// The roots the machine trusts, from its certificate store or `SSL_CERT_FILE`.
///
/// Not Mozilla's list compiled in: a SOC's own services have certificates of the house's own CA,
/// which the machine's administrator has installed there, and a distrusted root goes with the
/// system's updates and not with ours. Read for each client, so a reload sees a change.
pub(crate) fn trusted_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _ignored) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        // Not fatal: lanes over plain HTTP work, the others say that the issuer is unknown.
        let error = found.errors.first().map(ToString::to_string).unwrap_or_default();
        tracing::warn!(error, "no trusted root certificate was found; install ca-certificates");
    }
    roots
}

// === impl Client ===

impl Client {
    /// Sends the request once and reads the beginning of the answer, keeping at most
    /// `body_bytes_max` of it.
    ///
    /// An answer is `Ok` whatever its status, also when its body broke off: the status line is the
    /// receiver's word, and [`Answer::verdict`] reads it. `Err` is an exchange without an answer.
    pub async fn send(
        &self,
        request: Request,
        body_bytes_max: usize,
    ) -> Result<Answer, DeliveryError> {
        if let Some(not_sent) = rehearsal::note(&request) {
            return Err(not_sent);
        }
        let deadline = Instant::now() + self.timeout;
        match timeout_at(deadline, self.inner.execute(request)).await {
            Ok(Ok(response)) => Ok(Answer::read(response, body_bytes_max, deadline).await),
            Ok(Err(error)) => Err(transport::failure(error)),
            // Connecting has a shorter limit of its own, so this one ran out later.
            Err(elapsed) => Err(DeliveryError::caused_by(Reason::InDoubt, elapsed)),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}
