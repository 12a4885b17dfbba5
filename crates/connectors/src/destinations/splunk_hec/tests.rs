use std::io::Read;

use flate2::read::GzDecoder;

use super::*;
use crate::{
    http::fake::{Act, Fake, answer},
    message::samples,
    testing::{alert, build as build_kind, context, fault, shipment},
};

const TOKEN: &str = "12345678-1234-1234-1234-1234567890ab";
const OK: &str = r#"{"text":"Success","code":0}"#;
const TAKEN: &str = r#"{"text":"Success","code":0,"ackId":7}"#;

fn destination(fake: &Fake, more: &str, timeout: Duration) -> Arc<dyn Destination> {
    let table = format!("url = \"{}\"\ntoken = \"{TOKEN}\"\n{more}", fake.url);
    build_kind(&KIND, &table, &Context { timeout, ..context() }).unwrap()
}

fn says(status: &str, body: &str) -> Act {
    Act::Say(answer(status, "", body))
}

fn three() -> Shipment {
    let member = |seq| alert(seq, format!(r#"{{"rule":{{"level":{seq}}}}}"#));
    shipment([member(1), member(2), member(3)])
}

async fn outcome(more: &str, acts: Vec<Act>) -> Result<Delivered, DeliveryError> {
    let fake = Fake::start(acts).await;
    destination(&fake, more, Duration::from_secs(20)).deliver(&three()).await
}

#[tokio::test]
async fn every_sample_is_an_event_the_collector_can_read() {
    let fake = Fake::start([says("200 OK", OK)]).await;
    let destination = destination(&fake, "index = \"wazuh\"", Duration::from_secs(20));
    let mut members: Vec<_> = samples::all().into_iter().map(|(_, member)| member).collect();
    members.push(samples::hostile());
    members.push(alert(100, "{oops"));
    let shipment = shipment(members);
    for _ in 0..2 {
        destination.deliver(&shipment).await.unwrap();
    }
    let seen = fake.seen();
    assert_eq!(seen[0].body, seen[1].body, "every try is the same");
    assert_eq!(seen[0].line, "POST /services/collector/event HTTP/1.1");
    assert_eq!(seen[0].header("authorization"), Some(format!("Splunk {TOKEN}").as_str()));
    assert_eq!(seen[0].header("content-encoding"), Some("gzip"));
    assert_eq!(seen[0].header("x-splunk-request-channel"), None);
    let mut text = String::new();
    GzDecoder::new(seen[0].body.as_slice()).read_to_string(&mut text).unwrap();
    let events: Vec<Value> =
        serde_json::Deserializer::from_str(&text).into_iter().map(Result::unwrap).collect();
    assert_eq!(events.len(), shipment.members.len());
    for (event, member) in events.iter().zip(&shipment.members) {
        assert!(event["event"].is_object(), "{event}");
        assert!(event["time"].as_f64().unwrap() > 1_700_000_000.0, "seconds: {event}");
        assert!(event["fields"].as_object().unwrap().values().all(Value::is_string));
        assert_eq!(event["fields"]["holdfast_key"], *member.key);
        assert_eq!(event["index"], "wazuh");
        assert!(event.as_object().unwrap().values().all(|value| !value.is_null()));
    }
    assert_eq!(events[0]["time"].to_string(), "1773122537.173");
    assert_eq!(events[0]["host"], "web01");
}

#[tokio::test]
async fn a_line_has_these_bytes() {
    let fake = Fake::start([says("200 OK", OK)]).await;
    let destination = destination(&fake, "gzip = false", Duration::from_secs(20));
    destination.deliver(&shipment([alert(7, r#"{"a":1}"#)])).await.unwrap();
    let expected = r#"{"event":{"a":1},"fields":{"holdfast_id":"abcdefghij-7","holdfast_key":"abcdefghij-7.lane","severity":"low"},"source":"holdfast","sourcetype":"wazuh:alert","time":1773123088.189}"#;
    assert_eq!(fake.only().text(), expected);
}

#[tokio::test]
async fn with_acknowledgement_delivered_means_acknowledged() {
    let cookie = "Set-Cookie: lb=indexer1; Path=/; HttpOnly\r\n";
    let fake = Fake::start([
        Act::Say(answer("200 OK", cookie, TAKEN)),
        says("200 OK", r#"{"acks":{"7":false}}"#),
        says("503 Service Unavailable", r#"{"text":"Server is busy","code":9}"#),
        says("200 OK", r#"{"acks":{"7":true}}"#),
    ])
    .await;
    let settings = "acknowledge = true\nacknowledge_every = \"100ms\"\ngzip = false";
    let destination = destination(&fake, settings, Duration::from_secs(20));
    let Delivered::All(receipt) = destination.deliver(&three()).await.unwrap() else { panic!() };
    assert_eq!(receipt.remote_id.as_deref(), Some("7"));
    let seen = fake.seen();
    assert_eq!(seen.len(), 4);
    let channel = seen[0].header("x-splunk-request-channel").unwrap();
    assert!(is_guid(channel), "{channel}");
    for ask in &seen[1..] {
        assert_eq!(ask.line, "POST /services/collector/ack HTTP/1.1");
        assert_eq!(ask.text(), r#"{"acks":[7]}"#);
        assert_eq!(ask.header("x-splunk-request-channel"), Some(channel));
        assert_eq!(ask.header("cookie"), Some("lb=indexer1"));
    }
}

#[tokio::test]
async fn what_is_not_acknowledged_in_time_is_in_doubt() {
    let acts = [says("200 OK", TAKEN), says("200 OK", r#"{"acks":{"7":false}}"#)];
    let fake = Fake::start(acts).await;
    let settings = "acknowledge = true\nacknowledge_every = \"100ms\"";
    let destination = destination(&fake, settings, Duration::from_millis(500));
    let error = destination.deliver(&three()).await.unwrap_err();
    assert_eq!(error.reason, Reason::InDoubt);
}

#[tokio::test]
async fn a_token_without_acknowledgement_is_a_wrong_setting() {
    let disabled = r#"{"text":"ACK is disabled","code":14}"#;
    let acts = vec![says("200 OK", OK)];
    let error = outcome("acknowledge = true", acts).await.unwrap_err();
    assert_eq!(error.reason, Reason::Misconfigured);
    let acts = vec![says("200 OK", TAKEN), says("400 Bad Request", disabled)];
    let error = outcome("acknowledge = true", acts).await.unwrap_err();
    assert_eq!(error.reason, Reason::Misconfigured);
}

#[tokio::test]
async fn only_the_named_event_of_a_batch_is_refused_and_none_is_repeated() {
    let body = r#"{"text":"Event field is required","code":12,"invalid-event-number":1}"#;
    let delivered = outcome("", vec![says("400 Bad Request", body)]).await.unwrap();
    let Delivered::Each(results) = delivered else { panic!("{delivered:?}") };
    assert!(results[0].is_ok(), "it was indexed");
    assert_eq!(results[1].as_ref().unwrap_err().reason, Reason::Refused);
    assert_eq!(results[2].as_ref().unwrap_err().reason, Reason::ServerFault, "it was not read");
    assert_eq!(results.len(), 3);
    for body in [r#"{"code":6,"invalid-event-number":3}"#, r#"{"code":6}"#] {
        let error = outcome("", vec![says("400 Bad Request", body)]).await.unwrap_err();
        assert_eq!(error.reason, Reason::Refused, "{body}");
    }
}

#[tokio::test]
async fn each_answer_has_its_meaning() {
    #[rustfmt::skip]
    let table = [
        ("403 Forbidden", r#"{"text":"Token disabled","code":1}"#, Reason::Unauthorized),
        ("401 Unauthorized", r#"{"text":"Token is required","code":2}"#, Reason::Unauthorized),
        ("401 Unauthorized", r#"{"text":"Invalid authorization","code":3}"#, Reason::Unauthorized),
        ("403 Forbidden", r#"{"text":"Invalid token","code":4}"#, Reason::Unauthorized),
        ("403 Forbidden", "a firewall's page", Reason::Forbidden),
        ("400 Bad Request", r#"{"text":"No data","code":5}"#, Reason::Refused),
        ("400 Bad Request", r#"{"text":"Incorrect index","code":7,"invalid-event-number":1}"#, Reason::Misconfigured),
        ("500 Error", r#"{"text":"Internal server error","code":8}"#, Reason::ServerFault),
        ("503 Unavailable", r#"{"text":"Server is busy","code":9}"#, Reason::ServerFault),
        ("400 Bad Request", r#"{"text":"Data channel is missing","code":10}"#, Reason::Misconfigured),
        ("400 Bad Request", r#"{"text":"Invalid data channel","code":11}"#, Reason::Misconfigured),
        ("400 Bad Request", r#"{"text":"Error in handling indexed fields","code":15}"#, Reason::Refused),
        ("503 Unavailable", r#"{"text":"Server is shutting down","code":23}"#, Reason::ServerFault),
        ("429 Too Many", r#"{"text":"HEC queue is at capacity","code":26}"#, Reason::Throttled),
        ("400 Bad Request", r#"{"text":"Data channel is missing. If …","code":28}"#, Reason::Misconfigured),
        ("404 Not Found", r#"{"text":"Not Found","code":404}"#, Reason::Misconfigured),
        ("405 Not Allowed", "", Reason::Misconfigured),
        ("413 Too Large", r#"{"text":"…","code":413}"#, Reason::TooLarge),
        ("200 OK", r#"{"text":"Success","code":9}"#, Reason::BadAnswer),
        ("200 OK", "<html>welcome</html>", Reason::BadAnswer),
    ];
    for (status, body, reason) in table {
        let error = outcome("", vec![says(status, body)]).await.unwrap_err();
        assert_eq!(error.reason, reason, "{status} {body}");
    }
    for code in [0, 24, 25] {
        let body = format!(r#"{{"text":"…","code":{code}}}"#);
        outcome("", vec![says("200 OK", &body)]).await.unwrap();
    }
}

#[tokio::test]
async fn the_token_is_in_no_error() {
    let body = format!(r#"{{"text":"Invalid token {TOKEN}","code":4}}"#);
    let error = outcome("", vec![says("403 Forbidden", &body)]).await.unwrap_err();
    assert!(!format!("{error:?}").contains(TOKEN), "{error:?}");
    assert!(error.excerpt.contains("[masked]"));
}

#[test]
fn a_channel_is_a_guid() {
    let table = format!("{}\nchannel = \"mine\"", KIND.example);
    assert!(fault(&KIND, &table, &context()).contains("not a GUID"));
    assert!(is_guid("0aeeac95-ac74-4aa9-b30d-6c4c0ac581ba"));
    assert_ne!(new_channel(&context()), new_channel(&context()));
}
