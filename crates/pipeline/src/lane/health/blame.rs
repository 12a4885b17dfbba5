//! Whose fault a refusal is: the event's, the credentials', or a setting's.

use holdfast_model::{LaneState, Seq};

use super::{Health, Moment};

impl Health {
    /// An event got a 403 and nothing with it was taken. Two different ones in a row are about the
    /// credentials; `twice`: the same flight has seen another one.
    pub(in crate::lane) fn forbidden(
        &mut self,
        seq: Seq,
        flight: u64,
        latest: u64,
        twice: bool,
        at: Moment,
    ) {
        if self.state() == LaneState::AuthFailed {
            return;
        }
        if self.suspects.accuse(seq, flight, latest) || twice {
            self.park(LaneState::AuthFailed, "two different events were forbidden (403)", at);
        }
    }

    /// The check call decided instead of a second event. Answers the suspects that are dead.
    pub(in crate::lane) fn checked(&mut self, passed: bool, at: Moment) -> Vec<Seq> {
        if passed {
            return self.suspects.take_all();
        }
        self.park(LaneState::AuthFailed, "the check call was refused", at);
        Vec::new()
    }

    /// An event was refused for good, and nothing with it was taken. Answers those events that go
    /// back to pending, because the setting is wrong and not they.
    pub(in crate::lane) fn poisoned(
        &mut self,
        seq: Seq,
        rule: Option<Box<str>>,
        at: Moment,
    ) -> Vec<Seq> {
        if self.state() == LaneState::ConfigFailed {
            return vec![seq];
        }
        let Some(back) = self.poisons.add(seq, rule) else { return Vec::new() };
        let reason = format!("{} events in a row were refused; a setting is wrong", back.len());
        self.park(LaneState::ConfigFailed, &reason, at);
        back
    }
}
