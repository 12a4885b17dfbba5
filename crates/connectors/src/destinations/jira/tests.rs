use holdfast_model::settings::{Node, Section, Value as Given};

use super::*;
use crate::{
    http::fake::{Act, Fake, Seen, answer},
    message::samples,
    testing::{alert, build as build_kind, context, fault, shipment},
};

const TOKEN_TEXT: &str = "0123456789abcdef";
const CREATED: &str = r#"{"id":"10000","key":"SEC-24","self":"http://x"}"#;
const NONE: &str = r#"{"issues":[],"isLast":true}"#;
const PAIR: &str = "resolved_by = { \"504\" = \"503\" }";
const KEY: &str = "abcdefghij-1.lane";

fn says(status: &str, body: &str) -> Act {
    Act::Say(answer(status, "", body))
}

fn created() -> Act {
    says("201 Created", CREATED)
}

fn ruled(rule: &str) -> Member {
    alert(1, format!(r#"{{"rule":{{"id":"{rule}","level":3}},"agent":{{"id":"001"}}}}"#))
}

fn problem() -> String {
    let lifecycle = build_lifecycle();
    match lifecycle.phase(&Message::of(&ruled("504"))) {
        Phase::Open { key } => key,
        Phase::Resolve { .. } => panic!("it opens"),
    }
}

fn build_lifecycle() -> Lifecycle {
    let pair = vec![("504".to_owned(), Node { line: 1, value: Given::Text("503".into()) })];
    let entries = [("resolved_by".to_owned(), Node { line: 1, value: Given::Table(pair) })];
    let faults = std::cell::RefCell::default();
    Lifecycle::read(&Section::new("d", 1, &entries, &faults)).unwrap()
}

fn row(key: &str, labels: &[&str]) -> String {
    json!({ "issues": [{ "id": "1", "key": key, "fields": { "labels": labels } }] }).to_string()
}

async fn run(
    acts: Vec<Act>,
    more: &str,
    member: Member,
) -> (Result<Receipt, DeliveryError>, Vec<Seen>) {
    let fake = Fake::start(acts).await;
    let login = if more.contains("server") { "" } else { "email = \"a@b.c\"" };
    let url = &fake.url;
    let table =
        format!("url = \"{url}/j/\"\ntoken = \"{TOKEN_TEXT}\"\nproject = \"SEC\"\n{login}\n{more}");
    let destination = build_kind(&KIND, &table, &context()).unwrap();
    let result = destination.deliver(&shipment([member])).await.map(|delivered| match delivered {
        Delivered::All(receipt) => receipt,
        Delivered::Each(_) => panic!("one event has one answer"),
    });
    (result, fake.seen())
}

fn body(seen: &Seen) -> Value {
    serde_json::from_slice(&seen.body).unwrap()
}

fn lines(seen: &[Seen]) -> Vec<&str> {
    seen.iter().map(|seen| seen.line.trim_end_matches(" HTTP/1.1")).collect()
}

async fn sent(more: &str, member: Member) -> Value {
    let (result, seen) = run(vec![created()], more, member).await;
    result.unwrap();
    assert_eq!(seen.len(), 1);
    body(&seen[0])
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn assert_text_node(name: &str, node: &Value, marks: bool) {
    assert_eq!(node["type"], "text", "{name}");
    assert!(!node["text"].as_str().unwrap().is_empty(), "{name}: an empty text node");
    assert!(
        keys(node).iter().all(|key| ["type", "text"].contains(key) || marks && *key == "marks")
    );
    for mark in node["marks"].as_array().unwrap_or(&Vec::new()) {
        assert_eq!(mark, &json!({ "type": "strong" }), "{name}");
    }
}

/// The parts of the document schema that are used, in our words.
fn assert_valid(name: &str, body: &Value) {
    assert_eq!(keys(body), ["fields", "properties"], "{name}");
    let fields = &body["fields"];
    let summary = fields["summary"].as_str().unwrap();
    assert!((1..=255).contains(&summary.chars().count()) && !summary.contains('\n'), "{name}");
    for label in fields["labels"].as_array().unwrap() {
        let label = label.as_str().unwrap();
        assert!((1..=255).contains(&label.len()) && !label.contains(' '), "{name}");
    }
    let property = &body["properties"][0];
    assert!(
        property["value"].to_string().len() <= 32_768 && property["key"] == "holdfast",
        "{name}"
    );
    let text = &fields["description"];
    if let Some(text) = text.as_str() {
        assert!((1..=32_767).contains(&text.chars().count()), "{name}");
        return;
    }
    assert!(text.to_string().chars().count() <= 32_767, "{name}");
    assert_eq!((&text["type"], &text["version"]), (&json!("doc"), &json!(1)), "{name}");
    assert_eq!(keys(text).len(), 3, "{name}");
    for block in text["content"].as_array().unwrap() {
        assert_eq!(keys(block).len(), 2, "{name}");
        let plain = block["type"] == "codeBlock";
        assert!(plain || block["type"] == "paragraph", "{name}");
        for node in block["content"].as_array().unwrap() {
            assert_text_node(name, node, !plain);
        }
    }
}

#[tokio::test]
async fn every_sample_is_a_valid_issue() {
    for more in ["", "version = \"server\""] {
        for (name, member) in samples::all() {
            assert_valid(&name, &sent(more, member).await);
        }
        assert_valid("hostile", &sent(more, samples::hostile()).await);
        let long = "{% for i in range(3000) %}a\\u0007\\\"line of words\\n\\n{% endfor %}";
        for template in ["", " ", long] {
            let more = format!("{more}\ntemplate = \"{template}\"");
            assert_valid("template", &sent(&more, alert(1, "{}")).await);
        }
    }
}

#[tokio::test]
async fn an_issue_of_the_cloud_is_this() {
    let alert = alert(1, r#"{"rule":{"level":12,"description":"door"},"timestamp":"t"}"#);
    let (result, seen) = run(vec![created()], "severity = { high = \"P1\" }", alert).await;
    assert_eq!(result.unwrap(), receipt(201, Some("SEC-24".into()), false));
    assert_eq!(lines(&seen), ["POST /j/rest/api/3/issue"]);
    assert_eq!(seen[0].header("authorization"), Some("Basic YUBiLmM6MDEyMzQ1Njc4OWFiY2RlZg=="));
    assert_eq!(seen[0].header("content-type"), Some("application/json"));
    let mut body = body(&seen[0]);
    let text = body["fields"]["description"].take();
    let last = text["content"].as_array().unwrap().last().unwrap();
    let footer = "Event abcdefghij-1, key abcdefghij-1.lane";
    assert_eq!(
        last,
        &json!({ "type": "paragraph", "content": [{ "type": "text", "text": footer }] })
    );
    let expected = json!({
        "fields": {
            "project": { "key": "SEC" }, "issuetype": { "name": "Task" }, "summary": "door",
            "description": null, "labels": ["wazuh", KEY], "priority": { "name": "P1" },
        },
        "properties": [{ "key": "holdfast", "value": { "key": KEY, "event": "abcdefghij-1" } }],
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn an_issue_of_a_server_is_escaped_wiki_text() {
    let alert =
        alert(1, r#"{"rule":{"description":"a*b {x} \\ [~u]"},"full_log":"x {noformat} y"}"#);
    let more = "version = \"server\"\nissue_type = \"10003\"";
    let (_, seen) = run(vec![created()], more, alert).await;
    assert_eq!(lines(&seen), ["POST /j/rest/api/2/issue"]);
    assert_eq!(seen[0].header("authorization"), Some(format!("Bearer {TOKEN_TEXT}").as_str()));
    let body = body(&seen[0]);
    assert_eq!(body["fields"]["issuetype"], json!({ "id": "10003" }));
    assert!(body["fields"].get("priority").is_none());
    let text = body["fields"]["description"].as_str().unwrap();
    assert!(text.starts_with("*a\\*b \\{x\\} &#92; \\[\\~u\\]*\n"), "{text}");
    assert!(text.contains("{noformat}\nx { noformat} y\n{noformat}"), "{text}");
    assert!(text.ends_with("\n\nEvent abcdefghij\\-1, key abcdefghij\\-1.lane"), "{text}");
}

#[tokio::test]
async fn what_is_in_doubt_is_searched_for_first() {
    let jql = format!("project = \"SEC\" AND labels = \"{KEY}\" ORDER BY created DESC");
    let question = json!({ "jql": jql, "maxResults": 50, "fields": ["labels"] });
    for (more, path) in [("", "3/search/jql"), ("version = \"server\"", "2/search")] {
        let doubt = || Member { in_doubt: true, ..ruled("5") };
        let acts = vec![says("200 OK", &row("SEC-9", &["wazuh", KEY]))];
        let (result, seen) = run(acts, more, doubt()).await;
        assert_eq!(result.unwrap(), receipt(200, Some("SEC-9".into()), true));
        assert_eq!(lines(&seen), [format!("POST /j/rest/api/{path}")]);
        assert_eq!(body(&seen[0]), question);
        // Nothing, another's label, a key that would leave its path.
        for rows in [NONE, &row("SEC-9", &["abcdefghij-1.lane2"]), &row("../x", &[KEY])] {
            let (result, seen) = run(vec![says("200 OK", rows), created()], more, doubt()).await;
            assert_eq!((result.unwrap().duplicate, seen.len()), (false, 2), "{rows}");
        }
        let again = Member { attempt: 2, ..ruled("5") };
        assert_eq!(run(vec![says("200 OK", NONE), created()], more, again).await.1.len(), 2);
    }
}

#[tokio::test]
async fn an_open_problem_gets_a_comment() {
    let problem = problem();
    let (_, seen) = run(vec![says("200 OK", NONE), created()], PAIR, ruled("504")).await;
    assert_eq!(body(&seen[1])["fields"]["labels"], json!(["wazuh", KEY, problem]));
    let jql = body(&seen[0])["jql"].as_str().unwrap().to_owned();
    assert!(jql.contains(&format!("\"{problem}\" AND statusCategory != Done ORDER")), "{jql}");

    let open = || says("200 OK", &row("SEC-9", &[&problem]));
    let (result, seen) = run(vec![open(), says("201 Created", "{}")], PAIR, ruled("504")).await;
    assert_eq!(result.unwrap(), receipt(201, Some("SEC-9".into()), false));
    assert_eq!(lines(&seen)[1], "POST /j/rest/api/3/issue/SEC-9/comment");
    let comment = body(&seen[1]);
    assert_eq!(comment["body"]["type"], "doc");

    let own = says("200 OK", &row("SEC-9", &[&problem, KEY]));
    let (result, seen) = run(vec![own], PAIR, ruled("504")).await;
    assert!(result.unwrap().duplicate && seen.len() == 1, "the event made this issue");

    let doubt = Member { in_doubt: true, ..ruled("504") };
    let comments = json!({ "comments": [comment] }).to_string();
    let acts = vec![says("200 OK", NONE), open(), says("200 OK", &comments)];
    let (result, seen) = run(acts, PAIR, doubt).await;
    assert!(result.unwrap().duplicate && seen.len() == 3, "the comment is there");
    assert_eq!(
        lines(&seen)[2],
        "GET /j/rest/api/3/issue/SEC-9/comment?orderBy=-created&maxResults=50"
    );

    let acts = vec![open(), says("413 Too Large", "{}"), created()];
    let (result, _) = run(acts, PAIR, ruled("504")).await;
    assert_eq!(
        result.unwrap().remote_id.as_deref(),
        Some("SEC-24"),
        "a full issue has a successor"
    );
    let (result, _) = run(vec![open(), says("404 Not Found", "{}")], PAIR, ruled("504")).await;
    assert_eq!(result.unwrap_err().reason, Reason::ServerFault, "it was deleted just now");
}

#[tokio::test]
async fn a_resolving_rule_transitions_or_comments() {
    let open = || says("200 OK", &row("SEC-9", &[&problem()]));
    let more = format!("{PAIR}\ntransition = \"done\"");
    let list = r#"{"transitions":[{"id":"11","name":"Start"},{"id":"31","name":"Done"}]}"#;
    let acts =
        vec![open(), says("200 OK", list), Act::Say(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec())];
    let (result, seen) = run(acts, &more, ruled("503")).await;
    assert_eq!(result.unwrap(), receipt(204, Some("SEC-9".into()), false));
    let path = "/j/rest/api/3/issue/SEC-9/transitions";
    assert_eq!(lines(&seen)[1..], [format!("GET {path}"), format!("POST {path}")]);
    assert_eq!(body(&seen[2]), json!({ "transition": { "id": "31" } }));

    let acts = vec![open(), says("200 OK", r#"{"transitions":[]}"#), says("201 Created", "{}")];
    let (result, seen) = run(acts, &more, ruled("503")).await;
    assert!(!result.unwrap().duplicate && lines(&seen)[2].ends_with("/comment"));
    let (result, seen) = run(vec![open(), says("201 Created", "{}")], PAIR, ruled("503")).await;
    assert!(!result.unwrap().duplicate && lines(&seen)[1].ends_with("/comment"));
    let (result, seen) = run(vec![says("200 OK", NONE)], &more, ruled("503")).await;
    assert!(result.unwrap().duplicate && seen.len() == 1, "nothing is open");
}

#[tokio::test]
async fn each_answer_has_its_meaning() {
    let denied = "X-Authentication-Denied-Reason: CAPTCHA_CHALLENGE; login-url=x\r\n";
    #[rustfmt::skip]
    let table = [
        ("200 OK", "", "<html>log in</html>", Reason::BadAnswer),
        ("201 Created", "", "{}", Reason::BadAnswer),
        ("302 Found", "", "", Reason::Misconfigured),
        ("400 Bad Request", "", r#"{"errors":{"project":"valid project is required"}}"#, Reason::Misconfigured),
        ("400 Bad Request", "", r#"{"errors":{"issuetype":"x","priority":"x"}}"#, Reason::Misconfigured),
        ("400 Bad Request", "", r#"{"errors":{"customfield_10010":"Team is required."}}"#, Reason::Misconfigured),
        ("400 Bad Request", "", r#"{"errorMessages":["Field 'issuetype' is required"]}"#, Reason::Misconfigured),
        ("400 Bad Request", "", r#"{"errorMessages":["Field 'priority' is required"]}"#, Reason::Refused),
        ("400 Bad Request", "", r#"{"errors":{"priority":"x"}}"#, Reason::Refused),
        ("400 Bad Request", "", r#"{"errorMessages":["the project of 'issuetype'"],"errors":{}}"#, Reason::Refused),
        ("400 Bad Request", "", "oops", Reason::Refused),
        ("401 Unauthorized", "", "", Reason::Unauthorized),
        ("403 Forbidden", denied, "", Reason::Unauthorized),
        ("403 Forbidden", "", "", Reason::Forbidden),
        ("404 Not Found", "", "{}", Reason::Misconfigured),
        ("409 Conflict", "", "{}", Reason::ServerFault),
        ("410 Gone", "", "{}", Reason::Misconfigured),
        ("413 Too Large", "", "", Reason::TooLarge),
        ("422 Unprocessable", "", "{}", Reason::Misconfigured),
        ("429 Too Many Requests", "Retry-After: 7\r\n", "", Reason::Throttled),
        ("503 Unavailable", "Retry-After: 7\r\n", "", Reason::ServerFault),
    ];
    for (status, headers, body, expected) in table {
        let act = Act::Say(answer(status, headers, body));
        let error = run(vec![act], "", alert(1, "{}")).await.0.unwrap_err();
        assert_eq!(error.reason, expected, "{status} {body}");
        let seconds = error.retry_after.map(|wait| wait.as_secs());
        assert_eq!(seconds, headers.starts_with("Retry").then_some(7), "{status}");
    }
    let doubt = Member { in_doubt: true, ..ruled("5") };
    let error = run(vec![says("400 Bad Request", "{}")], "", doubt).await.0.unwrap_err();
    assert_eq!(error.reason, Reason::Misconfigured, "a search holds settings only");
}

#[tokio::test]
async fn a_token_that_the_answer_repeats_is_masked() {
    let act = says("401 Unauthorized", &format!("bad {TOKEN_TEXT}"));
    let error = run(vec![act], "", alert(1, "{}")).await.0.unwrap_err();
    assert_eq!(error.excerpt, "bad [masked]");
}

#[tokio::test]
async fn the_check_asks_who_we_are() {
    let fake = Fake::start([says("200 OK", "{}"), says("401 Unauthorized", "")]).await;
    let table = format!("url = \"{}\"\ntoken = \"t\"\nproject = \"SEC\"", fake.url);
    let destination = build_kind(&KIND, &table, &context()).unwrap();
    assert!(destination.check().await.unwrap().is_ok());
    assert_eq!(lines(&fake.seen()), ["GET /rest/api/3/myself"]);
    assert_eq!(destination.check().await.unwrap().unwrap_err().reason, Reason::Unauthorized);
}

#[test]
fn what_cannot_work_is_a_fault() {
    let with = |url: &str, project: &str, more: &str| {
        let table = format!("url = \"{url}\"\ntoken = \"t\"\nproject = \"{project}\"\n{more}");
        fault(&KIND, &table, &context())
    };
    assert!(with("https://h", "S\\\" OR", "").contains("project's key"));
    assert!(with("https://h", "SEC", "labels = [\"a b\"]").contains("no spaces"));
    assert!(with("https://h", "SEC", "issue_type = \"\"").contains("not be empty"));
    assert!(with("https://h", "SEC", "severity = { dire = \"x\" }").contains("no such severity"));
    assert!(with("ftp://h", "SEC", "").contains("http://"));
}
