//! A datagram server stands in for Wazuh's queue socket: it goes away and comes back, and it stops
//! reading.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::support::{Config, Gateway, Receiver, alerts, eventually, wait::holds};

/// Some samples are alerts that an injected event caused; here they pass, too.
const LANE: &str =
    "retry = { initial = \"100ms\", max = \"200ms\" }\ntimeout = \"1s\"\nloops = \"allow\"";

/// The manager's end of the socket.
struct Manager {
    path: PathBuf,
    seen: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Manager {
    fn start(path: &Path, seen: &Arc<Mutex<Vec<String>>>) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        Self::read(socket, path, seen)
    }

    fn read(socket: UnixDatagram, path: &Path, seen: &Arc<Mutex<Vec<String>>>) -> Self {
        let (seen, stop) = (Arc::clone(seen), Arc::new(AtomicBool::new(false)));
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let (log, end) = (Arc::clone(&seen), Arc::clone(&stop));
        let reader = thread::spawn(move || {
            let mut bytes = vec![0; 70_000];
            loop {
                match socket.recv(&mut bytes) {
                    Ok(length) => {
                        let text = String::from_utf8(bytes[..length].to_vec()).unwrap();
                        log.lock().unwrap().push(text);
                    }
                    // Whatever was sent has been read.
                    Err(_) if end.load(Ordering::Relaxed) => return,
                    Err(_) => {}
                }
            }
        });
        Self { path: path.to_owned(), seen, stop, reader: Some(reader) }
    }

    /// Ends as a killed manager does: its socket's file stays.
    fn end(mut self) -> PathBuf {
        self.stop.store(true, Ordering::Relaxed);
        self.reader.take().unwrap().join().unwrap();
        self.path
    }

    fn numbers(&self) -> BTreeSet<u64> {
        numbers(&self.seen.lock().unwrap())
    }
}

/// The alerts' numbers, each at the end of its datagram.
fn numbers(seen: &[String]) -> BTreeSet<u64> {
    let number = |text: &String| {
        assert!(text.starts_with("1:"), "{text}");
        let (_, number) = text.rsplit_once(":number ").unwrap();
        number.parse().unwrap()
    };
    seen.iter().map(number).collect()
}

fn config(path: &Path, config: Config) -> Config {
    config.table(&format!(
        "[destinations.wazuh]\ntype = \"wazuh_socket\"\npath = {path:?}\n\
         template = \"number {{{{ alert.number }}}}\"\n{LANE}"
    ))
}

fn failures(reason: &str) -> String {
    format!("holdfast_delivery_failures_total{{destination=\"wazuh\",reason=\"{reason}\"}}")
}

#[test]
fn a_queue_socket_goes_away_and_comes_back_and_nothing_is_lost() {
    let base = Config::new();
    let path = base.file("queue.sock");
    let seen = Arc::default();
    let mut gateway = Gateway::start(config(&path, base));
    // The manager is not there yet.
    gateway.accept(&alerts::ndjson(0..50));
    eventually("an attempt has failed", || holds(gateway.metric(&failures("connect")) > 0.0));
    let manager = Manager::start(&path, &seen);
    gateway.wait_for_term("wazuh", "delivered", 50);
    let path = manager.end();
    gateway.accept(&alerts::ndjson(50..120));
    gateway.kill();
    gateway.restart();
    let lane = gateway
        .wait_for_lane("wazuh", "held them", |lane| lane["ledger"]["pending"].as_u64() >= Some(70));
    assert_eq!(lane["ledger"]["dead"], 0, "{lane}");
    fs::remove_file(&path).unwrap();
    let manager = Manager::start(&path, &seen);
    gateway.wait_for_term("wazuh", "delivered", 120);
    eventually("all were read", || holds(manager.numbers().len() == 120));
    assert_eq!(manager.numbers(), (0..120).collect());
    manager.end();
    gateway.finish();
}

#[test]
fn a_full_queue_socket_blocks_only_its_own_lane() {
    let healthy = Receiver::willing();
    let base = Config::new();
    let path = base.file("queue.sock");
    let seen = Arc::default();
    // Bound, and nobody reads.
    let socket = UnixDatagram::bind(&path).unwrap();
    let base = base.webhook("healthy", &healthy.url("/"), "");
    let mut gateway = Gateway::start(config(&path, base));
    gateway.accept(&alerts::ndjson(0..2000));
    gateway.wait_for_term("healthy", "delivered", 2000);
    eventually("the socket is full", || holds(gateway.metric(&failures("server_error")) > 0.0));
    gateway.accept(&alerts::ndjson(2000..2100));
    gateway.wait_for_term("healthy", "delivered", 2100);
    let lane = gateway.lane("wazuh");
    assert!(lane["ledger"]["pending"].as_u64().unwrap() > 0, "{lane}");
    assert_eq!(lane["ledger"]["dead"], 0, "{lane}");
    let manager = Manager::read(socket, &path, &seen);
    gateway.wait_for_term("wazuh", "delivered", 2100);
    eventually("all were read", || holds(manager.numbers().len() == 2100));
    manager.end();
    gateway.finish();
}
