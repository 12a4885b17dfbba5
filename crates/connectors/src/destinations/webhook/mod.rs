//! Any receiver of HTTP requests.
//!
//! Promises: the body of a single alert is the alert as Wazuh wrote it; a request carries the
//! shipment's key as `Idempotency-Key`, the same for every try; a 2xx is a delivery also when the
//! rest of the answer is lost, because the status line is the receiver's word; with a signing
//! secret a receiver can tell that a request is ours and whole.
//!
//! Does not promise that a receiver acts once on a request that is in doubt: that takes a receiver
//! that looks at the key, or, for the members of a batch, at the ids of the envelope.

mod callback;
mod settings;
mod signing;
mod templates;
#[cfg(test)]
mod tests;

use std::{
    error::Error,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use async_trait::async_trait;
use bytes::Bytes;
use holdfast_model::{
    Callbacks, DeliveryError, Destination, Member, Reason, Receipt, Secret, Shipment,
    delivery::Delivered, settings::Section,
};
use reqwest::{
    Request, Url,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};

use self::{
    settings::{Compression, Settings},
    signing::Signer,
};
use super::{BatchFormat, Context, Kind};
use crate::{
    body::{self, Shape},
    callback::{self as calls, Callback},
    http,
    secrets::LiveSecret,
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
        &templates::BODY,
        &settings::COMPRESSION,
        &signing::SIGNING_SECRET,
        &calls::SIGNED,
        http::SETTINGS[0],
        http::SETTINGS[1],
        http::SETTINGS[2],
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
    callback: Option<Callback>,
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
    signer: Signer,
    /// What is masked where an answer repeats it.
    secrets: Vec<Secret>,
}

fn build(section: &Section<'_>, context: &Context) -> Option<Arc<dyn Destination>> {
    let settings = settings::read(section, context);
    let callback = Callback::read(section, &callback::VENDOR);
    let settings = settings?;
    let parts = Parts::new(&settings).map_err(|error| section.fault("", error)).ok()?;
    Some(Arc::new(Webhook {
        callback: callback?,
        client: vendor::client(section, context, &settings.url)?,
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
        let request = self.request(&parts, shipment).await?;
        let answer = self.client.send(request, http::EXCERPT_READ_BYTES_MAX).await?;
        if !answer.status.is_success() {
            let proxy = self.client.secrets();
            answer.verdict(&[&*parts.secrets, &*proxy].concat())?;
        }
        let status = Some(answer.status.as_u16());
        Ok(Delivered::All(Receipt { status, ..Receipt::default() }))
    }

    fn refresh_secrets(&self) -> Result<bool, Box<dyn Error + Send + Sync>> {
        let results: Vec<_> = self.settings.secrets().map(LiveSecret::refresh).collect();
        let (auth, network) = (self.settings.auth.refresh(), self.client.refresh());
        // Whatever each of them said: an earlier refresh may have stopped between a secret and
        // the parts that are made from it.
        let parts = Parts::new(&self.settings)?;
        *self.parts.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(parts);
        let changed = results.into_iter().collect::<Result<Vec<_>, _>>()?;
        let callback = calls::refresh(self.callback.as_ref());
        Ok(changed.contains(&true) | auth? | network? | callback?)
    }

    fn callbacks(&self) -> Option<&dyn Callbacks> {
        calls::port(self.callback.as_ref())
    }

    fn take_template_errors(&self) -> u64 {
        self.settings.templates.take_failures()
    }
}

// === impl Webhook ===

impl Webhook {
    fn parts(&self) -> Arc<Parts> {
        Arc::clone(&self.parts.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The body without a template, and its type.
    fn usual_body(&self, members: &[Member]) -> Result<Bytes, DeliveryError> {
        let shape = match self.batch_format {
            BatchFormat::Ndjson => Shape::Bare,
            BatchFormat::Envelope => Shape::Envelope,
            BatchFormat::Array => return Ok(body::array(members, Shape::Bare)?.into()),
        };
        match members {
            [only] if !self.batched => body::single(only, shape),
            _ => Ok(body::lines(members, shape)?.into()),
        }
    }

    fn content_type(&self, members: &[Member]) -> HeaderValue {
        let lines = self.batched || members.len() != 1;
        match self.batch_format {
            _ if self.settings.templates.body.is_some() => JSON,
            BatchFormat::Ndjson | BatchFormat::Envelope if lines => NDJSON,
            BatchFormat::Ndjson | BatchFormat::Envelope | BatchFormat::Array => JSON,
        }
    }

    async fn request(&self, parts: &Parts, shipment: &Shipment) -> Result<Request, DeliveryError> {
        let Settings { method, templates, compression, .. } = &self.settings;
        let render = |error| DeliveryError::caused_by(Reason::Render, error);
        let key = HeaderValue::from_str(&shipment.key()).map_err(render)?;
        let mut request = Request::new(method.clone(), parts.url.clone());
        let headers = request.headers_mut();
        headers.clone_from(&parts.headers);
        let values = templates.values(&shipment.members);
        templates.add_headers(values.as_ref(), headers);
        let mut body = Bytes::new();
        if !settings::is_bodiless(method) {
            body = templates.body(values.as_ref(), || self.usual_body(&shipment.members))?;
            headers.entry(header::CONTENT_TYPE).or_insert(self.content_type(&shipment.members));
            body = match compression {
                Compression::None => body,
                Compression::Gzip => encoded(headers, "gzip", body::gzip(body).await?),
                Compression::Zstd => encoded(headers, "zstd", body::zstd(body).await?),
            };
        }
        parts.signer.sign(headers, &key, &body).map_err(render)?;
        headers.insert(IDEMPOTENCY_KEY, key);
        if !settings::is_bodiless(method) {
            *request.body_mut() = Some(body.into());
        }
        Ok(request)
    }
}

fn encoded(headers: &mut HeaderMap, name: &'static str, body: Bytes) -> Bytes {
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(name));
    body
}

// === impl Settings ===

impl Settings {
    /// All but those of `auth`.
    fn secrets(&self) -> impl Iterator<Item = &LiveSecret> {
        let headers = self.headers.iter().map(|(_, secret)| secret);
        std::iter::once(&self.url).chain(headers).chain(&self.signing)
    }
}

// === impl Parts ===

impl Parts {
    fn new(settings: &Settings) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let url = vendor::parse_url(&settings.url.current())?;
        let mut secrets = vec![vendor::seen_of(&url)];
        secrets.extend(settings.secrets().map(LiveSecret::current));
        secrets.extend(settings.auth.secrets());
        let mut headers = HeaderMap::new();
        for (name, secret) in &settings.headers {
            headers.append(name, secret.header("")?);
        }
        headers.extend(settings.auth.header()?);
        let signer = Signer::new(&settings.signing)?;
        Ok(Self { url, headers, signer, secrets })
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address may hold a token, and the headers' values do not matter here.
        f.debug_struct("Parts").field("headers", &self.headers.keys()).finish_non_exhaustive()
    }
}
