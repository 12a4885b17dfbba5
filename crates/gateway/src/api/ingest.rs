//! `POST /v1/alerts`: durable first, then 202.

use std::sync::Arc;

use axum::{
    Extension,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use holdfast_model::{Accepted, IntakeBatch, NewEvent, Reject, RejectReason, intake::Idempotency};
use holdfast_queue::{IdempotentAnswer, QueueEngine};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::{IntoParams, ToSchema};

use super::{
    Api,
    auth::Caller,
    body,
    extract::Query,
    problem::{self, Kind, Problem},
    upload,
};

/// The name of this source in metrics, events and dead letters.
pub(crate) const SOURCE: &str = "http";
const KEY_CHARS_MAX: usize = 255;

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Options {
    /// What happens to lines that are no alerts: the whole request is refused, or they become dead
    /// letters of the source.
    #[serde(default)]
    #[param(inline)]
    on_invalid: OnInvalid,
}

/// What happens to lines that are no alerts
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum OnInvalid {
    /// The whole request is refused.
    #[default]
    Reject,
    /// The good lines are taken, the others become dead letters of the source.
    DeadLetter,
}

/// What was taken
#[derive(Serialize, ToSchema)]
#[schema(as = Accepted,
    example = json!({"accepted": 2, "first": "k3v9x0aq2m-42", "last": "k3v9x0aq2m-43"}))]
pub(crate) struct Answer {
    accepted: u64,
    /// Lines that became dead letters of the source; absent when there are none.
    #[serde(skip_serializing_if = "is_zero")]
    #[schema(required = false)]
    rejected: u64,
    first: Option<String>,
    last: Option<String>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Takes alerts: an object, an array or NDJSON
///
/// They are on stable storage when this answers, all or none of them.
#[utoipa::path(
    post, path = "/v1/alerts", tag = "alerts", operation_id = "post_alerts",
    params(
        Options,
        ("idempotency-key" = Option<String>, Header, min_length = 1, max_length = 255,
         description = "A repeat with the same key and body gets the first answer."),
        ("content-encoding" = Option<String>, Header, description = "`gzip` or `identity`.",
         pattern = "^(gzip|x-gzip|identity)$"),
    ),
    request_body(
        description = "Each alert is a JSON object of at most `server.max_line`, all of them at most \
            `server.max_body`.",
        content(
            (serde_json::Value = "application/json",
             example = json!([{"rule": {"id": "5710", "level": 5}}])),
            (String = "application/x-ndjson",
             example = json!("{\"rule\":{\"id\":\"5710\",\"level\":5}}\n")),
        ),
    ),
    responses(
        (status = 202, description = "They are stored.", body = Answer,
         headers(("idempotent-replayed" = bool,
            description = "Present on the answer to a repeat."))),
        (status = 409, description = "A request with this key is under way.",
         body = problem::Body, content_type = "application/problem+json"),
        (status = 422, description = "The key was used with another body.",
         body = problem::Body, content_type = "application/problem+json"),
        (status = 503, description = "The queue is full, or the gateway is stopping.",
         body = problem::Body, content_type = "application/problem+json",
         headers(("retry-after" = u64, description = "Seconds to wait."))),
        (status = 507, description = "The disk is full.",
         body = problem::Body, content_type = "application/problem+json",
         headers(("retry-after" = u64, description = "Seconds to wait."))),
    ),
)]
pub(crate) async fn post_alerts(
    State(api): State<Arc<Api>>,
    Extension(Caller(caller)): Extension<Caller>,
    Query(options): Query<Options>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    match take(&api, &caller, &options, &headers, body).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn take(
    api: &Api,
    caller: &str,
    options: &Options,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
    if announced.is_some_and(|bytes: usize| bytes > api.body_bytes_max) {
        count_refused(api, "too_large");
        let detail = format!("the body is larger than {} bytes", api.body_bytes_max);
        return Err(Problem::new(Kind::TooLarge, detail));
    }
    let _permit = api.body_permit(announced.unwrap_or(api.body_bytes_max)).await?;
    let body = body::read(body, api.body_bytes_max).await?;
    let body = match headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity") => body,
        Some(b"gzip" | b"x-gzip") => body::unzip(&body, api.body_bytes_max)?,
        Some(_) => {
            let detail = "the content encoding must be gzip or identity";
            return Err(Problem::new(Kind::UnsupportedType, detail));
        }
    };
    let key = idempotency(caller, headers, &body)?;
    let Some(key) = key else {
        return accept(api, options, headers, &body, None).await;
    };
    let _guard = api.claim(key.key)?;
    if let Some(stored) = api.engine.idempotent(key.key).await? {
        return replayed(api, &key, stored);
    }
    accept(api, options, headers, &body, Some(key)).await
}

async fn accept(
    api: &Api,
    options: &Options,
    headers: &HeaderMap,
    body: &bytes::Bytes,
    idempotency: Option<Idempotency>,
) -> Result<Response, Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let ndjson =
        !content_type.is_some_and(|value| value.trim_start().starts_with("application/json"));
    let lines = upload::lines(body, ndjson, api.line_bytes_max);
    let bad = upload::bad_lines(&lines);
    if lines.is_empty() {
        count_refused(api, "invalid");
        return Err(Problem::new(Kind::BadRequest, "the body holds no alert"));
    }
    if !bad.is_empty() && options.on_invalid == OnInvalid::Reject {
        count_refused(api, "invalid");
        return Err(Problem::invalid_lines(bad));
    }
    let mut batch = IntakeBatch { idempotency, ..IntakeBatch::default() };
    for line in lines {
        match line.fault {
            None => batch.events.push(NewEvent::alert(line.body)),
            Some(fault) => batch.rejects.push(Reject {
                reason: match fault {
                    holdfast_model::AlertError::TooLong { .. } => RejectReason::TooLong,
                    _ => RejectReason::Invalid,
                },
                message: format!("line {}: {fault}", line.number),
                raw: line.body,
            }),
        }
    }
    let accepted = api.intake.append(&Arc::from(SOURCE), batch).await?;
    Ok(accepted_answer(&accepted))
}

fn accepted_answer(accepted: &Accepted) -> Response {
    let answer = Answer {
        accepted: accepted.accepted,
        rejected: accepted.rejected,
        first: accepted.first.as_ref().map(ToString::to_string),
        last: accepted.last.as_ref().map(ToString::to_string),
    };
    (StatusCode::ACCEPTED, axum::Json(answer)).into_response()
}

/// The answer of the first time, for its repeat.
fn replayed(api: &Api, key: &Idempotency, stored: IdempotentAnswer) -> Result<Response, Problem> {
    if stored.body != key.body {
        let detail = "the Idempotency-Key was used with another body";
        return Err(Problem::new(Kind::KeyReused, detail));
    }
    let accepted = u64::from(stored.accepted);
    api.metrics.ingest_alerts.with_label_values(&[SOURCE, "duplicate"]).inc_by(accepted);
    let id = |seq| api.engine.log_id().event(seq);
    let mut response = accepted_answer(&Accepted {
        accepted,
        rejected: u64::from(stored.rejected),
        first: (accepted > 0).then(|| id(stored.first)),
        last: (accepted > 0).then(|| id(stored.first + accepted - 1)),
    });
    response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
    Ok(response)
}

/// Hashes of token and key, and of the body. Keys of different tokens are different keys.
fn idempotency(
    caller: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Option<Idempotency>, Problem> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    if key.is_empty() || key.len() > KEY_CHARS_MAX {
        let detail = format!("an Idempotency-Key has 1 to {KEY_CHARS_MAX} characters");
        return Err(Problem::new(Kind::BadRequest, detail));
    }
    let mut hash = Sha256::new();
    hash.update(caller.as_bytes());
    hash.update(b"\0");
    hash.update(key.as_bytes());
    let (key, body) = (hash.finalize(), Sha256::digest(body));
    let (mut key_hash, mut body_hash) = ([0; 16], [0; 8]);
    key_hash.copy_from_slice(&key[..16]);
    body_hash.copy_from_slice(&body[..8]);
    Ok(Some(Idempotency { key: key_hash, body: body_hash }))
}

fn count_refused(api: &Api, reason: &str) {
    api.metrics.ingest_rejected.with_label_values(&[SOURCE, reason]).inc();
}

/// A key whose request is under way; another request with it is refused meanwhile.
struct Claim<'a> {
    api: &'a Api,
    key: [u8; 16],
}

impl Api {
    fn claim(&self, key: [u8; 16]) -> Result<Claim<'_>, Problem> {
        let mut keys = self.under_way.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if keys.insert(key) {
            return Ok(Claim { api: self, key });
        }
        Err(Problem::new(Kind::UnderWay, "a request with this Idempotency-Key is under way"))
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let keys = self.api.under_way.lock();
        keys.unwrap_or_else(std::sync::PoisonError::into_inner).remove(&self.key);
    }
}
