//! How a request proves who it is from: a key as it is, or signed with a nonce and the time.

use std::{
    error::Error,
    time::{SystemTime, UNIX_EPOCH},
};

use holdfast_model::{DeliveryError, Reason, Secret};
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};

use crate::secrets::LiveSecret;

const KEY_ID: HeaderName = HeaderName::from_static("x-xdr-auth-id");
const NONCE: HeaderName = HeaderName::from_static("x-xdr-nonce");
const TIMESTAMP: HeaderName = HeaderName::from_static("x-xdr-timestamp");

#[derive(Debug)]
pub(super) struct Credentials {
    pub(super) key: LiveSecret,
    /// Version 8's id of the key; version 6 has none.
    pub(super) key_id: Option<HeaderValue>,
    pub(super) advanced: bool,
}

// === impl Credentials ===

impl Credentials {
    /// New ones for each request.
    pub(super) fn headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>, DeliveryError> {
        let nonce = nonce()?;
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.headers_at(&nonce, elapsed.as_millis()).map_err(|error| DeliveryError {
            source: Some(error),
            ..DeliveryError::new(Reason::Misconfigured)
        })
    }

    pub(super) fn headers_at(
        &self,
        nonce: &str,
        millis: u128,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, Box<dyn Error + Send + Sync>> {
        let mut headers = vec![(ACCEPT, HeaderValue::from_static("application/json"))];
        if let Some(key_id) = &self.key_id {
            headers.push((KEY_ID, key_id.clone()));
        }
        if !self.advanced {
            headers.push((AUTHORIZATION, self.key.header("")?));
            return Ok(headers);
        }
        let text = format!("{}{nonce}{millis}", self.key.current().expose());
        let mut signed = HeaderValue::from_str(&hex::encode(Sha256::digest(text)))?;
        signed.set_sensitive(true);
        headers.push((AUTHORIZATION, signed));
        headers.push((NONCE, HeaderValue::from_str(nonce)?));
        headers.push((TIMESTAMP, HeaderValue::from_str(&millis.to_string())?));
        Ok(headers)
    }

    pub(super) fn secret(&self) -> Secret {
        self.key.current()
    }

    pub(super) fn refresh(&self) -> Result<bool, Box<dyn Error + Send + Sync>> {
        let changed = self.key.refresh()?;
        self.key.header("")?;
        Ok(changed)
    }
}

/// 64 random letters and digits.
fn nonce() -> Result<String, DeliveryError> {
    let mut random = [0; 32];
    let source = rustls::crypto::ring::default_provider().secure_random;
    match source.fill(&mut random) {
        Ok(()) => Ok(hex::encode(random)),
        // The system has no random numbers to give. It may have some later.
        Err(_) => Err(DeliveryError::new(Reason::Connect)),
    }
}
