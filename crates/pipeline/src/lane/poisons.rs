//! Permanent errors in a row: when it is the setting that is wrong, and not the events. Pure.

use std::collections::{HashSet, VecDeque};

use holdfast_model::Seq;

/// Rules over which the limit must be reached, so that one bad rule does not park the lane.
const RULES_MIN: usize = 3;
/// How many times the limit is remembered: one bad rule's alerts must not fill the memory.
const REMEMBERED_LIMITS: usize = 4;

/// See the module header.
#[derive(Debug)]
pub(super) struct Poisons {
    limit: usize,
    /// Event and rule of each, oldest first.
    in_row: VecDeque<(Seq, Option<Box<str>>)>,
}

impl Poisons {
    pub(super) fn new(limit: u32) -> Self {
        Self { limit: limit as usize, in_row: VecDeque::new() }
    }

    /// An event was refused for good. When that makes the limit, answers those that were refused
    /// for nothing.
    pub(super) fn add(&mut self, seq: Seq, rule: Option<Box<str>>) -> Option<Vec<Seq>> {
        self.in_row.push_back((seq, rule));
        if self.in_row.len() > REMEMBERED_LIMITS * self.limit {
            self.in_row.pop_front();
        }
        let rules: HashSet<_> = self.in_row.iter().map(|(_, rule)| rule).collect();
        let enough = self.in_row.len() >= self.limit && rules.len() >= RULES_MIN;
        enough.then(|| self.in_row.drain(..).map(|(seq, _)| seq).collect())
    }

    /// An event was taken.
    pub(super) fn clear(&mut self) {
        self.in_row.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_refusals_over_three_rules_are_the_settings_fault_and_one_rule_is_not() {
        let mut poisons = Poisons::new(10);
        assert!((0..500).all(|seq| poisons.add(seq, Some("1".into())).is_none()));
        assert_eq!(poisons.in_row.len(), 40);
        poisons.clear();
        let rule = |seq: Seq| Some(format!("{}", seq % 3).into());
        let back: Vec<_> = (0..10).map(|seq| poisons.add(seq, rule(seq))).collect();
        assert_eq!(back[9], Some((0..10).collect()));
        assert!(back[..9].iter().all(Option::is_none));
        assert!(poisons.in_row.is_empty());
    }
}
