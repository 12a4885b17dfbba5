//! The only way out over HTTP.
//!
//! Promises: every exchange ends within its time limit, the reading of the answer included; at
//! most [`DRAIN_BYTES_MAX`] of an answer are read; a redirect is not followed and no proxy is
//! taken from the environment; nothing is sent twice behind the caller's back, unless hyper knows
//! that no byte of the first try was written; no address and no credential gets into an error;
//! where the operator lists addresses, no other is connected to.
//!
//! Does not promise: that a request was not acted upon when it ends in
//! [`Reason::InDoubt`].
//!
//! HTTP/1.1 with kept connections, not HTTP/2: each attempt has a connection of its own, so one
//! that stalls or breaks costs one attempt, and giving up closes it.

mod answer;
mod classify;
mod egress;
#[cfg(test)]
pub(crate) mod fake;
mod network;
mod rehearsal;
#[cfg(test)]
mod tests;
mod transport;

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use holdfast_model::{DeliveryError, Reason, Secret, settings::Setting};
use reqwest::{Proxy, Request, Url, dns::Resolve, redirect};
use rustls::{RootCertStore, crypto::CryptoProvider};
use tokio::time::{Instant, timeout_at};

use self::{
    egress::{ALLOW_ADDRESSES, Guard, System},
    network::Material,
};

pub(crate) use self::{
    answer::masked,
    rehearsal::is_rehearsal,
    transport::{is_permanent, tls_reason},
};
pub use self::{
    answer::{Answer, EXCERPT_READ_BYTES_MAX, mask},
    classify::{RETRY_AFTER_MAX, classify, retry_after},
    network::{Network, NetworkError},
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

/// The keys that every destination over HTTP takes, beside its own.
pub const SETTINGS: &[&Setting] = &[&network::TLS, &network::PROXY, &ALLOW_ADDRESSES];

/// What a client is made from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Longest wait for one exchange, connect to last byte.
    pub timeout: Duration,
    /// Whether it will speak TLS. Only then are the machine's trusted roots read.
    pub tls: bool,
    /// The operator's own way out.
    pub network: Network,
}

/// Sends requests, each within the time limit. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    /// How names are resolved; the machine's way outside tests.
    lookup: Arc<dyn Resolve>,
    current: RwLock<Current>,
}

/// The client as its files and secrets are now.
struct Current {
    inner: reqwest::Client,
    made_from: [u8; 32],
}

/// Makes a client.
///
/// # Errors
///
/// A file or secret it needs is unfit.
pub fn client(settings: Settings) -> Result<Client, NetworkError> {
    client_resolving(settings, Arc::new(System))
}

fn client_resolving(settings: Settings, lookup: Arc<dyn Resolve>) -> Result<Client, NetworkError> {
    let current = Current::new(&settings, &lookup, &settings.network.material()?)?;
    Ok(Client { shared: Arc::new(Shared { settings, lookup, current: RwLock::new(current) }) })
}

/// Makes ring the cryptography of every rustls user in this process that brings none of its own.
/// The client here brings its own; call it once at start for the others. Repeating it is harmless.
pub fn install_crypto() {
    // An error says that there is one already, which is all that is wanted.
    drop(rustls::crypto::ring::default_provider().install_default());
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
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

// === impl Current ===

impl Current {
    fn new(
        settings: &Settings,
        lookup: &Arc<dyn Resolve>,
        material: &Material,
    ) -> Result<Self, NetworkError> {
        let Settings { timeout, tls, network } = settings;
        let proxy_tls = material.proxy.as_ref().is_some_and(|proxy| proxy.scheme() == "https");
        let roots = || if *tls || proxy_tls { trusted_roots() } else { RootCertStore::empty() };
        let mut builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .http1_only()
            .tcp_nodelay(true)
            // Less than the whole, so that a connection that cannot be made is told from an answer
            // that does not come.
            .connect_timeout(CONNECT_TIMEOUT_MAX.min(*timeout / 2))
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .tls_backend_preconfigured(material.tls(roots)?);
        if let Some(proxy) = &material.proxy {
            builder = builder.proxy(
                Proxy::all(proxy.clone())
                    .map_err(|error| NetworkError::Client(error.without_url()))?,
            );
        }
        builder = match &network.allowed {
            None => builder.dns_resolver(Arc::clone(lookup)),
            Some(allowed) => {
                let proxy = material.proxy.as_ref();
                let guard = Guard::new(Arc::clone(allowed), proxy, Arc::clone(lookup));
                builder.dns_resolver(Arc::new(guard))
            }
        };
        let inner = builder.build().map_err(|error| NetworkError::Client(error.without_url()))?;
        Ok(Self { inner, made_from: material.fingerprint })
    }
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
        self.permits(request.url())?;
        let deadline = Instant::now() + self.shared.settings.timeout;
        match timeout_at(deadline, self.inner().execute(request)).await {
            Ok(Ok(response)) => Ok(Answer::read(response, body_bytes_max, deadline).await),
            Ok(Err(error)) => Err(transport::failure(error)),
            // Connecting has a shorter limit of its own, so this one ran out later.
            Err(elapsed) => Err(DeliveryError::caused_by(Reason::InDoubt, elapsed)),
        }
    }

    /// Whether this address may be reached, as far as it can be told without resolving its name.
    ///
    /// # Errors
    ///
    /// `Misconfigured`: the operator's list does not let it through.
    pub fn permits(&self, url: &Url) -> Result<(), DeliveryError> {
        let Network { allowed: Some(allowed), .. } = &self.shared.settings.network else {
            return Ok(());
        };
        let proxied = self.shared.settings.network.is_proxied();
        let permitted = allowed.permits(url, proxied);
        permitted.map_err(|error| DeliveryError::caused_by(Reason::Misconfigured, error))
    }

    /// Reads certificates, key and proxy anew; says whether one of them changed. Only then are
    /// connections made anew.
    ///
    /// # Errors
    ///
    /// One of them became unfit. The old ones stay in use.
    pub fn refresh(&self) -> Result<bool, NetworkError> {
        let Shared { settings, lookup, current } = &*self.shared;
        settings.network.refresh()?;
        let material = settings.network.material()?;
        let made_from = current.read().unwrap_or_else(PoisonError::into_inner).made_from;
        if material.fingerprint == made_from {
            return Ok(false);
        }
        let new = Current::new(settings, lookup, &material)?;
        *current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(true)
    }

    /// What is masked where an answer repeats it.
    pub(crate) fn secrets(&self) -> Vec<Secret> {
        self.shared.settings.network.secrets()
    }

    fn inner(&self) -> reqwest::Client {
        self.shared.current.read().unwrap_or_else(PoisonError::into_inner).inner.clone()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("settings", &self.shared.settings).finish_non_exhaustive()
    }
}
