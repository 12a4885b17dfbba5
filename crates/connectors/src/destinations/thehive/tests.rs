use serde_json::json;

use super::*;
use crate::{
    http::fake::{Act, Fake, answer},
    message::samples,
    testing::{alert, build as build_kind, context, fault, shipment},
};

const KEY: &str = "0123456789abcdef0123456789abcdef";
const CREATED: &str = r#"{"_id":"~987889880","_type":"Alert"}"#;
const EXISTS: &str = r#"{"type":"CreateError","message":"Alert wazuh:holdfast:k already exist in organisation soc"}"#;
const OBSERVABLE: &str = r#"{"type":"CreateError","message":"Observable already exists"}"#;
const WITH_IP: &str = r#"{"data":{"srcip":"203.0.113.9"}}"#;

fn destination(fake: &Fake, more: &str) -> Arc<dyn Destination> {
    let table = format!("url = \"{}/hive/\"\napi_key = \"{KEY}\"\n{more}", fake.url);
    build_kind(&KIND, &table, &context()).unwrap()
}

fn says(status: &str, body: &str) -> Act {
    Act::Say(answer(status, "", body))
}

async fn sent(more: &str, member: holdfast_model::Member) -> Value {
    let fake = Fake::start([says("201 Created", CREATED)]).await;
    destination(&fake, more).deliver(&shipment([member])).await.unwrap();
    serde_json::from_slice(&fake.only().body).unwrap()
}

async fn outcome(acts: Vec<Act>, body: &str) -> (Result<Receipt, DeliveryError>, Vec<Value>) {
    let fake = Fake::start(acts).await;
    let result = destination(&fake, "").deliver(&shipment([alert(1, body.to_owned())])).await;
    let bodies =
        fake.seen().iter().map(|seen| serde_json::from_slice(&seen.body).unwrap()).collect();
    let result = result.map(|delivered| match delivered {
        Delivered::All(receipt) => receipt,
        Delivered::Each(_) => panic!("one event has one answer"),
    });
    (result, bodies)
}

/// TheHive's schema `InputCreateAlert`, in our words.
fn assert_valid(name: &str, body: &Value) {
    let known = [
        "type",
        "source",
        "sourceRef",
        "title",
        "description",
        "severity",
        "date",
        "tlp",
        "pap",
        "tags",
        "observables",
    ];
    assert!(body.as_object().unwrap().keys().all(|key| known.contains(&key.as_str())), "{name}");
    let chars = |value: &Value| value.as_str().unwrap().chars().count();
    assert!((1..=32).contains(&chars(&body["type"])), "{name}");
    assert!((1..=32).contains(&chars(&body["source"])), "{name}");
    assert!((1..=128).contains(&chars(&body["sourceRef"])), "{name}");
    assert!((1..=512).contains(&chars(&body["title"])), "{name}");
    assert!((1..=1_048_576).contains(&chars(&body["description"])), "{name}");
    assert!((1..=4).contains(&body["severity"].as_u64().unwrap()), "{name}");
    assert!(body["date"].as_u64().unwrap() > 1_500_000_000_000, "{name}: milliseconds");
    assert!(body["tlp"].as_u64().unwrap() <= 4 && body["pap"].as_u64().unwrap() <= 3, "{name}");
    let tags = body["tags"].as_array().unwrap();
    assert!(tags.iter().all(|tag| (1..=128).contains(&chars(tag))), "{name}");
    let unique: std::collections::HashSet<_> = tags.iter().map(|tag| tag.as_str()).collect();
    assert_eq!(unique.len(), tags.len(), "{name}");
    let mut seen = std::collections::HashSet::new();
    for observable in body["observables"].as_array().unwrap_or(&Vec::new()) {
        let kind = observable["dataType"].as_str().unwrap();
        assert!(["ip", "hash", "filename", "url"].contains(&kind), "{name}");
        assert!((1..=4096).contains(&chars(&observable["data"])), "{name}");
        assert!(seen.insert((kind, observable["data"].as_str())), "{name}: twice");
    }
}

#[tokio::test]
async fn every_sample_is_a_valid_alert() {
    for (name, member) in samples::all() {
        assert_valid(&name, &sent("", member).await);
    }
    assert_valid("hostile", &sent("", samples::hostile()).await);
    assert_valid("empty", &sent("template = \"\"", alert(1, "")).await);
}

#[tokio::test]
async fn an_alert_is_this_and_every_try_is_the_same() {
    let fake = Fake::start([says("201 Created", CREATED)]).await;
    let destination = destination(&fake, "organisation = \"soc\"");
    let body = r#"{"timestamp":"2026-03-10T06:02:17.173+00:00","rule":{"id":"5712","level":10,
        "description":"a|b","groups":["sshd"],"mitre":{"id":["T1110"]}},"agent":{"name":"web"},
        "data":{"srcip":"203.0.113.9","src_ip":"203.0.113.9"}}"#;
    let shipment = shipment([alert(7, body)]);
    for _ in 0..2 {
        let Delivered::All(receipt) = destination.deliver(&shipment).await.unwrap() else {
            panic!("one event has one answer")
        };
        assert_eq!(receipt.remote_id.as_deref(), Some("~987889880"));
        assert!(!receipt.duplicate);
    }
    let seen = fake.seen();
    assert_eq!(seen[0].body, seen[1].body);
    assert_eq!(seen[0].line, "POST /hive/api/v1/alert HTTP/1.1");
    assert_eq!(seen[0].header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert_eq!(seen[0].header("x-organisation"), Some("soc"));
    let mut body: Value = serde_json::from_slice(&seen[0].body).unwrap();
    let text = body["description"].take();
    assert!(text.as_str().unwrap().starts_with("**a\\|b on web**\n\n| Field | Value |\n"));
    let expected = json!({
        "type": "wazuh", "source": "holdfast", "sourceRef": "abcdefghij-7.lane",
        "title": "a|b on web", "description": null, "severity": 3, "date": 1_773_122_537_173_u64,
        "tlp": 2, "pap": 2,
        "tags": ["agent:web", "holdfast:abcdefghij-7", "mitre:T1110", "rule:5712", "sshd", "wazuh"],
        "observables": [{
            "dataType": "ip", "data": "203.0.113.9", "message": "data.srcip", "tlp": 2, "pap": 2,
        }],
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn version_4_has_its_own_form_and_numbers() {
    let fake = Fake::start([says("201 Created", r#"{"id":"~1"}"#)]).await;
    let destination = destination(&fake, "version = \"4\"\ntlp = \"red\"");
    destination.deliver(&shipment([alert(1, WITH_IP)])).await.unwrap();
    let seen = fake.only();
    assert_eq!(seen.line, "POST /hive/api/alert HTTP/1.1");
    assert_eq!(seen.header("x-organisation"), None);
    let body: Value = serde_json::from_slice(&seen.body).unwrap();
    assert_eq!(body["tlp"], 3);
    assert_eq!(body["artifacts"][0]["data"], "203.0.113.9");
    assert!(body.get("observables").is_none());
    assert_eq!(sent("tlp = \"red\"", alert(1, "{}")).await["tlp"], 4);
}

#[tokio::test]
async fn what_exists_already_is_delivered() {
    let conflict = r#"{"type":"ConflictError","message":"[alert][x]: version conflict, document already exists (current version [1])"}"#;
    for (status, body) in
        [("400 Bad Request", EXISTS), ("409 Conflict", EXISTS), ("400 Bad Request", conflict)]
    {
        let (result, bodies) = outcome(vec![says(status, body)], WITH_IP).await;
        let receipt = result.unwrap();
        assert!(receipt.duplicate && bodies.len() == 1, "{status} {body}");
    }
}

#[tokio::test]
async fn observables_that_are_not_taken_do_not_cost_the_alert() {
    let unknown = r#"{"type":"NotFoundError","message":"ObservableType ip not found"}"#;
    for (status, body) in [("400 Bad Request", OBSERVABLE), ("404 Not Found", unknown)] {
        let (result, bodies) =
            outcome(vec![says(status, body), says("201 Created", CREATED)], WITH_IP).await;
        let receipt = result.unwrap();
        assert!(!receipt.duplicate, "an observable that exists is not an alert that exists");
        assert_eq!(bodies.len(), 2);
        assert!(bodies[1].get("observables").is_none());
        assert_eq!(bodies[0]["sourceRef"], bodies[1]["sourceRef"]);
    }
    let (result, bodies) = outcome(vec![says("400 Bad Request", OBSERVABLE)], "{}").await;
    assert_eq!((result.unwrap_err().reason, bodies.len()), (Reason::Refused, 1));
}

#[tokio::test]
async fn each_answer_has_its_meaning() {
    let invalid = r#"{"type":"AttributeCheckingError","errors":[]}"#;
    #[rustfmt::skip]
    let table = [
        ("200 OK", "<html>log in</html>", Reason::BadAnswer),
        ("201 Created", "{}", Reason::BadAnswer),
        ("400 Bad Request", invalid, Reason::Refused),
        ("401 Unauthorized", r#"{"type":"AuthenticationError","message":"x"}"#, Reason::Unauthorized),
        ("402 Payment Required", r#"{"type":"MultiFactorCodeRequired"}"#, Reason::Misconfigured),
        ("403 Forbidden", r#"{"type":"AuthorizationError"}"#, Reason::Forbidden),
        ("404 Not Found", r#"{"type":"NotFoundError"}"#, Reason::Misconfigured),
        ("409 Conflict", "{}", Reason::ServerFault),
        ("413 Too Large", "", Reason::TooLarge),
        ("429 Too Many Requests", "", Reason::Throttled),
        ("500 Internal Server Error", r#"{"type":"InternalError"}"#, Reason::ServerFault),
        ("503 Unavailable", "", Reason::ServerFault),
        ("302 Found", "", Reason::Misconfigured),
    ];
    for (status, body, expected) in table {
        let (result, _) = outcome(vec![says(status, body)], "{}").await;
        assert_eq!(result.unwrap_err().reason, expected, "{status} {body}");
    }
}

#[tokio::test]
async fn a_key_that_the_answer_repeats_is_masked() {
    let (result, _) = outcome(vec![says("401 Unauthorized", &format!("bad {KEY}"))], "{}").await;
    assert_eq!(result.unwrap_err().excerpt, "bad [masked]");
}

#[tokio::test]
async fn the_check_asks_who_we_are() {
    let fake = Fake::start([says("200 OK", "{}"), says("401 Unauthorized", "")]).await;
    let destination = destination(&fake, "");
    assert!(destination.check().await.unwrap().is_ok());
    let seen = fake.only();
    assert_eq!(seen.line, "GET /hive/api/v1/user/current HTTP/1.1");
    assert!(seen.body.is_empty());
    assert_eq!(destination.check().await.unwrap().unwrap_err().reason, Reason::Unauthorized);
}

#[test]
fn what_cannot_work_is_a_fault() {
    let with = |more: &str| {
        fault(&KIND, &format!("url = \"https://h\"\napi_key = \"k\"\n{more}"), &context())
    };
    let problem = with("version = \"5.1\"\ntlp = \"amber+strict\"");
    assert!(problem.contains("TheHive 5.1 does not know"), "{problem}");
    assert!(with("organisation = \"\"").contains("1 to 128"));
    assert!(with("source = \"\"").contains("1 to 32"));
}
