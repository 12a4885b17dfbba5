//! An orderly end finishes what is under way and repeats nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::process::Signal;

use crate::support::{Config, Gateway, Receiver, Reply, alerts, eventually, wait::holds};

#[test]
fn sigterm_finishes_what_is_in_flight_and_a_restart_repeats_nothing() {
    let gate = Arc::new(AtomicBool::new(false));
    let open = Arc::clone(&gate);
    let receiver = Receiver::start(move |_| {
        while !open.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(2));
        }
        Reply::ok()
    });
    let config = Config::new().webhook("slow", &receiver.url("/"), "concurrency = 5");
    let mut gateway = Gateway::start(config);
    gateway.accept(&alerts::ndjson(0..30));
    // A request is counted when its answer is decided, so the connections tell.
    eventually("five requests are under way", || holds(receiver.open_connections() == 5));
    gateway.signal(Signal::TERM);
    eventually("it has begun to stop", || holds(gateway.log().contains("stopping")));
    gate.store(true, Ordering::SeqCst);
    assert_eq!(gateway.wait_for_exit(), Some(0), "{}", gateway.last_words());
    let before = receiver.taken().len();
    assert!(before >= 5, "{before} finished");
    gateway.verified();

    gateway.restart();
    gateway.wait_for_term("slow", "delivered", 30);
    let mut taken = receiver.taken();
    taken.sort_unstable();
    assert_eq!(taken, (0..30).collect::<Vec<_>>(), "each was sent once");
    gateway.finish();
}

#[test]
fn an_idle_gateway_stops_at_once_on_sigint_too() {
    let mut gateway = Gateway::start(Config::new());
    gateway.signal(Signal::INT);
    assert_eq!(gateway.wait_for_exit(), Some(0));
    gateway.verified();
}

#[test]
fn what_hangs_is_cut_off_after_the_shutdown_time_and_sent_again() {
    let receiver = Receiver::start(|_| Reply::Hang);
    let config = Config::new().node("shutdown_timeout = \"300ms\"").webhook(
        "hung",
        &receiver.url("/"),
        "timeout = \"10m\"",
    );
    let mut gateway = Gateway::start(config);
    gateway.accept(&alerts::ndjson(0..20));
    eventually("it hangs", || holds(receiver.count() >= 8));
    assert_eq!(gateway.terminate(), Some(0), "{}", gateway.last_words());
    gateway.verified();
    receiver.behave(|_| Reply::ok());
    gateway.restart();
    gateway.wait_for_term("hung", "delivered", 20);
    let mut taken = receiver.taken();
    taken.sort_unstable();
    assert_eq!(taken, (0..20).collect::<Vec<_>>());
    gateway.finish();
}

#[test]
fn a_client_that_never_finishes_its_request_does_not_keep_it_from_stopping() {
    let mut gateway = Gateway::start(Config::new());
    let _open = gateway.call("POST", "/v1/alerts").ndjson("").begin(1000).unwrap();
    let _idle = gateway.call("GET", "/livez").begin(0).unwrap();
    gateway.finish();
}
