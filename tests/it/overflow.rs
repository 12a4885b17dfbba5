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
