use super::*;
use crate::{
    http::fake::{Act, Fake, answer},
    message::samples,
    testing::{alert, build as build_kind, context, fault, shipment},
};

const PASSWORD: &str = "correct-horse";

fn destination(fake: &Fake, more: &str) -> Arc<dyn Destination> {
    let table = format!("url = \"{}\"\ngzip = false\n{more}", fake.url);
    build_kind(&KIND, &table, &context()).unwrap()
}

fn item(seq: u64, status: u16, error: &str) -> String {
    let error = if error.is_empty() { String::new() } else { format!(",\"error\":{error}") };
    format!(
        r#"{{"create":{{"_index":"i","_id":"abcdefghij-{seq}.lane","status":{status}{error}}}}}"#
    )
}

fn bulk(items: &[String]) -> String {
    format!(r#"{{"errors":true,"items":[{}]}}"#, items.join(","))
}

async fn outcome(
    status: &str,
    body: &str,
    members: Vec<Member>,
) -> Result<Vec<Result<Receipt, DeliveryError>>, DeliveryError> {
    let fake = Fake::start([Act::Say(answer(status, "", body))]).await;
    let more = format!("user = \"holdfast\"\npassword = \"{PASSWORD}\"");
    match destination(&fake, &more).deliver(&shipment(members)).await? {
        Delivered::Each(results) => Ok(results),
        Delivered::All(receipt) => panic!("{receipt:?}"),
    }
}

fn one() -> Vec<Member> {
    vec![alert(1, r#"{"rule":{"level":3}}"#)]
}

#[tokio::test]
async fn every_sample_is_an_action_and_a_document_and_every_try_is_the_same() {
    let mut members: Vec<_> = samples::all().into_iter().map(|(_, member)| member).collect();
    members.push(samples::hostile());
    members.push(alert(100, "{oops"));
    let items: Vec<_> = members.iter().map(|member| item(member.id.seq, 201, "")).collect();
    let fake = Fake::start([Act::Say(answer("200 OK", "", &bulk(&items)))]).await;
    let destination = destination(&fake, "index = \"alerts-{date}\"\napi_key = \"abcdefgh==\"");
    let shipment = shipment(members);
    for _ in 0..2 {
        destination.deliver(&shipment).await.unwrap();
    }
    let seen = fake.seen();
    assert_eq!(seen[0].body, seen[1].body);
    assert!(seen[0].line.starts_with("POST /_bulk?filter_path=errors"), "{}", seen[0].line);
    assert_eq!(seen[0].header("content-type"), Some("application/x-ndjson"));
    assert_eq!(seen[0].header("authorization"), Some("ApiKey abcdefgh=="));
    let text = seen[0].text();
    assert!(text.ends_with('\n') && !text.contains("\n\n"));
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2 * shipment.members.len());
    for (pair, member) in lines.chunks(2).zip(&shipment.members) {
        assert_eq!(pair[0]["create"]["_id"], *member.key);
        assert!(member.key.len() <= 512);
        assert_eq!(pair[0]["create"].as_object().unwrap().len(), 2);
        let moment = pair[1]["@timestamp"].as_str().unwrap();
        assert!(moment.len() == 24 && moment.ends_with('Z'), "{moment}");
        let index = format!("alerts-{}", moment[..10].replace('-', "."));
        assert_eq!(pair[0]["create"]["_index"], *index);
        assert_eq!(pair[1]["holdfast"]["key"], *member.key);
    }
}

#[tokio::test]
async fn a_request_has_these_bytes() {
    let body = bulk(&[item(1, 201, "")]);
    let fake = Fake::start([Act::Say(answer("200 OK", "", &body))]).await;
    destination(&fake, "").deliver(&shipment(one())).await.unwrap();
    let expected = concat!(
        r#"{"create":{"_id":"abcdefghij-1.lane","_index":"holdfast-alerts"}}"#,
        "\n",
        r#"{"@timestamp":"2026-03-10T06:11:28.189Z","holdfast":{"id":"abcdefghij-1","key":"abcdefghij-1.lane","kind":"alert","source":"test"},"rule":{"level":3}}"#,
        "\n",
    );
    assert_eq!(fake.only().text(), expected);
}

#[tokio::test]
async fn each_item_has_its_own_result() {
    let conflict =
        r#"{"type":"version_conflict_engine_exception","reason":"document already exists"}"#;
    let mapping = r#"{"type":"document_parsing_exception","reason":"failed to parse field"}"#;
    let busy = r#"{"type":"es_rejected_execution_exception","reason":"queue full"}"#;
    let body = bulk(&[
        item(1, 201, ""),
        item(2, 409, conflict),
        item(3, 400, mapping),
        item(4, 429, busy),
    ]);
    let members = (1..=4).map(|seq| alert(seq, "{}")).collect();
    let results = outcome("200 OK", &body, members).await.unwrap();
    let stored = results[0].as_ref().unwrap();
    assert_eq!(stored.remote_id.as_deref(), Some("i/abcdefghij-1.lane"));
    assert!(!stored.duplicate);
    assert!(results[1].as_ref().unwrap().duplicate);
    let refused = results[2].as_ref().unwrap_err();
    assert_eq!(refused.reason, Reason::Refused);
    assert_eq!(refused.excerpt, "document_parsing_exception: failed to parse field");
    assert_eq!(results[3].as_ref().unwrap_err().reason, Reason::Throttled);
}

#[tokio::test]
async fn each_item_error_has_its_meaning() {
    #[rustfmt::skip]
    let table = [
        (400, "mapper_parsing_exception", Reason::Refused),
        (400, "strict_dynamic_mapping_exception", Reason::Refused),
        (400, "illegal_argument_exception", Reason::Refused),
        (400, "invalid_index_name_exception", Reason::Misconfigured),
        (404, "index_not_found_exception", Reason::Misconfigured),
        (403, "security_exception", Reason::Forbidden),
        (403, "cluster_block_exception", Reason::ServerFault),
        (429, "circuit_breaking_exception", Reason::Throttled),
        (429, "cluster_block_exception", Reason::Throttled),
        (503, "unavailable_shards_exception", Reason::ServerFault),
        (500, "process_cluster_event_timeout_exception", Reason::ServerFault),
        (302, "odd", Reason::BadAnswer),
    ];
    for (status, kind, reason) in table {
        let error = format!(r#"{{"type":"{kind}","reason":"why {PASSWORD}"}}"#);
        let results = outcome("200 OK", &bulk(&[item(1, status, &error)]), one()).await.unwrap();
        let error = results[0].as_ref().unwrap_err();
        assert_eq!(error.reason, reason, "{status} {kind}");
        assert!(!error.excerpt.contains(PASSWORD));
    }
    assert_eq!(
        item_reason(400, "illegal_argument_exception", "pipeline with id [x] does not exist"),
        Reason::Misconfigured
    );
}

#[tokio::test]
async fn each_answer_has_its_meaning() {
    let other = bulk(&[item(2, 201, "")]);
    let results = outcome("200 OK", &other, one()).await.unwrap();
    assert_eq!(results[0].as_ref().unwrap_err().reason, Reason::BadAnswer, "another's result");
    let two = bulk(&[item(1, 201, ""), item(2, 201, "")]);
    #[rustfmt::skip]
    let table = [
        ("200 OK", two.as_str(), Reason::BadAnswer),
        ("200 OK", "{}", Reason::BadAnswer),
        ("200 OK", "<html>", Reason::BadAnswer),
        ("400 Bad Request", "Malformed action/metadata line [1]", Reason::Refused),
        ("401 Unauthorized", PASSWORD, Reason::Unauthorized),
        ("403 Forbidden", "", Reason::Forbidden),
        ("404 Not Found", "", Reason::Misconfigured),
        ("406 Not Acceptable", "", Reason::Misconfigured),
        ("415 Unsupported", "", Reason::Misconfigured),
        ("413 Too Large", "", Reason::TooLarge),
        ("429 Too Many", "", Reason::Throttled),
        ("502 Bad Gateway", "", Reason::ServerFault),
    ];
    for (status, body, reason) in table {
        let error = outcome(status, body, one()).await.unwrap_err();
        assert_eq!(error.reason, reason, "{status} {body}");
        assert!(!format!("{error:?}").contains(PASSWORD));
    }
}

#[tokio::test]
async fn a_check_asks_who_is_there() {
    for (status, good) in [("200 OK", true), ("403 Forbidden", true), ("401 No", false)] {
        let fake = Fake::start([Act::Say(answer(status, "", "{}"))]).await;
        let result = destination(&fake, "").check().await.unwrap();
        assert_eq!(result.is_ok(), good, "{status}");
    }
}

#[test]
fn settings_that_cannot_work_are_faults() {
    let url = "url = \"https://e.example\"\n";
    #[rustfmt::skip]
    let table = [
        ("index = \"Alerts\"", "capitals"),
        ("index = \"_alerts\"", "must not begin"),
        ("index = \"a-{day}\"", "not allowed"),
        ("index = \"\"", "1 to 255"),
        ("user = \"u\"", "belong together"),
        ("user = \"u\"\npassword = \"p\"\napi_key = \"k\"", "not both"),
    ];
    for (more, expected) in table {
        let problem = fault(&KIND, &format!("{url}{more}"), &context());
        assert!(problem.contains(expected), "{more}: {problem}");
    }
}
