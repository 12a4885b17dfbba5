//! At `max_size` input stops and delivery goes on.

use std::{fs::OpenOptions, io::Write};

use rand::{SeedableRng, rngs::StdRng};
use serde_json::json;

use crate::support::{Answer, Config, Gateway, Receiver, alerts, eventually, wait::holds};

/// More than the log can hold, in posts of 100.
const POSTS_MAX: u64 = 200;

fn post(gateway: &Gateway, numbers: std::ops::Range<u64>, dice: &mut StdRng) -> Answer {
    let body: String =
        numbers.map(|number| alerts::incompressible(number, 1000, dice) + "\n").collect();
    gateway.call("POST", "/v1/alerts").ndjson(body).send().expect("an answer")
}

/// Posts until it is refused; answers how many were taken, and the refusal.
fn fill(gateway: &Gateway, dice: &mut StdRng) -> (u64, Answer) {
    for n in 0..POSTS_MAX {
        let answer = post(gateway, n * 100..n * 100 + 100, dice);
        if answer.status != 202 {
            return (n * 100, answer);
        }
    }
    panic!("it took {} alerts and was never full", POSTS_MAX * 100);
}

#[test]
fn a_paused_lane_fills_the_log_input_stops_and_everything_arrives_after_resume() {
    let mut dice = StdRng::seed_from_u64(7);
    let (stuck, free) = (Receiver::willing(), Receiver::willing());
    let config = Config::new();
    let input = config.file("alerts.json");
    std::fs::write(&input, "").unwrap();
    let config = config
        .queue("max_size = \"4MiB\"\nreserve = \"1MiB\"\nretention = \"0s\"")
        .tail(&input)
        .webhook("stuck", &stuck.url("/"), "")
        .webhook("free", &free.url("/"), "batch = { max_events = 50, max_wait = \"10ms\" }");
    let mut gateway = Gateway::start(config);
    gateway.post("/v1/destinations/stuck/pause", &json!({}));

    let (taken, refusal) = fill(&gateway, &mut dice);
    assert_eq!((refusal.status, refusal.problem().as_str()), (503, "queue-full"));
    let wait: u64 = refusal.header("retry-after").unwrap().parse().unwrap();
    assert!(wait >= 1);
    let mut tail = OpenOptions::new().append(true).open(&input).unwrap();
    for number in 1_000_000..1_000_200 {
        writeln!(tail, "{}", alerts::incompressible(number, 1000, &mut dice)).unwrap();
    }

    let ready = gateway.get("/readyz");
    assert_eq!(ready.status, 503);
    assert!(ready.text.contains("stuck") && !ready.text.contains("free"), "{}", ready.text);
    gateway.wait_for_lane("free", "delivered all it has", |lane| lane["ledger"]["pending"] == 0);
    let lane = gateway.lane("free");
    assert!(lane["ledger"]["delivered"].as_u64() >= Some(taken), "{lane}");
    assert_eq!(stuck.count(), 0);
    assert_eq!(post(&gateway, 900_000..900_100, &mut dice).status, 503, "it stays full");

    gateway.post("/v1/destinations/stuck/resume", &json!({}));
    eventually("ready again", || holds(gateway.get("/readyz").status == 200));
    let more = eventually("input is taken again", || {
        let answer = post(&gateway, 800_000..800_010, &mut dice);
        (answer.status == 202).then_some(answer)
    });
    assert_eq!(more.json()["accepted"], 10);
    let expected: Vec<u64> =
        (0..taken).chain(800_000..800_010).chain(1_000_000..1_000_200).collect();
    for (name, receiver) in [("stuck", &stuck), ("free", &free)] {
        receiver.wait_for(expected.len());
        gateway.wait_for_term(name, "delivered", expected.len() as u64);
        let mut taken = receiver.taken();
        taken.sort_unstable();
        assert_eq!(taken, expected, "{name}");
    }
    gateway.finish();
}

#[test]
fn a_full_log_is_still_full_and_whole_after_kill_nine() {
    let mut dice = StdRng::seed_from_u64(8);
    let receiver = Receiver::willing();
    let config = Config::new()
        .queue("max_size = \"2MiB\"\nreserve = \"1MiB\"\nretention = \"0s\"")
        .webhook("stuck", &receiver.url("/"), "");
    let mut gateway = Gateway::start(config);
    gateway.post("/v1/destinations/stuck/pause", &json!({}));
    let (taken, _) = fill(&gateway, &mut dice);
    gateway.kill();
    gateway.spawn();
    eventually("it answers", || gateway.call("GET", "/livez").send().ok());
    // A single alert may still fit; what was refused before is refused again.
    assert_eq!(post(&gateway, 900_000..900_100, &mut dice).status, 503);
    assert_eq!(gateway.get("/readyz").status, 503);
    gateway.post("/v1/destinations/stuck/resume", &json!({}));
    gateway.wait_for_term("stuck", "delivered", taken);
    let mut numbers = receiver.taken();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..taken).collect::<Vec<_>>());
    gateway.finish();
}

#[test]
fn what_only_retention_holds_is_trimmed_before_input_is_refused() {
    let mut dice = StdRng::seed_from_u64(9);
    let receiver = Receiver::willing();
    let config = Config::new()
        .queue("max_size = \"2MiB\"\nreserve = \"1MiB\"\nretention = \"24h\"")
        .webhook("all", &receiver.url("/"), "batch = { max_events = 100, max_wait = \"5ms\" }");
    let mut gateway = Gateway::start(config);
    for n in 0..80 {
        eventually("there is room", || {
            let answer = post(&gateway, n * 100..n * 100 + 100, &mut dice);
            holds(answer.status == 202)
        });
    }
    gateway.wait_for_term("all", "delivered", 8_000);
    gateway.finish();
}

#[test]
fn a_lane_over_its_own_limit_stops_input_and_is_named_while_the_log_has_room() {
    let mut dice = StdRng::seed_from_u64(10);
    let (stuck, person) = (Receiver::willing(), Receiver::willing());
    let config = Config::new()
        .queue("max_size = \"64MiB\"\nreserve = \"1MiB\"\nretention = \"0s\"")
        .webhook("stuck", &stuck.url("/"), "max_backlog = \"256KiB\"")
        .webhook("person", &person.url("/"), "when = { kind = \"operator\" }");
    let mut gateway = Gateway::start(config);
    gateway.post("/v1/destinations/stuck/pause", &json!({}));
    let mut taken = 0;
    let refusal = eventually("input stops", || {
        let answer = post(&gateway, taken..taken + 100, &mut dice);
        taken += if answer.status == 202 { 100 } else { 0 };
        (answer.status != 202).then_some(answer)
    });
    assert_eq!((refusal.status, refusal.problem().as_str()), (503, "queue-full"));
    let ready = gateway.get("/readyz");
    assert_eq!(ready.status, 503);
    assert!(ready.text.contains("stuck (paused)"), "{}", ready.text);
    let said = |words: &str| {
        person
            .exchanges()
            .iter()
            .any(|exchange| String::from_utf8_lossy(&exchange.request.body).contains(words))
    };
    eventually("a person is told", || {
        holds(said("stuck holds back too much; no more input is taken"))
    });
    gateway.post("/v1/destinations/stuck/resume", &json!({}));
    eventually("ready again", || holds(gateway.get("/readyz").status == 200));
    eventually("told of the end", || holds(said("stuck no longer holds back too much")));
    gateway.wait_for_term("stuck", "delivered", taken);
    let mut numbers = stuck.taken();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..taken).collect::<Vec<_>>());
    gateway.finish();
}

#[test]
fn a_lane_that_may_expire_gives_up_its_oldest_unread_events_counted_and_audited() {
    let mut dice = StdRng::seed_from_u64(11);
    let (stuck, free) = (Receiver::willing(), Receiver::willing());
    let config = Config::new()
        .queue("max_size = \"64MiB\"\nreserve = \"1MiB\"\nretention = \"0s\"")
        .webhook("stuck", &stuck.url("/"), "max_backlog = \"256KiB\"\non_overflow = \"expire\"")
        .webhook("free", &free.url("/"), "batch = { max_events = 50, max_wait = \"10ms\" }");
    let mut gateway = Gateway::start(config);
    gateway.post("/v1/destinations/stuck/pause", &json!({}));
    // A megabyte, of which it may hold a quarter.
    for n in 0..12 {
        assert_eq!(post(&gateway, n * 100..n * 100 + 100, &mut dice).status, 202);
    }
    let lane = gateway.wait_for_lane("stuck", "gave up most", |lane| {
        lane["ledger"]["expired"].as_u64() >= Some(800)
    });
    assert_eq!(lane["state"], "paused");
    eventually("the end is audited", || {
        let audit = gateway.get("/v1/audit").text;
        holds(audit.contains("expire begins") && audit.contains("overflow ends"))
    });
    let expired = gateway.lane("stuck")["ledger"]["expired"].as_u64().unwrap();
    let dropped = "holdfast_dropped_alerts_total{destination=\"stuck\",reason=\"expired\"}";
    assert_eq!(gateway.metric(dropped), expired as f64);
    assert_eq!(gateway.get("/readyz").status, 200);
    gateway.post("/v1/destinations/stuck/resume", &json!({}));
    gateway.wait_for_term("stuck", "delivered", 1_200 - expired);
    let mut numbers = stuck.taken();
    numbers.sort_unstable();
    assert_eq!(numbers, (expired..1_200).collect::<Vec<_>>(), "the oldest went, and no others");
    free.wait_for(1_200);
    gateway.finish();
}
