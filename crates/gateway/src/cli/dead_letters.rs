//! `dead-letters`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Exit, Gateway,
    client::{Client, escape},
    output,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List dead letters, oldest first.
    List {
        #[command(flatten)]
        filter: Filter,
        /// At most so many.
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// Only count them.
        #[arg(long)]
        count: bool,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Show one, whole: the event, the reason, every attempt.
    Show {
        id: String,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Send them to their destination again.
    Replay {
        /// Only this one.
        id: Option<String>,
        #[command(flatten)]
        filter: Filter,
        /// At most so many: "10/s", "30/min".
        #[arg(long)]
        rate: Option<String>,
        /// Only count what would be sent.
        #[arg(long)]
        dry_run: bool,
        /// The same key twice is one replay.
        #[arg(long)]
        key: Option<String>,
        /// Return at once instead of watching the progress.
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Remove them for good.
    Purge {
        #[command(flatten)]
        filter: Filter,
        /// Really all, when no filter is given.
        #[arg(long)]
        all: bool,
        /// Only count what would be removed.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        gateway: Gateway,
    },
}

/// The same filters as in the API.
#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// Of this destination (or `source.<name>`).
    #[arg(long)]
    destination: Option<String>,
    /// refused, forbidden, too_large, render, too_old, in_doubt, invalid, too_long, corrupt.
    #[arg(long)]
    reason: Option<String>,
    /// Died at or after this RFC 3339 time.
    #[arg(long)]
    since: Option<String>,
    /// Died before this RFC 3339 time.
    #[arg(long)]
    until: Option<String>,
    /// Of this rule.
    #[arg(long)]
    rule_id: Option<String>,
}

impl Filter {
    fn json(&self) -> Value {
        let given = [
            ("destination", &self.destination),
            ("reason", &self.reason),
            ("since", &self.since),
            ("until", &self.until),
            ("rule_id", &self.rule_id),
        ];
        given
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), json!(value.as_ref()?))))
            .collect()
    }

    fn query(&self) -> String {
        let pairs = self.json();
        let pairs = pairs.as_object().into_iter().flatten();
        let pair = |(key, value): (&String, &Value)| {
            format!("&{key}={}", escape(value.as_str().unwrap_or("")))
        };
        pairs.map(pair).collect()
    }
}

pub(crate) fn run(command: Command) -> Exit {
    let done = match command {
        Command::List { filter, limit, count, gateway } => list(&gateway, &filter, limit, count),
        Command::Show { id, gateway } => show(&gateway, &id),
        Command::Replay { id, filter, rate, dry_run, key, no_wait, gateway } => {
            let body = json!({
                "from": "dead_letters", "filter": filter.json(), "rate": rate, "dry_run": dry_run,
            });
            replay(&gateway, id.as_deref(), &body, key.as_deref(), no_wait || dry_run)
        }
        Command::Purge { filter, all, dry_run, gateway } => {
            let body = json!({ "filter": filter.json(), "all": all, "dry_run": dry_run });
            purge(&gateway, &body)
        }
    };
    done.map_or_else(|exit| exit, |()| Exit::Done)
}

fn list(gateway: &Gateway, filter: &Filter, limit: usize, count: bool) -> Result<(), Exit> {
    let client = Client::new(gateway)?;
    let query = filter.query();
    if count {
        let answer = client.get(&format!("/v1/dead-letters?count_only=true{query}"))?;
        let text = if gateway.json { answer.to_string() } else { answer["count"].to_string() };
        output::line(format_args!("{text}"));
        return Ok(());
    }
    let (mut letters, mut cursor) = (Vec::new(), String::new());
    while letters.len() < limit {
        let page = (limit - letters.len()).min(1_000);
        let answer = client.get(&format!("/v1/dead-letters?limit={page}{query}{cursor}"))?;
        letters.extend(answer["data"].as_array().cloned().unwrap_or_default());
        match answer["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={}", escape(next)),
            None => break,
        }
    }
    if gateway.json {
        output::line(format_args!("{}", Value::from(letters)));
        return Ok(());
    }
    if letters.is_empty() {
        output::line(format_args!("no dead letters"));
        return Ok(());
    }
    let rows: Vec<Vec<String>> = letters.iter().map(row).collect();
    output::table(&["ID", "REASON", "DIED AT", "STATUS", "RULE", "DESCRIPTION"], &rows);
    Ok(())
}

fn row(letter: &Value) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::String(text) => output::plain(text),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    let rule = &letter["event"]["alert"]["rule"];
    let last = letter["attempts"].as_array().and_then(|attempts| attempts.last());
    let about = if rule.is_null() { &letter["message"] } else { &rule["description"] };
    vec![
        text(&letter["id"]),
        text(&letter["reason"]),
        text(&letter["died_at"]),
        last.map_or("-".into(), |attempt| text(&attempt["status"])),
        text(&rule["id"]),
        text(about).chars().take(60).collect(),
    ]
}

fn show(gateway: &Gateway, id: &str) -> Result<(), Exit> {
    let letter = Client::new(gateway)?.get(&format!("/v1/dead-letters/{}", escape(id)))?;
    if gateway.json {
        output::line(format_args!("{letter}"));
    } else {
        // JSON escapes control characters, so this is safe for a terminal.
        output::line(format_args!("{letter:#}"));
    }
    Ok(())
}

fn replay(
    gateway: &Gateway,
    id: Option<&str>,
    body: &Value,
    key: Option<&str>,
    no_wait: bool,
) -> Result<(), Exit> {
    let client = Client::new(gateway)?;
    let job = match id {
        Some(id) => {
            client.post(&format!("/v1/dead-letters/{}/replay", escape(id)), &json!({}), key)?
        }
        None => client.post("/v1/replays", body, key)?,
    };
    if job["dry_run"] == true && !gateway.json {
        output::line(format_args!("{} dead letters would be sent again", job["total"]));
        return Ok(());
    }
    super::replay::finish(&client, job, !no_wait, gateway.json)
}

fn purge(gateway: &Gateway, body: &Value) -> Result<(), Exit> {
    let answer = Client::new(gateway)?.post("/v1/dead-letters/purge", body, None)?;
    if gateway.json {
        output::line(format_args!("{answer}"));
    } else if answer["dry_run"] == true {
        output::line(format_args!("{} dead letters would be removed", answer["count"]));
    } else {
        output::line(format_args!("{} dead letters removed", answer["purged"]));
    }
    Ok(())
}
