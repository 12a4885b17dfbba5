use std::{sync::Arc, time::Duration};

use super::*;
use crate::{
    http::fake::{Act, Fake, Seen, answer},
    message::samples,
    testing::{alert, build as build_kind, context, fault, shipment},
};

const TAKEN: &str =
    r#"{"Event":{"id":"123","uuid":"u"},"errors":{"Attribute":{"0":{"value":["no"]}}}}"#;

const NO_WARNINGLISTS: &str = "warninglists = false";

fn destination(fake: &Fake, more: &str) -> Arc<dyn Destination> {
    let table = format!("url = \"{}\"\napi_key = \"secret-key\"\n{more}", fake.url);
    build_kind(&KIND, &table, &context()).unwrap()
}

async fn tell(
    acts: impl IntoIterator<Item = Vec<u8>>,
    more: &str,
    member: Member,
) -> (Vec<Seen>, Result<Receipt, DeliveryError>) {
    let fake = Fake::start(acts.into_iter().map(Act::Say)).await;
    let result = match destination(&fake, more).deliver(&shipment([member])).await {
        Ok(Delivered::All(receipt)) => Ok(receipt),
        Ok(Delivered::Each(_)) => panic!("one event has one answer"),
        Err(error) => Err(error),
    };
    (fake.seen(), result)
}

fn ok(body: &str) -> Vec<u8> {
    answer("200 OK", "", body)
}

fn json_of(seen: &Seen) -> Value {
    assert_eq!(seen.header("authorization"), Some("secret-key"));
    assert_eq!(seen.header("accept"), Some("application/json"));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    serde_json::from_slice(&seen.body).unwrap()
}

fn is_uuid(value: &Value) -> bool {
    let text = value.as_str().unwrap();
    let lengths: Vec<_> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.as_bytes()[14] == b'5'
}

/// MISP's `EventBeforeSave` and `AttributeBase` of its openapi.yaml, in our words.
fn assert_valid_event(name: &str, body: &Value) {
    let event = &body["Event"];
    assert!(is_uuid(&event["uuid"]), "{name}");
    assert_eq!(event["date"].as_str().unwrap().len(), 10, "{name}");
    assert!((1..=65535).contains(&event["info"].as_str().unwrap().len()), "{name}");
    assert!(["1", "2", "3"].contains(&event["threat_level_id"].as_str().unwrap()));
    for attribute in event["Attribute"].as_array().unwrap() {
        assert!(is_uuid(&attribute["uuid"]), "{name}");
        assert!((1..=65535).contains(&attribute["value"].as_str().unwrap().len()), "{name}");
        assert_eq!(
            (&attribute["to_ids"], &attribute["distribution"]),
            (&json!(false), &json!("5"))
        );
        let kind = attribute["type"].as_str().unwrap();
        let category = attribute["category"].as_str().unwrap();
        let allowed: &[&str] = match category {
            "Network activity" => &["ip-src", "ip-dst", "domain", "hostname", "url"],
            "Payload delivery" => &["sha256", "sha1", "md5"],
            _ => &["text"],
        };
        assert!(allowed.contains(&kind), "{name}: {category} {kind}");
    }
}

#[tokio::test]
async fn every_sample_is_a_valid_event() {
    let hostile = ("hostile".to_owned(), samples::hostile());
    let settings = format!("tags = [\"a\"]\n{NO_WARNINGLISTS}");
    for (name, member) in samples::all().into_iter().chain([hostile]) {
        let (seen, result) = tell([ok(TAKEN)], &settings, member).await;
        assert_eq!(result.unwrap().remote_id.as_deref(), Some("123"));
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].line, "POST /events/add HTTP/1.1");
        assert_valid_event(&name, &json_of(&seen[0]));
    }
}

#[tokio::test]
async fn every_try_has_the_same_bytes_and_a_repeat_is_known() {
    let body =
        r#"{"data":{"srcip":"203.0.113.9","src_ip":"203.0.113.9","dstip":"10.0.0.1","url":"no"}}"#;
    let settings = format!("to_ids = true\n{NO_WARNINGLISTS}");
    let (first, _) = tell([ok(TAKEN)], &settings, alert(7, body)).await;
    let again = answer("404 Not Found", "Location: https://misp/events/view/45\r\n", "{}");
    let (second, result) = tell([again], &settings, alert(7, body)).await;
    assert_eq!(first[0].body, second[0].body);
    let receipt = result.unwrap();
    assert_eq!((receipt.remote_id.as_deref(), receipt.duplicate), (Some("45"), true));
    let body = json_of(&first[0]);
    let attributes = body["Event"]["Attribute"].as_array().unwrap();
    assert_eq!(attributes.len(), 2, "a private address and no URL are left out: {body}");
    assert_eq!(attributes[1]["value"], "203.0.113.9");
    assert_eq!(attributes[1]["type"], "ip-src");
    assert_eq!(attributes[1]["to_ids"], true);
}

const THREE: &str = r#"{"timestamp":"2026-03-10T06:02:17.173+0000","data":{
    "srcip":"203.0.113.9","dstip":"8.8.8.8","tls":{"sni":"a.evil.com"}}}"#;

#[tokio::test]
async fn what_is_on_a_warning_list_is_no_attribute() {
    let hits = r#"{"8.8.8.8":[{"id":"10","name":"List of known IPv4 public DNS resolvers"}]}"#;
    let (seen, result) = tell([ok(hits), ok(TAKEN)], "", alert(1, THREE)).await;
    result.unwrap();
    assert_eq!(seen[0].line, "POST /warninglists/checkValue HTTP/1.1");
    assert_eq!(json_of(&seen[0]), json!(["203.0.113.9", "8.8.8.8", "a.evil.com"]));
    assert_eq!(seen[1].line, "POST /events/add HTTP/1.1");
    let values = |seen: &Seen| -> Vec<String> {
        let attributes = json_of(seen)["Event"]["Attribute"].as_array().unwrap().clone();
        attributes[1..].iter().map(|one| format!("{} {}", one["type"], one["value"])).collect()
    };
    let expected = [r#""ip-src" "203.0.113.9""#, r#""hostname" "a.evil.com""#];
    assert_eq!(values(&seen[1]), expected);

    let (seen, _) = tell([ok("[]"), ok(TAKEN)], "", alert(1, THREE)).await;
    assert_eq!(values(&seen[1]).len(), 3, "no hit is an empty list");
    let (seen, _) = tell([ok(TAKEN)], "", alert(1, "{}")).await;
    assert_eq!(seen.len(), 1, "without indicators nobody is asked");
    let (seen, result) = tell([ok("\"no\"")], "", alert(1, THREE)).await;
    assert_eq!((seen.len(), result.unwrap_err().reason), (1, Reason::BadAnswer));
    let busy = answer("503 Busy", "", "");
    let (seen, result) = tell([busy], "", alert(1, THREE)).await;
    assert_eq!((seen.len(), result.unwrap_err().reason), (1, Reason::ServerFault));
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
        let (_, result) = tell([answer(status, headers, body)], "", alert(1, "{}")).await;
        let error = result.unwrap_err();
        assert_eq!(error.reason, expected, "{status} {body}");
        assert_eq!(error.retry_after, seconds.map(Duration::from_secs), "{status}");
        assert!(!error.excerpt.contains("secret-key"), "{}", error.excerpt);
    }
}

const SIGHTING: &str = "create = \"sighting\"";
const NONE_KNOWN: &str = r#"{"message":"Could not add the Sighting. Reason: No valid attributes found that match the criteria."}"#;

#[tokio::test]
async fn what_an_alert_holds_is_sighted() {
    let added = r#"{"Sighting":{"id":"9","attribute_id":"5","source":"x"}}"#;
    for answer in [added, r#"{"id":9,"attribute_id":"5"}"#] {
        let (seen, result) = tell([ok(answer)], SIGHTING, alert(7, THREE)).await;
        assert_eq!(result.unwrap().remote_id.as_deref(), Some("9"));
        assert_eq!(seen[0].line, "POST /sightings/add HTTP/1.1");
        let expected = json!({
            "values": ["203.0.113.9", "8.8.8.8", "a.evil.com"],
            "type": "0",
            "source": "Wazuh abcdefghij-7.lane",
            "timestamp": 1_773_122_537,
        });
        assert_eq!(json_of(&seen[0]), expected);
    }
    let (_, result) = tell([ok(NONE_KNOWN)], SIGHTING, alert(7, THREE)).await;
    let receipt = result.unwrap();
    assert_eq!((receipt.status, receipt.remote_id), (Some(200), None));
    let (seen, result) = tell([ok(added)], SIGHTING, alert(7, "{}")).await;
    assert_eq!((seen.len(), result.unwrap()), (0, Receipt::default()));
}

#[tokio::test]
async fn a_sighting_in_doubt_is_looked_for_by_its_source() {
    let found = r#"{"response":[{"Sighting":{"id":"8","source":"Wazuh abcdefghij-7.lane"}}]}"#;
    let other = r#"{"response":[{"Sighting":{"id":"8","source":"Wazuh abcdefghij-70.lane"}}]}"#;
    let added = r#"{"Sighting":{"id":"9"}}"#;
    for (in_doubt, attempt) in [(true, 1), (false, 2)] {
        let member = || Member { in_doubt, attempt, ..alert(7, THREE) };
        let (seen, result) = tell([ok(found)], SIGHTING, member()).await;
        let receipt = result.unwrap();
        assert_eq!((receipt.remote_id.as_deref(), receipt.duplicate), (Some("8"), true));
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].line, "POST /sightings/restSearch HTTP/1.1");
        let search = json_of(&seen[0]);
        assert_eq!(search["source"], "Wazuh abcdefghij-7.lane");
        assert!(search["from"].as_i64() < search["to"].as_i64());
        for none in [other, r#"{"response":[]}"#, "[]"] {
            let (seen, result) = tell([ok(none), ok(added)], SIGHTING, member()).await;
            assert_eq!((seen.len(), result.unwrap().duplicate), (2, false), "{none}");
        }
        let (seen, result) = tell([ok("{}")], SIGHTING, member()).await;
        assert_eq!((seen.len(), result.unwrap_err().reason), (1, Reason::BadAnswer));
    }
}

#[tokio::test]
async fn a_sighting_that_failed_says_so_with_200() {
    let strange = r#"{"message":"Could not add the Sighting. Reason: the moon"}"#;
    let nothing = r#"{"response":[]}"#;
    let (_, result) = tell([ok(strange)], SIGHTING, alert(7, THREE)).await;
    assert_eq!(result.unwrap_err().reason, Reason::BadAnswer);
    let ninth = Member { attempt: 9, ..alert(7, THREE) };
    let (_, result) = tell([ok(nothing), ok(strange)], SIGHTING, ninth).await;
    assert_eq!(result.unwrap_err().reason, Reason::Refused);
    let key = answer("403 Forbidden", "", r#"{"name":"Authentication failed."}"#);
    let (_, result) = tell([key], SIGHTING, alert(7, THREE)).await;
    assert_eq!(result.unwrap_err().reason, Reason::Unauthorized);
}

#[tokio::test]
async fn the_key_and_its_role_are_checked() {
    let check = async |act: Vec<u8>, more: &str| {
        let fake = Fake::start([Act::Say(act)]).await;
        let result = destination(&fake, more).check().await.unwrap();
        assert_eq!(fake.only().line, "GET /servers/getVersion.json HTTP/1.1");
        result.map_err(|error| error.reason)
    };
    let version = r#"{"version":"2.5.1","perm_sync":false,"perm_sighting":false}"#;
    let refused = answer("403 Forbidden", "", "{}");
    assert_eq!(check(refused, "").await, Err(Reason::Unauthorized));
    assert_eq!(check(ok(version), "").await, Ok(()));
    assert_eq!(check(ok(version), SIGHTING).await, Err(Reason::Unauthorized));
    assert_eq!(check(ok("<html>"), "").await, Err(Reason::BadAnswer));
}

#[test]
fn wrong_settings_are_faults() {
    for (more, expected) in [
        ("distribution = 4", "lane.distribution: 4 is not within"),
        ("create = \"case\"", "lane.create: "),
        ("source = \" \"", "lane.source: it must have 1 to 60"),
        ("tags = [\"\"]", "lane.tags: at most 20"),
        ("severity = { low = \"5\" }", "lane.severity.low: it must be one of"),
    ] {
        let table = format!("url = \"https://a\"\napi_key = \"k\"\n{more}");
        let problem = fault(&KIND, &table, &context());
        assert!(problem.contains(expected), "{problem}");
    }
}
