//! Lanes that keep an order keep it, whatever the receiver and the machine do.
//!
//! A strict and a keyed lane carry the same 50,000 alerts through receivers that fail at random,
//! while the gateway is killed 50 times, five of them while dead letters are replayed.

mod book;

use std::{
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;

use self::book::Book;
use crate::support::{Config, Gateway, Receiver, Reply, Request, alerts, eventually, wait::holds};

const ALERTS: u64 = 50_000;
const ALERTS_A_LIFE: u64 = 1_200;
const LIVE_KILLS: u32 = 45;
const REPLAY_KILLS: u32 = 5;
const AGENTS: u64 = 60;
/// Neighbours of one agent, so that one request has few agents, and not all lanes' ways are taken.
const NEIGHBOURS: u64 = 7;
const POISON_EVERY: u64 = 500;

fn agent(number: u64) -> u64 {
    ((number / NEIGHBOURS).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % AGENTS
}

fn is_poison(number: u64) -> bool {
    number % POISON_EVERY == 7
}

fn ndjson(numbers: impl Iterator<Item = u64>) -> String {
    let line = |number| {
        let agent = agent(number);
        format!(
            "{{\"number\":{number},\"rule\":{{\"id\":\"5710\",\"level\":5,\"description\":\"sshd: \
             unknown user\"}},\"agent\":{{\"id\":\"{agent:03}\",\"name\":\"web-{agent}\"}}}}\n"
        )
    };
    numbers.map(line).collect()
}

/// One lane, its receiver, and what may be sent again after a kill.
struct Way {
    name: &'static str,
    keys: &'static str,
    bound: u64,
    book: Arc<Mutex<Book>>,
    mended: Arc<Mutex<bool>>,
    receiver: Receiver,
}

impl Way {
    fn new(name: &'static str, keys: &'static str, bound: u64, key_of: fn(u64) -> u64) -> Self {
        let book = Arc::new(Mutex::new(Book::new(key_of)));
        let mended = Arc::new(Mutex::new(false));
        let dice = Mutex::new(StdRng::seed_from_u64(rand::random()));
        let (noted, well) = (Arc::clone(&book), Arc::clone(&mended));
        let script = move |request: &Request| {
            let roll = dice.lock().unwrap().random_range(0..1000);
            answer(&noted, roll, *well.lock().unwrap(), request)
        };
        let receiver = Receiver::observed(script, |_| {});
        Self { name, keys, bound, book, mended, receiver }
    }

    /// Only when the dead one's last requests have been dealt with does the next run begin.
    fn buried(&self) {
        eventually("the dead one's connections close", || {
            holds(self.receiver.open_connections() == 0)
        });
        self.book.lock().unwrap().run += 1;
    }
}

fn answer(book: &Mutex<Book>, roll: u32, mended: bool, request: &Request) -> Reply {
    let members = alerts::numbers(&request.body);
    book.lock().unwrap().arrive(&members);
    match roll {
        0..30 => return Reply::status(503),
        30..45 => return Reply::status(429),
        45..47 => return Reply::status(429).with("Retry-After", "1"),
        47..75 => return Reply::Reset,
        75..85 => return Reply::Broken(b"HTTP/1.1 ".to_vec()),
        85..160 => thread::sleep(Duration::from_millis(20)),
        _ => {}
    }
    if !mended && members.iter().any(|number| is_poison(*number)) {
        if let [poison] = members[..] {
            book.lock().unwrap().refuse(poison);
        }
        return Reply::status(400);
    }
    book.lock().unwrap().take(&members);
    Reply::ok()
}

struct Bench {
    gateway: Gateway,
    ways: [Way; 2],
    dice: StdRng,
    posted: u64,
    kills: u32,
}

impl Bench {
    fn new() -> Self {
        let strict = "order = \"strict\"\nbatch = { max_events = 50, max_wait = \"20ms\" }\n";
        let keyed = "order = \"key\"\norder_key = \"agent.id\"\nconcurrency = 6\n\
                     batch = { max_events = 20, max_wait = \"20ms\" }\n";
        let ways = [Way::new("strict", strict, 50, |_| 0), Way::new("keyed", keyed, 120, agent)];
        let config = ways.iter().fold(Config::new(), |config, way| {
            let retry = "retry = { initial = \"20ms\", max = \"200ms\" }";
            config.webhook(way.name, &way.receiver.url("/"), &format!("{}{retry}", way.keys))
        });
        let dice = StdRng::seed_from_u64(rand::random());
        Self { gateway: Gateway::new(config), ways, dice, posted: 0, kills: 0 }
    }

    fn millis(&mut self, range: std::ops::Range<u64>) {
        thread::sleep(Duration::from_millis(self.dice.random_range(range)));
    }

    fn post(&mut self, count: u64) {
        let numbers = self.posted..(self.posted + count).min(ALERTS);
        self.posted = numbers.end;
        if !numbers.is_empty() {
            self.ways.iter().for_each(|way| way.book.lock().unwrap().owe(numbers.clone()));
            self.gateway.accept(&ndjson(numbers));
        }
    }

    fn kill(&mut self) {
        self.gateway.kill();
        self.kills += 1;
        self.ways.iter().for_each(Way::buried);
    }

    fn live_and_die(&mut self, life: u32) {
        if life % 8 == 7 {
            // Not even ready.
            self.gateway.spawn();
            self.millis(0..150);
        } else {
            self.gateway.restart();
            self.post(ALERTS_A_LIFE);
            self.millis(50..600);
        }
        self.kill();
    }

    /// A job for each lane's dead letters, killed again and again. Answers how many there were.
    fn replay(&mut self) -> Vec<usize> {
        let mut counts = Vec::new();
        for way in &self.ways {
            *way.mended.lock().unwrap() = true;
            counts.push(way.book.lock().unwrap().replay());
        }
        let jobs: Vec<_> = self.ways.iter().map(|way| self.begin_replay(way.name)).collect();
        for _ in 0..REPLAY_KILLS {
            self.millis(100..700);
            self.kill();
            self.gateway.restart();
        }
        for (id, count) in jobs.iter().zip(&counts) {
            let job = eventually("the replay ends", || {
                let job = self.gateway.get(&format!("/v1/replays/{id}")).json();
                (job["state"] == "done").then_some(job)
            });
            assert_eq!((&job["done"], &job["failed"]), (&json!(count), &json!(0)), "{job}");
        }
        counts
    }

    fn begin_replay(&self, lane: &str) -> String {
        let filter = json!({ "destination": lane });
        let body = json!({ "from": "dead_letters", "filter": filter, "rate": "25/s" });
        let answer = self.gateway.post("/v1/replays", &body);
        assert_eq!(answer.status, 202, "{}", answer.text);
        answer.json()["id"].to_string().trim_matches('"').to_owned()
    }
}

#[test]
fn order_holds_through_failures_kills_and_replays() {
    let mut bench = Bench::new();
    (0..LIVE_KILLS).for_each(|life| bench.live_and_die(life));
    bench.gateway.restart();
    bench.post(ALERTS);
    let poisons = (0..ALERTS).filter(|number| is_poison(*number)).count();
    for way in &bench.ways {
        bench.gateway.wait_for_term(way.name, "dead", poisons as u64);
        bench.gateway.wait_for_term(way.name, "delivered", ALERTS - poisons as u64);
        let book = way.book.lock().unwrap();
        assert_eq!(book.dead.len(), poisons, "{}", way.name);
        assert!(way.name == "strict" || book.dead_keys() > 10, "{} keys", book.dead_keys());
    }
    let replayed = bench.replay();
    for way in &bench.ways {
        bench.gateway.wait_for_term(way.name, "delivered", ALERTS);
        assert_eq!(bench.gateway.lane(way.name)["ledger"]["dead"], 0);
        let book = way.book.lock().unwrap();
        let most = book.by_kill.values().copied().max().unwrap_or(0);
        println!(
            "{}: {} kills, {} of {ALERTS} alerts taken, {replayed:?} dead letters replayed, {} \
             taken again, {most} at most after one kill (bound {}), out of order: {}",
            way.name,
            bench.kills,
            book.taken(),
            book.by_kill.values().sum::<u64>(),
            way.bound,
            book.faults.len(),
        );
        assert!(book.faults.is_empty(), "{}: {:#?}", way.name, book.faults);
        assert_eq!(book.taken() as u64, ALERTS, "{}", way.name);
        assert!(most <= way.bound, "{}: {:?}", way.name, book.by_kill);
    }
    bench.gateway.finish();
}
