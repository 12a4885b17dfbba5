//! Holdfast tells a person about itself, and does not talk to itself about that.

use serde_json::{Value, json};

use crate::support::{Config, Gateway, Receiver, Reply, alerts, eventually, wait::holds};

/// The operator events that a receiver took, as `(event, subject, state)`.
fn told(receiver: &Receiver) -> Vec<(String, String, String)> {
    let of = |body: &[u8]| {
        let body: Value = serde_json::from_slice(body).ok()?;
        // The event as JSON, whose `data` is its body.
        let operator = body["data"]["operator"].clone();
        let text = |key: &str| operator[key].as_str().map(str::to_owned);
        Some((text("event")?, text("subject")?, text("state")?))
    };
    let taken = receiver.exchanges();
    let taken = taken.iter().filter(|exchange| exchange.reply.accepts());
    taken.filter_map(|exchange| of(&exchange.request.body)).collect()
}

fn wait_until_told(receiver: &Receiver, event: &str, subject: &str, state: &str) {
    let wanted = (event.to_owned(), subject.to_owned(), state.to_owned());
    eventually(&format!("told of {event} {subject} {state}"), || {
        holds(told(receiver).contains(&wanted))
    });
}

#[test]
fn trouble_its_end_jobs_and_reloads_are_told_and_only_to_who_asks() {
    let (siem, person) = (Receiver::start(|_| Reply::status(401)), Receiver::willing());
    let config = Config::new().webhook("siem", &siem.url("/"), "").webhook(
        "person",
        &person.url("/"),
        "when = { kind = \"operator\" }",
    );
    let mut gateway = Gateway::start(config);
    gateway.accept(&alerts::ndjson(0..3));
    wait_until_told(&person, "lane", "siem", "auth_failed");
    siem.behave(|request| match alerts::number(&request.body) {
        Some(2) => Reply::status(400),
        _ => Reply::ok(),
    });
    gateway.post("/v1/destinations/siem/resume", &json!({}));
    wait_until_told(&person, "lane", "siem", "active");
    gateway.wait_for_term("siem", "dead", 1);
    siem.behave(|_| Reply::ok());
    let answer = gateway.post(
        "/v1/replays",
        &json!({ "from": "dead_letters", "filter": { "destination": "siem" } }),
    );
    assert_eq!(answer.status, 202, "{}", answer.text);
    wait_until_told(&person, "job", &answer.json()["id"].to_string(), "done");
    let path = gateway.config.file("holdfast.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{good}\ncolour = \"red\"\n")).unwrap();
    assert_eq!(gateway.post("/v1/reload", &json!({})).status, 422);
    wait_until_told(&person, "reload", "configuration", "failed");
    std::fs::write(&path, good).unwrap();
    assert_eq!(gateway.post("/v1/reload", &json!({})).status, 200);
    wait_until_told(&person, "reload", "configuration", "ok");
    // The others filter them out, and count them so.
    gateway.wait_for_lane("siem", "passed them over", |lane| {
        lane["ledger"]["delivered"] == 3 && lane["ledger"]["filtered"].as_u64() >= Some(5)
    });
    assert_eq!(siem.taken().len(), 3);
    gateway.finish();
}

#[test]
fn a_lane_that_cannot_carry_operator_events_makes_no_more_of_them() {
    let person = Receiver::start(|_| Reply::status(500));
    let config = Config::new().webhook(
        "person",
        &person.url("/"),
        "when = { kind = \"operator\" }\nbreaker = { failures = 1 }",
    );
    let mut gateway = Gateway::start(config);
    // One event that it fails with, and opens.
    assert_eq!(gateway.post("/v1/reload", &json!({})).status, 200);
    gateway.wait_for_state("person", "open");
    eventually("it was tried again and again", || holds(person.count() >= 5));
    person.behave(|_| Reply::ok());
    gateway.wait_for_term("person", "delivered", 1);
    gateway.wait_for_state("person", "active");
    let lane = gateway.lane("person");
    assert_eq!(lane["ledger"]["seen"], 1, "nothing was said about failing to say it: {lane}");
    gateway.finish();
}
