use std::sync::Arc;

use holdfast_model::Timestamp;
use serde_json::Map;

use super::*;
use crate::{
    http::fake::{Act, Fake, Seen, answer},
    message::samples,
    testing::{alert, build as build_kind, context, fault, shipment},
};

const ID: &str = "9d385017c611228701d22104cc95c371";
const PROBLEMS: &str = "group = \"problem\"\nresolved_by = { \"504\" = \"503\" }";
const TOKEN: &str = r#"{"access_token":"token-one","token_type":"Bearer","expires_in":1799}"#;

fn ok(body: &str) -> Act {
    Act::Say(answer("200 OK", "", body))
}

fn created() -> Act {
    let body = format!(r#"{{"result":{{"sys_id":"{ID}","number":"INC0010002","state":"1"}}}}"#);
    Act::Say(answer("201 Created", "", &body))
}

/// One row with this key, state and description.
fn row(key: &str, state: &str, description: &str) -> Value {
    json!({ "sys_id": ID, "state": state, "correlation_id": key, "description": description })
}

fn rows(rows: &[Value]) -> Act {
    ok(&json!({ "result": rows }).to_string())
}

fn basic(fake: &Fake, more: &str) -> Arc<dyn Destination> {
    let table = format!("url = \"{}\"\nuser = \"me\"\npassword = \"pass-word\"\n{more}", fake.url);
    build_kind(&KIND, &table, &context()).unwrap()
}

fn oauth(fake: &Fake) -> Arc<dyn Destination> {
    let table =
        format!("url = \"{}\"\nclient_id = \"c&1\"\nclient_secret = \"secret one\"", fake.url);
    build_kind(&KIND, &table, &context()).unwrap()
}

async fn outcome(
    acts: Vec<Act>,
    more: &str,
    member: Member,
) -> (Vec<Seen>, Result<Receipt, DeliveryError>) {
    let fake = Fake::start(acts).await;
    let result = basic(&fake, more).deliver(&shipment([member])).await;
    let receipt = result.map(|delivered| match delivered {
        Delivered::All(receipt) => receipt,
        Delivered::Each(_) => panic!("one event has one answer"),
    });
    (fake.seen(), receipt)
}

async fn tell(acts: Vec<Act>, more: &str, member: Member) -> (Vec<Seen>, Receipt) {
    let (seen, receipt) = outcome(acts, more, member).await;
    (seen, receipt.unwrap())
}

fn json_of(seen: &Seen) -> Value {
    serde_json::from_slice(&seen.body).unwrap()
}

fn methods(seen: &[Seen]) -> Vec<&str> {
    seen.iter().map(|seen| seen.line.split(' ').next().unwrap()).collect()
}

fn with_rule(rule: &str) -> Member {
    alert(1, format!(r#"{{"rule":{{"id":"{rule}","level":3}},"agent":{{"id":"001"}}}}"#))
}

fn in_doubt(member: Member) -> Member {
    Member { in_doubt: true, attempt: 2, ..member }
}

/// The limits of the columns as ServiceNow ships them; every value is a text.
fn assert_valid(name: &str, body: &Value, limits: &[(&str, usize)]) {
    for (field, value) in body.as_object().unwrap() {
        let (_, limit) = limits.iter().find(|(known, _)| known == field).expect(field);
        let text = value.as_str().unwrap_or_else(|| panic!("{name}: {field} is no text"));
        assert!((1..=*limit).contains(&text.chars().count()), "{name}: {field}: {text}");
    }
    assert_eq!(body.as_object().unwrap().len(), limits.len(), "{name}");
}

fn members() -> Vec<(String, Member)> {
    let mut all = samples::all();
    all.push(("hostile".into(), samples::hostile()));
    all.push(("empty".into(), alert(1, "{oops")));
    all
}

#[tokio::test]
async fn every_sample_is_a_valid_record_and_row() {
    let limits = [
        ("short_description", 160),
        ("description", 4000),
        ("impact", 1),
        ("urgency", 1),
        ("correlation_id", 100),
        ("correlation_display", 100),
    ];
    let prefixed = limits.map(|(name, limit)| (format!("u_{name}"), limit));
    let prefixed = prefixed.each_ref().map(|(name, limit)| (name.as_str(), *limit));
    let imported = format!(r#"{{"result":[{{"status":"inserted","sys_id":"{ID}"}}]}}"#);
    for (name, member) in members() {
        let (seen, _) = tell(vec![created()], "", member.clone()).await;
        assert_valid(&name, &json_of(&seen[0]), &limits);
        let staging = "import_set = \"u_staging\"";
        let (seen, receipt) = tell(vec![ok(&imported)], staging, member).await;
        assert_eq!(seen[0].line, "POST /api/now/import/u_staging HTTP/1.1");
        assert_valid(&name, &json_of(&seen[0]), &prefixed);
        assert_eq!((receipt.remote_id.as_deref(), receipt.duplicate), (Some(ID), false));
    }
}

#[tokio::test]
async fn every_sample_is_a_valid_event() {
    let limits = [
        ("source", 100),
        ("event_class", 100),
        ("node", 100),
        ("resource", 100),
        ("metric_name", 100),
        ("type", 100),
        ("severity", 1),
        ("message_key", 1024),
        ("description", 4000),
        ("time_of_event", 19),
        ("resolution_state", 3),
        ("additional_info", 4000),
    ];
    for (name, member) in members() {
        let (seen, _) = tell(vec![ok(r#"{"result":{}}"#)], "table = \"em_event\"", member).await;
        assert_eq!(seen[0].line, "POST /api/global/em/jsonv2 HTTP/1.1");
        let body = json_of(&seen[0]);
        let [event] = body["records"].as_array().unwrap().as_slice() else { panic!("{name}") };
        assert_valid(&name, event, &limits);
        assert!(["1", "2", "3", "4"].contains(&event["severity"].as_str().unwrap()), "{name}");
        let at = event["time_of_event"].as_str().unwrap();
        assert!(Timestamp::parse(&format!("{}Z", at.replace(' ', "T"))).is_some(), "{name}: {at}");
        let info: Value = serde_json::from_str(event["additional_info"].as_str().unwrap()).unwrap();
        assert!(info.as_object().unwrap().values().all(Value::is_string), "{name}: {info}");
    }
}

#[tokio::test]
async fn the_record_is_exactly_this() {
    let member = alert(7, r#"{"rule":{"id":"5712","level":12,"description":"door"}}"#);
    let more = "fields = { assignment_group = \"abc\", urgency = 1, u_new = true }";
    let (seen, receipt) = tell(vec![created()], more, member).await;
    assert_eq!(seen[0].line, "POST /api/now/table/incident HTTP/1.1");
    assert_eq!(seen[0].header("accept"), Some("application/json"));
    assert_eq!(seen[0].header("authorization"), Some("Basic bWU6cGFzcy13b3Jk"));
    let mut body = json_of(&seen[0]);
    let description = body["description"].take();
    assert!(description.as_str().unwrap().ends_with("\n\nEvent abcdefghij-7"));
    let expected = json!({
        "short_description": "door", "description": null, "impact": "2", "urgency": "1",
        "correlation_id": "abcdefghij-7.lane", "correlation_display": "holdfast",
        "assignment_group": "abc", "u_new": "true",
    });
    assert_eq!(body, expected);
    assert_eq!(receipt.remote_id.as_deref(), Some(ID));
    assert!(!receipt.duplicate && receipt.status == Some(201));
}

#[tokio::test]
async fn a_later_try_looks_first_and_believes_only_its_own_key() {
    let key = "abcdefghij-1.lane";
    let (seen, receipt) =
        tell(vec![rows(&[row(key, "7", "")])], "", in_doubt(alert(1, "{}"))).await;
    assert!(receipt.duplicate && receipt.remote_id.as_deref() == Some(ID));
    let line = "GET /api/now/table/incident?sysparm_query=correlation_id%3Dabcdefghij-1.lane%5EORDERBYDESCsys_created_on&sysparm_limit=20&sysparm_display_value=false&sysparm_exclude_reference_link=true&sysparm_fields=sys_id%2Cnumber%2Cstate%2Ccorrelation_id%2Cdescription HTTP/1.1";
    assert_eq!(seen[0].line, line);
    let none = r#"{"error":{"message":"No Record found","detail":""},"status":"failure"}"#;
    let not_found = Act::Say(answer("404 Not Found", "", none));
    for first in [rows(&[]), rows(&[row("abcdefghij-10.lane", "1", "")]), not_found] {
        let acts = vec![first, created()];
        let (seen, receipt) = tell(acts, "", in_doubt(alert(1, "{}"))).await;
        assert_eq!(methods(&seen), ["GET", "POST"]);
        assert!(!receipt.duplicate);
        assert_eq!(json_of(&seen[1])["correlation_id"], key);
    }
}

#[tokio::test]
async fn a_long_or_odd_key_is_replaced_whole() {
    assert_eq!(correlation_id("a-1.lane"), "a-1.lane");
    for key in ["x".repeat(101), "a^ORstate=1".to_owned()] {
        let id = correlation_id(&key);
        assert!(id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    }
}

#[tokio::test]
async fn more_of_an_open_problem_is_a_work_note() {
    let (seen, _) = tell(vec![rows(&[]), created()], PROBLEMS, with_rule("504")).await;
    let key = json_of(&seen[1])["correlation_id"].as_str().unwrap().to_owned();
    assert_eq!(key.len(), 43);
    let acts = vec![rows(&[row(&key, "2", "Event other-1")]), created()];
    let (seen, receipt) = tell(acts, PROBLEMS, with_rule("504")).await;
    assert_eq!(seen[1].line, format!("PATCH /api/now/table/incident/{ID} HTTP/1.1"));
    let note = json_of(&seen[1]);
    assert_eq!(note.as_object().unwrap().len(), 1);
    assert!(note["work_notes"].as_str().unwrap().ends_with("Event abcdefghij-1"));
    assert!(!receipt.duplicate);
    // Closed: a new one. Ours, in doubt: neither.
    let acts = vec![rows(&[row(&key, "7", "Event other-1")]), created()];
    assert_eq!(methods(&tell(acts, PROBLEMS, with_rule("504")).await.0), ["GET", "POST"]);
    let acts = vec![rows(&[row(&key, "2", "door\n\nEvent abcdefghij-1")])];
    let (seen, receipt) = tell(acts, PROBLEMS, in_doubt(with_rule("504"))).await;
    assert!(seen.len() == 1 && receipt.duplicate);
    let gone = Act::Say(answer("404 Not Found", "", "{}"));
    let acts = vec![rows(&[row(&key, "2", "")]), gone];
    let (_, result) = outcome(acts, PROBLEMS, with_rule("504")).await;
    assert_eq!(result.unwrap_err().reason, Reason::ServerFault);
}

#[tokio::test]
async fn a_resolving_rule_resolves_what_is_open() {
    let (seen, _) = tell(vec![rows(&[]), created()], PROBLEMS, with_rule("504")).await;
    let key = json_of(&seen[1])["correlation_id"].as_str().unwrap().to_owned();
    let closed = Value::Object(Map::from_iter([("sys_id".to_owned(), json!("0"))]));
    let acts = vec![rows(&[closed, row(&key, "6", ""), row(&key, "2", "")]), created()];
    let more = format!("{PROBLEMS}\nclose_code = \"Solved\"\nclose_notes = \"gone\"");
    let (seen, receipt) = tell(acts, &more, with_rule("503")).await;
    assert_eq!(methods(&seen), ["GET", "PATCH"]);
    let expected = json!({ "state": "6", "close_code": "Solved", "close_notes": "gone" });
    assert_eq!(json_of(&seen[1]), expected);
    assert_eq!(receipt.remote_id.as_deref(), Some(ID));
    let (seen, receipt) = tell(vec![rows(&[])], PROBLEMS, with_rule("503")).await;
    assert!(seen.len() == 1 && receipt.duplicate);
    let events = format!("{PROBLEMS}\ntable = \"em_event\"");
    let (seen, receipt) = tell(vec![ok(r#"{"result":"ok"}"#)], &events, with_rule("503")).await;
    let event = &json_of(&seen[0])["records"][0];
    assert_eq!((&event["resolution_state"], &event["severity"]), (&json!("Closing"), &json!("5")));
    assert_eq!(
        (event["message_key"].as_str(), receipt.remote_id),
        (Some(&*key), Some(key.clone()))
    );
}

#[tokio::test]
async fn each_answer_has_its_meaning() {
    let invalid = r#"{"error":{"message":"Invalid table x","detail":null},"status":"failure"}"#;
    let refused = r#"{"error":{"message":"bad","detail":"x"},"status":"failure"}"#;
    let import = "import_set = \"u_staging\"";
    let row_error = r#"{"result":[{"status":"error","error_message":"no map"}]}"#;
    #[rustfmt::skip]
    let table = [
        ("", "200 OK", "<html>hibernating</html>", Reason::BadAnswer),
        ("", "201 Created", "{}", Reason::BadAnswer),
        ("", "201 Created", r#"{"result":{"sys_id":"../x"}}"#, Reason::BadAnswer),
        (import, "201 Created", row_error, Reason::Refused),
        (import, "201 Created", r#"{"result":[]}"#, Reason::BadAnswer),
        (import, "201 Created", r#"{"import_set_id":"x"}"#, Reason::BadAnswer),
        ("table = \"em_event\"", "200 OK", "{}", Reason::BadAnswer),
        ("", "400 Bad Request", refused, Reason::Refused),
        ("", "400 Bad Request", invalid, Reason::Misconfigured),
        ("", "401 Unauthorized", "", Reason::Unauthorized),
        ("", "403 Forbidden", refused, Reason::Forbidden),
        ("", "404 Not Found", invalid, Reason::Misconfigured),
        ("", "429 Too Many Requests", "", Reason::Throttled),
        ("", "500 Internal Server Error", "", Reason::ServerFault),
        ("", "302 Found", "", Reason::Misconfigured),
    ];
    for (more, status, body, expected) in table {
        let acts = vec![Act::Say(answer(status, "", body))];
        let (seen, result) = outcome(acts, more, alert(1, "{}")).await;
        assert_eq!(result.unwrap_err().reason, expected, "{status} {body}");
        assert_eq!(seen.len(), 1);
    }
    let acts = vec![Act::Say(answer("429 No", "Retry-After: 7\r\n", "pass-word"))];
    let error = outcome(acts, "", alert(1, "{}")).await.1.unwrap_err();
    assert_eq!(error.retry_after, Some(std::time::Duration::from_secs(7)));
    assert_eq!(error.excerpt, "[masked]");
}

#[tokio::test]
async fn a_token_is_kept_and_one_that_is_refused_is_replaced_once() {
    let second = TOKEN.replace("one", "two");
    let no = || Act::Say(answer("401 Unauthorized", "", "no token-two, secret one"));
    let fake =
        Fake::start([ok(TOKEN), created(), created(), no(), ok(&second), created(), no()]).await;
    let destination = oauth(&fake);
    let shipment = shipment([alert(1, "{}")]);
    for _ in 0..3 {
        destination.deliver(&shipment).await.unwrap();
    }
    let seen = fake.seen();
    assert_eq!(seen[0].line, "POST /oauth_token.do HTTP/1.1");
    assert_eq!(seen[0].header("content-type"), Some("application/x-www-form-urlencoded"));
    let form = "grant_type=client_credentials&client_id=c%261&client_secret=secret+one";
    assert_eq!((seen[0].text(), seen[0].header("authorization")), (form, None));
    let used: Vec<_> = seen.iter().filter_map(|seen| seen.header("authorization")).collect();
    let (one, two) = ("Bearer token-one", "Bearer token-two");
    assert_eq!(used, [one, one, one, two]);
    // The last act repeats: the token is refused, and so is the request for another.
    let error = destination.deliver(&shipment).await.unwrap_err();
    assert_eq!((error.reason, fake.seen().len()), (Reason::Unauthorized, 8));
    assert_eq!(error.excerpt, "no [masked], [masked]");
}

#[tokio::test]
async fn a_token_near_its_end_is_not_kept_and_bad_ones_cost_no_event() {
    let short = TOKEN.replace("1799", "\"60\"");
    let fake = Fake::start([ok(&short), created(), ok(&short), created()]).await;
    let destination = oauth(&fake);
    for _ in 0..2 {
        destination.deliver(&shipment([alert(1, "{}")])).await.unwrap();
    }
    assert_eq!(fake.seen().len(), 4);
    #[rustfmt::skip]
    let table = [
        ("400 Bad Request", r#"{"error":"invalid_client"}"#, Reason::Unauthorized),
        ("400 Bad Request", r#"{"error":"unsupported_grant_type"}"#, Reason::Misconfigured),
        ("401 Unauthorized", r#"{"error":"access_denied"}"#, Reason::Unauthorized),
        ("403 Forbidden", "", Reason::Unauthorized),
        ("404 Not Found", "", Reason::Misconfigured),
        ("503 Unavailable", "", Reason::ServerFault),
        ("200 OK", "<html>", Reason::BadAnswer),
        ("200 OK", r#"{"access_token":""}"#, Reason::BadAnswer),
    ];
    for (status, body, expected) in table {
        let fake = Fake::start([Act::Say(answer(status, "", body))]).await;
        let error = oauth(&fake).deliver(&shipment([alert(1, "{}")])).await.unwrap_err();
        assert_eq!((error.reason, fake.seen().len()), (expected, 1), "{status} {body}");
    }
}

#[test]
fn what_cannot_work_is_a_fault() {
    let with = |more: &str| {
        let table = format!("url = \"https://h\"\nuser = \"u\"\npassword = \"p\"\n{more}");
        fault(&KIND, &table, &context())
    };
    assert!(with("client_id = \"c\"").contains("give either"));
    assert!(with("fields = { correlation_id = \"x\" }").contains("writes this one itself"));
    assert!(with("fields = { \"a^b\" = \"x\" }").contains("lower-case letters"));
    let zero = "table = \"em_event\"\nseverity = { low = 0 }";
    assert!(with(zero).contains("one of 1, 2, 3, 4, 5"));
    assert!(with("import_set = \"u_s\"\ngroup = \"problem\"").contains("neither grouped"));
    assert!(with("import_set = \"../x\"").contains("a table's name"));
    assert!(with("close_state = \"six\"").contains("whole number"));
}
