use super::*;
use crate::{
    http::fake::{Act, Fake, answer},
    message::samples,
    testing::{alert, build as build_kind, context, fault, shipment},
};

const KEY: &str = "0123456789abcdef0123456789abcdef";
const ACCEPTED: &str = r#"{"status":"success","message":"Event processed","dedup_key":"k1"}"#;

fn destination(fake: &Fake, more: &str) -> Arc<dyn Destination> {
    let table = format!("routing_key = \"{KEY}\"\nurl = \"{}/v2/enqueue\"\n{more}", fake.url);
    build_kind(&KIND, &table, &context()).unwrap()
}

async fn sent(more: &str, member: Member) -> Vec<Value> {
    let fake = Fake::start([Act::Say(answer("202 Accepted", "", ACCEPTED))]).await;
    destination(&fake, more).deliver(&shipment([member])).await.unwrap();
    let seen = fake.seen();
    assert!(seen.iter().all(|seen| seen.line == "POST /v2/enqueue HTTP/1.1"));
    assert!(seen.iter().all(|seen| seen.header("content-type") == Some("application/json")));
    seen.iter().map(|seen| serde_json::from_slice(&seen.body).unwrap()).collect()
}

/// What PagerDuty's schema `CreateAnEventRequestBody` demands of a trigger, in our words.
fn assert_valid_trigger(name: &str, body: &Value) {
    let chars = |value: &Value| value.as_str().map_or(0, |text| text.chars().count());
    assert_eq!(body["routing_key"], KEY, "{name}");
    assert_eq!(body["event_action"], "trigger", "{name}");
    assert!((1..=255).contains(&chars(&body["dedup_key"])), "{name}");
    let payload = &body["payload"];
    assert!((1..=1024).contains(&chars(&payload["summary"])), "{name}");
    assert!(chars(&payload["source"]) >= 1, "{name}");
    let words = ["critical", "error", "warning", "info"];
    assert!(words.contains(&payload["severity"].as_str().unwrap()), "{name}");
    assert!(payload["custom_details"].is_object(), "{name}");
    assert!(payload.as_object().unwrap().values().all(|value| !value.is_null()), "{name}");
    assert!(body.to_string().len() <= 512_000, "{name}");
}

#[tokio::test]
async fn every_sample_is_a_valid_trigger() {
    for (name, member) in samples::all() {
        let bodies = sent("", member).await;
        assert_eq!(bodies.len(), 1);
        assert_valid_trigger(&name, &bodies[0]);
    }
    assert_valid_trigger("hostile", &sent("", samples::hostile()).await[0]);
    let huge = format!(r#"{{"rule":{{"level":12}},"full_log":"{}"}}"#, "x".repeat(900_000));
    let body = &sent("", alert(1, huge)).await[0];
    assert_valid_trigger("huge", body);
    assert_eq!(
        body["payload"]["custom_details"]["alert"],
        "left out for its length; event abcdefghij-1"
    );
}

#[tokio::test]
async fn every_try_has_the_same_dedup_key_and_the_receipt_has_theirs() {
    let fake = Fake::start([Act::Say(answer("202 Accepted", "", ACCEPTED))]).await;
    let destination = destination(&fake, "");
    let shipment = shipment([alert(7, r#"{"rule":{"level":12,"description":"door"}}"#)]);
    for _ in 0..2 {
        let Delivered::All(receipt) = destination.deliver(&shipment).await.unwrap() else {
            panic!("one event has one answer")
        };
        assert_eq!(receipt.remote_id.as_deref(), Some("k1"));
    }
    let seen = fake.seen();
    assert_eq!(seen[0].body, seen[1].body);
    let body: Value = serde_json::from_slice(&seen[0].body).unwrap();
    assert_eq!(body["dedup_key"], "abcdefghij-7.lane");
    assert_eq!(body["payload"]["severity"], "error");
    assert_eq!(body["payload"]["summary"], "door");
}

#[tokio::test]
async fn a_resolving_rule_resolves_what_the_problem_opened() {
    let settings = "group = \"problem\"\nresolved_by = { \"504\" = \"503\" }";
    let with_rule = |rule: &str| {
        alert(1, format!(r#"{{"rule":{{"id":"{rule}","level":3}},"agent":{{"id":"001"}}}}"#))
    };
    let open = &sent(settings, with_rule("504")).await[0];
    let close = &sent(settings, with_rule("503")).await[0];
    let expected = json!({
        "routing_key": KEY, "event_action": "resolve", "dedup_key": open["dedup_key"],
    });
    assert_eq!(close, &expected);
}

#[tokio::test]
async fn each_answer_has_its_meaning() {
    let wrong_key =
        r#"{"status":"invalid event","errors":["Length of 'routing_key' is incorrect"]}"#;
    let invalid = r#"{"status":"invalid event","errors":["'payload.severity' is invalid"]}"#;
    #[rustfmt::skip]
    let table = [
        ("400 Bad Request", wrong_key, Reason::Unauthorized),
        ("400 Bad Request", "Invalid routing key", Reason::Unauthorized),
        ("400 Bad Request", invalid, Reason::Refused),
        ("413 Too Large", "", Reason::TooLarge),
        ("429 Too Many Requests", "", Reason::Throttled),
        ("500 Internal Server Error", "", Reason::ServerFault),
        ("301 Moved Permanently", "", Reason::Misconfigured),
    ];
    for (status, body, expected) in table {
        let fake = Fake::start([Act::Say(answer(status, "", body))]).await;
        let shipment = shipment([alert(1, "{}")]);
        let error = destination(&fake, "").deliver(&shipment).await.unwrap_err();
        assert_eq!(error.reason, expected, "{status} {body}");
    }
}

#[tokio::test]
async fn a_key_that_the_answer_repeats_is_masked() {
    let body = format!("no such routing key {KEY}");
    let fake = Fake::start([Act::Say(answer("400 Bad Request", "", &body))]).await;
    let result = destination(&fake, "").deliver(&shipment([alert(1, "{}")])).await;
    assert_eq!(result.unwrap_err().excerpt, "no such routing key [masked]");
}

#[test]
fn a_rest_api_key_is_told_from_a_routing_key() {
    let problem = fault(&KIND, "routing_key = \"01234567890123456789\"", &context());
    assert!(problem.contains("it has 20 characters"), "{problem}");
    assert!(!problem.contains("0123"), "{problem}");
}
