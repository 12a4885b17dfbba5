//! `queue inspect|verify|export`: a stopped gateway's queue.

use std::{io::Write, path::PathBuf, sync::Arc};

use clap::{Args, Subcommand};
use holdfast_model::Chain;
use holdfast_queue::{QueueError, export, store::sled::SledStore, verify};
use serde_json::json;

use super::{Exit, output};
use crate::config;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show what the queue holds.
    Inspect {
        #[command(flatten)]
        target: Target,
    },
    /// Read every record and compare all counts. Exit code 1 when something does not add up.
    Verify {
        #[command(flatten)]
        target: Target,
    },
    /// Print everything it holds as NDJSON: the log, waiting retries, dead letters.
    Export {
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The configuration that names the queue.
    #[arg(long, env = "HOLDFAST_CONFIG", default_value = "/etc/holdfast/holdfast.toml")]
    config: PathBuf,
    /// The queue's directory, instead of the one that the configuration names.
    #[arg(long)]
    path: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(command: Command) -> Exit {
    let (Command::Inspect { target } | Command::Verify { target } | Command::Export { target }) =
        &command;
    let path = match &target.path {
        Some(path) => path.clone(),
        None => match config::load(&target.config) {
            Ok(config) => config.queue.path,
            Err(faults) => {
                output::faults(&target.config, &faults);
                return Exit::Configuration;
            }
        },
    };
    let store = match SledStore::open_existing(&path) {
        Ok(store) => store,
        Err(error) => return failed(&error),
    };
    if let Command::Export { .. } = command {
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        let mut print = |line: &[u8]| out.write_all(line).and_then(|()| out.write_all(b"\n"));
        let exported = export::export(Arc::new(store), &path, &mut print);
        return match exported.and(out.flush().map_err(|_| QueueError::Closed)) {
            Ok(()) => Exit::Done,
            Err(error) => failed(&error),
        };
    }
    let report = match verify::verify(Arc::new(store), &path) {
        Ok(report) => report,
        Err(error) => return failed(&error),
    };
    if target.json {
        output::line(format_args!("{}", as_json(&report)));
    } else {
        show(&report);
    }
    let sound = report.problems.is_empty() || matches!(command, Command::Inspect { .. });
    if sound { Exit::Done } else { Exit::Failed }
}

fn failed(error: &QueueError) -> Exit {
    output::complain(format_args!("{}", Chain(error)));
    match error {
        QueueError::Locked { .. } => {
            output::complain(format_args!("stop the gateway first"));
            Exit::Busy
        }
        _ => Exit::Failed,
    }
}

fn as_json(report: &verify::Report) -> serde_json::Value {
    let lanes: Vec<_> = report
        .lanes
        .iter()
        .map(|lane| json!({ "name": lane.name, "position": lane.position, "ledger": lane.ledger }))
        .collect();
    json!({
        "log_id": report.log_id,
        "head": report.head,
        "events": report.events,
        "chunks": report.chunks,
        "dead_letters": report.dead_letters,
        "set_aside": report.set_aside,
        "clean": !report.unclean,
        "lanes": lanes,
        "problems": report.problems,
    })
}

fn show(report: &verify::Report) {
    output::line(format_args!(
        "log {}: {} events in {} chunks, head {}, {} dead letters, {} damaged records set aside, {}",
        report.log_id,
        report.events,
        report.chunks,
        report.head,
        report.dead_letters,
        report.set_aside,
        if report.unclean { "not cleanly closed" } else { "cleanly closed" },
    ));
    let rows: Vec<Vec<String>> = report
        .lanes
        .iter()
        .map(|lane| {
            let l = &lane.ledger;
            let terms = [l.seen, l.filtered, l.delivered, l.pending(), l.dead, l.expired, l.purged];
            [lane.name.to_string(), lane.position.to_string()]
                .into_iter()
                .chain(terms.map(|term| term.to_string()))
                .collect()
        })
        .collect();
    if !rows.is_empty() {
        let head = &[
            "LANE",
            "POSITION",
            "SEEN",
            "FILTERED",
            "DELIVERED",
            "PENDING",
            "DEAD",
            "EXPIRED",
            "PURGED",
        ];
        output::table(head, &rows);
    }
    for problem in &report.problems {
        output::line(format_args!("PROBLEM: {problem}"));
    }
    if report.problems.is_empty() {
        output::line(format_args!("everything adds up"));
    }
}
