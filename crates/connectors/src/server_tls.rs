//! A listener's certificate, and whose clients' certificates it wants: for sources that listen, and
//! for the gateway.
//!
//! Promises: what is loaded works: the key fits the certificate, and the key's file is readable by
//! nobody else. Does not look at dates: an expired certificate is served, and clients say so.

use std::{
    error::Error,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use holdfast_model::{
    Chain,
    settings::{SecretSpec, Section, Setting},
};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};

use crate::secrets::{LiveSecret, SecretError};

/// Longest file of certificates, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

pub(crate) const TLS: Setting = Setting::optional(
    "tls",
    "{ cert = \"/etc/holdfast/tls/cert.pem\", key = \"/etc/holdfast/tls/key.pem\" }",
    "The listener's certificate with those that lead to its root, and its private key, in PEM. With \
     `client_ca` (certificates in PEM) every client needs a certificate that one of them signed. \
     Changed files are taken within a minute; those that do not work are refused, and the old ones \
     stay.",
);

const CERT: Setting = Setting::optional("cert", "\"/etc/holdfast/tls/cert.pem\"", "The chain.");
const KEY: Setting = Setting::optional("key", "\"/etc/holdfast/tls/key.pem\"", "The private key.");
const CLIENT_CA: Setting =
    Setting::optional("client_ca", "\"/etc/holdfast/tls/clients.pem\"", "Whose clients may come.");

/// A certificate with those that lead to its root, and its private key.
#[derive(Debug)]
pub struct Identity {
    cert: PathBuf,
    key: PathBuf,
    chain: Vec<CertificateDer<'static>>,
    private: PrivateKeyDer<'static>,
}

/// Where a source's certificates are.
#[derive(Clone, Debug)]
pub(crate) struct TlsFiles {
    cert: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

/// Why a listener's files cannot be used. Each names its file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{} cannot be read", .0.display())]
    Unreadable(PathBuf, #[source] io::Error),
    #[error("{} has more than {FILE_BYTES_MAX} bytes", .0.display())]
    TooLong(PathBuf),
    #[error("{} holds no certificate in PEM", .0.display())]
    NoCertificate(PathBuf),
    #[error("{} holds something that is no certificate", .0.display())]
    BadCertificate(PathBuf, #[source] Box<dyn Error + Send + Sync>),
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

// === impl TlsFiles ===

impl TlsFiles {
    /// Reads the table, which must be given, and tries the files.
    pub(crate) fn read(section: &Section<'_>) -> Option<Self> {
        if !section.has(TLS.name) {
            section.fault("", format!("`{}` is missing: {}", TLS.name, TLS.doc));
        }
        let table = section.table(TLS.name)?;
        let path = |setting: &Setting, text: &str| {
            if !text.is_empty() && !text.starts_with('/') {
                table.fault(setting.name, "it must be the absolute path of a file");
            }
            Some(PathBuf::from(text)).filter(|path| path.is_absolute())
        };
        let cert = path(&CERT, table.required_text(&CERT));
        let key = path(&KEY, table.required_text(&KEY));
        let given = table.has(CLIENT_CA.name);
        let client_ca = table.text(&CLIENT_CA).and_then(|text| path(&CLIENT_CA, text));
        table.finish();
        if given && client_ca.is_none() {
            return None;
        }
        let files = Self { cert: cert?, key: key?, client_ca };
        match files.load() {
            Ok(_) => Some(files),
            Err(error) => {
                section.fault(TLS.name, Chain(&error));
                None
            }
        }
    }

    /// Reads all files anew.
    pub(crate) fn load(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let identity = Identity::read(&self.cert, &self.key)?;
        identity.serve(clients(self.client_ca.as_deref(), true)?, &[])
    }
}

// === impl Identity ===

impl Identity {
    /// Reads both files.
    ///
    /// # Errors
    ///
    /// See [`TlsError`]; the key's file is judged as a secret's.
    pub fn read(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain = certificates(cert)?;
        let secret = LiveSecret::resolve(&SecretSpec::File(key.display().to_string()))?;
        let private = PrivateKeyDer::from_pem_slice(secret.current().expose().as_bytes())
            .map_err(|_| TlsError::NoKey(key.to_owned()))?;
        Ok(Self { cert: cert.to_owned(), key: key.to_owned(), chain, private })
    }

    /// What a listener is made of that offers these protocols (RFC 7301), and asks for certificates
    /// as `clients` says.
    ///
    /// # Errors
    ///
    /// [`TlsError::Mismatch`]: key and certificate do not go together.
    pub fn serve(
        &self,
        clients: Arc<dyn ClientCertVerifier>,
        protocols: &[&[u8]],
    ) -> Result<Arc<ServerConfig>, TlsError> {
        let mismatch = |source| {
            let (cert, key) = (self.cert.clone(), self.key.clone());
            TlsError::Mismatch { cert, key, source }
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(mismatch)?
            .with_client_cert_verifier(clients)
            .with_single_cert(self.chain.clone(), self.private.clone_key())
            .map_err(mismatch)?;
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(Arc::new(config))
    }
}

/// Takes clients whose certificate one in this file signed; without a file it asks for none.
/// `needed`: a client without one is refused.
///
/// # Errors
///
/// The file cannot be read, or holds no certificates.
pub fn clients(ca: Option<&Path>, needed: bool) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let Some(path) = ca else { return Ok(WebPkiClientVerifier::no_client_auth()) };
    let bad = |error| TlsError::BadCertificate(path.to_owned(), error);
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| bad(error.into()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if needed { builder } else { builder.allow_unauthenticated() };
    let verifier = builder.build().map_err(|error| bad(error.into()))?;
    Ok(verifier)
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
