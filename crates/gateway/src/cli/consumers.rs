//! `consumers`: the named readers of the pull API.

use clap::Subcommand;
use serde_json::{Value, json};

use super::{
    Exit, Gateway,
    client::{Client, escape},
    output,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show all and how far each is.
    List {
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Show one.
    Show {
        consumer: String,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Remove one, and let go what it held of the log.
    Remove {
        consumer: String,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Let one go on elsewhere. What was handed out is forgotten.
    Seek {
        consumer: String,
        /// `oldest`, `newest`, a time (RFC 3339) or a cursor.
        place: String,
        #[command(flatten)]
        gateway: Gateway,
    },
}

pub(crate) fn run(command: &Command) -> Exit {
    let done = match command {
        Command::List { gateway } => Client::new(gateway)
            .and_then(|client| client.get("/v1/consumers"))
            .map(|list| show(gateway, &list, list["data"].as_array().map_or(&[], Vec::as_slice))),
        Command::Show { consumer, gateway } => Client::new(gateway)
            .and_then(|client| client.get(&path(consumer)))
            .map(|one| show(gateway, &one, std::slice::from_ref(&one))),
        Command::Remove { consumer, gateway } => {
            Client::new(gateway).and_then(|client| client.delete(&path(consumer)))
        }
        Command::Seek { consumer, place, gateway } => Client::new(gateway)
            .and_then(|client| client.post(&format!("{}/seek", path(consumer)), &seek(place), None))
            .map(|one| show(gateway, &one, std::slice::from_ref(&one))),
    };
    done.map_or_else(|exit| exit, |()| Exit::Done)
}

fn path(consumer: &str) -> String {
    format!("/v1/consumers/{}", escape(consumer))
}

fn seek(place: &str) -> Value {
    match place {
        "oldest" | "newest" => json!({ "start": place }),
        time if holdfast_model::Timestamp::parse(time).is_some() => json!({ "since": time }),
        cursor => json!({ "cursor": cursor }),
    }
}

fn show(gateway: &Gateway, answer: &Value, consumers: &[Value]) {
    if gateway.json {
        output::line(format_args!("{answer}"));
        return;
    }
    if consumers.is_empty() {
        output::line(format_args!("no consumers"));
        return;
    }
    const HEAD: &[&str] = &["CONSUMER", "OWNER", "UNREAD", "IN FLIGHT", "HOLD", "ACK WAIT", "WHEN"];
    let rows: Vec<Vec<String>> = consumers
        .iter()
        .map(|one| {
            let text = |key: &str| output::plain(one[key].as_str().unwrap_or(""));
            vec![
                text("name"),
                text("owner"),
                one["unread"].to_string(),
                one["in_flight"].to_string(),
                one["hold"].to_string(),
                text("ack_wait"),
                output::plain(&one["when"].to_string()),
            ]
        })
        .collect();
    output::table(HEAD, &rows);
}
