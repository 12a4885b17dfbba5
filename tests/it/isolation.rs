//! A destination that is down, slow, or refuses delays only its own lane, and bad credentials cost
//! time and no alerts.

use std::fs;

use serde_json::json;

use crate::support::{
    Config, Gateway, Receiver, Reply, Request, alerts, config::write_private, eventually,
    wait::holds,
};

const GOOD: &str = "Bearer the-right-token-0123456789";

fn needs_the_right_token(request: &Request) -> Reply {
    match request.header("authorization") {
        Some(GOOD) => Reply::ok(),
        _ => Reply::text(401, "who are you?"),
    }
}

fn numbers(receiver: &Receiver) -> Vec<u64> {
    let mut numbers = receiver.taken();
    numbers.sort_unstable();
    numbers
}

#[test]
fn a_black_hole_holds_its_connections_while_the_healthy_lane_makes_all_attempts() {
    let (hole, healthy) = (Receiver::start(|_| Reply::Hang), Receiver::willing());
    let locked = Receiver::start(needs_the_right_token);
    let config = Config::new();
    let secret = config.secret("token", "the-wrong-token-0123456789\n");
    let config = config
        .node("shutdown_timeout = \"100ms\"")
        .webhook("hole", &hole.url("/"), "concurrency = 6\ntimeout = \"10m\"")
        .webhook("healthy", &healthy.url("/"), "")
        .webhook(
            "locked",
            &locked.url("/"),
            &format!(
                "bearer = {{ file = \"{}\" }}\nretry = {{ initial = \"100ms\", max = \"1s\" }}",
                secret.display()
            ),
        );
    let mut gateway = Gateway::start(config);
    gateway.accept(&alerts::ndjson(0..100));
    eventually("the black hole holds all its connections", || holds(hole.open_connections() == 6));
    gateway.wait_for_state("locked", "auth_failed");
    gateway.accept(&alerts::ndjson(100..300));
    gateway.wait_for_term("healthy", "delivered", 300);

    assert_eq!(hole.open_connections(), 6, "still held, all of them");
    assert_eq!(healthy.count(), 300, "no attempt was made twice");
    assert_eq!(numbers(&healthy), (0..300).collect::<Vec<_>>());
    let lane = gateway.lane("hole");
    assert!(Gateway::all_wait(&lane, 300), "{lane}");
    let lane = gateway.lane("locked");
    assert_eq!(lane["state"], "auth_failed");
    assert!(Gateway::all_wait(&lane, 300), "{lane}");
    assert_eq!(lane["ledger"]["dead"], 0);
    assert_eq!(gateway.dead_letters("").len(), 0);

    // Nobody does anything more: files are read anew once a minute.
    write_private(&secret, "the-right-token-0123456789\n");
    gateway.wait_for_term("locked", "delivered", 300);
    assert_eq!(numbers(&locked), (0..300).collect::<Vec<_>>());
    gateway.wait_for_state("locked", "active");
    gateway.finish();
}

#[test]
fn resume_reads_the_corrected_secret_at_once() {
    let locked = Receiver::start(needs_the_right_token);
    let config = Config::new();
    let secret = config.secret("token", "the-wrong-token-0123456789");
    let keys = format!(
        "bearer = {{ file = \"{}\" }}\nretry = {{ initial = \"1h\", max = \"1h\" }}",
        secret.display()
    );
    let config = config.webhook("locked", &locked.url("/"), &keys);
    let mut gateway = Gateway::start(config);
    gateway.accept(&alerts::ndjson(0..40));
    gateway.wait_for_state("locked", "auth_failed");
    write_private(&secret, "the-right-token-0123456789");
    let said = gateway.cli(&["destinations", "resume", "locked"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    gateway.wait_for_term("locked", "delivered", 40);
    assert_eq!(gateway.lane("locked")["ledger"]["dead"], 0);
    fs::remove_file(&secret).unwrap();
    gateway.finish();
}

#[test]
fn a_parked_lane_keeps_its_alerts_across_kill_nine() {
    let locked = Receiver::start(needs_the_right_token);
    let config = Config::new();
    let secret = config.secret("token", "the-wrong-token-0123456789");
    let keys = format!(
        "bearer = {{ file = \"{}\" }}\nretry = {{ initial = \"100ms\", max = \"1s\" }}",
        secret.display()
    );
    let mut gateway = Gateway::start(config.webhook("locked", &locked.url("/"), &keys));
    gateway.accept(&alerts::ndjson(0..40));
    gateway.wait_for_state("locked", "auth_failed");
    gateway.kill();
    gateway.restart();
    let lane = gateway.lane("locked");
    assert!(Gateway::all_wait(&lane, 40), "{lane}");
    gateway.wait_for_state("locked", "auth_failed");
    write_private(&secret, "the-right-token-0123456789");
    gateway.post("/v1/destinations/locked/resume", &json!({}));
    gateway.wait_for_term("locked", "delivered", 40);
    gateway.finish();
}

fn one_forbidden_alert(keys: &str) {
    let firewall = Receiver::start(|request| {
        let evil = alerts::numbers(&request.body).contains(&17);
        if evil { Reply::text(403, "blocked by rule 942100") } else { Reply::ok() }
    });
    let mut gateway = Gateway::start(Config::new().webhook("walled", &firewall.url("/"), keys));
    gateway.accept(&alerts::ndjson(0..60));
    gateway.wait_for_term("walled", "dead", 1);
    gateway.wait_for_term("walled", "delivered", 59);
    let dead = gateway.dead_letters("destination=walled");
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0]["reason"], "forbidden");
    assert_eq!(dead[0]["event"]["alert"]["number"], 17);
    assert_eq!(dead[0]["attempts"][0]["status"], 403);
    assert_eq!(gateway.lane("walled")["state"], "active");
    assert_eq!(numbers(&firewall), (0..60).filter(|n| *n != 17).collect::<Vec<_>>());
    gateway.finish();
}

#[test]
fn a_403_for_one_alerts_content_kills_that_alert_alone() {
    one_forbidden_alert("");
}

#[test]
fn a_403_for_one_alert_of_a_batch_kills_that_alert_alone() {
    one_forbidden_alert("batch = { max_events = 20, max_wait = \"50ms\" }");
}

#[test]
fn a_403_for_everything_parks_the_lane_and_kills_nothing() {
    let wall = Receiver::start(|_| Reply::text(403, "no"));
    let keys = "retry = { initial = \"20ms\", max = \"300ms\" }";
    let mut gateway = Gateway::start(Config::new().webhook("walled", &wall.url("/"), keys));
    gateway.accept(&alerts::ndjson(0..60));
    gateway.wait_for_state("walled", "auth_failed");
    let before = wall.count();
    eventually("it is probed twice more", || holds(wall.count() >= before + 2));
    let lane = gateway.lane("walled");
    assert_eq!((&lane["state"], &lane["ledger"]["dead"]), (&"auth_failed".into(), &0.into()));
    assert!(Gateway::all_wait(&lane, 60), "{lane}");
    wall.behave(|_| Reply::ok());
    gateway.wait_for_term("walled", "delivered", 60);
    gateway.finish();
}
