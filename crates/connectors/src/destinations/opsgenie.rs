//! Opsgenie, and the operations side of Jira Service Management, which kept Opsgenie's API: the
//! address decides.
//!
//! Promises: one event is one alert, because the `alias` is the same for every try; an alert that
//! resolves a problem closes its alert; a message is within Opsgenie's limits.
//!
//! Quirks: 202 means "will be processed", and what was accepted can still be rejected there. The
//! same alias counts up while the alert is open; after a close it opens a new one. A key of the
//! wrong form is a 422. A 429 names its wait in `X-RateLimit-Period-In-Sec`. Only the key of an API
//! integration can create alerts, not an account's API key.
//!
//! Source: opsgenie/opsgenie-oas `swagger.json`; Opsgenie docs, "Alert API" and "API rate
//! limiting"; Atlassian developer docs, "JSM operations: integration events".

use std::{error::Error, sync::Arc, time::Duration};

use async_trait::async_trait;
use holdfast_model::{
    DeliveryError, Destination, Member, Reason, Receipt, Shipment,
    delivery::Delivered,
    settings::{Section, Setting},
};
use reqwest::{
    Method, Url,
    header::{AUTHORIZATION, RETRY_AFTER},
};
use serde_json::{Map, Value, json};

use super::{Context, Kind};
use crate::{
    http::{Answer, RETRY_AFTER_MAX},
    message::{self, Lifecycle, Message, Phase, Severities, clip, one_line},
    vendor::{self, Api, Auth},
};

pub(super) const KIND: Kind = Kind {
    name: "opsgenie",
    summary: "Alerts in Opsgenie or in Jira Service Management's operations.",
    example: r#"
api_key = "00000000-1111-2222-3333-444444444444"
responders = ["team:SOC"]
group = "problem"
resolved_by = { "504" = "503" }
"#,
    settings: &[
        &API_KEY,
        &URL,
        &RESPONDERS,
        &TAGS,
        &SEVERITY,
        &message::GROUP,
        &message::RESOLVED_BY,
        &message::TEMPLATE,
    ],
    batches: false,
    http: true,
    build,
};

const API_KEY: Setting = Setting::optional(
    "api_key",
    "{ file = \"/etc/holdfast/secrets/opsgenie\" }",
    "The key of an integration of type \"API\". Not an account's API key. A secret.",
);

const URL: Setting = Setting::new(
    "url",
    "\"https://api.opsgenie.com/v2/alerts\"",
    "Where alerts go. In the EU: \"https://api.eu.opsgenie.com/v2/alerts\". In Jira Service Management: \"https://api.atlassian.com/jsm/ops/integration/v2/alerts\".",
);

const RESPONDERS: Setting = Setting::optional(
    "responders",
    "[\"team:SOC\", \"user:ann@example.org\"]",
    "Who is told: \"team:\", \"escalation:\" or \"schedule:\" with a name, or \"user:\" with an e-mail address; at most 50. Default: as the integration says.",
);

const TAGS: Setting = Setting::optional(
    "tags",
    "[\"wazuh\"]",
    "Tags beside the rule's groups; at most 20 of at most 50 characters.",
);

const SEVERITY: Setting = Setting::optional(
    "severity",
    "{ low = \"P5\", medium = \"P3\", high = \"P2\", critical = \"P1\" }",
    "Opsgenie's priority for each severity, \"P1\" to \"P5\". The default is the example.",
);

const MESSAGE_CHARS_MAX: usize = 130;
const ALIAS_CHARS_MAX: usize = 512;
const DESCRIPTION_CHARS_MAX: usize = 15_000;
const ENTITY_CHARS_MAX: usize = 512;
const TAGS_MAX: usize = 20;
const TAG_CHARS_MAX: usize = 50;
const RESPONDERS_MAX: usize = 50;

/// All names and values of `details` together.
const DETAILS_CHARS_MAX: usize = 8000;

#[derive(Debug)]
struct Opsgenie {
    api: Api,
    responders: Vec<Value>,
    tags: Vec<String>,
    severities: Severities,
    lifecycle: Lifecycle,
    template: message::Template,
}

fn build(section: &Section<'_>, context: &Context) -> Option<Arc<dyn Destination>> {
    let api_key = vendor::secret(section, &API_KEY);
    let address = vendor::address(section, &URL);
    let responders = responders(section);
    let tags = tags(section);
    let severities =
        Severities::read(section, ["P5", "P3", "P2", "P1"], &["P1", "P2", "P3", "P4", "P5"]);
    let lifecycle = Lifecycle::read(section);
    let template = message::Template::read(section);
    let auth = Auth::Header { name: AUTHORIZATION, prefix: "GenieKey ", secret: api_key? };
    Some(Arc::new(Opsgenie {
        api: Api::new(section, context, address?, auth)?,
        responders: responders?,
        tags: tags?,
        severities: severities?,
        lifecycle: lifecycle?,
        template: template?,
    }))
}

fn responders(section: &Section<'_>) -> Option<Vec<Value>> {
    let given = section.texts(&RESPONDERS);
    let Some(given) = given else {
        return (!section.has(RESPONDERS.name)).then(Vec::new);
    };
    let read: Option<Vec<_>> = given.iter().map(|text| responder(text)).collect();
    match read {
        Some(read) if read.len() <= RESPONDERS_MAX => Some(read),
        Some(_) => {
            section.fault(RESPONDERS.name, format!("there are more than {RESPONDERS_MAX}"));
            None
        }
        None => {
            let problem = "each must be \"team:\", \"escalation:\", \"schedule:\" or \"user:\" with a name behind it";
            section.fault(RESPONDERS.name, problem);
            None
        }
    }
}

fn responder(text: &str) -> Option<Value> {
    let (kind, name) = text.split_once(':')?;
    let name = name.trim();
    match kind {
        _ if name.is_empty() => None,
        "team" | "escalation" | "schedule" => Some(json!({ "type": kind, "name": name })),
        "user" => Some(json!({ "type": "user", "username": name })),
        _ => None,
    }
}

fn tags(section: &Section<'_>) -> Option<Vec<String>> {
    let Some(tags) = section.texts(&TAGS) else {
        return (!section.has(TAGS.name)).then(Vec::new);
    };
    let fits = |tag: &String| (1..=TAG_CHARS_MAX).contains(&tag.trim().chars().count());
    if tags.len() > TAGS_MAX || !tags.iter().all(fits) {
        let problem = format!("at most {TAGS_MAX} tags of 1 to {TAG_CHARS_MAX} characters");
        section.fault(TAGS.name, problem);
        return None;
    }
    Some(tags)
}

#[async_trait]
impl Destination for Opsgenie {
    async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError> {
        let member = shipment.only()?;
        let mut receipt = Receipt::default();
        // Closing is idempotent there, so a try that failed between two may repeat the first.
        for (url, body) in self.requests(member)? {
            let answer = self.api.json(Method::POST, url, &body).await?;
            receipt = self.judge(&answer, body.get("message").is_none())?;
        }
        Ok(Delivered::All(receipt))
    }

    fn refresh_secrets(&self) -> Result<bool, Box<dyn Error + Send + Sync>> {
        self.api.refresh()
    }
}

// === impl Opsgenie ===

impl Opsgenie {
    /// One alert to create, or one to close for each problem that ends.
    fn requests(&self, member: &Member) -> Result<Vec<(Url, Value)>, DeliveryError> {
        let message = Message::of(member);
        match self.lifecycle.phase(&message) {
            Phase::Open { key } => Ok(vec![(self.api.url()?, self.create(&message, &key))]),
            Phase::Resolve { keys } => {
                let note = one_line(&format!("Resolved: {}", message.title), ENTITY_CHARS_MAX);
                let body = json!({ "user": "Holdfast", "source": "Wazuh", "note": note });
                keys.iter().map(|key| Ok((self.close_url(key)?, body.clone()))).collect()
            }
        }
    }

    fn close_url(&self, alias: &str) -> Result<Url, DeliveryError> {
        let mut url = self.api.url()?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend([alias, "close"]);
        }
        url.query_pairs_mut().append_pair("identifierType", "alias");
        Ok(url)
    }

    fn create(&self, message: &Message, key: &str) -> Value {
        let text = self.template.render(message).unwrap_or_else(|| message.plain());
        let mut tags = self.tags.clone();
        for group in &message.groups {
            let tag = one_line(group, TAG_CHARS_MAX);
            if !tag.is_empty() && !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        tags.truncate(TAGS_MAX);
        let mut body = json!({
            "message": one_line(&message.title, MESSAGE_CHARS_MAX),
            "alias": clip(key, ALIAS_CHARS_MAX),
            "description": clip(&text, DESCRIPTION_CHARS_MAX),
            "tags": tags,
            "details": details(message),
            "source": "Wazuh",
            "user": "Holdfast",
            "priority": self.severities.word(message.severity),
        });
        if let Some(agent) = &message.agent_name {
            body["entity"] = one_line(agent, ENTITY_CHARS_MAX).into();
        }
        if !self.responders.is_empty() {
            body["responders"] = self.responders.clone().into();
        }
        body
    }

    fn judge(&self, answer: &Answer, closing: bool) -> Result<Receipt, DeliveryError> {
        // The answer's body may be lost: 202 is the vendor's word.
        let said = self.api.read(answer).unwrap_or_default();
        let request = said["requestId"].as_str().map(str::to_owned);
        let receipt = |duplicate| Receipt {
            status: Some(answer.status.as_u16()),
            remote_id: request.clone(),
            duplicate,
        };
        let Err(mut error) = self.api.verdict(answer) else { return Ok(receipt(false)) };
        match answer.status.as_u16() {
            // Opsgenie's own 404, not a wrong address's: there is nothing left to close.
            404 if closing && request.is_some() => return Ok(receipt(true)),
            422 if error.excerpt.to_ascii_lowercase().contains("key format") => {
                error.reason = Reason::Unauthorized;
            }
            429 if !answer.headers.contains_key(RETRY_AFTER) => error.retry_after = period(answer),
            _ => {}
        }
        Err(error)
    }
}

/// How long the bucket needs to fill again.
fn period(answer: &Answer) -> Option<Duration> {
    let seconds = answer.headers.get("x-ratelimit-period-in-sec")?.to_str().ok()?.trim();
    Some(Duration::from_secs(seconds.parse().ok()?).min(RETRY_AFTER_MAX))
}

/// Texts only, and not more than fit; the first facts are the ones that matter.
fn details(message: &Message) -> Value {
    let facts = message.facts.iter().map(|fact| (fact.name, fact.value.clone()));
    let own = [
        ("Level", message.level_text()),
        ("Event", message.id.clone()),
        ("Key", message.key.clone()),
    ];
    let mut details = Map::new();
    let mut chars = 0;
    for (name, value) in own.into_iter().chain(facts) {
        chars += name.chars().count() + value.chars().count();
        if chars > DETAILS_CHARS_MAX {
            break;
        }
        // An alert's own `Event` does not hide ours.
        details.entry(name).or_insert(value.into());
    }
    Value::Object(details)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        http::fake::{Act, Fake, Seen, answer},
        message::samples,
        testing::{alert, build as build_kind, context, fault, shipment},
    };

    const KEY: &str = "00000000-1111-2222-3333-444444444444";
    const ACCEPTED: &str = r#"{"result":"Request will be processed","took":0.1,"requestId":"r-1"}"#;

    fn destination(fake: &Fake, more: &str) -> Arc<dyn Destination> {
        let table = format!("api_key = \"{KEY}\"\nurl = \"{}/v2/alerts\"\n{more}", fake.url);
        build_kind(&KIND, &table, &context()).unwrap()
    }

    async fn sent(more: &str, member: Member) -> Seen {
        let fake = Fake::start([Act::Say(answer("202 Accepted", "", ACCEPTED))]).await;
        let delivered = destination(&fake, more).deliver(&shipment([member])).await.unwrap();
        let Delivered::All(receipt) = delivered else { panic!("one event has one answer") };
        assert_eq!(receipt.remote_id.as_deref(), Some("r-1"));
        let seen = fake.only();
        assert_eq!(seen.header("authorization"), Some(format!("GenieKey {KEY}").as_str()));
        assert_eq!(seen.header("content-type"), Some("application/json"));
        seen
    }

    fn json_of(seen: &Seen) -> Value {
        serde_json::from_slice(&seen.body).unwrap()
    }

    /// What Opsgenie's schema `CreateAlertPayload` and its documented limits demand.
    fn assert_valid(name: &str, body: &Value) {
        let fields = body.as_object().unwrap();
        let known = [
            "message",
            "alias",
            "description",
            "responders",
            "visibleTo",
            "actions",
            "tags",
            "details",
            "entity",
            "priority",
            "user",
            "note",
            "source",
        ];
        assert!(fields.keys().all(|key| known.contains(&key.as_str())), "{name}");
        let within = |key: &str, least: usize, most: usize| {
            let chars = body[key].as_str().unwrap().chars().count();
            assert!((least..=most).contains(&chars), "{name}: {key} has {chars}");
        };
        within("message", 1, 130);
        within("alias", 1, 512);
        within("description", 1, 15_000);
        if fields.contains_key("entity") {
            within("entity", 0, 512);
        }
        let tags = body["tags"].as_array().unwrap();
        assert!(tags.len() <= 20, "{name}");
        for tag in tags {
            assert!((1..=50).contains(&tag.as_str().unwrap().chars().count()), "{name}");
        }
        let details = body["details"].as_object().unwrap();
        let chars = |text: &str| text.chars().count();
        let total: usize =
            details.iter().map(|(key, value)| chars(key) + chars(value.as_str().unwrap())).sum();
        assert!(total <= 8000, "{name}: {total}");
        let words = ["P1", "P2", "P3", "P4", "P5"];
        assert!(words.contains(&body["priority"].as_str().unwrap()), "{name}");
    }

    #[tokio::test]
    async fn every_sample_is_a_valid_alert() {
        let hostile = ("hostile".to_owned(), samples::hostile());
        for (name, member) in samples::all().into_iter().chain([hostile]) {
            let seen = sent("tags = [\"wazuh\"]\nresponders = [\"team:SOC\"]", member).await;
            assert_eq!(seen.line, "POST /v2/alerts HTTP/1.1");
            assert_valid(&name, &json_of(&seen));
        }
        let template = format!("template = \"{}\"", "é".repeat(16_000));
        assert_valid("long", &json_of(&sent(&template, alert(1, "{}")).await));
    }

    #[tokio::test]
    async fn every_try_has_the_same_bytes_and_alias() {
        let door = || alert(7, r#"{"rule":{"level":12,"description":"door","groups":["a","a"]}}"#);
        let settings = "responders = [\"team:SOC\", \"user:a@b.c\"]";
        let first = sent(settings, door()).await;
        let again = Member { attempt: 2, in_doubt: true, ..door() };
        assert_eq!(first.body, sent(settings, again).await.body);
        let body = json_of(&first);
        assert_eq!(body["alias"], "abcdefghij-7.lane");
        assert_eq!(body["priority"], "P2");
        assert_eq!(body["message"], "door");
        assert_eq!(body["tags"], json!(["a"]));
        let responders =
            json!([{ "type": "team", "name": "SOC" }, { "type": "user", "username": "a@b.c" }]);
        assert_eq!(body["responders"], responders);
        assert_eq!(body["details"]["Event"], "abcdefghij-7");
    }

    #[tokio::test]
    async fn a_resolving_rule_closes_what_the_problem_opened() {
        let settings = "group = \"problem\"\nresolved_by = { \"504\" = \"503\" }";
        let with_rule = |rule: &str| {
            alert(1, format!(r#"{{"rule":{{"id":"{rule}","level":3}},"agent":{{"id":"001"}}}}"#))
        };
        let alias = json_of(&sent(settings, with_rule("504")).await)["alias"].clone();
        let close = sent(settings, with_rule("503")).await;
        let expected = format!(
            "POST /v2/alerts/{}/close?identifierType=alias HTTP/1.1",
            alias.as_str().unwrap()
        );
        assert_eq!(close.line, expected);
        assert_eq!(json_of(&close)["user"], "Holdfast");
        // A close that arrived before finds nothing, and that is no wrong address.
        let gone = r#"{"message":"Alert does not exist","took":0.1,"requestId":"r-2"}"#;
        for (body, expected) in [(gone, Ok(true)), ("<html>", Err(Reason::Misconfigured))] {
            let fake = Fake::start([Act::Say(answer("404 Not Found", "", body))]).await;
            let shipment = shipment([with_rule("503")]);
            let result = match destination(&fake, settings).deliver(&shipment).await {
                Ok(Delivered::All(receipt)) => Ok(receipt.duplicate),
                Ok(Delivered::Each(_)) => panic!("one event has one answer"),
                Err(error) => Err(error.reason),
            };
            assert_eq!(result, expected);
        }
    }

    #[tokio::test]
    async fn each_answer_has_its_meaning() {
        let wrong_form = r#"{"message":"Key format is not valid!","took":0,"requestId":"r"}"#;
        let invalid = r#"{"message":"Request body is not processable.","requestId":"r"}"#;
        let wait = "X-RateLimit-Period-In-Sec: 60\r\n";
        #[rustfmt::skip]
        let table = [
            ("400 Bad Request", "", "", Reason::Refused, None),
            ("401 Unauthorized", "", "", Reason::Unauthorized, None),
            ("402 Payment Required", "", "", Reason::Misconfigured, None),
            ("403 Forbidden", "", "", Reason::Forbidden, None),
            ("404 Not Found", "", invalid, Reason::Misconfigured, None),
            ("422 Unprocessable", "", invalid, Reason::Refused, None),
            ("422 Unprocessable", "", wrong_form, Reason::Unauthorized, None),
            ("429 Too Many Requests", wait, "", Reason::Throttled, Some(60)),
            ("429 Too Many Requests", "Retry-After: 7\r\n", "", Reason::Throttled, Some(7)),
            ("500 Internal Server Error", "", "", Reason::ServerFault, None),
            ("503 Service Unavailable", "", "", Reason::ServerFault, None),
        ];
        for (status, headers, body, expected, seconds) in table {
            let fake = Fake::start([Act::Say(answer(status, headers, body))]).await;
            let shipment = shipment([alert(1, "{}")]);
            let error = destination(&fake, "").deliver(&shipment).await.unwrap_err();
            assert_eq!(error.reason, expected, "{status} {body}");
            assert_eq!(error.retry_after, seconds.map(Duration::from_secs), "{status}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_repeats_the_key_is_masked_and_a_lost_body_is_no_failure() {
        let fake = Fake::start([Act::Say(answer("401 No", "", &format!("bad {KEY}")))]).await;
        let result = destination(&fake, "").deliver(&shipment([alert(1, "{}")])).await;
        assert_eq!(result.unwrap_err().excerpt, "bad [masked]");
        let fake = Fake::start([Act::Say(answer("202 Accepted", "", "<oops"))]).await;
        assert!(destination(&fake, "").deliver(&shipment([alert(1, "{}")])).await.is_ok());
    }

    #[test]
    fn wrong_settings_are_faults() {
        let key = "api_key = \"k\"\n";
        #[rustfmt::skip]
        let table = [
            ("responders = [\"SOC\"]", "lane.responders: each must be"),
            ("responders = [\"team: \"]", "lane.responders: each must be"),
            ("tags = [\"\"]", "lane.tags: at most 20"),
            ("severity = { high = \"P9\" }", "lane.severity.high: it must be one of P1"),
        ];
        for (more, expected) in table {
            let problem = fault(&KIND, &format!("{key}{more}"), &context());
            assert!(problem.contains(expected), "{problem}");
        }
    }
}
