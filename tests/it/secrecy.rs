//! No secret of the configuration shows anywhere, and the metrics are as Prometheus wants them.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    process::{Command, Stdio},
};

use serde_json::json;

use crate::support::{
    Config, Gateway, Receiver, Reply, Request, alerts, binary, config::write_private, http::Call,
};

/// Every secret, by the form it is given in.
const BEARER_LITERAL: &str = "planted-bearer-1f8e2b7c9d";
const URL_TOKEN_ENV: &str = "planted-urltoken-2a7d4e6b8c";
const PASSWORD_FILE: &str = "planted-password-3c5b9a1d7e";
const HEADER_CREDENTIAL: &str = "planted-header-4d6c8e0f2a";
const ADMIN_LITERAL: &str = "planted-admin-5e7f9b1c3d";
const INGEST_ENV: &str = "planted-ingest-6f8a0c2e4b";
/// `hf:` and the password, as Basic sends it (RFC 7617).
const BASIC_ENCODED: &str = "aGY6cGxhbnRlZC1wYXNzd29yZC0zYzViOWExZDdl";

const PLANTED: &[&str] = &[
    BEARER_LITERAL,
    URL_TOKEN_ENV,
    PASSWORD_FILE,
    HEADER_CREDENTIAL,
    ADMIN_LITERAL,
    INGEST_ENV,
    BASIC_ENCODED,
];

/// Answers with everything it was told, in every way that can fail.
fn tell_tale(request: &Request) -> Reply {
    let mut all = format!("{} {}\n", request.method, request.path);
    for (name, value) in &request.headers {
        all.push_str(&format!("{name}: {value}\n"));
    }
    // What parks a lane is over with the next request.
    match request.number % 18 {
        0 => Reply::text(400, &all),
        2 => Reply::text(500, &all),
        4 => Reply::text(401, &all),
        6 => Reply::text(403, &all),
        8 => Reply::status(302).with("Location", &format!("http://127.0.0.1:1{}", request.path)),
        10 => Reply::Broken(format!("HTTP/9 {all}\r\n\r\n").into_bytes()),
        12 => Reply::text(429, &all).with("Retry-After", "0"),
        14 => Reply::Reset,
        16 => Reply::text(404, &all),
        _ => Reply::text(200, &all),
    }
}

fn config(receivers: &[Receiver; 4], refused: u16) -> Config {
    let config = Config::new();
    let password = config.secret("password", &format!("{PASSWORD_FILE}\n"));
    fs::create_dir(config.file("credentials")).unwrap();
    write_private(&config.file("credentials/header"), HEADER_CREDENTIAL);
    let tokens = format!(
        "tokens = [ {{ name = \"boss\", role = \"admin\", token = \"{ADMIN_LITERAL}\" }}, \
         {{ name = \"in\", role = \"ingest\", token = {{ env = \"IT_INGEST\" }} }} ]"
    );
    let retry = "retry = { initial = \"10ms\", max = \"50ms\" }";
    let [bearer, basic, header] = [0, 1, 2].map(|at: usize| receivers[at].url("/"));
    let password = password.display();
    config
        .server(&tokens)
        .webhook("bearer", &bearer, &format!("bearer = \"{BEARER_LITERAL}\"\n{retry}"))
        .webhook(
            "basic",
            &basic,
            &format!(
                "basic = {{ user = \"hf\", password = {{ file = \"{password}\" }} }}\n{retry}"
            ),
        )
        .webhook(
            "header",
            &header,
            &format!("headers = {{ X-Key = {{ credential = \"header\" }} }}\n{retry}"),
        )
        .table(&format!(
            "[destinations.address]\ntype = \"webhook\"\nurl = {{ env = \"IT_URL\" }}\n{retry}"
        ))
        .table(&format!(
            "[destinations.nobody]\ntype = \"webhook\"\n\
             url = \"http://127.0.0.1:{refused}/{URL_TOKEN_ENV}\"\n{retry}"
        ))
}

#[test]
fn no_planted_secret_shows_in_logs_metrics_answers_commands_or_arguments() {
    let receivers = [(); 4].map(|()| Receiver::start(tell_tale));
    let gone = Receiver::willing();
    let refused = gone.port();
    drop(gone);
    let config = config(&receivers, refused);
    let credentials = config.file("credentials").display().to_string();
    let mut gateway = Gateway::new(config)
        .environment("HOLDFAST_LOG", "trace")
        .environment("IT_INGEST", INGEST_ENV)
        .environment(
            "IT_URL",
            &receivers[3].url(&format!("/hook/{URL_TOKEN_ENV}?key={URL_TOKEN_ENV}")),
        )
        .environment("CREDENTIALS_DIRECTORY", &credentials);
    gateway.token = ADMIN_LITERAL.to_owned();
    gateway.restart();
    gateway.accept(&alerts::ndjson(0..60));
    for lane in ["bearer", "basic", "header", "address"] {
        gateway.wait_for_lane(lane, "made a dead letter", |lane| {
            lane["ledger"]["dead"].as_u64() > Some(0)
        });
    }
    gateway.wait_for_state("nobody", "open");

    let mut places = what_it_says(&gateway);
    places.insert("arguments".into(), arguments(&gateway));
    gateway.node_stops_soon();
    places.insert("log".into(), gateway.log());
    places.insert("standard output".into(), gateway.stdout());
    assert!(places["log"].contains("TRACE"), "the log is not at its most talkative");
    for (place, text) in &places {
        for secret in PLANTED {
            if let Some(at) = text.find(secret) {
                let from = text.floor_char_boundary(at.saturating_sub(300));
                panic!("{secret} shows in {place}: …{}…", &text[from..at + secret.len()]);
            }
        }
    }
    let queue = binary::queue("inspect", &gateway.queue_path());
    assert_eq!(queue.code, Some(0), "{queue:?}");
    gateway.verified();
}

impl Gateway {
    /// Balanced, and stopped in order; its receivers never stop failing.
    fn node_stops_soon(&mut self) {
        self.balanced();
        assert_eq!(self.terminate(), Some(0), "{}", self.last_words());
    }
}

fn what_it_says(gateway: &Gateway) -> BTreeMap<String, String> {
    let mut places = BTreeMap::new();
    let routes = [
        "/metrics",
        "/readyz",
        "/health/destinations",
        "/v1/destinations",
        "/v1/dead-letters",
        "/v1/replays",
        "/v1/audit",
        "/v1/destinations/bearer",
        "/v1/nothing",
    ];
    for route in routes {
        let answer = gateway.get(route);
        places.insert(route.to_owned(), format!("{:?}\n{}", answer.headers, answer.text));
    }
    let dead = gateway.dead_letters("limit=1")[0]["id"].as_str().unwrap().to_owned();
    let wrong = Call::new(gateway.port, "GET", "/v1/destinations").bearer("not-it").send().unwrap();
    places.insert("a refusal".into(), wrong.text);
    let ingest = Call::new(gateway.port, "GET", "/v1/audit").bearer(INGEST_ENV).send().unwrap();
    assert_eq!(ingest.status, 403);
    places.insert("a refusal of a role".into(), ingest.text);
    gateway.post("/v1/dead-letters/purge", &json!({ "filter": { "destination": "none" } }));
    let commands: &[&[&str]] = &[
        &["status"],
        &["status", "--json"],
        &["destinations", "list"],
        &["dead-letters", "list"],
        &["dead-letters", "list", "--json"],
        &["dead-letters", "show", &dead],
        &["destinations", "resume", "bearer"],
        &["destinations", "pause", "no-such-lane"],
    ];
    for command in commands {
        let said = gateway.cli(command);
        places.insert(command.join(" "), said.out + &said.err);
    }
    let mut check = gateway.cli_command(&["check", "--config"]);
    check.arg(gateway.config.file("holdfast.toml"));
    // Without the environment that it names, so that it has something to complain about.
    let said: binary::Said = check.output().unwrap().into();
    assert_eq!(said.code, Some(78), "{said:?}");
    places.insert("check".into(), said.out + &said.err);
    places
}

fn arguments(gateway: &Gateway) -> String {
    let bytes = fs::read(format!("/proc/{}/cmdline", gateway.pid())).unwrap();
    assert!(!bytes.is_empty());
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn a_fault_of_the_configuration_does_not_repeat_a_secret() {
    let config = Config::new()
        .server(&format!(
            "tokens = [ {{ name = \"a\", role = \"boss\", token = \"{ADMIN_LITERAL}\" }}, \
             {{ name = \"b\", role = \"read\", token = \"{ADMIN_LITERAL}\" }} ]"
        ))
        .webhook("url", &format!("ftp://host/{URL_TOKEN_ENV}"), "")
        .webhook("user", &format!("http://hf:{PASSWORD_FILE}@host/"), "")
        .webhook("header", "http://host/", &format!("bearer = \"{BEARER_LITERAL}\\n\""))
        .webhook("both", "http://host/", &format!("bearer = \"{BEARER_LITERAL}\"\nbasic = {{ user = \"a:b\", password = \"{PASSWORD_FILE}\" }}"));
    let path = config.write(9470);
    let said = binary::run(&["check", "--config", path.to_str().unwrap()]);
    assert_eq!(said.code, Some(78), "{said:?}");
    for secret in PLANTED {
        assert!(!said.err.contains(secret) && !said.out.contains(secret), "{secret}: {said:?}");
    }
}

#[test]
fn promtool_finds_nothing_to_say_about_the_metrics() {
    let receiver = Receiver::start(tell_tale);
    let config = Config::new();
    let input = config.file("alerts.json");
    fs::write(&input, alerts::ndjson(0..20)).unwrap();
    let keys = "retry = { initial = \"10ms\", max = \"50ms\" }";
    let config = config.tail(&input).webhook("hook", &receiver.url("/"), keys);
    let mut gateway = Gateway::start(config);
    gateway.accept(&alerts::ndjson(20..60));
    gateway.wait_for_lane("hook", "failed", |lane| lane["ledger"]["dead"].as_u64() > Some(0));
    let answer = gateway.get("/metrics");
    assert!(answer.text.lines().count() > 100, "{}", answer.text);
    for name in [
        "holdfast_ingest_alerts_total",
        "holdfast_queue_oldest_alert_timestamp_seconds",
        "holdfast_deliveries_total",
        "holdfast_delivery_attempts_total",
        "holdfast_delivery_failures_total",
        "holdfast_delivery_latency_seconds_bucket",
        "holdfast_destination_state",
        "holdfast_dead_letters",
        "holdfast_dropped_alerts_total",
        "holdfast_ledger_imbalance_alerts",
        "holdfast_storage_fsync_duration_seconds_bucket",
    ] {
        assert!(
            answer.text.contains(&format!("\n{name}{{"))
                || answer.text.contains(&format!("\n{name} ")),
            "no {name}"
        );
    }
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is missing: install Debian's package `prometheus`");
    promtool.stdin.take().unwrap().write_all(answer.text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said: binary::Said = output.into();
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(0), "", ""));
    gateway.finish();
}
