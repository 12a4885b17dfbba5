//! `top`: the lanes, live, on the whole screen.

use std::{collections::BTreeMap, io, time::Duration};

use clap::Args;
use holdfast_model::{Timestamp, units};
use holdfast_pipeline::Clock;
use serde_json::Value;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};

use super::{Exit, Gateway, client::Client, output, screen::Screen};

const EVERY_MIN: Duration = Duration::from_millis(200);
const EVERY_MAX: Duration = Duration::from_secs(60);
/// Ctrl-C, which is a key on this screen.
const INTERRUPT: u8 = 3;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How often to look, 200ms to 60s.
    #[arg(long, default_value = "1s", value_parser = every)]
    every: Duration,
    #[command(flatten)]
    gateway: Gateway,
}

fn every(text: &str) -> Result<Duration, String> {
    let every = units::parse_duration(text).map_err(|expected| format!("it is not {expected}"))?;
    let fits = (EVERY_MIN..=EVERY_MAX).contains(&every);
    if fits { Ok(every) } else { Err("it is not within 200ms to 60s".to_owned()) }
}

pub(crate) fn run(options: &Options) -> Exit {
    let client = match Client::new(&options.gateway) {
        Ok(client) => client,
        Err(exit) => return exit,
    };
    // Before the screen is taken, so that what is wrong can be read.
    let first = match client.get("/v1/destinations") {
        Ok(first) => first,
        Err(exit) => return exit,
    };
    if options.gateway.json {
        output::line(format_args!("{first}"));
        return Exit::Done;
    }
    let screen = match Screen::open() {
        Ok(Some(screen)) => screen,
        Ok(None) => {
            output::complain(format_args!(
                "`top` needs a terminal; `holdfast status` prints the same once, also with --json"
            ));
            return Exit::Usage;
        }
        Err(error) => {
            output::complain(format_args!("cannot take the terminal: {error}"));
            return Exit::Failed;
        }
    };
    let shown = client.block_on(show(&client, &screen, first, options.every));
    drop(screen);
    match shown {
        Ok(()) => Exit::Done,
        Err(error) => {
            output::complain(format_args!("cannot draw: {error}"));
            Exit::Failed
        }
    }
}

async fn show(client: &Client, screen: &Screen, first: Value, every: Duration) -> io::Result<()> {
    let mut keys = screen.keys();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let colour = output::colours();
    let mut frame = Frame::new(first);
    loop {
        let (columns, _) = screen.size();
        screen.draw(&frame.lines(client.url(), columns, colour))?;
        tokio::select! {
            key = keys.recv() => match key {
                Some(b'q' | b'Q' | INTERRUPT) | None => return Ok(()),
                Some(_) => {}
            },
            _ = terminate.recv() => return Ok(()),
            _ = hang_up.recv() => return Ok(()),
            () = tokio::time::sleep(every) => {}
        }
        // A key is answered also while the gateway is not.
        let answer = tokio::select! {
            answer = client.ask("/v1/destinations") => answer,
            key = keys.recv() => match key {
                Some(b'q' | b'Q' | INTERRUPT) | None => return Ok(()),
                Some(_) => continue,
            },
            _ = terminate.recv() => return Ok(()),
        };
        match answer {
            Ok(answer) if answer.status == 200 => frame.take(answer.json()),
            Ok(answer) => frame.problem = format!("the gateway answers {}", answer.status),
            Err(error) => frame.problem = error.to_string(),
        }
    }
}

/// What was seen last, and how fast it changes.
struct Frame {
    lanes: Value,
    at: Instant,
    rates: BTreeMap<String, f64>,
    problem: String,
}

impl Frame {
    fn new(lanes: Value) -> Self {
        Self { lanes, at: Instant::now(), rates: BTreeMap::new(), problem: String::new() }
    }

    fn take(&mut self, lanes: Value) {
        let seconds = self.at.elapsed().as_secs_f64().max(0.001);
        let delivered = |lanes: &Value| -> BTreeMap<String, u64> {
            let all = lanes["data"].as_array().into_iter().flatten();
            let one = |lane: &Value| {
                let name = lane["name"].as_str()?.to_owned();
                Some((name, lane["ledger"]["delivered"].as_u64()?))
            };
            all.filter_map(one).collect()
        };
        let before = delivered(&self.lanes);
        let rate = |(name, now): (String, u64)| {
            let gained = now.saturating_sub(before.get(&name).copied().unwrap_or(now));
            (name, gained as f64 / seconds)
        };
        self.rates = delivered(&lanes).into_iter().map(rate).collect();
        (self.lanes, self.at) = (lanes, Instant::now());
        self.problem.clear();
    }

    fn lines(&self, url: &str, columns: usize, colour: bool) -> Vec<String> {
        let now = Clock::system().now();
        let lanes = self.lanes["data"].as_array().map(Vec::as_slice).unwrap_or_default();
        let active = lanes.iter().filter(|lane| lane["state"] == "active").count();
        let state = if self.problem.is_empty() { format!("{now}") } else { self.problem.clone() };
        let summary =
            format!("holdfast {url}  {active} of {} lanes active  {state}  q quits", lanes.len());
        let head = [
            "DESTINATION",
            "TYPE",
            "STATE",
            "PENDING",
            "SENT/S",
            "RETRYING",
            "DELIVERED",
            "DEAD",
            "OLDEST",
            "REASON",
        ];
        let rows: Vec<Vec<String>> = lanes.iter().map(|lane| self.row(lane, now)).collect();
        let mut lines = vec![cut(&summary, columns), String::new()];
        let table = output::columns(&head, &rows);
        for (index, line) in table.iter().enumerate() {
            let line = cut(line, columns);
            let code = match index.checked_sub(1).and_then(|row| lanes.get(row)) {
                None => "1",
                Some(lane) => match lane["state"].as_str().unwrap_or("") {
                    "active" => "0",
                    "throttled" | "paused" | "backed_up" => "33",
                    _ => "31",
                },
            };
            lines.push(if colour { format!("\x1b[{code}m{line}\x1b[0m") } else { line });
        }
        if lanes.is_empty() {
            lines.push("no destinations".to_owned());
        }
        lines
    }

    fn row(&self, lane: &Value, now: Timestamp) -> Vec<String> {
        let text = |key: &str| output::plain(lane[key].as_str().unwrap_or(""));
        let count = |term: &str| lane["ledger"][term].to_string();
        let rate = self.rates.get(lane["name"].as_str().unwrap_or("")).copied().unwrap_or(0.0);
        let oldest = lane["oldest_pending_at"].as_str().and_then(Timestamp::parse);
        let age = oldest.map_or("-".to_owned(), |at| age(now.since(at)));
        vec![
            text("name"),
            text("type"),
            text("state"),
            count("pending"),
            format!("{rate:.0}"),
            count("retrying"),
            count("delivered"),
            count("dead"),
            age,
            text("reason"),
        ]
    }
}

/// An age at a glance.
fn age(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7_200 => format!("{}m", seconds / 60),
        seconds @ 7_200..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

fn cut(line: &str, columns: usize) -> String {
    line.chars().take(columns).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_frame_fits_its_screen_and_shows_how_fast_lanes_are() {
        let lane = |delivered: u64| {
            json!({ "data": [{ "name": "siem", "type": "webhook", "state": "open",
                "reason": "connect \u{1b}[2J", "oldest_pending_at": null,
                "ledger": { "pending": 3, "retrying": 1, "delivered": delivered, "dead": 0 } }] })
        };
        let mut frame = Frame::new(lane(10));
        frame.take(lane(10));
        assert_eq!(frame.rates["siem"], 0.0);
        frame.take(lane(500));
        assert!(frame.rates["siem"] > 0.0);
        let lines = frame.lines("http://localhost:9470", 40, false);
        assert!(lines.iter().all(|line| line.chars().count() <= 40), "{lines:#?}");
        let wide = frame.lines("http://localhost:9470", 200, false);
        assert!(wide[3].starts_with("siem") && !wide[3].contains('\u{1b}'), "{wide:#?}");
        frame.problem = "cannot reach the gateway".into();
        assert!(frame.lines("u", 200, false)[0].contains("cannot reach"));
    }

    #[test]
    fn an_age_is_short() {
        let ages = [5, 119, 120, 7_199, 7_200, 172_799, 172_800].map(Duration::from_secs);
        assert_eq!(ages.map(age), ["5s", "119s", "2m", "119m", "2h", "47h", "2d"]);
    }
}
