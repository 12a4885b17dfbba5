//! The settled set above a lane's position.
//!
//! Pure. Spans are kept apart and in order; neighbours are joined. A span counts the events in it,
//! because sequence numbers have gaps and are never subtracted for a count.

use std::collections::BTreeMap;

use holdfast_model::Seq;
use serde::{Deserialize, Serialize};

/// A stretch `from..to` of the log with `count` events in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    pub from: Seq,
    pub to: Seq,
    pub count: u64,
}

impl Span {
    /// A single event.
    pub fn one(seq: Seq) -> Self {
        Self { from: seq, to: seq + 1, count: 1 }
    }
}

/// Settled stretches, and the position below which everything is settled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spans {
    position: Seq,
    above: BTreeMap<Seq, (Seq, u64)>,
    /// Events in `above`.
    count: u64,
}

impl Spans {
    pub fn new(position: Seq, above: &[Span]) -> Self {
        let mut spans = Self { position, above: BTreeMap::new(), count: 0 };
        for span in above {
            spans.add(*span);
        }
        spans
    }

    pub fn position(&self) -> Seq {
        self.position
    }

    /// Adds a settled stretch, and moves the position over what has become whole.
    ///
    /// A stretch that is settled already, wholly or in part, is refused with `false`: counting it
    /// twice would break the ledger, so the caller must know.
    pub fn add(&mut self, span: Span) -> bool {
        if span.from >= span.to {
            return span.count == 0;
        }
        if span.from < self.position || self.overlaps(span.from, span.to) {
            return false;
        }
        self.count += span.count;
        let (mut from, mut to, mut count) = (span.from, span.to, span.count);
        if let Some((&before, &(end, events))) = self.above.range(..from).next_back()
            && end == from
        {
            self.above.remove(&before);
            (from, count) = (before, count + events);
        }
        if let Some((end, events)) = self.above.remove(&to) {
            (to, count) = (end, count + events);
        }
        if from == self.position {
            self.position = to;
            self.count -= count;
        } else {
            self.above.insert(from, (to, count));
        }
        true
    }

    fn overlaps(&self, from: Seq, to: Seq) -> bool {
        self.above.range(..to).next_back().is_some_and(|(_, (end, _))| *end > from)
    }

    pub fn contains(&self, seq: Seq) -> bool {
        seq < self.position || self.overlaps(seq, seq + 1)
    }

    /// Events in the stretches above the position.
    pub fn count_above(&self) -> u64 {
        self.count
    }

    /// How many stretches there are above the position.
    pub(crate) fn len(&self) -> usize {
        self.above.len()
    }

    /// What `from..to` still lacks to be settled: its parts that are above the position and in no
    /// stretch, in order.
    pub fn missing(&self, from: Seq, to: Seq) -> Vec<(Seq, Seq)> {
        let mut at = from.max(self.position);
        let mut missing = Vec::new();
        let before = self.above.range(..at).next_back();
        for (&begin, &(end, _)) in before.into_iter().chain(self.above.range(at..)) {
            if begin >= to {
                break;
            }
            if begin > at {
                missing.push((at, begin));
            }
            at = at.max(end);
        }
        if at < to {
            missing.push((at, to));
        }
        missing
    }

    /// From the position to the end of the last settled stretch.
    pub fn reach(&self) -> u64 {
        self.above.values().next_back().map_or(0, |(end, _)| end - self.position)
    }

    pub fn above(&self) -> Vec<Span> {
        self.above.iter().map(|(&from, &(to, count))| Span { from, to, count }).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_stretch_is_not_counted_twice() {
        let mut spans = Spans::new(10, &[]);
        assert!(spans.add(Span { from: 12, to: 14, count: 2 }));
        assert!(!spans.add(Span { from: 13, to: 15, count: 2 }));
        assert!(!spans.add(Span { from: 9, to: 11, count: 2 }));
        assert!(spans.add(Span { from: 10, to: 12, count: 2 }));
        assert_eq!((spans.position(), spans.count_above()), (14, 0));
    }

    proptest! {
        /// The same single settlements, in any order, against a plain set of numbers.
        #[test]
        fn spans_agree_with_a_set(seqs in proptest::collection::vec(0_u64..60, 0..80)) {
            let mut spans = Spans::new(0, &[]);
            let mut set = BTreeSet::new();
            for seq in seqs {
                prop_assert_eq!(spans.add(Span::one(seq)), set.insert(seq));
                let position = (0..).find(|n| !set.contains(n)).unwrap_or(0);
                prop_assert_eq!(spans.position(), position);
                let above = set.iter().filter(|n| **n >= position).count() as u64;
                prop_assert_eq!(spans.count_above(), above);
                for n in 0..61 {
                    prop_assert_eq!(spans.contains(n), set.contains(&n));
                }
                prop_assert_eq!(&Spans::new(spans.position(), &spans.above()), &spans);
                let missing: Vec<Seq> =
                    spans.missing(5, 50).into_iter().flat_map(|(from, to)| from..to).collect();
                let absent: Vec<Seq> = (5..50).filter(|n| !set.contains(n)).collect();
                prop_assert_eq!(missing, absent);
            }
        }
    }
}
