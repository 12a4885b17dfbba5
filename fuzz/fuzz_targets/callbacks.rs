//! Every callback parser: the first byte chooses the vendor, the rest is the body, signed as that
//! vendor signs. Whatever it is, there is an answer; and with one byte changed it is refused.

#![no_main]

use std::{cell::RefCell, sync::Arc, sync::LazyLock, time::Duration};

use base64::prelude::{BASE64_STANDARD, Engine};
use holdfast_connectors::{
    destinations::{BatchFormat, CATALOG, Context},
    http::Network,
};
use holdfast_model::{
    CallbackRequest, Destination, Name, Refusal, Timestamp,
    settings::{Node, Section, Value},
};
use libfuzzer_sys::fuzz_target;
use ring::hmac;

const SECRET: &str = "callback-secret-0123456789";
const WHSEC: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NOW: Timestamp = Timestamp(1_773_123_088_189);
const SECONDS: &[u8] = b"1773123088";

static ALL: LazyLock<Vec<(&'static str, Arc<dyn Destination>)>> = LazyLock::new(|| {
    let takes = CATALOG.iter().filter(|kind| kind.settings.iter().any(|s| s.name == "callback"));
    takes.map(|kind| (kind.name, build(kind.name))).collect()
});

fuzz_target!(|data: &[u8]| {
    let Some((choice, body)) = data.split_first() else { return };
    let (name, destination) = &ALL[usize::from(*choice) % ALL.len()];
    let headers = sign(name, body);
    let hear = |body: &[u8]| {
        let request = CallbackRequest {
            headers: &headers,
            query: "",
            body,
            client_certified: false,
            now: NOW,
        };
        destination.callbacks().expect("it is set up").hear(&request)
    };
    assert_ne!(hear(body), Err(Refusal::Signature), "{name}");
    if matches!(*name, "slack" | "pagerduty" | "jira" | "webhook") && !body.is_empty() {
        let mut changed = body.to_vec();
        changed[body.len() / 2] ^= 1;
        assert_eq!(hear(&changed), Err(Refusal::Signature), "{name}");
    }
});

fn sign(name: &str, body: &[u8]) -> Vec<(String, Vec<u8>)> {
    let tag = |secret: &[u8], parts: &[&[u8]]| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), &parts.concat())
    };
    let hexed = |parts: &[&[u8]]| hex::encode(tag(SECRET.as_bytes(), parts));
    let header = |name: &str, value: String| (name.to_owned(), value.into_bytes());
    match name {
        "slack" => vec![
            ("x-slack-request-timestamp".to_owned(), SECONDS.to_vec()),
            header("x-slack-signature", format!("v0={}", hexed(&[b"v0:", SECONDS, b":", body]))),
        ],
        "pagerduty" => vec![header("x-pagerduty-signature", format!("v1={}", hexed(&[body])))],
        "jira" => vec![header("x-hub-signature", format!("sha256={}", hexed(&[body])))],
        "webhook" => {
            let key = BASE64_STANDARD.decode(WHSEC).expect("base64");
            let tag = tag(&key, &[b"msg_7.", SECONDS, b".", body]);
            vec![
                header("webhook-id", "msg_7".to_owned()),
                ("webhook-timestamp".to_owned(), SECONDS.to_vec()),
                header("webhook-signature", format!("v1,{}", BASE64_STANDARD.encode(tag))),
            ]
        }
        "telegram" => vec![header("x-telegram-bot-api-secret-token", SECRET.to_owned())],
        "thehive" => vec![header("authorization", format!("Bearer {SECRET}"))],
        _ => vec![header("x-holdfast-secret", SECRET.to_owned())],
    }
}

fn build(name: &str) -> Arc<dyn Destination> {
    let kind = CATALOG.iter().find(|kind| kind.name == name).expect("it is in the catalogue");
    let secret = if name == "webhook" { format!("whsec_{WHSEC}") } else { SECRET.to_owned() };
    let table = format!("callback = {{ secret = \"{secret}\" }}\n{}", kind.example);
    let table: toml::Table = table.parse().expect("TOML");
    let entries: Vec<_> = table.into_iter().map(|(key, value)| (key, node(value))).collect();
    let faults = RefCell::default();
    let section = Section::new("destinations.lane", 1, &entries, &faults);
    let context = Context {
        name: Name::new("lane").expect("a name"),
        timeout: Duration::from_secs(30),
        batched: false,
        batch_format: BatchFormat::Ndjson,
        network: Network::default(),
    };
    kind.make(&section, &context).expect("it builds")
}

fn node(value: toml::Value) -> Node {
    let value = match value {
        toml::Value::String(text) => Value::Text(text),
        toml::Value::Integer(number) => Value::Integer(number),
        toml::Value::Float(number) => Value::Float(number),
        toml::Value::Boolean(yes) => Value::Bool(yes),
        toml::Value::Datetime(moment) => Value::Text(moment.to_string()),
        toml::Value::Array(items) => Value::List(items.into_iter().map(node).collect()),
        toml::Value::Table(table) => {
            Value::Table(table.into_iter().map(|(key, value)| (key, node(value))).collect())
        }
    };
    Node { line: 1, value }
}
