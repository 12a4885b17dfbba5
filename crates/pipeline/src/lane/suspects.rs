//! Events that got a 403, waiting for the second request that decides. Pure.
//!
//! A 403 is either about the credentials or about one event's content. A later request with
//! another event tells: if it is taken, the credentials are good; if it is forbidden too, they
//! are not. Only a request that began after the 403 counts.

use holdfast_model::Seq;

/// See the module header.
#[derive(Debug, Default)]
pub(super) struct Suspects(Vec<Suspect>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Suspect {
    seq: Seq,
    /// Flights after this one decide.
    flight: u64,
}

impl Suspects {
    /// Notes a 403 of flight `flight`, while `latest` was the last that had begun. Says whether
    /// another event was forbidden before, which makes it the credentials' fault.
    pub(super) fn accuse(&mut self, seq: Seq, flight: u64, latest: u64) -> bool {
        let another = |suspect: &Suspect| suspect.seq != seq && suspect.flight < flight;
        if self.0.iter().any(another) {
            return true;
        }
        self.0.retain(|suspect| suspect.seq != seq);
        self.0.push(Suspect { seq, flight: latest });
        false
    }

    /// Flight `flight` was taken: takes out those that this decides.
    pub(super) fn decided_by(&mut self, flight: u64) -> Vec<Seq> {
        let decided = self.0.extract_if(.., |suspect| suspect.flight < flight);
        decided.map(|suspect| suspect.seq).collect()
    }

    pub(super) fn take_all(&mut self) -> Vec<Seq> {
        self.0.drain(..).map(|suspect| suspect.seq).collect()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn contains(&self, seq: Seq) -> bool {
        self.0.iter().any(|suspect| suspect.seq == seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_403_is_a_suspect_and_a_later_request_with_another_event_decides() {
        let mut suspects = Suspects::default();
        assert!(!suspects.accuse(5, 1, 3));
        assert_eq!(suspects.decided_by(3), [] as [Seq; 0], "it was under way before");
        assert_eq!(suspects.decided_by(4), [5]);
        assert!(suspects.is_empty());

        assert!(!suspects.accuse(5, 5, 5));
        assert!(suspects.accuse(6, 6, 6), "two different ones");
    }

    #[test]
    fn the_same_event_forbidden_twice_decides_nothing() {
        let mut suspects = Suspects::default();
        assert!(!suspects.accuse(5, 1, 1));
        assert!(!suspects.accuse(5, 2, 2));
        assert!(suspects.contains(5));
    }
}
