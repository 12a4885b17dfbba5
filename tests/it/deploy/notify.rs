//! What systemd is told, by a socket that stands in for it.

use std::{os::unix::net::UnixDatagram, time::Duration};

use rustix::process::Signal;
use serde_json::json;

use crate::support::{Config, Gateway, Receiver, eventually, wait::holds};

/// Collects what is told.
struct Manager {
    socket: UnixDatagram,
    told: Vec<String>,
}

impl Manager {
    fn listen(config: &Config) -> (Self, String) {
        let path = config.file("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        (Self { socket, told: Vec::new() }, path.display().to_string())
    }

    /// Waits for one more message that holds a line.
    #[track_caller]
    fn hears(&mut self, line: &str) {
        eventually(line, || {
            let mut message = [0; 4096];
            let size = self.socket.recv(&mut message).ok()?;
            self.told.push(String::from_utf8_lossy(&message[..size]).into_owned());
            holds(self.told.last()?.lines().any(|told| told == line))
        });
    }

    fn heard(&self, line: &str) -> bool {
        self.told.iter().any(|message| message.lines().any(|told| told == line))
    }
}

fn started(watchdog: &str) -> (Gateway, Manager, Receiver) {
    let receiver = Receiver::willing();
    let config = Config::new().webhook("soc", &receiver.url("/"), "");
    let (manager, address) = Manager::listen(&config);
    let mut gateway = Gateway::new(config)
        .environment("NOTIFY_SOCKET", &address)
        .environment("WATCHDOG_USEC", watchdog);
    gateway.restart();
    (gateway, manager, receiver)
}

#[test]
fn systemd_hears_that_it_runs_reloads_lives_and_stops() {
    let (mut gateway, mut manager, _receiver) = started("200000");
    manager.hears("READY=1");
    // More than once, by itself.
    manager.hears("WATCHDOG=1");
    manager.hears("WATCHDOG=1");
    assert!(!manager.heard("RELOADING=1") && !manager.heard("STOPPING=1"), "{:?}", manager.told);

    gateway.signal(Signal::HUP);
    manager.hears("RELOADING=1");
    let reloading = manager.told.last().unwrap();
    assert!(reloading.lines().any(|line| line.starts_with("MONOTONIC_USEC=")), "{reloading}");
    manager.hears("READY=1");
    // A faulty file changes nothing, and the reload ends all the same.
    assert_eq!(gateway.reload("[nonsense]").status, 422);
    manager.hears("RELOADING=1");
    manager.hears("READY=1");

    gateway.signal(Signal::TERM);
    manager.hears("STOPPING=1");
    assert_eq!(gateway.wait_for_exit(), Some(0), "{}", gateway.last_words());
    gateway.verified();
}

#[test]
fn a_service_manager_that_went_away_costs_nothing() {
    let (mut gateway, manager, receiver) = started("100000");
    let socket = gateway.config.file("notify");
    drop(manager);
    std::fs::remove_file(socket).unwrap();
    eventually("it says that nobody listens", || {
        holds(gateway.log().contains("cannot tell the service manager"))
    });
    assert_eq!(gateway.post("/v1/reload", &json!({})).status, 200);
    gateway.accept(&crate::support::alerts::ndjson(0..3));
    receiver.wait_for(3);
    gateway.finish();
}
