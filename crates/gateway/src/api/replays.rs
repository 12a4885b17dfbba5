//! `/v1/replays`: jobs that send dead letters, or a stretch of the log, again.

mod asked;

use std::sync::Arc;

use axum::{
    Extension, Json,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use holdfast_model::{Name, Timestamp, units};
use holdfast_queue::{
    DeadId, JobProgress, JobRecord, JobState, LaneSummary, QueueEngine, QueueError,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{
    Api,
    auth::Caller,
    body,
    destinations::LedgerView,
    extract::Path,
    openapi::Nothing,
    problem::{self, Kind, Problem},
};

/// Replays that may be under way at once: each has memory of its own.
const RUNNING_MAX: usize = 32;

/// What to send again, and where to
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ReplayRequest, example = json!({"from": "dead_letters",
    "filter": {"destination": "siem", "reason": "refused"}, "rate": "10/s", "dry_run": true}))]
pub(crate) struct Request {
    /// `"dead_letters"` or `"log"`.
    #[serde(default)]
    #[schema(pattern = "^(dead_letters|log)$")]
    from: Option<String>,
    /// Of dead letters as in their list; of the log the keys of `when`, and `since`, `until`,
    /// `first`, `last`.
    #[serde(default)]
    #[schema(value_type = Object, required = false)]
    filter: Map<String, Value>,
    #[serde(default)]
    destination: Option<String>,
    /// As many as this: `10/s`, `30/min`. Without it as fast as it goes.
    #[serde(default)]
    rate: Option<String>,
    /// Send also what the destination's own `when` would not let pass. Only of the log.
    #[serde(default)]
    ignore_when: bool,
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
    "delivered": 11, "duplicate": 0, "failed": 1, "from": "dead_letters"}))]
pub(crate) struct View {
    id: u64,
    #[schema(value_type = String, pattern = "^(running|paused|cancelled|done|failed)$")]
    state: JobState,
    #[schema(value_type = String, pattern = "^(dead_letters|log)$")]
    from: &'static str,
    #[schema(value_type = String)]
    destination: Name,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
    /// Events that matched when the job was made.
    total: u64,
    /// Of those, how many have been settled.
    done: u64,
    delivered: u64,
    duplicate: u64,
    failed: u64,
    /// Why it failed.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false)]
    problem: String,
    /// The lane that the job has for itself, while it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    lane: Option<OwnLane>,
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
    Job(Box<View>),
    Rehearsed(Rehearsal),
}

/// All replays, the newest first
#[derive(Serialize, ToSchema)]
pub(crate) struct Replays {
    data: Vec<View>,
}

/// The lane that a replay has for itself
#[derive(Serialize, ToSchema)]
#[schema(as = ReplayLane)]
struct OwnLane {
    /// Also the `destination` of the job's dead letters.
    #[schema(value_type = String)]
    name: Name,
    #[schema(value_type = String)]
    state: &'static str,
    reason: String,
    ledger: LedgerView,
}

impl View {
    async fn of(api: &Api, job: JobRecord) -> Result<Self, Problem> {
        Self::among(api, job, &api.engine.lanes()).await
    }

    async fn among(api: &Api, job: JobRecord, lanes: &[LaneSummary]) -> Result<Self, Problem> {
        let lane = match job.own_lane() {
            Some(name) => own_lane(api, name, lanes).await?,
            None => None,
        };
        let JobProgress { delivered, duplicate, failed } = job.progress;
        Ok(Self {
            id: job.id,
            state: job.state,
            from: if job.log.is_some() { "log" } else { "dead_letters" },
            destination: job.lane,
            created_at: job.created_at,
            ended_at: job.ended_at,
            total: job.total,
            done: delivered + duplicate + failed,
            delivered,
            duplicate,
            failed,
            problem: job.problem,
            lane,
        })
    }
}

async fn own_lane(
    api: &Api,
    name: Name,
    lanes: &[LaneSummary],
) -> Result<Option<OwnLane>, Problem> {
    let Some(summary) = lanes.iter().find(|lane| lane.name == name) else { return Ok(None) };
    let ledger = match api.engine.ledger(&name).await {
        Ok(ledger) => LedgerView::new(&ledger, 0, 0),
        // It has ended just now.
        Err(QueueError::NoLane { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let (state, reason) = (summary.state.state.as_str(), summary.state.reason.clone());
    Ok(Some(OwnLane { name, state, reason, ledger }))
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
        (status = 409, description = "Too many replays are under way.",
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
    let text = json!({ "request": &request, "only": &request.only }).to_string();
    let key = idempotency_key(headers)?;
    // Before anything is counted, and again when nobody else can come between.
    if let Some(answer) = repeated(api, who, key.as_deref(), &text).await? {
        return Ok(answer);
    }
    let mut job = match request.from.as_deref() {
        Some("log") => asked::of_log(api, &request).await?,
        None | Some("dead_letters") => asked::of_dead_letters(api, &request).await?,
        Some(_) => return Err(bad("`from` must be \"dead_letters\" or \"log\"")),
    };
    if let Some(rate) = &request.rate {
        let rate = units::parse_rate(rate).map_err(|problem| bad(format!("`rate`: {problem}")))?;
        (job.rate_count, job.rate_per) = (rate.count, rate.per);
    }
    if request.dry_run {
        return Ok(Json(Rehearsal { total: job.total, dry_run: true }).into_response());
    }
    let _guard = api.jobs_lock.lock().await;
    if let Some(answer) = repeated(api, who, key.as_deref(), &text).await? {
        return Ok(answer);
    }
    let jobs = api.engine.jobs().await?;
    if jobs.iter().filter(|job| !job.state.has_ended()).count() >= RUNNING_MAX {
        let detail = format!("{RUNNING_MAX} replays have not ended yet; no more at once");
        return Err(Problem::new(Kind::NotAllowed, detail));
    }
    (job.request, job.idempotency_key) = (text, key.map(|key| scoped(who, &key)));
    let job = api.engine.put_job(job).await?;
    api.note(who, "replay", &job.id.to_string(), job.request.clone()).await;
    api.jobs_wake.notify_one();
    Ok((StatusCode::ACCEPTED, Json(View::of(api, job).await?)).into_response())
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(Kind::BadRequest, detail.into())
}

/// The answer to a request whose key was used before.
async fn repeated(
    api: &Api,
    who: &str,
    key: Option<&str>,
    text: &str,
) -> Result<Option<Response>, Problem> {
    let Some(key) = key else { return Ok(None) };
    let Some(job) = same_key(api, who, key).await? else { return Ok(None) };
    if job.request != text {
        let detail = "the Idempotency-Key was used for another replay";
        return Err(Problem::new(Kind::KeyReused, detail));
    }
    Ok(Some((StatusCode::OK, Json(View::of(api, job).await?)).into_response()))
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
    let (jobs, lanes) = (api.engine.jobs().await?, api.engine.lanes());
    let mut data = Vec::new();
    for job in jobs.into_iter().rev() {
        data.push(View::among(&api, job, &lanes).await?);
    }
    Ok(Json(Replays { data }))
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
    let job = find(&api, &id).await?;
    Ok(Json(View::of(&api, job).await?).into_response())
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
    Ok(Json(View::of(&api, job).await?).into_response())
}
