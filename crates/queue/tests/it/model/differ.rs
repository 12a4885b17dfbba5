//! Compares the maps with what can be seen of the queue.

use std::collections::BTreeMap;

use holdfast_model::Ledger;

use super::{
    plain::{Lane, Model},
    watch::Seen,
};

const RETENTION_MS: u64 = 24 * 3_600_000;

impl Model {
    /// The first thing in which the queue differs from the maps.
    pub(crate) fn differs(&self, seen: &Seen) -> Option<String> {
        let expect = |same: bool, what: String| (!same).then_some(what);
        let keys: BTreeMap<_, _> = seen.keys.iter().copied().collect();
        expect(seen.head == self.head, format!("head {} is not {}", seen.head, self.head))
            .or_else(|| {
                expect(seen.position == self.position, format!("position {}", seen.position))
            })
            .or_else(|| expect(seen.rejects == self.rejects, format!("rejects {:?}", seen.rejects)))
            .or_else(|| expect(keys == self.keys, format!("keys {keys:?}")))
            .or_else(|| self.differs_in_log(seen))
            .or_else(|| {
                self.lanes.iter().find_map(|(name, lane)| self.differs_in(name, lane, seen))
            })
    }

    /// The log may lack only its beginning, and of that only what every lane has passed and is old.
    fn differs_in_log(&self, seen: &Seen) -> Option<String> {
        let begin = seen.log.keys().next().copied().unwrap_or(self.head);
        let lacking = self.alerts.range(..begin);
        for (seq, alert) in lacking {
            let passed = self.lanes.values().all(|lane| lane.settled.contains(seq));
            if !passed || alert.received_at.0 + RETENTION_MS >= self.now.0 {
                return Some(format!("event {seq} is missing"));
            }
        }
        let expected = self.alerts.range(begin..).map(|(seq, alert)| (seq, &alert.body));
        let same = seen.log.iter().eq(expected);
        (!same).then(|| format!("the log from {begin} on"))
    }

    fn differs_in(&self, name: &str, lane: &Lane, seen: &Seen) -> Option<String> {
        let Some(seen) = seen.lane(name) else { return Some(format!("there is no lane {name}")) };
        let settled = self.alerts.keys().filter(|seq| seen.spans.contains(**seq));
        let retries: Vec<_> = lane.retries.values().cloned().collect();
        let ledger = Ledger {
            seen: self.alerts.len() as u64,
            filtered: lane.filtered,
            delivered: lane.delivered,
            unsettled: (self.alerts.len() - lane.settled.len()) as u64,
            retrying: retries.iter().map(|(members, _)| members.len() as u64).sum(),
            dead: lane.dead.len() as u64,
            suppressed: 0,
            expired: lane.expired,
            purged: lane.purged,
        };
        let what = |what: &str| Some(format!("{what} of lane {name}"));
        if !settled.eq(&lane.settled) {
            return what("what is settled");
        }
        if seen.retries != retries {
            return what("retries");
        }
        if seen.dead != lane.dead {
            return what("dead letters");
        }
        (seen.ledger != ledger || ledger.imbalance() != 0)
            .then(|| format!("ledger of {name}: {:?}, not {ledger:?}", seen.ledger))
    }
}
