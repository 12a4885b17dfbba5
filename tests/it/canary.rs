//! Canaries go their own way, are measured, and never pile up.

use serde_json::Value;

use crate::support::{Config, Gateway, Receiver, Reply, alerts, eventually, wait::holds};

fn canaries(receiver: &Receiver) -> usize {
    let is_canary = |body: &[u8]| {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        body["kind"] == "canary" && body["data"]["canary"]["destination"] == "watched"
    };
    let all = receiver.exchanges();
    all.iter().filter(|exchange| is_canary(&exchange.request.body)).count()
}

#[test]
fn a_canary_reaches_its_own_destination_alone_and_is_timed() {
    let (watched, other) = (Receiver::willing(), Receiver::willing());
    let config = Config::new()
        // What the filter wants is no matter to a canary.
        .webhook("watched", &watched.url("/"), "canary = \"1s\"\nwhen = { level = 16 }")
        .webhook("other", &other.url("/"), "");
    let mut gateway = Gateway::start(config);
    gateway.accept(&alerts::ndjson(0..2));
    eventually("two canaries arrive", || holds(canaries(&watched) >= 2));
    other.wait_for(2);
    assert_eq!((other.count(), watched.taken().len()), (2, 0));
    let last = "holdfast_canary_last_success_timestamp_seconds";
    assert!(gateway.metric(&format!("{last}{{destination=\"watched\"}}")) > 1.7e9);
    assert_eq!(gateway.metric(&format!("{last}{{destination=\"other\"}}")), 0.0);
    let count = "holdfast_canary_latency_seconds_count";
    assert!(gateway.metric(&format!("{count}{{destination=\"watched\"}}")) >= 2.0);
    gateway.finish();
}

#[test]
fn while_one_canary_is_under_way_there_is_no_other() {
    let watched = Receiver::start(|_| Reply::status(500));
    let config = Config::new().webhook("watched", &watched.url("/"), "canary = \"1s\"");
    let mut gateway = Gateway::start(config);
    // The first waits for a retry; that takes longer than the time between two.
    eventually("it was tried often", || holds(watched.count() >= 8));
    let lane = gateway.lane("watched");
    // The operator heard of the open lane, too.
    assert_eq!(lane["ledger"]["retrying"], 1, "{lane}");
    assert!(lane["ledger"]["pending"].as_u64() <= Some(2), "{lane}");
    watched.behave(|_| Reply::ok());
    gateway.wait_for_state("watched", "active");
    let before = watched.count();
    eventually("then the next", || holds(watched.count() > before));
    gateway.finish();
}
