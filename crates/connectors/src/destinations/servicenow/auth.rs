//! OAuth 2.0 client credentials: a token that is asked for when it is needed and kept in memory.

use std::{
    error::Error,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use holdfast_model::{DeliveryError, Reason, Secret};
use reqwest::{
    Method, Url,
    header::{ACCEPT, HeaderName, HeaderValue},
};
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    http::{self, Answer},
    secrets::LiveSecret,
    vendor::Api,
};

/// How long before its end a token is no longer used.
const SPARE: Duration = Duration::from_secs(60);

/// Longest life of a token that is believed.
const LIFE_SECONDS_MAX: u64 = 24 * 3600;

#[derive(Debug)]
pub(super) struct OAuth {
    pub(super) client_id: String,
    pub(super) client_secret: LiveSecret,
    pub(super) kept: Mutex<Kept>,
}

/// The last token. It stays here for masking when it is no longer used.
#[derive(Debug, Default)]
pub(super) struct Kept {
    token: Option<Secret>,
    /// When it is no longer used; `None` once it was refused.
    until: Option<Instant>,
}

// === impl OAuth ===

impl OAuth {
    /// The token in memory, or a new one: one request.
    pub(super) async fn token(&self, api: &Api) -> Result<Secret, DeliveryError> {
        if let Some(token) = self.kept().usable(Instant::now()) {
            return Ok(token);
        }
        // Nothing of the event was sent, so whatever is lost here leaves it in no doubt.
        self.ask(api).await.map_err(|mut error| {
            if error.reason == Reason::InDoubt {
                error.reason = Reason::ServerFault;
            }
            error
        })
    }

    async fn ask(&self, api: &Api) -> Result<Secret, DeliveryError> {
        let asked_at = Instant::now();
        let headers: [(HeaderName, HeaderValue); 1] =
            [(ACCEPT, HeaderValue::from_static("application/json"))];
        let url = api.at("oauth_token.do")?;
        let form = "application/x-www-form-urlencoded";
        let answer = api.send(Method::POST, url, form, self.form()?, &headers).await?;
        let (token, life) = self.read(api, &answer)?;
        let until = asked_at + life.saturating_sub(SPARE);
        *self.kept() = Kept { token: Some(token.clone()), until: Some(until) };
        Ok(token)
    }

    /// It was refused. A newer one stays.
    pub(super) fn drop_token(&self, refused: &Secret) {
        let mut kept = self.kept();
        if kept.token.as_ref().is_some_and(|token| token.expose() == refused.expose()) {
            kept.until = None;
        }
    }

    pub(super) fn refresh(&self) -> Result<bool, Box<dyn Error + Send + Sync>> {
        let changed = self.client_secret.refresh()?;
        if changed {
            self.kept().until = None;
        }
        Ok(changed)
    }

    /// What is masked wherever an answer is shown.
    pub(super) fn secrets(&self) -> Vec<Secret> {
        self.kept().token.iter().cloned().chain([self.client_secret.current()]).collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn form(&self) -> Result<Vec<u8>, DeliveryError> {
        let mut form = Url::parse("form:?")
            .map_err(|error| DeliveryError::caused_by(Reason::Misconfigured, error))?;
        form.query_pairs_mut()
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", &self.client_id)
            .append_pair("client_secret", self.client_secret.current().expose());
        Ok(form.query().unwrap_or_default().into())
    }

    fn read(&self, api: &Api, answer: &Answer) -> Result<(Secret, Duration), DeliveryError> {
        if let Err(mut error) = api.verdict(answer) {
            // Whatever is wrong with a token is wrong for every event, so it costs none its life.
            error.reason = match error.reason {
                Reason::Refused if names_credentials(answer) => Reason::Unauthorized,
                Reason::Forbidden => Reason::Unauthorized,
                Reason::Refused | Reason::TooLarge => Reason::Misconfigured,
                other => other,
            };
            return Err(http::masked(error, &self.secrets()));
        }
        let said = api.read(answer).map_err(without_excerpt)?;
        let token = said["access_token"].as_str().filter(|token| bearer(token).is_some());
        let Some(token) = token else {
            return Err(without_excerpt(api.failure(Reason::BadAnswer, answer)));
        };
        let life = match &said["expires_in"] {
            Value::Number(seconds) => seconds.as_u64(),
            Value::String(seconds) => seconds.parse().ok(),
            _ => None,
        };
        // Without a life it serves this request only.
        let life = Duration::from_secs(life.unwrap_or(0).min(LIFE_SECONDS_MAX));
        Ok((Secret::new(token), life))
    }
}

// === impl Kept ===

impl Kept {
    fn usable(&self, now: Instant) -> Option<Secret> {
        self.until.filter(|until| now < *until)?;
        self.token.clone()
    }
}

/// The value of `Authorization`, if a header can hold it.
pub(super) fn bearer(token: &str) -> Option<HeaderValue> {
    if token.is_empty() {
        return None;
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// RFC 6749 section 5.2: bad credentials may be a 400.
fn names_credentials(answer: &Answer) -> bool {
    let said = answer.body().ok().and_then(|body| serde_json::from_slice(body).ok());
    let said: Value = said.unwrap_or_default();
    let words = ["invalid_client", "invalid_grant", "unauthorized_client", "access_denied"];
    said["error"].as_str().is_some_and(|word| words.contains(&word))
}

/// An answer about tokens may hold one that we did not recognise.
fn without_excerpt(mut error: DeliveryError) -> DeliveryError {
    error.excerpt = String::new();
    error
}
