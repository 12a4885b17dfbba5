//! How requests prove who we are, for every destination over HTTP.
//!
//! Promises: what is made of a secret is marked so that it is never printed. Does not sign bodies;
//! who does that has a file of its own.

use std::error::Error;

use base64::prelude::{BASE64_STANDARD, Engine};
use holdfast_model::Secret;
use reqwest::header::{self, HeaderName, HeaderValue};

use crate::secrets::{LiveSecret, SecretError};

#[derive(Debug)]
pub(crate) enum Auth {
    /// The address is the credential, or there is none.
    None,
    /// A header with a word before the secret: `Authorization: Bearer …`.
    Header { name: HeaderName, prefix: &'static str, secret: LiveSecret },
    /// RFC 7617.
    Basic { user: String, password: LiveSecret },
}

// === impl Auth ===

impl Auth {
    /// RFC 6750.
    pub(crate) fn bearer(secret: LiveSecret) -> Self {
        Self::Header { name: header::AUTHORIZATION, prefix: "Bearer ", secret }
    }

    /// The header to send, from the secret as it is now.
    pub(crate) fn header(
        &self,
    ) -> Result<Option<(HeaderName, HeaderValue)>, Box<dyn Error + Send + Sync>> {
        Ok(match self {
            Self::None => None,
            Self::Header { name, prefix, secret } => Some((name.clone(), secret.header(prefix)?)),
            Self::Basic { .. } => {
                let mut value = HeaderValue::from_str(&format!("Basic {}", self.encoded()))?;
                value.set_sensitive(true);
                Some((header::AUTHORIZATION, value))
            }
        })
    }

    /// What is masked wherever an answer is shown.
    pub(crate) fn secrets(&self) -> Vec<Secret> {
        match self {
            Self::None => Vec::new(),
            Self::Header { secret, .. } => vec![secret.current()],
            Self::Basic { password, .. } => vec![password.current(), Secret::new(self.encoded())],
        }
    }

    /// Reads the secret anew; says whether it changed.
    pub(crate) fn refresh(&self) -> Result<bool, SecretError> {
        match self {
            Self::None => Ok(false),
            Self::Header { secret, .. } | Self::Basic { password: secret, .. } => secret.refresh(),
        }
    }

    fn encoded(&self) -> String {
        match self {
            Self::Basic { user, password } => {
                BASE64_STANDARD.encode(format!("{user}:{}", password.current().expose()))
            }
            Self::None | Self::Header { .. } => String::new(),
        }
    }
}
