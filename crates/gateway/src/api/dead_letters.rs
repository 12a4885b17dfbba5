//! `/v1/dead-letters`: what was given up, and what to do with it.

use std::sync::Arc;

use axum::{
    Extension, Json,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use holdfast_model::{DeadReason, EventId, LogId, Timestamp};
use holdfast_pipeline::jobs;
use holdfast_queue::{
    AttemptNote, DEAD_STEP_MAX, DeadEnd, DeadId, DeadLetter, DeadQuery, QueueEngine,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::{
    Api,
    auth::Caller,
    body,
    event::{Attempt, EventView},
    extract::{Path, Query},
    openapi::Nothing,
    problem::{self, Kind, Problem},
    replays,
};

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;
/// Records looked at for one page; a filter that matches little gives a short page and a cursor.
const SCAN_MAX: usize = 5_000;

/// What to select; the same words in queries, replays and purges
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"destination": "siem", "reason": "refused"}))]
#[serde(deny_unknown_fields)]
pub(crate) struct Filter {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) destination: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(
        pattern = "^(refused|forbidden|too_large|render|too_old|in_doubt|invalid|too_long|corrupt)$"
    )]
    pub(crate) reason: Option<String>,
    /// Died at or after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub(crate) since: Option<String>,
    /// Died before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub(crate) until: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rule_id: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListOptions {
    /// Whose: a lane's name, or `source.<name>`.
    destination: Option<String>,
    #[param(
        pattern = "^(refused|forbidden|too_large|render|too_old|in_doubt|invalid|too_long|corrupt)$"
    )]
    reason: Option<String>,
    /// Died at or after this.
    #[param(format = DateTime)]
    since: Option<String>,
    /// Died before this.
    #[param(format = DateTime)]
    until: Option<String>,
    rule_id: Option<String>,
    /// How many; a page may hold fewer, and `has_more` says whether it was the last.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
    /// Only how many there are.
    #[serde(default)]
    #[param(required = false)]
    count_only: bool,
}

/// A dead letter
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetter, example = json!({"id": "k3v9x0aq2m-42.siem", "destination": "siem",
    "reason": "refused", "died_at": "2026-03-10T06:11:28.189Z",
    "event": {"id": "k3v9x0aq2m-42", "seq": 42, "cursor": "ZTQy", "kind": "alert",
        "source": "wazuh", "received_at": "2026-03-10T06:11:28.001Z", "parent": null,
        "alert": {"rule": {"id": "5710", "level": 5}}},
    "attempts": [{"n": 1, "at": "2026-03-10T06:11:28.120Z", "outcome": "client_error",
        "status": 400, "excerpt": "the destination refused the event (status 400)"}]}))]
pub(crate) struct View {
    /// `<event id>.<lane>`, or `<event id>.source.<name>`.
    id: String,
    destination: String,
    #[schema(value_type = String, pattern = "^(refused|forbidden|too_large|render|too_old|in_doubt|invalid|too_long|corrupt)$")]
    reason: DeadReason,
    #[schema(value_type = String, format = DateTime)]
    died_at: Timestamp,
    event: EventView,
    /// At most 20: the first 5 and the last 15.
    #[schema(value_type = Vec<Attempt>)]
    attempts: Vec<AttemptNote>,
    /// For a source's record: what is wrong with it.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false)]
    message: String,
}

/// A page of dead letters
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetterPage)]
pub(crate) struct Page {
    data: Vec<View>,
    next_cursor: Option<String>,
    has_more: bool,
}

/// How many there are
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"count": 7}))]
pub(crate) struct Count {
    count: u64,
}

/// A page, or how many there are
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Listed {
    Page(Page),
    Count(Count),
}

/// What a purge removed, or would remove
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(example = json!({"purged": 7}))]
pub(crate) enum Purged {
    Done { purged: u64 },
    Rehearsed { count: u64, dry_run: bool },
}

impl Filter {
    /// Reads the words, or says which one makes no sense.
    pub(crate) fn query(&self) -> Result<DeadQuery, Problem> {
        let bad = |detail: String| Problem::new(Kind::BadRequest, detail);
        let time = |name: &str, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => Timestamp::parse(text).map(Some).ok_or_else(|| {
                bad(format!("`{name}` is \"{text}\", but must be an RFC 3339 time"))
            }),
        };
        let reason = match &self.reason {
            None => None,
            Some(word) => Some(DeadReason::parse(word).ok_or_else(|| {
                let known = DeadReason::ALL.map(DeadReason::as_str).join(", ");
                bad(format!("`reason` is \"{word}\", but must be one of {known}"))
            })?),
        };
        Ok(DeadQuery {
            owner: self.destination.clone(),
            reason,
            since: time("since", &self.since)?,
            until: time("until", &self.until)?,
            rule_id: self.rule_id.clone(),
            after: None,
            limit: LIMIT_DEFAULT,
            scan_max: SCAN_MAX,
        })
    }
}

impl View {
    fn new(log: &LogId, id: &DeadId, letter: DeadLetter) -> Self {
        Self {
            id: show_id(log, id),
            destination: id.owner.clone(),
            reason: letter.reason,
            died_at: letter.died_at,
            event: EventView::new(log, &letter.event),
            attempts: letter.attempts,
            message: letter.message,
        }
    }
}

pub(crate) fn show_id(log: &LogId, id: &DeadId) -> String {
    format!("{}.{}", log.event(id.seq), id.owner)
}

/// Reads `<event id>.<owner>`.
pub(crate) fn parse_id(log: &LogId, text: &str) -> Result<DeadId, Problem> {
    let missing = || Problem::new(Kind::NotFound, "there is no such dead letter");
    let (event, owner) = text.split_once('.').ok_or_else(missing)?;
    let event: EventId = event.parse().map_err(|_| missing())?;
    if event.log != *log {
        return Err(missing());
    }
    Ok(DeadId { owner: owner.to_owned(), seq: event.seq })
}

/// Lists dead letters, the oldest of each owner first
#[utoipa::path(
    get, path = "/v1/dead-letters", tag = "dead-letters", operation_id = "list_dead_letters",
    params(ListOptions),
    responses((status = 200, description = "A page, or with `count_only` a count.", body = Listed)),
)]
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    Query(options): Query<ListOptions>,
) -> Result<Json<Listed>, Problem> {
    let filter = Filter {
        destination: options.destination,
        reason: options.reason,
        since: options.since,
        until: options.until,
        rule_id: options.rule_id,
    };
    let mut query = filter.query()?;
    if options.count_only {
        let count = jobs::count(&*api.engine, &query).await?;
        return Ok(Json(Listed::Count(Count { count })));
    }
    query.limit = options.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&query.limit) {
        let detail = format!("`limit` is {}, but must be 1 to {LIMIT_MAX}", query.limit);
        return Err(Problem::new(Kind::BadRequest, detail));
    }
    query.after = options.cursor.as_deref().map(read_cursor).transpose()?;
    let page = api.engine.dead_letters(query).await?;
    let log = api.engine.log_id();
    let data = page.letters.into_iter().map(|(id, letter)| View::new(log, &id, letter)).collect();
    let next_cursor = page.next.as_ref().map(write_cursor);
    Ok(Json(Listed::Page(Page { data, has_more: next_cursor.is_some(), next_cursor })))
}

fn write_cursor(id: &DeadId) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}.{}", id.seq, id.owner))
}

fn read_cursor(cursor: &str) -> Result<DeadId, Problem> {
    let bad = || Problem::new(Kind::BadRequest, "the cursor is not one of ours");
    let text = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| bad())?;
    let text = String::from_utf8(text).map_err(|_| bad())?;
    let (seq, owner) = text.split_once('.').ok_or_else(bad)?;
    Ok(DeadId { owner: owner.to_owned(), seq: seq.parse().map_err(|_| bad())? })
}

/// Shows a dead letter
#[utoipa::path(
    get, path = "/v1/dead-letters/{id}", tag = "dead-letters", operation_id = "show_dead_letter",
    params(("id" = String, Path, description = "The dead letter's id.",
        example = "k3v9x0aq2m-42.siem")),
    responses((status = 200, description = "The dead letter.", body = View)),
)]
pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Result<Json<View>, Problem> {
    let log = api.engine.log_id();
    let id = parse_id(log, &id)?;
    match api.engine.dead_letter(&id).await? {
        Some(letter) => Ok(Json(View::new(log, &id, letter))),
        None => Err(Problem::new(Kind::NotFound, "there is no such dead letter")),
    }
}

/// Removes a dead letter for good
#[utoipa::path(
    delete, path = "/v1/dead-letters/{id}", tag = "dead-letters",
    operation_id = "remove_dead_letter",
    params(("id" = String, Path, description = "The dead letter's id.",
        example = "k3v9x0aq2m-42.siem")),
    responses((status = 204, description = "It is gone, and counted as purged.")),
)]
pub(crate) async fn remove(
    State(api): State<Arc<Api>>,
    Extension(Caller(who)): Extension<Caller>,
    Path(text): Path<String>,
) -> Result<StatusCode, Problem> {
    let id = parse_id(api.engine.log_id(), &text)?;
    if api.engine.remove_dead(vec![id.clone()], DeadEnd::Purged).await? == 0 {
        return Err(Problem::new(Kind::NotFound, "there is no such dead letter"));
    }
    api.metrics.dropped(&id.owner, "purged", 1);
    api.note(&who, "purge", &text, "1".into()).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Sends one dead letter again
#[utoipa::path(
    post, path = "/v1/dead-letters/{id}/replay", tag = "dead-letters",
    operation_id = "replay_dead_letter",
    params(
        ("id" = String, Path, description = "The dead letter's id.",
         example = "k3v9x0aq2m-42.siem"),
        ("idempotency-key" = Option<String>, Header, min_length = 1, max_length = 255,
         description = "The same key twice is one job."),
    ),
    request_body = Nothing,
    responses(
        (status = 200, description = "The job of the first request with this key.",
         body = replays::View),
        (status = 202, description = "The job.", body = replays::View),
        (status = 422, description = "The key was used for another replay.",
         body = problem::Body, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn replay(
    State(api): State<Arc<Api>>,
    Extension(Caller(who)): Extension<Caller>,
    Path(text): Path<String>,
    headers: HeaderMap,
    _: Nothing,
) -> Result<Response, Problem> {
    let id = parse_id(api.engine.log_id(), &text)?;
    if api.engine.dead_letter(&id).await?.is_none() {
        return Err(Problem::new(Kind::NotFound, "there is no such dead letter"));
    }
    replays::create(&api, &who, &headers, replays::Request::one(id)).await
}

/// What to purge
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"filter": {"destination": "siem"}, "dry_run": true}))]
pub(crate) struct Purge {
    #[serde(default)]
    filter: Filter,
    /// Only count.
    #[serde(default)]
    dry_run: bool,
    /// A purge of everything must say so.
    #[serde(default)]
    all: bool,
}

/// Removes dead letters for good
#[utoipa::path(
    post, path = "/v1/dead-letters/purge", tag = "dead-letters",
    operation_id = "purge_dead_letters",
    request_body = Purge,
    responses((status = 200, description = "How many are gone, or would be.", body = Purged)),
)]
pub(crate) async fn purge(
    State(api): State<Arc<Api>>,
    Extension(Caller(who)): Extension<Caller>,
    body: Body,
) -> Result<Json<Purged>, Problem> {
    let purge: Purge = body::command(body).await?;
    let mut query = purge.filter.query()?;
    let unlimited = serde_json::to_value(&purge.filter).is_ok_and(|value| value == json!({}));
    if unlimited && !purge.all {
        let detail = "a purge without a filter needs `\"all\": true`";
        return Err(Problem::new(Kind::BadRequest, detail));
    }
    if purge.dry_run {
        let count = jobs::count(&*api.engine, &query).await?;
        return Ok(Json(Purged::Rehearsed { count, dry_run: true }));
    }
    query.limit = DEAD_STEP_MAX;
    let mut purged = 0;
    loop {
        let page = api.engine.dead_letters(query.clone()).await?;
        let ids: Vec<DeadId> = page.letters.into_iter().map(|(id, _)| id).collect();
        for id in &ids {
            api.metrics.dropped(&id.owner, "purged", 1);
        }
        purged += api.engine.remove_dead(ids, DeadEnd::Purged).await?;
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    let detail = json!({ "purged": purged, "filter": purge.filter }).to_string();
    api.note(&who, "purge", "dead-letters", detail).await;
    Ok(Json(Purged::Done { purged }))
}
