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

#[cfg(test)]
mod tests;

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

    fn take_template_errors(&self) -> u64 {
        self.template.take_errors()
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
        let receipt = Receipt {
            status: Some(answer.status.as_u16()),
            remote_id: None,
            duplicate: false,
            ..Receipt::default()
        };
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
