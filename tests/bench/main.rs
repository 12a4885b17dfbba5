//! Measures Holdfast against the machine's own limit and its peers, all in the same run.
//!
//! `cargo run --release -p holdfast-tests --bin bench -- [OPTION…] [SCENARIO…]`
//!
//! The load, the receiver and the gateway share the machine. Every run does each scenario once;
//! the table shows medians over the runs. Nothing is asserted: a figure is a figure.
//!
//! | option | meaning |
//! | --- | --- |
//! | `--runs N` | how often everything is measured; default 3 |
//! | `--alerts N` | alerts in the large file; default 1,000,000 |
//! | `--backlog N` | alerts of the backlog; default: the same |
//! | `--dir D` | where to work, on the disk that is measured; default: the temporary folder |

mod alerts;
mod backlog;
mod clock;
mod cost;
mod forward;
mod gateway;
mod http;
mod ingest;
mod latency;
mod measures;
mod peers;
mod process;
mod raw;
mod report;
mod sink;

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use tempfile::TempDir;

use crate::{alerts::Alerts, peers::Peers, report::Report};

type Result<T> = std::result::Result<T, Box<dyn Error>>;
type Scenario = fn(&mut Bench) -> Result<()>;

const SCENARIOS: &[(&str, Scenario)] = &[
    ("raw", raw::run),
    ("ingest", ingest::run),
    ("tail", forward::tail),
    ("batch", forward::batches),
    ("one", forward::singles),
    ("peers", forward::peers),
    ("latency", latency::run),
    ("peer-latency", latency::peers),
    ("idle", cost::idle),
    ("backlog", backlog::run),
    ("cost", cost::run),
];

/// What the scenarios share.
struct Bench {
    folder: TempDir,
    alerts: Alerts,
    /// Alerts in the large file.
    many: u64,
    backlog: u64,
    peers: Option<Peers>,
    report: Report,
}

struct Options {
    runs: u32,
    many: u64,
    backlog: u64,
    folder: PathBuf,
    chosen: Vec<&'static (&'static str, Scenario)>,
}

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<()> {
    let options = options(std::env::args().skip(1))?;
    let folder = TempDir::with_prefix_in("holdfast-bench-", &options.folder)?;
    let mut bench = Bench {
        folder,
        alerts: Alerts::new(),
        many: options.many,
        backlog: options.backlog,
        peers: None,
        report: Report::new(),
    };
    for run in 1..=options.runs {
        for (name, scenario) in &options.chosen {
            eprintln!("run {run} of {}: {name}", options.runs);
            if let Err(error) = scenario(&mut bench) {
                bench.report.remark(format!("`{name}` failed: {error}"));
            }
        }
    }
    println!("{}", bench.report.markdown(bench.folder.path(), options.runs));
    Ok(())
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options> {
    let (mut runs, mut many, mut backlog, mut chosen) = (3, 1_000_000, None, Vec::new());
    let mut folder = std::env::temp_dir();
    while let Some(argument) = arguments.next() {
        if !argument.starts_with("--") {
            let found = SCENARIOS.iter().find(|(name, _)| *name == argument);
            let names: Vec<&str> = SCENARIOS.iter().map(|(name, _)| *name).collect();
            chosen.push(found.ok_or_else(|| format!("the scenarios are {}", names.join(", ")))?);
            continue;
        }
        let value = arguments.next().ok_or_else(|| format!("{argument} needs a value"))?;
        match argument.as_str() {
            "--runs" => runs = value.parse()?,
            "--alerts" => many = value.parse()?,
            "--backlog" => backlog = Some(value.parse()?),
            "--dir" => folder = PathBuf::from(value),
            _ => return Err(format!("there is no option {argument}").into()),
        }
    }
    if chosen.is_empty() {
        chosen = SCENARIOS.iter().collect();
    }
    Ok(Options { runs, many, backlog: backlog.unwrap_or(many), folder, chosen })
}

// === impl Bench ===

impl Bench {
    /// A file of so many alerts and its length; written once, then used by every scenario.
    fn input(&self, count: u64) -> Result<(PathBuf, u64)> {
        let path = self.folder.path().join(format!("alerts-{count}.json"));
        let bytes = match path.metadata() {
            Ok(metadata) => metadata.len(),
            Err(_) => self.alerts.write_file(&path, count)?,
        };
        Ok((path, bytes))
    }

    /// An empty folder for one gateway or peer, gone with the value.
    fn room(&self) -> Result<TempDir> {
        Ok(TempDir::new_in(self.folder.path())?)
    }

    fn peers(&mut self) -> &Peers {
        self.peers.get_or_insert_with(Peers::fetch)
    }
}

/// Creates an empty file that a tail can follow.
fn empty_file(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("alerts.json");
    fs::File::create(&path)?;
    Ok(path)
}
