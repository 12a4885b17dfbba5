//! `server.tls`: the listener's certificate, and whose clients' certificates it wants.
//!
//! Promises: what is loaded works: the key fits the certificate, and the key's file is readable by
//! nobody else. Does not look at dates: an expired certificate is served, and clients say so.

use std::{path::PathBuf, sync::Arc};

pub(crate) use holdfast_connectors::server_tls::TlsError;
use holdfast_connectors::server_tls::{Identity, clients};
use holdfast_model::{
    Chain,
    settings::{Section, Setting},
};
use rustls::ServerConfig;

use super::paths;

/// What the listeners speak (RFC 7301).
const PROTOCOLS: &[&[u8]] = &[b"h2", b"http/1.1"];

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
            section.fault(setting_of(&error), Chain(&error));
            return None;
        }
        Some(files)
    }

    /// Reads all files anew.
    pub(crate) fn load(&self) -> Result<Loaded, TlsError> {
        let identity = Identity::read(&self.cert, &self.key)?;
        Ok(Loaded {
            main: identity.serve(clients(self.client_ca.as_deref(), true)?, PROTOCOLS)?,
            callbacks: identity.serve(clients(self.callbacks_ca.as_deref(), false)?, PROTOCOLS)?,
        })
    }
}

/// The key of the configuration that an error is about.
fn setting_of(error: &TlsError) -> &'static str {
    match error {
        TlsError::Key(_) | TlsError::NoKey(_) | TlsError::Mismatch { .. } => KEY.name,
        TlsError::Unreadable(..)
        | TlsError::TooLong(_)
        | TlsError::NoCertificate(_)
        | TlsError::BadCertificate(..) => "",
    }
}
