//! Named readers: what they are given, when it comes again, and what holds the log.

use serde_json::{Value, json};

use super::{ack, ids, kept, made, next, numbers, ok, put};
use crate::support::{Config, Gateway, Receiver, alerts, eventually, http::Call, wait::holds};

#[test]
fn an_event_comes_again_only_when_it_was_not_acknowledged_and_kill_9_changes_nothing() {
    let mut gateway = Gateway::start(kept());
    gateway.accept(&alerts::ndjson(0..10));
    let view = made(&gateway, "siem", &json!({"ack_wait": "12h"}));
    assert_eq!(
        (&view["lag"], &view["unread"], &view["in_flight"]),
        (&10.into(), &10.into(), &0.into())
    );
    let page = next(&gateway, "siem", "limit=6");
    assert_eq!((numbers(&page), &page["redelivered"]), ((0..6).collect(), &0.into()));
    let done = json!({ "ids": [page["data"][1]["id"], page["data"][3]["id"]] });
    assert_eq!(ack(&gateway, "siem", &done)["count"], 2);
    assert_eq!(ack(&gateway, "siem", &done)["count"], 0, "once is enough");
    gateway.kill();
    gateway.restart();
    // Those of its hand that were not acknowledged come first, then the rest.
    let page = next(&gateway, "siem", "limit=7");
    assert_eq!((numbers(&page), &page["redelivered"]), (vec![0, 2, 4, 5, 6, 7, 8], &4.into()));
    let back = json!({ "ids": [page["data"][2]["id"], page["data"][5]["id"]] });
    assert_eq!(ok(gateway.post("/v1/consumers/siem/nack", &back))["count"], 2);
    let again = next(&gateway, "siem", "limit=2");
    assert_eq!((numbers(&again), &again["redelivered"]), (vec![4, 7], &2.into()));
    // All up to a place, and nothing behind it.
    assert_eq!(ack(&gateway, "siem", &json!({"up_to": page["data"][4]["cursor"]}))["count"], 5);
    gateway.kill();
    gateway.restart();
    let rest = next(&gateway, "siem", "");
    assert_eq!(numbers(&rest), [7, 8, 9]);
    ack(&gateway, "siem", &json!({"up_to": rest["next_cursor"]}));
    let view = ok(gateway.get("/v1/consumers/siem"));
    assert_eq!((&view["lag"], &view["position"]), (&0.into(), &rest["next_cursor"]));
    assert!((gateway.metric("holdfast_consumer_lag_events{consumer=\"siem\"}") - 0.0).abs() < 0.5);
    gateway.finish();
}

#[test]
fn an_event_that_nobody_acknowledged_in_time_comes_to_who_waits_for_it() {
    let mut gateway = Gateway::start(kept());
    gateway.accept(&alerts::ndjson(0..2));
    made(&gateway, "siem", &json!({"ack_wait": "100ms", "max_in_flight": 2}));
    assert_eq!(numbers(&next(&gateway, "siem", "")), [0, 1]);
    gateway.accept(&alerts::ndjson(2..3));
    let page = next(&gateway, "siem", "wait=60s");
    assert_eq!((numbers(&page), &page["redelivered"]), (vec![0, 1], &2.into()));
    // The hand is full, so what is new waits for an acknowledgement.
    ack(&gateway, "siem", &json!({"ids": [page["data"][0]["id"]]}));
    let taken = next(&gateway, "siem", "wait=60s&limit=3");
    assert!(numbers(&taken).contains(&2), "{taken}");
    gateway.finish();
}

#[test]
fn a_consumer_gets_what_its_filter_passes_and_only_the_fields_it_asks_for() {
    let mut gateway = Gateway::start(kept());
    let alert = |n: u64, level: u64| {
        format!(
            "{{\"number\":{n},\"rule\":{{\"id\":\"5710\",\"level\":{level}}},\"agent\":{{\"id\":\"001\"}}}}\n"
        )
    };
    let batch: String = (0..9).map(|n| alert(n, n)).collect();
    gateway.accept(&batch);
    made(&gateway, "high", &json!({"when": {"level": 7}}));
    let page = next(&gateway, "high", "fields=number,rule.level");
    assert_eq!(numbers(&page), [7, 8]);
    assert_eq!(page["data"][0]["alert"], json!({"number": 7, "rule": {"level": 7}}));
    ack(&gateway, "high", &ids(&page));
    // Another filter goes on from the same place.
    assert_eq!(put(&gateway, "high", &json!({"when": {"level": 3}})).status, 200);
    gateway.accept(&batch);
    assert_eq!(numbers(&next(&gateway, "high", "")), [3, 4, 5, 6, 7, 8]);
    let back = gateway.post("/v1/consumers/high/seek", &json!({"start": "oldest"}));
    assert_eq!(ok(back)["in_flight"], 0);
    assert_eq!(numbers(&next(&gateway, "high", "limit=3")), [3, 4, 5]);
    ok(gateway.post("/v1/consumers/high/seek", &json!({"start": "newest"})));
    assert_eq!(numbers(&next(&gateway, "high", "")), [] as [u64; 0]);
    let cursor = page["data"][0]["cursor"].clone();
    ok(gateway.post("/v1/consumers/high/seek", &json!({ "cursor": cursor })));
    assert_eq!(numbers(&next(&gateway, "high", "limit=1")), [8]);
    let future = json!({"since": "2999-01-01T00:00:00Z"});
    ok(gateway.post("/v1/consumers/high/seek", &future));
    assert_eq!(numbers(&next(&gateway, "high", "")), [] as [u64; 0]);
    ok(gateway.post("/v1/consumers/high/seek", &json!({"since": "2000-01-01T00:00:00Z"})));
    assert_eq!(numbers(&next(&gateway, "high", "limit=1")), [3]);
    gateway.finish();
}

#[test]
fn the_log_waits_for_a_consumer_that_holds_and_a_removed_one_frees_it() {
    let receiver = Receiver::willing();
    // Without retention only the consumer keeps anything.
    let config = Config::new().webhook("siem", &receiver.url("/"), "");
    let mut gateway = Gateway::start(config);
    made(&gateway, "archive", &json!({"hold": true}));
    made(&gateway, "late", &json!({}));
    gateway.accept(&alerts::ndjson(0..200));
    gateway.wait_for_term("siem", "delivered", 200);
    gateway.kill();
    gateway.restart();
    let page = next(&gateway, "archive", "limit=1000");
    assert_eq!(numbers(&page), (0..200).collect::<Vec<_>>());
    let removed = gateway.call("DELETE", "/v1/consumers/archive").send().unwrap();
    assert_eq!(removed.status, 204);
    eventually("the log is trimmed", || holds(gateway.metric("holdfast_log_events") < 0.5));
    gateway.kill();
    gateway.restart();
    // What retention has passed is not skipped in silence.
    let answer = gateway.get("/v1/consumers/late/next");
    if answer.status == 200 {
        assert_eq!(answer.json()["data"], json!([]), "{}", answer.text);
    }
    gateway.accept(&alerts::ndjson(200..201));
    let answer = gateway.get("/v1/consumers/late/next");
    assert_eq!(answer.status, 410, "{}", answer.text);
    assert_eq!(answer.json()["type"], "/problems/cursor-expired");
    let on = json!({ "cursor": answer.json()["oldest_cursor"] });
    ok(gateway.post("/v1/consumers/late/seek", &on));
    gateway.finish();
}

#[test]
fn what_makes_no_sense_is_refused_with_its_key() {
    let mut gateway = Gateway::start(kept());
    gateway.accept(&alerts::ndjson(0..2));
    for (body, key) in [
        (json!({"max_in_flight": 0}), "max_in_flight"),
        (json!({"max_in_flight": 1001}), "max_in_flight"),
        (json!({"ack_wait": "1ms"}), "ack_wait"),
        (json!({"ack_wait": 5}), "string"),
        (json!({"when": {"level": "high"}}), "level"),
        (json!({"when": {"levle": 1}}), "levle"),
        (json!({"start": "now"}), "start"),
        (json!({"start": "oldest", "cursor": "x"}), "one of"),
        (json!({"cursor": "!!"}), "cursor"),
        (json!({"since": "noon"}), "since"),
        (json!({"hodl": true}), "hodl"),
    ] {
        let answer = put(&gateway, "siem", &body);
        assert_eq!(answer.status, 400, "{body}: {}", answer.text);
        assert!(answer.text.contains(key), "{body}: {}", answer.text);
    }
    assert_eq!(put(&gateway, "No%20Name", &json!({})).status, 400);
    made(&gateway, "siem", &json!({}));
    for (action, body) in [
        ("ack", json!({})),
        ("ack", json!({"ids": [], "up_to": "x"})),
        ("ack", json!({"ids": ["abcdefghij-1"]})),
        ("ack", json!({"up_to": "!!"})),
        ("nack", json!({})),
        ("nack", json!({"ids": [], "delay": "1y"})),
        ("seek", json!({})),
    ] {
        let answer = gateway.post(&format!("/v1/consumers/siem/{action}"), &body);
        assert_eq!(answer.status, 400, "{action} {body}: {}", answer.text);
    }
    for path in ["/v1/consumers/siem/next?limit=0", "/v1/consumers/siem/next?level=3"] {
        assert_eq!(gateway.get(path).status, 400, "{path}");
    }
    assert_eq!(gateway.get("/v1/consumers/nobody/next").status, 404);
    for number in 1..100 {
        made(&gateway, &format!("c{number}"), &json!({}));
    }
    assert_eq!(put(&gateway, "one-more", &json!({})).status, 409);
    assert_eq!(ok(gateway.get("/v1/consumers"))["data"].as_array().map(Vec::len), Some(100));
    gateway.finish();
}

#[test]
fn a_consumer_is_its_makers_and_only_an_administrator_may_hold_the_log() {
    let config = kept().server(
        "tokens = [{ name = \"a\", role = \"admin\", token = \"it-admin-token-0123456789abcdef\" }, \
         { name = \"r\", role = \"read\", token = \"it-read-token-0123456789abcdef\" }, \
         { name = \"s\", role = \"read\", token = \"it-other-token-0123456789abcdef\" }]",
    );
    let mut gateway = Gateway::start(config);
    "it-admin-token-0123456789abcdef".clone_into(&mut gateway.token);
    let (one, other) = ("it-read-token-0123456789abcdef", "it-other-token-0123456789abcdef");
    let status = |token: &str, method: &str, path: &str, body: &Value| {
        let call = Call::new(gateway.port, method, &format!("/v1/consumers/{path}"));
        let call = call.bearer(token).body("application/json", body.to_string());
        call.send().unwrap().status
    };
    assert_eq!(status(one, "PUT", "siem", &json!({"hold": true})), 403);
    assert_eq!(status(one, "PUT", "siem", &json!({})), 201);
    for (method, path, body) in [
        ("PUT", "siem", json!({})),
        ("GET", "siem/next", json!({})),
        ("POST", "siem/ack", json!({"ids": []})),
        ("POST", "siem/nack", json!({"ids": []})),
        ("POST", "siem/seek", json!({"start": "newest"})),
        ("DELETE", "siem", json!({})),
    ] {
        assert_eq!(status(other, method, path, &body), 403, "{method} {path}");
        if method != "DELETE" {
            assert_eq!(status(one, method, path, &body), 200, "{method} {path}");
        }
    }
    assert_eq!(status(other, "GET", "siem", &json!({})), 200, "everybody may look");
    assert_eq!(put(&gateway, "siem", &json!({"hold": true})).status, 200);
    assert_eq!(ok(gateway.get("/v1/consumers/siem"))["owner"], "r");
    assert_eq!(status(one, "DELETE", "siem", &json!({})), 204);
    gateway.finish();
}

#[test]
fn the_command_line_lists_moves_and_removes_consumers() {
    let mut gateway = Gateway::start(kept());
    gateway.accept(&alerts::ndjson(0..3));
    assert_eq!(gateway.cli(&["consumers", "list"]).out.trim(), "no consumers");
    made(&gateway, "siem", &json!({"when": {"level": 1}}));
    let said = gateway.cli(&["consumers", "list"]);
    assert!(said.out.contains("siem") && said.out.contains("{\"level\":1}"), "{}", said.out);
    let said = gateway.cli(&["consumers", "seek", "siem", "newest", "--json"]);
    let view: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(view["unread"], 0);
    let said = gateway.cli(&["consumers", "seek", "siem", "2000-01-01T00:00:00Z"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(gateway.cli(&["consumers", "show", "siem"]).code, Some(0));
    assert_ne!(gateway.cli(&["consumers", "seek", "siem", "soon"]).code, Some(0));
    assert_eq!(gateway.cli(&["consumers", "remove", "siem"]).code, Some(0));
    assert_ne!(gateway.cli(&["consumers", "show", "siem"]).code, Some(0));
    gateway.finish();
}
