//! Speaks to a running gateway.

use std::{path::Path, time::Duration};

use http::Method;
use serde_json::Value;

use super::{Exit, Gateway, output};

/// Longest wait for an answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(60);

/// A connection's address and token.
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    token: Option<String>,
    runtime: tokio::runtime::Runtime,
}

impl Client {
    pub(crate) fn new(gateway: &Gateway) -> Result<Self, Exit> {
        holdfast_connectors::http::install_crypto();
        let fail = |error: &dyn std::fmt::Display| {
            output::complain(format_args!("{error}"));
            Exit::Failed
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| fail(&error))?;
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(ANSWER_WAIT_MAX)
            .build()
            .map_err(|error| fail(&error))?;
        let url = gateway.url.trim_end_matches('/').to_owned();
        Ok(Self { http, url, token: token(gateway)?, runtime })
    }

    pub(crate) fn get(&self, path: &str) -> Result<Value, Exit> {
        self.send(Method::GET, path, None, None)
    }

    pub(crate) fn post(&self, path: &str, body: &Value, key: Option<&str>) -> Result<Value, Exit> {
        self.send(Method::POST, path, Some(body), key)
    }

    fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> Result<Value, Exit> {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let answer = self.runtime.block_on(async {
            let response = request.send().await?;
            let status = response.status();
            // Our own gateway's answers are bounded by their page limits.
            #[expect(clippy::disallowed_methods, reason = "the answer is our own gateway's")]
            let text = response.text().await?;
            Ok::<_, reqwest::Error>((status, text))
        });
        match answer {
            Ok((status, text)) if status.is_success() => {
                Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
            }
            Ok((status, text)) => Err(self.refused(status, &text)),
            Err(error) => {
                let error = holdfast_model::Chain(&error.without_url()).to_string();
                output::complain(format_args!("cannot reach the gateway at {}: {error}", self.url));
                Err(Exit::Unreachable)
            }
        }
    }

    fn refused(&self, status: reqwest::StatusCode, text: &str) -> Exit {
        let problem: Value = serde_json::from_str(text).unwrap_or(Value::Null);
        let detail = problem["detail"].as_str().unwrap_or(text);
        let detail = output::plain(detail);
        match status.as_u16() {
            401 if self.token.is_none() => {
                output::complain(format_args!(
                    "the gateway needs a token: give --token-file or HOLDFAST_TOKEN, or run this \
                     where {} can be read",
                    "<state>/admin.token"
                ));
                Exit::Refused
            }
            401 | 403 => {
                output::complain(format_args!("refused: {detail}"));
                Exit::Refused
            }
            409 | 503 | 507 => {
                output::complain(format_args!("not now: {detail}"));
                Exit::Busy
            }
            _ => {
                output::complain(format_args!("{detail}"));
                Exit::Failed
            }
        }
    }
}

/// The token file, the environment, or the gateway's own.
fn token(gateway: &Gateway) -> Result<Option<String>, Exit> {
    if let Some(path) = &gateway.token_file {
        return match read_token(path) {
            Ok(token) => Ok(Some(token)),
            Err(error) => {
                output::complain(format_args!("cannot read {}: {error}", path.display()));
                Err(Exit::Usage)
            }
        };
    }
    if let Ok(token) = std::env::var("HOLDFAST_TOKEN") {
        return Ok(Some(token));
    }
    Ok(read_token(&gateway.state.join("admin.token")).ok())
}

fn read_token(path: &Path) -> std::io::Result<String> {
    Ok(std::fs::read_to_string(path)?.trim().to_owned())
}
