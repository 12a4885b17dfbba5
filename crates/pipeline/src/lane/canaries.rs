//! What became of this lane's canaries.

use holdfast_model::{Kind, Seq};

use crate::{
    lane::{decide::Decision, flight::Landing, health::Moment, run::Lane},
    settlement::Outcome,
};

impl Lane {
    /// A canary has ended when it was taken, or is dead: the next may go then. One that waits for
    /// a retry has not.
    pub(super) fn note_canaries(&mut self, landing: &Landing, decision: &Decision, at: Moment) {
        for (event, outcome) in &landing.members {
            if event.kind != Kind::Canary {
                continue;
            }
            if let Outcome::Delivered(_) = outcome {
                let latency = at.wall.since(event.received_at);
                self.metrics.canary_seconds.observe(latency.as_secs_f64());
                self.metrics.canary_last_success.set(at.wall.seconds());
                self.canary_ended = self.canary_ended.max(event.seq);
            }
        }
        let dead = decision.settle.iter().flat_map(|settle| &settle.dead);
        let dead = dead.map(|letter| &letter.event).filter(|event| event.kind == Kind::Canary);
        self.canary_ended = dead.map(|event| event.seq).fold(self.canary_ended, Seq::max);
    }
}
