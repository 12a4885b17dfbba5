//! Elasticsearch 8 and 9, and OpenSearch, by the bulk API.
//!
//! Promises: one event is one document, because its key is the document's `_id` and only `create`
//! is used: what is there already is a duplicate, not a second copy. Every document of a request
//! has its own result. The index is named by the event's own date, so that a retry after midnight
//! meets the first try.
//!
//! Quirks: 200 does not mean that a document was stored; each item says so itself. In a data stream
//! `_id` is unique in one backing index only: a retry after a roll-over is stored again. No
//! `Retry-After` comes with a 429.
//!
//! Source: elasticsearch-specification `_global/bulk`; OpenSearch documentation "Bulk".

#[cfg(test)]
mod tests;

use std::{error::Error, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use holdfast_model::{
    DeliveryError, Destination, Kind as EventKind, Member, Reason, Receipt, Shipment, Timestamp,
    delivery::Delivered,
    settings::{Section, Setting},
};
use reqwest::{
    Method,
    header::{self, HeaderValue},
};
use serde_json::{Value, json};

use super::{Context, Kind};
use crate::{
    body,
    http::{Answer, mask},
    message::{Message, clip},
    vendor::{self, Api, Auth},
};

pub(super) const KIND: Kind = Kind {
    name: "elasticsearch",
    summary: "Stores events in Elasticsearch or OpenSearch through the bulk API.",
    example: r#"
url = "https://elastic.example:9200"
api_key = "VnVhQ2ZHY0JDZGJrU..."
index = "holdfast-alerts-{date}"
"#,
    settings: &[&URL, &INDEX, &API_KEY, &USER, &PASSWORD, &PIPELINE, &GZIP],
    batches: true,
    http: true,
    build,
};

const URL: Setting = Setting::optional(
    "url",
    "\"https://elastic.example:9200\"",
    "The cluster's address, without \"/_bulk\".",
);

const INDEX: Setting = Setting::new(
    "index",
    "\"holdfast-alerts\"",
    "The index, alias or data stream. \"{date}\" becomes the event's own day in UTC, 2026.03.10. Do not write into Wazuh's own \"wazuh-alerts-*\".",
);

const API_KEY: Setting = Setting::optional(
    "api_key",
    "{ file = \"/etc/holdfast/secrets/elastic\" }",
    "An API key in its encoded form, as Elasticsearch or OpenSearch shows it. A secret. Instead of `user` and `password`.",
);

const USER: Setting = Setting::optional(
    "user",
    "\"holdfast\"",
    "The user, with `password`, where no API key is used.",
);

const PASSWORD: Setting = Setting::optional(
    "password",
    "{ file = \"/etc/holdfast/secrets/elastic\" }",
    "The user's password. A secret.",
);

const PIPELINE: Setting = Setting::optional(
    "pipeline",
    "\"geoip\"",
    "An ingest pipeline that every document goes through.",
);

const GZIP: Setting = Setting::new("gzip", "true", "Whether bodies are compressed.");

const DATE: &str = "{date}";

/// Of a lone item's error, what is kept, in characters.
const ITEM_ERROR_CHARS_MAX: usize = 1000;

/// What the answer is cut down to: the rest repeats what was sent.
const FILTER: &str =
    "errors,items.*._index,items.*._id,items.*.status,items.*.error.type,items.*.error.reason";

#[derive(Debug)]
struct Elasticsearch {
    api: Api,
    index: String,
    pipeline: Option<String>,
    gzip: bool,
}

fn build(section: &Section<'_>, context: &Context) -> Option<Arc<dyn Destination>> {
    let address = vendor::address(section, &URL);
    let index = section.text(&INDEX).unwrap_or_default().to_owned();
    let auth = auth(section);
    let pipeline = section.text(&PIPELINE).map(str::to_owned);
    let gzip = section.bool(&GZIP);
    let problem = bad_index(&index);
    if let Some(problem) = problem {
        section.fault(INDEX.name, problem);
        return None;
    }
    Some(Arc::new(Elasticsearch {
        api: Api::new(section, context, address?, auth?)?,
        index,
        pipeline,
        gzip,
    }))
}

fn auth(section: &Section<'_>) -> Option<Auth> {
    let api_key = vendor::optional_secret(section, &API_KEY);
    let user = section.text(&USER);
    let password = vendor::optional_secret(section, &PASSWORD);
    let given = |setting: &Setting| section.has(setting.name);
    if given(&API_KEY) && (given(&USER) || given(&PASSWORD)) {
        section.fault(API_KEY.name, "give this or `user` and `password`, not both");
        return None;
    }
    if given(&USER) != given(&PASSWORD) {
        section.fault("", "`user` and `password` belong together");
        return None;
    }
    if given(&API_KEY) {
        let name = header::AUTHORIZATION;
        return Some(Auth::Header { name, prefix: "ApiKey ", secret: api_key? });
    }
    if given(&USER) {
        return Some(Auth::Basic { user: user?.to_owned(), password: password? });
    }
    Some(Auth::None)
}

/// What both servers refuse as the name of an index.
fn bad_index(index: &str) -> Option<&'static str> {
    let name = index.replace(DATE, "2026.03.10");
    let bad = |c: char| c.is_uppercase() || c.is_control() || " \"*\\<|,>/?#:{}".contains(c);
    if name.is_empty() || name.len() > 255 {
        return Some("it must have 1 to 255 bytes");
    }
    if name.starts_with(['-', '_', '+', '.']) {
        return Some("it must not begin with -, _, + or .");
    }
    name.contains(bad).then_some("capitals, spaces and \" * \\ < | , > / ? # : { } are not allowed")
}

#[async_trait]
impl Destination for Elasticsearch {
    async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError> {
        let mut url = self.api.at("_bulk")?;
        url.query_pairs_mut().append_pair("filter_path", FILTER);
        if let Some(pipeline) = &self.pipeline {
            url.query_pairs_mut().append_pair("pipeline", pipeline);
        }
        let mut body = Bytes::from(self.body(&shipment.members));
        let mut headers = Vec::new();
        if self.gzip {
            body = body::gzip(body).await?;
            headers.push((header::CONTENT_ENCODING, HeaderValue::from_static("gzip")));
        }
        let ndjson = "application/x-ndjson";
        let answer = self.api.send(Method::POST, url, ndjson, body.into(), &headers).await?;
        self.judge(&answer, &shipment.members).map(Delivered::Each)
    }

    /// Asks who answers there. A key that may only write is answered 403, which proves it too.
    async fn check(&self) -> Option<Result<(), DeliveryError>> {
        let asked = async {
            let answer = self.api.get(self.api.at("")?).await?;
            self.api.verdict(&answer)
        };
        Some(match asked.await {
            Err(error) if error.reason == Reason::Forbidden => Ok(()),
            result => result,
        })
    }

    fn refresh_secrets(&self) -> Result<bool, Box<dyn Error + Send + Sync>> {
        self.api.refresh()
    }
}

// === impl Elasticsearch ===

impl Elasticsearch {
    /// Two lines an event, each with its line break: the last one too, or the whole is refused.
    fn body(&self, members: &[Member]) -> String {
        let mut body = String::new();
        for member in members {
            let message = Message::of(member);
            let moment = Timestamp::parse(&message.at).unwrap_or(member.event.received_at);
            let moment = moment.to_string();
            let day = moment.get(..10).unwrap_or_default().replace('-', ".");
            let index = self.index.replace(DATE, &day);
            let action = json!({ "create": { "_index": index, "_id": member.key } });
            body.push_str(&format!("{action}\n{}\n", document(member, message.alert, &moment)));
        }
        body
    }

    fn judge(
        &self,
        answer: &Answer,
        members: &[Member],
    ) -> Result<Vec<Result<Receipt, DeliveryError>>, DeliveryError> {
        if let Err(error) = self.api.verdict(answer) {
            // What is wrong with the request as a whole is wrong with all that follow.
            let lasts = matches!(answer.status.as_u16(), 405 | 406 | 415);
            return Err(if lasts {
                self.api.failure(Reason::Misconfigured, answer)
            } else {
                error
            });
        }
        let said = self.api.read(answer)?;
        let items = said["items"].as_array().filter(|items| items.len() == members.len());
        let Some(items) = items else {
            return Err(self.api.failure(Reason::BadAnswer, answer));
        };
        Ok(items.iter().zip(members).map(|(item, member)| self.item(item, member)).collect())
    }

    fn item(&self, item: &Value, member: &Member) -> Result<Receipt, DeliveryError> {
        let result = &item["create"];
        let status = result["status"].as_u64().and_then(|status| u16::try_from(status).ok());
        let kind = result["error"]["type"].as_str().unwrap_or("");
        let why = result["error"]["reason"].as_str().unwrap_or("");
        let fail = |reason| {
            let text = mask(&format!("{kind}: {why}"), &self.api.secrets());
            let error = DeliveryError::new(reason).with_excerpt(clip(&text, ITEM_ERROR_CHARS_MAX));
            match status {
                Some(status) => error.with_status(status),
                None => error,
            }
        };
        if result["_id"] != *member.key {
            return Err(fail(Reason::BadAnswer));
        }
        let index = result["_index"].as_str().unwrap_or("");
        let receipt = |duplicate| Receipt {
            status,
            remote_id: Some(format!("{index}/{}", member.key)),
            duplicate,
            ..Receipt::default()
        };
        match status {
            Some(200 | 201) => Ok(receipt(false)),
            Some(409) => Ok(receipt(true)),
            Some(status) => Err(fail(item_reason(status, kind, why))),
            None => Err(fail(Reason::BadAnswer)),
        }
    }
}

/// What a lane does about one item.
fn item_reason(status: u16, kind: &str, why: &str) -> Reason {
    match (status, kind) {
        // A full disk, or a person's hand on the index: it ends.
        (403, "cluster_block_exception") => Reason::ServerFault,
        (401, _) => Reason::Unauthorized,
        (403, _) => Reason::Forbidden,
        // No such index and none may be made, or a name that cannot be: every event has it.
        (404, _) | (400, "invalid_index_name_exception" | "index_closed_exception") => {
            Reason::Misconfigured
        }
        (400, "illegal_argument_exception") if why.starts_with("pipeline with id") => {
            Reason::Misconfigured
        }
        (408 | 503, _) => Reason::ServerFault,
        (413, _) => Reason::TooLarge,
        (429, _) => Reason::Throttled,
        (400..=499, _) => Reason::Refused,
        (500..=599, _) => Reason::ServerFault,
        _ => Reason::BadAnswer,
    }
}

/// The alert as Wazuh wrote it, with the time a data stream demands and where it came from.
fn document(member: &Member, alert: Value, moment: &str) -> Value {
    let mut document = match alert {
        Value::Object(_) => alert,
        _ => json!({ "message": String::from_utf8_lossy(&member.event.body) }),
    };
    document["@timestamp"] = moment.into();
    document["holdfast"] = json!({
        "id": member.id.to_string(),
        "key": member.key,
        "kind": EventKind::as_str(member.event.kind),
        "source": &*member.event.source,
    });
    document
}
