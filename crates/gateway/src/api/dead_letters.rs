//! `/v1/dead-letters`: what was given up, and what to do with it.

use std::sync::Arc;

use axum::{
    Extension, Json,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use holdfast_model::{DeadReason, EventId, LogId, Timestamp};
use holdfast_pipeline::jobs;
use holdfast_queue::{
    AttemptNote, DEAD_STEP_MAX, DeadEnd, DeadId, DeadLetter, DeadQuery, QueueEngine,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Api,
    auth::Caller,
    body,
    event::EventView,
    problem::{Kind, Problem},
    replays,
};

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;
/// Records looked at for one page; a filter that matches little gives a short page and a cursor.
const SCAN_MAX: usize = 5_000;

/// What to select; the same words in queries, replays and purges.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Filter {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) destination: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rule_id: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListOptions {
    destination: Option<String>,
    reason: Option<String>,
    since: Option<String>,
    until: Option<String>,
    rule_id: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
    #[serde(default)]
    count_only: bool,
}

/// A dead letter as the API shows it.
#[derive(Serialize)]
pub(crate) struct View {
    id: String,
    destination: String,
    reason: DeadReason,
    died_at: Timestamp,
    event: EventView,
    attempts: Vec<AttemptNote>,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
}

#[derive(Serialize)]
struct Page {
    data: Vec<View>,
    next_cursor: Option<String>,
    has_more: bool,
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

pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    Query(options): Query<ListOptions>,
) -> Result<Response, Problem> {
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
        return Ok(Json(json!({ "count": count })).into_response());
    }
    query.limit = options.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX);
    query.after = options.cursor.as_deref().map(read_cursor).transpose()?;
    let page = api.engine.dead_letters(query).await?;
    let log = api.engine.log_id();
    let data = page.letters.into_iter().map(|(id, letter)| View::new(log, &id, letter)).collect();
    let next_cursor = page.next.as_ref().map(write_cursor);
    Ok(Json(Page { data, has_more: next_cursor.is_some(), next_cursor }).into_response())
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

pub(crate) async fn replay(
    State(api): State<Arc<Api>>,
    Extension(Caller(who)): Extension<Caller>,
    Path(text): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = parse_id(api.engine.log_id(), &text)?;
    if api.engine.dead_letter(&id).await?.is_none() {
        return Err(Problem::new(Kind::NotFound, "there is no such dead letter"));
    }
    replays::create(&api, &who, &headers, replays::Request::one(id)).await
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Purge {
    #[serde(default)]
    filter: Filter,
    #[serde(default)]
    dry_run: bool,
    /// A purge of everything must say so.
    #[serde(default)]
    all: bool,
}

pub(crate) async fn purge(
    State(api): State<Arc<Api>>,
    Extension(Caller(who)): Extension<Caller>,
    body: Body,
) -> Result<Response, Problem> {
    let purge: Purge = body::command(body).await?;
    let mut query = purge.filter.query()?;
    let unlimited = serde_json::to_value(&purge.filter).is_ok_and(|value| value == json!({}));
    if unlimited && !purge.all {
        let detail = "a purge without a filter needs `\"all\": true`";
        return Err(Problem::new(Kind::BadRequest, detail));
    }
    if purge.dry_run {
        let count = jobs::count(&*api.engine, &query).await?;
        return Ok(Json(json!({ "count": count, "dry_run": true })).into_response());
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
    Ok(Json(json!({ "purged": purged })).into_response())
}
