//! `server.tls`: the listener's certificate, and whose clients' certificates it wants.
//!
//! Promises: what is loaded works: the key fits the certificate, and the key's file is readable by
//! nobody else. Does not look at dates: an expired certificate is served, and clients say so.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use holdfast_connectors::secrets::{LiveSecret, SecretError};
use holdfast_model::{
    Chain,
    settings::{SecretSpec, Section, Setting},
};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

use super::paths;

/// Longest file of certificates, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

const CERT: Setting = Setting::optional(
    "cert",
    "\"/etc/holdfast/tls/cert.pem\"",
    "The certificate and those that lead to its root, in PEM. A changed file is taken within a \
     minute; one that does not work is refused, and the old one stays.",
);
const KEY: Setting = Setting::optional(
    "key",
    "\"/etc/holdfast/tls/key.pem\"",
    "The certificate's private key, in PEM. Nobody else may read the file.",
);
const CLIENT_CA: Setting = Setting::optional(
    "client_ca",
    "\"/etc/holdfast/tls/clients.pem\"",
    "Certificates in PEM. With it every client needs a certificate that one of them signed, beside \
     its token.",
);

pub(super) const SETTINGS: &[&Setting] = &[&CERT, &KEY, &CLIENT_CA];

/// Where the certificates are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) client_ca: Option<PathBuf>,
    /// Whose certificates the listener for callbacks takes, where a caller shows one.
    pub(crate) callbacks_ca: Option<PathBuf>,
}

/// What listeners are made of.
pub(crate) struct Loaded {
    /// Asks for clients' certificates, if it is set up so.
    pub(crate) main: Arc<ServerConfig>,
    /// For callbacks: vendors have no certificate of ours, or show it where it is asked for.
    pub(crate) callbacks: Arc<ServerConfig>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("{} cannot be read", .0.display())]
    Unreadable(PathBuf, #[source] io::Error),
    #[error("{} has more than {FILE_BYTES_MAX} bytes", .0.display())]
    TooLong(PathBuf),
    #[error("{} holds no certificate in PEM", .0.display())]
    NoCertificate(PathBuf),
    #[error("{} holds something that is no certificate", .0.display())]
    BadCertificate(PathBuf, #[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    Key(#[from] SecretError),
    #[error("{} holds no private key in PEM", .0.display())]
    NoKey(PathBuf),
    #[error("the key {} and the certificate {} do not go together", key.display(), cert.display())]
    Mismatch {
        cert: PathBuf,
        key: PathBuf,
        #[source]
        source: rustls::Error,
    },
}

impl TlsFiles {
    /// Reads the table and tries the files.
    pub(super) fn read(section: &Section<'_>) -> Option<Self> {
        for setting in [&CERT, &KEY] {
            section.required_text(setting);
        }
        let files = Self {
            cert: paths::read(section, &CERT).unwrap_or_default(),
            key: paths::read(section, &KEY).unwrap_or_default(),
            client_ca: paths::read(section, &CLIENT_CA),
            callbacks_ca: None,
        };
        section.finish();
        if files.cert.as_os_str().is_empty() || files.key.as_os_str().is_empty() {
            return None;
        }
        if let Err(error) = files.load() {
            section.fault(error.setting(), Chain(&error));
            return None;
        }
        Some(files)
    }

    /// Reads all files anew.
    pub(crate) fn load(&self) -> Result<Loaded, TlsError> {
        let chain = certificates(&self.cert)?;
        let secret = LiveSecret::resolve(&SecretSpec::File(self.key.display().to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(secret.current().expose().as_bytes())
            .map_err(|_| TlsError::NoKey(self.key.clone()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = |ca: &Option<PathBuf>, needed: bool| {
            let Some(path) = ca else { return Ok(WebPkiClientVerifier::no_client_auth()) };
            let bad = |error| TlsError::BadCertificate(path.clone(), error);
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| bad(error.into()))?;
            }
            let (roots, provider) = (Arc::new(roots), Arc::clone(&provider));
            let builder = WebPkiClientVerifier::builder_with_provider(roots, provider);
            let builder = if needed { builder } else { builder.allow_unauthenticated() };
            builder.build().map_err(|error| bad(error.into()))
        };
        let make = |clients, key| {
            let mismatch = |source| {
                let (cert, key) = (self.cert.clone(), self.key.clone());
                TlsError::Mismatch { cert, key, source }
            };
            let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()
                .map_err(mismatch)?
                .with_client_cert_verifier(clients)
                .with_single_cert(chain.clone(), key)
                .map_err(mismatch)?;
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            Ok::<_, TlsError>(Arc::new(config))
        };
        Ok(Loaded {
            main: make(verifier(&self.client_ca, true)?, key.clone_key())?,
            callbacks: make(verifier(&self.callbacks_ca, false)?, key)?,
        })
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |error| TlsError::Unreadable(path.to_owned(), error);
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(TlsError::TooLong(path.to_owned()));
    }
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let all = all.map_err(|error| TlsError::BadCertificate(path.to_owned(), error.into()))?;
    if all.is_empty() {
        return Err(TlsError::NoCertificate(path.to_owned()));
    }
    Ok(all)
}

impl TlsError {
    /// The key of the configuration that it is about.
    fn setting(&self) -> &'static str {
        match self {
            Self::Key(_) | Self::NoKey(_) | Self::Mismatch { .. } => KEY.name,
            Self::Unreadable(..)
            | Self::TooLong(_)
            | Self::NoCertificate(_)
            | Self::BadCertificate(..) => "",
        }
    }
}
