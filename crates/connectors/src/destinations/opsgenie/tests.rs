use super::*;
use crate::{
    http::fake::{Act, Fake, Seen, answer},
    message::samples,
    testing::{alert, build as build_kind, context, fault, shipment},
};

const KEY: &str = "00000000-1111-2222-3333-444444444444";
const ACCEPTED: &str = r#"{"result":"Request will be processed","took":0.1,"requestId":"r-1"}"#;

fn destination(fake: &Fake, more: &str) -> Arc<dyn Destination> {
    let table = format!("api_key = \"{KEY}\"\nurl = \"{}/v2/alerts\"\n{more}", fake.url);
    build_kind(&KIND, &table, &context()).unwrap()
}

async fn sent(more: &str, member: Member) -> Seen {
    let fake = Fake::start([Act::Say(answer("202 Accepted", "", ACCEPTED))]).await;
    let delivered = destination(&fake, more).deliver(&shipment([member])).await.unwrap();
    let Delivered::All(receipt) = delivered else { panic!("one event has one answer") };
    assert_eq!(receipt.remote_id.as_deref(), Some("r-1"));
    let seen = fake.only();
    assert_eq!(seen.header("authorization"), Some(format!("GenieKey {KEY}").as_str()));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    seen
}

fn json_of(seen: &Seen) -> Value {
    serde_json::from_slice(&seen.body).unwrap()
}

/// What Opsgenie's schema `CreateAlertPayload` and its documented limits demand.
fn assert_valid(name: &str, body: &Value) {
    let fields = body.as_object().unwrap();
    let known = [
        "message",
        "alias",
        "description",
        "responders",
        "visibleTo",
        "actions",
        "tags",
        "details",
        "entity",
        "priority",
        "user",
        "note",
        "source",
    ];
    assert!(fields.keys().all(|key| known.contains(&key.as_str())), "{name}");
    let within = |key: &str, least: usize, most: usize| {
        let chars = body[key].as_str().unwrap().chars().count();
        assert!((least..=most).contains(&chars), "{name}: {key} has {chars}");
    };
    within("message", 1, 130);
    within("alias", 1, 512);
    within("description", 1, 15_000);
    if fields.contains_key("entity") {
        within("entity", 0, 512);
    }
    let tags = body["tags"].as_array().unwrap();
    assert!(tags.len() <= 20, "{name}");
    for tag in tags {
        assert!((1..=50).contains(&tag.as_str().unwrap().chars().count()), "{name}");
    }
    let details = body["details"].as_object().unwrap();
    let chars = |text: &str| text.chars().count();
    let total: usize =
        details.iter().map(|(key, value)| chars(key) + chars(value.as_str().unwrap())).sum();
    assert!(total <= 8000, "{name}: {total}");
    let words = ["P1", "P2", "P3", "P4", "P5"];
    assert!(words.contains(&body["priority"].as_str().unwrap()), "{name}");
}

#[tokio::test]
async fn every_sample_is_a_valid_alert() {
    let hostile = ("hostile".to_owned(), samples::hostile());
    for (name, member) in samples::all().into_iter().chain([hostile]) {
        let seen = sent("tags = [\"wazuh\"]\nresponders = [\"team:SOC\"]", member).await;
        assert_eq!(seen.line, "POST /v2/alerts HTTP/1.1");
        assert_valid(&name, &json_of(&seen));
    }
    let template = format!("template = \"{}\"", "é".repeat(16_000));
    assert_valid("long", &json_of(&sent(&template, alert(1, "{}")).await));
}

#[tokio::test]
async fn every_try_has_the_same_bytes_and_alias() {
    let door = || alert(7, r#"{"rule":{"level":12,"description":"door","groups":["a","a"]}}"#);
    let settings = "responders = [\"team:SOC\", \"user:a@b.c\"]";
    let first = sent(settings, door()).await;
    let again = Member { attempt: 2, in_doubt: true, ..door() };
    assert_eq!(first.body, sent(settings, again).await.body);
    let body = json_of(&first);
    assert_eq!(body["alias"], "abcdefghij-7.lane");
    assert_eq!(body["priority"], "P2");
    assert_eq!(body["message"], "door");
    assert_eq!(body["tags"], json!(["a"]));
    let responders =
        json!([{ "type": "team", "name": "SOC" }, { "type": "user", "username": "a@b.c" }]);
    assert_eq!(body["responders"], responders);
    assert_eq!(body["details"]["Event"], "abcdefghij-7");
}

#[tokio::test]
async fn a_resolving_rule_closes_what_the_problem_opened() {
    let settings = "group = \"problem\"\nresolved_by = { \"504\" = \"503\" }";
    let with_rule = |rule: &str| {
        alert(1, format!(r#"{{"rule":{{"id":"{rule}","level":3}},"agent":{{"id":"001"}}}}"#))
    };
    let alias = json_of(&sent(settings, with_rule("504")).await)["alias"].clone();
    let close = sent(settings, with_rule("503")).await;
    let expected =
        format!("POST /v2/alerts/{}/close?identifierType=alias HTTP/1.1", alias.as_str().unwrap());
    assert_eq!(close.line, expected);
    assert_eq!(json_of(&close)["user"], "Holdfast");
    // A close that arrived before finds nothing, and that is no wrong address.
    let gone = r#"{"message":"Alert does not exist","took":0.1,"requestId":"r-2"}"#;
    for (body, expected) in [(gone, Ok(true)), ("<html>", Err(Reason::Misconfigured))] {
        let fake = Fake::start([Act::Say(answer("404 Not Found", "", body))]).await;
        let shipment = shipment([with_rule("503")]);
        let result = match destination(&fake, settings).deliver(&shipment).await {
            Ok(Delivered::All(receipt)) => Ok(receipt.duplicate),
            Ok(Delivered::Each(_)) => panic!("one event has one answer"),
            Err(error) => Err(error.reason),
        };
        assert_eq!(result, expected);
    }
}

#[tokio::test]
async fn each_answer_has_its_meaning() {
    let wrong_form = r#"{"message":"Key format is not valid!","took":0,"requestId":"r"}"#;
    let invalid = r#"{"message":"Request body is not processable.","requestId":"r"}"#;
    let wait = "X-RateLimit-Period-In-Sec: 60\r\n";
    #[rustfmt::skip]
    let table = [
        ("400 Bad Request", "", "", Reason::Refused, None),
        ("401 Unauthorized", "", "", Reason::Unauthorized, None),
        ("402 Payment Required", "", "", Reason::Misconfigured, None),
        ("403 Forbidden", "", "", Reason::Forbidden, None),
        ("404 Not Found", "", invalid, Reason::Misconfigured, None),
        ("422 Unprocessable", "", invalid, Reason::Refused, None),
        ("422 Unprocessable", "", wrong_form, Reason::Unauthorized, None),
        ("429 Too Many Requests", wait, "", Reason::Throttled, Some(60)),
        ("429 Too Many Requests", "Retry-After: 7\r\n", "", Reason::Throttled, Some(7)),
        ("500 Internal Server Error", "", "", Reason::ServerFault, None),
        ("503 Service Unavailable", "", "", Reason::ServerFault, None),
    ];
    for (status, headers, body, expected, seconds) in table {
        let fake = Fake::start([Act::Say(answer(status, headers, body))]).await;
        let shipment = shipment([alert(1, "{}")]);
        let error = destination(&fake, "").deliver(&shipment).await.unwrap_err();
        assert_eq!(error.reason, expected, "{status} {body}");
        assert_eq!(error.retry_after, seconds.map(Duration::from_secs), "{status}");
    }
}

#[tokio::test]
async fn an_answer_that_repeats_the_key_is_masked_and_a_lost_body_is_no_failure() {
    let fake = Fake::start([Act::Say(answer("401 No", "", &format!("bad {KEY}")))]).await;
    let result = destination(&fake, "").deliver(&shipment([alert(1, "{}")])).await;
    assert_eq!(result.unwrap_err().excerpt, "bad [masked]");
    let fake = Fake::start([Act::Say(answer("202 Accepted", "", "<oops"))]).await;
    assert!(destination(&fake, "").deliver(&shipment([alert(1, "{}")])).await.is_ok());
}

#[test]
fn wrong_settings_are_faults() {
    let key = "api_key = \"k\"\n";
    #[rustfmt::skip]
    let table = [
        ("responders = [\"SOC\"]", "lane.responders: each must be"),
        ("responders = [\"team: \"]", "lane.responders: each must be"),
        ("tags = [\"\"]", "lane.tags: at most 20"),
        ("severity = { high = \"P9\" }", "lane.severity.high: it must be one of P1"),
    ];
    for (more, expected) in table {
        let problem = fault(&KIND, &format!("{key}{more}"), &context());
        assert!(problem.contains(expected), "{problem}");
    }
}
