//! `/v1/destinations`: the lanes, and what a person may tell them.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Path, Query, State},
};
use holdfast_model::{LaneState, Ledger, Name, Timestamp};
use holdfast_pipeline::{LaneHandle, LaneView};
use holdfast_queue::{AuditEntry, LaneSummary, QueueEngine, QueueError, ReadLimit};
use serde::{Deserialize, Serialize};

use super::{
    Api,
    auth::Caller,
    problem::{Kind, Problem},
};

/// A lane as the API shows it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Lane {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// One of [`LaneState::NAMES`].
    pub(crate) state: &'static str,
    reason: String,
    since: Timestamp,
    pub(crate) ledger: LedgerView,
    pub(crate) oldest_pending_at: Option<Timestamp>,
    pub(crate) throttled_until: Option<Timestamp>,
    next_retry_at: Option<Timestamp>,
    last_error: String,
}

/// The ledger, with `pending` taken apart.
#[derive(Clone, Copy, Debug, Serialize)]
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
    pub(crate) difference: i64,
}

#[derive(Serialize)]
pub(crate) struct List<T> {
    data: Vec<T>,
}

impl LedgerView {
    pub(crate) fn new(ledger: &Ledger, in_flight_of_log: u64) -> Self {
        // A moment apart from the ledger, so bounded by it.
        let in_flight = in_flight_of_log.min(ledger.unsettled);
        Self {
            seen: ledger.seen,
            filtered: ledger.filtered,
            delivered: ledger.delivered,
            pending: ledger.pending(),
            unread: ledger.unsettled - in_flight,
            held: 0,
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
        let view = self.lanes.get(&summary.name).map(LaneHandle::view);
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
            ledger: LedgerView::new(&ledger, view.as_ref().map_or(0, in_flight_of_log)),
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

    fn lane(&self, name: &str) -> Result<&LaneHandle, Problem> {
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

pub(crate) async fn list(State(api): State<Arc<Api>>) -> Result<Json<List<Lane>>, Problem> {
    Ok(Json(List { data: api.lane_views().await? }))
}

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

pub(crate) async fn pause(
    State(api): State<Arc<Api>>,
    Extension(Caller(who)): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Lane>, Problem> {
    api.lane(&name)?.pause(&who).await?;
    api.note(&who, "pause", &name, String::new()).await;
    one(&api, &name).await
}

pub(crate) async fn resume(
    State(api): State<Arc<Api>>,
    Extension(Caller(who)): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Lane>, Problem> {
    api.lane(&name)?.resume().await?;
    api.note(&who, "resume", &name, String::new()).await;
    one(&api, &name).await
}

pub(crate) async fn retry_now(
    State(api): State<Arc<Api>>,
    Extension(Caller(who)): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Lane>, Problem> {
    api.lane(&name)?.retry_now().await?;
    api.note(&who, "retry-now", &name, String::new()).await;
    one(&api, &name).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditOptions {
    #[serde(default = "audit_limit")]
    limit: usize,
}

fn audit_limit() -> usize {
    100
}

pub(crate) async fn audit(
    State(api): State<Arc<Api>>,
    Query(options): Query<AuditOptions>,
) -> Result<Json<List<AuditEntry>>, Problem> {
    Ok(Json(List { data: api.engine.audit(options.limit.min(1_000)).await? }))
}
