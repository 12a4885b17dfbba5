use std::sync::Arc;

use holdfast_model::{Secret, settings::SecretSpec};
use sha2::{Digest, Sha256};

use super::*;
use crate::{
    http::fake::{Act, Fake, Seen, answer},
    message::samples,
    secrets::LiveSecret,
    testing::{alert, build as build_kind, context, fault, shipment},
};

const CREATED: &str = r#"{"id":"1234","version":1,"name":"door","status":1,"investigationId":""}"#;
const EIGHT: &str = "key_id = \"7\"\nkey_field = \"holdfastkey\"\n";
const SIX: &str = "version = \"6\"\nkey_field = \"holdfastkey\"\n";
const PROBLEMS: &str = "group = \"problem\"\nresolved_by = { \"504\" = \"503\" }";

fn ok(body: &str) -> Act {
    Act::Say(answer("200 OK", "", body))
}

fn destination(fake: &Fake, more: &str) -> Arc<dyn Destination> {
    let table = format!("url = \"{}/base\"\napi_key = \"secret-key\"\n{more}", fake.url);
    build_kind(&KIND, &table, &context()).unwrap()
}

async fn tell(acts: Vec<Act>, more: &str, member: Member) -> (Vec<Seen>, Receipt) {
    let fake = Fake::start(acts).await;
    let delivered = destination(&fake, more).deliver(&shipment([member])).await.unwrap();
    let Delivered::All(receipt) = delivered else { panic!("one event has one answer") };
    (fake.seen(), receipt)
}

fn json_of(seen: &Seen) -> Value {
    serde_json::from_slice(&seen.body).unwrap()
}

fn lines(seen: &[Seen]) -> Vec<&str> {
    seen.iter().map(|seen| seen.line.trim_end_matches(" HTTP/1.1")).collect()
}

fn with_rule(rule: &str) -> Member {
    alert(1, format!(r#"{{"rule":{{"id":"{rule}","level":3}},"agent":{{"id":"001"}}}}"#))
}

/// What the schema `CreateIncidentRequest` demands of the fields we use.
fn assert_valid(name: &str, body: &Value, fields: &str) {
    let known = [
        "name",
        "type",
        "severity",
        "occurred",
        "details",
        "createInvestigation",
        "labels",
        "rawJSON",
        fields,
    ];
    let all = body.as_object().unwrap();
    assert!(all.keys().all(|key| known.contains(&key.as_str())), "{name}: {all:?}");
    assert!(!body["name"].as_str().unwrap().is_empty(), "{name}");
    assert!([0.0, 0.5, 1.0, 2.0, 3.0, 4.0].contains(&body["severity"].as_f64().unwrap()));
    let occurred = body["occurred"].as_str().unwrap();
    assert!(Timestamp::parse(occurred).is_some() && occurred.ends_with('Z'), "{name}: {occurred}");
    assert!(body["details"].is_string() && body["rawJSON"].is_string(), "{name}");
    assert!(body["createInvestigation"].is_boolean(), "{name}");
    for label in body["labels"].as_array().unwrap() {
        assert!(label["type"].is_string() && label["value"].is_string(), "{name}: {label}");
        assert_eq!(label.as_object().unwrap().len(), 2, "{name}");
    }
    assert!(body[fields]["holdfastkey"].is_string(), "{name}");
}

#[tokio::test]
async fn every_sample_is_a_valid_incident_in_both_versions() {
    let hostile = ("hostile".to_owned(), samples::hostile());
    for (name, member) in samples::all().into_iter().chain([hostile]) {
        let whole: Value = serde_json::from_slice(&member.event.body).unwrap();
        for (settings, fields) in [(EIGHT, "customFields"), (SIX, "CustomFields")] {
            let (seen, receipt) = tell(vec![ok(CREATED)], settings, member.clone()).await;
            assert_eq!(lines(&seen), ["POST /base/incident"]);
            let body = json_of(&seen[0]);
            assert_valid(&name, &body, fields);
            let raw: Value = serde_json::from_str(body["rawJSON"].as_str().unwrap()).unwrap();
            assert_eq!(raw, whole, "{name}");
            assert_eq!(receipt.remote_id.as_deref(), Some("1234"));
        }
    }
}

#[tokio::test]
async fn the_body_is_the_same_on_every_try() {
    let door = || {
        alert(
            7,
            r#"{"timestamp":"2026-03-10T06:02:17.173+0000","rule":{"level":12,"description":"door"}}"#,
        )
    };
    let settings = format!(
        "{EIGHT}incident_type = \"Wazuh Alert\"\ntemplate = \"x\"\nseverity = {{ high = \"0.5\" }}"
    );
    let (first, _) = tell(vec![ok(CREATED)], &settings, door()).await;
    // A later try looks first whether the earlier one arrived.
    let acts = vec![ok(r#"{"total":0,"data":null}"#), ok(CREATED)];
    let (second, _) = tell(acts, &settings, Member { attempt: 2, ..door() }).await;
    assert_eq!(first[0].body, second[1].body);
    let expected = json!({
        "name": "door", "type": "Wazuh Alert", "severity": 0.5, "details": "x",
        "occurred": "2026-03-10T06:02:17.173Z", "createInvestigation": true,
        "labels": [
            { "type": "key", "value": "abcdefghij-7.lane" },
            { "type": "event", "value": "abcdefghij-7" },
        ],
        "rawJSON": r#"{"rule":{"description":"door","level":12},"timestamp":"2026-03-10T06:02:17.173+0000"}"#,
        "customFields": { "holdfastkey": "abcdefghij-7.lane" },
    });
    assert_eq!(json_of(&first[0]), expected);
}

#[tokio::test]
async fn a_standard_key_goes_as_it_is() {
    let (seen, _) = tell(vec![ok(CREATED)], EIGHT, alert(1, "{}")).await;
    assert_eq!(seen[0].header("authorization"), Some("secret-key"));
    assert_eq!(seen[0].header("x-xdr-auth-id"), Some("7"));
    assert_eq!(seen[0].header("x-xdr-nonce"), None);
    assert_eq!(seen[0].header("accept"), Some("application/json"));
    assert_eq!(seen[0].header("content-type"), Some("application/json"));
    let (seen, _) = tell(vec![ok(CREATED)], SIX, alert(1, "{}")).await;
    assert_eq!(seen[0].header("authorization"), Some("secret-key"));
    assert_eq!(seen[0].header("x-xdr-auth-id"), None);
}

#[tokio::test]
async fn an_advanced_key_signs_each_request_anew() {
    let fake = Fake::start([ok(CREATED)]).await;
    let destination = destination(&fake, &format!("{EIGHT}key_type = \"advanced\""));
    for _ in 0..2 {
        destination.deliver(&shipment([alert(1, "{}")])).await.unwrap();
    }
    let seen = fake.seen();
    for seen in &seen {
        let nonce = seen.header("x-xdr-nonce").unwrap();
        let timestamp = seen.header("x-xdr-timestamp").unwrap();
        assert!(nonce.len() == 64 && nonce.bytes().all(|b| b.is_ascii_alphanumeric()));
        assert!(timestamp.len() == 13 && timestamp.bytes().all(|b| b.is_ascii_digit()));
        let hash = Sha256::digest(format!("secret-key{nonce}{timestamp}"));
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(seen.header("authorization"), Some(hash.as_str()));
        assert_eq!(seen.header("x-xdr-auth-id"), Some("7"));
    }
    assert_ne!(seen[0].header("x-xdr-nonce"), seen[1].header("x-xdr-nonce"));
}

#[test]
fn the_signature_has_exactly_these_bytes() {
    let credentials = Credentials {
        key: LiveSecret::resolve(&SecretSpec::Literal(Secret::new("abc"))).unwrap(),
        key_id: None,
        advanced: true,
    };
    let headers = credentials.headers_at("n", 1).unwrap();
    let signed = headers.iter().find(|(name, _)| name == "authorization").unwrap();
    // printf abcn1 | sha256sum
    let expected = "c0cd4f9b10905a0ce010983bc2e420aca33374e743dd6aaaf0e30396eccbe2ee";
    assert_eq!(signed.1, expected);
    assert!(signed.1.is_sensitive());
}

#[tokio::test]
async fn a_try_in_doubt_is_searched_for_before_another_is_made() {
    let doubt = || Member { in_doubt: true, attempt: 2, ..alert(7, "{}") };
    let ours = r#"{"total":2,"data":[
        {"id":"1","status":1,"CustomFields":{"holdfastkey":"abcdefghij-77.lane"}},
        {"id":"2","status":2,"CustomFields":{"holdfastkey":"abcdefghij-7.lane"}}]}"#;
    // It arrived, and somebody has closed it since.
    let (seen, receipt) = tell(vec![ok(ours)], EIGHT, doubt()).await;
    assert_eq!(lines(&seen), ["POST /base/incidents/search"]);
    let query = r#"holdfastkey:"abcdefghij-7.lane""#;
    let expected = json!({ "filter": { "query": query, "page": 0, "size": 50 } });
    assert_eq!(json_of(&seen[0]), expected);
    assert_eq!(receipt.remote_id.as_deref(), Some("2"));
    assert!(receipt.duplicate);
    // It did not, whatever foreign rows say.
    let foreign = r#"{"total":1,"data":[{"id":"1","customFields":{"holdfastkey":"x"}}]}"#;
    for nothing in [r#"{"total":0,"data":null}"#, r#"{"total":0,"data":[]}"#, foreign] {
        let (seen, receipt) = tell(vec![ok(nothing), ok(CREATED)], EIGHT, doubt()).await;
        assert_eq!(lines(&seen), ["POST /base/incidents/search", "POST /base/incident"]);
        assert!(!receipt.duplicate);
    }
    // Without a field there is nothing to search by.
    let (seen, _) = tell(vec![ok(CREATED)], "key_id = \"7\"", doubt()).await;
    assert_eq!(lines(&seen), ["POST /base/incident"]);
}

#[tokio::test]
async fn a_problem_is_one_incident_until_it_is_closed() {
    let settings = format!("{EIGHT}{PROBLEMS}");
    let none = r#"{"total":0,"data":[]}"#;
    let (seen, _) = tell(vec![ok(none), ok(CREATED)], &settings, with_rule("504")).await;
    assert_eq!(json_of(&seen[0])["filter"]["notStatus"], json!([2, 3]));
    let key = json_of(&seen[1])["customFields"]["holdfastkey"].as_str().unwrap().to_owned();
    let row = |id: &str, status: u8| json!({ "id": id, "status": status, "customFields": { "holdfastkey": key } });
    let found = json!({ "total": 3, "data": [row("1", 2), row("2", 1), row("3", 0)] }).to_string();
    // More of it.
    let (seen, receipt) = tell(vec![ok(&found)], &settings, with_rule("504")).await;
    assert_eq!(seen.len(), 1);
    assert_eq!((receipt.remote_id.as_deref(), receipt.duplicate), (Some("2"), true));
    // Its end.
    let (seen, receipt) = tell(vec![ok(&found), ok("{}")], &settings, with_rule("503")).await;
    assert_eq!(lines(&seen), ["POST /base/incidents/search", "POST /base/incident/batchClose"]);
    let close = json_of(&seen[1]);
    assert_eq!(close["ids"], json!(["2", "3"]));
    assert_eq!(close["closeReason"], "Resolved");
    assert_eq!(receipt.remote_id.as_deref(), Some("3"));
    // Nothing is open.
    let (seen, receipt) = tell(vec![ok(none)], &settings, with_rule("503")).await;
    assert!(seen.len() == 1 && receipt.duplicate);
}

#[tokio::test]
async fn each_answer_has_its_meaning() {
    #[rustfmt::skip]
    let table = [
        ("200 OK", "<html>log in</html>", Reason::BadAnswer),
        ("200 OK", r#"{"name":"x"}"#, Reason::BadAnswer),
        ("400 Bad Request", r#"{"detail":"unknown type"}"#, Reason::Refused),
        ("401 Unauthorized", "", Reason::Unauthorized),
        ("402 Payment Required", "", Reason::Misconfigured),
        ("403 Forbidden", "", Reason::Forbidden),
        ("404 Not Found", "", Reason::Misconfigured),
        ("409 Conflict", "DB version", Reason::ServerFault),
        ("413 Too Large", "", Reason::TooLarge),
        ("429 Too Many Requests", "", Reason::Throttled),
        ("500 Internal Server Error", "", Reason::ServerFault),
    ];
    for (status, body, expected) in table {
        let fake = Fake::start([Act::Say(answer(status, "", body))]).await;
        let shipment = shipment([alert(1, "{}")]);
        let error = destination(&fake, EIGHT).deliver(&shipment).await.unwrap_err();
        assert_eq!(error.reason, expected, "{status} {body}");
    }
    let fake = Fake::start([ok(r#"{"total":3,"data":null}"#)]).await;
    let doubt = Member { in_doubt: true, ..alert(1, "{}") };
    let error = destination(&fake, EIGHT).deliver(&shipment([doubt])).await.unwrap_err();
    assert_eq!(error.reason, Reason::BadAnswer, "rows that are kept from us are not none");
}

#[tokio::test]
async fn the_key_is_checked_and_masked() {
    let fake = Fake::start([Act::Say(answer("401 No", "", "bad secret-key"))]).await;
    let destination = destination(&fake, EIGHT);
    let error = destination.check().await.unwrap().unwrap_err();
    assert_eq!((error.reason, error.excerpt.as_str()), (Reason::Unauthorized, "bad [masked]"));
    assert_eq!(fake.only().line, "POST /base/incidents/search HTTP/1.1");
    assert!(!format!("{destination:?}").contains("secret-key"));
}

#[test]
fn wrong_settings_are_faults() {
    #[rustfmt::skip]
    let table = [
        ("", "`key_id` is missing"),
        ("version = \"7\"\nkey_id = \"1\"", "lane.version: \"7\" is not one of"),
        ("version = \"6\"\nkey_id = \"1\"", "lane.key_id: version 6 has no ids"),
        ("version = \"6\"\nkey_type = \"advanced\"", "lane.key_type: version 6 has standard"),
        ("key_id = \"1\"\nkey_field = \"Holdfast Key\"", "lane.key_field: a field's machine name"),
        ("key_id = \"1\"\ngroup = \"problem\"", "lane.group: it needs `key_field`"),
        ("key_id = \"1\"\nseverity = { low = \"9\" }", "lane.severity.low: it must be one of"),
    ];
    for (more, expected) in table {
        let table = format!("url = \"https://a\"\napi_key = \"k\"\n{more}");
        let problem = fault(&KIND, &table, &context());
        assert!(problem.contains(expected), "{problem}");
    }
}
