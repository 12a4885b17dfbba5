//! Wazuh's server API: who we are there, and what its answers mean whatever was asked.
//!
//! Promises: a token is asked for when it is needed, by one at a time, and kept in memory; one that
//! is refused is renewed once, and a second 401 says that the credentials are bad; neither password
//! nor token gets into an error.
//!
//! Quirks: an answer of status 200 may say that all of it failed (`error` 1) or some (2). A role that
//! lacks a permission is 403 with the code 4000. Fifty failed logins block the address for five
//! minutes. The whole API takes 300 requests a minute.
//!
//! Source: Wazuh 4.14 server API reference, "Getting started", and its `security` endpoints.

use std::{
    error::Error,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use holdfast_model::{
    DeliveryError, Reason, Secret,
    settings::{Section, Setting},
};
use reqwest::{
    Method, StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_LENGTH, HeaderName, HeaderValue},
};
use serde_json::Value;

use crate::{
    destinations::Context,
    http::{self, Answer},
    vendor::{self, Api, Auth},
};

pub(crate) const URL: Setting = Setting::optional(
    "url",
    "\"https://manager.example:55000\"",
    "The Wazuh server API's address. Its certificate is self-signed unless you changed it: give it as `tls.ca`.",
);

pub(crate) const USER: Setting =
    Setting::optional("user", "\"holdfast\"", "The API's user. Give it only the role it needs.");

pub(crate) const PASSWORD: Setting = Setting::optional(
    "password",
    "{ file = \"/etc/holdfast/secrets/wazuh-api\" }",
    "The API user's password. A secret.",
);

/// How long an address is shut out after too many failed logins.
const LOGIN_BLOCK: Duration = Duration::from_secs(300);

/// What a role lacks a permission for.
const PERMISSION_DENIED: i64 = 4000;

const JSON: &str = "application/json";

/// The API, as one user of it.
#[derive(Debug)]
pub(crate) struct WazuhApi {
    api: Api,
    login: Auth,
    kept: Mutex<Kept>,
    /// Held while a token is asked for, so that many attempts ask for one.
    asking: tokio::sync::Mutex<()>,
}

/// The last token. It stays here for masking when it is no longer used.
#[derive(Debug, Default)]
struct Kept {
    token: Option<Secret>,
    refused: bool,
}

/// Why one item of a request was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    pub(crate) code: i64,
    pub(crate) message: String,
}

// === impl WazuhApi ===

impl WazuhApi {
    /// Reads address and credentials, and reports what is wrong with them.
    pub(crate) fn read(section: &Section<'_>, context: &Context) -> Option<Self> {
        let address = vendor::address(section, &URL);
        let user = section.required_text(&USER);
        let password = vendor::secret(section, &PASSWORD);
        let named = !user.is_empty();
        if !named && section.text(&USER) == Some("") {
            section.fault(USER.name, "it is empty");
        }
        let login = Auth::Basic { user: user.to_owned(), password: password? };
        let api = Api::new(section, context, address?, Auth::None)?;
        let (kept, asking) = Default::default();
        named.then_some(Self { api, login, kept, asking })
    }

    /// The address of a path of the API.
    pub(crate) fn at(&self, path: &str) -> Result<Url, DeliveryError> {
        self.api.at(path)
    }

    /// Asks once, and once more with a new token where the old one was refused. Answers the body of
    /// a success, in which single items may have failed all the same.
    pub(crate) async fn call(
        &self,
        method: Method,
        url: Url,
        body: Vec<u8>,
    ) -> Result<Value, DeliveryError> {
        let token = self.token().await?;
        let mut answer = self.ask(method.clone(), url.clone(), body.clone(), &token).await?;
        if answer.status == StatusCode::UNAUTHORIZED {
            // Its life is over, or the API was restarted with new keys. Nothing was done.
            self.drop_token(&token);
            let token = self.token().await?;
            answer = self.ask(method, url, body, &token).await?;
        }
        self.judge(&answer)
    }

    /// A failure that the API described in the body of a success.
    pub(crate) fn failure(&self, reason: Reason, said: &Value) -> DeliveryError {
        let text: String = said.to_string().chars().take(1000).collect();
        DeliveryError::new(reason)
            .with_status(StatusCode::OK.as_u16())
            .with_excerpt(http::mask(&text, &self.secrets()))
    }

    pub(crate) fn refresh(&self) -> Result<bool, Box<dyn Error + Send + Sync>> {
        let (api, login) = (self.api.refresh(), self.login.refresh());
        let changed = api? | login?;
        if changed {
            self.kept().refused = true;
        }
        Ok(changed)
    }

    /// The host of the address, and its port: where the manager is.
    pub(crate) fn host(&self) -> Result<(String, u16), DeliveryError> {
        let url = self.api.url()?;
        let host = url.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok((host, url.port_or_known_default().unwrap_or(55_000)))
    }

    async fn ask(
        &self,
        method: Method,
        url: Url,
        body: Vec<u8>,
        token: &Secret,
    ) -> Result<Answer, DeliveryError> {
        let unfit = |error| DeliveryError::caused_by(Reason::BadAnswer, error);
        let mut value =
            HeaderValue::from_str(&format!("Bearer {}", token.expose())).map_err(unfit)?;
        value.set_sensitive(true);
        let headers: [(HeaderName, HeaderValue); 1] = [(AUTHORIZATION, value)];
        self.api.send(method, url, JSON, body, &headers).await
    }

    fn judge(&self, answer: &Answer) -> Result<Value, DeliveryError> {
        let said = || -> Option<Value> { serde_json::from_slice(answer.body().ok()?).ok() };
        if let Err(mut error) = self.api.verdict(answer) {
            let code = said().and_then(|said| said["error"].as_i64());
            if error.reason == Reason::Forbidden && code == Some(PERMISSION_DENIED) {
                // The user's role, which every event would meet.
                error.reason = Reason::Unauthorized;
            }
            return Err(http::masked(error, &self.secrets()));
        }
        self.api.read(answer).map_err(|error| http::masked(error, &self.secrets()))
    }

    /// The token in memory, or a new one: one request.
    async fn token(&self) -> Result<Secret, DeliveryError> {
        if http::is_rehearsal() {
            return Ok(Secret::new("token"));
        }
        let _alone = self.asking.lock().await;
        if let Some(token) = self.kept().usable() {
            return Ok(token);
        }
        // Nothing of the event was sent, so whatever is lost here leaves it in no doubt.
        self.log_in().await.map_err(|mut error| {
            if error.reason == Reason::InDoubt {
                error.reason = Reason::ServerFault;
            }
            error
        })
    }

    async fn log_in(&self) -> Result<Secret, DeliveryError> {
        let unfit = |source| DeliveryError {
            source: Some(source),
            ..DeliveryError::new(Reason::Misconfigured)
        };
        let mut basic: Vec<_> = self.login.header().map_err(unfit)?.into_iter().collect();
        // RFC 9110 section 8.6: a POST says that it has no body.
        basic.push((CONTENT_LENGTH, HeaderValue::from_static("0")));
        let url = self.api.at("security/user/authenticate")?;
        let answer = self.api.send(Method::POST, url, JSON, Vec::new(), &basic).await?;
        if let Err(mut error) = self.api.verdict(&answer) {
            match error.reason {
                Reason::Forbidden => {
                    error.reason = Reason::Throttled;
                    error.retry_after = Some(LOGIN_BLOCK);
                }
                // Whatever is wrong with a login is wrong for every event.
                Reason::Refused | Reason::TooLarge => error.reason = Reason::Misconfigured,
                _ => {}
            }
            return Err(http::masked(error, &self.secrets()));
        }
        // An answer about tokens may hold one that we do not recognise, so it is not shown.
        let bare = |mut error: DeliveryError| {
            error.excerpt = String::new();
            error
        };
        let said = self.api.read(&answer).map_err(bare)?;
        let token = said["data"]["token"].as_str().filter(|token| is_token(token));
        let token = token.ok_or_else(|| bare(self.api.failure(Reason::BadAnswer, &answer)))?;
        let token = Secret::new(token);
        *self.kept() = Kept { token: Some(token.clone()), refused: false };
        Ok(token)
    }

    /// It was refused. A newer one stays.
    fn drop_token(&self, refused: &Secret) {
        let mut kept = self.kept();
        if kept.token.as_ref().is_some_and(|token| token.expose() == refused.expose()) {
            kept.refused = true;
        }
    }

    fn secrets(&self) -> Vec<Secret> {
        let mut secrets = self.api.secrets();
        secrets.extend(self.login.secrets());
        secrets.extend(self.kept().token.clone());
        secrets
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Kept ===

impl Kept {
    fn usable(&self) -> Option<Secret> {
        if self.refused { None } else { self.token.clone() }
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// What was not done, with the items it was not done for.
pub(crate) fn failures(said: &Value) -> Vec<(Failed, Vec<String>)> {
    let items = said["data"]["failed_items"].as_array().into_iter().flatten();
    let one = |item: &Value| {
        let code = item["error"]["code"].as_i64().unwrap_or(0);
        let message = item["error"]["message"].as_str().unwrap_or_default();
        let message: String = message.chars().take(300).collect();
        (Failed { code, message }, texts(&item["id"]))
    };
    items.map(one).collect()
}

/// What was done.
pub(crate) fn affected(said: &Value) -> Vec<String> {
    texts(&said["data"]["affected_items"])
}

fn texts(list: &Value) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}
