use super::*;
use crate::{
    http::fake::{Act, Fake, Seen, answer},
    message::samples,
    testing::{alert, build as build_kind, context, fault, shipment},
};

const PATH: &str = "/api/v1/hooks/webhook_00000000-1111-2222-3333-444444444444";
const STARTED: &str = r#"{"success":true,"execution_id":"e-1"}"#;

fn destination(fake: &Fake, more: &str) -> Arc<dyn Destination> {
    let table = format!("url = \"{}{PATH}\"\n{more}", fake.url);
    build_kind(&KIND, &table, &context()).unwrap()
}

async fn sent(more: &str, member: Member, said: &str) -> (Seen, Receipt) {
    let fake = Fake::start([Act::Say(answer("200 OK", "", said))]).await;
    let delivered = destination(&fake, more).deliver(&shipment([member])).await.unwrap();
    let Delivered::All(receipt) = delivered else { panic!("one event has one answer") };
    let seen = fake.only();
    assert_eq!(seen.line, format!("POST {PATH} HTTP/1.1"));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    // Shuffle refuses these two.
    let agent = seen.header("user-agent").unwrap().to_ascii_lowercase();
    assert!(!agent.contains("googlebot") && !agent.contains("microsoftpreview"));
    (seen, receipt)
}

#[tokio::test]
async fn every_sample_has_the_fields_that_wazuhs_script_sends() {
    let hostile = ("hostile".to_owned(), samples::hostile());
    for (name, member) in samples::all().into_iter().chain([hostile]) {
        let (key, alert) = (member.key.clone(), member.event.body.clone());
        let (seen, _) = sent("", member, STARTED).await;
        let body: Value = serde_json::from_slice(&seen.body).unwrap();
        assert!((1..=3).contains(&body["severity"].as_u64().unwrap()), "{name}");
        assert_eq!(body["pretext"], "WAZUH Alert", "{name}");
        assert!(!body["title"].as_str().unwrap().is_empty(), "{name}");
        assert!(!body["text"].as_str().unwrap().is_empty(), "{name}");
        assert_eq!(body["key"], key.as_str(), "{name}");
        let whole: Value = serde_json::from_slice(&alert).unwrap();
        assert_eq!(body["all_fields"], whole, "{name}");
        assert_eq!(body["id"], whole["id"], "{name}");
    }
}

#[tokio::test]
async fn every_try_has_the_same_bytes_and_the_receipt_has_the_execution() {
    let door = || alert(7, r#"{"id":"1.2","rule":{"level":5,"description":"door","id":"9"}}"#);
    let settings = "headers = { X-Key = \"secret-value\" }\ntemplate = \"{{ message.title }}!\"";
    let (first, receipt) = sent(settings, door(), STARTED).await;
    let again = Member { attempt: 2, in_doubt: true, ..door() };
    let (second, _) = sent(settings, again, STARTED).await;
    assert_eq!(first.body, second.body);
    assert_eq!(first.header("x-key"), Some("secret-value"));
    assert_eq!(receipt.remote_id.as_deref(), Some("e-1"));
    let body: Value = serde_json::from_slice(&first.body).unwrap();
    let expected = json!({
        "severity": 2, "pretext": "WAZUH Alert", "title": "door", "text": "door!",
        "rule_id": "9", "timestamp": "2026-03-10T06:11:28.189Z", "id": "1.2",
        "all_fields": { "id": "1.2", "rule": { "level": 5, "description": "door", "id": "9" } },
        "key": "abcdefghij-7.lane", "event": "abcdefghij-7",
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn a_hook_that_answers_in_its_owners_words_has_taken_it() {
    for said in ["thanks", "", "{\"success\":true}", "[1]"] {
        let (_, receipt) = sent("", alert(1, "{}"), said).await;
        assert_eq!((receipt.status, receipt.remote_id), (Some(200), None), "{said}");
    }
}

#[tokio::test]
async fn each_answer_has_its_meaning() {
    let stopped = r#"{"success":false,"reason":"The webhook isn't running. Is it running?"}"#;
    let reason = |text: &str| format!(r#"{{"success":false,"reason":"{text}"}}"#);
    let headers = reason("Bad authentication headers");
    let id = reason("Hook ID not valid");
    let bare = r#"{"success":false}"#;
    #[rustfmt::skip]
    let table = [
        ("400 Bad Request", bare, Reason::Misconfigured),
        ("400 Bad Request", stopped, Reason::Misconfigured),
        ("401 Unauthorized", headers.as_str(), Reason::Unauthorized),
        ("401 Unauthorized", id.as_str(), Reason::Misconfigured),
        ("401 Unauthorized", bare, Reason::ServerFault),
        ("401 Unauthorized", "", Reason::Unauthorized),
        ("403 Forbidden", "", Reason::Misconfigured),
        ("404 Not Found", "", Reason::Misconfigured),
        ("413 Too Large", "", Reason::TooLarge),
        ("429 Too Many Requests", "", Reason::Throttled),
        ("500 Internal Server Error", stopped, Reason::ServerFault),
        ("502 Bad Gateway", "", Reason::ServerFault),
    ];
    for (status, body, expected) in table {
        let fake = Fake::start([Act::Say(answer(status, "", body))]).await;
        let shipment = shipment([alert(1, "{}")]);
        let error = destination(&fake, "").deliver(&shipment).await.unwrap_err();
        assert_eq!(error.reason, expected, "{status} {body}");
    }
}

#[tokio::test]
async fn the_hook_and_its_headers_are_masked() {
    let said = format!("no {PATH} with secret-value");
    let fake = Fake::start([Act::Say(answer("404 Not Found", "", &said))]).await;
    let destination = destination(&fake, "headers = { X-Key = \"secret-value\" }");
    let error = destination.deliver(&shipment([alert(1, "{}")])).await.unwrap_err();
    assert_eq!(error.excerpt, "no [masked] with [masked]");
    assert!(!format!("{destination:?}").contains("secret-value"));
}

#[test]
fn levels_count_as_wazuhs_script_counts_them() {
    let of = |level: &str| {
        severity(&Message::of(&alert(1, format!(r#"{{"rule":{{"level":{level}}}}}"#))))
    };
    assert_eq!([of("0"), of("4"), of("5"), of("7"), of("8"), of("15")], [1, 1, 2, 2, 3, 3]);
    assert_eq!([of("\"low\""), of("\"medium\""), of("\"critical\"")], [1, 2, 3]);
}

#[test]
fn wrong_settings_are_faults() {
    let url = format!("url = \"https://a{PATH}\"\n");
    let table = [
        ("url = \"https://a/api/v1/hooks/webhook_1\"".to_owned(), "lane.url: its last part"),
        (format!("{url}headers = {{ Host = \"x\" }}"), "lane.headers.Host: this header is"),
        (format!("{url}headers = {{ \"a b\" = \"x\" }}"), "lane.headers.a b: it is not"),
        (format!("{url}headers = {{ A = \"x\\ny\" }}"), "lane.headers.A: "),
    ];
    for (table, expected) in table {
        let problem = fault(&KIND, &table, &context());
        assert!(problem.contains(expected), "{problem}");
    }
}
