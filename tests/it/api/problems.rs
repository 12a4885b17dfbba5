//! Every refusal is a problem by RFC 9457, those of the framework too.

use serde_json::Value;

use crate::support::{
    Config, Gateway,
    http::{Answer, Call},
};

#[track_caller]
fn is_problem(answer: &Answer, status: u16, slug: &str) {
    assert_eq!((answer.status, answer.problem().as_str()), (status, slug), "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
    let problem: Value = answer.json();
    assert_eq!(problem["status"], status);
    assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
}

#[test]
fn whatever_is_wrong_with_a_request_the_answer_is_a_problem() {
    let mut gateway = Gateway::start(Config::new());
    for (method, path, status, slug) in [
        ("GET", "/nowhere", 404, "not-found"),
        ("GET", "/v1/alerts/", 404, "not-found"),
        ("PUT", "/v1/destinations", 405, "method-not-allowed"),
        ("TRACE", "/livez", 405, "method-not-allowed"),
        ("DELETE", "/v1/audit", 405, "method-not-allowed"),
        ("GET", "/v1/callbacks/x", 405, "method-not-allowed"),
        ("GET", "/v1/audit?limit=many", 400, "bad-request"),
        ("GET", "/v1/audit?limit=0", 400, "bad-request"),
        ("GET", "/v1/audit?limit=1001", 400, "bad-request"),
        ("GET", "/v1/audit?limit=1&limit=2", 400, "bad-request"),
        ("GET", "/v1/audit?page=2", 400, "bad-request"),
        ("GET", "/v1/dead-letters?limit=0", 400, "bad-request"),
        ("GET", "/v1/dead-letters?since=yesterday", 400, "bad-request"),
        ("GET", "/v1/dead-letters?reason=boredom", 400, "bad-request"),
        ("GET", "/v1/dead-letters?cursor=%21", 400, "bad-request"),
        ("GET", "/v1/dead-letters/%ff", 400, "bad-request"),
        ("GET", "/v1/dead-letters/nonsense", 404, "not-found"),
        ("GET", "/v1/destinations/nobody", 404, "not-found"),
        ("GET", "/v1/replays/99", 404, "not-found"),
    ] {
        is_problem(&gateway.call(method, path).send().unwrap(), status, slug);
    }
    let named = gateway.get("/v1/audit?limit=many");
    assert!(named.text.contains("limit"), "it names the key: {}", named.text);
    let other = gateway.call("PUT", "/v1/dead-letters/x").send().unwrap();
    let allowed = other.header("allow").unwrap_or_default();
    assert!(allowed.contains("GET") && allowed.contains("DELETE"), "{allowed}");

    for (path, kind, body, status, slug) in [
        ("/v1/replays", "application/json", "{", 400, "bad-request"),
        ("/v1/replays", "application/json", "[]", 400, "bad-request"),
        ("/v1/replays", "application/json", "{\"colour\":1}", 400, "bad-request"),
        ("/v1/replays", "text/plain", "{}", 415, "unsupported-type"),
        ("/v1/dead-letters/purge", "application/json", "{}", 400, "bad-request"),
        ("/v1/alerts", "application/json", "nonsense", 400, "invalid-lines"),
        ("/v1/alerts?on_invalid=shrug", "application/json", "{}", 400, "bad-request"),
        ("/v1/replays/1/stop", "application/json", "{}", 404, "not-found"),
    ] {
        let call = gateway.call("POST", path).body(kind, body);
        is_problem(&call.send().unwrap(), status, slug);
    }
    let large = format!("{{\"rate\":\"{}\"}}", "x".repeat(100 * 1024));
    let call = gateway.call("POST", "/v1/replays").body("application/json", large);
    is_problem(&call.send().unwrap(), 413, "too-large");
    let foreign = gateway.call("GET", "/livez").host("evil.example").send().unwrap();
    is_problem(&foreign, 403, "forbidden");
    let nobody = Call::new(gateway.port, "GET", "/v1/audit").send().unwrap();
    is_problem(&nobody, 401, "unauthorized");
    gateway.finish();
}
