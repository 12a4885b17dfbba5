//! What the tests of several connectors need.

use std::{cell::RefCell, sync::Arc, time::Duration};

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use holdfast_model::{
    Destination, Event, Kind, LogId, Member, Name, NewEvent, Shipment, Timestamp, delivery_key,
    settings::{Fault, Node, Section, Value},
};

use crate::{
    destinations::{self, BatchFormat, Context},
    http::Network,
};

/// One event of a log called `abcdefghij`, on its way to the lane `lane`.
pub(crate) fn event(seq: u64, kind: Kind, body: impl Into<Bytes>) -> Member {
    let id = LogId::new("abcdefghij").unwrap().event(seq);
    let new = NewEvent { kind, parent: None, body: body.into() };
    let key = delivery_key(&id, &Name::new("lane").unwrap(), None);
    let event = Event::new(seq, new, "test".into(), Timestamp(1_773_123_088_189));
    Member::first(id, key, Arc::new(event))
}

pub(crate) fn alert(seq: u64, body: impl Into<Bytes>) -> Member {
    event(seq, Kind::Alert, body)
}

pub(crate) fn shipment(members: impl Into<Vec<Member>>) -> Shipment {
    Shipment { members: members.into() }
}

pub(crate) fn context() -> Context {
    Context {
        name: Name::new("lane").unwrap(),
        timeout: Duration::from_secs(30),
        batched: false,
        batch_format: BatchFormat::Ndjson,
        network: Network::default(),
    }
}

/// Builds a destination from the body of its table; the faults when there are any.
pub(crate) fn build(
    kind: &destinations::Kind,
    table: &str,
    context: &Context,
) -> Result<Arc<dyn Destination>, Vec<Fault>> {
    let entries = tree(table);
    let faults = RefCell::default();
    let section = Section::new("destinations.lane", 1, &entries, &faults);
    let built = kind.make(&section, context);
    section.finish();
    let faults = faults.into_inner();
    match built {
        Some(destination) if faults.is_empty() => Ok(destination),
        None if faults.is_empty() => panic!("nothing was built, and nothing said why"),
        _ => Err(faults),
    }
}

/// The one fault of a table, as `key: problem`.
#[track_caller]
pub(crate) fn fault(kind: &destinations::Kind, table: &str, context: &Context) -> String {
    match build(kind, table, context) {
        Ok(built) => panic!("it was built: {built:?}"),
        Err(faults) => match faults.as_slice() {
            [fault] => format!("{}: {}", fault.key, fault.problem),
            _ => panic!("{faults:?}"),
        },
    }
}

/// DER in PEM's clothes.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

/// The entries of a table, as the configuration gives them.
pub(crate) fn tree(table: &str) -> Vec<(String, Node)> {
    table
        .parse::<toml::Table>()
        .unwrap()
        .into_iter()
        .map(|(key, value)| (key, node(value)))
        .collect()
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
