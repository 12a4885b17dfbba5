//! Numbered alerts in, numbered alerts out: who acknowledged what, and when.
//!
//! Every alert carries one marker, `powercut-` and twelve digits, in its rule's description. It is
//! found again as text, so that no one has to agree on what is wrapped around it.

use std::{
    collections::HashMap,
    fs::OpenOptions,
    io::{BufReader, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    gateway::LANES,
    http,
    subjects::{Ack, now_ns},
};

const MARKER: &str = "powercut-";
const DIGITS: usize = 12;

/// Alerts of the file are numbered from here on, those of HTTP from 0.
pub(crate) const TAIL_FROM: u64 = 1_000_000_000;

const AGENTS: u64 = 12;
const POSTERS: u64 = 4;
const BATCH_MAX: u64 = 50;
/// Between two posts of one thread: small commits, and a journal that fits in memory.
const PAUSE_MS_MAX: u64 = 60;

/// The numbers of all alerts in this text.
pub(crate) fn numbers(text: &[u8]) -> impl Iterator<Item = u64> {
    memchr::memmem::find_iter(text, MARKER).filter_map(|at| {
        let digits = text.get(at + MARKER.len()..at + MARKER.len() + DIGITS)?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    })
}

/// One line as Wazuh writes it. Its noise does not compress, so the queue's file grows and turns.
fn alert(number: u64, dice: &mut StdRng) -> String {
    let level = dice.random_range(1..=15);
    let noise: String =
        (0..dice.random_range(0..60)).map(|_| format!("{:016x}", dice.random::<u64>())).collect();
    let rule = format!(
        r#"{{"level":{level},"description":"{MARKER}{number:0DIGITS$}","id":"5710","groups":["sshd"]}}"#
    );
    let rest = r#""manager":{"name":"mgr-1"},"decoder":{"name":"sshd"},"location":"auth.log""#;
    format!(
        r#"{{"timestamp":"2026-01-02T03:04:05.678+0000","id":"1767323045.{number}","rule":{rule},"#
    ) + &format!(
        r#""agent":{{"id":"{:03}","name":"web"}},"full_log":"{noise}",{rest}}}"#,
        number % AGENTS
    ) + "\n"
}

// === in ===

/// Posts alerts from several threads, and appends others to a file, until it is dropped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// What was sent, over all loads of one run.
#[derive(Default)]
pub(crate) struct Sent {
    next: AtomicU64,
    next_line: AtomicU64,
    pub(crate) acks: Mutex<Vec<Ack>>,
}

impl Sent {
    pub(crate) fn lines(&self) -> u64 {
        self.next_line.load(Ordering::SeqCst)
    }
}

impl Load {
    pub(crate) fn start(port: u16, token: &'static str, file: &Path, sent: &Arc<Sent>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads: Vec<JoinHandle<()>> = (0..POSTERS)
            .map(|_| {
                let (stop, sent) = (Arc::clone(&stop), Arc::clone(sent));
                thread::spawn(move || post(port, token, &stop, &sent))
            })
            .collect();
        let (stop_tail, sent, file) = (Arc::clone(&stop), Arc::clone(sent), file.to_owned());
        threads.push(thread::spawn(move || append(&file, &stop_tail, &sent)));
        Self { stop, threads }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                eprintln!("a sender panicked");
            }
        }
    }
}

fn post(port: u16, token: &str, stop: &AtomicBool, sent: &Sent) {
    let mut dice: StdRng = rand::make_rng();
    while !stop.load(Ordering::SeqCst) {
        let count = dice.random_range(1..=BATCH_MAX);
        let first = sent.next.fetch_add(count, Ordering::SeqCst);
        let body: String = (first..first + count).map(|n| alert(n, &mut dice)).collect();
        // Without a 202 nothing was promised; the numbers are given up.
        match http::post_ndjson(port, "/v1/alerts", token, body.as_bytes()) {
            Ok(answer) if answer.status == 202 => {
                let acks = (first..first + count).map(|number| Ack { number, ns: answer.ns });
                sent.acks.lock().expect("no sender panicked").extend(acks);
            }
            Ok(answer) => eprintln!("alerts refused: {} {}", answer.status, answer.text),
            Err(_) => {}
        }
        thread::sleep(Duration::from_millis(dice.random_range(0..=PAUSE_MS_MAX)));
    }
}

/// The file is Wazuh's: it lies on another disk, one that keeps what is written to it.
fn append(path: &Path, stop: &AtomicBool, sent: &Sent) {
    let mut dice: StdRng = rand::make_rng();
    let mut file = OpenOptions::new().append(true).create(true).open(path).expect("alerts file");
    while !stop.load(Ordering::SeqCst) {
        let count = dice.random_range(1..=BATCH_MAX / 2);
        let first = sent.next_line.load(Ordering::SeqCst);
        let lines: String =
            (first..first + count).map(|n| alert(TAIL_FROM + n, &mut dice)).collect();
        file.write_all(lines.as_bytes()).expect("append to the alerts file");
        sent.next_line.fetch_add(count, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(dice.random_range(0..=PAUSE_MS_MAX)));
    }
}

// === out ===

/// A webhook's far end: notes when each number first came. Runs until the test process ends.
pub(crate) struct Receiver {
    pub(crate) port: u16,
    seen: Arc<Mutex<HashMap<u64, u64>>>,
}

impl Receiver {
    pub(crate) fn of_all_lanes() -> [Self; LANES.len()] {
        LANES.each_ref().map(|lane| Self::start(lane.fails_every))
    }

    /// `fails_every` is 0 for one that always answers 200; else each n-th request is a 503.
    pub(crate) fn start(fails_every: usize) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("a bound port").port();
        let seen = Arc::new(Mutex::new(HashMap::new()));
        let (kept, count) = (Arc::clone(&seen), Arc::new(AtomicUsize::new(0)));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (kept, count) = (Arc::clone(&kept), Arc::clone(&count));
                thread::spawn(move || receive(stream, fails_every, &kept, &count));
            }
        });
        Self { port, seen }
    }

    pub(crate) fn seen(&self) -> HashMap<u64, u64> {
        self.seen.lock().expect("no receiver panicked").clone()
    }
}

fn receive(
    stream: TcpStream,
    fails_every: usize,
    seen: &Mutex<HashMap<u64, u64>>,
    count: &AtomicUsize,
) {
    let Ok(mut back) = stream.try_clone() else { return };
    let mut from = BufReader::new(stream);
    // A sender that is killed leaves half a request, which is no request.
    while let Ok(Some(body)) = http::read_request(&mut from) {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        let fails = fails_every > 0 && number.is_multiple_of(fails_every);
        if !fails {
            // Noted before it is answered, so before the sender may forget it.
            let ns = now_ns();
            let mut seen = seen.lock().expect("no receiver panicked");
            for number in numbers(&body) {
                seen.entry(number).or_insert(ns);
            }
        }
        let status = if fails { "503 Service Unavailable" } else { "200 OK" };
        if http::answer(&mut back, status).is_err() {
            return;
        }
    }
}

#[test]
fn a_marker_is_found_in_whatever_is_around_it() {
    let mut dice = StdRng::seed_from_u64(1);
    let text = format!("[{}, {{\"event\":{}}}]", alert(7, &mut dice), alert(TAIL_FROM, &mut dice));
    assert_eq!(numbers(text.as_bytes()).collect::<Vec<_>>(), [7, TAIL_FROM]);
    assert_eq!(numbers(b"powercut-00000").count(), 0);
}
