//! Replays of a stretch of the log, and of dead letters to another destination, by the real binary.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{receiver::Exchange, wait::holds, *};

/// Attempts of a lane under way at once: also what a crash may repeat.
const CONCURRENCY: usize = 4;

/// `retention` keeps what a replay can send.
const KEEP: &str = "reserve = \"1MiB\"\nretention = \"24h\"";

fn config(receiver: &Receiver) -> Config {
    Config::new().queue(KEEP).webhook(
        "soc",
        &receiver.url("/soc"),
        &format!("concurrency = {CONCURRENCY}"),
    )
}

#[track_caller]
fn start(gateway: &Gateway, request: &Value) -> Value {
    let answer = gateway.post("/v1/replays", request);
    assert_eq!(answer.status, 202, "{}", answer.text);
    answer.json()
}

fn job(gateway: &Gateway, id: &Value) -> Value {
    gateway.get(&format!("/v1/replays/{id}")).json()
}

#[track_caller]
fn until(gateway: &Gateway, id: &Value, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let found = wait::within(wait::PATIENCE * 2, || {
        last = job(gateway, id);
        holds(is_so(&last))
    });
    assert!(found.is_some(), "never {what}: {last:#}\n{}", gateway.last_words());
    last
}

#[track_caller]
fn done(gateway: &Gateway, id: &Value) -> Value {
    until(gateway, id, "done", |job| job["state"] == "done")
}

#[track_caller]
fn act(gateway: &Gateway, id: &Value, action: &str) -> Value {
    let answer = gateway.post(&format!("/v1/replays/{id}/{action}"), &json!({}));
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

/// The alerts that came under a key of this replay, with how often each did.
fn replayed(receiver: &Receiver, id: &Value) -> BTreeMap<u64, usize> {
    let end = format!(".r{id}");
    let mut counts = BTreeMap::new();
    for exchange in receiver.exchanges() {
        if exchange.request.key().ends_with(&end) {
            for number in alerts::numbers(&exchange.request.body) {
                *counts.entry(number).or_default() += 1;
            }
        }
    }
    counts
}

fn accept(gateway: &Gateway, numbers: std::ops::Range<u64>) {
    for begin in numbers.clone().step_by(1_000) {
        gateway.accept(&alerts::ndjson(begin..(begin + 1_000).min(numbers.end)));
    }
}

#[test]
fn a_replay_of_10000_events_delays_no_live_alert_behind_it() {
    const EVENTS: u64 = 10_000;
    const LIVE: u64 = 200;
    let receiver = Receiver::willing();
    let mut gateway = Gateway::start(config(&receiver));
    accept(&gateway, 0..EVENTS);
    receiver.wait_for(EVENTS as usize);
    gateway.wait_for_term("soc", "delivered", EVENTS);
    // Slow enough that every slot is always taken.
    receiver.behave(|_| Reply::Later(Duration::from_millis(2), Box::new(Reply::ok())));
    let id = start(&gateway, &json!({ "from": "log", "destination": "soc" }))["id"].clone();
    until(&gateway, &id, "under way", |job| job["done"].as_u64() > Some(100));
    let mut behind = BTreeMap::new();
    for number in EVENTS..EVENTS + LIVE {
        gateway.accept(&alerts::ndjson([number]));
        let accepted_at = receiver.count();
        let arrived = eventually("a live alert arrives", || {
            let exchanges = receiver.exchanges_from(accepted_at.saturating_sub(CONCURRENCY * 4));
            exchanges.into_iter().find(|exchange| {
                alerts::numbers(&exchange.request.body) == [number]
                    && !exchange.request.key().ends_with(&format!(".r{id}"))
            })
        });
        *behind.entry(arrived.request.number.saturating_sub(accepted_at)).or_insert(0) += 1;
    }
    // Many at once: while one of them waits, nothing is lent.
    let begun = receiver.count();
    gateway.accept(&alerts::ndjson(EVENTS + LIVE..EVENTS + 2 * LIVE));
    let is_live = |exchange: &Exchange| !exchange.request.key().ends_with(&format!(".r{id}"));
    let exchanges = eventually("all of them arrive", || {
        let exchanges = receiver.exchanges_from(begun);
        let live = exchanges.iter().filter(|exchange| is_live(exchange)).count();
        (live as u64 == LIVE).then_some(exchanges)
    });
    let first = exchanges.iter().position(is_live).unwrap();
    let last = exchanges.iter().rposition(is_live).unwrap();
    let between = last + 1 - first - LIVE as usize;
    println!("requests of the replay among {LIVE} live ones that came at once: {between}");
    assert!(between <= CONCURRENCY, "{between}");
    let state = job(&gateway, &id);
    assert_eq!(state["state"], "running", "it was under way all the time: {state}");
    println!("requests of the replay between an alert's acceptance and its arrival: times");
    behind.iter().for_each(|(requests, times)| println!("{requests:>3}: {times}"));
    // What had been lent before may arrive first, and nothing else.
    assert!(behind.keys().all(|requests| *requests <= CONCURRENCY), "{behind:?}");
    receiver.behave(|_| Reply::ok());
    let ended = done(&gateway, &id);
    assert_eq!((&ended["total"], &ended["delivered"]), (&json!(EVENTS), &json!(EVENTS)));
    assert!(replayed(&receiver, &id).into_iter().eq((0..EVENTS).map(|number| (number, 1))));
    gateway.finish();
}

#[test]
fn a_kill_in_the_middle_loses_nothing_and_repeats_no_more_than_was_in_flight() {
    const EVENTS: u64 = 10_000;
    const KILLS: usize = 3;
    let receiver = Receiver::willing();
    let mut gateway = Gateway::start(config(&receiver));
    accept(&gateway, 0..EVENTS);
    gateway.wait_for_term("soc", "delivered", EVENTS);
    let id = start(&gateway, &json!({ "from": "log", "destination": "soc" }))["id"].clone();
    for kill in 1..=KILLS {
        let enough = kill * EVENTS as usize / 5;
        eventually("some of it arrived", || {
            let arrived = receiver.count().saturating_sub(EVENTS as usize);
            (arrived > enough).then_some(())
        });
        gateway.kill();
        gateway.restart();
    }
    let ended = done(&gateway, &id);
    assert_eq!(ended["done"], EVENTS, "{ended}");
    let counts = replayed(&receiver, &id);
    assert_eq!(counts.len() as u64, EVENTS, "nothing is lost");
    let repeated: usize = counts.values().map(|count| count - 1).sum();
    println!("{KILLS} kills repeated {repeated} events of {EVENTS}");
    assert!(repeated <= KILLS * CONCURRENCY, "{repeated}");
    assert_eq!(gateway.lane("soc")["ledger"]["delivered"], EVENTS, "its own lane is not touched");
    gateway.finish();
}

#[test]
fn a_replay_can_be_counted_paused_resumed_and_cancelled() {
    const EVENTS: u64 = 2_000;
    let receiver = Receiver::willing();
    let mut gateway = Gateway::start(config(&receiver));
    accept(&gateway, 0..EVENTS);
    gateway.wait_for_term("soc", "delivered", EVENTS);
    let mut request = json!({ "from": "log", "destination": "soc", "filter": { "level": 5 } });
    request["dry_run"] = true.into();
    let counted = gateway.post("/v1/replays", &request).json();
    let total = counted["total"].as_u64().unwrap();
    assert!(total > 0 && total < EVENTS && counted["dry_run"] == true, "{counted}");
    assert_eq!(gateway.get("/v1/replays").json()["data"], json!([]));
    request["dry_run"] = false.into();
    request["rate"] = "200/s".into();
    let keyed = |request: &Value| {
        let call = gateway.call("POST", "/v1/replays").header("Idempotency-Key", "once");
        call.body("application/json", request.to_string()).send().unwrap()
    };
    let first = keyed(&request);
    assert_eq!(first.status, 202, "{}", first.text);
    let id = first.json()["id"].clone();
    let again = keyed(&request);
    assert_eq!((again.status, &again.json()["id"]), (200, &id), "the same key twice is one job");
    assert_eq!(keyed(&json!({ "from": "log", "destination": "soc" })).status, 422);
    until(&gateway, &id, "under way", |job| job["done"].as_u64() > Some(20));
    act(&gateway, &id, "pause");
    // What was under way ends.
    let mut before = Value::Null;
    eventually("it stands still", || {
        let now = job(&gateway, &id);
        let stands = now["done"] == before["done"];
        before = now;
        std::thread::sleep(Duration::from_millis(100));
        holds(stands)
    });
    assert_eq!(before["state"], "paused");
    assert_eq!(before["lane"]["ledger"]["difference"], 0, "{before}");
    gateway.terminate();
    gateway.restart();
    let stays = job(&gateway, &id);
    assert_eq!((&stays["state"], &stays["done"]), (&json!("paused"), &before["done"]));
    act(&gateway, &id, "resume");
    until(&gateway, &id, "further", |job| job["done"].as_u64() > before["done"].as_u64());
    act(&gateway, &id, "cancel");
    let cancelled = until(&gateway, &id, "without a lane", |job| job["lane"].is_null());
    assert_eq!(cancelled["state"], "cancelled");
    let counts = replayed(&receiver, &id);
    assert_eq!(json!(counts.len()), cancelled["done"], "what arrived is counted, to the last one");
    assert!(counts.len() < total as usize && counts.values().all(|count| *count == 1));
    let audit = gateway.get("/v1/audit?limit=50").text;
    for action in ["\"replay\"", "pause replay", "resume replay", "cancel replay"] {
        assert!(audit.contains(action), "{action}: {audit}");
    }
    let lanes = gateway.get("/v1/destinations").json();
    assert_eq!(lanes["data"].as_array().map(Vec::len), Some(1), "its lane is not listed: {lanes}");
    gateway.finish();
}

#[test]
fn a_replay_to_another_destination_fails_there_alone_and_its_dead_letters_go_again() {
    const EVENTS: u64 = 300;
    let receiver = Receiver::start(|request| match request.path.as_str() {
        "/soc" => Reply::status(400),
        _ => Reply::ok(),
    });
    let other = Receiver::start(|request| match alerts::number(&request.body) {
        Some(number) if number % 10 == 3 => Reply::status(400),
        _ => Reply::ok(),
    });
    let none = "when = { level = 16 }\npoison_limit = 1000";
    let config = config(&receiver).webhook("other", &other.url("/"), none);
    let mut gateway = Gateway::start(config);
    accept(&gateway, 0..EVENTS);
    // Parked by so many refusals, or dead: either way they are in the log.
    let request = json!({ "from": "log", "destination": "other", "ignore_when": true });
    let id = start(&gateway, &request)["id"].clone();
    let ended = done(&gateway, &id);
    let failed = (0..EVENTS).filter(|number| number % 10 == 3).count();
    assert_eq!((&ended["failed"], &ended["done"]), (&json!(failed), &json!(EVENTS)), "{ended}");
    assert_eq!(gateway.lane("other")["state"], "active");
    assert_eq!(gateway.lane("other")["ledger"]["dead"], 0, "the live lane has no part in it");
    assert_eq!(replayed(&other, &id).len() as u64, EVENTS);
    let owner = format!("replay-{id}");
    assert_eq!(gateway.dead_letters(&format!("destination={owner}&limit=1000")).len(), failed);
    // They go again to where the replay sent them, or anywhere else.
    other.behave(|_| Reply::ok());
    let request = json!({ "from": "dead_letters", "filter": { "destination": owner } });
    let second = start(&gateway, &request)["id"].clone();
    let ended = done(&gateway, &second);
    assert_eq!((&ended["destination"], &ended["delivered"]), (&json!("other"), &json!(failed)));
    let sent: BTreeSet<u64> = replayed(&other, &second).into_keys().collect();
    assert!(sent.into_iter().eq((0..EVENTS).filter(|number| number % 10 == 3)));
    gateway.finish();
}

#[test]
fn a_request_that_makes_no_sense_is_answered_with_what_is_wrong() {
    let receiver = Receiver::willing();
    let mut gateway = Gateway::start(config(&receiver));
    gateway.accept(&alerts::ndjson([1]));
    let wrong = [
        (json!({ "from": "log" }), 400, "destination"),
        (json!({ "from": "log", "destination": "nobody" }), 404, "nobody"),
        (json!({ "from": "past", "destination": "soc" }), 400, "from"),
        (json!({ "from": "log", "destination": "soc", "rate": "fast" }), 400, "rate"),
        (
            json!({ "from": "log", "destination": "soc", "filter": { "since": "noon" } }),
            400,
            "since",
        ),
        (
            json!({ "from": "log", "destination": "soc", "filter": { "first": "x-1" } }),
            400,
            "first",
        ),
        (json!({ "from": "log", "destination": "soc", "filter": { "colour": 1 } }), 400, "colour"),
        (
            json!({ "from": "log", "destination": "soc", "filter": { "where": "al(" } }),
            400,
            "where",
        ),
        (json!({ "destination": "soc", "filter": { "level": 3 } }), 400, "level"),
        (json!({ "destination": "soc", "ignore_when": true }), 400, "ignore_when"),
        (
            json!({ "destination": "soc", "filter": { "destination": "source.tail" } }),
            400,
            "source",
        ),
    ];
    for (request, status, word) in wrong {
        let answer = gateway.post("/v1/replays", &request);
        assert_eq!(answer.status, status, "{request}: {}", answer.text);
        assert!(answer.text.contains(word), "{request}: {}", answer.text);
    }
    assert_eq!(gateway.get("/v1/replays").json()["data"], json!([]));
    gateway.finish();
}
