//! Discord, by a webhook.
//!
//! Promises: a message counts as delivered when Discord has saved it and named its id; nothing in
//! it mentions anybody or is Markdown that an alert brought along; it is within Discord's limits;
//! each message shows its key.
//!
//! Quirks: without `wait=true` a message that is not saved gives no error, so it is always asked
//! for. `retry_after` is in the body, with fractions. An address that is gone (404) must not be
//! used again, or Discord bars the sender's IP address; 404 parks the lane. A webhook has no
//! idempotency key and cannot search, so a try in doubt is sent again.
//!
//! Source: Discord developer docs, "Webhook: Execute Webhook", "Message: Embed Limits", "Allowed
//! Mentions", "Rate Limits", "Opcodes and Status Codes: JSON".

use std::{error::Error, sync::Arc, time::Duration};

use async_trait::async_trait;
use holdfast_model::{
    DeliveryError, Destination, Reason, Receipt, Shipment,
    delivery::Delivered,
    settings::{Section, Setting},
};
use reqwest::{Method, StatusCode, Url};
use serde_json::{Value, json};

use super::{Context, Kind};
use crate::{
    chat::{self, fenced, plain_markdown},
    http::{self, Answer, RETRY_AFTER_MAX},
    message::{self, Message, clip},
    vendor::{self, Api, Auth},
};

pub(super) const KIND: Kind = Kind {
    name: "discord",
    summary: "Posts to a Discord channel through a webhook.",
    example: r#"
url = "https://discord.com/api/v10/webhooks/123456789012345678/abcdefghij"
thread_id = "123456789012345678"
"#,
    settings: &[&URL, &THREAD_ID, &message::TEMPLATE],
    batches: false,
    http: true,
    build,
};

const URL: Setting = Setting::optional(
    "url",
    "{ file = \"/etc/holdfast/secrets/discord\" }",
    "The webhook's address, `https://discord.com/api/webhooks/ID/TOKEN`. A secret.",
);

const THREAD_ID: Setting = Setting::optional(
    "thread_id",
    "\"123456789012345678\"",
    "The id of a thread in the webhook's channel to post to, digits in quotes. A forum needs one.",
);

/// `content`.
const CONTENT_CHARS_MAX: usize = 2000;

/// An embed's title may have 256 characters, and all texts of a message's embeds 6,000; these
/// limits keep to both.
const TITLE_CHARS_MAX: usize = 230;
const FIELD_CHARS_MAX: usize = 180;
const LOG_CHARS_MAX: usize = 1500;
const FOOTER_CHARS_MAX: usize = 200;

/// An embed may have 25.
const FIELDS_MAX: usize = 20;

/// "The channel is a forum" and its kin, an unknown channel, a webhook that is unknown.
const MISCONFIGURED_CODES: [u64; 6] = [10_003, 10_015, 220_001, 220_002, 220_003, 220_004];

/// "Invalid Webhook Token".
const BAD_TOKEN_CODE: u64 = 50_027;

#[derive(Debug)]
struct Discord {
    api: Api,
    thread_id: Option<String>,
    template: message::Template,
}

fn build(section: &Section<'_>, context: &Context) -> Option<Arc<dyn Destination>> {
    let address = vendor::address(section, &URL);
    let thread_id = section.text(&THREAD_ID);
    let template = message::Template::read(section);
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if thread_id.is_some_and(|id| !is_number(id)) {
        section.fault(THREAD_ID.name, "it must be digits, as \"123456789012345678\"");
        return None;
    }
    Some(Arc::new(Discord {
        api: Api::new(section, context, address?, Auth::None)?,
        thread_id: thread_id.map(str::to_owned),
        template: template?,
    }))
}

#[async_trait]
impl Destination for Discord {
    async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError> {
        let member = shipment.only()?;
        let body = self.body(&Message::of(member));
        let url = self.url()?;
        let secrets = chat::parts(&url, &[]);
        let answer = self.api.json(Method::POST, url, &body).await?;
        let receipt = self.judge(&answer).map_err(|error| http::masked(error, &secrets))?;
        Ok(Delivered::All(receipt))
    }

    /// A webhook's own address answers with its description.
    async fn check(&self) -> Option<Result<(), DeliveryError>> {
        let asked = async {
            let mut url = self.api.url()?;
            url.set_query(None);
            let secrets = chat::parts(&url, &[]);
            let answer = self.api.get(url).await?;
            self.verdict(&answer).map_err(|error| http::masked(error, &secrets))
        };
        Some(asked.await)
    }

    fn refresh_secrets(&self) -> Result<bool, Box<dyn Error + Send + Sync>> {
        self.api.refresh()
    }
}

// === impl Discord ===

impl Discord {
    /// The address with the parameters that are ours, whatever it had of them.
    fn url(&self) -> Result<Url, DeliveryError> {
        let mut url = self.api.url()?;
        let ours = |name: &str| name == "wait" || (name == "thread_id" && self.thread_id.is_some());
        let others: Vec<(String, String)> =
            url.query_pairs().into_owned().filter(|(name, _)| !ours(name)).collect();
        url.query_pairs_mut()
            .clear()
            .append_pair("wait", "true")
            .extend_pairs(self.thread_id.as_ref().map(|id| ("thread_id", id)))
            .extend_pairs(others);
        Ok(url)
    }

    fn body(&self, message: &Message) -> Value {
        let mut embed = json!({
            "color": chat::colour(message.severity),
            "footer": { "text": format!("Event {}", clip(&message.key, FOOTER_CHARS_MAX - 6)) },
        });
        let mut body = json!({ "allowed_mentions": { "parse": [] } });
        if let Some(text) = self.template.render(message) {
            // An empty text is left out, because the embed is content enough.
            if !text.trim().is_empty() {
                body["content"] = clip(&text, CONTENT_CHARS_MAX).into();
            }
        } else {
            let title = plain_markdown(&message.title, TITLE_CHARS_MAX);
            embed["title"] = format!("{}: {title}", message.level_text()).into();
            embed["fields"] = message
                .facts
                .iter()
                .take(FIELDS_MAX)
                .map(|fact| {
                    let value = plain_markdown(&fact.value, FIELD_CHARS_MAX);
                    json!({ "name": fact.name, "value": value, "inline": value.len() <= 40 })
                })
                .collect();
            if let Some(log) = &message.log {
                embed["description"] = fenced(log, LOG_CHARS_MAX).into();
            }
        }
        body["embeds"] = json!([embed]);
        body
    }

    fn judge(&self, answer: &Answer) -> Result<Receipt, DeliveryError> {
        self.verdict(answer)?;
        if answer.status != StatusCode::OK {
            // 204 is the answer to a request that did not wait, which this was not.
            return Err(self.api.failure(Reason::BadAnswer, answer));
        }
        let said = self.api.read(answer)?;
        let Some(id) = said["id"].as_str().filter(|id| !id.is_empty()) else {
            return Err(self.api.failure(Reason::BadAnswer, answer));
        };
        Ok(Receipt {
            status: Some(answer.status.as_u16()),
            remote_id: Some(id.to_owned()),
            duplicate: false,
        })
    }

    fn verdict(&self, answer: &Answer) -> Result<(), DeliveryError> {
        let Err(mut error) = self.api.verdict(answer) else { return Ok(()) };
        // An error without a readable body is what its status says.
        let said = self.api.read(answer).unwrap_or_default();
        if error.reason == Reason::Throttled {
            let seconds = said["retry_after"].as_f64().map(Duration::try_from_secs_f64);
            if let Some(Ok(wait)) = seconds {
                error.retry_after = Some(wait.min(RETRY_AFTER_MAX));
            }
        }
        let code = said["code"].as_u64().unwrap_or(0);
        if code == BAD_TOKEN_CODE {
            error.reason = Reason::Unauthorized;
        } else if MISCONFIGURED_CODES.contains(&code) {
            error.reason = Reason::Misconfigured;
        }
        Err(error)
    }
}

#[cfg(test)]
mod tests {
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
        let table = format!(
            "url = \"{}{PATH}?wait=false&with_components=true\"\nthread_id = \"77\"",
            fake.url
        );
        let destination = build_kind(&KIND, &table, &context()).unwrap();
        let Delivered::All(receipt) =
            destination.deliver(&shipment([alert(1, "{}")])).await.unwrap()
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
}
