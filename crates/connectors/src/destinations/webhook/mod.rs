//! Any receiver of HTTP requests.
//!
//! Promises: the body of a single alert is the alert as Wazuh wrote it; a request carries the
//! shipment's key as `Idempotency-Key`, the same for every try; a 2xx is a delivery also when the
//! rest of the answer is lost, because the status line is the receiver's word.
//!
//! Does not promise that a receiver acts once on a request that is in doubt: that takes a receiver
//! that looks at the key, or, for the members of a batch, at the ids of the envelope.

mod settings;
#[cfg(test)]
mod tests;

use std::{
    error::Error,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use async_trait::async_trait;
use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use holdfast_model::{
    DeliveryError, Destination, Reason, Receipt, Secret, Shipment, delivery::Delivered,
    settings::Section,
};
use reqwest::{
    Request, Url,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};

use self::settings::{Auth, Settings};
use super::{BatchFormat, Context, Kind};
use crate::{
    body::{self, Shape},
    http,
    secrets::{LiveSecret, Place},
    vendor,
};

pub(super) const KIND: Kind = Kind {
    name: "webhook",
    summary: "Sends alerts to any HTTP receiver, singly or in batches.",
    example: r#"
url = "https://collector.example/alerts"
headers = { X-Team = "soc" }
compression = "gzip"
"#,
    settings: &[
        &settings::URL,
        &settings::METHOD,
        &settings::HEADERS,
        &settings::BEARER,
        &settings::BASIC,
        &settings::COMPRESSION,
    ],
    batches: true,
    http: true,
    build,
};

/// draft-ietf-httpapi-idempotency-key-header.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");

#[derive(Debug)]
struct Webhook {
    settings: Settings,
    client: http::Client,
    batched: bool,
    batch_format: BatchFormat,
    parts: RwLock<Arc<Parts>>,
}

/// What every request has in common, made once from the secrets as they are now.
struct Parts {
    url: Url,
    headers: HeaderMap,
    /// What is masked where an answer repeats it.
    secrets: Vec<Secret>,
}

fn build(section: &Section<'_>, context: &Context) -> Option<Arc<dyn Destination>> {
    let settings = settings::read(section)?;
    let fault = |error: &dyn fmt::Display| section.fault("", error);
    let parts = Parts::new(&settings).map_err(|error| fault(&error)).ok()?;
    // An address in a file may become https later.
    let tls = parts.url.scheme() == "https" || matches!(settings.url.place(), Place::File(_));
    let client = http::client(http::Settings { timeout: context.timeout, tls });
    Some(Arc::new(Webhook {
        client: client.map_err(|error| fault(&error)).ok()?,
        batched: context.batched,
        batch_format: context.batch_format,
        parts: RwLock::new(Arc::new(parts)),
        settings,
    }))
}

#[async_trait]
impl Destination for Webhook {
    async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError> {
        let parts = self.parts();
        let (content_type, body) = self.body(shipment)?;
        let body = if self.settings.gzip { body::gzip(body).await? } else { body };
        let request = self.request(&parts, &shipment.key(), content_type, body)?;
        let answer = self.client.send(request, http::EXCERPT_READ_BYTES_MAX).await?;
        answer.verdict(&parts.secrets)?;
        let status = Some(answer.status.as_u16());
        Ok(Delivered::All(Receipt { status, ..Receipt::default() }))
    }

    fn refresh_secrets(&self) -> Result<bool, Box<dyn Error + Send + Sync>> {
        let results: Vec<_> = self.settings.secrets().map(LiveSecret::refresh).collect();
        // Whatever each of them said: an earlier refresh may have stopped between a secret and
        // the parts that are made from it.
        let parts = Parts::new(&self.settings)?;
        *self.parts.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(parts);
        let changed = results.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(changed.contains(&true))
    }
}

// === impl Webhook ===

impl Webhook {
    fn parts(&self) -> Arc<Parts> {
        Arc::clone(&self.parts.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn body(&self, shipment: &Shipment) -> Result<(HeaderValue, Bytes), DeliveryError> {
        let members = &shipment.members;
        let many = self.batched || members.len() != 1;
        let shape = match self.batch_format {
            BatchFormat::Ndjson => Shape::Bare,
            BatchFormat::Envelope => Shape::Envelope,
            BatchFormat::Array => return Ok((JSON, body::array(members, Shape::Bare)?.into())),
        };
        match members.as_slice() {
            [only] if !many => Ok((JSON, body::single(only, shape)?)),
            _ => Ok((NDJSON, body::lines(members, shape)?.into())),
        }
    }

    fn request(
        &self,
        parts: &Parts,
        key: &str,
        content_type: HeaderValue,
        body: Bytes,
    ) -> Result<Request, DeliveryError> {
        let key = HeaderValue::from_str(key)
            .map_err(|error| DeliveryError::caused_by(Reason::Render, error))?;
        let mut request = Request::new(self.settings.method.clone(), parts.url.clone());
        let headers = request.headers_mut();
        headers.clone_from(&parts.headers);
        headers.insert(IDEMPOTENCY_KEY, key);
        headers.entry(header::CONTENT_TYPE).or_insert(content_type);
        if self.settings.gzip {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        *request.body_mut() = Some(body.into());
        Ok(request)
    }
}

// === impl Settings ===

impl Settings {
    fn secrets(&self) -> impl Iterator<Item = &LiveSecret> {
        let auth = match &self.auth {
            Auth::None => None,
            Auth::Bearer(secret) | Auth::Basic { password: secret, .. } => Some(secret),
        };
        let headers = self.headers.iter().map(|(_, secret)| secret);
        std::iter::once(&self.url).chain(headers).chain(auth)
    }
}

// === impl Parts ===

impl Parts {
    fn new(settings: &Settings) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let url = vendor::parse_url(&settings.url.current())?;
        // What a server repeats of an address is what it saw of it.
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let mut secrets = vec![Secret::new(path)];
        secrets.extend(settings.secrets().map(LiveSecret::current));
        let mut headers = HeaderMap::new();
        for (name, secret) in &settings.headers {
            headers.append(name, secret.header("")?);
        }
        let authorization = match &settings.auth {
            Auth::None => None,
            Auth::Bearer(secret) => Some(secret.header("Bearer ")?),
            Auth::Basic { user, password } => {
                let pair = format!("{user}:{}", password.current().expose());
                let encoded = BASE64_STANDARD.encode(pair);
                let mut value = HeaderValue::from_str(&format!("Basic {encoded}"))?;
                value.set_sensitive(true);
                secrets.push(Secret::new(encoded));
                Some(value)
            }
        };
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, value);
        }
        Ok(Self { url, headers, secrets })
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address may hold a token, and the headers' values do not matter here.
        f.debug_struct("Parts").field("headers", &self.headers.keys()).finish_non_exhaustive()
    }
}
