//! The command line: what each command is called, and what its exit code means.
//!
//! Exit codes follow `sysexits.h` where it has one: 0 done, 1 failed, 2 usage, 69 unreachable,
//! 75 busy, locked or full, 77 refused, 78 configuration.

mod client;
mod console;
mod consumers;
mod dead_letters;
mod destinations;
mod import_ossec;
mod output;
mod progress;
mod queue;
mod render;
mod replay;
mod screen;
mod shell;
mod tail;
mod top;
mod trial;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{config, run};

/// A durable alert-forwarding gateway for Wazuh.
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, about, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway.
    Run {
        #[command(flatten)]
        config: ConfigFile,
        /// How log lines are written to standard error. `HOLDFAST_LOG` sets their level.
        #[arg(long, value_enum, default_value_t = LogFormat::Text)]
        log_format: LogFormat,
    },
    /// Check a configuration: all faults at once.
    Check {
        #[command(flatten)]
        config: ConfigFile,
        #[arg(long)]
        json: bool,
    },
    /// Print the commented configuration of this version, every key with its default.
    Reference {
        /// Print the manual's tables instead.
        #[arg(long)]
        markdown: bool,
    },
    /// Make a configuration of Wazuh's `ossec.conf`: what sent alerts there sends the same ones here.
    ///
    /// The configuration goes to standard output, keys and addresses into files of their own, and
    /// what has no counterpart into comments.
    ImportOssec(import_ossec::Options),
    /// Print the exact request that a destination would send, secrets masked. Nothing is sent.
    Render(render::Options),
    /// Send a marked test event to a destination and print what it answered.
    Test(trial::Options),
    /// Show the lanes of a running gateway.
    Status {
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Pause, resume or hurry a lane.
    #[command(subcommand)]
    Destinations(destinations::Command),
    /// Look at dead letters, send them again, or remove them.
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
    /// Send dead letters, or a stretch of the log, again: jobs with progress.
    #[command(subcommand)]
    Replay(replay::Command),
    /// Look at the named readers of the pull API, move or remove them.
    #[command(subcommand)]
    Consumers(consumers::Command),
    /// Follow the log, one line an event.
    Tail(tail::Options),
    /// Show the lanes live, on the whole screen.
    Top(top::Options),
    /// Print a one-time link that opens the gateway's page in a browser.
    Console {
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Look into, move, compact or rename the queue of a stopped gateway.
    #[command(subcommand)]
    Queue(queue::Command),
    /// Print the completions for a shell.
    Completions { shell: clap_complete::Shell },
    /// Write the manual pages into a directory.
    Man { directory: PathBuf },
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration.
    #[arg(long, env = "HOLDFAST_CONFIG", default_value = "/etc/holdfast/holdfast.toml")]
    config: PathBuf,
}

/// Where a running gateway is and how to speak to it.
#[derive(Debug, Args)]
pub(crate) struct Gateway {
    /// Address of the running gateway.
    #[arg(long, env = "HOLDFAST_URL", default_value = "http://127.0.0.1:9470")]
    url: String,
    /// A file with a token. Without it `HOLDFAST_TOKEN` is used, then the gateway's own
    /// `admin.token`.
    #[arg(long)]
    token_file: Option<PathBuf>,
    /// The gateway's `node.state`, where `admin.token` lies.
    #[arg(long, env = "HOLDFAST_STATE", default_value = "/var/lib/holdfast")]
    state: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// Why a command ended, as an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    Unreachable = 69,
    Busy = 75,
    Refused = 77,
    Configuration = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

pub(crate) fn main(cli: Cli) -> ExitCode {
    // What commands ask a terminal to show must not fail because it was closed early.
    let exit = match cli.command {
        Command::Run { config, log_format } => run::main(&config.config, log_format),
        Command::Check { config, json } => check(&config.config, json),
        Command::Reference { markdown } => {
            let print =
                if markdown { config::reference::markdown } else { config::reference::toml };
            output::line(format_args!("{}", print().trim_end()));
            Exit::Done
        }
        Command::Render(options) => render::run(&options),
        Command::ImportOssec(options) => import_ossec::run(&options),
        Command::Status { gateway } => destinations::status(&gateway),
        Command::Destinations(command) => destinations::run(command),
        Command::DeadLetters(command) => dead_letters::run(command),
        Command::Queue(command) => queue::run(&command),
        Command::Test(options) => trial::run(&options),
        Command::Replay(command) => replay::run(&command),
        Command::Consumers(command) => consumers::run(&command),
        Command::Tail(options) => tail::run(&options),
        Command::Top(options) => top::run(&options),
        Command::Console { gateway } => console::run(&gateway),
        Command::Completions { shell } => shell::completions(shell),
        Command::Man { directory } => shell::man(&directory),
    };
    exit.into()
}

/// Prints a configuration's faults, one a line.
pub(crate) fn show_faults(path: &std::path::Path, faults: &[holdfast_model::settings::Fault]) {
    output::faults(path, faults);
}

fn check(path: &std::path::Path, json: bool) -> Exit {
    match config::load(path) {
        Ok(config) => {
            let warnings = config.warnings(holdfast_pipeline::Clock::system().now());
            warnings.iter().for_each(|warning| output::complain(format_args!("{warning}")));
            let (sources, destinations) = (config.sources.len(), config.destinations.len());
            if json {
                output::line(format_args!(
                    "{}",
                    serde_json::json!({
                        "ok": true,
                        "sources": sources,
                        "destinations": destinations,
                        "warnings": warnings,
                    })
                ));
            } else {
                output::line(format_args!(
                    "{}: no faults; {sources} sources, {destinations} destinations",
                    path.display()
                ));
            }
            Exit::Done
        }
        Err(faults) => {
            if json {
                let faults: Vec<_> = faults
                    .iter()
                    .map(|f| serde_json::json!({ "line": f.line, "key": f.key, "problem": f.problem }))
                    .collect();
                output::line(format_args!(
                    "{}",
                    serde_json::json!({ "ok": false, "faults": faults })
                ));
            } else {
                output::faults(path, &faults);
            }
            Exit::Configuration
        }
    }
}
