use holdfast_model::Member;

use super::*;
use crate::{
    http::fake::{Act, Fake, answer},
    message::samples,
    testing::{alert, build as build_kind, context, fault, shipment},
};

const PATH: &str = "/api/webhooks/123/t0k3nt0k3n";
const SAVED: &str = r#"{"id":"1234","channel_id":"5678","content":""}"#;

fn destination(fake: &Fake, more: &str) -> Arc<dyn Destination> {
    let table = format!("url = \"{}{PATH}\"\n{more}", fake.url);
    build_kind(&KIND, &table, &context()).unwrap()
}

async fn sent(more: &str, member: Member) -> Value {
    let fake = Fake::start([Act::Say(answer("200 OK", "", SAVED))]).await;
    destination(&fake, more).deliver(&shipment([member])).await.unwrap();
    let seen = fake.only();
    assert_eq!(seen.line, format!("POST {PATH}?wait=true HTTP/1.1"));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    serde_json::from_slice(&seen.body).unwrap()
}

fn chars(value: &Value) -> usize {
    value.as_str().unwrap().chars().count()
}

/// Discord's limits of a message with one embed.
fn assert_valid(name: &str, body: &Value) {
    assert_eq!(body["allowed_mentions"], json!({ "parse": [] }), "{name}");
    if let Some(content) = body.get("content") {
        assert!((1..=2000).contains(&chars(content)), "{name}");
    }
    assert_eq!(body["embeds"].as_array().unwrap().len(), 1);
    let embed = &body["embeds"][0];
    assert!(embed["color"].as_u64().unwrap() <= 0xff_ff_ff);
    let mut sum = chars(&embed["footer"]["text"]);
    assert!(sum <= 2048);
    for (key, limit) in [("title", 256), ("description", 4096)] {
        if let Some(text) = embed.get(key) {
            assert!((1..=limit).contains(&chars(text)), "{name}: {key}");
            sum += chars(text);
        }
    }
    let none = Vec::new();
    let fields = embed["fields"].as_array().unwrap_or(&none);
    assert!(fields.len() <= 25, "{name}");
    for field in fields {
        assert!((1..=256).contains(&chars(&field["name"])), "{name}");
        assert!((1..=1024).contains(&chars(&field["value"])), "{name}");
        assert!(field["inline"].is_boolean());
        sum += chars(&field["name"]) + chars(&field["value"]);
    }
    assert!(sum <= 6000, "{name}: {sum}");
}

#[tokio::test]
async fn every_sample_is_a_valid_message_that_shows_the_key() {
    let hostile = [("hostile".to_owned(), samples::hostile())];
    for (name, member) in samples::all().into_iter().chain(hostile) {
        let key = format!("Event {}", member.key);
        let body = sent("", member).await;
        assert_valid(&name, &body);
        assert_eq!(body["embeds"][0]["footer"]["text"], *key);
    }
}

#[tokio::test]
async fn the_body_is_exactly_this_and_the_same_for_every_try() {
    let text = r#"{"rule":{"id":"1","level":12,"description":"a *b* @everyone [x](y)"},"full_log":"c ``` d"}"#;
    let member = || alert(7, text);
    let body = sent("", member()).await;
    assert_eq!(body, sent("", Member { attempt: 2, in_doubt: true, ..member() }).await);
    let expected = json!({
        "allowed_mentions": { "parse": [] },
        "embeds": [{
            "color": 0xdb_6d_28,
            "title": "Level 12 (high): a \\*b\\* @\u{200b}everyone \\[x\\]\\(y\\)",
            "description": "```\nc ''' d\n```",
            "fields": [{ "name": "Rule", "value": "1", "inline": true }],
            "footer": { "text": "Event abcdefghij-7.lane" },
        }],
    });
    assert_eq!(body, expected);
    let own = sent("template = \"**{{ alert.rule.level }}**\"", member()).await;
    assert_valid("template", &own);
    assert_eq!(own["content"], "**12**");
    let empty = sent("template = \" {{ alert.nothing }}\"", member()).await;
    assert_valid("empty template", &empty);
    let long = "template = \"{% for a in range(9000) %}é{% endfor %}\"";
    assert_valid("long template", &sent(long, member()).await);
}

#[tokio::test]
async fn the_receipt_has_the_messages_id_and_the_query_is_ours() {
    let fake = Fake::start([Act::Say(answer("200 OK", "", SAVED))]).await;
    let table =
        format!("url = \"{}{PATH}?wait=false&with_components=true\"\nthread_id = \"77\"", fake.url);
    let destination = build_kind(&KIND, &table, &context()).unwrap();
    let Delivered::All(receipt) = destination.deliver(&shipment([alert(1, "{}")])).await.unwrap()
    else {
        panic!("one event has one answer")
    };
    assert_eq!(receipt.remote_id.as_deref(), Some("1234"));
    let line = format!("POST {PATH}?wait=true&thread_id=77&with_components=true HTTP/1.1");
    assert_eq!(fake.only().line, line);
}

#[tokio::test]
async fn each_answer_has_its_meaning() {
    #[rustfmt::skip]
    let table = [
        ("204 No Content", "", Reason::BadAnswer),
        ("200 OK", "<html>", Reason::BadAnswer),
        ("200 OK", "{}", Reason::BadAnswer),
        ("400 Bad Request", r#"{"code":50035,"message":"Invalid Form Body"}"#, Reason::Refused),
        ("400 Bad Request", r#"{"code":220001,"message":"forum"}"#, Reason::Misconfigured),
        ("401 Unauthorized", r#"{"code":50027}"#, Reason::Unauthorized),
        ("403 Forbidden", "{}", Reason::Forbidden),
        ("404 Not Found", r#"{"code":10015,"message":"Unknown Webhook"}"#, Reason::Misconfigured),
        ("404 Not Found", "", Reason::Misconfigured),
        ("429 Too Many Requests", "<html>", Reason::Throttled),
        ("500 Internal Server Error", "", Reason::ServerFault),
    ];
    for (status, body, expected) in table {
        let fake = Fake::start([Act::Say(answer(status, "", body))]).await;
        let result = destination(&fake, "").deliver(&shipment([alert(1, "{}")])).await;
        assert_eq!(result.unwrap_err().reason, expected, "{status} {body}");
    }
}

#[tokio::test]
async fn a_wait_is_read_with_its_fraction_and_nonsense_is_the_headers() {
    #[rustfmt::skip]
    let table = [
        (r#"{"retry_after":1.25,"global":false}"#, Duration::from_millis(1250)),
        (r#"{"retry_after":-1}"#, Duration::from_secs(3)),
        (r#"{"retry_after":1e300}"#, Duration::from_secs(3)),
        (r#"{"retry_after":"soon"}"#, Duration::from_secs(3)),
        (r#"{"retry_after":1e12}"#, RETRY_AFTER_MAX),
    ];
    for (body, expected) in table {
        let answer = answer("429 Too Many Requests", "Retry-After: 3\r\n", body);
        let fake = Fake::start([Act::Say(answer)]).await;
        let result = destination(&fake, "").deliver(&shipment([alert(1, "{}")])).await;
        assert_eq!(result.unwrap_err().retry_after, Some(expected), "{body}");
    }
}

#[tokio::test]
async fn the_token_is_masked_and_can_be_checked() {
    let body = format!("t0k3nt0k3n is not known at {PATH}?wait=true");
    let acts = [
        Act::Say(answer("404 Not Found", "", &body)),
        Act::Say(answer("200 OK", "", "{}")),
        Act::Say(answer("401 Unauthorized", "", &body)),
    ];
    let fake = Fake::start(acts).await;
    let destination = destination(&fake, "");
    let error = destination.deliver(&shipment([alert(1, "{}")])).await.unwrap_err();
    assert!(!error.excerpt.contains("t0k3n"), "{}", error.excerpt);
    assert!(destination.check().await.unwrap().is_ok());
    let error = destination.check().await.unwrap().unwrap_err();
    assert_eq!(error.reason, Reason::Unauthorized);
    assert!(!error.excerpt.contains("t0k3n"), "{}", error.excerpt);
    assert_eq!(fake.seen()[1].line, format!("GET {PATH} HTTP/1.1"));
}

#[test]
fn a_thread_is_a_number() {
    let table = "url = \"https://x.example/a\"\nthread_id = \"general\"";
    assert!(fault(&KIND, table, &context()).contains("it must be digits"));
}
