//! `status` and `destinations`.

use clap::Subcommand;
use serde_json::{Value, json};

use super::{
    Exit, Gateway,
    client::{Client, escape},
    output,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the lanes.
    List {
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Stop sending; what comes in waits.
    Pause {
        destination: String,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Go on; a parked lane reads its secrets anew and tries at once.
    Resume {
        destination: String,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Make everything that waits for a retry due now.
    RetryNow {
        destination: String,
        #[command(flatten)]
        gateway: Gateway,
    },
}

pub(crate) fn run(command: Command) -> Exit {
    let done = match &command {
        Command::List { gateway } => return status(gateway),
        Command::Pause { destination, gateway } => act(gateway, destination, "pause"),
        Command::Resume { destination, gateway } => act(gateway, destination, "resume"),
        Command::RetryNow { destination, gateway } => act(gateway, destination, "retry-now"),
    };
    done.map_or_else(|exit| exit, |()| Exit::Done)
}

fn act(gateway: &Gateway, destination: &str, action: &str) -> Result<(), Exit> {
    let path = format!("/v1/destinations/{}/{action}", escape(destination));
    let lane = Client::new(gateway)?.post(&path, &json!({}), None)?;
    if gateway.json {
        output::line(format_args!("{lane}"));
    } else {
        show(&[lane]);
    }
    Ok(())
}

/// The last column, so that it may be long: what is wrong stands at its end.
const REASON_CHARS_MAX: usize = 240;

/// `holdfast status`: lanes as a table.
pub(crate) fn status(gateway: &Gateway) -> Exit {
    let lanes = Client::new(gateway).and_then(|client| client.get("/v1/destinations"));
    let lanes = match lanes {
        Ok(lanes) => lanes,
        Err(exit) => return exit,
    };
    if gateway.json {
        output::line(format_args!("{lanes}"));
        return Exit::Done;
    }
    match lanes["data"].as_array() {
        Some(lanes) if lanes.is_empty() => output::line(format_args!("no destinations")),
        Some(lanes) => show(lanes),
        None => output::line(format_args!("{lanes}")),
    }
    Exit::Done
}

fn show(lanes: &[Value]) {
    const HEAD: &[&str] = &[
        "DESTINATION",
        "TYPE",
        "STATE",
        "PENDING",
        "RETRYING",
        "DELIVERED",
        "DEAD",
        "OLDEST",
        "REASON",
    ];
    let rows: Vec<Vec<String>> = lanes
        .iter()
        .map(|lane| {
            let text = |value: &Value| output::plain(value.as_str().unwrap_or(""));
            let count = |term: &str| lane["ledger"][term].to_string();
            let reason: String = text(&lane["reason"]).chars().take(REASON_CHARS_MAX).collect();
            vec![
                text(&lane["name"]),
                text(&lane["type"]),
                text(&lane["state"]),
                count("pending"),
                count("retrying"),
                count("delivered"),
                count("dead"),
                lane["oldest_pending_at"].as_str().unwrap_or("-").to_owned(),
                reason,
            ]
        })
        .collect();
    output::table(HEAD, &rows);
}
