use holdfast_model::Member;

use super::*;
use crate::{
    http::fake::{Act, Fake, answer},
    message::samples,
    testing::{alert, build as build_kind, context, shipment},
};

const PATH: &str = "/hooks/0123456789abcdefghijklmnop";

fn destination(fake: &Fake, more: &str) -> Arc<dyn Destination> {
    let table = format!("url = \"{}{PATH}\"\n{more}", fake.url);
    build_kind(&KIND, &table, &context()).unwrap()
}

async fn sent(more: &str, member: Member) -> Value {
    let fake = Fake::start([Act::Say(answer("200 OK", "", "ok"))]).await;
    let delivered = destination(&fake, more).deliver(&shipment([member])).await.unwrap();
    let expected =
        Receipt { status: Some(200), remote_id: None, duplicate: false, ..Receipt::default() };
    assert!(matches!(delivered, Delivered::All(receipt) if receipt == expected));
    let seen = fake.only();
    assert_eq!(seen.line, format!("POST {PATH} HTTP/1.1"));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    serde_json::from_slice(&seen.body).unwrap()
}

/// One post, and no mention in it: Mattermost looks for `@` that begins a word.
fn assert_valid(name: &str, body: &Value) {
    let text = body.get("text").map_or("", |text| text.as_str().unwrap());
    assert!(text.chars().count() <= 16_383, "{name}");
    let attachments = body["attachments"].as_array().unwrap();
    assert_eq!(attachments.len(), 1, "{name}");
    let attachment = &attachments[0];
    assert!(chars_there(attachment) <= 7600, "{name}: {}", chars_there(attachment));
    assert!(attachment["color"].as_str().unwrap().starts_with('#'));
    let none = Vec::new();
    let fields = attachment["fields"].as_array().unwrap_or(&none);
    let mut shown = vec![text];
    for field in fields {
        assert!(field["short"].is_boolean(), "{name}");
        assert!(!field["title"].as_str().unwrap().is_empty(), "{name}");
        shown.push(field["value"].as_str().unwrap());
    }
    // What is in a code block mentions nobody.
    let own = attachment.get("text").map_or("", |text| text.as_str().unwrap());
    assert!([0, 2].contains(&own.matches("```").count()), "{name}");
    shown.push(own.split("```").next().unwrap());
    for text in shown {
        for (at, _) in text.match_indices('@') {
            let before = text[..at].chars().next_back().unwrap_or(' ');
            let broken = text[at + 1..].starts_with('\u{200b}');
            assert!(broken || before.is_alphanumeric(), "{name}: {text}");
        }
    }
}

#[tokio::test]
async fn every_sample_is_one_post_that_shows_the_key() {
    let hostile = [("hostile".to_owned(), samples::hostile())];
    for (name, member) in samples::all().into_iter().chain(hostile) {
        let footer = format!("Event {}", member.key);
        let body = sent("", member).await;
        assert_valid(&name, &body);
        assert_eq!(body["attachments"][0]["footer"], *footer);
        assert!(body["attachments"][0]["fields"].as_array().unwrap().len() >= 2, "{name}");
    }
}

#[tokio::test]
async fn the_body_is_exactly_this_and_the_same_for_every_try() {
    let text = r#"{"rule":{"id":"1","level":12,"description":"a *b* @all"},"full_log":"c ``` d"}"#;
    let member = || alert(7, text);
    let more = "channel = \"soc\"\nusername = \"wazuh\"";
    let body = sent(more, member()).await;
    assert_eq!(body, sent(more, Member { attempt: 2, in_doubt: true, ..member() }).await);
    let expected = json!({
        "channel": "soc",
        "username": "wazuh",
        "attachments": [{
            "color": "#db6d28",
            "fallback": "a *b* @all",
            "text": "**Level 12 (high)** a \\*b\\* @\u{200b}all\n```\nc ''' d\n```",
            "fields": [{ "title": "Rule", "value": "1", "short": true }],
            "footer": "Event abcdefghij-7.lane",
        }],
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn a_template_has_its_mark_up_but_no_mentions_and_is_one_post() {
    let member = alert(1, r#"{"rule":{"description":"@channel x@y"}}"#);
    let body = sent("template = \"**{{ alert.rule.description }}**\"", member.clone()).await;
    assert_eq!(body["text"], "**@\u{200b}channel x@y**");
    assert_valid("template", &body);
    let long = "template = \"{% for a in range(9000) %}@é{% endfor %}\"";
    assert_valid("long", &sent(long, member).await);
}

#[tokio::test]
async fn each_answer_has_its_meaning() {
    let web = |name: &str| format!(r#"{{"id":"web.incoming_webhook.{name}.app_error"}}"#);
    #[rustfmt::skip]
    let table = [
        ("200 OK", "<html>sign in</html>".into(), Reason::BadAnswer),
        ("200 OK", String::new(), Reason::BadAnswer),
        ("400 Bad Request", web("invalid"), Reason::Misconfigured),
        ("400 Bad Request", web("text"), Reason::Refused),
        ("400 Bad Request", web("parse"), Reason::Refused),
        ("400 Bad Request", "not JSON".into(), Reason::Refused),
        ("400 Bad Request", r#"{"id":"api.post.create_post.can_not_post_to_deleted.error"}"#.into(), Reason::Misconfigured),
        ("403 Forbidden", web("channel_locked"), Reason::Misconfigured),
        ("403 Forbidden", web("permissions"), Reason::Misconfigured),
        ("403 Forbidden", "{}".into(), Reason::Forbidden),
        ("404 Not Found", web("channel"), Reason::Misconfigured),
        ("404 Not Found", String::new(), Reason::Misconfigured),
        ("413 Too Large", String::new(), Reason::TooLarge),
        ("429 Too Many Requests", "limit exceeded".into(), Reason::Throttled),
        ("500 Internal Server Error", web("channel"), Reason::ServerFault),
        ("501 Not Implemented", web("disabled"), Reason::Misconfigured),
        ("502 Bad Gateway", String::new(), Reason::ServerFault),
    ];
    for (status, body, expected) in table {
        let fake = Fake::start([Act::Say(answer(status, "", &body))]).await;
        let result = destination(&fake, "").deliver(&shipment([alert(1, "{}")])).await;
        assert_eq!(result.unwrap_err().reason, expected, "{status} {body}");
    }
}

#[tokio::test]
async fn the_hooks_key_is_masked() {
    let body = format!("no hook 0123456789abcdefghijklmnop at {PATH}");
    let fake = Fake::start([Act::Say(answer("404 Not Found", "", &body))]).await;
    let result = destination(&fake, "").deliver(&shipment([alert(1, "{}")])).await;
    assert_eq!(result.unwrap_err().excerpt, "no hook [masked] at [masked]");
}
