//! Errors as their callers see them: RFC 9457 problem details.
//!
//! `type` is stable and documented; `detail` is for people and may change. Paths, addresses and
//! causes stay in our own log.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use holdfast_model::{Chain, IntakeError};
use holdfast_queue::QueueError;
use serde::Serialize;
use utoipa::ToSchema;

/// One kind of problem, `/problems/<slug>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    InvalidLines,
    TooLarge,
    QueueFull,
    DiskFull,
    KeyReused,
    UnderWay,
    Unauthorized,
    Forbidden,
    NotFound,
    NotAllowed,
    NoSuchMethod,
    BadSignature,
    TooManyRequests,
    BadRequest,
    BadConfiguration,
    UnsupportedType,
    Timeout,
    Stopping,
    Internal,
}

/// An error answer.
#[derive(Debug)]
pub(crate) struct Problem {
    kind: Kind,
    detail: String,
    lines: Vec<BadLine>,
    retry_after_s: Option<u64>,
}

/// An error: a problem by RFC 9457
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem, example = json!({"type": "/problems/not-found",
    "title": "There is no such thing", "status": 404, "detail": "there is no such dead letter"}))]
pub(crate) struct Body<'a> {
    /// Which kind of problem it is. Stable.
    #[serde(rename = "type")]
    #[schema(pattern = "^/problems/[a-z-]+$")]
    kind: String,
    title: &'a str,
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// For people; it may change.
    detail: &'a str,
    /// `invalid-lines` alone: the lines that are no alerts, at most 100.
    #[serde(skip_serializing_if = "<[BadLine]>::is_empty")]
    #[schema(required = false)]
    errors: &'a [BadLine],
}

/// One line of a request that is no alert, or of the configuration that is at fault
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct BadLine {
    /// Counted from 1; for an array, the element.
    pub(crate) line: usize,
    pub(crate) message: String,
}

/// Most lines that one answer names.
pub(crate) const BAD_LINES_MAX: usize = 100;

impl Kind {
    pub(crate) fn slug(self) -> &'static str {
        self.parts().1
    }

    /// Status, slug and title.
    pub(crate) fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::InvalidLines => {
                (StatusCode::BAD_REQUEST, "invalid-lines", "Some lines are no alerts")
            }
            Self::TooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The request is too large")
            }
            Self::QueueFull => (StatusCode::SERVICE_UNAVAILABLE, "queue-full", "The queue is full"),
            Self::DiskFull => (StatusCode::INSUFFICIENT_STORAGE, "disk-full", "The disk is full"),
            Self::KeyReused => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "key-reused",
                "The key was used for another request",
            ),
            Self::UnderWay => {
                (StatusCode::CONFLICT, "key-under-way", "A request with this key is under way")
            }
            Self::Unauthorized => {
                (StatusCode::UNAUTHORIZED, "unauthorized", "A valid token is needed")
            }
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "This is not allowed"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "There is no such thing"),
            Self::NotAllowed => (StatusCode::CONFLICT, "not-possible", "This cannot be done now"),
            Self::NoSuchMethod => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "This route does not have the method",
            ),
            Self::BadSignature => {
                (StatusCode::UNAUTHORIZED, "bad-signature", "The signature is wrong")
            }
            Self::TooManyRequests => {
                (StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "Too many requests")
            }
            Self::BadRequest => {
                (StatusCode::BAD_REQUEST, "bad-request", "The request makes no sense")
            }
            Self::BadConfiguration => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "bad-configuration",
                "The configuration has faults",
            ),
            Self::UnsupportedType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-type",
                "The content type is not supported",
            ),
            Self::Timeout => (StatusCode::REQUEST_TIMEOUT, "timeout", "The request took too long"),
            Self::Stopping => {
                (StatusCode::SERVICE_UNAVAILABLE, "stopping", "The gateway is stopping")
            }
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "The gateway failed"),
        }
    }
}

impl Problem {
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), lines: Vec::new(), retry_after_s: None }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn invalid_lines(mut lines: Vec<BadLine>) -> Self {
        let count = lines.len();
        lines.truncate(BAD_LINES_MAX);
        let detail = format!("{count} lines are no alerts; nothing was taken");
        Self { kind: Kind::InvalidLines, detail, lines, retry_after_s: None }
    }

    /// Names places in a file, or in what was sent.
    pub(crate) fn with_lines(self, mut lines: Vec<BadLine>) -> Self {
        lines.truncate(BAD_LINES_MAX);
        Self { lines, ..self }
    }

    pub(crate) fn retry_after(mut self, wait: std::time::Duration) -> Self {
        self.retry_after_s = Some(wait.as_secs().max(1));
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, slug, title) = self.kind.parts();
        let body = Body {
            kind: format!("/problems/{slug}"),
            title,
            status: status.as_u16(),
            detail: &self.detail,
            errors: &self.lines,
        };
        // A struct of texts and numbers cannot fail to become JSON.
        let body = serde_json::to_string(&body).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        // RFC 9110 section 11.6.1: a 401 names the scheme.
        let scheme = match self.kind {
            Kind::Unauthorized => Some("Bearer"),
            Kind::BadSignature => Some("Signature"),
            _ => None,
        };
        if let Some(scheme) = scheme {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
        }
        response
    }
}

impl From<IntakeError> for Problem {
    fn from(error: IntakeError) -> Self {
        let detail = error.to_string();
        match error {
            IntakeError::Full { retry_after, .. } => {
                Self::new(Kind::QueueFull, detail).retry_after(retry_after)
            }
            IntakeError::DiskFull { retry_after, .. } => {
                Self::new(Kind::DiskFull, detail).retry_after(retry_after)
            }
            IntakeError::TooLarge { .. } => Self::new(Kind::TooLarge, detail),
            IntakeError::Stopping => {
                Self::new(Kind::Stopping, detail).retry_after(std::time::Duration::from_secs(5))
            }
            IntakeError::Queue(_) => internal(&error),
        }
    }
}

impl From<QueueError> for Problem {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::NoLane { .. } => Self::new(Kind::NotFound, error.to_string()),
            QueueError::Closed => Self::new(Kind::Stopping, error.to_string())
                .retry_after(std::time::Duration::from_secs(5)),
            other => internal(&other),
        }
    }
}

impl From<holdfast_pipeline::lane::Stopped> for Problem {
    fn from(error: holdfast_pipeline::lane::Stopped) -> Self {
        Self::new(Kind::Stopping, error.to_string())
    }
}

fn internal(error: &(dyn std::error::Error + 'static)) -> Problem {
    tracing::error!(error = %Chain(error), "a request failed");
    Problem::new(Kind::Internal, "the gateway's log says more")
}

pub(crate) async fn no_such_route() -> Problem {
    Problem::new(Kind::NotFound, "there is no such route")
}

pub(crate) async fn no_such_method() -> Problem {
    Problem::new(Kind::NoSuchMethod, "the `Allow` header names the methods that there are")
}
