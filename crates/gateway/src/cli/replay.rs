//! `replay`: jobs that send dead letters, or a stretch of the log, again.

use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

use super::{
    Exit, Gateway,
    client::{Client, escape},
    output,
    progress::Progress,
};

/// How often a watched job is asked for its progress.
const WATCH_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a job.
    Start(Box<Start>),
    /// List the jobs, newest first.
    List {
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Show a job's progress until it ends.
    Watch {
        id: u64,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Stop a job for a while.
    Pause {
        id: u64,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Go on with a paused job.
    Resume {
        id: u64,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// End a job. What it has sent stays sent.
    Cancel {
        id: u64,
        #[command(flatten)]
        gateway: Gateway,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum From {
    DeadLetters,
    Log,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Start {
    /// What to send again.
    #[arg(long, value_enum, default_value_t = From::DeadLetters)]
    from: From,
    /// To this destination. For dead letters it is the one they are of, unless another is given
    /// with --to.
    #[arg(long)]
    destination: String,
    /// Send them to this other destination.
    #[arg(long)]
    to: Option<String>,
    /// Only of this reason (dead letters).
    #[arg(long)]
    reason: Option<String>,
    /// Only from this RFC 3339 time on.
    #[arg(long)]
    since: Option<String>,
    /// Only before this RFC 3339 time.
    #[arg(long)]
    until: Option<String>,
    /// Only of this rule.
    #[arg(long)]
    rule_id: Option<String>,
    /// Any other key of the job's filter. May be given several times.
    #[arg(long = "filter", value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// At most so many: "10/s", "30/min".
    #[arg(long)]
    rate: Option<String>,
    /// Only count what would be sent.
    #[arg(long)]
    dry_run: bool,
    /// The same key twice is one job.
    #[arg(long)]
    key: Option<String>,
    /// Return at once instead of watching the progress.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    gateway: Gateway,
}

impl Start {
    fn body(&self) -> Result<Value, Exit> {
        let mut filter = Map::new();
        let given = [
            ("reason", &self.reason),
            ("since", &self.since),
            ("until", &self.until),
            ("rule_id", &self.rule_id),
        ];
        for (key, value) in given {
            if let Some(value) = value {
                filter.insert(key.into(), json!(value));
            }
        }
        for pair in &self.filter {
            let Some((key, value)) = pair.split_once('=') else {
                output::complain(format_args!("--filter {pair}: it must be KEY=VALUE"));
                return Err(Exit::Usage);
            };
            // Numbers and lists are taken as such: level=10, groups=["sshd"].
            let value = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
            filter.insert(key.to_owned(), value);
        }
        let from = match self.from {
            From::DeadLetters => "dead_letters",
            From::Log => "log",
        };
        if matches!(self.from, From::DeadLetters) {
            filter.insert("destination".into(), json!(self.destination));
        }
        let destination = self.to.as_ref().unwrap_or(&self.destination);
        let mut body = json!({ "from": from, "filter": filter, "destination": destination });
        if let Some(rate) = &self.rate {
            body["rate"] = json!(rate);
        }
        if self.dry_run {
            body["dry_run"] = json!(true);
        }
        Ok(body)
    }
}

pub(crate) fn run(command: &Command) -> Exit {
    let done = match command {
        Command::Start(start) => begin(start),
        Command::List { gateway } => list(gateway),
        Command::Watch { id, gateway } => watch_one(gateway, *id),
        Command::Pause { id, gateway } => act(gateway, *id, "pause"),
        Command::Resume { id, gateway } => act(gateway, *id, "resume"),
        Command::Cancel { id, gateway } => act(gateway, *id, "cancel"),
    };
    done.map_or_else(|exit| exit, |()| Exit::Done)
}

fn begin(start: &Start) -> Result<(), Exit> {
    let body = start.body()?;
    let client = Client::new(&start.gateway)?;
    let job = client.post("/v1/replays", &body, start.key.as_deref())?;
    let wait = !start.no_wait && !start.dry_run;
    finish(&client, job, wait, start.gateway.json)
}

fn watch_one(gateway: &Gateway, id: u64) -> Result<(), Exit> {
    let client = Client::new(gateway)?;
    let job = client.get(&format!("/v1/replays/{id}"))?;
    finish(&client, job, true, gateway.json)
}

fn act(gateway: &Gateway, id: u64, action: &str) -> Result<(), Exit> {
    let client = Client::new(gateway)?;
    let job = client.post(&format!("/v1/replays/{id}/{action}"), &json!({}), None)?;
    print(&job, gateway.json);
    Ok(())
}

fn list(gateway: &Gateway) -> Result<(), Exit> {
    let client = Client::new(gateway)?;
    let (mut jobs, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("/v1/replays{cursor}"))?;
        jobs.extend(page["data"].as_array().cloned().unwrap_or_default());
        match page["next_cursor"].as_str() {
            Some(next) if page["has_more"] == true => cursor = format!("?cursor={}", escape(next)),
            _ => break,
        }
    }
    if gateway.json {
        output::line(format_args!("{}", Value::from(jobs)));
        return Ok(());
    }
    if jobs.is_empty() {
        output::line(format_args!("no replays; `holdfast replay start` begins one"));
        return Ok(());
    }
    let head = &[
        "ID",
        "STATE",
        "DESTINATION",
        "TOTAL",
        "DONE",
        "DELIVERED",
        "DUPLICATE",
        "FAILED",
        "CREATED",
    ];
    let cell = |value: &Value| match value {
        Value::String(text) => output::plain(text),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    let keys = [
        "id",
        "state",
        "destination",
        "total",
        "done",
        "delivered",
        "duplicate",
        "failed",
        "created_at",
    ];
    let rows: Vec<Vec<String>> =
        jobs.iter().map(|job| keys.iter().map(|key| cell(&job[*key])).collect()).collect();
    output::table(head, &rows);
    Ok(())
}

/// Waits for a job's end, with a progress bar, and says how it ended.
pub(super) fn finish(client: &Client, mut job: Value, wait: bool, json: bool) -> Result<(), Exit> {
    let bar = Progress::new("replaying");
    while wait && job["state"] == "running" {
        let count = |key: &str| job[key].as_u64().unwrap_or(0);
        bar.of("replaying", count("done"), count("total"));
        std::thread::sleep(WATCH_EVERY);
        job = client.get(&format!("/v1/replays/{}", job["id"]))?;
    }
    drop(bar);
    print(&job, json);
    if job["state"] == "failed" { Err(Exit::Failed) } else { Ok(()) }
}

fn print(job: &Value, json: bool) {
    if json {
        output::line(format_args!("{job}"));
    } else if job["dry_run"] == true {
        output::line(format_args!("{} events would be sent again", job["total"]));
    } else {
        output::line(format_args!(
            "replay {}: {}; {} of {} done: {} delivered, {} duplicate, {} failed",
            job["id"],
            output::plain(job["state"].as_str().unwrap_or("?")),
            job["done"],
            job["total"],
            job["delivered"],
            job["duplicate"],
            job["failed"],
        ));
    }
}
