//! A named reader of the log: what it has in hand, what comes to it again, and how far it is. Pure.
//!
//! An event is handed out once, and again only when it was not acknowledged: after its deadline,
//! after a refusal, or after a restart. What was acknowledged is never handed out again, unless the
//! reader asks to go back. Nothing here is durable; [`Consumer::record`] is what must be stored
//! before an acknowledgement is answered.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use holdfast_model::{Event, Seq};
use holdfast_queue::{ConsumerRecord, IN_HAND_MAX};
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::filter::{Filter, Verdict};

/// See the module header.
#[derive(Debug)]
pub struct Consumer {
    /// Of `reach`, `open` and `ahead` only [`Self::record`] knows.
    told: ConsumerRecord,
    filter: Filter,
    /// Everything below was looked at.
    reach: Seq,
    /// The `reach` that is stored.
    stored: Seq,
    /// Not acknowledged, with the moment at which each is due again.
    open: BTreeMap<Seq, Instant>,
    /// Acknowledged before it was looked at: handed out before a crash.
    ahead: BTreeSet<Seq>,
}

/// How far a reader's stored place may be behind the one in memory, in events.
const UNSTORED_MAX: Seq = 5_000;

/// Reads conditions as they are stored.
pub fn conditions(when: &str) -> Result<Filter, Vec<String>> {
    let conditions: Map<String, Value> =
        serde_json::from_str(when).map_err(|error| vec![error.to_string()])?;
    Filter::from_json(&conditions)
}

impl Consumer {
    /// Takes up what is stored: what was in hand comes again at once.
    pub fn new(record: ConsumerRecord, now: Instant) -> Result<Self, Vec<String>> {
        Ok(Self {
            filter: conditions(&record.when)?,
            reach: record.reach,
            stored: record.reach,
            open: record.open.iter().map(|seq| (*seq, now)).collect(),
            ahead: record.ahead.iter().copied().collect(),
            told: record,
        })
    }

    /// The same place under other settings.
    pub fn with(&self, settings: ConsumerRecord, now: Instant) -> Result<Self, Vec<String>> {
        let ConsumerRecord { reach, open, ahead, .. } = self.record();
        let mut changed = Self::new(ConsumerRecord { reach, open, ahead, ..settings }, now)?;
        changed.open.clone_from(&self.open);
        Ok(changed)
    }

    /// What must be stored.
    pub fn record(&self) -> ConsumerRecord {
        ConsumerRecord {
            reach: self.reach,
            open: self.open.keys().copied().collect(),
            ahead: self.ahead.iter().copied().collect(),
            ..self.told.clone()
        }
    }

    /// The record is on stable storage.
    pub fn note_stored(&mut self, reach: Seq) {
        self.stored = reach;
    }

    /// So much was only filtered that the place should be stored.
    pub fn should_store(&self) -> bool {
        self.reach.saturating_sub(self.stored) > UNSTORED_MAX
    }

    pub fn settings(&self) -> &ConsumerRecord {
        &self.told
    }

    /// Read on from here.
    pub fn reach(&self) -> Seq {
        self.reach
    }

    /// Below this it needs nothing of the log.
    pub fn position(&self) -> Seq {
        self.open.first_key_value().map_or(self.reach, |(seq, _)| *seq)
    }

    /// Once these, in order, are acknowledged, nothing below this is left to do.
    pub fn done_below(&self, handed: &[Seq]) -> Seq {
        let other = self.open.keys().find(|seq| handed.binary_search(seq).is_err());
        other.copied().unwrap_or(self.reach)
    }

    /// How many are handed out, or were, and are not acknowledged.
    pub fn in_hand(&self) -> usize {
        self.open.len()
    }

    /// How many more may be handed out.
    pub fn room(&self) -> usize {
        (self.told.max_in_flight as usize).saturating_sub(self.open.len())
    }

    /// What comes again now, lowest first.
    pub fn due(&self, now: Instant, limit: usize) -> Vec<Seq> {
        let due = self.open.iter().filter(|(_, due)| **due <= now);
        due.map(|(seq, _)| *seq).take(limit).collect()
    }

    /// When something comes again.
    pub fn next_due(&self) -> Option<Instant> {
        self.open.values().min().copied()
    }

    /// Looks at the next event behind `reach`. Says whether it is handed out, which needs room.
    pub fn look_at(&mut self, event: &Event, now: Instant) -> bool {
        if event.seq < self.reach {
            return false;
        }
        self.reach = event.seq + 1;
        if self.ahead.remove(&event.seq) || self.filter.judge(event) == Verdict::Filtered {
            return false;
        }
        self.open.insert(event.seq, now + self.ack_wait());
        true
    }

    /// There is nothing before this that was not looked at.
    pub fn looked_to(&mut self, next: Seq) {
        self.reach = self.reach.max(next);
        self.ahead = self.ahead.split_off(&self.reach);
    }

    /// Hands these out again.
    pub fn again(&mut self, seqs: &[Seq], now: Instant) {
        let due = now + self.ack_wait();
        for seq in seqs {
            if let Some(open) = self.open.get_mut(seq) {
                *open = due;
            }
        }
    }

    /// Acknowledges single events, and says how many of them were not acknowledged yet. `None`: too
    /// many that this run has not handed out.
    pub fn ack(&mut self, seqs: &[Seq]) -> Option<usize> {
        let unknown = seqs.iter().filter(|seq| **seq >= self.reach && !self.ahead.contains(seq));
        if unknown.count() + self.ahead.len() > IN_HAND_MAX {
            return None;
        }
        let new = |seq: &&Seq| {
            if **seq >= self.reach {
                self.ahead.insert(**seq)
            } else {
                self.open.remove(seq).is_some()
            }
        };
        Some(seqs.iter().filter(new).count())
    }

    /// Acknowledges everything below `end`, whoever has it, and says how much of it was in hand.
    pub fn ack_below(&mut self, end: Seq) -> usize {
        let before = self.open.len();
        self.open = self.open.split_off(&end);
        self.looked_to(end);
        before - self.open.len()
    }

    /// Gives events back, to come again after `delay`. Says how many were in hand.
    pub fn nack(&mut self, seqs: &[Seq], now: Instant, delay: Duration) -> usize {
        let mut count = 0;
        for seq in seqs {
            if let Some(due) = self.open.get_mut(seq) {
                *due = now + delay;
                count += 1;
            }
        }
        count
    }

    /// Goes on from here. What was in hand is forgotten.
    pub fn seek(&mut self, to: Seq) {
        self.reach = to;
        self.open.clear();
        self.ahead.clear();
    }

    fn ack_wait(&self) -> Duration {
        Duration::from_millis(self.told.ack_wait_ms)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use holdfast_model::{Name, NewEvent, Timestamp};
    use proptest::prelude::*;

    use super::*;

    fn record(max_in_flight: u32) -> ConsumerRecord {
        ConsumerRecord {
            name: Name::new("siem").unwrap(),
            owner: "soc".into(),
            created_at: Timestamp(0),
            when: r#"{"level":5}"#.into(),
            max_in_flight,
            ack_wait_ms: 1_000,
            hold: false,
            reach: 1,
            open: Vec::new(),
            ahead: Vec::new(),
        }
    }

    /// Every third is filtered.
    fn event(seq: Seq) -> Event {
        let body =
            format!("{{\"rule\":{{\"level\":{}}}}}", if seq.is_multiple_of(3) { 3 } else { 7 });
        Event::new(seq, NewEvent::alert(body), "s".into(), Timestamp(0))
    }

    fn take(consumer: &mut Consumer, head: Seq, limit: usize, now: Instant) -> Vec<Seq> {
        let mut taken = consumer.due(now, limit);
        consumer.again(&taken, now);
        while consumer.reach() < head && consumer.room() > 0 && taken.len() < limit {
            let seq = consumer.reach();
            if consumer.look_at(&event(seq), now) {
                taken.push(seq);
            }
        }
        taken
    }

    #[test]
    fn an_event_comes_again_only_after_its_deadline_or_when_it_is_given_back() {
        let now = Instant::now();
        let mut consumer = Consumer::new(record(100), now).unwrap();
        assert_eq!(take(&mut consumer, 9, 10, now), [1, 2, 4, 5, 7, 8]);
        assert_eq!(consumer.ack(&[2, 4, 3, 2]), Some(2));
        assert_eq!(take(&mut consumer, 9, 10, now), [] as [Seq; 0]);
        assert_eq!(consumer.nack(&[7, 2], now, Duration::ZERO), 1);
        assert_eq!(take(&mut consumer, 9, 10, now), [7]);
        assert_eq!(consumer.position(), 1);
        let later = now + Duration::from_secs(1);
        assert_eq!(take(&mut consumer, 9, 10, later), [1, 5, 7, 8]);
        assert_eq!(consumer.ack_below(8), 3);
        assert_eq!((consumer.position(), consumer.reach()), (8, 9));
    }

    #[test]
    fn no_more_is_in_hand_than_may_be() {
        let now = Instant::now();
        let mut consumer = Consumer::new(record(2), now).unwrap();
        assert_eq!(take(&mut consumer, 100, 10, now), [1, 2]);
        assert_eq!(take(&mut consumer, 100, 10, now), [] as [Seq; 0]);
        consumer.ack(&[1]);
        assert_eq!(take(&mut consumer, 100, 10, now), [4]);
    }

    #[test]
    fn what_was_handed_out_before_a_crash_can_be_acknowledged_after_it() {
        let now = Instant::now();
        let mut first = Consumer::new(record(100), now).unwrap();
        assert_eq!(take(&mut first, 9, 10, now), [1, 2, 4, 5, 7, 8]);
        // Nothing was stored.
        let mut second = Consumer::new(record(100), now).unwrap();
        assert_eq!(second.ack(&[4, 5]), Some(2));
        let mut third = Consumer::new(second.record(), now).unwrap();
        assert_eq!(take(&mut third, 9, 10, now), [1, 2, 7, 8]);
        assert_eq!(third.ack_below(9), 4);
        assert_eq!(third.record(), ConsumerRecord { reach: 9, ..record(100) });
        let unknown: Vec<Seq> = (100..=100 + IN_HAND_MAX as Seq).collect();
        assert_eq!(third.ack(&unknown), None);
    }

    #[test]
    fn a_page_s_end_never_passes_what_is_in_other_hands() {
        let now = Instant::now();
        let mut consumer = Consumer::new(record(100), now).unwrap();
        let (first, second) = (take(&mut consumer, 20, 3, now), take(&mut consumer, 20, 3, now));
        assert_eq!((first.as_slice(), second.as_slice()), (&[1, 2, 4][..], &[5, 7, 8][..]));
        assert_eq!((consumer.done_below(&first), consumer.done_below(&second)), (5, 1));
        assert_eq!(consumer.ack_below(consumer.done_below(&first)), 3);
        assert_eq!(consumer.done_below(&second), 9);
    }

    #[test]
    fn going_back_forgets_what_was_in_hand() {
        let now = Instant::now();
        let mut consumer = Consumer::new(record(100), now).unwrap();
        take(&mut consumer, 9, 10, now);
        consumer.seek(5);
        assert_eq!((consumer.in_hand(), consumer.position()), (0, 5));
        assert_eq!(take(&mut consumer, 9, 10, now), [5, 7, 8]);
    }

    proptest! {
        /// Any interleaving of handing out, acknowledging, giving back and crashing: all that
        /// matches comes, what is acknowledged never comes again, and each answer is in order.
        #[test]
        fn nothing_is_missed_and_nothing_acknowledged_comes_again(
            steps in proptest::collection::vec((0_u8..5, 0_usize..6), 1..80)
        ) {
            const HEAD: Seq = 40;
            let mut now = Instant::now();
            let mut consumer = Consumer::new(record(6), now).unwrap();
            let mut stored = consumer.record();
            let (mut hand, mut acked) = (BTreeSet::new(), BTreeSet::new());
            let mut run = |consumer: &mut Consumer, step: (u8, usize), now: &mut Instant,
                           hand: &mut BTreeSet<Seq>, acked: &mut BTreeSet<Seq>| {
                match step {
                    (0 | 1, n) => {
                        let taken = take(consumer, HEAD, n, *now);
                        assert!(taken.is_sorted());
                        for seq in taken {
                            assert!(!acked.contains(&seq) && !seq.is_multiple_of(3), "{seq} came again");
                            hand.insert(seq);
                        }
                    }
                    (2, n) => {
                        let some: Vec<Seq> = hand.iter().copied().skip(n).take(3).collect();
                        assert!(consumer.ack(&some).is_some());
                        stored = consumer.record();
                        for seq in some {
                            hand.remove(&seq);
                            acked.insert(seq);
                        }
                    }
                    (3, _) => *now += Duration::from_secs(1),
                    _ => *consumer = Consumer::new(stored.clone(), *now).unwrap(),
                }
            };
            for step in steps {
                run(&mut consumer, step, &mut now, &mut hand, &mut acked);
            }
            for _ in 0..HEAD {
                for step in [(3, 0), (0, 6), (2, 0), (2, 0)] {
                    run(&mut consumer, step, &mut now, &mut hand, &mut acked);
                }
            }
            let all: BTreeSet<Seq> = (1..HEAD).filter(|seq| !seq.is_multiple_of(3)).collect();
            prop_assert_eq!(acked, all);
        }
    }
}
