//! `/livez`, `/readyz`, `/health/destinations`: the process, the intake, the lanes.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use holdfast_queue::QueueEngine;
use serde_json::json;

use super::{Api, problem::Problem};

/// The process answers.
pub(crate) async fn live() -> &'static str {
    "ok\n"
}

/// Whether alerts can be stored right now. Names what is in the way, without addresses or paths.
pub(crate) async fn ready(State(api): State<Arc<Api>>) -> Response {
    let reasons = api.not_ready();
    if reasons.is_empty() {
        return Json(json!({ "status": "ready" })).into_response();
    }
    let body = Json(json!({ "status": "not ready", "reasons": reasons }));
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

    /// The lanes that are furthest behind: what keeps a full log from being trimmed.
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
        lanes.iter().filter(|lane| lane.position == lowest).map(name).collect()
    }
}

/// Whether everything is being delivered.
pub(crate) async fn destinations(State(api): State<Arc<Api>>) -> Result<Response, Problem> {
    let lanes = api.lane_views().await?;
    let healthy = lanes.iter().all(|lane| lane.state == "active");
    let sources: Vec<_> = api
        .sources
        .iter()
        .map(|source| json!({ "name": source.name, "trouble": source.health.trouble() }))
        .collect();
    let troubled = api.sources.iter().any(|source| source.health.trouble().is_some());
    let status = if healthy && !troubled { "healthy" } else { "degraded" };
    let code = if healthy && !troubled { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({ "status": status, "destinations": lanes, "sources": sources });
    Ok((code, Json(body)).into_response())
}
