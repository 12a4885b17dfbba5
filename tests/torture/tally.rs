//! What one lane's receiver took, and in which run of the gateway.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use crate::support::{alerts, receiver::Exchange};

/// Answered so late that the gateway may have given up on it before.
const LATE_NS: u64 = 1_000_000_000;

/// One event: its id, and the number of its alert.
pub(crate) type Member = (String, u64);

#[derive(Default)]
pub(crate) struct Tally {
    /// By event: the run in which it was taken last, and whether the answer was late.
    taken: HashMap<String, (u32, bool)>,
    /// Everything that ever arrived, taken or not.
    pub(crate) seen: HashSet<u64>,
    events_of: HashMap<u64, HashSet<String>>,
    /// Taken again, by the kill that explains it: the end of the run in which it was taken before.
    pub(crate) by_kill: BTreeMap<u32, u64>,
    /// Taken twice in one run, though the first answer was written in time.
    pub(crate) unexplained: Vec<Member>,
    /// By its id, how many alerts a summary counts. A summary is no alert.
    pub(crate) summaries: HashMap<String, u64>,
    pub(crate) canaries: u64,
}

/// What a request carried.
#[derive(Default)]
pub(crate) struct Load {
    alerts: Vec<Member>,
    summaries: Vec<(String, u64)>,
    canaries: u64,
}

impl Tally {
    pub(crate) fn note(&mut self, run: u32, exchange: &Exchange, load: Load) {
        self.seen.extend(load.alerts.iter().map(|(_, number)| *number));
        if !exchange.reply.accepts() || exchange.answered_ns == 0 {
            return;
        }
        let late = exchange.answered_ns - exchange.request.at_ns > LATE_NS;
        self.summaries.extend(load.summaries);
        self.canaries += load.canaries;
        for (id, number) in load.alerts {
            self.events_of.entry(number).or_default().insert(id.clone());
            match self.taken.insert(id.clone(), (run, late)) {
                None => {}
                Some((before, _)) if before < run => *self.by_kill.entry(before).or_default() += 1,
                Some((_, true)) => {}
                Some((_, false)) => self.unexplained.push((id, number)),
            }
        }
    }

    pub(crate) fn has(&self, number: u64) -> bool {
        self.events_of.contains_key(&number)
    }

    pub(crate) fn count(&self) -> usize {
        self.events_of.len()
    }

    /// Alerts that came by themselves, and those in summaries.
    pub(crate) fn summed(&self) -> u64 {
        self.count() as u64 + self.summaries.values().sum::<u64>()
    }

    /// Alerts that were taken in twice: one alert, two events.
    pub(crate) fn twice_in(&self) -> Vec<u64> {
        let twice = self.events_of.iter().filter(|(_, events)| events.len() > 1);
        twice.map(|(number, _)| *number).collect()
    }
}

/// What a request carries: one event under its key, or a batch of envelopes.
pub(crate) fn load(exchange: &Exchange) -> Load {
    let (request, mut load) = (&exchange.request, Load::default());
    if let Some(number) = alerts::number(&request.body) {
        load.alerts.push((request.key().to_owned(), number));
        return load;
    }
    let text = request.text();
    for line in text.lines() {
        match envelope(line) {
            Some(member) => load.alerts.push(member),
            None => other(&mut load, request.key(), line),
        }
    }
    load
}

fn envelope(line: &str) -> Option<Member> {
    let (_, rest) = line.split_once("\"id\":\"")?;
    let (id, rest) = rest.split_once('"')?;
    let (_, alert) = rest.split_once("\"alert\":")?;
    Some((id.to_owned(), alerts::number(alert.as_bytes())?))
}

/// A summary or a canary, alone or in an envelope; nothing else is ever sent.
fn other(load: &mut Load, key: &str, line: &str) {
    let event: Value = serde_json::from_str(line).expect("JSON");
    let alert = if event["alert"].is_object() { &event["alert"] } else { &event };
    match alert["holdfast"]["summary"]["count"].as_u64() {
        Some(count) => {
            let id = event["id"].as_str().unwrap_or(key);
            load.summaries.push((id.to_owned(), count));
        }
        None if line.contains("\"canary\"") => load.canaries += 1,
        None => panic!("neither an alert nor a summary nor a canary: {line}"),
    }
}
