//! `POST /v1/destinations/{name}/test`: a marked event, straight to the destination.

use serde_json::{Value, json};

use crate::support::{Answer, Config, Gateway, Receiver, Reply};

const SECRET: &str = "collector-secret-0123456789";

#[track_caller]
fn test(gateway: &Gateway, lane: &str) -> Value {
    let answer: Answer = gateway.post(&format!("/v1/destinations/{lane}/test"), &json!({}));
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

#[test]
fn a_test_event_goes_past_the_filter_the_log_and_the_ledger() {
    let receiver = Receiver::start(|_| Reply::ok());
    let mut gateway =
        Gateway::start(Config::new().webhook("siem", &receiver.url("/"), "when = { level = 16 }"));
    gateway.post("/v1/destinations/siem/pause", &json!({}));
    let (first, second) = (test(&gateway, "siem"), test(&gateway, "siem"));
    for ended in [&first, &second] {
        assert_eq!(ended["outcome"], "delivered", "{ended}");
        assert_eq!(ended["receipt"]["status"], 200);
        assert_eq!(ended["receipt"]["duplicate"], false);
        assert!(ended["took_ms"].is_u64());
    }
    let requests: Vec<_> = receiver.exchanges().into_iter().map(|each| each.request).collect();
    assert_eq!(requests.len(), 2);
    let keys: Vec<&str> = requests.iter().map(|request| request.key()).collect();
    assert!(keys.iter().all(|key| key.starts_with("test-")) && keys[0] != keys[1], "{keys:?}");
    let body: Value = serde_json::from_str(&requests[0].text()).unwrap();
    assert!(body.to_string().contains("TEST from Holdfast"), "{body}");
    assert_eq!(body["kind"], "canary");
    let lane = gateway.lane("siem");
    let ledger = (&lane["ledger"]["delivered"], &lane["ledger"]["dead"], &lane["state"]);
    assert_eq!(ledger, (&json!(0), &json!(0), &json!("paused")), "{lane}");
    // What Holdfast says about the pause is all that there is.
    let logged = gateway.get("/v1/alerts?kind=alert,lookup,callback,canary").json();
    assert_eq!(logged["data"], json!([]));
    let audit = gateway.get("/v1/audit?limit=1").json();
    let entry = &audit["data"][0];
    assert_eq!(
        (&entry["action"], &entry["subject"], &entry["who"]),
        (&json!("test"), &json!("siem"), &json!("it"))
    );
    assert!(entry["detail"].as_str().unwrap().contains(keys[1]), "{entry}");
    gateway.finish();
}

#[test]
fn a_test_that_fails_says_why_and_no_secret() {
    let receiver = Receiver::start(|request| match request.path.as_str() {
        "/echo" => Reply::text(401, &format!("bad {}", request.header("authorization").unwrap())),
        "/slow" => Reply::Hang,
        _ => Reply::text(500, "out of order"),
    });
    let config = Config::new();
    let secret = config.secret("collector", SECRET);
    let bearer = format!("bearer = {{ file = \"{}\" }}", secret.display());
    let mut gateway = Gateway::start(
        config
            .webhook("echo", &receiver.url("/echo"), &bearer)
            .webhook("broken", &receiver.url("/"), "")
            .webhook("slow", &receiver.url("/slow"), "timeout = \"100ms\"")
            .webhook("gone", "http://127.0.0.1:1/", ""),
    );
    for (lane, reason, status) in [
        ("echo", "auth", json!(401)),
        ("broken", "server_error", json!(500)),
        ("slow", "timeout", Value::Null),
        ("gone", "connect", Value::Null),
    ] {
        let ended = test(&gateway, lane);
        assert_eq!(ended["outcome"], "failed", "{lane}: {ended}");
        assert_eq!((&ended["reason"], &ended["status"]), (&json!(reason), &status), "{ended}");
        assert!(!ended["error"].as_str().unwrap().is_empty());
        assert!(!ended.to_string().contains(SECRET), "{ended}");
        assert_eq!(gateway.lane(lane)["state"], "active", "a test parks no lane");
    }
    assert_eq!(test(&gateway, "broken")["excerpt"], "out of order");
    let missing = gateway.post("/v1/destinations/nobody/test", &json!({}));
    assert_eq!((missing.status, missing.problem().as_str()), (404, "not-found"));
    gateway.finish();
}
