//! `tail`: the log as it grows, one line an event.
//!
//! It pulls with a cursor and waits at the head, so a gateway that restarts costs nothing but time:
//! `tail` goes on where it was.

use std::{io::IsTerminal, time::Duration};

use clap::{Args, ValueEnum};
use holdfast_model::alert::one_line;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{
    Exit, Gateway,
    client::{Client, escape},
    output,
};

/// How long the gateway holds an answer back when there is nothing new.
const WAIT: &str = "30s";
const AGAIN_EVERY: Duration = Duration::from_secs(1);
const DESCRIPTION_CHARS_MAX: usize = 160;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Least `rule.level`, 0 to 16.
    #[arg(long)]
    level: Option<String>,
    /// Groups of the rule, any of them: "sshd,pam".
    #[arg(long)]
    groups: Vec<String>,
    /// Rule ids and ranges, any of them: "5710,100000-109999".
    #[arg(long)]
    rule_ids: Vec<String>,
    /// Agent ids, or names in which `*` stands for anything.
    #[arg(long)]
    agents: Vec<String>,
    /// alert (the default), lookup, callback, canary, operator.
    #[arg(long)]
    kind: Vec<String>,
    /// Any other key of `when` "not_groups=sca". May be given several times.
    #[arg(long = "when", value_name = "KEY=VALUE")]
    when: Vec<String>,
    /// Where to begin.
    #[arg(long, value_enum, default_value_t = Start::Newest)]
    start: Start,
    /// Go on behind this cursor, which --json shows with each event.
    #[arg(long, conflicts_with = "start")]
    cursor: Option<String>,
    /// End after so many events.
    #[arg(long, short = 'n')]
    count: Option<u64>,
    /// End at the newest event instead of waiting for more.
    #[arg(long)]
    no_follow: bool,
    #[command(flatten)]
    gateway: Gateway,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Start {
    /// With what comes in from now on.
    Newest,
    /// With the oldest event that the log still has.
    Oldest,
}

impl Options {
    fn filters(&self) -> Result<String, Exit> {
        let lists = [
            ("groups", &self.groups),
            ("rule_ids", &self.rule_ids),
            ("agents", &self.agents),
            ("kind", &self.kind),
        ];
        let mut query = String::new();
        let mut add = |key: &str, value: &str| {
            query.push_str(&format!("&{}={}", escape(key), escape(value)));
        };
        if let Some(level) = &self.level {
            add("level", level);
        }
        for (key, values) in lists {
            values.iter().for_each(|value| add(key, value));
        }
        for pair in &self.when {
            let Some((key, value)) = pair.split_once('=') else {
                output::complain(format_args!("--when {pair}: it must be KEY=VALUE"));
                return Err(Exit::Usage);
            };
            add(key.trim(), value.trim());
        }
        Ok(query)
    }
}

pub(crate) fn run(options: &Options) -> Exit {
    follow(options).map_or_else(|exit| exit, |()| Exit::Done)
}

fn follow(options: &Options) -> Result<(), Exit> {
    let filters = options.filters()?;
    let client = Client::new(&options.gateway)?;
    let show = Show { json: options.gateway.json, colour: output::colours() };
    let start = match (&options.cursor, options.start) {
        (Some(cursor), _) => format!("cursor={}", escape(cursor)),
        (None, Start::Newest) => "start=newest".to_owned(),
        (None, Start::Oldest) => "start=oldest".to_owned(),
    };
    let (mut at, mut left, mut reached) = (start, options.count.unwrap_or(u64::MAX), false);
    while left > 0 {
        // The first answer says at once that all is well, and from where on.
        let wait = if reached && !options.no_follow { WAIT } else { "0s" };
        let limit = left.min(500);
        let path = format!("/v1/alerts?{at}&wait={wait}&limit={limit}{filters}");
        let answer = match client.block_on(client.ask(&path)) {
            Ok(answer) => answer,
            Err(error) if reached => {
                again(&error.to_string());
                continue;
            }
            Err(error) => return client.done(Err(error)).map(|_| ()),
        };
        match answer.status {
            200 => {}
            410 => {
                let problem = answer.json();
                let detail = output::plain(problem["detail"].as_str().unwrap_or(""));
                output::complain(format_args!("events are missing here: {detail}"));
                let oldest = problem["oldest_cursor"].as_str().unwrap_or("");
                at = format!("cursor={}", escape(oldest));
                continue;
            }
            429 | 502 | 503 if reached => {
                again("the gateway is busy");
                continue;
            }
            _ => return Err(client.refused(&answer)),
        }
        if !reached && !options.no_follow && std::io::stderr().is_terminal() {
            output::complain(format_args!("following {}; Ctrl-C ends", client.url()));
        }
        reached = true;
        let Some(page) = answer.read::<Page>() else {
            output::complain(format_args!("{} is not a gateway of this version", client.url()));
            return Err(Exit::Failed);
        };
        for event in &page.data {
            show.event(event)?;
            left -= 1;
        }
        at = format!("cursor={}", escape(&page.next_cursor));
        if options.no_follow && !page.has_more {
            break;
        }
    }
    Ok(())
}

fn again(why: &str) {
    if std::io::stderr().is_terminal() {
        output::complain(format_args!("{why}; trying again"));
    }
    std::thread::sleep(AGAIN_EVERY);
}

/// Events are kept as they came, so that --json changes nothing of them.
#[derive(Deserialize)]
struct Page {
    data: Vec<Box<RawValue>>,
    next_cursor: String,
    has_more: bool,
}

struct Show {
    json: bool,
    colour: bool,
}

impl Show {
    /// Prints one; a reader that has gone away ends the command.
    fn event(&self, event: &RawValue) -> Result<(), Exit> {
        let json = one_line(event.get().as_bytes());
        let json = String::from_utf8_lossy(&json);
        let line = match serde_json::from_str(&json) {
            Ok(event) if !self.json => self.line(&event),
            // Also what is nested too deeply to be taken apart.
            _ => json.into_owned(),
        };
        output::try_line(format_args!("{line}")).map_err(|_| Exit::Done)
    }

    fn line(&self, event: &Value) -> String {
        let text = |value: &Value| match value {
            Value::String(text) => output::plain(text),
            Value::Null => "-".to_owned(),
            other => other.to_string(),
        };
        let at = text(&event["received_at"]);
        let alert = &event["alert"];
        if alert.is_null() {
            let said = &event["data"]["rule"]["description"];
            let data = match (&event["raw"], said) {
                (raw, _) if raw.is_string() => raw,
                // Callbacks and what Holdfast says of itself say in a sentence what they are.
                (_, said) if said.is_string() => said,
                _ => &event["data"],
            };
            let data: String = text(data).chars().take(DESCRIPTION_CHARS_MAX).collect();
            return self.paint("36", &format!("{at}  {:<8}  {data}", text(&event["kind"])));
        }
        let rule = &alert["rule"];
        let description: String =
            text(&rule["description"]).chars().take(DESCRIPTION_CHARS_MAX).collect();
        let agent = if alert["agent"]["name"].is_null() {
            &alert["agent"]["id"]
        } else {
            &alert["agent"]["name"]
        };
        let level = text(&rule["level"]);
        let line = format!(
            "{at}  {level:>3}  {:>6}  {:<12}  {description}",
            text(&rule["id"]),
            text(agent)
        );
        match rule["level"].as_u64().unwrap_or(0) {
            12.. => self.paint("1;31", &line),
            7..=11 => self.paint("33", &line),
            4..=6 => line,
            _ => self.paint("2", &line),
        }
    }

    fn paint(&self, code: &str, line: &str) -> String {
        if self.colour { format!("\x1b[{code}m{line}\x1b[0m") } else { line.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_obeys_nothing_that_an_alert_says_and_is_coloured_only_when_asked() {
        let event = json!({ "received_at": "2026-03-10T12:00:00.000Z", "kind": "alert", "alert": {
            "rule": { "level": 12, "id": "5763", "description": "\u{1b}[2Jbrute\nforce" },
            "agent": { "id": "001", "name": "web-01" } } });
        let plain = Show { json: false, colour: false }.line(&event);
        assert_eq!(plain, "2026-03-10T12:00:00.000Z   12    5763  web-01        ·[2Jbrute·force");
        let painted = Show { json: false, colour: true }.line(&event);
        assert_eq!(painted, format!("\x1b[1;31m{plain}\x1b[0m"));
        let other = json!({ "received_at": "t", "kind": "operator", "data": { "lane": "a" } });
        assert!(Show { json: false, colour: false }.line(&other).contains("{\"lane\":\"a\"}"));
    }
}
