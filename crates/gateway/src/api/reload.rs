//! `POST /v1/reload`: the configuration file, read anew.

use std::sync::Arc;

use axum::{Extension, Json, extract::State};

use super::{
    Api,
    auth::Caller,
    openapi::Nothing,
    problem::{self, BadLine, Kind, Problem},
};
use crate::reload::{ReloadError, Report};

/// Reads the configuration anew
///
/// It takes effect whole, or nothing changes. Answers when it has.
#[utoipa::path(
    post, path = "/v1/reload", tag = "configuration", operation_id = "reload",
    request_body = Nothing,
    responses(
        (status = 200, description = "What changed.", body = Report),
        (status = 409, description = "Too many reloads wait already.",
         body = problem::Body, content_type = "application/problem+json"),
        (status = 422, description = "The file has faults; nothing was changed.",
         body = problem::Body, content_type = "application/problem+json",
         example = json!({"type": "/problems/bad-configuration",
            "title": "The configuration has faults", "status": 422,
            "detail": "the new configuration has 1 faults; nothing was changed",
            "errors": [{"line": 12, "message": "destinations.siem.rate: a number is needed"}]})),
    ),
)]
pub(crate) async fn reload(
    State(api): State<Arc<Api>>,
    Extension(Caller(who)): Extension<Caller>,
    _: Nothing,
) -> Result<Json<Report>, Problem> {
    Ok(Json(api.reloader.reload(&who).await?))
}

impl From<ReloadError> for Problem {
    fn from(error: ReloadError) -> Self {
        let detail = error.to_string();
        match error {
            ReloadError::Faults(faults) => {
                let line = |fault: holdfast_model::settings::Fault| BadLine {
                    line: fault.line,
                    message: match fault.key.as_str() {
                        "" => fault.problem,
                        key => format!("{key}: {}", fault.problem),
                    },
                };
                Self::new(Kind::BadConfiguration, detail)
                    .with_lines(faults.into_iter().map(line).collect())
            }
            ReloadError::Queue(error) => error.into(),
            ReloadError::Stopping => Self::new(Kind::Stopping, detail),
            ReloadError::Busy => Self::new(Kind::NotAllowed, detail),
        }
    }
}
