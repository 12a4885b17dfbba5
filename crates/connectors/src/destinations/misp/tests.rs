use super::*;
use crate::{
    http::fake::{Act, Fake, Seen, answer},
    message::samples,
    testing::{alert, build as build_kind, context, fault, shipment},
};

const TAKEN: &str =
    r#"{"Event":{"id":"123","uuid":"u"},"errors":{"Attribute":{"0":{"value":["no"]}}}}"#;

fn destination(fake: &Fake, more: &str) -> Arc<dyn Destination> {
    let table = format!("url = \"{}\"\napi_key = \"secret-key\"\n{more}", fake.url);
    build_kind(&KIND, &table, &context()).unwrap()
}

async fn tell(act: Vec<u8>, more: &str, member: Member) -> (Seen, Result<Receipt, DeliveryError>) {
    let fake = Fake::start([Act::Say(act)]).await;
    let result = match destination(&fake, more).deliver(&shipment([member])).await {
        Ok(Delivered::All(receipt)) => Ok(receipt),
        Ok(Delivered::Each(_)) => panic!("one event has one answer"),
        Err(error) => Err(error),
    };
    (fake.only(), result)
}

fn is_uuid(value: &Value) -> bool {
    let text = value.as_str().unwrap();
    let lengths: Vec<_> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.as_bytes()[14] == b'5'
}

#[tokio::test]
async fn every_sample_is_a_valid_event() {
    let hostile = ("hostile".to_owned(), samples::hostile());
    for (name, member) in samples::all().into_iter().chain([hostile]) {
        let (seen, result) = tell(answer("200 OK", "", TAKEN), "tags = [\"a\"]", member).await;
        assert_eq!(result.unwrap().remote_id.as_deref(), Some("123"));
        assert_eq!(seen.line, "POST /events/add HTTP/1.1");
        assert_eq!(seen.header("authorization"), Some("secret-key"));
        assert_eq!(seen.header("accept"), Some("application/json"));
        let body: Value = serde_json::from_slice(&seen.body).unwrap();
        let event = &body["Event"];
        assert!(is_uuid(&event["uuid"]), "{name}");
        assert_eq!(event["date"].as_str().unwrap().len(), 10, "{name}");
        assert!(!event["info"].as_str().unwrap().is_empty(), "{name}");
        assert!(["1", "2", "3"].contains(&event["threat_level_id"].as_str().unwrap()));
        for attribute in event["Attribute"].as_array().unwrap() {
            assert!(is_uuid(&attribute["uuid"]), "{name}");
            assert!(!attribute["value"].as_str().unwrap().is_empty(), "{name}");
            assert!(attribute["to_ids"] == false, "{name}");
        }
    }
}

#[tokio::test]
async fn every_try_has_the_same_bytes_and_a_repeat_is_known() {
    let body =
        r#"{"data":{"srcip":"203.0.113.9","src_ip":"203.0.113.9","dstip":"10.0.0.1","url":"no"}}"#;
    let (first, _) = tell(answer("200 OK", "", TAKEN), "to_ids = true", alert(7, body)).await;
    let again = answer("404 Not Found", "Location: https://misp/events/view/45\r\n", "{}");
    let (second, result) = tell(again, "to_ids = true", alert(7, body)).await;
    assert_eq!(first.body, second.body);
    let receipt = result.unwrap();
    assert_eq!((receipt.remote_id.as_deref(), receipt.duplicate), (Some("45"), true));
    let body: Value = serde_json::from_slice(&first.body).unwrap();
    let attributes = body["Event"]["Attribute"].as_array().unwrap();
    assert_eq!(attributes.len(), 2, "a private address and no URL are left out: {body}");
    assert_eq!(attributes[1]["value"], "203.0.113.9");
    assert_eq!(attributes[1]["to_ids"], true);
}

#[tokio::test]
async fn each_answer_has_its_meaning() {
    let invalid = r#"{"saved":false,"name":"Could not add Event","errors":{"info":["x"]}}"#;
    let key = r#"{"name":"Authentication failed.","message":"no secret-key","url":"/events/add"}"#;
    #[rustfmt::skip]
    let table = [
        ("200 OK", "", "<html>", Reason::BadAnswer, None),
        ("200 OK", "", "{}", Reason::BadAnswer, None),
        ("403 Forbidden", "", invalid, Reason::Refused, None),
        ("403 Forbidden", "", key, Reason::Unauthorized, None),
        ("404 Not Found", "", "{}", Reason::Misconfigured, None),
        ("404 Not Found", "Location: /users/login\r\n", "{}", Reason::Misconfigured, None),
        ("405 Not Allowed", "", "{}", Reason::Misconfigured, None),
        ("413 Too Large", "", "", Reason::TooLarge, None),
        ("429 Too Many", "X-Rate-Limit-Reset: 90\r\n", "{}", Reason::Throttled, Some(90)),
        ("500 Internal Server Error", "", "<html>", Reason::ServerFault, None),
    ];
    for (status, headers, body, expected, seconds) in table {
        let (_, result) = tell(answer(status, headers, body), "", alert(1, "{}")).await;
        let error = result.unwrap_err();
        assert_eq!(error.reason, expected, "{status} {body}");
        assert_eq!(error.retry_after, seconds.map(Duration::from_secs), "{status}");
        assert!(!error.excerpt.contains("secret-key"), "{}", error.excerpt);
    }
}

#[tokio::test]
async fn the_key_is_checked() {
    let fake = Fake::start([Act::Say(answer("403 Forbidden", "", "{}"))]).await;
    let error = destination(&fake, "").check().await.unwrap().unwrap_err();
    assert_eq!(error.reason, Reason::Unauthorized);
    assert_eq!(fake.only().line, "GET /servers/getVersion.json HTTP/1.1");
}

#[test]
fn wrong_settings_are_faults() {
    for (more, expected) in [
        ("distribution = 4", "lane.distribution: 4 is not within"),
        ("tags = [\"\"]", "lane.tags: at most 20"),
        ("severity = { low = \"5\" }", "lane.severity.low: it must be one of"),
    ] {
        let table = format!("url = \"https://a\"\napi_key = \"k\"\n{more}");
        let problem = fault(&KIND, &table, &context());
        assert!(problem.contains(expected), "{problem}");
    }
}
