//! A storm is its first message and counted summaries, and every alert of it is in one of them.
//!
//! The law: alerts that were sent at once, plus the counts of all summaries, are the storm. A
//! summary goes by the key of the first that it counts, so in the ledger every summary is one of
//! its own count: `suppressed` is the counts less one each. A kill may send a request again under
//! its key, and may forget a window that had held nothing back yet, so that the next alert is sent
//! at once, too: one a kill. It never counts an alert twice or not at all.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use crate::support::{Config, Gateway, Receiver, Reply, Request, alerts, eventually, wait::holds};

const ALERTS: u64 = 100_000;
const ALERTS_A_POST: u64 = 1_000;
const KILLS: u64 = 10;
const CONCURRENCY: u64 = 8;

fn ndjson(numbers: impl Iterator<Item = u64>) -> String {
    let line = |number| {
        format!(
            "{{\"number\":{number},\"rule\":{{\"id\":\"5710\",\"level\":5,\"description\":\"sshd: \
             unknown user\"}},\"agent\":{{\"id\":\"{:03}\",\"name\":\"web\"}}}}\n",
            number % 40
        )
    };
    numbers.map(line).collect()
}

fn summary_of(request: &Request) -> Option<Value> {
    let mut body: Value = serde_json::from_slice(&request.body).ok()?;
    let summary = body["holdfast"]["summary"].take();
    summary.is_object().then_some(summary)
}

/// What came out.
#[derive(Default)]
struct Sum {
    /// Alerts that were sent at once.
    singly: BTreeSet<u64>,
    /// By key; a repeat must say the same.
    summaries: BTreeMap<String, Value>,
    requests: u64,
}

impl Sum {
    fn of(receiver: &Receiver) -> Self {
        let mut sum = Self::default();
        for exchange in receiver.exchanges().iter().filter(|exchange| exchange.reply.accepts()) {
            sum.requests += 1;
            let request = &exchange.request;
            match summary_of(request) {
                Some(summary) => {
                    let known = sum.summaries.insert(request.key().to_owned(), summary.clone());
                    assert!(known.is_none_or(|known| known == summary), "{summary:#}");
                }
                None => drop(sum.singly.insert(alerts::number(&request.body).expect("a number"))),
            }
        }
        sum
    }

    fn counted(&self) -> u64 {
        self.summaries.values().filter_map(|summary| summary["count"].as_u64()).sum()
    }

    fn messages(&self) -> u64 {
        (self.singly.len() + self.summaries.len()) as u64
    }
}

/// Fails one request of ten, and refuses every summary until it is mended.
fn receiver(mended: &Arc<AtomicBool>) -> Receiver {
    let (mended, dice) = (Arc::clone(mended), Mutex::new(StdRng::seed_from_u64(rand::random())));
    Receiver::start(move |request| match dice.lock().unwrap().random_range(0..10) {
        0 => Reply::status(503),
        _ if summary_of(request).is_some() && !mended.load(Ordering::SeqCst) => {
            Reply::text(400, "no summaries here")
        }
        _ => Reply::ok(),
    })
}

/// The dead letter of a summary shows what it stands for, here and on the command line.
fn expect_dead_summary(gateway: &Gateway) -> (String, u64) {
    let letter = gateway.dead_letters("destination=chat").remove(0);
    let id = letter["id"].as_str().unwrap().to_owned();
    let said = gateway.cli(&["dead-letters", "show", &id, "--json"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let shown: Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(shown, letter);
    let summary = &shown["event"]["alert"]["holdfast"]["summary"];
    let count = summary["count"].as_u64().expect("a count");
    let samples = summary["samples"].as_array().expect("samples");
    assert_eq!(samples.len() as u64, count.min(20));
    assert_eq!(samples[0]["id"], summary["first_id"], "{summary:#}");
    let text = gateway.cli(&["dead-letters", "show", &id]).out;
    let last = summary["last_id"].as_str().expect("the last id");
    for part in [&count.to_string(), last, samples[0]["text"].as_str().unwrap()] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    (id, count)
}

/// Refused and taken under one key.
fn expect_same_key(receiver: &Receiver, count: u64) {
    let sum = Sum::of(receiver);
    let (key, summary) = sum.summaries.first_key_value().expect("a summary");
    assert_eq!((sum.summaries.len(), &summary["count"]), (1, &json!(count)));
    let exchanges = receiver.exchanges();
    let same = exchanges.iter().filter(|exchange| {
        summary_of(&exchange.request).is_some_and(|other| other["first_id"] == summary["first_id"])
    });
    let keys: Vec<&str> = same.map(|exchange| exchange.request.key()).collect();
    assert!(keys.len() >= 2 && keys.iter().all(|other| other == key), "{keys:?}");
}

fn post_while_it_is_killed(gateway: &mut Gateway) {
    let mut dice = StdRng::seed_from_u64(rand::random());
    let mut next = 0;
    let posts_a_life = ALERTS / ALERTS_A_POST / (KILLS + 1) + 1;
    while next < ALERTS {
        for _ in 0..posts_a_life {
            let numbers = next..(next + ALERTS_A_POST).min(ALERTS);
            next = numbers.end;
            if !numbers.is_empty() {
                gateway.accept(&ndjson(numbers));
            }
            thread::sleep(Duration::from_millis(dice.random_range(0..60)));
        }
        if next < ALERTS {
            gateway.kill();
            gateway.restart();
            gateway.balanced();
        }
    }
}

#[test]
fn a_storm_of_one_rule_is_counted_whole_across_kills() {
    let mended = Arc::new(AtomicBool::new(false));
    let receiver = receiver(&mended);
    let keys = format!(
        "concurrency = {CONCURRENCY}\npoison_limit = 1000\n\
         digest = {{ by = [\"rule.id\"], window = \"1s\" }}"
    );
    let mut gateway = Gateway::start(Config::new().webhook("chat", &receiver.url("/"), &keys));
    post_while_it_is_killed(&mut gateway);
    let before = gateway.wait_for_lane("chat", "was through", |lane| {
        lane["ledger"]["pending"] == 0 && lane["ledger"]["dead"].as_u64() >= Some(1)
    });
    // The last window has yet to end.
    eventually("every summary is dead", || {
        let letters = gateway.dead_letters("destination=chat&limit=500");
        let counts = letters.iter().map(|letter| &letter["event"]["alert"]["holdfast"]["summary"]);
        let counted: u64 = counts.filter_map(|summary| summary["count"].as_u64()).sum();
        holds(counted + Sum::of(&receiver).singly.len() as u64 == ALERTS)
    });
    let (id, count) = expect_dead_summary(&gateway);

    mended.store(true, Ordering::SeqCst);
    let answer = gateway.post(&format!("/v1/dead-letters/{id}/replay"), &json!({}));
    assert_eq!(answer.status, 202, "{}", answer.text);
    eventually("the summary is taken", || holds(!Sum::of(&receiver).summaries.is_empty()));
    expect_same_key(&receiver, count);
    let said = gateway.cli(&["dead-letters", "replay", "--destination", "chat"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    gateway.wait_for_term("chat", "dead", 0);
    gateway.wait_for_term("chat", "pending", 0);

    let (sum, ledger) = (Sum::of(&receiver), gateway.lane("chat")["ledger"].clone());
    println!(
        "{ALERTS} alerts, {KILLS} kills: {} sent at once, {} summaries that count {}, {} repeats; \
         ledger {ledger}; dead before the replay {}",
        sum.singly.len(),
        sum.summaries.len(),
        sum.counted(),
        sum.requests - sum.messages(),
        before["ledger"]["dead"],
    );
    assert!(sum.singly.contains(&0), "the first goes at once");
    assert_eq!(sum.singly.len() as u64 + sum.counted(), ALERTS);
    assert_eq!(ledger["delivered"], sum.messages());
    assert_eq!(ledger["suppressed"], sum.counted() - sum.summaries.len() as u64);
    let windows = sum.summaries.len() as u64 + 1;
    assert!(sum.singly.len() as u64 <= windows + KILLS, "{:?}", sum.singly);
    assert!(sum.requests - sum.messages() <= CONCURRENCY * KILLS);
    gateway.finish();
}
