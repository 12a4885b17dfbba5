//! `test`: sends a marked test event to one destination and prints what it answered.

use clap::Args;
use serde_json::{Value, json};

use super::{
    Exit, Gateway,
    client::{Client, escape},
    output,
};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The destination's name.
    destination: String,
    #[command(flatten)]
    gateway: Gateway,
}

pub(crate) fn run(options: &Options) -> Exit {
    let path = format!("/v1/destinations/{}/test", escape(&options.destination));
    let answer =
        Client::new(&options.gateway).and_then(|client| client.post(&path, &json!({}), None));
    let answer = match answer {
        Ok(answer) => answer,
        Err(exit) => return exit,
    };
    let delivered = answer["outcome"] == "delivered";
    if options.gateway.json {
        output::line(format_args!("{answer}"));
    } else {
        show(&options.destination, &answer, delivered);
    }
    if delivered { Exit::Done } else { Exit::Failed }
}

fn show(destination: &str, answer: &Value, delivered: bool) {
    let text = |value: &Value| match value {
        Value::String(text) => output::plain(text),
        other => other.to_string(),
    };
    let row = |name: &str, value: &Value| {
        if !value.is_null() && *value != json!("") && *value != json!(false) {
            output::line(format_args!("  {name:<10} {}", text(value)));
        }
    };
    if delivered {
        let receipt = &answer["receipt"];
        output::line(format_args!("{destination} took the test event in {} ms", answer["took_ms"]));
        row("status", &receipt["status"]);
        row("id there", &receipt["remote_id"]);
        row("duplicate", &receipt["duplicate"]);
        return;
    }
    output::line(format_args!("{destination} did not take the test event"));
    row("reason", &answer["reason"]);
    row("status", &answer["status"]);
    row("error", &answer["error"]);
    row("answer", &answer["excerpt"]);
    output::line(format_args!(
        "`holdfast render {destination} --alert FILE` prints the exact request"
    ));
}
