//! Microsoft Teams, by a workflow's webhook or, where it still exists, a connector's.
//!
//! Promises: what an alert says is no Markdown, so it hides no link; a message is within Teams'
//! size; each message shows its key.
//!
//! Quirks: a workflow answers 202 when it was triggered, and what it fails at later is seen only
//! in its run history. A connector answers 200 with the text `1`, and its errors too are a 200
//! with a text, `… HTTP error 429 …`. There is no id, no thread and no search, so a try in doubt
//! is sent again. The address is long, and its query holds the signature.
//!
//! Facts are rich text and not a `FactSet`, because the values of a `FactSet` are Markdown.
//!
//! Source: Microsoft Learn, "Create an Incoming Webhook" and "Create incoming webhooks with
//! Workflows"; adaptivecards.io schema 1.4; MicrosoftDocs/msteams-docs for errors in a 200.

use std::{error::Error, sync::Arc, time::SystemTime};

use async_trait::async_trait;
use holdfast_model::{
    DeliveryError, Destination, Reason, Receipt, Shipment,
    delivery::Delivered,
    settings::{Section, Setting},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Context, Kind};
use crate::{
    chat,
    http::{self, Answer, classify},
    message::{self, Message, Severities, clip},
    vendor::{self, Api, Auth},
};

pub(super) const KIND: Kind = Kind {
    name: "teams",
    summary: "Posts a card to Microsoft Teams through a workflow's webhook.",
    example: r#"
url = "https://prod-01.westeurope.logic.azure.com:443/workflows/0123/triggers/manual/paths/invoke?api-version=2016-06-01&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig=abcdefghij"
"#,
    settings: &[&URL, &SEVERITY, &message::TEMPLATE],
    batches: false,
    http: true,
    build,
};

const URL: Setting = Setting::optional(
    "url",
    "{ file = \"/etc/holdfast/secrets/teams\" }",
    "The address of the workflow \"When a Teams webhook request is received\", whole, with its query. A connector's address works while Microsoft keeps it. A secret.",
);

const SEVERITY: Setting = Setting::optional(
    "severity",
    "{ low = \"good\", medium = \"warning\", high = \"attention\", critical = \"attention\" }",
    "The title's colour for each severity: \"default\", \"accent\", \"good\" (green), \"warning\" (yellow) or \"attention\" (red). The default is the example.",
);

/// Teams takes 28 KB, and has been seen to refuse above 21 KB.
const BODY_BYTES_MAX: usize = 20_000;

/// Longest log, in lines: each is an element of the card.
const LOG_LINES_MAX: usize = 15;

/// What is tried until the body fits: characters of each fact, of the log, of a template's text.
const SHAPES: [(usize, usize, usize); 4] =
    [(500, 2000, 16_000), (200, 1000, 6000), (100, 300, 3000), (40, 0, 1500)];

#[derive(Debug)]
struct Teams {
    api: Api,
    severities: Severities,
    template: message::Template,
}

fn build(section: &Section<'_>, context: &Context) -> Option<Arc<dyn Destination>> {
    let address = vendor::address(section, &URL);
    let words = ["default", "accent", "good", "warning", "attention"];
    let severities =
        Severities::read(section, ["good", "warning", "attention", "attention"], &words);
    let template = message::Template::read(section);
    let api = Api::new(section, context, address?, Auth::None)?;
    Some(Arc::new(Teams { api, severities: severities?, template: template? }))
}

#[async_trait]
impl Destination for Teams {
    async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError> {
        let member = shipment.only()?;
        let body = self.body(&Message::of(member));
        let url = self.api.url()?;
        let secrets = chat::parts(&url, &["sig"]);
        let answer = self.api.json(Method::POST, url, &body).await?;
        let receipt = self.judge(&answer).map_err(|error| http::masked(error, &secrets))?;
        Ok(Delivered::All(receipt))
    }

    fn refresh_secrets(&self) -> Result<bool, Box<dyn Error + Send + Sync>> {
        self.api.refresh()
    }
}

// === impl Teams ===

impl Teams {
    fn body(&self, message: &Message) -> Value {
        let own = self.template.render(message);
        let [most @ .., least] = SHAPES;
        most.into_iter()
            .map(|shape| self.shaped(message, own.as_deref(), shape))
            .find(|body| body.to_string().len() <= BODY_BYTES_MAX)
            .unwrap_or_else(|| self.shaped(message, own.as_deref(), least))
    }

    fn shaped(&self, message: &Message, own: Option<&str>, shape: (usize, usize, usize)) -> Value {
        let (fact_chars, log_chars, text_chars) = shape;
        let mut elements = Vec::new();
        if let Some(text) = own {
            // The operator's text, in which Teams' Markdown works. A card refuses an empty one.
            let text = if text.is_empty() { "-".into() } else { clip(text, text_chars) };
            elements.push(json!({ "type": "TextBlock", "text": text, "wrap": true }));
        } else {
            elements.push(rich(&[json!({
                "type": "TextRun",
                "text": format!("{}: {}", message.level_text(), message.title),
                "weight": "Bolder",
                "size": "Medium",
                "color": self.severities.word(message.severity),
            })]));
            for fact in &message.facts {
                let name = json!({
                    "type": "TextRun", "text": format!("{}: ", fact.name), "weight": "Bolder",
                });
                let value = json!({ "type": "TextRun", "text": clip(&fact.value, fact_chars) });
                let mut line = rich(&[name, value]);
                line["spacing"] = "None".into();
                elements.push(line);
            }
            elements.extend(log(message, log_chars));
        }
        elements.push(rich(&[json!({
            "type": "TextRun",
            "text": format!("Event {}", clip(&message.key, 500)),
            "isSubtle": true,
            "size": "Small",
        })]));
        json!({
            "type": "message",
            "attachments": [{
                "contentType": "application/vnd.microsoft.card.adaptive",
                "contentUrl": null,
                "content": {
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "type": "AdaptiveCard",
                    "version": "1.4",
                    "msteams": { "width": "Full" },
                    "body": elements,
                },
            }],
        })
    }

    fn judge(&self, answer: &Answer) -> Result<Receipt, DeliveryError> {
        self.api.verdict(answer).map_err(|error| match error.status {
            // A signature that is wrong, or a tenant that allows no anonymous calls: both are
            // mended where the address comes from.
            Some(403) => self.api.failure(Reason::Unauthorized, answer),
            Some(400) if error.excerpt.contains("WorkflowTriggerIsNotEnabled") => {
                self.api.failure(Reason::Misconfigured, answer)
            }
            _ => error,
        })?;
        let receipt =
            Receipt { status: Some(answer.status.as_u16()), remote_id: None, duplicate: false };
        if answer.status == StatusCode::ACCEPTED {
            return Ok(receipt);
        }
        let text = String::from_utf8_lossy(answer.body()?).into_owned();
        if let Some(inner) = inner_status(&text) {
            let reason = match inner.as_u16() {
                403 => Reason::Unauthorized,
                _ => match classify(inner, &answer.headers, SystemTime::now()) {
                    Ok(()) => Reason::BadAnswer,
                    Err(error) => error.reason,
                },
            };
            return Err(self.api.failure(reason, answer));
        }
        // A connector says `1`; a workflow nothing, or whatever JSON its author lets it answer.
        let text = text.trim();
        if text.is_empty() || serde_json::from_str::<Value>(text).is_ok() {
            return Ok(receipt);
        }
        Err(self.api.failure(Reason::BadAnswer, answer))
    }
}

/// The status in `… endpoint returned HTTP error 429 …`.
fn inner_status(text: &str) -> Option<StatusCode> {
    const MARK: &str = "HTTP error ";
    let (_, behind) = text.split_once(MARK)?;
    StatusCode::from_bytes(behind.as_bytes().get(..3)?).ok()
}

fn rich(runs: &[Value]) -> Value {
    json!({ "type": "RichTextBlock", "inlines": runs })
}

fn log(message: &Message, chars_max: usize) -> Option<Value> {
    let log = message.log.as_deref().filter(|_| chars_max > 0)?;
    let log = clip(log, chars_max);
    let lines = log.lines().filter(|line| !line.is_empty()).take(LOG_LINES_MAX);
    let lines: Vec<Value> = lines
        .map(|line| {
            let run = json!({ "type": "TextRun", "text": line, "fontType": "Monospace" });
            let mut line = rich(&[run]);
            line["spacing"] = "None".into();
            line
        })
        .collect();
    let container = json!({ "type": "Container", "style": "emphasis", "items": lines });
    (!lines.is_empty()).then_some(container)
}

#[cfg(test)]
mod tests {
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
}
