use holdfast_model::Member;

use super::*;
use crate::{
    http::fake::{Act, Fake, answer},
    message::samples,
    testing::{alert, build as build_kind, context, fault, shipment},
};

const TOKEN: &str = "123456:abc_DEF-ghijkl";
const SENT: &str = r#"{"ok":true,"result":{"message_id":77,"chat":{"id":-100123}}}"#;
const UNPARSED: &str = r#"{"ok":false,"error_code":400,"description":"Bad Request: can't parse entities: Unsupported start tag \"x\""}"#;

fn destination(fake: &Fake, more: &str) -> Arc<dyn Destination> {
    let url = &fake.url;
    let table = format!("token = \"{TOKEN}\"\nchat_id = -100123\napi_url = \"{url}\"\n{more}");
    build_kind(&KIND, &table, &context()).unwrap()
}

fn say(status: &str, body: &str) -> Act {
    Act::Say(answer(status, "", body))
}

async fn deliver(destination: &Arc<dyn Destination>, member: Member) -> Receipt {
    match destination.deliver(&shipment([member])).await.unwrap() {
        Delivered::All(receipt) => receipt,
        Delivered::Each(_) => panic!("one event has one answer"),
    }
}

async fn refused(destination: &Arc<dyn Destination>) -> DeliveryError {
    destination.deliver(&shipment([alert(1, "{}")])).await.unwrap_err()
}

fn bodies(fake: &Fake) -> Vec<Value> {
    fake.seen().iter().map(|seen| serde_json::from_slice(&seen.body).unwrap()).collect()
}

async fn sent(more: &str, member: Member) -> Value {
    let fake = Fake::start([say("200 OK", SENT)]).await;
    deliver(&destination(&fake, more), member).await;
    let seen = fake.only();
    assert_eq!(seen.line, format!("POST /bot{TOKEN}/sendMessage HTTP/1.1"));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    bodies(&fake).remove(0)
}

/// Telegram's HTML: known tags that are closed in order, no other `<`, `>` or `&`.
fn assert_valid(name: &str, body: &Value) {
    assert_eq!(body["parse_mode"], "HTML", "{name}");
    assert_eq!(body["link_preview_options"], json!({ "is_disabled": true }));
    let text = body["text"].as_str().unwrap();
    assert!((1..=4096).contains(&text.encode_utf16().count()), "{name}");
    let mut open = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['<', '>', '&']) {
        rest = &rest[at..];
        let entity = ["&amp;", "&lt;", "&gt;"].into_iter().find(|known| rest.starts_with(known));
        if let Some(entity) = entity {
            rest = &rest[entity.len()..];
            continue;
        }
        assert!(rest.starts_with('<'), "{name}: {rest}");
        let end = rest.find('>').unwrap();
        let tag = &rest[1..end];
        match tag.strip_prefix('/') {
            Some(tag) => assert_eq!(open.pop(), Some(tag), "{name}"),
            None => {
                assert!(["b", "pre", "code"].contains(&tag), "{name}: {tag}");
                open.push(tag);
            }
        }
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty(), "{name}");
}

#[tokio::test]
async fn every_sample_is_valid_html_that_shows_the_key() {
    let hostile = [("hostile".to_owned(), samples::hostile())];
    for (name, member) in samples::all().into_iter().chain(hostile) {
        let key = format!("<code>Event {}</code>", member.key);
        let body = sent("", member).await;
        assert_valid(&name, &body);
        assert!(body["text"].as_str().unwrap().ends_with(&key), "{name}");
    }
    let wide = "\u{1F525}<".repeat(3000);
    let text = format!(
        r#"{{"rule":{{"description":"{wide}","id":"{wide}"}},"location":"{wide}","full_log":"{wide}","data":{{"srcip":"{wide}","url":"{wide}","dstuser":"{wide}","command":"{wide}"}}}}"#
    );
    assert_valid("wide", &sent("", alert(1, text)).await);
}

#[tokio::test]
async fn the_body_is_exactly_this_and_the_same_for_every_try() {
    let text =
        r#"{"rule":{"id":"1","level":12,"description":"a <b> & c @all"},"full_log":"x </pre> y"}"#;
    let member = || alert(7, text);
    let body = sent("thread_id = 5", member()).await;
    let again = sent("thread_id = 5", Member { attempt: 2, in_doubt: true, ..member() }).await;
    assert_eq!(body, again);
    let expected = json!({
        "chat_id": -100123,
        "message_thread_id": 5,
        "text": "<b>Level 12 (high)</b> a &lt;b&gt; &amp; c @\u{200b}all\n<b>Rule:</b> 1\n<pre>x &lt;/pre&gt; y</pre>\n<code>Event abcdefghij-7.lane</code>",
        "parse_mode": "HTML",
        "link_preview_options": { "is_disabled": true },
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn the_receipt_names_chat_and_message() {
    let fake = Fake::start([say("200 OK", SENT)]).await;
    let receipt = deliver(&destination(&fake, ""), alert(1, "{}")).await;
    assert_eq!(receipt.remote_id.as_deref(), Some("-100123/77"));
}

#[tokio::test]
async fn a_template_that_telegram_cannot_parse_arrives_as_plain_text() {
    let fake = Fake::start([say("400 Bad Request", UNPARSED), say("200 OK", SENT)]).await;
    let more = "template = \"<b>{{ alert.rule.description }}</b>\"";
    let member = alert(1, r#"{"rule":{"description":"a <x>"}}"#);
    deliver(&destination(&fake, more), member).await;
    let bodies = bodies(&fake);
    let mut plain = bodies[0].clone();
    plain.as_object_mut().unwrap().remove("parse_mode").unwrap();
    assert_eq!(bodies[0]["text"], "<b>a <x></b>\nEvent abcdefghij-1.lane");
    assert_eq!(bodies[1..], [plain]);
    // Twice is all; and no other refusal is answered with a second request.
    for (body, requests) in [(UNPARSED, 2), (r#"{"ok":false,"error_code":400}"#, 1)] {
        let fake = Fake::start([say("400 Bad Request", body)]).await;
        assert_eq!(refused(&destination(&fake, more)).await.reason, Reason::Refused);
        assert_eq!(fake.seen().len(), requests, "{body}");
    }
}

#[tokio::test]
async fn a_templates_text_is_never_empty_nor_too_long() {
    for more in [
        "template = \"{% for a in range(9000) %}\u{1F525}{% endfor %}\"",
        "template = \"{% for a in range(9000) %}a{% endfor %}\"",
        "template = \" {{ alert.nothing }}\"",
    ] {
        let body = sent(more, alert(1, "{}")).await;
        assert_valid(more, &body);
        assert!(body["text"].as_str().unwrap().ends_with("\nEvent abcdefghij-1.lane"));
    }
}

#[tokio::test]
async fn each_answer_has_its_meaning() {
    let not = |code: u16, words: &str| {
        format!(r#"{{"ok":false,"error_code":{code},"description":"{words}"}}"#)
    };
    #[rustfmt::skip]
    let table = [
        ("400 Bad Request", not(400, "Bad Request: chat not found"), Reason::Misconfigured),
        ("400 Bad Request", not(400, "Bad Request: message thread not found"), Reason::Misconfigured),
        ("400 Bad Request", not(400, "Bad Request: message is too long"), Reason::TooLarge),
        ("400 Bad Request", not(400, "Bad Request: odd"), Reason::Refused),
        ("401 Unauthorized", not(401, "Unauthorized"), Reason::Unauthorized),
        ("403 Forbidden", not(403, "Forbidden: bot was kicked from the group chat"), Reason::Misconfigured),
        ("404 Not Found", not(404, "Not Found"), Reason::Unauthorized),
        ("429 Too Many Requests", not(429, "Too Many Requests"), Reason::Throttled),
        ("500 Internal Server Error", "".into(), Reason::ServerFault),
        ("502 Bad Gateway", "<html>".into(), Reason::ServerFault),
        ("200 OK", not(429, "Too Many Requests"), Reason::Throttled),
        ("200 OK", not(401, "Unauthorized"), Reason::Unauthorized),
        ("200 OK", "<html>".into(), Reason::BadAnswer),
        ("200 OK", r#"{"ok":false}"#.into(), Reason::BadAnswer),
        ("200 OK", r#"{"ok":true,"result":{}}"#.into(), Reason::BadAnswer),
    ];
    for (status, body, expected) in table {
        let fake = Fake::start([say(status, &body)]).await;
        let error = refused(&destination(&fake, "")).await;
        assert_eq!(error.reason, expected, "{status} {body}");
    }
}

#[tokio::test]
async fn a_wait_is_read_from_the_body() {
    let body = r#"{"ok":false,"error_code":429,"description":"x","parameters":{"retry_after":35}}"#;
    let fake = Fake::start([say("429 Too Many Requests", body)]).await;
    let error = refused(&destination(&fake, "")).await;
    assert_eq!(error.retry_after, Some(Duration::from_secs(35)));
}

#[tokio::test]
async fn a_group_that_moved_is_followed_once() {
    let moved = r#"{"ok":false,"error_code":400,"description":"Bad Request: group chat was upgraded to a supergroup chat","parameters":{"migrate_to_chat_id":-100999}}"#;
    let acts = [say("400 Bad Request", moved), say("200 OK", SENT), say("400 Bad Request", moved)];
    let fake = Fake::start(acts).await;
    let destination = destination(&fake, "");
    assert_eq!(refused(&destination).await.reason, Reason::ServerFault);
    deliver(&destination, alert(1, "{}")).await;
    assert_eq!(refused(&destination).await.reason, Reason::Refused, "it does not go in circles");
    let chats: Vec<_> = bodies(&fake).iter().map(|body| body["chat_id"].clone()).collect();
    assert_eq!(chats, [-100123, -100999, -100999]);
}

#[tokio::test]
async fn the_token_is_masked_and_can_be_checked() {
    let body = format!("no bot{TOKEN} here");
    let acts = [
        say("404 Not Found", &body),
        say("200 OK", &body),
        say("200 OK", r#"{"ok":true,"result":{"id":1}}"#),
        say("401 Unauthorized", "{}"),
    ];
    let fake = Fake::start(acts).await;
    let destination = destination(&fake, "");
    for _ in 0..2 {
        assert_eq!(refused(&destination).await.excerpt, "no bot[masked] here");
    }
    assert!(destination.check().await.unwrap().is_ok());
    let error = destination.check().await.unwrap().unwrap_err();
    assert_eq!(error.reason, Reason::Unauthorized);
    assert_eq!(fake.seen()[2].line, format!("POST /bot{TOKEN}/getMe HTTP/1.1"));
}

#[test]
fn a_chat_is_a_number_or_a_public_name() {
    let with = |more: &str| format!("token = \"{TOKEN}\"\n{more}");
    for good in ["chat_id = \"@soc\"", "chat_id = \"-100\"", "chat_id = 7"] {
        assert!(build_kind(&KIND, &with(good), &context()).is_ok(), "{good}");
    }
    for bad in ["chat_id = \"soc\"", "chat_id = [1, 2]", "chat_id = \"@\""] {
        assert!(fault(&KIND, &with(bad), &context()).contains("it must be one number"), "{bad}");
    }
    assert!(fault(&KIND, &with(""), &context()).contains("`chat_id` is missing"));
    for token in ["hunter2hunter2", "12:a/../b", ":abc", "12:"] {
        let problem = fault(&KIND, &format!("token = \"{token}\"\nchat_id = 1"), &context());
        assert!(problem.contains("no bot's token") && !problem.contains(token), "{problem}");
    }
}
