use std::io::{Read, Write};

use serde_json::json;

use super::{expect_taken, with_receiver};
use crate::support::{Config, Gateway, alerts, http::Call};

const INGEST: &str = "ingest-token-0123456789";
const READ: &str = "read-token-0123456789";

#[test]
fn one_bad_line_refuses_all_and_each_is_named() {
    let (mut gateway, receiver) = with_receiver();
    let body = format!("{}\nnot json\n{}\n[1]\n\n{{\"open\":", alerts::alert(1), alerts::alert(2));
    let answer = gateway.call("POST", "/v1/alerts").ndjson(&body).send().unwrap();
    assert_eq!((answer.status, answer.problem().as_str()), (400, "invalid-lines"));
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let errors = answer.json()["errors"].clone();
    let lines: Vec<u64> =
        errors.as_array().unwrap().iter().filter_map(|error| error["line"].as_u64()).collect();
    assert_eq!(lines, [2, 4, 6], "{errors}");
    let array = format!("[{}, 5, {}]", alerts::alert(3), alerts::alert(4));
    let call = gateway.call("POST", "/v1/alerts").body("application/json", array);
    let answer = call.send().unwrap();
    assert_eq!((answer.status, &answer.json()["errors"][0]["line"]), (400, &json!(2)));
    expect_taken(&mut gateway, &receiver, []);
}

#[test]
fn on_invalid_dead_letter_takes_the_good_lines_and_keeps_the_bad_ones() {
    let (mut gateway, receiver) = with_receiver();
    let body = format!("{}\nnot json\n{}\n", alerts::alert(1), alerts::alert(2));
    let call = gateway.call("POST", "/v1/alerts?on_invalid=dead_letter").ndjson(&body);
    let answer = call.send().unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text);
    assert_eq!(answer.json()["accepted"], 2);
    assert_eq!(answer.json()["rejected"], 1);
    let dead = gateway.dead_letters("destination=source.http");
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert_eq!(
        (&dead[0]["reason"], &dead[0]["event"]["raw"]),
        (&json!("invalid"), &json!("not json"))
    );
    let id = dead[0]["id"].as_str().unwrap();
    let answer = gateway.post(&format!("/v1/dead-letters/{id}/replay"), &json!({}));
    assert_eq!(answer.status, 400, "it was never an event: {}", answer.text);
    assert_eq!(
        gateway.get("/v1/dead-letters?destination=source.http&count_only=true").json()["count"],
        1
    );
    expect_taken(&mut gateway, &receiver, [1, 2]);
}

#[test]
fn what_is_too_large_is_refused_before_it_is_read() {
    let (mut gateway, receiver) = with_receiver();
    // Announced, and never sent.
    let mut stream = gateway.call("POST", "/v1/alerts").ndjson("").begin(17 << 20).unwrap();
    let mut beginning = [0; 12];
    stream.read_exact(&mut beginning).unwrap();
    assert_eq!(&beginning, b"HTTP/1.1 413");
    // Larger only when it is unpacked.
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..40 {
        bomb.write_all(&vec![b' '; 1 << 20]).unwrap();
    }
    let call = gateway.call("POST", "/v1/alerts").header("Content-Encoding", "gzip");
    let answer = call.ndjson(bomb.finish().unwrap()).send().unwrap();
    assert_eq!((answer.status, answer.problem().as_str()), (413, "too-large"));
    let long = format!("{{\"number\":1,\"full_log\":\"{}\"}}", "x".repeat(1 << 20));
    let answer = gateway.call("POST", "/v1/alerts").ndjson(&long).send().unwrap();
    assert!(matches!(answer.status, 400 | 413), "{}", answer.text);
    expect_taken(&mut gateway, &receiver, []);
}

#[test]
fn a_post_without_a_json_content_type_or_in_another_encoding_is_refused() {
    let (mut gateway, receiver) = with_receiver();
    let post = || gateway.call("POST", "/v1/alerts");
    let alert = alerts::alert(1);
    let plain = post().body("text/plain", &alert).send().unwrap();
    let form = post().body("application/x-www-form-urlencoded", &alert).send().unwrap();
    let brotli = post().header("Content-Encoding", "br").ndjson(&alert).send().unwrap();
    for answer in [plain, form, brotli] {
        assert_eq!((answer.status, answer.problem().as_str()), (415, "unsupported-type"));
    }
    let torn = post().header("Content-Encoding", "gzip").ndjson(b"\x1f\x8b\x08nonsense").send();
    assert_eq!(torn.unwrap().status, 400);
    expect_taken(&mut gateway, &receiver, []);
}

#[test]
fn a_token_opens_what_its_role_says_and_nothing_else() {
    let tokens = format!(
        "tokens = [ {{ name = \"in\", role = \"ingest\", token = \"{INGEST}\" }}, \
         {{ name = \"out\", role = \"read\", token = \"{READ}\" }}, \
         {{ name = \"it\", role = \"admin\", token = \"{}\" }} ]",
        crate::support::config::TOKEN
    );
    let mut gateway = Gateway::start(Config::new().server(&tokens));
    let status = |token: &str, method: &str, path: &str| {
        let mut call = Call::new(gateway.port, method, path);
        if !token.is_empty() {
            call = call.bearer(token);
        }
        call.body("application/json", "{}").send().unwrap().status
    };
    let admin = crate::support::config::TOKEN;
    #[rustfmt::skip]
    let table = [
        // token, method, path, status
        ("",      "POST", "/v1/alerts",                 401),
        ("wrong", "POST", "/v1/alerts",                 401),
        (READ,    "POST", "/v1/alerts",                 403),
        (INGEST,  "POST", "/v1/alerts",                 202),
        (admin,   "POST", "/v1/alerts",                 202),
        ("",      "GET",  "/v1/destinations",           401),
        (INGEST,  "GET",  "/v1/destinations",           403),
        (READ,    "GET",  "/v1/destinations",           200),
        (INGEST,  "GET",  "/v1/dead-letters",           403),
        (READ,    "GET",  "/v1/dead-letters",           200),
        (READ,    "POST", "/v1/dead-letters/purge",     403),
        (READ,    "POST", "/v1/replays",                403),
        (READ,    "GET",  "/v1/audit",                  403),
        (admin,   "GET",  "/v1/audit",                  200),
        (READ,    "POST", "/v1/destinations/x/pause",   403),
        (admin,   "POST", "/v1/destinations/x/pause",   404),
        (admin,   "GET",  "/v1/nothing",                404),
        ("",      "GET",  "/livez",                     200),
        ("",      "GET",  "/readyz",                    200),
        ("",      "GET",  "/metrics",                   200),
        ("",      "GET",  "/health/destinations",       200),
    ];
    for (token, method, path, expected) in table {
        assert_eq!(status(token, method, path), expected, "{token} {method} {path}");
    }
    gateway.finish();
}

#[test]
fn foreign_hosts_origins_and_sites_are_refused() {
    let (mut gateway, receiver) = with_receiver();
    let port = gateway.port;
    let call = || gateway.call("POST", "/v1/alerts").ndjson(alerts::alert(1));
    let foreign = [
        call().host("evil.example"),
        call().host(&format!("evil.example:{port}")),
        call().host(&format!("127.0.0.1.evil.example:{port}")),
        call().header("Origin", "http://evil.example"),
        call().header("Origin", "null"),
        call().header("Sec-Fetch-Site", "cross-site"),
    ];
    for call in foreign {
        assert_eq!(call.send().unwrap().status, 403, "{call:?}");
    }
    let own = call().host("localhost").header("Origin", &format!("http://localhost:{port}"));
    assert_eq!(own.send().unwrap().status, 202);
    expect_taken(&mut gateway, &receiver, [1]);
}

#[test]
fn without_configured_tokens_the_first_start_writes_one_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let mut gateway = Gateway::start(Config::new().server(""));
    let path = gateway.config.state().join("admin.token");
    let token = std::fs::read_to_string(&path).unwrap().trim().to_owned();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(token.len() >= 32);
    assert_eq!(gateway.get("/v1/destinations").status, 401);
    gateway.token = token.clone();
    assert_eq!(gateway.get("/v1/destinations").status, 200);
    gateway.kill();
    gateway.restart();
    assert_eq!(gateway.get("/v1/destinations").status, 200, "it is kept");
    let state = gateway.config.state();
    let mut command = gateway.cli_command(&["status", "--state", state.to_str().unwrap()]);
    let said: crate::support::binary::Said =
        command.env_remove("HOLDFAST_TOKEN").output().unwrap().into();
    assert_eq!(said.code, Some(0), "the command line finds it: {said:?}");
    gateway.finish();
}
