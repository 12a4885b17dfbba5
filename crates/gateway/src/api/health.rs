//! `/livez`, `/readyz`, `/health/destinations`: the process, the intake, the lanes.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use holdfast_queue::QueueEngine;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Api,
    destinations::Lane,
    problem::{self, Problem},
};

/// Whether alerts can be stored
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"status": "ready"}))]
pub(crate) struct Readiness {
    #[schema(pattern = "^(ready|not ready)$")]
    status: &'static str,
    /// What is in the way.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    reasons: Vec<String>,
}

/// Whether everything is being delivered
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    #[schema(pattern = "^(healthy|degraded)$")]
    status: &'static str,
    destinations: Vec<Lane>,
    sources: Vec<Source>,
}

/// A source, and what troubles it
#[derive(Serialize, ToSchema)]
struct Source {
    name: String,
    trouble: Option<String>,
}

/// Says that the process answers
#[utoipa::path(
    get, path = "/livez", tag = "health", operation_id = "live",
    responses((status = 200, description = "It does.", body = String, example = "ok\n")),
)]
pub(crate) async fn live() -> &'static str {
    "ok\n"
}

/// Says whether alerts can be stored right now
///
/// Names what is in the way, without addresses or paths.
#[utoipa::path(
    get, path = "/readyz", tag = "health", operation_id = "ready",
    responses(
        (status = 200, description = "They can.", body = Readiness),
        (status = 503, description = "They cannot.", body = Readiness,
         example = json!({"status": "not ready", "reasons": ["the disk is full"]})),
    ),
)]
pub(crate) async fn ready(State(api): State<Arc<Api>>) -> Response {
    let reasons = api.not_ready();
    if reasons.is_empty() {
        return Json(Readiness { status: "ready", reasons }).into_response();
    }
    let body = Json(Readiness { status: "not ready", reasons });
    (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}

impl Api {
    pub(crate) fn not_ready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.engine.failure().borrow().is_some() {
            reasons.push("the queue has failed".to_owned());
        }
        let stats = self.engine.stats();
        if stats.disk_full {
            reasons.push("the disk is full".to_owned());
        }
        if stats.queue_full {
            let holders = self.holding_lanes().join(", ");
            reasons.push(format!("the queue is full; it is held by: {holders}"));
        }
        reasons
    }

    /// The lanes that hold back more than they may; without any, those that are furthest behind,
    /// which is what keeps a full log from being trimmed.
    fn holding_lanes(&self) -> Vec<String> {
        let mut lanes = self.engine.lanes();
        // Replays give way before the queue is full.
        lanes.retain(|lane| lane.job.is_none());
        let Some(lowest) = lanes.iter().map(|lane| lane.position).min() else { return Vec::new() };
        let name = |lane: &holdfast_queue::LaneSummary| {
            let state = self
                .lanes
                .get(&lane.name)
                .map_or("orphaned", |lane| lane.view().state.state.as_str());
            format!("{} ({state})", lane.name)
        };
        let over: Vec<String> = lanes.iter().filter(|lane| lane.backlog.over).map(name).collect();
        if !over.is_empty() {
            return over;
        }
        lanes.iter().filter(|lane| lane.position == lowest).map(name).collect()
    }
}

/// Says whether everything is being delivered
///
/// Where the listener is on this machine alone, no token is needed.
#[utoipa::path(
    get, path = "/health/destinations", tag = "health", operation_id = "health",
    responses(
        (status = 200, description = "Every lane is active and no source is in trouble.", body = Health),
        (status = 503, description = "Something is not, or the gateway is stopping.",
         content((Health = "application/json"), (problem::Body = "application/problem+json"))),
    ),
)]
pub(crate) async fn destinations(State(api): State<Arc<Api>>) -> Result<Response, Problem> {
    let lanes = api.lane_views().await?;
    let sources = api.sources.all();
    let healthy = lanes.iter().all(|lane| lane.state == "active");
    let troubled = sources.iter().any(|source| source.health.trouble().is_some());
    let sources: Vec<_> = sources
        .iter()
        .map(|source| Source { name: source.name.to_string(), trouble: source.health.trouble() })
        .collect();
    let status = if healthy && !troubled { "healthy" } else { "degraded" };
    let code = if healthy && !troubled { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = Health { status, destinations: lanes, sources };
    Ok((code, Json(body)).into_response())
}
