//! schemathesis against the whole running API, as each role: no server error, and no answer that
//! `docs/openapi.json` does not describe, in status, content type, headers or shape.
//!
//! What it is given is the served document, made stricter: objects may have no more than their
//! described fields. And names of things that exist are offered, so that more than the refusals is
//! looked at. A stream without an end is cut behind its head, by a relay.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::{
    api::people::{self, Who},
    support::{Config, Gateway, Receiver, Reply, alerts, relay},
};

/// Test cases an operation and kind; all four roles together end within two minutes.
const EXAMPLES_MAX: &str = "25";

fn program() -> PathBuf {
    if let Some(given) = std::env::var_os("HOLDFAST_SCHEMATHESIS") {
        return given.into();
    }
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/schemathesis/bin/schemathesis");
    assert!(path.is_file(), "there is no schemathesis: see its step in tests/run");
    path
}

/// Things of every kind, so that there is something to find.
struct Stock {
    event: String,
    cursor: String,
    dead: String,
    job: String,
}

fn stock(gateway: &Gateway) -> Stock {
    let accepted = gateway.accept(&alerts::ndjson(0..8));
    gateway.wait_for_term("picky", "dead", 8);
    gateway.wait_for_term("siem", "delivered", 8);
    let replay = json!({ "from": "dead_letters", "filter": { "destination": "picky" } });
    let started = gateway.post("/v1/replays", &replay);
    assert_eq!(started.status, 202, "{}", started.text);
    let event = accepted["first"].as_str().unwrap().to_owned();
    let dead = format!("{event}.picky");
    for (name, body) in [("reader", json!({})), ("other", json!({"when": {"level": 5}}))] {
        let call = gateway.call("PUT", &format!("/v1/consumers/{name}"));
        let made = call.body("application/json", body.to_string()).send().unwrap();
        assert_eq!(made.status, 201, "{}", made.text);
    }
    let page = gateway.get("/v1/alerts?limit=1").json();
    let cursor = page["next_cursor"].as_str().unwrap().to_owned();
    Stock { event, cursor, dead, job: started.json()["id"].to_string() }
}

/// No object has more fields than are described.
fn close(schema: &mut Value) {
    if let Some(map) = schema.as_object_mut() {
        if map.contains_key("properties") && !map.contains_key("additionalProperties") {
            map.insert("additionalProperties".to_owned(), Value::Bool(false));
        }
        map.values_mut().for_each(close);
    } else if let Some(list) = schema.as_array_mut() {
        list.iter_mut().for_each(close);
    }
}

fn offer(document: &mut Value, stock: &Stock) {
    for (path, item) in document["paths"].as_object_mut().unwrap() {
        for operation in item.as_object_mut().unwrap().values_mut() {
            let content = operation.pointer_mut("/requestBody/content");
            if let Some(kinds) = content.and_then(Value::as_object_mut) {
                // It cannot write this one.
                kinds.remove("application/x-ndjson");
            }
            let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
            let Some(parameters) = parameters else { continue };
            for parameter in parameters.iter_mut() {
                if parameter["name"] == "wait" {
                    parameter["example"] = json!("20ms");
                }
                let known = match (parameter["name"].as_str().unwrap(), path.as_str()) {
                    ("cursor" | "last-event-id", path) if path.starts_with("/v1/alerts") => {
                        &stock.cursor
                    }
                    ("id", path) if path.starts_with("/v1/alerts") => &stock.event,
                    ("id", path) if path.starts_with("/v1/dead-letters") => &stock.dead,
                    ("id", _) => &stock.job,
                    ("name", path) if path.starts_with("/v1/consumers") => "reader",
                    ("name", _) => "siem",
                    _ => continue,
                };
                parameter["example"] = json!(known);
                let any = parameter["schema"].take();
                parameter["schema"] = json!({ "anyOf": [{ "enum": [known] }, any] });
            }
        }
    }
}

fn run(gateway: &Gateway, who: Who, document: &Path) {
    let mut command = Command::new(program());
    command.current_dir(gateway.config.folder()).arg("run").arg(document);
    let port = relay::start(gateway.port);
    command.args(["--url", &format!("http://127.0.0.1:{port}"), "--no-color"]);
    command.args(["--phases", "examples,coverage,fuzzing", "--max-examples", EXAMPLES_MAX]);
    command.args(["--generation-deterministic"]);
    command.args(["--suppress-health-check", "all", "--continue-on-failure", "--warnings", "off"]);
    command.args(["--request-timeout", "60", "--checks"]);
    command.arg(
        "not_a_server_error,status_code_conformance,content_type_conformance,\
         response_headers_conformance,response_schema_conformance,negative_data_rejection,\
         unsupported_method,allow_header_conformance",
    );
    if let Some(token) = who.token() {
        command.args(["--header", &format!("Authorization: Bearer {token}")]);
    }
    let output = command.output().expect("start schemathesis");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "as {who:?}:\n{said}\n{}", gateway.last_words());
}

fn as_role(who: Who) {
    let receiver = Receiver::start(|request| match request.path.as_str() {
        "/picky" => Reply::text(400, "no"),
        _ => Reply::ok(),
    });
    let config = people::with_roles(Config::new())
        // The log keeps what was delivered, for those who pull.
        .queue("reserve = \"1MiB\"")
        .webhook("siem", &receiver.url("/"), "")
        .webhook("picky", &receiver.url("/picky"), "poison_limit = 1000");
    let mut gateway = Gateway::start(config);
    let stock = stock(&gateway);
    let mut document = gateway.get("/openapi.json").json();
    close(&mut document);
    offer(&mut document, &stock);
    let path = gateway.config.file("openapi.json");
    std::fs::write(&path, document.to_string()).unwrap();
    run(&gateway, who, &path);
    gateway.balanced();
    assert_eq!(gateway.terminate(), Some(0), "{}", gateway.last_words());
    gateway.verified();
}

#[test]
fn nobody_gets_what_the_document_says_and_no_server_error() {
    as_role(Who::Nobody);
}

#[test]
fn ingest_gets_what_the_document_says_and_no_server_error() {
    as_role(Who::Ingest);
}

#[test]
fn read_gets_what_the_document_says_and_no_server_error() {
    as_role(Who::Read);
}

#[test]
fn admin_gets_what_the_document_says_and_no_server_error() {
    as_role(Who::Admin);
}
