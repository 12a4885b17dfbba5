//! What is given up is kept whole, said why, and can be sent again.

use serde_json::{Value, json};

use crate::support::{
    Answer, Config, Gateway, Receiver, Reply, Request, alerts, eventually, wait::holds,
};

const POISON: u64 = 613;

fn refuses_the_poison(request: &Request) -> Reply {
    if alerts::numbers(&request.body).contains(&POISON) {
        Reply::text(400, "field full_log: mapper_parsing_exception")
    } else {
        Reply::ok()
    }
}

/// A gateway that has delivered 999 alerts and given up one.
fn poisoned(keys: &str) -> (Gateway, Receiver) {
    let receiver = Receiver::start(refuses_the_poison);
    let gateway = Gateway::start(Config::new().webhook("siem", &receiver.url("/"), keys));
    gateway.accept(&alerts::ndjson(0..1000));
    gateway.wait_for_term("siem", "dead", 1);
    gateway.wait_for_term("siem", "delivered", 999);
    (gateway, receiver)
}

fn replay(gateway: &Gateway, key: &str, body: &Value) -> Answer {
    let call = gateway.call("POST", "/v1/replays").header("Idempotency-Key", key);
    call.body("application/json", body.to_string()).send().expect("an answer")
}

fn wait_for_job(gateway: &Gateway, id: &Value) -> Value {
    eventually("the replay ends", || {
        let job = gateway.get(&format!("/v1/replays/{id}")).json();
        (job["state"] == "done").then_some(job)
    })
}

fn expect_the_poison(gateway: &Gateway) -> Value {
    let dead = gateway.dead_letters("destination=siem");
    assert_eq!(dead.len(), 1);
    let letter = dead.into_iter().next().unwrap();
    assert_eq!(letter["reason"], "refused");
    assert_eq!(letter["destination"], "siem");
    assert_eq!(letter["event"]["alert"]["number"], POISON);
    let attempts = letter["attempts"].as_array().unwrap();
    assert!(!attempts.is_empty());
    let last = &attempts[attempts.len() - 1];
    assert_eq!(last["status"], 400, "{letter:#}");
    assert!(last["excerpt"].as_str().unwrap().contains("mapper_parsing_exception"), "{last}");
    let id = letter["id"].as_str().unwrap();
    assert_eq!(gateway.get(&format!("/v1/dead-letters/{id}")).json(), letter);
    letter
}

fn found_alone_and_delivered_once(keys: &str) {
    let (mut gateway, receiver) = poisoned(keys);
    let letter = expect_the_poison(&gateway);
    assert_eq!(gateway.lane("siem")["state"], "active");
    receiver.behave(|_| Reply::ok());

    let filter = json!({ "destination": "siem", "reason": "refused" });
    let dry = json!({ "from": "dead_letters", "filter": filter, "dry_run": true });
    let answer = gateway.post("/v1/replays", &dry);
    assert_eq!((answer.status, &answer.json()["total"]), (200, &json!(1)), "{}", answer.text);
    assert_eq!(gateway.lane("siem")["ledger"]["dead"], 1, "a dry run changes nothing");

    let request = json!({ "from": "dead_letters", "filter": filter });
    let (first, second) = (replay(&gateway, "r1", &request), replay(&gateway, "r1", &request));
    assert_eq!((first.status, second.status), (202, 200), "{} {}", first.text, second.text);
    assert_eq!(first.json()["id"], second.json()["id"], "the same key twice is one job");
    let other = json!({ "from": "dead_letters", "filter": { "destination": "siem" } });
    assert_eq!(replay(&gateway, "r1", &other).status, 422);
    let job = wait_for_job(&gateway, &first.json()["id"]);
    assert_eq!((&job["total"], &job["delivered"]), (&json!(1), &json!(1)), "{job}\n{letter:#}");
    assert_eq!((&job["done"], &job["failed"]), (&json!(1), &json!(0)), "{job}");

    gateway.wait_for_term("siem", "delivered", 1000);
    assert_eq!(gateway.lane("siem")["ledger"]["dead"], 0);
    assert_eq!(gateway.dead_letters("").len(), 0);
    let mut taken = receiver.taken();
    taken.sort_unstable();
    assert_eq!(taken, (0..1000).collect::<Vec<_>>(), "each was taken once");
    gateway.finish();
}

#[test]
fn a_poison_alert_among_a_thousand_lands_alone_and_is_replayed_once() {
    found_alone_and_delivered_once("");
}

#[test]
fn a_poison_alert_in_a_batch_lands_alone_and_is_replayed_once() {
    found_alone_and_delivered_once("batch = { max_events = 64, max_wait = \"20ms\" }");
}

#[test]
fn a_dead_letter_survives_kill_nine_and_is_replayed_by_its_id() {
    let (mut gateway, receiver) = poisoned("");
    let before = expect_the_poison(&gateway);
    gateway.kill();
    gateway.restart();
    assert_eq!(expect_the_poison(&gateway), before);
    let id = before["id"].as_str().unwrap().to_owned();

    // Not mended: it dies again, and the same letter has one attempt more.
    let said = gateway.cli(&["dead-letters", "replay", &id, "--json"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    gateway.wait_for_term("siem", "dead", 1);
    let again = expect_the_poison(&gateway);
    assert_eq!(again["id"], before["id"]);
    let attempts = |letter: &Value| letter["attempts"].as_array().unwrap().len();
    assert_eq!(attempts(&again), attempts(&before) + 1);
    let job: Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!((&job["done"], &job["failed"]), (&json!(1), &json!(1)), "{job}");

    receiver.behave(|_| Reply::ok());
    let answer = gateway.post(&format!("/v1/dead-letters/{id}/replay"), &json!({}));
    assert_eq!(answer.status, 202, "{}", answer.text);
    assert_eq!(wait_for_job(&gateway, &answer.json()["id"])["delivered"], 1);
    gateway.wait_for_term("siem", "delivered", 1000);
    let of_poison = receiver.exchanges().into_iter().filter(|e| e.request.key() == id).count();
    assert!(of_poison >= 3, "every try had the letter's own key, {of_poison} had");
    assert_eq!(gateway.get(&format!("/v1/dead-letters/{id}")).status, 404);
    gateway.finish();
}

#[test]
fn a_purge_says_what_it_removes_and_the_ledger_counts_it() {
    let receiver = Receiver::start(|request| {
        let odd = alerts::numbers(&request.body).iter().any(|number| number % 3 == 1);
        if odd { Reply::text(422, "no") } else { Reply::ok() }
    });
    let keys = "poison_limit = 1000";
    let mut gateway = Gateway::start(Config::new().webhook("siem", &receiver.url("/"), keys));
    gateway.accept(&alerts::ndjson(0..30));
    gateway.wait_for_term("siem", "dead", 10);
    let purge = |body: Value| gateway.post("/v1/dead-letters/purge", &body);
    assert_eq!(purge(json!({})).status, 400, "everything must be asked for by name");
    let dry = purge(json!({ "filter": { "destination": "siem" }, "dry_run": true }));
    assert_eq!(dry.json()["count"], 10);
    let id = gateway.dead_letters("limit=1")[0]["id"].as_str().unwrap().to_owned();
    let one = gateway.call("DELETE", &format!("/v1/dead-letters/{id}")).send().unwrap();
    assert_eq!(one.status, 204);
    let none = purge(json!({ "filter": { "destination": "siem", "reason": "forbidden" } }));
    assert_eq!(none.json()["purged"], 0);
    let said = gateway.cli(&["dead-letters", "purge", "--destination", "siem", "--json"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(gateway.lane("siem")["ledger"]["purged"], 10);
    assert_eq!(gateway.lane("siem")["ledger"]["dead"], 0);
    let audit = gateway.get("/v1/audit").json();
    assert!(audit.to_string().contains("purge"), "{audit}");
    gateway.finish();
}

#[test]
fn pages_and_filters_show_every_dead_letter_once() {
    let receiver = Receiver::start(|_| Reply::status(400));
    let keys = "poison_limit = 1000";
    let mut gateway = Gateway::start(Config::new().webhook("siem", &receiver.url("/"), keys));
    gateway.accept(&alerts::ndjson(0..68));
    gateway.wait_for_term("siem", "dead", 68);
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = gateway.get(&format!("/v1/dead-letters?limit=10{cursor}")).json();
        let letters = page["data"].as_array().unwrap();
        seen.extend(letters.iter().filter_map(|l| l["event"]["alert"]["number"].as_u64()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..68).collect::<Vec<_>>());
    let of_rule = gateway.dead_letters("rule_id=5763");
    assert_eq!(of_rule.len(), 2, "68 alerts are each sample twice");
    assert_eq!(gateway.get("/v1/dead-letters?reason=nonsense").status, 400);
    assert_eq!(
        gateway.get("/v1/dead-letters?until=2020-01-01T00:00:00Z").json()["data"],
        json!([])
    );
    gateway.finish();
}

#[test]
fn a_wrong_address_parks_the_lane_and_makes_no_dead_letters() {
    let receiver = Receiver::start(|_| Reply::text(404, "no such hook"));
    let keys = "retry = { initial = \"20ms\", max = \"300ms\" }";
    let mut gateway = Gateway::start(Config::new().webhook("siem", &receiver.url("/"), keys));
    gateway.accept(&alerts::ndjson(0..100));
    gateway.wait_for_state("siem", "config_failed");
    let before = receiver.count();
    eventually("probed three times more", || holds(receiver.count() >= before + 3));
    let lane = gateway.lane("siem");
    assert_eq!(lane["state"], "config_failed");
    assert!(Gateway::all_wait(&lane, 100), "{lane}");
    assert!(lane["reason"].as_str().unwrap().contains("404"), "{lane}");
    receiver.behave(|_| Reply::ok());
    gateway.wait_for_term("siem", "delivered", 100);
    gateway.finish();
}

#[test]
fn ten_refusals_over_three_rules_park_the_lane_and_give_its_events_back() {
    let receiver = Receiver::start(|_| Reply::text(400, "wrong tenant"));
    let keys = "concurrency = 1\nretry = { initial = \"20ms\", max = \"300ms\" }";
    let mut gateway = Gateway::start(Config::new().webhook("siem", &receiver.url("/"), keys));
    gateway.accept(&alerts::ndjson(0..40));
    gateway.wait_for_state("siem", "config_failed");
    let what = "took all its events back";
    gateway.wait_for_lane("siem", what, |lane| Gateway::all_wait(lane, 40));
    receiver.behave(|_| Reply::ok());
    gateway.wait_for_term("siem", "delivered", 40);
    gateway.finish();
}
