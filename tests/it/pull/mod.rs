//! The pull API: named readers, exports, what a cursor promises, what readers cost.

mod consumers;
mod cost;
mod export;
mod million;
mod ranges;
mod recipes;

use serde_json::{Value, json};

use crate::support::{Config, Gateway, http::Answer};

/// A log that keeps what it has.
fn kept() -> Config {
    Config::new().queue("reserve = \"1MiB\"\nretention = \"1h\"")
}

#[track_caller]
fn ok(answer: Answer) -> Value {
    assert!((200..300).contains(&answer.status), "{answer:?}");
    answer.json()
}

#[track_caller]
fn put(gateway: &Gateway, name: &str, body: &Value) -> Answer {
    let call = gateway.call("PUT", &format!("/v1/consumers/{name}"));
    call.body("application/json", body.to_string()).send().expect("the gateway answers")
}

#[track_caller]
fn made(gateway: &Gateway, name: &str, body: &Value) -> Value {
    let answer = put(gateway, name, body);
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.json()
}

#[track_caller]
fn next(gateway: &Gateway, name: &str, query: &str) -> Value {
    ok(gateway.get(&format!("/v1/consumers/{name}/next?{query}")))
}

#[track_caller]
fn ack(gateway: &Gateway, name: &str, body: &Value) -> Value {
    ok(gateway.post(&format!("/v1/consumers/{name}/ack"), body))
}

/// Those of a page, as an acknowledgement names them.
fn ids(page: &Value) -> Value {
    let ids: Vec<&Value> = page["data"].as_array().unwrap().iter().map(|one| &one["id"]).collect();
    json!({ "ids": ids })
}

fn numbers(page: &Value) -> Vec<u64> {
    let data = page["data"].as_array().expect("a page has data");
    data.iter().map(|event| event["alert"]["number"].as_u64().expect("a number")).collect()
}
