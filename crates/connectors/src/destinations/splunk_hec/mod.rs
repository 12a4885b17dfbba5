//! Splunk, by its HTTP Event Collector.
//!
//! Promises: a request never repeats what the answer says was indexed; with `acknowledge`, an event
//! is delivered when an indexer has acknowledged it, not when the collector has taken it; every
//! event carries its key as the indexed field `holdfast_key`.
//!
//! Quirks: HEC knows no idempotency key, so a try whose answer was lost is indexed twice (`dedup
//! holdfast_key` in the search). Without acknowledgement a 200 comes before anything is durable. In
//! a batch with a bad event the ones before it are indexed, and the ones behind it are not. An
//! acknowledgement is said `true` once and then forgotten; `false` also means "unknown". Codes 24
//! and 25 are successes. The texts vary by version, so only status and code are read.
//!
//! Source: Splunk docs, "Troubleshoot HTTP Event Collector", "About HTTP Event Collector Indexer
//! Acknowledgment".

#[cfg(test)]
mod tests;

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use bytes::Bytes;
use holdfast_model::{
    DeliveryError, Destination, Member, Reason, Receipt, Shipment, Timestamp,
    delivery::Delivered,
    settings::{Section, Setting},
};
use reqwest::{
    Method,
    header::{self, HeaderName, HeaderValue},
};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{Context, Kind};
use crate::{
    body,
    http::Answer,
    message::Message,
    vendor::{self, Api, Auth},
};

pub(super) const KIND: Kind = Kind {
    name: "splunk_hec",
    summary: "Indexes events in Splunk through its HTTP Event Collector.",
    example: r#"
url = "https://splunk.example:8088"
token = "12345678-1234-1234-1234-1234567890ab"
index = "wazuh"
acknowledge = true
"#,
    settings: &[
        &URL,
        &TOKEN,
        &INDEX,
        &SOURCE,
        &SOURCETYPE,
        &HOST,
        &GZIP,
        &ACKNOWLEDGE,
        &ACKNOWLEDGE_EVERY,
        &CHANNEL,
    ],
    batches: true,
    http: true,
    build,
};

const URL: Setting = Setting::optional(
    "url",
    "\"https://splunk.example:8088\"",
    "The collector's address without \"/services/collector\". Splunk Cloud: \"https://http-inputs-<stack>.splunkcloud.com:443\".",
);

const TOKEN: Setting = Setting::optional(
    "token",
    "{ file = \"/etc/holdfast/secrets/splunk\" }",
    "The HEC token. A secret.",
);

const INDEX: Setting = Setting::optional(
    "index",
    "\"wazuh\"",
    "The index. Without it, the token's own default index. The token must be allowed to write to it.",
);

const SOURCE: Setting = Setting::new("source", "\"holdfast\"", "Splunk's `source` of every event.");

const SOURCETYPE: Setting =
    Setting::new("sourcetype", "\"wazuh:alert\"", "Splunk's `sourcetype` of every event.");

const HOST: Setting = Setting::optional(
    "host",
    "\"soc-gateway\"",
    "Splunk's `host` of every event. Without it, the alert's agent, or else its manager.",
);

const GZIP: Setting = Setting::new("gzip", "true", "Whether bodies are compressed.");

const ACKNOWLEDGE: Setting = Setting::new(
    "acknowledge",
    "false",
    "Whether an event is delivered only when an indexer has acknowledged it. The token must have indexer acknowledgement enabled. Set `timeout` to a minute or more then: acknowledgements take up to half a minute.",
);

const ACKNOWLEDGE_EVERY: Setting = Setting::new(
    "acknowledge_every",
    "\"2s\"",
    "How often the indexer is asked for an acknowledgement, 100ms to 1m.",
);

const CHANNEL: Setting = Setting::optional(
    "channel",
    "\"0aeeac95-ac74-4aa9-b30d-6c4c0ac581ba\"",
    "The data channel, a GUID of 36 characters. Without it, `acknowledge` uses a new one after every start, which is what Splunk advises.",
);

const CHANNEL_HEADER: HeaderName = HeaderName::from_static("x-splunk-request-channel");

const GUID_CHARS: usize = 36;

#[derive(Debug)]
struct Splunk {
    api: Api,
    index: Option<String>,
    source: String,
    sourcetype: String,
    host: Option<String>,
    gzip: bool,
    /// How often acknowledgements are asked for, if they are.
    acknowledge: Option<Duration>,
    channel: Option<HeaderValue>,
    timeout: Duration,
}

fn build(section: &Section<'_>, context: &Context) -> Option<Arc<dyn Destination>> {
    let address = vendor::address(section, &URL);
    let token = vendor::secret(section, &TOKEN);
    let index = section.text(&INDEX).map(str::to_owned);
    let source = section.text(&SOURCE).unwrap_or_default().to_owned();
    let sourcetype = section.text(&SOURCETYPE).unwrap_or_default().to_owned();
    let host = section.text(&HOST).map(str::to_owned);
    let gzip = section.bool(&GZIP);
    let acknowledge = section.bool(&ACKNOWLEDGE);
    let every =
        section.duration(&ACKNOWLEDGE_EVERY, Duration::from_millis(100)..=Duration::from_secs(60));
    let channel = match section.text(&CHANNEL) {
        Some(given) if is_guid(given) => Some(given.to_owned()),
        Some(_) => {
            section.fault(CHANNEL.name, "it is not a GUID such as the example");
            return None;
        }
        None => acknowledge.then(|| new_channel(context)),
    };
    let auth = Auth::Header { name: header::AUTHORIZATION, prefix: "Splunk ", secret: token? };
    Some(Arc::new(Splunk {
        api: Api::new(section, context, address?, auth)?,
        index,
        source,
        sourcetype,
        host,
        gzip,
        acknowledge: acknowledge.then_some(every),
        channel: channel.and_then(|channel| HeaderValue::from_str(&channel).ok()),
        timeout: context.timeout,
    }))
}

fn is_guid(text: &str) -> bool {
    let dashes = [8, 13, 18, 23];
    text.len() == GUID_CHARS
        && text.bytes().enumerate().all(|(at, byte)| {
            if dashes.contains(&at) { byte == b'-' } else { byte.is_ascii_hexdigit() }
        })
}

/// A GUID that no other start of any lane has: the ids of acknowledgements count per channel.
fn new_channel(context: &Context) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let mut hash = Sha256::new();
    hash.update(format!("{} {} {now}", context.name, std::process::id()).as_bytes());
    let mut hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    hex.truncate(32);
    for at in [8, 13, 18, 23] {
        hex.insert(at, '-');
    }
    hex
}

#[async_trait]
impl Destination for Splunk {
    async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError> {
        let deadline = Instant::now() + self.timeout;
        let members = &shipment.members;
        let body = members.iter().map(|member| self.line(member)).collect::<Vec<_>>().join("\n");
        let mut headers = self.headers(None);
        let mut body = Bytes::from(body);
        if self.gzip {
            body = body::gzip(body).await?;
            headers.push((header::CONTENT_ENCODING, HeaderValue::from_static("gzip")));
        }
        let url = self.api.at("services/collector/event")?;
        let json = "application/json";
        let answer = self.api.send(Method::POST, url, json, body.into(), &headers).await?;
        match self.judge(&answer) {
            Ok(receipt) => self.acknowledged(&answer, deadline).await.map(|id| {
                Delivered::All(Receipt { remote_id: id.map(|id| id.to_string()), ..receipt })
            }),
            Err(error) => self.split(error, &answer, members.len(), deadline).await,
        }
    }

    fn refresh_secrets(&self) -> Result<bool, Box<dyn Error + Send + Sync>> {
        self.api.refresh()
    }
}

// === impl Splunk ===

impl Splunk {
    /// One event as the collector reads it. Every event has its metadata: none is inherited.
    fn line(&self, member: &Member) -> String {
        let message = Message::of(member);
        let manager = message.alert.pointer("/manager/name").and_then(Value::as_str);
        let host = self.host.as_deref().or(message.agent_name.as_deref()).or(manager);
        let moment = Timestamp::parse(&message.at).unwrap_or(member.event.received_at);
        // Flat, and texts only: anything else is code 15.
        let mut fields = Map::new();
        fields.insert("holdfast_key".into(), message.key.clone().into());
        fields.insert("holdfast_id".into(), message.id.clone().into());
        fields.insert("severity".into(), message.severity.as_str().into());
        let event = match &message.alert {
            Value::Object(_) => message.alert.clone(),
            // Null and an empty text are refused; what is no object keeps its text beside a name.
            _ => json!({ "message": String::from_utf8_lossy(&member.event.body) }),
        };
        let mut line = json!({
            "time": moment.0 as f64 / 1000.0,
            "host": host,
            "source": self.source,
            "sourcetype": self.sourcetype,
            "index": self.index,
            "event": event,
            "fields": fields,
        });
        if let Some(line) = line.as_object_mut() {
            line.retain(|_, value| !value.is_null());
        }
        line.to_string()
    }

    fn headers(&self, cookie: Option<HeaderValue>) -> Vec<(HeaderName, HeaderValue)> {
        let channel = self.channel.clone().map(|channel| (CHANNEL_HEADER, channel));
        channel.into_iter().chain(cookie.map(|cookie| (header::COOKIE, cookie))).collect()
    }

    fn judge(&self, answer: &Answer) -> Result<Receipt, DeliveryError> {
        let code = code(answer);
        if let Err(error) = self.api.verdict(answer) {
            let reason = match (answer.status.as_u16(), code) {
                (401 | 403, Some(1..=4)) | (400, Some(21 | 22)) => Reason::Unauthorized,
                // 7: the index does not exist or is not the token's. 10, 11, 14, 28: channel and
                // acknowledgement. Every event has the same, so the lane waits for a person.
                (400, Some(7 | 10 | 11 | 14 | 16 | 28)) => Reason::Misconfigured,
                (405 | 406 | 415, _) => Reason::Misconfigured,
                _ => return Err(error),
            };
            return Err(self.api.failure(reason, answer));
        }
        // What broke off may have been a yes, and nothing here drops a repeat.
        answer.body()?;
        match code {
            Some(0 | 24 | 25) => {
                Ok(Receipt { status: Some(answer.status.as_u16()), ..Receipt::default() })
            }
            _ => Err(self.api.failure(Reason::BadAnswer, answer)),
        }
    }

    /// Tells the bad event of a batch from its neighbours, where the collector names it.
    async fn split(
        &self,
        error: DeliveryError,
        answer: &Answer,
        count: usize,
        deadline: Instant,
    ) -> Result<Delivered, DeliveryError> {
        let said = self.api.read(answer).unwrap_or_default();
        let bad = said["invalid-event-number"].as_u64().and_then(|at| usize::try_from(at).ok());
        let (Reason::Refused, Some(bad)) = (error.reason, bad.filter(|bad| *bad < count)) else {
            return Err(error);
        };
        let mut results = Vec::with_capacity(count);
        if bad > 0 {
            let taken = match self.acknowledged(answer, deadline).await {
                Ok(id) => Ok(id.map(|id| id.to_string())),
                Err(error) => Err((error.reason, error.excerpt)),
            };
            results.extend((0..bad).map(|_| match &taken {
                Ok(id) => Ok(Receipt { remote_id: id.clone(), ..Receipt::default() }),
                Err((reason, said)) => Err(DeliveryError::new(*reason).with_excerpt(said.clone())),
            }));
        }
        let excerpt = format!("not read, because event {bad} of this request was refused");
        results.push(Err(error));
        results.extend(
            (bad + 1..count).map(|_| {
                Err(DeliveryError::new(Reason::ServerFault).with_excerpt(excerpt.clone()))
            }),
        );
        Ok(Delivered::Each(results))
    }

    /// Waits for the indexer's word, if it is wanted; the id it was given under.
    async fn acknowledged(
        &self,
        answer: &Answer,
        deadline: Instant,
    ) -> Result<Option<u64>, DeliveryError> {
        let Some(every) = self.acknowledge else { return Ok(None) };
        let Some(id) = self.api.read(answer)?["ackId"].as_u64() else {
            let said = "no ackId: indexer acknowledgement is not enabled for this token";
            return Err(DeliveryError::new(Reason::Misconfigured).with_excerpt(said));
        };
        let headers = self.headers(cookies(answer));
        let ask = json!({ "acks": [id] }).to_string().into_bytes();
        loop {
            match timeout_at(deadline, self.asked(ask.clone(), &headers, id)).await {
                Ok(Ok(true)) => return Ok(Some(id)),
                Ok(Err(error)) if !error.reason.is_transient() => return Err(error),
                // Not yet, or the question failed, which says nothing about the event.
                Ok(Ok(false) | Err(_)) => {}
                Err(_) => break,
            }
            let next = Instant::now() + every;
            if next >= deadline {
                break;
            }
            sleep_until(next).await;
        }
        let said = format!("no indexer acknowledged it in time (ackId {id})");
        Err(DeliveryError::new(Reason::InDoubt).with_excerpt(said))
    }

    async fn asked(
        &self,
        ask: Vec<u8>,
        headers: &[(HeaderName, HeaderValue)],
        id: u64,
    ) -> Result<bool, DeliveryError> {
        let url = self.api.at("services/collector/ack")?;
        let answer = self.api.send(Method::POST, url, "application/json", ask, headers).await?;
        if let Err(error) = self.api.verdict(&answer) {
            // Whatever is wrong with the question, the event itself was not refused.
            let lasts = matches!(error.reason, Reason::Refused | Reason::TooLarge);
            return Err(if lasts {
                self.api.failure(Reason::Misconfigured, &answer)
            } else {
                error
            });
        }
        Ok(self.api.read(&answer)?["acks"][id.to_string()] == true)
    }
}

fn code(answer: &Answer) -> Option<u64> {
    let said: Value = serde_json::from_slice(answer.body().ok()?).ok()?;
    said["code"].as_u64()
}

/// What a load balancer set, so that the question reaches the indexer that has the answer.
fn cookies(answer: &Answer) -> Option<HeaderValue> {
    let set = answer.headers.get_all(header::SET_COOKIE).iter();
    let pairs = set.filter_map(|cookie| cookie.to_str().ok()?.split(';').next());
    let all = pairs.collect::<Vec<_>>().join("; ");
    if all.is_empty() { None } else { HeaderValue::from_str(&all).ok() }
}
