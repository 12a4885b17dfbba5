//! A lane's order and its express class, as the queue keeps them.

use holdfast_model::Seq;
use serde::{Deserialize, Serialize};

use crate::spans::Span;

/// Most boundaries of one lane: a level that changes more often takes effect once the lane has
/// passed an older one.
pub const BOUNDARIES_MAX: usize = 64;

/// Places in a lane's order. Two events that share one must not overtake each other; an event
/// without any may be sent whenever there is time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Slots(pub u128);

/// From this number on, events at or above the level are the express class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boundary {
    pub from: Seq,
    /// `None`: there is no express class.
    pub level: Option<u16>,
}

/// Where the express class of a lane stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpressOpen {
    /// Every express event below is settled.
    pub position: Seq,
    /// What is settled above, counting express events alone.
    pub settled: Vec<Span>,
    /// In order; empty when the lane never had an express class.
    pub boundaries: Vec<Boundary>,
}

// === impl Slots ===

impl Slots {
    pub const NONE: Self = Self(0);
    pub const ALL: Self = Self(u128::MAX);

    pub fn overlaps(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

// === impl ExpressOpen ===

impl ExpressOpen {
    /// The level that holds at the head.
    pub fn level(&self) -> Option<u16> {
        self.boundaries.last().and_then(|boundary| boundary.level)
    }
}

/// Whether an event is of the express class. An event without a level never is.
pub fn is_express(boundaries: &[Boundary], seq: Seq, level: Option<u16>) -> bool {
    let behind = boundaries.partition_point(|boundary| boundary.from <= seq);
    let holds = behind.checked_sub(1).and_then(|last| boundaries[last].level);
    holds.zip(level).is_some_and(|(from, level)| level >= from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_boundary_at_or_before_an_event_decides() {
        let at = |from, level| Boundary { from, level };
        let boundaries = [at(10, Some(12)), at(20, None), at(30, Some(7))];
        let is = |seq, level| is_express(&boundaries, seq, level);
        assert!(!is(9, Some(15)), "before the first");
        assert!(is(10, Some(12)) && !is(10, Some(11)) && is(19, Some(13)));
        assert!(!is(20, Some(15)) && is(30, Some(7)) && !is(31, None));
        assert!(!is_express(&[], 5, Some(16)));
    }
}
