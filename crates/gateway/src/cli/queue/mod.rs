//! `queue`: a stopped gateway's queue, looked at and changed.

mod change;

use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

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
    /// Print everything it holds as NDJSON, for `import` and for other programs.
    ///
    /// One record a line: the log's events, what waits for a retry, dead letters, lanes. Nothing
    /// is changed. With --json a summary goes to standard error.
    Export {
        #[command(flatten)]
        target: Target,
    },
    /// Make a queue of what `export` printed, with every id as it was.
    ///
    /// All lines are checked before anything is written, and the queue appears whole or not at
    /// all. A queue that holds anything is never replaced. An import that was cut short goes on
    /// where it was when it is run again.
    Import {
        /// The file that `export` wrote.
        file: PathBuf,
        /// Take a queue whose counts did not add up when it was exported, either.
        #[arg(long)]
        accept_problems: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Write the queue anew, so that its file is as large as what it holds.
    ///
    /// The file keeps its high-water mark; this gives the room back. The copy needs free space of
    /// about three times what the queue holds. It is counted and compared before it takes the
    /// queue's place, and whatever interrupts it leaves the queue as it was.
    Compact {
        #[command(flatten)]
        target: Target,
    },
    /// Give the log of a restored old copy a new name, so that no event id is given twice.
    ///
    /// Needed once after a queue was restored from a backup while the original went on.
    Renew {
        #[command(flatten)]
        target: Target,
    },
}

impl Command {
    fn target(&self) -> &Target {
        match self {
            Self::Inspect { target }
            | Self::Verify { target }
            | Self::Export { target }
            | Self::Import { target, .. }
            | Self::Compact { target }
            | Self::Renew { target } => target,
        }
    }
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

pub(crate) fn run(command: &Command) -> Exit {
    let target = command.target();
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
    match command {
        Command::Inspect { .. } => count(&path, target.json, false),
        Command::Verify { .. } => count(&path, target.json, true),
        Command::Export { .. } => export(&path, target.json),
        Command::Import { file, accept_problems, .. } => {
            change::run_import(file, &path, *accept_problems, target.json)
        }
        Command::Compact { .. } => change::run_compact(&path, target.json),
        Command::Renew { .. } => change::run_renew(&path, target.json),
    }
}

fn export(path: &Path, json: bool) -> Exit {
    let store = match SledStore::open_existing(path) {
        Ok(store) => store,
        Err(error) => return failed(&error),
    };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut print = |line: &[u8]| out.write_all(line).and_then(|()| out.write_all(b"\n"));
    let exported = export::export(Arc::new(store), path, &mut print);
    let done = match exported {
        Ok(done) => done,
        Err(error) => return failed(&error),
    };
    if let Err(error) = out.flush() {
        output::complain(format_args!("could not write the export: {error}"));
        return Exit::Failed;
    }
    if json {
        let summary =
            json!({ "lines": done.lines, "events": done.events, "damaged": done.damaged });
        eprintln_json(&summary);
    }
    if done.damaged > 0 {
        output::complain(format_args!(
            "{} damaged records are not in the export; `queue verify` names them, and their bytes \
             stay in the queue",
            done.damaged
        ));
        return Exit::Failed;
    }
    Exit::Done
}

fn eprintln_json(value: &serde_json::Value) {
    writeln!(std::io::stderr().lock(), "{value}").ok();
}

fn count(path: &Path, json: bool, must_be_sound: bool) -> Exit {
    let report =
        SledStore::open_existing(path).and_then(|store| verify::verify(Arc::new(store), path));
    let report = match report {
        Ok(report) => report,
        Err(error) => return failed(&error),
    };
    if json {
        output::line(format_args!("{}", as_json(&report)));
    } else {
        show(&report);
    }
    let sound = report.problems.is_empty() || !must_be_sound;
    if sound { Exit::Done } else { Exit::Failed }
}

fn failed(error: &QueueError) -> Exit {
    output::complain(format_args!("{}", Chain(error)));
    match error {
        QueueError::Locked { .. } => {
            output::complain(format_args!(
                "stop the gateway first (`systemctl stop holdfast`); `queue` works on a stopped one"
            ));
            Exit::Busy
        }
        QueueError::DiskFull { .. } => {
            output::complain(format_args!("nothing was changed; make room and try again"));
            Exit::Busy
        }
        QueueError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            output::complain(format_args!(
                "give the queue's directory with --path, or its configuration with --config"
            ));
            Exit::Failed
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
