//! `/v1/consumers`: named readers with a place that Holdfast keeps.
//!
//! `next` hands events out, in order; `ack` settles them, and answers once that is on stable
//! storage. What is not acknowledged comes again: after `ack_wait`, after `nack`, after a restart.
//! Whoever made a consumer uses it, and so does an administrator.

mod asked;
mod desk;
mod views;

use std::sync::Arc;

use axum::{
    Extension, Json,
    body::Body,
    extract::{RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use holdfast_model::Name;
use holdfast_pipeline::Consumer;
use holdfast_queue::{CONSUMERS_MAX, ConsumerRecord, QueueEngine};
use tokio::time::Instant;

use self::{
    asked::{Ack, Nack, Put, Seek, bad},
    desk::{Desk, gone},
    views::{Done, List, Page, View, all_views, view},
};
pub(crate) use self::{desk::Desks, views::lags};
use super::{
    Api,
    alerts::{
        Begin, Expired, Failure, OfNext, behind, place,
        query::{LIMIT_DEFAULT, pairs, read_cursor, read_fields, read_limit, read_wait},
        views,
    },
    auth::{Caller, CallerRole},
    body,
    extract::Path,
    problem::{self, Kind, Problem},
};
use crate::config::Role;

type Who = (Extension<Caller>, Extension<CallerRole>);

/// The consumer, for who may use it.
async fn desk(api: &Api, name: &str, who: &Who) -> Result<Arc<Desk>, Problem> {
    let desk = api.consumers.get(name).await?;
    let owner = match &*desk.lock().await {
        Some(consumer) => consumer.settings().owner.clone(),
        None => return Err(gone()),
    };
    let (Extension(Caller(caller)), Extension(CallerRole(role))) = who;
    if owner != *caller && *role != Role::Admin {
        let detail = "it is another token's; that token may use it, or one with the role admin";
        return Err(Problem::new(Kind::Forbidden, detail));
    }
    Ok(desk)
}

/// Lists the named readers
#[utoipa::path(
    get, path = "/v1/consumers", tag = "consumers", operation_id = "list_consumers",
    responses((status = 200, description = "All of them.", body = List)),
)]
pub(crate) async fn list(State(api): State<Arc<Api>>) -> Result<Json<List>, Problem> {
    Ok(Json(List { data: all_views(&api).await? }))
}

/// Shows a named reader
#[utoipa::path(
    get, path = "/v1/consumers/{name}", tag = "consumers", operation_id = "show_consumer",
    params(("name" = String, Path, description = "Its name.", example = "siem")),
    responses((status = 200, description = "How far it is.", body = View)),
)]
pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
) -> Result<Json<View>, Problem> {
    let desk = api.consumers.get(&name).await?;
    Ok(Json(view(&api, &desk).await?))
}

/// Makes a named reader, or changes one
///
/// Its name is lower-case letters, digits and hyphens. One that is there keeps its place, and what
/// is handed out.
#[utoipa::path(
    put, path = "/v1/consumers/{name}", tag = "consumers", operation_id = "put_consumer",
    params(("name" = String, Path, description = "Its name.", example = "siem")),
    request_body = Put,
    responses(
        (status = 200, description = "It is changed.", body = View),
        (status = 201, description = "It is made.", body = View),
        (status = 409, description = "There are 100 already.", body = problem::Body,
         content_type = "application/problem+json"),
        (status = 410, description = "The cursor has expired, or is of another log.",
         body = Expired<'_>, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn put(
    State(api): State<Arc<Api>>,
    who: Who,
    Path(name): Path<String>,
    body: Body,
) -> Result<Response, Failure> {
    let asked: Put = body::command(body).await?;
    let named = Name::new(&name).map_err(|error| bad(format!("the name is {error}")))?;
    let (Extension(Caller(caller)), Extension(CallerRole(role))) = &who;
    if asked.hold && *role != Role::Admin {
        let detail = "`hold` needs the role admin: it can fill the disk";
        return Err(Problem::new(Kind::Forbidden, detail).into());
    }
    let mut record = asked.record(named.clone(), caller.clone(), api.clock.now())?;
    let faulty = |faults: Vec<String>| bad(format!("`when`: {}", faults.join("; ")));
    let mut all = api.consumers.all.write().await;
    if all.contains_key(&named) {
        drop(all);
        let desk = desk(&api, &name, &who).await?;
        let change = |consumer: &mut Consumer| {
            let ConsumerRecord { owner, created_at, .. } = consumer.settings().clone();
            let settings = ConsumerRecord { owner, created_at, ..record };
            *consumer = consumer.with(settings, Instant::now()).map_err(faulty)?;
            Ok(())
        };
        desk.change(&api, change).await?;
        return Ok(Json(view(&api, &desk).await?).into_response());
    }
    if all.len() >= CONSUMERS_MAX {
        let detail = format!("there are {CONSUMERS_MAX} consumers already; remove one first");
        return Err(Problem::new(Kind::NotAllowed, detail).into());
    }
    record.reach = asked.place(&api).await?;
    let consumer = Consumer::new(record.clone(), Instant::now()).map_err(faulty)?;
    api.engine.put_consumer(record).await?;
    let desk = Arc::new(Desk::new(consumer));
    all.insert(named, Arc::clone(&desk));
    drop(all);
    api.note(caller, "put consumer", &name, if asked.hold { "hold" } else { "" }.into()).await;
    Ok((StatusCode::CREATED, Json(view(&api, &desk).await?)).into_response())
}

/// Removes a named reader, and lets go what it held
#[utoipa::path(
    delete, path = "/v1/consumers/{name}", tag = "consumers", operation_id = "remove_consumer",
    params(("name" = String, Path, description = "Its name.", example = "siem")),
    responses((status = 204, description = "It is gone.")),
)]
pub(crate) async fn remove(
    State(api): State<Arc<Api>>,
    who: Who,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    let desk = desk(&api, &name, &who).await?;
    let mut all = api.consumers.all.write().await;
    let mut held = desk.lock().await;
    let Some(consumer) = held.take() else { return Err(gone()) };
    let named = consumer.settings().name.clone();
    if let Err(error) = api.engine.remove_consumer(&named).await {
        *held = Some(consumer);
        return Err(error.into());
    }
    all.remove(&named);
    drop((held, all));
    desk.tell();
    let (Extension(Caller(caller)), _) = &who;
    api.note(caller, "remove consumer", &name, String::new()).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Hands out what comes next
///
/// What is handed out is to be acknowledged within `ack_wait`, or it comes again; first comes what
/// comes again. While `max_in_flight` events are not acknowledged nothing new is handed out.
#[utoipa::path(
    get, path = "/v1/consumers/{name}/next", tag = "consumers", operation_id = "next_of_consumer",
    params(("name" = String, Path, description = "Its name.", example = "siem"), OfNext),
    responses(
        (status = 200, description = "The events; perhaps none.", body = Page),
        (status = 410, description = "What comes next has left the log: `seek` first.",
         body = Expired<'_>, content_type = "application/problem+json"),
        (status = 503, description = "Too many readers wait already, or the gateway is stopping.",
         body = problem::Body, content_type = "application/problem+json",
         headers(("retry-after" = u64, description = "Seconds to wait."))),
    ),
)]
pub(crate) async fn next(
    State(api): State<Arc<Api>>,
    who: Who,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let (mut limit, mut wait) = (LIMIT_DEFAULT, std::time::Duration::ZERO);
    let mut fields = Vec::new();
    for (key, value) in pairs(query.as_deref().unwrap_or(""))? {
        match key.as_str() {
            "limit" => limit = read_limit(&value)?,
            "wait" => wait = read_wait(&value)?,
            "fields" => read_fields(&mut fields, &value)?,
            _ => {
                return Err(
                    bad(format!("`{key}` is not known; there are limit, wait, fields")).into()
                );
            }
        }
    }
    let desk = desk(&api, &name, &who).await?;
    let handed = desk.next(&api, limit, wait).await?;
    let data = views(&api, &handed.events, &fields).await;
    let page = Page {
        data,
        redelivered: handed.again,
        next_cursor: behind(&api, handed.done_below),
        has_more: handed.has_more,
        in_flight: handed.in_hand,
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(page)).into_response())
}

/// Acknowledges events: they do not come again
///
/// The answer comes once that is on stable storage.
#[utoipa::path(
    post, path = "/v1/consumers/{name}/ack", tag = "consumers", operation_id = "ack_of_consumer",
    params(("name" = String, Path, description = "Its name.", example = "siem")),
    request_body = Ack,
    responses(
        (status = 200, description = "They do not come again.", body = Done),
        (status = 409, description = "Too many of them were not handed out since the start.",
         body = problem::Body, content_type = "application/problem+json"),
        (status = 410, description = "The cursor has expired, or is of another log.",
         body = Expired<'_>, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn ack(
    State(api): State<Arc<Api>>,
    who: Who,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<Done>, Failure> {
    let asked: Ack = body::command(body).await?;
    let desk = desk(&api, &name, &who).await?;
    let count = match (asked.ids, asked.up_to) {
        (Some(ids), None) => {
            let seqs = asked::seqs(&api, &ids)?;
            let too_many = || {
                let detail =
                    "too many of them were not handed out since the start; ask for them first";
                Problem::new(Kind::NotAllowed, detail)
            };
            desk.change(&api, |consumer| consumer.ack(&seqs).ok_or_else(too_many)).await?
        }
        (None, Some(cursor)) => {
            let end = place(&api, &read_cursor(&cursor)?).await?;
            desk.change(&api, |consumer| Ok(consumer.ack_below(end))).await?
        }
        _ => return Err(bad("give either `ids` or `up_to`").into()),
    };
    Ok(Json(Done { count }))
}

/// Gives events back: they come again
#[utoipa::path(
    post, path = "/v1/consumers/{name}/nack", tag = "consumers", operation_id = "nack_of_consumer",
    params(("name" = String, Path, description = "Its name.", example = "siem")),
    request_body = Nack,
    responses((status = 200, description = "They come again.", body = Done)),
)]
pub(crate) async fn nack(
    State(api): State<Arc<Api>>,
    who: Who,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<Done>, Problem> {
    let asked: Nack = body::command(body).await?;
    let desk = desk(&api, &name, &who).await?;
    let seqs = asked::seqs(&api, &asked.ids.ok_or_else(|| bad("`ids` is missing"))?)?;
    let delay = asked::delay(asked.delay.as_deref())?;
    let count =
        desk.change(&api, |consumer| Ok(consumer.nack(&seqs, Instant::now(), delay))).await?;
    Ok(Json(Done { count }))
}

/// Goes on elsewhere: what was handed out is forgotten
#[utoipa::path(
    post, path = "/v1/consumers/{name}/seek", tag = "consumers", operation_id = "seek_of_consumer",
    params(("name" = String, Path, description = "Its name.", example = "siem")),
    request_body = Seek,
    responses(
        (status = 200, description = "It goes on there.", body = View),
        (status = 410, description = "The cursor has expired, or is of another log.",
         body = Expired<'_>, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn seek(
    State(api): State<Arc<Api>>,
    who: Who,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<View>, Failure> {
    let asked: Seek = body::command(body).await?;
    let desk = desk(&api, &name, &who).await?;
    let (start, cursor, since) = (&asked.start, &asked.cursor, &asked.since);
    let begin: Option<Begin> = asked::begin(start.as_deref(), cursor.as_deref(), since.as_deref())?;
    let begin = begin.ok_or_else(|| bad("give one of `start`, `cursor` and `since`"))?;
    let to = place(&api, &begin).await?;
    desk.change(&api, |consumer| {
        consumer.seek(to);
        Ok(())
    })
    .await?;
    Ok(Json(view(&api, &desk).await?))
}
