//! `/v1/destinations`: the lanes, and what a person may tell them.

use std::sync::Arc;

use axum::{Extension, Json, extract::State};
use holdfast_model::{LaneState, Ledger, Name, Timestamp};
use holdfast_pipeline::{LaneHandle, LaneView};
use holdfast_queue::{AuditEntry, DeadEnd, LaneSummary, QueueEngine, QueueError, ReadLimit};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Api,
    auth::Caller,
    extract::Path,
    openapi::Nothing,
    problem::{self, Kind, Problem},
};

/// A lane
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({"name": "siem", "type": "webhook", "state": "active", "reason": "",
    "since": "2026-03-10T06:11:28.189Z", "ledger": {"seen": 9, "filtered": 1, "delivered": 7,
    "pending": 1, "unread": 0, "held": 0, "in_flight": 1, "retrying": 0, "dead": 0,
    "suppressed": 0, "expired": 0, "purged": 0, "difference": 0},
    "oldest_pending_at": "2026-03-10T06:11:29.001Z", "throttled_until": null,
    "next_retry_at": null, "last_error": ""}))]
pub(crate) struct Lane {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[schema(
        pattern = "^(active|throttled|open|auth_failed|config_failed|backed_up|paused|orphaned)$"
    )]
    pub(crate) state: &'static str,
    reason: String,
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    pub(crate) ledger: LedgerView,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) oldest_pending_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) throttled_until: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    next_retry_at: Option<Timestamp>,
    last_error: String,
}

/// A lane's ledger
///
/// `seen = filtered + delivered + pending + dead + suppressed + expired + purged`, and
/// `pending = unread + held + in_flight + retrying`.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = Ledger)]
pub(crate) struct LedgerView {
    seen: u64,
    filtered: u64,
    pub(crate) delivered: u64,
    pub(crate) pending: u64,
    unread: u64,
    held: u64,
    in_flight: u64,
    pub(crate) retrying: u64,
    pub(crate) dead: u64,
    suppressed: u64,
    expired: u64,
    purged: u64,
    /// What the records miss: 0.
    pub(crate) difference: i64,
}

/// All lanes
#[derive(Serialize, ToSchema)]
pub(crate) struct Lanes {
    data: Vec<Lane>,
}

impl LedgerView {
    pub(crate) fn new(ledger: &Ledger, in_flight_of_log: u64, held: u64) -> Self {
        // A moment apart from the ledger, so bounded by it.
        let in_flight = in_flight_of_log.min(ledger.unsettled);
        let held = held.min(ledger.unsettled - in_flight);
        Self {
            seen: ledger.seen,
            filtered: ledger.filtered,
            delivered: ledger.delivered,
            pending: ledger.pending(),
            unread: ledger.unsettled - in_flight - held,
            held,
            in_flight,
            retrying: ledger.retrying,
            dead: ledger.dead,
            suppressed: ledger.suppressed,
            expired: ledger.expired,
            purged: ledger.purged,
            difference: ledger.imbalance(),
        }
    }
}

impl Api {
    /// Every lane in the store; those without a destination are orphans.
    pub(crate) async fn lane_views(&self) -> Result<Vec<Lane>, QueueError> {
        let mut views = Vec::new();
        // A replay's own lane is shown with its job.
        for summary in self.engine.lanes().into_iter().filter(|lane| lane.job.is_none()) {
            views.push(self.lane_view(&summary).await?);
        }
        Ok(views)
    }

    async fn lane_view(&self, summary: &LaneSummary) -> Result<Lane, QueueError> {
        let view = self.lanes.get(&summary.name).as_ref().map(LaneHandle::view);
        let ledger = self.engine.ledger(&summary.name).await?;
        let stored = view.as_ref().map_or(&summary.state, |view| &view.state);
        let unread_since = self.unread_since(summary, &ledger).await?;
        let retry_oldest = view.as_ref().and_then(|view| view.retry_oldest);
        Ok(Lane {
            name: summary.name.to_string(),
            kind: view.as_ref().map_or("", |view| view.kind).to_owned(),
            state: if view.is_some() { stored.state.as_str() } else { "orphaned" },
            reason: stored.reason.clone(),
            since: stored.since,
            ledger: LedgerView::new(
                &ledger,
                view.as_ref().map_or(0, in_flight_of_log),
                view.as_ref().map_or(0, |view| view.held),
            ),
            oldest_pending_at: [unread_since, retry_oldest].into_iter().flatten().min(),
            throttled_until: match stored.state {
                LaneState::Throttled { until } => Some(until),
                LaneState::Active | LaneState::Open | LaneState::AuthFailed => None,
                LaneState::ConfigFailed | LaneState::BackedUp | LaneState::Paused => None,
            },
            next_retry_at: view.as_ref().and_then(|view| view.next_retry),
            last_error: view.map(|view| view.last_error).unwrap_or_default(),
        })
    }

    /// When the first event that the lane has not settled was received.
    async fn unread_since(
        &self,
        summary: &LaneSummary,
        ledger: &Ledger,
    ) -> Result<Option<Timestamp>, QueueError> {
        if ledger.unsettled == 0 {
            return Ok(None);
        }
        let limit = ReadLimit { events_max: 1, bytes_max: 1 };
        let page = self.engine.read(summary.position, limit).await?;
        Ok(page.events.first().map(|event| event.received_at))
    }

    pub(crate) fn lane(&self, name: &str) -> Result<LaneHandle, Problem> {
        let missing = || Problem::new(Kind::NotFound, format!("there is no destination `{name}`"));
        let name = Name::new(name).map_err(|_| missing())?;
        self.lanes.get(&name).ok_or_else(missing)
    }

    /// Writes down who did what. Failing to is no reason to refuse what was done.
    pub(crate) async fn note(&self, who: &str, action: &str, subject: &str, detail: String) {
        let entry = AuditEntry {
            at: self.clock.now(),
            who: who.to_owned(),
            action: action.to_owned(),
            subject: subject.to_owned(),
            detail,
        };
        tracing::info!(who, action, subject, detail = entry.detail, "audit");
        if let Err(error) = self.engine.add_audit(entry).await {
            tracing::error!(error = %holdfast_model::Chain(&error), "cannot write the audit entry");
        }
    }
}

fn in_flight_of_log(view: &LaneView) -> u64 {
    view.in_flight
}

/// Lists the lanes
#[utoipa::path(
    get, path = "/v1/destinations", tag = "destinations", operation_id = "list_destinations",
    responses((status = 200, description = "The lanes.", body = Lanes)),
)]
pub(crate) async fn list(State(api): State<Arc<Api>>) -> Result<Json<Lanes>, Problem> {
    Ok(Json(Lanes { data: api.lane_views().await? }))
}

/// Shows a lane
#[utoipa::path(
    get, path = "/v1/destinations/{name}", tag = "destinations", operation_id = "show_destination",
    params(("name" = String, Path, description = "The destination's name.", example = "siem")),
    responses((status = 200, description = "The lane.", body = Lane)),
)]
pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
) -> Result<Json<Lane>, Problem> {
    one(&api, &name).await
}

async fn one(api: &Api, name: &str) -> Result<Json<Lane>, Problem> {
    let lanes = api.engine.lanes();
    let mut lanes = lanes.iter().filter(|lane| lane.job.is_none());
    let Some(summary) = lanes.find(|lane| lane.name.as_str() == name) else {
        return Err(Problem::new(Kind::NotFound, format!("there is no destination `{name}`")));
    };
    Ok(Json(api.lane_view(summary).await?))
}

/// Stops a lane until somebody resumes it
#[utoipa::path(
    post, path = "/v1/destinations/{name}/pause", tag = "destinations",
    operation_id = "pause_destination",
    params(("name" = String, Path, description = "The destination's name.", example = "siem")),
    request_body = Nothing,
    responses((status = 200, description = "The lane.", body = Lane)),
)]
pub(crate) async fn pause(
    State(api): State<Arc<Api>>,
    Extension(Caller(who)): Extension<Caller>,
    Path(name): Path<String>,
    _: Nothing,
) -> Result<Json<Lane>, Problem> {
    api.lane(&name)?.pause(&who).await?;
    api.note(&who, "pause", &name, String::new()).await;
    one(&api, &name).await
}

/// Ends a pause; a lane that waits for a person tries again
#[utoipa::path(
    post, path = "/v1/destinations/{name}/resume", tag = "destinations",
    operation_id = "resume_destination",
    params(("name" = String, Path, description = "The destination's name.", example = "siem")),
    request_body = Nothing,
    responses((status = 200, description = "The lane.", body = Lane)),
)]
pub(crate) async fn resume(
    State(api): State<Arc<Api>>,
    Extension(Caller(who)): Extension<Caller>,
    Path(name): Path<String>,
    _: Nothing,
) -> Result<Json<Lane>, Problem> {
    api.lane(&name)?.resume().await?;
    api.note(&who, "resume", &name, String::new()).await;
    one(&api, &name).await
}

/// Makes every waiting retry due
#[utoipa::path(
    post, path = "/v1/destinations/{name}/retry-now", tag = "destinations",
    operation_id = "retry_destination",
    params(("name" = String, Path, description = "The destination's name.", example = "siem")),
    request_body = Nothing,
    responses((status = 200, description = "The lane.", body = Lane)),
)]
pub(crate) async fn retry_now(
    State(api): State<Arc<Api>>,
    Extension(Caller(who)): Extension<Caller>,
    Path(name): Path<String>,
    _: Nothing,
) -> Result<Json<Lane>, Problem> {
    api.lane(&name)?.retry_now().await?;
    api.note(&who, "retry-now", &name, String::new()).await;
    one(&api, &name).await
}

/// Gives up what an orphan holds; its dead letters stay
#[utoipa::path(
    post, path = "/v1/destinations/{name}/purge", tag = "destinations",
    operation_id = "purge_destination",
    params(("name" = String, Path, description = "The orphan's name.", example = "old-siem")),
    request_body = Nothing,
    responses(
        (status = 200, description = "The lane.", body = Lane),
        (status = 409, description = "It is no orphan.", body = problem::Body, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn purge(
    State(api): State<Arc<Api>>,
    Extension(Caller(who)): Extension<Caller>,
    Path(name): Path<String>,
    _: Nothing,
) -> Result<Json<Lane>, Problem> {
    let lanes = api.engine.lanes();
    let missing = || Problem::new(Kind::NotFound, format!("there is no destination `{name}`"));
    let is_it = |lane: &&LaneSummary| lane.job.is_none() && lane.name.as_str() == name;
    let lane = lanes.iter().find(is_it).ok_or_else(missing)?;
    if lane.open || api.lanes.contains(&lane.name) {
        let detail = format!("`{name}` is configured; only what an orphan holds can be purged");
        return Err(Problem::new(Kind::NotAllowed, detail));
    }
    let purged = api.engine.abandon_lane(&lane.name, DeadEnd::Purged).await?;
    api.metrics.dropped(&name, "purged", purged);
    api.note(&who, "purge", &name, purged.to_string()).await;
    one(&api, &name).await
}
