use holdfast_model::Member;

use super::*;
use crate::{
    http::fake::{Act, Fake, answer},
    message::samples,
    testing::{alert, build as build_kind, context, shipment},
};

const PATH: &str =
    "/workflows/0123/triggers/manual/paths/invoke?api-version=2016-06-01&sig=s3cr3ts3cr3t";

fn destination(fake: &Fake, more: &str) -> Arc<dyn Destination> {
    let table = format!("url = \"{}{PATH}\"\n{more}", fake.url);
    build_kind(&KIND, &table, &context()).unwrap()
}

async fn sent(more: &str, member: Member) -> Value {
    let fake = Fake::start([Act::Say(answer("202 Accepted", "", ""))]).await;
    destination(&fake, more).deliver(&shipment([member])).await.unwrap();
    let seen = fake.only();
    assert_eq!(seen.line, format!("POST {PATH} HTTP/1.1"), "the query is kept as it is");
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert!(seen.body.len() <= BODY_BYTES_MAX, "{}", seen.body.len());
    serde_json::from_slice(&seen.body).unwrap()
}

/// The elements as Adaptive Cards 1.4 demands them; answers every text that is shown.
fn assert_valid(name: &str, body: &Value) -> Vec<String> {
    assert_eq!(body["type"], "message");
    let attachment = &body["attachments"][0];
    assert_eq!(attachment["contentType"], "application/vnd.microsoft.card.adaptive");
    let card = &attachment["content"];
    assert_eq!((&card["type"], &card["version"]), (&"AdaptiveCard".into(), &"1.4".into()));
    let mut elements: Vec<&Value> = card["body"].as_array().unwrap().iter().collect();
    let mut texts = Vec::new();
    while let Some(element) = elements.pop() {
        match element["type"].as_str().unwrap() {
            "Container" => elements.extend(element["items"].as_array().unwrap()),
            "TextBlock" => texts.push(element["text"].as_str().unwrap().to_owned()),
            "RichTextBlock" => {
                let runs = element["inlines"].as_array().unwrap();
                assert!(!runs.is_empty(), "{name}");
                for run in runs {
                    assert_eq!(run["type"], "TextRun", "{name}");
                    texts.push(run["text"].as_str().unwrap().to_owned());
                    let colours = ["default", "accent", "good", "warning", "attention"];
                    assert!(run["color"].as_str().is_none_or(|c| colours.contains(&c)));
                }
            }
            other => panic!("{name}: {other}"),
        }
    }
    assert!(texts.iter().all(|text| !text.is_empty()), "{name}: {texts:?}");
    texts
}

#[tokio::test]
async fn every_sample_is_a_valid_card_that_shows_the_key() {
    let hostile = [("hostile".to_owned(), samples::hostile())];
    for (name, member) in samples::all().into_iter().chain(hostile) {
        let key = format!("Event {}", member.key);
        let body = sent("", member).await;
        assert!(assert_valid(&name, &body).contains(&key), "{name}");
        let blocks = body.to_string().matches("\"TextBlock\"").count();
        assert_eq!(blocks, 0, "{name}: an alert's text is not Markdown");
    }
    let wide = "\u{1F525}".repeat(3000);
    let body = format!(
        r#"{{"rule":{{"description":"{wide}","id":"{wide}"}},"location":"{wide}","full_log":"{wide}","data":{{"srcip":"{wide}","url":"{wide}","dstuser":"{wide}","file":"{wide}","command":"{wide}"}}}}"#
    );
    assert_valid("wide", &sent("", alert(1, body)).await);
}

#[tokio::test]
async fn every_try_has_the_same_body_and_a_template_is_within_the_size() {
    let member = || alert(7, r#"{"rule":{"level":12,"description":"door"}}"#);
    let body = sent("", member()).await;
    assert_eq!(body, sent("", Member { attempt: 2, in_doubt: true, ..member() }).await);
    let elements = &body["attachments"][0]["content"]["body"];
    let title = json!({
        "type": "RichTextBlock",
        "inlines": [{
            "type": "TextRun", "text": "Level 12 (high): door",
            "weight": "Bolder", "size": "Medium", "color": "attention",
        }],
    });
    assert_eq!(elements[0], title);
    let long = "template = \"{% for a in range(9000) %}é\\\"{% endfor %}\"";
    let texts = assert_valid("long", &sent(long, member()).await);
    assert!(texts.iter().any(|text| text.ends_with(" … [cut]")));
    let empty = "template = \"{{ alert.nothing }}\"";
    assert_valid("empty", &sent(empty, member()).await);
}

#[tokio::test]
async fn each_answer_has_its_meaning() {
    let inside = |status: u16| {
        format!(
            "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error {status} with ContextId tcid=0"
        )
    };
    #[rustfmt::skip]
    let table = [
        ("202 Accepted", String::new(), None),
        ("202 Accepted", "whatever".into(), None),
        ("200 OK", "1".into(), None),
        ("200 OK", String::new(), None),
        ("200 OK", r#"{"done":true}"#.into(), None),
        ("200 OK", inside(429), Some(Reason::Throttled)),
        ("200 OK", inside(503), Some(Reason::ServerFault)),
        ("200 OK", inside(413), Some(Reason::TooLarge)),
        ("200 OK", inside(400), Some(Reason::Refused)),
        ("200 OK", inside(403), Some(Reason::Unauthorized)),
        ("200 OK", inside(404), Some(Reason::Misconfigured)),
        ("200 OK", inside(200), Some(Reason::BadAnswer)),
        ("200 OK", "<html>sign in</html>".into(), Some(Reason::BadAnswer)),
        ("400 Bad Request", "bad JSON".into(), Some(Reason::Refused)),
        ("400 Bad Request", r#"{"error":{"code":"WorkflowTriggerIsNotEnabled"}}"#.into(), Some(Reason::Misconfigured)),
        ("401 Unauthorized", String::new(), Some(Reason::Unauthorized)),
        ("403 Forbidden", String::new(), Some(Reason::Unauthorized)),
        ("404 Not Found", String::new(), Some(Reason::Misconfigured)),
        ("413 Too Large", String::new(), Some(Reason::TooLarge)),
        ("429 Too Many Requests", String::new(), Some(Reason::Throttled)),
        ("502 Bad Gateway", String::new(), Some(Reason::ServerFault)),
    ];
    for (status, body, expected) in table {
        let fake = Fake::start([Act::Say(answer(status, "", &body))]).await;
        let result = destination(&fake, "").deliver(&shipment([alert(1, "{}")])).await;
        assert_eq!(result.err().map(|error| error.reason), expected, "{status} {body}");
    }
}

#[tokio::test]
async fn the_signature_is_masked_alone_and_within_the_address() {
    let body = format!("sig s3cr3ts3cr3t is wrong for {PATH}");
    let fake = Fake::start([Act::Say(answer("401 Unauthorized", "", &body))]).await;
    let result = destination(&fake, "").deliver(&shipment([alert(1, "{}")])).await;
    let error = result.unwrap_err();
    assert_eq!(error.excerpt, "sig [masked] is wrong for [masked]");
}
