//! `render`: what a destination would send for an alert. Needs the configuration and no gateway.

use std::{fs, io::Read, path::PathBuf, sync::Arc};

use clap::Args;
use holdfast_connectors::{destinations::CATALOG, http, secrets};
use holdfast_model::{
    Chain, DeliveryError, Event, LogId, Member, NewEvent, Reason, Shipment,
    alert::{self, check_alert},
    delivery_key,
};
use holdfast_pipeline::{Clock, LaneConfig};

use super::{ConfigFile, Exit, output};
use crate::config;

/// Longest alert file, in bytes; white space may be as much again.
const FILE_BYTES_MAX: u64 = 2 * alert::ALERT_BYTES_MAX as u64;

/// Stands for the log, whose id only a running gateway knows.
const LOG_ID: &str = "rendered00";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The destination's name in the configuration.
    destination: String,
    /// A file with one alert as JSON; `-` is standard input. Of several lines the first is taken.
    #[arg(long)]
    alert: PathBuf,
    #[command(flatten)]
    config: ConfigFile,
    /// Print JSON: the requests as texts.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(options: &Options) -> Exit {
    secrets::remember();
    let config = match config::load(&options.config.config) {
        Ok(config) => config,
        Err(faults) => {
            output::faults(&options.config.config, &faults);
            return Exit::Configuration;
        }
    };
    let found = config.destinations.iter().find(|lane| lane.name.as_str() == options.destination);
    let Some(lane) = found else {
        let names: Vec<_> = config.destinations.iter().map(|lane| lane.name.as_str()).collect();
        let (given, all) = (&options.destination, names.join(", "));
        output::complain(format_args!("there is no destination `{given}`; there are: {all}"));
        return Exit::Usage;
    };
    if !CATALOG.iter().any(|kind| kind.name == lane.kind && kind.http) {
        let kind = lane.kind;
        output::complain(format_args!("a {kind} makes no HTTP request, so there is none to show"));
        return Exit::Failed;
    }
    match read_alert(&options.alert).and_then(|body| render(lane, body)) {
        Ok(requests) => {
            if options.json {
                output::line(format_args!("{}", serde_json::json!({ "requests": requests })));
            } else {
                requests.iter().for_each(|request| output::line(format_args!("{request}")));
            }
            Exit::Done
        }
        Err(problem) => {
            output::complain(format_args!("{problem}"));
            Exit::Failed
        }
    }
}

/// One alert: the whole file if it is one, else its first line.
fn read_alert(path: &PathBuf) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().take(FILE_BYTES_MAX).read_to_end(&mut bytes)
    } else {
        fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes))
    };
    read.map_err(|error| format!("{}: {error}", path.display()))?;
    let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let is_alert = |body: &[u8]| check_alert(body, alert::ALERT_BYTES_MAX);
    match (is_alert(&bytes), is_alert(first)) {
        (Ok(()), _) => Ok(bytes),
        (Err(_), Ok(())) => Ok(first.to_vec()),
        (Err(error), Err(_)) => Err(format!("{} is not an alert: {error}", path.display())),
    }
}

/// What the destination would send for it.
fn render(lane: &LaneConfig, body: Vec<u8>) -> Result<Vec<String>, String> {
    http::rehearse();
    let id = LogId::new(LOG_ID).map_err(|error| error.to_string())?.event(1);
    let event = Event::new(1, NewEvent::alert(body), "render".into(), Clock::system().now());
    let key = delivery_key(&id, &lane.name, None);
    let member = Member::first(id, key, Arc::new(event));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let result = runtime.block_on(lane.destination.deliver(&Shipment { members: vec![member] }));
    let requests = http::rehearse();
    match (result, requests.is_empty()) {
        (Err(DeliveryError { reason: Reason::Connect, .. }), false) => {
            Ok(requests.iter().map(ToString::to_string).collect())
        }
        (Err(error), _) => Err(format!("{}", Chain(&error))),
        (Ok(_), _) => Err("nothing was to be sent".to_owned()),
    }
}
