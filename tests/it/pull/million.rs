//! Many events, three consumers at once, and kills of all of them and of the gateway.
//!
//! `HOLDFAST_PULL_EVENTS` sets how many; 1,000,000 is what issue 6 asks for.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use super::{kept, made};
use crate::support::{
    Gateway,
    config::TOKEN,
    http::{Answer, Call},
    wait::{now_ns, since},
};

const EVENTS: u64 = 60_000;
const BATCH: u64 = 1_000;
/// Kills of the gateway.
const KILLS: u64 = 4;
/// Of so many pages, one is thrown away with its client.
const CLIENT_DIES_EVERY: u64 = 13;

fn events() -> u64 {
    std::env::var("HOLDFAST_PULL_EVENTS").map_or(EVENTS, |text| text.parse().unwrap())
}

fn alert(n: u64) -> String {
    format!(
        "{{\"number\":{n},\"rule\":{{\"id\":\"{}\",\"level\":{}}},\"full_log\":\"event {n}\"}}\n",
        n % 97,
        n % 16
    )
}

/// What the readers and the gateway's nurse share.
struct Shared {
    port: AtomicU16,
    accepted: AtomicU64,
    acked: AtomicU64,
    again: AtomicU64,
    give_up: AtomicBool,
}

/// One reader: what it saw, and what it knows to be acknowledged.
struct Reader {
    shared: Arc<Shared>,
    name: &'static str,
    least: u64,
    seen: u64,
    acked: BTreeSet<u64>,
    /// Acknowledgements whose answer never came: they may have been taken.
    unsure: BTreeSet<u64>,
    pages: u64,
}

impl Reader {
    fn call(&self, method: &str, path: &str, body: &Value) -> Option<Value> {
        let answer = self.ask(method, path, body).filter(|answer| answer.status == 200)?;
        serde_json::from_str(&answer.text).ok()
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Option<Answer> {
        let port = self.shared.port.load(Ordering::SeqCst);
        let path = format!("/v1/consumers/{}/{path}", self.name);
        let call = Call::new(port, method, &path).bearer(TOKEN);
        let call = call.body("application/json", body.to_string());
        call.send().ok()
    }

    /// All that matches, in order, and nothing that was acknowledged.
    fn run(mut self, total: u64) -> u64 {
        let expected = (0..total).filter(|n| n % 16 >= self.least).count() as u64;
        let mut highest = None;
        while (self.acked.len() as u64) < expected {
            assert!(!self.shared.give_up.load(Ordering::SeqCst), "{} was given up", self.name);
            let Some(page) = self.call("GET", "next?limit=1000&wait=1s&fields=number", &json!({}))
            else {
                thread::sleep(Duration::from_millis(20));
                continue;
            };
            self.take(&page, &mut highest);
        }
        let all = (0..total).filter(|n| n % 16 >= self.least);
        assert!(self.acked.iter().copied().eq(all), "{} misses some", self.name);
        self.seen
    }

    fn take(&mut self, page: &Value, highest: &mut Option<u64>) {
        let data = page["data"].as_array().unwrap();
        let number = |event: &Value| event["alert"]["number"].as_u64().unwrap();
        let numbers: Vec<u64> = data.iter().map(number).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{}: a page is out of order", self.name);
        for n in &numbers {
            assert!(n % 16 >= self.least, "{}: {n} does not match", self.name);
            assert!(!self.acked.contains(n), "{}: {n} came again", self.name);
        }
        // What is new comes in order: nothing between was passed over.
        for n in numbers
            .iter()
            .filter(|n| highest.is_none_or(|highest| **n > highest))
            .copied()
            .collect::<Vec<_>>()
        {
            let from = highest.map_or(0, |highest| highest + 1);
            let first = (from..).find(|n| n % 16 >= self.least);
            let missed = first.is_some_and(|first| first < n)
                && (from..n).any(|m| m % 16 >= self.least && !self.unsure.contains(&m));
            assert!(!missed, "{}: between {from} and {n} something was passed over", self.name);
            *highest = Some(n);
        }
        self.seen += numbers.len() as u64;
        let redelivered = page["redelivered"].as_u64().unwrap();
        self.shared.again.fetch_add(redelivered, Ordering::SeqCst);
        self.pages += 1;
        if self.pages.is_multiple_of(CLIENT_DIES_EVERY) || numbers.is_empty() {
            // Killed with the page in its hands: the events come again.
            return;
        }
        let ids: Vec<&Value> = data.iter().map(|event| &event["id"]).collect();
        if self.call("POST", "ack", &json!({ "ids": ids })).is_some() {
            self.shared.acked.fetch_add(numbers.len() as u64, Ordering::SeqCst);
            self.acked.extend(numbers);
        } else {
            self.retry(&json!({ "ids": ids }), &numbers);
        }
    }

    /// Without an answer it asks again until it has one, as a client should. When it is told to ask
    /// for them first, because the gateway was killed with two pages handed out, they come again.
    fn retry(&mut self, body: &Value, numbers: &[u64]) {
        self.unsure.extend(numbers);
        loop {
            match self.ask("POST", "ack", body).map(|answer| answer.status) {
                Some(200) => break,
                Some(409) => return,
                _ => {}
            }
            assert!(!self.shared.give_up.load(Ordering::SeqCst), "{} was given up", self.name);
            thread::sleep(Duration::from_millis(20));
        }
        self.shared.acked.fetch_add(numbers.len() as u64, Ordering::SeqCst);
        self.acked.extend(numbers);
    }
}

#[test]
fn each_of_three_consumers_sees_every_matching_event_in_order_through_kills() {
    let total = events() / BATCH * BATCH;
    let begun = now_ns();
    let mut gateway = Gateway::start(kept());
    let readers = [("all", 0), ("middle", 6), ("high", 12)];
    for (name, least) in readers {
        made(&gateway, name, &json!({"when": {"level": least}, "ack_wait": "2s"}));
    }
    let shared = Arc::new(Shared {
        port: AtomicU16::new(gateway.port),
        accepted: AtomicU64::new(0),
        acked: AtomicU64::new(0),
        again: AtomicU64::new(0),
        give_up: AtomicBool::new(false),
    });
    let threads: Vec<_> = readers
        .into_iter()
        .map(|(name, least)| {
            let shared = Arc::clone(&shared);
            let (acked, unsure) = (BTreeSet::new(), BTreeSet::new());
            let reader = Reader { shared, name, least, seen: 0, acked, unsure, pages: 0 };
            thread::spawn(move || reader.run(total))
        })
        .collect();
    let kill_every = (total / BATCH / (KILLS + 1)).max(1);
    for batch in 0..total / BATCH {
        let ndjson: String = (batch * BATCH..(batch + 1) * BATCH).map(alert).collect();
        gateway.accept(&ndjson);
        shared.accepted.fetch_add(BATCH, Ordering::SeqCst);
        if batch % kill_every == kill_every - 1 {
            // In the middle of what the readers do.
            gateway.kill();
            gateway.restart();
            shared.port.store(gateway.port, Ordering::SeqCst);
        }
    }
    let mut seen = Vec::new();
    let mut failed = false;
    for thread in threads {
        match thread.join() {
            Ok(count) => seen.push(count),
            Err(_) => {
                failed = true;
                shared.give_up.store(true, Ordering::SeqCst);
            }
        }
    }
    assert!(!failed, "a reader failed; it says above why");
    eprintln!(
        "{total} events, {KILLS} kills or more: seen {seen:?}, acknowledged {}, again {}, in {:?}",
        shared.acked.load(Ordering::SeqCst),
        shared.again.load(Ordering::SeqCst),
        since(begun),
    );
    gateway.finish();
}
