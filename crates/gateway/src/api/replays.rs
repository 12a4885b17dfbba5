//! `/v1/replays`: jobs that send dead letters again.

use std::sync::Arc;

use axum::{
    Extension, Json,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use holdfast_model::{Name, Timestamp, units};
use holdfast_pipeline::jobs;
use holdfast_queue::{DeadId, JobProgress, JobRecord, JobState, QueueEngine};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{
    Api,
    auth::Caller,
    body,
    dead_letters::Filter,
    extract::Path,
    openapi::Nothing,
    problem::{self, Kind, Problem},
};

/// What to send again, and where to
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ReplayRequest, example = json!({"from": "dead_letters",
    "filter": {"destination": "siem", "reason": "refused"}, "rate": "10/s", "dry_run": true}))]
pub(crate) struct Request {
    #[serde(default)]
    #[schema(pattern = "^dead_letters$")]
    from: Option<String>,
    #[serde(default)]
    filter: Filter,
    #[serde(default)]
    destination: Option<String>,
    /// As many as this: `10/s`, `30/min`. Without it as fast as it goes.
    #[serde(default)]
    rate: Option<String>,
    #[serde(default)]
    dry_run: bool,
    #[serde(skip)]
    only: Option<DeadId>,
}

impl Request {
    /// For one dead letter alone.
    pub(crate) fn one(id: DeadId) -> Self {
        Self { only: Some(id), ..Self::default() }
    }
}

/// A replay
#[derive(Serialize, ToSchema)]
#[schema(as = Replay, example = json!({"id": 3, "state": "running", "destination": "siem",
    "created_at": "2026-03-10T06:11:28.189Z", "ended_at": null, "total": 40, "done": 12,
    "delivered": 11, "duplicate": 0, "failed": 1}))]
pub(crate) struct View {
    id: u64,
    #[schema(value_type = String, pattern = "^(running|paused|cancelled|done)$")]
    state: JobState,
    #[schema(value_type = String)]
    destination: Name,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
    /// Dead letters that matched when the job was made.
    total: u64,
    /// Of those, how many have been settled again.
    done: u64,
    delivered: u64,
    duplicate: u64,
    failed: u64,
}

/// What a rehearsed replay would send again
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"total": 40, "dry_run": true}))]
pub(crate) struct Rehearsal {
    total: u64,
    dry_run: bool,
}

/// The job of the first request with this key, or what a rehearsal found
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it describes what `start` answers without a new job")]
enum NotStarted {
    Job(View),
    Rehearsed(Rehearsal),
}

/// All replays, the newest first
#[derive(Serialize, ToSchema)]
pub(crate) struct Replays {
    data: Vec<View>,
}

impl From<JobRecord> for View {
    fn from(job: JobRecord) -> Self {
        let JobProgress { delivered, duplicate, failed } = job.progress;
        Self {
            id: job.id,
            state: job.state,
            destination: job.lane,
            created_at: job.created_at,
            ended_at: job.ended_at,
            total: job.total,
            done: delivered + duplicate + failed,
            delivered,
            duplicate,
            failed,
        }
    }
}

/// Starts a replay
#[utoipa::path(
    post, path = "/v1/replays", tag = "replays", operation_id = "start_replay",
    params(("idempotency-key" = Option<String>, Header, min_length = 1, max_length = 255,
        description = "The same key twice is one job.")),
    request_body = Request,
    responses(
        (status = 200, description = "With `dry_run` what it would do; or the job of the first \
            request with this key.", body = NotStarted),
        (status = 202, description = "The new job.", body = View),
        (status = 404, description = "There is no such destination.",
         body = problem::Body, content_type = "application/problem+json"),
        (status = 422, description = "The key was used for another replay.",
         body = problem::Body, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn start(
    State(api): State<Arc<Api>>,
    Extension(Caller(who)): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let request: Request = body::command(body).await?;
    create(&api, &who, &headers, request).await
}

pub(crate) async fn create(
    api: &Api,
    who: &str,
    headers: &HeaderMap,
    request: Request,
) -> Result<Response, Problem> {
    let bad = |detail: &str| Problem::new(Kind::BadRequest, detail);
    let key = idempotency_key(headers)?;
    if request.from.as_deref().is_some_and(|from| from != "dead_letters") {
        return Err(bad(
            "`from` must be \"dead_letters\"; a replay of the log is not in this version",
        ));
    }
    let mut query = request.filter.query()?;
    let owner = request.only.as_ref().map(|id| id.owner.clone());
    let lane = owner.or(request.filter.destination.clone()).or(request.destination.clone());
    let Some(lane) = lane else { return Err(bad("`destination` is missing")) };
    if request.destination.as_ref().is_some_and(|other| *other != lane) {
        return Err(bad("a replay to another destination is not in this version"));
    }
    let running = Name::new(&lane).ok().filter(|name| api.lanes.contains(name));
    let Some(name) = running else {
        let detail = format!("there is no destination `{lane}` that could send it again");
        return Err(Problem::new(Kind::NotFound, detail));
    };
    query.owner = Some(lane.clone());
    let rate = request.rate.as_deref().map(units::parse_rate).transpose().map_err(bad)?;
    let total = match request.only {
        Some(_) => 1,
        None => jobs::count(&*api.engine, &query).await?,
    };
    if request.dry_run {
        return Ok(Json(Rehearsal { total, dry_run: true }).into_response());
    }
    let text = json!({ "request": &request, "only": &request.only }).to_string();
    let _guard = api.jobs_lock.lock().await;
    if let Some(key) = &key
        && let Some(job) = same_key(api, who, key).await?
    {
        if job.request != text {
            let detail = "the Idempotency-Key was used for another replay";
            return Err(Problem::new(Kind::KeyReused, detail));
        }
        return Ok((StatusCode::OK, Json(View::from(job))).into_response());
    }
    let job = JobRecord {
        id: 0,
        state: JobState::Running,
        created_at: api.clock.now(),
        request: text,
        idempotency_key: key.map(|key| scoped(who, &key)),
        lane: name,
        reason: query.reason,
        since: query.since,
        until: query.until,
        rule_id: query.rule_id,
        only: request.only.map(|id| id.seq),
        rate_count: rate.map_or(0, |rate| rate.count),
        rate_per: rate.map(|rate| rate.per).unwrap_or_default(),
        total,
        moved: 0,
        progress: JobProgress::default(),
        cursor: None,
        ended_at: None,
    };
    let job = api.engine.put_job(job).await?;
    api.note(who, "replay", &job.id.to_string(), job.request.clone()).await;
    api.jobs_wake.notify_one();
    Ok((StatusCode::ACCEPTED, Json(View::from(job))).into_response())
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    match key.to_str() {
        Ok(key) if (1..=255).contains(&key.len()) => Ok(Some(key.to_owned())),
        _ => Err(Problem::new(Kind::BadRequest, "an Idempotency-Key has 1 to 255 characters")),
    }
}

/// Keys of different tokens are different keys.
fn scoped(who: &str, key: &str) -> String {
    format!("{who}:{key}")
}

async fn same_key(api: &Api, who: &str, key: &str) -> Result<Option<JobRecord>, Problem> {
    let scoped = scoped(who, key);
    let jobs = api.engine.jobs().await?;
    Ok(jobs.into_iter().find(|job| job.idempotency_key.as_deref() == Some(scoped.as_str())))
}

/// Lists the replays, the newest first
#[utoipa::path(
    get, path = "/v1/replays", tag = "replays", operation_id = "list_replays",
    responses((status = 200, description = "The replays.", body = Replays)),
)]
pub(crate) async fn list(State(api): State<Arc<Api>>) -> Result<Json<Replays>, Problem> {
    let jobs = api.engine.jobs().await?;
    Ok(Json(Replays { data: jobs.into_iter().rev().map(View::from).collect() }))
}

async fn find(api: &Api, id: &str) -> Result<JobRecord, Problem> {
    let missing = || Problem::new(Kind::NotFound, format!("there is no replay {id}"));
    let id: u64 = id.parse().map_err(|_| missing())?;
    let jobs = api.engine.jobs().await?;
    jobs.into_iter().find(|job| job.id == id).ok_or_else(missing)
}

/// Shows a replay
#[utoipa::path(
    get, path = "/v1/replays/{id}", tag = "replays", operation_id = "show_replay",
    params(("id" = String, Path, description = "The replay's number.", example = "3")),
    responses((status = 200, description = "The replay.", body = View)),
)]
pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    Ok(Json(View::from(find(&api, &id).await?)).into_response())
}

/// Pauses, resumes or cancels a replay
#[utoipa::path(
    post, path = "/v1/replays/{id}/{action}", tag = "replays", operation_id = "change_replay",
    params(
        ("id" = String, Path, description = "The replay's number.", example = "3"),
        ("action" = String, Path, description = "What to do.", example = "pause",
         pattern = "^(pause|resume|cancel)$"),
    ),
    request_body = Nothing,
    responses(
        (status = 200, description = "The replay.", body = View),
        (status = 409, description = "It has ended.",
         body = problem::Body, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn act(
    State(api): State<Arc<Api>>,
    Extension(Caller(who)): Extension<Caller>,
    Path((id, action)): Path<(String, String)>,
    _: Nothing,
) -> Result<Response, Problem> {
    let _guard = api.jobs_lock.lock().await;
    let mut job = find(&api, &id).await?;
    let state = match (action.as_str(), job.state) {
        ("pause", JobState::Running | JobState::Paused) => JobState::Paused,
        ("resume", JobState::Paused | JobState::Running) => JobState::Running,
        ("cancel", JobState::Paused | JobState::Running | JobState::Cancelled) => {
            JobState::Cancelled
        }
        ("pause" | "resume" | "cancel", _) => {
            return Err(Problem::new(Kind::NotAllowed, "the replay has ended"));
        }
        _ => return Err(Problem::new(Kind::NotFound, "there is no such action")),
    };
    if state == JobState::Cancelled && job.ended_at.is_none() {
        job.ended_at = Some(api.clock.now());
    }
    job.state = state;
    let job = api.engine.put_job(job).await?;
    api.note(&who, &format!("{action} replay"), &id, String::new()).await;
    api.jobs_wake.notify_one();
    Ok(Json(View::from(job)).into_response())
}
