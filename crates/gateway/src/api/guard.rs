//! Keeps web pages of others out: what a browser sends for a foreign page gets 403.
//!
//! DNS rebinding makes a foreign name point to us, so only names that are ours are accepted as
//! `Host`; an address literal cannot be rebound. `Origin` and `Sec-Fetch-Site` are sent by browsers
//! alone. A POST with a JSON content type cannot be made by a plain form.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{
    Api,
    problem::{Kind, Problem},
};

pub(crate) async fn check(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let authority = request.uri().authority().map(ToString::to_string);
    match verdict(&api.hosts, authority.as_deref(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn verdict(hosts: &[String], authority: Option<&str>, headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let forbidden = |detail: &str| Err(Problem::new(Kind::Forbidden, detail));
    match text(header::HOST).or(authority) {
        Some(host) if is_ours(hosts, host) => {}
        Some(_) => return forbidden("the Host is not one of ours; see `server.hosts`"),
        None => return forbidden("a Host is needed"),
    }
    if text(header::HeaderName::from_static("sec-fetch-site")) == Some("cross-site") {
        return forbidden("a request from another site");
    }
    if headers.contains_key(header::ORIGIN) {
        let origin = text(header::ORIGIN).and_then(|origin| origin.split_once("://"));
        if !origin.is_some_and(|(_, host)| is_ours(hosts, host)) {
            return forbidden("a request from a foreign origin");
        }
    }
    Ok(())
}

/// For routes that have a POST.
pub(crate) async fn json_posts(request: Request, next: Next) -> Response {
    match content_verdict(request.method(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn content_verdict(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if [Method::POST, Method::PUT].contains(method) && !is_json(given.unwrap_or("")) {
        let detail =
            "a POST or PUT needs the content type application/json or application/x-ndjson";
        return Err(Problem::new(Kind::UnsupportedType, detail));
    }
    Ok(())
}

fn is_ours(hosts: &[String], host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => host.rsplit_once(':').map_or(host, |(name, _port)| name),
    };
    name.parse::<IpAddr>().is_ok() || hosts.iter().any(|ours| ours.eq_ignore_ascii_case(name))
}

/// Content types of alerts and commands; parameters do not matter.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    matches!(
        essence.as_str(),
        "application/json" | "application/x-ndjson" | "application/ndjson" | "application/jsonl"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: Method, headers: &[(&'static str, &str)]) -> Option<u16> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        let hosts = vec!["localhost".to_owned(), "Alerts.example".to_owned()];
        let problem = verdict(&hosts, None, &map).and_then(|()| content_verdict(&method, &map));
        let problem = problem.err()?;
        Some(problem.into_response().status().as_u16())
    }

    #[test]
    fn only_our_own_names_and_pages_are_served() {
        let json = ("content-type", "application/json; charset=utf-8");
        type Row<'a> = (Method, &'a [(&'static str, &'a str)], Option<u16>);
        #[rustfmt::skip]
        let table: &[Row<'_>] = &[
            (Method::GET,  &[("host", "localhost:9470")],                                      None),
            (Method::GET,  &[("host", "127.0.0.1:9470")],                                      None),
            (Method::GET,  &[("host", "[::1]:9470")],                                          None),
            (Method::GET,  &[("host", "alerts.EXAMPLE")],                                      None),
            (Method::GET,  &[("host", "evil.example")],                                        Some(403)),
            (Method::GET,  &[("host", "localhost.evil.example")],                              Some(403)),
            (Method::GET,  &[],                                                                Some(403)),
            (Method::GET,  &[("host", "localhost"), ("origin", "http://evil.example")],        Some(403)),
            (Method::GET,  &[("host", "localhost"), ("origin", "null")],                       Some(403)),
            (Method::GET,  &[("host", "localhost"), ("origin", "http://localhost:9470")],      None),
            (Method::GET,  &[("host", "localhost"), ("sec-fetch-site", "cross-site")],         Some(403)),
            (Method::GET,  &[("host", "localhost"), ("sec-fetch-site", "same-origin")],        None),
            (Method::POST, &[("host", "localhost"), json],                                     None),
            (Method::POST, &[("host", "localhost"), ("content-type", "text/plain")],           Some(415)),
            (Method::POST, &[("host", "localhost")],                                           Some(415)),
        ];
        for (method, headers, expected) in table {
            assert_eq!(status(method.clone(), headers), *expected, "{method} {headers:?}");
        }
    }
}
