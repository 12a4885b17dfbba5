//! The log as server-sent events (WHATWG HTML 9.2). The event's id is the cursor, so a client that
//! reconnects with `Last-Event-ID` misses nothing.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::{RawQuery, State},
    http::{HeaderMap, header},
    response::{
        IntoResponse, Response,
        sse::{Event as Message, KeepAlive, Sse},
    },
};
use futures_util::stream::{Stream, unfold};
use holdfast_model::{Seq, alert::one_line};
use holdfast_pipeline::{Path, filter::Filter};
use holdfast_queue::{QueueEngine, StoredEvent};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::{
    Expired, Failure, GATHER, STEP, behind, params, place,
    query::{Begin, Query, read_cursor},
    step,
};
use crate::api::{
    Api,
    event::{EventView, cursor},
    problem,
};

/// A comment is sent after so long a silence, so that a dead connection is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Events that are filtered before the client is told where it is.
const TOLD_EVERY: u64 = 1_000;

/// One client's way through the log.
struct Follow {
    api: Arc<Api>,
    filter: Filter,
    fields: Vec<Path>,
    at: Seq,
    head: watch::Receiver<Seq>,
    /// Not sent yet: what one step found.
    ready: VecDeque<Message>,
    /// Events that were looked at since the client heard of a cursor.
    untold: u64,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

/// Follows the log as server-sent events
///
/// A message's `event` is the event's kind, its `data` the event, its `id` the cursor. A stream that
/// cannot go on ends with a message `problem`.
#[utoipa::path(
    get, path = "/v1/alerts/stream", tag = "alerts", operation_id = "stream_alerts",
    params(params::OfStream),
    responses(
        (status = 200, description = "Messages, until the client or the gateway ends it.",
         body = String, content_type = "text/event-stream",
         example = "id: azN2OXgwYXEybS00Mg\nevent: alert\ndata: {\"id\":\"k3v9x0aq2m-42\"}\n\n"),
        (status = 410, description = "The cursor has expired, or is of another log.",
         body = Expired<'_>, content_type = "application/problem+json"),
        (status = 503, description = "Too many readers wait already, or the gateway is stopping.",
         body = problem::Body, content_type = "application/problem+json",
         headers(("retry-after" = u64, description = "Seconds to wait."))),
    ),
)]
pub(crate) async fn stream(
    State(api): State<Arc<Api>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let mut query = Query::read(query.as_deref().unwrap_or(""), Begin::Newest)?;
    // A browser sends it when it reconnects, and the address is still that of the first time.
    if let Some(last) = headers.get("last-event-id").and_then(|value| value.to_str().ok())
        && !last.is_empty()
    {
        query.begin = read_cursor(last)?;
    }
    let permit = api.readers.wait()?;
    let at = place(&api, &query.begin).await?;
    // An expired cursor is refused before the stream begins, where the status can say so.
    let head = api.engine.head();
    let first = step(&api, at, &query.filter, STEP.events_max).await?;
    let mut follow = Follow {
        head,
        filter: query.filter,
        fields: query.fields,
        at,
        ready: VecDeque::new(),
        untold: 0,
        ended: false,
        _permit: permit,
        api,
    };
    follow.ready.push_back(Message::default().id(behind(&follow.api, at)).comment("holdfast"));
    follow.take(first);
    let messages = Sse::new(messages(follow)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    Ok(([(header::CACHE_CONTROL, "no-store")], messages).into_response())
}

fn messages(follow: Follow) -> impl Stream<Item = Result<Message, Infallible>> {
    unfold(follow, |mut follow| async move {
        let message = follow.next().await?;
        Some((Ok(message), follow))
    })
}

impl Follow {
    async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Some(message);
            }
            if self.ended || !self.wait().await {
                return None;
            }
            match step(&self.api, self.at, &self.filter, STEP.events_max).await {
                Ok(step) => self.take(step),
                Err(failure) => self.end(&failure),
            }
        }
    }

    /// Waits for events behind `at`. `false` when the gateway stops.
    async fn wait(&mut self) -> bool {
        loop {
            if *self.head.borrow_and_update() > self.at {
                return true;
            }
            tokio::select! {
                changed = self.head.changed() => {
                    if changed.is_err() {
                        return false;
                    }
                    // Many streams do not look at every commit, one by one.
                    tokio::time::sleep(GATHER).await;
                }
                () = self.api.readers.stop.cancelled() => return false,
            }
        }
    }

    fn take(&mut self, step: super::Step) {
        let log = self.api.engine.log_id();
        self.untold += step.looked_at;
        for event in &step.found {
            let view = EventView::new(log, &StoredEvent::of(event)).with_fields(&self.fields);
            let Ok(data) = serde_json::to_string(&view) else { continue };
            // A body may have line breaks between its members, which end a message's line.
            let data = String::from_utf8_lossy(&one_line(data.as_bytes())).into_owned();
            let message = Message::default().id(cursor(log, event.seq));
            self.ready.push_back(message.event(event.kind.as_str()).data(data));
            self.untold = 0;
        }
        self.at = step.next;
        if self.untold >= TOLD_EVERY {
            // Without data it is no event, but the client remembers the id.
            self.ready.push_back(Message::default().id(behind(&self.api, self.at)));
            self.untold = 0;
        }
    }

    /// Too late for a status: the last message says why.
    fn end(&mut self, failure: &Failure) {
        self.ended = true;
        let message = Message::default().event("problem");
        self.ready.push_back(match failure.body() {
            Some((_, body)) => message.data(body.to_string()),
            None => message.data(r#"{"type":"/problems/internal","status":500}"#),
        });
    }
}
