//! `GET /v1/alerts/{id}`: where an event stands, lane by lane.

use serde_json::{Value, json};

use crate::support::{Config, Gateway, Receiver, Reply, alerts};

fn far_end() -> Receiver {
    Receiver::start(|request| match request.path.as_str() {
        "/down" => Reply::text(503, "maintenance until noon"),
        "/picky" => Reply::text(400, "no such field"),
        _ => Reply::ok(),
    })
}

fn lanes(receiver: &Receiver) -> Config {
    let never = "retry = { initial = \"1h\", max = \"1h\" }";
    Config::new()
        .webhook("siem", &receiver.url("/siem"), "")
        .webhook("down", &receiver.url("/down"), never)
        .webhook("picky", &receiver.url("/picky"), "")
        .webhook("quiet", &receiver.url("/quiet"), "when = { level = 16 }")
        .webhook("held", &receiver.url("/held"), "")
}

/// The entry of one lane.
#[track_caller]
fn step<'a>(timeline: &'a Value, lane: &str) -> &'a Value {
    let steps = timeline["timeline"].as_array().expect("a timeline");
    let found = steps.iter().find(|step| step["destination"] == lane);
    found.unwrap_or_else(|| panic!("nothing of {lane}: {timeline:#}"))
}

#[track_caller]
fn timeline(gateway: &Gateway, id: &str) -> Value {
    let answer = gateway.get(&format!("/v1/alerts/{id}"));
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

fn settled(gateway: &Gateway) {
    gateway.wait_for_term("siem", "delivered", 1);
    gateway.wait_for_term("down", "retrying", 1);
    gateway.wait_for_term("picky", "dead", 1);
    passed_over(gateway);
}

/// What Holdfast says about its lanes is filtered as well.
fn passed_over(gateway: &Gateway) {
    gateway.wait_for_lane("quiet", "filtered it", |lane| {
        let ledger = &lane["ledger"];
        ledger["filtered"].as_u64() >= Some(1) && ledger["pending"] == 0
    });
}

#[test]
fn a_timeline_says_where_an_event_stands_in_every_lane() {
    let receiver = far_end();
    let mut gateway = Gateway::start(lanes(&receiver).queue("reserve = \"1MiB\""));
    assert_eq!(gateway.post("/v1/destinations/held/pause", &json!({})).status, 200);
    let id = gateway.accept(&alerts::ndjson([7]))["first"].as_str().unwrap().to_owned();
    settled(&gateway);
    for _ in 0..2 {
        let shown = timeline(&gateway, &id);
        assert_eq!(shown["event"]["id"], id.as_str());
        assert_eq!(shown["event"]["alert"]["number"], 7);
        assert_eq!(shown["timeline"].as_array().unwrap().len(), 5, "{shown:#}");
        for (lane, state) in [
            ("siem", "settled"),
            ("down", "retrying"),
            ("picky", "dead"),
            ("quiet", "filtered"),
            ("held", "unread"),
        ] {
            let step = step(&shown, lane);
            assert_eq!(
                (&step["state"], &step["type"]),
                (&json!(state), &json!("webhook")),
                "{step}"
            );
            assert_eq!(step["key"], format!("{id}.{lane}"));
        }
        let down = step(&shown, "down");
        assert_eq!((&down["tries"], &down["attempts"][0]["n"]), (&json!(1), &json!(1)), "{down}");
        assert_eq!(down["attempts"][0]["outcome"], "server_error");
        assert_eq!(down["attempts"][0]["status"], 503);
        let excerpt = down["attempts"][0]["excerpt"].as_str().unwrap();
        assert!(excerpt.contains("maintenance until noon"), "{excerpt}");
        assert!(down["next_try_at"].is_string() && down["died_at"].is_null(), "{down}");
        let picky = step(&shown, "picky");
        assert_eq!(
            (&picky["reason"], &picky["attempts"][0]["status"]),
            (&json!("refused"), &json!(400))
        );
        assert!(picky["died_at"].is_string());
        gateway.kill();
        gateway.restart();
        passed_over(&gateway);
    }
    let (log, seq) = id.split_once('-').unwrap();
    let next = seq.parse::<u64>().unwrap() + 1_000;
    for unknown in [
        format!("{log}-{next}"),
        format!("{log}-{}", u64::MAX),
        format!("{log}-0"),
        format!("0000000000-{seq}"),
        "nonsense".to_owned(),
    ] {
        let answer = gateway.get(&format!("/v1/alerts/{unknown}"));
        assert_eq!((answer.status, answer.problem().as_str()), (404, "not-found"), "{unknown}");
    }
    gateway.finish();
}

#[test]
fn an_event_that_the_log_has_passed_is_shown_from_the_record_that_keeps_it() {
    let receiver = far_end();
    let config = Config::new().webhook("siem", &receiver.url("/siem"), "").webhook(
        "picky",
        &receiver.url("/picky"),
        "",
    );
    let mut gateway = Gateway::start(config);
    let id = gateway.accept(&alerts::ndjson([3]))["first"].as_str().unwrap().to_owned();
    gateway.wait_for_term("siem", "delivered", 1);
    gateway.wait_for_term("picky", "dead", 1);
    crate::support::eventually("the log is trimmed", || {
        let metrics = gateway.get("/metrics").text;
        metrics.lines().any(|line| line == "holdfast_log_events 0").then_some(())
    });
    let shown = timeline(&gateway, &id);
    assert_eq!(shown["event"]["alert"]["number"], 3);
    assert_eq!(step(&shown, "picky")["state"], "dead");
    assert_eq!(step(&shown, "siem")["state"], "settled");
    let dead = gateway.call("DELETE", &format!("/v1/dead-letters/{id}.picky")).send().unwrap();
    assert_eq!(dead.status, 204, "{}", dead.text);
    // Memory may still hold it, but nothing else.
    gateway.kill();
    gateway.restart();
    assert_eq!(gateway.get(&format!("/v1/alerts/{id}")).status, 404, "nothing has it any more");
    gateway.finish();
}

#[test]
fn a_bad_line_is_found_by_its_id_too() {
    let mut gateway = Gateway::start(Config::new());
    let call = gateway.call("POST", "/v1/alerts?on_invalid=dead_letter").ndjson("nonsense\n");
    assert_eq!(call.send().unwrap().json()["rejected"], 1);
    let letter = gateway.dead_letters("").remove(0);
    let id = letter["event"]["id"].as_str().unwrap();
    let shown = timeline(&gateway, id);
    let step = step(&shown, "source.http");
    assert_eq!((&step["state"], &step["reason"]), (&json!("dead"), &json!("invalid")), "{step}");
    assert!(step["note"].as_str().unwrap().contains("line 1"), "{step}");
    gateway.finish();
}
