//! `GET /v1/alerts`: the log for who pulls, by a cursor; and `GET /v1/alerts/stream`, the same as
//! server-sent events.
//!
//! Whoever keeps the cursor misses nothing: an answer names the place behind everything that was
//! looked at, and a cursor whose events are trimmed is answered with 410 and the oldest that is
//! left. Pulling costs the lanes nothing: pages are read a few at a time, in small steps, and the
//! connections that wait are counted.

mod export;
mod params;
pub(super) mod query;
mod stream;

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{RawQuery, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use holdfast_model::{Event, Seq, Timestamp};
use holdfast_pipeline::{
    Path,
    filter::{Filter, Verdict},
};
use holdfast_queue::{QueueEngine, QueueError, ReadLimit, StoredEvent};
use serde::Serialize;
use serde_json::json;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use self::query::Query;
pub(crate) use self::{
    export::{__path_export, export},
    stream::{__path_stream, stream},
};
pub(super) use self::{params::OfNext, query::Begin};
use super::{
    Api,
    event::{EventView, cursor},
    problem::{self, Problem},
};

/// Pages that are read at once, whoever asks.
const READS_MAX: usize = 2;
/// Requests and streams that wait for events at once.
const WAITING_MAX: usize = 256;
/// One step of reading.
const STEP: ReadLimit = ReadLimit { events_max: 256, bytes_max: 1024 * 1024 };
/// Events that one request looks at; a filter that matches little gives a short page and a cursor.
pub(super) const SCAN_EVENTS_MAX: u64 = 20_000;
/// Bodies in one page, in bytes; at least one event is given.
pub(super) const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// New events are gathered for so long before a waiting request looks again.
pub(super) const GATHER: Duration = Duration::from_millis(50);
const RETRY_AFTER_S: u64 = 5;

/// What keeps those who pull from costing others.
pub(crate) struct Readers {
    reads: Semaphore,
    waiting: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Readers {
    /// Who waits is let go when `stop` is cancelled.
    pub(crate) fn new(stop: CancellationToken) -> Self {
        let waiting = Arc::new(Semaphore::new(WAITING_MAX));
        Self { reads: Semaphore::new(READS_MAX), waiting, stop }
    }

    pub(super) fn wait(&self) -> Result<OwnedSemaphorePermit, Failure> {
        Arc::clone(&self.waiting).try_acquire_owned().map_err(|_| Failure::TooMany)
    }
}

/// Why there is no page.
#[derive(Debug)]
pub(super) enum Failure {
    Problem(Problem),
    /// The events at the cursor are not in the log any more.
    Expired {
        oldest: String,
        why: &'static str,
    },
    TooMany,
}

impl From<QueueError> for Failure {
    fn from(error: QueueError) -> Self {
        Self::Problem(error.into())
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl Failure {
    fn body(&self) -> Option<(StatusCode, serde_json::Value)> {
        match self {
            Self::Problem(_) => None,
            Self::Expired { oldest, why } => {
                let expired = Expired {
                    kind: "/problems/cursor-expired",
                    title: "The cursor has expired",
                    status: StatusCode::GONE.as_u16(),
                    detail: format!("{why}; go on with `oldest_cursor`"),
                    oldest_cursor: oldest,
                };
                // A struct of texts and numbers cannot fail to become JSON.
                Some((StatusCode::GONE, serde_json::to_value(expired).unwrap_or_default()))
            }
            Self::TooMany => Some((
                StatusCode::SERVICE_UNAVAILABLE,
                json!({
                    "type": "/problems/too-many-readers",
                    "title": "Too many readers wait already",
                    "status": 503,
                    "detail": format!("{WAITING_MAX} requests and streams wait; ask again later, or without `wait`"),
                }),
            )),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Some((status, body)) = self.body() else {
            let Self::Problem(problem) = self else { return StatusCode::OK.into_response() };
            return problem.into_response();
        };
        let mut response = (status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S));
        }
        response
    }
}

/// The events behind a cursor are not in the log any more
#[derive(Serialize, ToSchema)]
#[schema(as = CursorExpired, example = json!({"type": "/problems/cursor-expired",
    "title": "The cursor has expired", "status": 410,
    "detail": "the cursor is of another log; go on with `oldest_cursor`",
    "oldest_cursor": "azN2OXgwYXEybS0w"}))]
pub(crate) struct Expired<'a> {
    #[serde(rename = "type")]
    #[schema(pattern = "^/problems/cursor-expired$")]
    kind: &'a str,
    title: &'a str,
    #[schema(minimum = 410, maximum = 410)]
    status: u16,
    /// For people; it may change.
    detail: String,
    /// Where the oldest event is that is left.
    oldest_cursor: &'a str,
}

/// A page of events
#[derive(Serialize, ToSchema)]
#[schema(as = EventPage)]
pub(crate) struct Page {
    data: Vec<EventView>,
    /// Where to go on; there is always one.
    next_cursor: String,
    /// There is more just now.
    has_more: bool,
}

/// Pulls events from a cursor on, or waits for some
///
/// Whoever goes on with `next_cursor` misses nothing. Conditions mean what they mean in `when`; a
/// list has commas, or its key is given again.
#[utoipa::path(
    get, path = "/v1/alerts", tag = "alerts", operation_id = "list_alerts",
    params(params::OfList),
    responses(
        (status = 200, description = "The events that pass; perhaps none.", body = Page),
        (status = 410, description = "The cursor has expired, or is of another log.",
         body = Expired<'_>, content_type = "application/problem+json"),
        (status = 503, description = "Too many readers wait already, or the gateway is stopping.",
         body = problem::Body, content_type = "application/problem+json",
         headers(("retry-after" = u64, description = "Seconds to wait."))),
    ),
)]
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let query = Query::read(query.as_deref().unwrap_or(""), Begin::Oldest)?;
    let _permit = if query.wait.is_zero() { None } else { Some(api.readers.wait()?) };
    let deadline = Instant::now() + query.wait;
    let mut at = place(&api, &query.begin).await?;
    let end = match query.until {
        Some(until) if until <= api.clock.now() => Some(place_of(&api, until).await?),
        _ => None,
    };
    let (mut found, mut bytes, mut looked_at) = (Vec::new(), 0, 0);
    let mut head = api.engine.head();
    let at_head = loop {
        head.borrow_and_update();
        if end.is_some_and(|end| at >= end) {
            break true;
        }
        let step = step(&api, at, &query.filter, query.limit - found.len()).await?;
        at = step.next;
        looked_at += step.looked_at;
        bytes += step.found.iter().map(|event| event.body.len()).sum::<usize>();
        found.extend(step.found);
        let full = found.len() >= query.limit || bytes >= PAGE_BYTES_MAX;
        if full || looked_at >= SCAN_EVENTS_MAX {
            break step.at_head;
        }
        if !step.at_head {
            continue;
        }
        if !found.is_empty() || !api.readers.changed(&mut head, deadline).await {
            break true;
        }
    };
    let data = views(&api, &found, &query.fields).await;
    let page = Page { data, next_cursor: behind(&api, at), has_more: !at_head };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(page)).into_response())
}

/// Events that are judged or written where they are; more of them would keep others waiting.
const AT_ONCE: usize = 16;

/// Does what takes long off the way of the lanes' tasks.
pub(super) fn aside<T>(size: usize, work: impl FnOnce() -> T) -> T {
    if size <= AT_ONCE { work() } else { tokio::task::block_in_place(work) }
}

/// Events as they look outside, made within the budget of those who read.
pub(super) async fn views(api: &Api, events: &[Arc<Event>], fields: &[Path]) -> Vec<EventView> {
    let _permit = api.readers.reads.acquire().await;
    let log = api.engine.log_id();
    let view =
        |event: &Arc<Event>| EventView::new(log, &StoredEvent::of(event)).with_fields(fields);
    aside(events.len(), || events.iter().map(view).collect())
}

impl Readers {
    /// Resolves when the gateway stops.
    pub(super) async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Waits for new events. `false` when the time is over, or the gateway stops.
    async fn changed(
        &self,
        head: &mut tokio::sync::watch::Receiver<Seq>,
        deadline: Instant,
    ) -> bool {
        let come = tokio::select! {
            changed = head.changed() => changed.is_ok(),
            () = tokio::time::sleep_until(deadline) => false,
            () = self.stop.cancelled() => false,
        };
        if come {
            tokio::time::sleep(GATHER).await;
        }
        come
    }
}

/// The cursor of a place: whoever gives it back goes on there.
pub(super) fn behind(api: &Api, at: Seq) -> String {
    cursor(api.engine.log_id(), at.saturating_sub(1))
}

/// Where reading begins.
pub(super) async fn place(api: &Api, begin: &Begin) -> Result<Seq, Failure> {
    let head = *api.engine.head().borrow();
    match begin {
        Begin::Oldest => Ok(oldest(api).await?),
        Begin::Newest => Ok(head),
        Begin::At(time) => Ok(place_of(api, *time).await?),
        Begin::Behind(log, _) if log != api.engine.log_id().as_str() => {
            expired(api, "the cursor is of another log").await
        }
        Begin::Behind(_, seq) => match seq.checked_add(1).filter(|at| *at <= head) {
            Some(at) => Ok(at),
            None => expired(api, "the cursor is ahead of the log, so of another copy of it").await,
        },
    }
}

/// The number of the first event that was received at this time or later; the head when there is
/// none. Events were received in the order of the log, unless the clock was set back.
pub(super) async fn place_of(api: &Api, time: Timestamp) -> Result<Seq, QueueError> {
    let (mut low, mut high) = (oldest(api).await?, *api.engine.head().borrow());
    while low < high {
        let middle = low + (high - low) / 2;
        let _permit = api.readers.reads.acquire().await;
        let page = api.engine.read(middle, ReadLimit { events_max: 1, bytes_max: 1 }).await?;
        match page.events.first() {
            Some(event) if event.seq < high && event.received_at < time => low = event.seq + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// The number of the oldest event in the log; the head when there is none.
async fn oldest(api: &Api) -> Result<Seq, QueueError> {
    let page = api.engine.read(0, ReadLimit { events_max: 1, bytes_max: 1 }).await?;
    Ok(first_of(&page).unwrap_or(page.next).max(1))
}

fn first_of(page: &holdfast_queue::Page) -> Option<Seq> {
    let event = page.events.first().map(|event| event.seq);
    let lost = page.lost.first().map(|span| span.from);
    [event, lost].into_iter().flatten().min()
}

async fn expired<T>(api: &Api, why: &'static str) -> Result<T, Failure> {
    let oldest = behind(api, oldest(api).await?);
    Err(Failure::Expired { oldest, why })
}

/// A little of the log.
struct Step {
    found: Vec<Arc<Event>>,
    /// Everything below was looked at.
    next: Seq,
    looked_at: u64,
    at_head: bool,
}

/// What stands at `at`, and the permit under which it is to be judged.
pub(super) async fn page_at(
    api: &Api,
    at: Seq,
) -> Result<(holdfast_queue::Page, Option<SemaphorePermit<'_>>), Failure> {
    let permit = api.readers.reads.acquire().await.ok();
    let page = api.engine.read(at, STEP).await?;
    let trimmed = api.engine.stats().events_trimmed > 0;
    if trimmed && page.next > at && first_of(&page) != Some(at) && oldest(api).await? > at {
        let why = "the events at the cursor have left the log, by `queue.retention`";
        return expired(api, why).await;
    }
    Ok((page, permit))
}

/// Reads on from `at`, and takes at most `limit` events that pass.
async fn step(api: &Api, at: Seq, filter: &Filter, limit: usize) -> Result<Step, Failure> {
    let (page, _permit) = page_at(api, at).await?;
    let mut step = Step { found: Vec::new(), next: page.next, looked_at: 0, at_head: false };
    aside(page.events.len(), || {
        for event in page.events {
            step.looked_at += 1;
            if matches!(filter.judge(&event), Verdict::Filtered) {
                continue;
            }
            let seq = event.seq;
            step.found.push(event);
            if step.found.len() >= limit {
                step.next = seq + 1;
                break;
            }
        }
    });
    step.at_head = step.next >= *api.engine.head().borrow();
    Ok(step)
}
