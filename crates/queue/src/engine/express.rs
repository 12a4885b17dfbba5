//! The express class of a lane: events at or above a level, with a position of their own.
//!
//! Every event is of one class, by its number and its level (see [`crate::is_express`]), so the two
//! classes are settled apart and neither repeats nor skips what is the other's. A level that
//! changes takes effect at the head: behind it every event keeps its class.
//!
//! The lane's ledger counts an express event when either class meets it first, and `ahead` is the
//! difference: settled express events less those that the other class has passed.

use holdfast_model::Seq;
use serde::{Deserialize, Serialize};

use crate::{
    engine::lane::{packed, unpacked},
    error::QueueError,
    spans::{Span, Spans},
    types::{BOUNDARIES_MAX, Boundary, ExpressOpen},
};

/// See the module header.
#[derive(Clone, Debug, Default)]
pub(crate) struct Express {
    pub(crate) spans: Spans,
    boundaries: Vec<Boundary>,
    pub(crate) ahead: i64,
}

/// As it is stored.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ExpressRecord {
    position: Seq,
    above: Vec<(u64, u64, u64)>,
    boundaries: Vec<Boundary>,
    ahead: i64,
}

impl Express {
    pub(crate) fn from_record(stored: ExpressRecord) -> Self {
        Self {
            spans: unpacked(stored.position, &stored.above),
            boundaries: stored.boundaries,
            ahead: stored.ahead,
        }
    }

    pub(crate) fn to_record(&self) -> ExpressRecord {
        ExpressRecord {
            position: self.spans.position(),
            above: packed(&self.spans),
            boundaries: self.boundaries.clone(),
            ahead: self.ahead,
        }
    }

    pub(crate) fn is_used(&self) -> bool {
        !self.boundaries.is_empty()
    }

    /// The position below which the log is not needed for this class; `None` when it needs nothing.
    pub(crate) fn holds(&self) -> Option<Seq> {
        let last = self.boundaries.last()?;
        let position = self.spans.position();
        // Without a level at the head nothing more can come, once all before it is settled.
        let over = last.level.is_none() && position >= last.from;
        (!over).then_some(position)
    }

    pub(crate) fn open(&self) -> ExpressOpen {
        ExpressOpen {
            position: self.spans.position(),
            settled: self.spans.above(),
            boundaries: self.boundaries.clone(),
        }
    }

    /// From the head on `level` holds. `lowest`: where the slower of the two classes stands.
    pub(crate) fn set_level(
        &mut self,
        level: Option<u16>,
        head: Seq,
        lowest: Seq,
    ) -> Result<(), QueueError> {
        if self.boundaries.last().and_then(|last| last.level) == level {
            return Ok(());
        }
        // Of those that both classes have passed only the last says anything.
        let passed = self.boundaries.partition_point(|boundary| boundary.from <= lowest);
        self.boundaries.drain(..passed.saturating_sub(1));
        if self.boundaries.len() >= BOUNDARIES_MAX {
            let (bytes, bytes_max) = (BOUNDARIES_MAX as u64 + 1, BOUNDARIES_MAX as u64);
            let what = "the list of levels that express_level had since the lane's position";
            return Err(QueueError::TooLarge { what, bytes, bytes_max });
        }
        if self.holds().is_none() {
            // Nothing before the head is of this class any more, or has to be settled for it.
            self.spans = Spans::new(head, &[]);
        }
        match self.boundaries.last_mut() {
            Some(last) if last.from == head => last.level = level,
            _ => self.boundaries.push(Boundary { from: head, level }),
        }
        Ok(())
    }

    /// Adds settled stretches. Answers the first that was settled before.
    pub(crate) fn settle(&mut self, spans: &[Span], passed: u64) -> Option<Span> {
        self.ahead -= passed as i64;
        let mut twice = None;
        for span in spans {
            if self.spans.add(*span) {
                self.ahead += span.count as i64;
            } else {
                twice = twice.or(Some(*span));
            }
        }
        twice
    }

    /// Everything up to the head is settled, in whatever way.
    pub(crate) fn end(&mut self, head: Seq) {
        if self.is_used() {
            self.spans = Spans::new(head, &[]);
        }
        self.ahead = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_takes_effect_at_the_head_and_old_ones_are_forgotten_when_passed() {
        let mut express = Express::default();
        express.set_level(None, 5, 1).unwrap();
        assert!(!express.is_used());
        express.set_level(Some(12), 10, 1).unwrap();
        assert_eq!((express.spans.position(), express.holds()), (10, Some(10)));
        express.set_level(Some(7), 20, 1).unwrap();
        express.set_level(Some(9), 20, 1).unwrap();
        let at = |from, level| Boundary { from, level };
        assert_eq!(express.open().boundaries, [at(10, Some(12)), at(20, Some(9))]);
        express.set_level(None, 40, 25).unwrap();
        assert_eq!(express.open().boundaries, [at(20, Some(9)), at(40, None)]);
        assert_eq!(express.holds(), Some(10), "what is behind it is still to be settled");
        assert_eq!(express.settle(&[Span { from: 10, to: 40, count: 2 }], 0), None);
        assert_eq!((express.holds(), express.ahead), (None, 2));
        express.set_level(Some(3), 90, 90).unwrap();
        assert_eq!(express.holds(), Some(90));
    }

    #[test]
    fn a_level_that_changes_too_often_is_refused() {
        let mut express = Express::default();
        for n in 0..BOUNDARIES_MAX as u64 {
            express.set_level(Some((n % 2) as u16 + 1), 10 + n, 1).unwrap();
        }
        assert!(express.set_level(Some(9), 1_000, 1).is_err());
        assert!(express.set_level(Some(9), 1_000, 900).is_ok());
    }
}
