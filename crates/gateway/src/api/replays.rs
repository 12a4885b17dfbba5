//! `/v1/replays`: jobs that send dead letters again.

use std::sync::Arc;

use axum::{
    Extension, Json,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use holdfast_model::{Name, Timestamp, units};
use holdfast_pipeline::jobs;
use holdfast_queue::{DeadId, JobProgress, JobRecord, JobState, QueueEngine};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Api,
    auth::Caller,
    body,
    dead_letters::Filter,
    problem::{Kind, Problem},
};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    #[serde(default)]
    from: Option<String>,
    #[serde(default)]
    filter: Filter,
    #[serde(default)]
    destination: Option<String>,
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

/// A job as the API shows it.
#[derive(Serialize)]
struct View {
    id: u64,
    state: JobState,
    destination: Name,
    created_at: Timestamp,
    ended_at: Option<Timestamp>,
    /// Dead letters that matched when the job was made.
    total: u64,
    /// Of those, how many have been settled again.
    done: u64,
    delivered: u64,
    duplicate: u64,
    failed: u64,
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
    let running = Name::new(&lane).ok().filter(|name| api.lanes.contains_key(name));
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
        return Ok(Json(json!({ "total": total, "dry_run": true })).into_response());
    }
    let text = json!({ "request": &request, "only": &request.only }).to_string();
    let key = idempotency_key(headers)?;
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
        owner: None,
        log: None,
        lane_end: None,
        problem: String::new(),
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

pub(crate) async fn list(State(api): State<Arc<Api>>) -> Result<Response, Problem> {
    let jobs = api.engine.jobs().await?;
    let data: Vec<View> = jobs.into_iter().rev().map(View::from).collect();
    Ok(Json(json!({ "data": data })).into_response())
}

async fn find(api: &Api, id: &str) -> Result<JobRecord, Problem> {
    let missing = || Problem::new(Kind::NotFound, format!("there is no replay {id}"));
    let id: u64 = id.parse().map_err(|_| missing())?;
    let jobs = api.engine.jobs().await?;
    jobs.into_iter().find(|job| job.id == id).ok_or_else(missing)
}

pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    Ok(Json(View::from(find(&api, &id).await?)).into_response())
}

pub(crate) async fn act(
    State(api): State<Arc<Api>>,
    Extension(Caller(who)): Extension<Caller>,
    Path((id, action)): Path<(String, String)>,
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
