//! What stands between us and a receiver, in the operator's words: whom we trust, who we are, a
//! proxy, and the addresses that may be reached at all. Every destination over HTTP takes them.
//!
//! Promises: a file that cannot be used is a fault of the configuration that names it; files are
//! read anew when secrets are, and one that became unfit changes nothing.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use holdfast_model::{
    Chain, Secret,
    settings::{Node, SecretSpec, Section, Setting, Value},
};
use reqwest::Url;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use sha2::{Digest, Sha256};

use super::egress::Allowed;
use crate::secrets::{LiveSecret, SecretError};

pub(super) const TLS: Setting = Setting::optional(
    "tls",
    "{ ca = \"/etc/holdfast/ca.pem\", cert = \"/etc/holdfast/client.pem\", key = \"/etc/holdfast/secrets/client.key\" }",
    "Files in PEM. `ca`: the certificates that may have signed the receiver's, instead of those the \
     machine trusts. `cert` and `key`: our own certificate with its chain, for receivers that ask \
     for one; the key's file is judged as a secret's. Read anew whenever secrets are. Every \
     destination over HTTP takes it.",
);

pub(super) const PROXY: Setting = Setting::optional(
    "proxy",
    "\"http://proxy.example:3128\"",
    "A proxy for every request, http or https, with `user:password@` where it asks for them. A \
     secret. None is taken from the environment. Every destination over HTTP takes it.",
);

const CA: Setting = Setting::optional("ca", "\"/etc/holdfast/ca.pem\"", "Whom we trust.");
const CERT: Setting = Setting::optional("cert", "\"/etc/holdfast/client.pem\"", "Who we are.");
const KEY: &str = "key";

/// Longest file of certificates, in bytes. All of a machine's roots are a fifth of it.
const CERTIFICATES_BYTES_MAX: u64 = 1024 * 1024;

/// How receivers are reached.
#[derive(Clone, Debug, Default)]
pub struct Network {
    ca: Option<PathBuf>,
    identity: Option<Identity>,
    proxy: Option<Arc<LiveSecret>>,
    pub(super) allowed: Option<Arc<Allowed>>,
}

#[derive(Clone, Debug)]
struct Identity {
    cert: PathBuf,
    key: Arc<LiveSecret>,
}

/// Why receivers cannot be reached in this way.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("the file `{}` cannot be read", .0.display())]
    Unreadable(PathBuf, #[source] io::Error),
    #[error("the file `{}` has more than {CERTIFICATES_BYTES_MAX} bytes", .0.display())]
    TooLong(PathBuf),
    #[error("the file `{}` holds no certificate in PEM", .0.display())]
    NoCertificate(PathBuf),
    #[error("a certificate in `{}` cannot be used", .0.display())]
    BadCertificate(PathBuf, #[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("it is no private key in PEM")]
    NoKey,
    #[error("the certificate in `{}` and the key do not belong together", .0.display())]
    Mismatch(PathBuf, #[source] rustls::Error),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("it is no proxy's address: {0}")]
    Proxy(&'static str),
    #[error("no client can be made")]
    Client(#[source] reqwest::Error),
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// The files and secrets as they are now.
pub(super) struct Material {
    roots: Option<RootCertStore>,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>, PathBuf)>,
    pub(super) proxy: Option<Url>,
    /// By which a change is seen.
    pub(super) fingerprint: [u8; 32],
}

// === impl Network ===

impl Network {
    /// Reads the common keys of destinations over HTTP and reports all their faults.
    pub fn read(section: &Section<'_>) -> Option<Self> {
        let tls = read_tls(section);
        let proxy = read_proxy(section);
        let allowed = Allowed::read(section);
        let (ca, identity) = tls?;
        Some(Self { ca, identity, proxy: proxy?, allowed: allowed?.map(Arc::new) })
    }

    pub(super) fn material(&self) -> Result<Material, NetworkError> {
        let mut hash = Sha256::new();
        let roots = match &self.ca {
            None => None,
            Some(path) => Some(roots(path, &read_file(path, &mut hash)?)?),
        };
        let identity = match &self.identity {
            None => None,
            Some(Identity { cert, key }) => {
                let chain = certificates(cert, &read_file(cert, &mut hash)?)?;
                let key = key.current();
                hash.update(key.expose());
                Some((chain, private_key(&key)?, cert.clone()))
            }
        };
        let proxy = match &self.proxy {
            None => None,
            Some(proxy) => {
                hash.update(proxy.current().expose());
                Some(parse_proxy(&proxy.current())?)
            }
        };
        Ok(Material { roots, identity, proxy, fingerprint: hash.finalize().into() })
    }

    pub(super) fn is_proxied(&self) -> bool {
        self.proxy.is_some()
    }

    /// Reads the secrets among them anew.
    pub(super) fn refresh(&self) -> Result<(), SecretError> {
        let key = self.identity.as_ref().map(|identity| &identity.key);
        for secret in key.into_iter().chain(&self.proxy) {
            secret.refresh()?;
        }
        Ok(())
    }

    /// What is masked where an answer repeats it: a proxy's own page may.
    pub(super) fn secrets(&self) -> Vec<Secret> {
        let Some(proxy) = self.proxy.as_ref().map(|proxy| proxy.current()) else {
            return Vec::new();
        };
        let url = parse_proxy(&proxy).ok();
        let password = url.as_ref().and_then(Url::password).map(Secret::new);
        std::iter::once(proxy).chain(password).collect()
    }
}

type TlsFiles = (Option<PathBuf>, Option<Identity>);

fn read_tls(section: &Section<'_>) -> Option<TlsFiles> {
    let given = section.has(TLS.name);
    let Some(tls) = section.table(TLS.name) else { return (!given).then_some((None, None)) };
    let ca = read_certificates(&tls, &CA);
    let cert = read_certificates(&tls, &CERT);
    let key = read_key(&tls);
    tls.finish();
    let (ca, cert, key) = (ca?, cert?, key?);
    let identity = match (cert, key) {
        (None, None) => None,
        (Some(cert), Some(key)) => Some(Identity { cert, key: Arc::new(key) }),
        (Some(_), None) | (None, Some(_)) => {
            section.fault(TLS.name, "`cert` and `key` belong together");
            return None;
        }
    };
    let network = Network { identity, ..Network::default() };
    // Whether the pair fits is seen only where both are used.
    let fits = network.material().and_then(|material| material.tls(RootCertStore::empty));
    if let Err(error) = fits {
        section.fault(TLS.name, Chain(&error));
        return None;
    }
    Some((ca, network.identity))
}

/// A file of certificates, which need not be given; the outer `None` says that it is unfit.
fn read_certificates(tls: &Section<'_>, setting: &Setting) -> Option<Option<PathBuf>> {
    let given = tls.has(setting.name);
    let Some(text) = tls.text(setting) else { return (!given).then_some(None) };
    let path = PathBuf::from(text);
    if !path.is_absolute() {
        tls.fault(setting.name, "it must begin at the root, with a `/`");
        return None;
    }
    let found = read_file(&path, &mut Sha256::new()).and_then(|pem| roots(&path, &pem));
    match found {
        Ok(_) => Some(Some(path)),
        Err(error) => {
            tls.fault(setting.name, Chain(&error));
            None
        }
    }
}

/// The key: a text is the path of its file, because nobody writes a key into a configuration.
fn read_key(tls: &Section<'_>) -> Option<Option<LiveSecret>> {
    let Some(node) = tls.node(KEY) else { return Some(None) };
    let spec = match node {
        Node { value: Value::Text(path), .. } if !path.starts_with('/') => {
            tls.fault(KEY, "it must be the path of the key's file, from the root");
            return None;
        }
        Node { value: Value::Text(path), .. } => SecretSpec::File(path.clone()),
        node => tls.secret_at(KEY, node)?,
    };
    let key = LiveSecret::resolve(&spec).map_err(NetworkError::from);
    match key.and_then(|key| private_key(&key.current()).map(|_| key)) {
        Ok(key) => Some(Some(key)),
        Err(error) => {
            tls.fault(KEY, Chain(&error));
            None
        }
    }
}

fn read_proxy(section: &Section<'_>) -> Option<Option<Arc<LiveSecret>>> {
    let Some(node) = section.node(PROXY.name) else { return Some(None) };
    let spec = section.secret_at(PROXY.name, node)?;
    let proxy = LiveSecret::resolve(&spec).map_err(NetworkError::from);
    match proxy.and_then(|proxy| parse_proxy(&proxy.current()).map(|_| proxy)) {
        Ok(proxy) => Some(Some(Arc::new(proxy))),
        Err(error) => {
            section.fault(PROXY.name, Chain(&error));
            None
        }
    }
}

fn parse_proxy(secret: &Secret) -> Result<Url, NetworkError> {
    let url: Url =
        secret.expose().parse().map_err(|_| NetworkError::Proxy("it cannot be read as one"))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        _ => Err(NetworkError::Proxy("it must begin with http:// or https://")),
    }
}

fn read_file(path: &Path, hash: &mut Sha256) -> Result<Vec<u8>, NetworkError> {
    let mut bytes = Vec::new();
    let read = File::open(path)
        .and_then(|file| file.take(CERTIFICATES_BYTES_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|error| NetworkError::Unreadable(path.to_owned(), error))?;
    if bytes.len() as u64 > CERTIFICATES_BYTES_MAX {
        return Err(NetworkError::TooLong(path.to_owned()));
    }
    hash.update(bytes.len().to_le_bytes());
    hash.update(&bytes);
    Ok(bytes)
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, NetworkError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found =
        found.map_err(|error| NetworkError::BadCertificate(path.to_owned(), error.into()))?;
    if found.is_empty() { Err(NetworkError::NoCertificate(path.to_owned())) } else { Ok(found) }
}

fn roots(path: &Path, pem: &[u8]) -> Result<RootCertStore, NetworkError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, pem)? {
        let added = roots.add(certificate);
        added.map_err(|error| NetworkError::BadCertificate(path.to_owned(), error.into()))?;
    }
    Ok(roots)
}

fn private_key(secret: &Secret) -> Result<PrivateKeyDer<'static>, NetworkError> {
    // Its error could repeat a piece of the key.
    PrivateKeyDer::from_pem_slice(secret.expose().as_bytes()).map_err(|_| NetworkError::NoKey)
}

// === impl Material ===

impl Material {
    /// How TLS is spoken; `machine` are the roots where the operator names none.
    pub(super) fn tls(
        &self,
        machine: impl FnOnce() -> RootCertStore,
    ) -> Result<ClientConfig, NetworkError> {
        let roots = self.roots.clone().unwrap_or_else(machine);
        let builder = ClientConfig::builder_with_provider(super::provider())
            .with_safe_default_protocol_versions()
            .map_err(NetworkError::Tls)?
            .with_root_certificates(roots);
        let Some((chain, key, path)) = &self.identity else {
            return Ok(builder.with_no_client_auth());
        };
        builder
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(|error| NetworkError::Mismatch(path.clone(), error))
    }
}
