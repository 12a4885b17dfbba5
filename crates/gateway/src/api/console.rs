//! The sign-in link of the console, and the page behind it.
//!
//! An admin asks for a link; its code is good once and for five minutes, and opens a session that
//! a browser keeps as a cookie. Both are kept as hashes, in memory alone: a restart ends all
//! sessions. The session reads; it opens nothing of `/v1`.

use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Extension, Json,
    extract::{RawQuery, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use rand::Rng;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use super::{
    Api,
    auth::Caller,
    openapi::Nothing,
    problem::{self, Problem},
};

const CODE_LIFE: Duration = Duration::from_secs(5 * 60);
const SESSION_LIFE: Duration = Duration::from_secs(12 * 3600);
/// Links that are not used yet; the oldest gives way.
const CODES_MAX: usize = 100;
const SESSIONS_MAX: usize = 1_000;
const COOKIE: &str = "holdfast_session";

type Hash = [u8; 32];

/// Codes and sessions, with their ends.
#[derive(Default)]
pub(crate) struct Console(Mutex<Open>);

#[derive(Default)]
struct Open {
    codes: HashMap<Hash, Instant>,
    sessions: HashMap<Hash, Instant>,
}

impl Console {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new code.
    fn invite(&self, now: Instant) -> String {
        add(&mut self.lock().codes, CODES_MAX, now, CODE_LIFE)
    }

    /// A session for a code, which is used up.
    fn redeem(&self, code: &str, now: Instant) -> Option<String> {
        let mut open = self.lock();
        let ends = open.codes.remove(&hash(code))?;
        (ends > now).then(|| add(&mut open.sessions, SESSIONS_MAX, now, SESSION_LIFE))
    }

    fn knows(&self, session: &str, now: Instant) -> bool {
        self.lock().sessions.get(&hash(session)).is_some_and(|ends| *ends > now)
    }
}

fn hash(text: &str) -> Hash {
    Sha256::digest(text).into()
}

fn add(known: &mut HashMap<Hash, Instant>, max: usize, now: Instant, life: Duration) -> String {
    known.retain(|_, ends| *ends > now);
    if known.len() >= max
        && let Some(oldest) = known.iter().min_by_key(|(_, ends)| **ends).map(|(hash, _)| *hash)
    {
        known.remove(&oldest);
    }
    let mut random = [0; 32];
    rand::rng().fill_bytes(&mut random);
    let text = hex::encode(random);
    known.insert(hash(&text), now + life);
    text
}

/// A sign-in link
#[derive(Serialize, ToSchema)]
#[schema(as = SignInLink, example = json!({"path": "/?code=5f2c", "expires_in_s": 300}))]
pub(crate) struct Link {
    /// Behind the gateway's address. It is good once.
    path: String,
    expires_in_s: u64,
}

/// Makes a sign-in link of the console
///
/// It is good once and for five minutes, and opens a session in a browser, which reads.
#[utoipa::path(
    post, path = "/v1/console/links", tag = "console", operation_id = "make_sign_in_link",
    request_body = Nothing,
    responses((status = 201, description = "The link.", body = Link)),
)]
pub(crate) async fn link(
    State(api): State<Arc<Api>>,
    Extension(Caller(who)): Extension<Caller>,
    _: Nothing,
) -> Response {
    let code = api.console.invite(Instant::now());
    api.note(&who, "sign-in link", "console", String::new()).await;
    let answer = Link { path: format!("/?code={code}"), expires_in_s: CODE_LIFE.as_secs() };
    (StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(answer)).into_response()
}

#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it describes what is read by hand, so that all else is no error")]
pub(crate) struct Codes {
    /// Of a sign-in link.
    code: Option<String>,
}

/// Shows the console
///
/// With a link's code a session begins; with the session's cookie there is the page. Tokens open
/// nothing here.
#[utoipa::path(
    get, path = "/", tag = "console", operation_id = "console", params(Codes),
    responses(
        (status = 200, description = "The page.", body = String, content_type = "text/html"),
        (status = 303, description = "The session has begun; its cookie is set.",
         headers(("location" = String, description = "`/`."),
            ("set-cookie" = String, description = "The session."))),
        (status = 401, description = "There is no session, or the link is used or too old.",
         body = String, content_type = "text/html"),
        (status = 503, description = "The gateway is stopping.",
         body = problem::Body, content_type = "application/problem+json",
         headers(("retry-after" = u64, description = "Seconds to wait."))),
    ),
)]
pub(crate) async fn page(
    State(api): State<Arc<Api>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let code = query
        .as_deref()
        .and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("code=")));
    if let Some(code) = code {
        let Some(session) = api.console.redeem(code, Instant::now()) else {
            return Ok(closed("This link was used already, or is older than five minutes."));
        };
        let cookie = format!(
            "{COOKIE}={session}; HttpOnly; SameSite=Strict; Path=/; Max-Age={}",
            SESSION_LIFE.as_secs()
        );
        let headers = [
            (header::SET_COOKIE, cookie.as_str()),
            (header::LOCATION, "/"),
            (header::CACHE_CONTROL, "no-store"),
        ];
        return Ok((StatusCode::SEE_OTHER, headers).into_response());
    }
    let now = Instant::now();
    if !cookies(&headers).any(|session| api.console.knows(session, now)) {
        return Ok(closed("This page needs a sign-in link."));
    }
    let lanes = serde_json::to_value(api.lane_views().await?).unwrap_or_default();
    Ok(html(StatusCode::OK, &lanes_page(&lanes)))
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|text| text.split(';')).filter_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == COOKIE).then_some(value)
    })
}

fn closed(why: &str) -> Response {
    let body = format!(
        "<p>{}</p><p>Run <code>holdfast console</code> where the gateway runs, or with an admin \
         token, and open the link it prints.</p>",
        escape(why)
    );
    html(StatusCode::UNAUTHORIZED, &body)
}

fn html(status: StatusCode, body: &str) -> Response {
    const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem;max-width:75rem}\
        table{border-collapse:collapse}th,td{padding:.3rem .8rem;border-bottom:1px solid #ccc;\
        text-align:left}td.n{text-align:right;font-variant-numeric:tabular-nums}";
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Holdfast</title>\
         <style>{STYLE}</style><h1>Holdfast</h1>{body}</html>"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            HeaderName::from_static("content-security-policy"),
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        ),
    ];
    (status, headers, page).into_response()
}

fn lanes_page(lanes: &serde_json::Value) -> String {
    let mut page = "<p>The console comes with a later version. Until then this page shows the \
         lanes; reload it for new numbers. <code>holdfast top</code> shows them live, and \
         <code>holdfast --help</code> lists what can be done.</p><table><tr><th>Destination\
         <th>Type<th>State<th>Pending<th>Retrying<th>Delivered<th>Dead<th>Oldest<th>Reason"
        .to_owned();
    let lanes = lanes.as_array().map(Vec::as_slice).unwrap_or_default();
    for lane in lanes {
        let text = |key: &str| escape(lane[key].as_str().unwrap_or(""));
        let ledger = &lane["ledger"];
        // A text cannot be written in vain.
        write!(
            page,
            "<tr><td>{}<td>{}<td>{}<td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{}<td>{}<td>{}",
            text("name"),
            text("type"),
            text("state"),
            ledger["pending"],
            ledger["retrying"],
            ledger["delivered"],
            ledger["dead"],
            text("oldest_pending_at"),
            text("reason"),
        )
        .ok();
    }
    page.push_str("</table>");
    if lanes.is_empty() {
        page.push_str("<p>No destination is configured.</p>");
    }
    page
}

fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_code_is_good_once_and_for_five_minutes() {
        let (console, now) = (Console::default(), Instant::now());
        let (used, late) = (console.invite(now), console.invite(now));
        let session = console.redeem(&used, now).unwrap();
        assert_eq!(console.redeem(&used, now), None);
        assert_eq!(console.redeem(&late, now + CODE_LIFE), None);
        assert_eq!(console.redeem("", now), None);
        assert!(console.knows(&session, now) && !console.knows(&used, now));
        assert!(!console.knows(&session, now + SESSION_LIFE));
    }

    #[test]
    fn links_and_sessions_are_bounded_and_the_oldest_gives_way() {
        let (console, now) = (Console::default(), Instant::now());
        let first = console.invite(now);
        let last: Vec<_> = (0..CODES_MAX)
            .map(|n| console.invite(now + Duration::from_millis(1 + n as u64)))
            .collect();
        assert_eq!(console.lock().codes.len(), CODES_MAX);
        assert_eq!(console.redeem(&first, now), None);
        assert!(console.redeem(&last[CODES_MAX - 1], now).is_some());
    }

    #[test]
    fn what_a_lane_says_is_text_and_no_markup() {
        let lane = json!([{ "name": "a", "reason": "<script>\"&'", "ledger": {} }]);
        let page = lanes_page(&lane);
        assert!(page.contains("&lt;script&gt;&quot;&amp;&#39;"), "{page}");
    }
}
