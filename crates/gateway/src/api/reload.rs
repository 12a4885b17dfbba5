//! `POST /v1/reload`: the configuration file, read anew.

use std::sync::Arc;

use axum::{Extension, Json, extract::State};

use super::{
    Api,
    auth::Caller,
    problem::{BadLine, Kind, Problem},
};
use crate::reload::{ReloadError, Report};

pub(crate) async fn reload(
    State(api): State<Arc<Api>>,
    Extension(Caller(who)): Extension<Caller>,
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
