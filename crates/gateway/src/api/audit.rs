//! `/v1/audit`: who did what.

use std::sync::Arc;

use axum::{Json, extract::State};
use holdfast_model::Timestamp;
use holdfast_queue::{AuditEntry, QueueEngine};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Api,
    extract::Query,
    problem::{Kind, Problem},
};

const LIMIT_MAX: usize = 1_000;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Options {
    /// How many, the newest.
    #[serde(default = "limit")]
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: usize,
}

fn limit() -> usize {
    100
}

/// What somebody did
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"at": "2026-03-10T06:11:28.189Z", "who": "soc", "action": "pause",
    "subject": "siem", "detail": ""}))]
pub(crate) struct Entry {
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The token's name.
    who: String,
    action: String,
    /// What it was done to.
    subject: String,
    detail: String,
}

/// Audit entries, the newest first
#[derive(Serialize, ToSchema)]
pub(crate) struct AuditPage {
    data: Vec<Entry>,
}

impl From<AuditEntry> for Entry {
    fn from(entry: AuditEntry) -> Self {
        let AuditEntry { at, who, action, subject, detail } = entry;
        Self { at, who, action, subject, detail }
    }
}

/// Lists who did what, the newest first
#[utoipa::path(
    get, path = "/v1/audit", tag = "audit", operation_id = "list_audit", params(Options),
    responses((status = 200, description = "The entries.", body = AuditPage)),
)]
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    Query(options): Query<Options>,
) -> Result<Json<AuditPage>, Problem> {
    if !(1..=LIMIT_MAX).contains(&options.limit) {
        let detail = format!("`limit` is {}, but must be 1 to {LIMIT_MAX}", options.limit);
        return Err(Problem::new(Kind::BadRequest, detail));
    }
    let entries = api.engine.audit(options.limit).await?;
    Ok(Json(AuditPage { data: entries.into_iter().map(Entry::from).collect() }))
}
