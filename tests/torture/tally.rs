//! What one lane's receiver took, and in which run of the gateway.

use std::collections::{BTreeMap, HashMap, HashSet};

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
}

impl Tally {
    pub(crate) fn note(&mut self, run: u32, exchange: &Exchange, members: Vec<Member>) {
        self.seen.extend(members.iter().map(|(_, number)| *number));
        if !exchange.reply.accepts() || exchange.answered_ns == 0 {
            return;
        }
        let late = exchange.answered_ns - exchange.request.at_ns > LATE_NS;
        for (id, number) in members {
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

    /// Alerts that were taken in twice: one alert, two events.
    pub(crate) fn twice_in(&self) -> Vec<u64> {
        let twice = self.events_of.iter().filter(|(_, events)| events.len() > 1);
        twice.map(|(number, _)| *number).collect()
    }
}

/// The members of a request: one alert under its key, or a batch of envelopes.
pub(crate) fn members(exchange: &Exchange) -> Vec<Member> {
    let request = &exchange.request;
    if let Some(number) = alerts::number(&request.body) {
        return vec![(request.key().to_owned(), number)];
    }
    let text = request.text();
    text.lines().map(|line| envelope(line).expect("an envelope")).collect()
}

fn envelope(line: &str) -> Option<Member> {
    let (_, rest) = line.split_once("\"id\":\"")?;
    let (id, rest) = rest.split_once('"')?;
    let (_, alert) = rest.split_once("\"alert\":")?;
    Some((id.to_owned(), alerts::number(alert.as_bytes())?))
}
