//! `GET /v1/alerts/export`: a stretch of the log as NDJSON, with gzip for who accepts it.
//!
//! It is sent as it is read, a little at a time, so its size costs no memory. It ends where the log
//! ended when it was asked for. What cannot be read on breaks the connection off: an export that
//! ends in order is whole.

use std::{io::Write, sync::Arc};

use axum::{
    body::Body,
    extract::{RawQuery, State},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use futures_util::stream::{Stream, unfold};
use holdfast_model::{Seq, Timestamp, alert::one_line};
use holdfast_pipeline::{Path, filter::Filter};
use holdfast_queue::QueueEngine;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Expired, Failure, STEP, params, place, place_of,
    query::{Begin, Query, pairs, read_cursor},
    step, views,
};
use crate::api::{
    Api,
    problem::{self, Problem},
};

/// What is still to be sent.
struct Export {
    api: Arc<Api>,
    filter: Filter,
    fields: Vec<Path>,
    at: Seq,
    end: Seq,
    gzip: Option<GzEncoder<Vec<u8>>>,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

/// Gives a stretch of the log, one event a line
///
/// Conditions mean what they mean in `when`. It is packed for who sends `Accept-Encoding: gzip`. An
/// export that cannot go on breaks off, so one that ends in order is whole.
#[utoipa::path(
    get, path = "/v1/alerts/export", tag = "alerts", operation_id = "export_alerts",
    params(params::OfExport),
    responses(
        (status = 200, description = "The events that pass, each a line of JSON.",
         body = String, content_type = "application/x-ndjson",
         example = "{\"id\":\"k3v9x0aq2m-42\",\"seq\":42,\"alert\":{}}\n"),
        (status = 410, description = "The cursor has expired, or is of another log.",
         body = Expired<'_>, content_type = "application/problem+json"),
        (status = 503, description = "Too many readers wait already, or the gateway is stopping.",
         body = problem::Body, content_type = "application/problem+json",
         headers(("retry-after" = u64, description = "Seconds to wait."))),
    ),
)]
pub(crate) async fn export(
    State(api): State<Arc<Api>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let (from, to, rest) = ends(query.as_deref().unwrap_or(""))?;
    let query = Query::read(&rest, Begin::Oldest)?;
    let permit = api.readers.wait()?;
    let head = *api.engine.head().borrow();
    let end = match to {
        None => head,
        Some(Begin::At(time)) => place_of(&api, time).await?,
        Some(to) => place(&api, &to).await?,
    };
    let at = place(&api, &from.unwrap_or(Begin::Oldest)).await?;
    // An expired cursor is refused before it begins, where the status can say so.
    if at < end {
        step(&api, at, &query.filter, 1).await?;
    }
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    let gzip = accepts_gzip(accepted.unwrap_or(""))
        .then(|| GzEncoder::new(Vec::new(), Compression::fast()));
    let packed = gzip.is_some();
    let (filter, fields) = (query.filter, query.fields);
    let export = Export { api, filter, fields, at, end, gzip, ended: false, _permit: permit };
    let mut response = Body::from_stream(pieces(export)).into_response();
    let mut put =
        |name, value| response.headers_mut().insert(name, HeaderValue::from_static(value));
    put(header::CONTENT_TYPE, "application/x-ndjson");
    put(header::CACHE_CONTROL, "no-store");
    put(header::VARY, "accept-encoding");
    if packed {
        put(header::CONTENT_ENCODING, "gzip");
    }
    Ok(response)
}

/// `from` and `to`, and the query without them.
fn ends(query: &str) -> Result<(Option<Begin>, Option<Begin>, String), Problem> {
    let read = |value: &str| match Timestamp::parse(value) {
        Some(time) => Ok(Some(Begin::At(time))),
        None => read_cursor(value).map(Some),
    };
    let (mut from, mut to, mut rest) = (None, None, Vec::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pairs(pair)?.first() {
            Some((key, value)) if key == "from" => from = read(value)?,
            Some((key, value)) if key == "to" => to = read(value)?,
            _ => rest.push(pair),
        }
    }
    Ok((from, to, rest.join("&")))
}

/// Whether gzip is named, and not with a quality of zero.
fn accepts_gzip(accepted: &str) -> bool {
    accepted.split(',').any(|one| {
        let (name, quality) = one.split_once(';').unwrap_or((one, ""));
        let quality = quality.trim().strip_prefix("q=").and_then(|q| q.parse::<f32>().ok());
        matches!(name.trim(), "gzip" | "*") && quality.is_none_or(|quality| quality > 0.0)
    })
}

fn pieces(export: Export) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
    unfold(export, |mut export| async move {
        let piece = export.next().await?;
        if piece.is_err() {
            export.ended = true;
        }
        Some((piece, export))
    })
}

impl Export {
    async fn next(&mut self) -> Option<Result<Bytes, std::io::Error>> {
        while !self.ended {
            let piece = match self.read().await {
                Ok(Some(text)) => self.pack(&text),
                Ok(None) => self.finish(),
                Err(_) => Err(std::io::Error::other("the log cannot be read on")),
            };
            match piece {
                Ok(piece) if piece.is_empty() => {}
                piece => return Some(piece),
            }
        }
        None
    }

    /// The next lines; `None` at the end.
    async fn read(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        if self.at >= self.end {
            return Ok(None);
        }
        let mut step = step(&self.api, self.at, &self.filter, STEP.events_max).await?;
        self.at = step.next;
        step.found.retain(|event| event.seq < self.end);
        let mut text = Vec::new();
        for view in views(&self.api, &step.found, &self.fields).await {
            let line = serde_json::to_vec(&view).unwrap_or_default();
            text.extend_from_slice(&one_line(&line));
            text.push(b'\n');
        }
        Ok(Some(text))
    }

    fn pack(&mut self, text: &[u8]) -> Result<Bytes, std::io::Error> {
        let Some(gzip) = &mut self.gzip else { return Ok(Bytes::copy_from_slice(text)) };
        gzip.write_all(text)?;
        Ok(std::mem::take(gzip.get_mut()).into())
    }

    fn finish(&mut self) -> Result<Bytes, std::io::Error> {
        self.ended = true;
        match self.gzip.take() {
            Some(gzip) => gzip.finish().map(Bytes::from),
            None => Ok(Bytes::new()),
        }
    }
}
