use serde_json::json;

use super::*;
use crate::{
    http::fake::{Act, Fake, answer},
    message::samples,
    testing::{alert, build as build_kind, context, fault, shipment},
};

const TOKEN: &str = "xoxb-0123456789-abcdefghij";
const POSTED: &str = r#"{"ok":true,"channel":"C0123456789","ts":"1503435956.000247"}"#;
const DOOR: &str = r#"{"rule":{"id":"504","level":12,"description":"door"},"agent":{"id":"001"}}"#;

fn bot(fake: &Fake, more: &str) -> Arc<dyn Destination> {
    let url = &fake.url;
    let table =
        format!("token = \"{TOKEN}\"\nchannel = \"C0123456789\"\napi_url = \"{url}/api\"\n{more}");
    build_kind(&KIND, &table, &context()).unwrap()
}

fn webhook(fake: &Fake, more: &str) -> Arc<dyn Destination> {
    let table = format!("webhook_url = \"{}/services/T000/B000/s3cr3ts3cr3t\"\n{more}", fake.url);
    build_kind(&KIND, &table, &context()).unwrap()
}

fn ok(body: &str) -> Act {
    Act::Say(answer("200 OK", "", body))
}

async fn receipt(destination: &Arc<dyn Destination>, member: Member) -> Receipt {
    match destination.deliver(&shipment([member])).await.unwrap() {
        Delivered::All(receipt) => receipt,
        Delivered::Each(_) => panic!("one event has one answer"),
    }
}

fn bodies(fake: &Fake) -> Vec<Value> {
    fake.seen().iter().map(|seen| serde_json::from_slice(&seen.body).unwrap()).collect()
}

fn chars(value: &Value) -> usize {
    value.as_str().unwrap().chars().count()
}

/// Slack's limits, and that no text opens a mention or a link.
fn assert_valid(name: &str, body: &Value) {
    assert!((1..=4000).contains(&chars(&body["text"])), "{name}");
    let mut texts = vec![body["text"].as_str().unwrap()];
    assert_eq!(body["attachments"].as_array().unwrap().len(), 1);
    let attachment = &body["attachments"][0];
    assert!(["good", "warning", "danger"].contains(&attachment["color"].as_str().unwrap()));
    let blocks = attachment["blocks"].as_array().unwrap();
    assert!((1..=50).contains(&blocks.len()));
    for block in blocks {
        if let Some(fields) = block["fields"].as_array() {
            assert_eq!(block["type"], "section");
            assert!((1..=10).contains(&fields.len()), "{name}");
            for field in fields {
                assert!((1..=2000).contains(&chars(&field["text"])), "{name}");
                assert_eq!(field["type"], "mrkdwn");
                texts.push(field["text"].as_str().unwrap());
            }
        } else if block["type"] == "section" {
            assert!((1..=3000).contains(&chars(&block["text"]["text"])), "{name}");
            let text = block["text"]["text"].as_str().unwrap();
            assert_eq!(text.matches("```").count(), 2, "{name}");
            texts.push(text);
        } else {
            assert_eq!(block["type"], "context");
            assert_eq!(block["elements"].as_array().unwrap().len(), 1);
            texts.push(block["elements"][0]["text"].as_str().unwrap());
        }
    }
    assert!(texts.iter().map(|text| text.chars().count()).sum::<usize>() <= 12_000, "{name}");
    for text in texts {
        assert!(!text.contains(['<', '>']), "{name}: {text}");
        for (at, _) in text.match_indices('&') {
            let entity = ["&amp;", "&lt;", "&gt;"].iter().any(|e| text[at..].starts_with(e));
            assert!(entity, "{name}: {text}");
        }
    }
}

#[tokio::test]
async fn every_sample_is_a_valid_message_both_ways() {
    let hostile = [("hostile".to_owned(), samples::hostile())];
    for (name, member) in samples::all().into_iter().chain(hostile) {
        let fake = Fake::start([ok(POSTED)]).await;
        receipt(&bot(&fake, ""), member.clone()).await;
        let seen = fake.only();
        assert_eq!(seen.line, "POST /api/chat.postMessage HTTP/1.1");
        assert_eq!(seen.header("authorization"), Some("Bearer xoxb-0123456789-abcdefghij"));
        assert_eq!(seen.header("content-type"), Some("application/json; charset=utf-8"));
        let body = &bodies(&fake)[0];
        assert_valid(&name, body);
        assert_eq!(body["channel"], "C0123456789");
        assert_eq!(body["metadata"]["event_payload"]["holdfast_key"], *member.key);
        let fake = Fake::start([ok("ok")]).await;
        assert_eq!(receipt(&webhook(&fake, ""), member.clone()).await.remote_id, None);
        assert_eq!(fake.only().line, "POST /services/T000/B000/s3cr3ts3cr3t HTTP/1.1");
        let body = &bodies(&fake)[0];
        assert_valid(&name, body);
        assert!(body["channel"].is_null() && body["metadata"].is_null());
        assert!(body.to_string().contains(&member.key), "{name}: the key is visible");
    }
}

#[tokio::test]
async fn the_body_is_exactly_this_and_the_same_for_every_try() {
    let fake = Fake::start([ok(POSTED)]).await;
    let destination = bot(&fake, "");
    let member = alert(7, r#"{"rule":{"id":"1","level":12,"description":"a <b> & c"}}"#);
    for _ in 0..2 {
        let receipt = receipt(&destination, member.clone()).await;
        assert_eq!(receipt.remote_id.as_deref(), Some("C0123456789/1503435956.000247"));
    }
    let expected = json!({
        "channel": "C0123456789",
        "text": "*Level 12 (high)* a &lt;b&gt; &amp; c",
        "attachments": [{
            "color": "danger",
            "blocks": [
                { "type": "section", "fields": [{ "type": "mrkdwn", "text": "*Rule*\n1" }] },
                { "type": "context", "elements": [
                    { "type": "mrkdwn", "text": "Event abcdefghij-7.lane" },
                ] },
            ],
        }],
        "metadata": {
            "event_type": "wazuh_alert",
            "event_payload": { "holdfast_key": "abcdefghij-7.lane" },
        },
        "unfurl_links": false,
        "unfurl_media": false,
    });
    assert_eq!(bodies(&fake), [expected.clone(), expected]);
}

#[tokio::test]
async fn a_template_may_have_links_but_calls_nobody() {
    let fake = Fake::start([ok("ok")]).await;
    let more = "template = \"<https://x.example|see> {{ alert.rule.description }}\"";
    let member = alert(1, r#"{"rule":{"description":"<!channel> hi"}}"#);
    receipt(&webhook(&fake, more), member).await;
    assert_eq!(bodies(&fake)[0]["text"], "<https://x.example|see> &lt;!channel> hi");
}

#[tokio::test]
async fn a_try_in_doubt_is_looked_for_first() {
    let found = r#"{"ok":true,"messages":[{"ts":"9.1","text":"chat"},{"ts":"8.1","metadata":{"event_type":"wazuh_alert","event_payload":{"holdfast_key":"abcdefghij-1.lane"}}}]}"#;
    let fake = Fake::start([ok(found)]).await;
    let member = Member { in_doubt: true, attempt: 2, ..alert(1, DOOR) };
    let receipt_found = receipt(&bot(&fake, ""), member.clone()).await;
    assert_eq!(receipt_found.remote_id.as_deref(), Some("C0123456789/8.1"));
    assert!(receipt_found.duplicate);
    assert_eq!(
        fake.only().line,
        "GET /api/conversations.history?channel=C0123456789&include_all_metadata=true&oldest=1773123028&limit=40 HTTP/1.1"
    );
    // Not there, or not ours to see: it is sent.
    let denied = r#"{"ok":false,"error":"missing_scope"}"#;
    for search in [r#"{"ok":true,"messages":[]}"#, denied] {
        let fake = Fake::start([ok(search), ok(POSTED)]).await;
        assert!(!receipt(&bot(&fake, ""), member.clone()).await.duplicate);
        assert_eq!(fake.seen().len(), 2);
    }
    // A search that fails sends nothing.
    let limit = Act::Say(answer("429 Too Many Requests", "Retry-After: 7\r\n", ""));
    let fake = Fake::start([limit]).await;
    let error = bot(&fake, "").deliver(&shipment([member])).await.unwrap_err();
    assert_eq!(error.reason, Reason::Throttled);
    assert_eq!(error.retry_after, Some(std::time::Duration::from_secs(7)));
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn a_problem_is_a_thread_and_its_end_is_in_it() {
    let other = r#"{"ok":true,"channel":"C0123456789","ts":"2.2"}"#;
    let locked = r#"{"ok":false,"error":"restricted_action_thread_locked"}"#;
    let acts = [ok(POSTED), ok(other), ok(locked), ok(other), ok(POSTED), ok(POSTED), ok(other)];
    let fake = Fake::start(acts).await;
    let settings = "group = \"problem\"\nresolved_by = { \"504\" = \"503\" }";
    let destination = bot(&fake, settings);
    let end = DOOR.replace("504", "503");
    receipt(&destination, alert(1, DOOR)).await;
    // Another agent is another problem.
    receipt(&destination, alert(2, DOOR.replace("001", "002"))).await;
    // A thread that is locked: the next try begins another.
    let locked = destination.deliver(&shipment([alert(3, DOOR)])).await.unwrap_err();
    assert_eq!(locked.reason, Reason::ServerFault);
    receipt(&destination, alert(3, DOOR)).await;
    receipt(&destination, alert(4, end.clone())).await;
    // The problem has ended: what follows is a new one, and an end without one is alone.
    receipt(&destination, alert(5, end)).await;
    receipt(&destination, alert(6, DOOR)).await;
    let threads: Vec<_> = bodies(&fake).iter().map(|body| body["thread_ts"].clone()).collect();
    let (first, second, none) = (json!("1503435956.000247"), json!("2.2"), Value::Null);
    let alone = || none.clone();
    assert_eq!(threads, [alone(), alone(), first, alone(), second, alone(), alone()]);
}

#[tokio::test]
async fn each_answer_to_a_bot_has_its_meaning() {
    #[rustfmt::skip]
    let table = [
        ("ratelimited", Reason::Throttled), ("message_limit_exceeded", Reason::Throttled),
        ("internal_error", Reason::ServerFault), ("fatal_error", Reason::InDoubt),
        ("invalid_auth", Reason::Unauthorized), ("token_revoked", Reason::Unauthorized),
        ("missing_scope", Reason::Unauthorized), ("channel_not_found", Reason::Misconfigured),
        ("not_in_channel", Reason::Misconfigured), ("is_archived", Reason::Misconfigured),
        ("invalid_blocks", Reason::Refused), ("msg_blocks_too_long", Reason::TooLarge),
        ("cannot_reply_to_message", Reason::ServerFault), ("odd", Reason::BadAnswer),
    ];
    for (code, expected) in table {
        let fake = Fake::start([ok(&format!(r#"{{"ok":false,"error":"{code}"}}"#))]).await;
        let error = bot(&fake, "").deliver(&shipment([alert(1, DOOR)])).await.unwrap_err();
        assert_eq!(error.reason, expected, "{code}");
        assert_eq!(error.status, Some(200));
        assert!(error.excerpt.contains(code));
    }
    for (body, expected) in [
        ("<html>", Reason::BadAnswer),
        (r#"{"ok":true}"#, Reason::BadAnswer),
        (r#"{"ok":"true","ts":"1.1"}"#, Reason::BadAnswer),
    ] {
        let fake = Fake::start([ok(body)]).await;
        let error = bot(&fake, "").deliver(&shipment([alert(1, DOOR)])).await.unwrap_err();
        assert_eq!(error.reason, expected, "{body}");
    }
}

#[tokio::test]
async fn each_answer_of_a_webhook_has_its_meaning() {
    #[rustfmt::skip]
    let table = [
        ("400 Bad Request", "invalid_payload", Reason::Refused),
        ("400 Bad Request", "invalid_blocks", Reason::Refused),
        ("403 Forbidden", "action_prohibited", Reason::Misconfigured),
        ("403 Forbidden", "invalid_token", Reason::Unauthorized),
        ("404 Not Found", "no_service", Reason::Misconfigured),
        ("410 Gone", "channel_is_archived", Reason::Misconfigured),
        ("429 Too Many Requests", "rate_limited", Reason::Throttled),
        ("500 Internal Server Error", "rollup_error", Reason::ServerFault),
        ("200 OK", "<html>ok</html>", Reason::BadAnswer),
        ("200 OK", "", Reason::BadAnswer),
    ];
    for (status, body, expected) in table {
        let fake = Fake::start([Act::Say(answer(status, "", body))]).await;
        let error = webhook(&fake, "").deliver(&shipment([alert(1, DOOR)])).await.unwrap_err();
        assert_eq!(error.reason, expected, "{status} {body}");
    }
}

#[tokio::test]
async fn secrets_that_an_answer_repeats_are_masked() {
    let body = "no hook s3cr3ts3cr3t at /services/T000/B000/s3cr3ts3cr3t";
    let fake = Fake::start([Act::Say(answer("404 Not Found", "", body))]).await;
    let error = webhook(&fake, "").deliver(&shipment([alert(1, DOOR)])).await.unwrap_err();
    assert_eq!(error.excerpt, "no hook [masked] at [masked]");
    let body = format!(r#"{{"ok":false,"error":"invalid_auth","token":"{TOKEN}"}}"#);
    let fake = Fake::start([ok(&body)]).await;
    let error = bot(&fake, "").deliver(&shipment([alert(1, DOOR)])).await.unwrap_err();
    assert!(!error.excerpt.contains(TOKEN) && error.excerpt.contains("[masked]"));
}

#[tokio::test]
async fn a_bots_token_can_be_checked_and_a_webhook_cannot() {
    let fake =
        Fake::start([ok(r#"{"ok":true}"#), ok(r#"{"ok":false,"error":"not_authed"}"#)]).await;
    let destination = bot(&fake, "");
    assert!(destination.check().await.unwrap().is_ok());
    let error = destination.check().await.unwrap().unwrap_err();
    assert_eq!(error.reason, Reason::Unauthorized);
    assert_eq!(fake.seen()[0].line, "GET /api/auth.test HTTP/1.1");
    assert!(webhook(&fake, "").check().await.is_none());
}

#[test]
fn settings_that_do_not_fit_together_are_faults() {
    let url = "webhook_url = \"https://x.example/a\"";
    let problem = |table: &str| fault(&KIND, table, &context());
    assert!(problem("").contains("`webhook_url` is missing"));
    assert!(problem(&format!("{url}\ntoken = \"{TOKEN}\"")).contains("not both"));
    assert!(problem(&format!("{url}\ngroup = \"problem\"")).contains("it needs `token`"));
    assert!(problem(&format!("token = \"{TOKEN}\"")).contains("`channel` is missing"));
    let named = format!("token = \"{TOKEN}\"\nchannel = \"#alerts\"");
    assert!(problem(&named).contains("it must be the channel's id"));
}
