//! Speaks to a running gateway.

use std::{fmt, path::Path, time::Duration};

use http::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Exit, Gateway, output};

/// Longest wait for an answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(90);

/// What a gateway says to a command that is newer than itself.
const NO_ROUTE: &str = "there is no such route";

/// A connection's address and token.
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    token: Option<String>,
    runtime: tokio::runtime::Runtime,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    text: String,
}

/// Nobody answered, and why.
pub(crate) struct Unreachable(String);

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// As what it must be; nothing when it is something else.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(&self.text).ok()
    }

    fn detail(&self) -> String {
        let problem = self.json();
        output::plain(problem["detail"].as_str().unwrap_or(&self.text))
    }
}

impl Client {
    pub(crate) fn new(gateway: &Gateway) -> Result<Self, Exit> {
        holdfast_connectors::http::install_crypto();
        let fail = |error: &dyn fmt::Display| {
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

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Runs what is asynchronous.
    pub(crate) fn block_on<T>(&self, run: impl Future<Output = T>) -> T {
        self.runtime.block_on(run)
    }

    pub(crate) fn get(&self, path: &str) -> Result<Value, Exit> {
        self.done(self.block_on(self.send(Method::GET, path, None, None)))
    }

    pub(crate) fn post(&self, path: &str, body: &Value, key: Option<&str>) -> Result<Value, Exit> {
        self.done(self.block_on(self.send(Method::POST, path, Some(body), key)))
    }

    pub(crate) fn delete(&self, path: &str) -> Result<(), Exit> {
        self.done(self.block_on(self.send(Method::DELETE, path, None, None))).map(|_| ())
    }

    /// Asks, and takes whatever status comes.
    pub(crate) async fn ask(&self, path: &str) -> Result<Answer, Unreachable> {
        self.send(Method::GET, path, None, None).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> Result<Answer, Unreachable> {
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
        let answer = async {
            let response = request.send().await?;
            let status = response.status().as_u16();
            // Our own gateway's answers are bounded by their page limits.
            #[expect(clippy::disallowed_methods, reason = "the answer is our own gateway's")]
            let text = response.text().await?;
            Ok::<_, reqwest::Error>(Answer { status, text })
        };
        answer.await.map_err(|error| {
            let error = holdfast_model::Chain(&error.without_url()).to_string();
            Unreachable(format!("cannot reach the gateway at {}: {error}", self.url))
        })
    }

    /// The answer's content, or the command's end.
    pub(crate) fn done(&self, answer: Result<Answer, Unreachable>) -> Result<Value, Exit> {
        match answer {
            Ok(answer) if (200..300).contains(&answer.status) => Ok(answer.json()),
            Ok(answer) => Err(self.refused(&answer)),
            Err(error) => {
                output::complain(format_args!("{error}"));
                output::complain(format_args!(
                    "is it running (`systemctl status holdfast`)? --url or HOLDFAST_URL says where"
                ));
                Err(Exit::Unreachable)
            }
        }
    }

    /// Says what the gateway had against it, and what to do.
    pub(crate) fn refused(&self, answer: &Answer) -> Exit {
        let detail = answer.detail();
        match answer.status {
            401 if self.token.is_none() => {
                output::complain(format_args!(
                    "the gateway needs a token: give --token-file or HOLDFAST_TOKEN, or run this \
                     where <state>/admin.token can be read (--state)"
                ));
                Exit::Refused
            }
            401 | 403 => {
                output::complain(format_args!("refused: {detail}"));
                Exit::Refused
            }
            409 | 429 | 503 | 507 => {
                output::complain(format_args!("not now: {detail}"));
                Exit::Busy
            }
            400 | 422 => {
                output::complain(format_args!("{detail}"));
                Exit::Usage
            }
            404 if detail == NO_ROUTE => {
                output::complain(format_args!(
                    "the gateway at {} does not know this command; is it of another version than \
                     this `holdfast`?",
                    self.url
                ));
                Exit::Failed
            }
            404 if detail.contains("destination") => {
                output::complain(format_args!("{detail}; `holdfast status` lists those there are"));
                Exit::Failed
            }
            _ => {
                output::complain(format_args!("{detail}"));
                Exit::Failed
            }
        }
    }
}

/// Percent-encodes all but unreserved characters (RFC 3986 section 2.3).
pub(crate) fn escape(text: &str) -> String {
    let one = |b: u8| match b {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            (b as char).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(one).collect()
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
