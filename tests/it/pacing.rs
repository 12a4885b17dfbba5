//! A receiver that asks us to wait is obeyed, and a rate is kept.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::support::{
    Config, Gateway, Receiver, Reply, alerts, eventually, receiver::Exchange, wait::holds,
};

/// The receiver's clock and ours are one; this is for the time between its stamps and the wire.
const TOLERANCE: Duration = Duration::from_millis(50);

/// 429 for the first request, then everything is taken.
fn busy_once(header: impl Fn() -> String + Send + Sync + 'static) -> Receiver {
    let asked = AtomicUsize::new(0);
    Receiver::start(move |_| {
        let first = asked.fetch_add(1, Ordering::SeqCst) == 0;
        if first { Reply::status(429).with("Retry-After", &header()) } else { Reply::ok() }
    })
}

fn waited(exchanges: &[Exchange]) -> Duration {
    Duration::from_nanos(exchanges[1].request.at_ns.saturating_sub(exchanges[0].request.at_ns))
}

#[test]
fn after_a_429_no_request_arrives_before_the_servers_wait_is_over() {
    let receiver = busy_once(|| "2".to_owned());
    let config = Config::new().webhook("slow", &receiver.url("/"), "concurrency = 1");
    let mut gateway = Gateway::start(config);
    gateway.accept(&alerts::ndjson(0..20));
    gateway.wait_for_state("slow", "throttled");
    assert!(gateway.lane("slow")["throttled_until"].is_string());
    gateway.wait_for_term("slow", "delivered", 20);
    let waited = waited(&receiver.exchanges());
    assert!(waited + TOLERANCE >= Duration::from_secs(2), "it came back after {waited:?}");
    gateway.finish();
}

#[test]
fn a_servers_wait_outlasts_kill_nine() {
    let receiver = busy_once(|| "2".to_owned());
    let config = Config::new().webhook("slow", &receiver.url("/"), "concurrency = 1");
    let mut gateway = Gateway::start(config);
    gateway.accept(&alerts::ndjson(0..20));
    gateway.wait_for_state("slow", "throttled");
    gateway.kill();
    gateway.restart();
    gateway.wait_for_term("slow", "delivered", 20);
    let waited = waited(&receiver.exchanges());
    assert!(waited + TOLERANCE >= Duration::from_secs(2), "it came back after {waited:?}");
    gateway.finish();
}

#[test]
fn a_servers_wait_that_is_given_as_a_date_is_kept() {
    // Whole seconds only, so the wait is between two and three.
    let receiver = busy_once(|| http_date(SystemTime::now() + Duration::from_secs(3)));
    let config = Config::new().webhook("slow", &receiver.url("/"), "concurrency = 1");
    let mut gateway = Gateway::start(config);
    gateway.accept(&alerts::ndjson(0..20));
    gateway.wait_for_term("slow", "delivered", 20);
    let waited = waited(&receiver.exchanges());
    assert!(waited + TOLERANCE >= Duration::from_secs(2), "it came back after {waited:?}");
    gateway.finish();
}

/// RFC 9110 section 5.6.7, from the days since 1970.
fn http_date(time: SystemTime) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let seconds = time.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let weekday = DAYS[(days % 7) as usize];
    let (year, month, day) = crate::support::wait::civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let month = MONTHS[month as usize - 1];
    format!("{weekday}, {day:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT")
}

#[test]
fn what_waits_during_an_outage_arrives_afterwards_at_the_configured_rate() {
    let mut receiver = Receiver::willing();
    let keys = "rate = \"50/s\"\nconcurrency = 4\nretry = { initial = \"20ms\", max = \"200ms\" }";
    let mut gateway = Gateway::start(Config::new().webhook("paced", &receiver.url("/"), keys));
    receiver.go_away();
    gateway.accept(&alerts::ndjson(0..250));
    gateway.wait_for_state("paced", "open");
    receiver.come_back();
    gateway.wait_for_term("paced", "delivered", 250);
    let times: Vec<u64> = receiver.exchanges().iter().map(|e| e.request.at_ns).collect();
    let second = 1_000_000_000;
    let busiest =
        times.iter().map(|t| times.iter().filter(|u| (*t..t + second).contains(u)).count());
    // A second's worth may have been saved up before it.
    let busiest = busiest.max().unwrap();
    assert!(busiest <= 100 + 5, "{busiest} requests within one second");
    let whole = Duration::from_nanos(times[times.len() - 1] - times[0]);
    assert!(whole >= Duration::from_secs(3), "250 at 50/s took {whole:?}");
    gateway.finish();
}

#[test]
fn a_lane_has_no_more_requests_under_way_than_its_concurrency() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (under_way, peak) = (Arc::clone(&now), Arc::clone(&most));
    let receiver = Receiver::start(move |_| {
        peak.fetch_max(under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        // Long enough that others would overlap, if there were any.
        std::thread::sleep(Duration::from_millis(5));
        under_way.fetch_sub(1, Ordering::SeqCst);
        Reply::ok()
    });
    let config = Config::new().webhook("three", &receiver.url("/"), "concurrency = 3");
    let mut gateway = Gateway::start(config);
    gateway.accept(&alerts::ndjson(0..200));
    gateway.wait_for_term("three", "delivered", 200);
    assert_eq!(most.load(Ordering::SeqCst), 3);
    gateway.finish();
}

#[test]
fn a_batch_waits_for_its_fill_and_not_longer_than_its_wait() {
    let receiver = Receiver::willing();
    let keys = "batch = { max_events = 100, max_wait = \"300ms\" }";
    let mut gateway = Gateway::start(Config::new().webhook("batch", &receiver.url("/"), keys));
    gateway.accept(&alerts::ndjson(0..250));
    gateway.wait_for_term("batch", "delivered", 250);
    let mut sizes: Vec<usize> = receiver
        .exchanges()
        .iter()
        .map(|exchange| alerts::numbers(&exchange.request.body).len())
        .collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [50, 100, 100]);
    let keys: Vec<String> =
        receiver.exchanges().iter().map(|e| e.request.key().to_owned()).collect();
    assert!(keys.iter().all(|key| key.starts_with("b-") && key.len() == 66), "{keys:?}");
    gateway.finish();
}

#[test]
fn a_request_that_is_tried_again_has_the_same_key_and_the_same_body() {
    let asked = AtomicUsize::new(0);
    let receiver = Receiver::start(move |_| {
        let fails = asked.fetch_add(1, Ordering::SeqCst) < 3;
        if fails { Reply::status(500) } else { Reply::ok() }
    });
    for_each_form(&receiver);
}

fn for_each_form(receiver: &Receiver) {
    let keys = "concurrency = 1\nbatch = { max_events = 10, max_wait = \"100ms\" }";
    let mut gateway = Gateway::start(Config::new().webhook("again", &receiver.url("/"), keys));
    gateway.accept(&alerts::ndjson(0..10));
    eventually("tried four times", || holds(receiver.count() == 4));
    gateway.kill();
    gateway.restart();
    gateway.wait_for_term("again", "delivered", 10);
    let exchanges = receiver.exchanges();
    let first = &exchanges[0].request;
    for Exchange { request, .. } in &exchanges {
        assert_eq!((request.key(), request.text()), (first.key(), first.text()));
    }
    gateway.finish();
}
