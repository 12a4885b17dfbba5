//! What a lane tells the operator about itself, and what it must not.
//!
//! The guard against loops: a lane that carries operator events may fail with them, and an event
//! about that would be the next to fail. So a change of state counts for nothing while the last
//! attempt that ended carried operator events alone.

use holdfast_model::{Kind, LaneState};
use holdfast_queue::StoredState;

use crate::{
    lane::{flight::Landing, run::Lane},
    operator::{Happening, Notice, Operator},
};

/// See the module header.
#[derive(Debug, Default)]
pub(super) struct Notices {
    pub(super) operator: Operator,
    /// The last attempt that ended carried operator events alone.
    only_operator: bool,
    /// A person knows, or knew before this run, that the lane does not work.
    trouble_told: bool,
}

impl Notices {
    pub(super) fn new(operator: Operator, stored: &StoredState) -> Self {
        Self { operator, only_operator: false, trouble_told: is_trouble(stored.state) }
    }

    pub(super) fn landed(&mut self, landing: &Landing) {
        let kinds = || landing.members.iter().map(|(event, _)| event.kind);
        if kinds().next().is_some() {
            self.only_operator = kinds().all(|kind| kind == Kind::Operator);
        }
    }

    /// A person, or the set-up, is the cause of what comes next.
    pub(super) fn ordered(&mut self) {
        self.only_operator = false;
    }

    /// What is to be told of this state.
    fn notice(&mut self, lane: &str, stored: &StoredState) -> Option<Notice> {
        let trouble = is_trouble(stored.state);
        let recovers = stored.state == LaneState::Active && self.trouble_told;
        if self.only_operator || !(trouble || recovers) {
            return None;
        }
        self.trouble_told = trouble;
        let (level, what) = match stored.state {
            LaneState::AuthFailed => (12, "is parked: its credentials were refused"),
            LaneState::ConfigFailed => (12, "is parked: a setting is wrong"),
            LaneState::Open => (10, "does not reach its destination"),
            LaneState::BackedUp => (10, "is backed up"),
            LaneState::Paused => (7, "is paused"),
            LaneState::Active | LaneState::Throttled { .. } => (3, "works again"),
        };
        Some(Notice {
            happening: Happening::Lane,
            subject: lane.to_owned(),
            state: stored.state.as_str(),
            level,
            text: format!("Holdfast: the lane {lane} {what}"),
            reason: stored.reason.clone(),
        })
    }
}

/// States that a person hears of. A throttle is a vendor's everyday word.
fn is_trouble(state: LaneState) -> bool {
    match state {
        LaneState::AuthFailed | LaneState::ConfigFailed | LaneState::Open => true,
        LaneState::BackedUp | LaneState::Paused => true,
        LaneState::Active | LaneState::Throttled { .. } => false,
    }
}

impl Lane {
    pub(super) fn tell_state(&mut self) {
        let notice = self.notices.notice(self.config.name.as_str(), &self.health.stored);
        if let Some(notice) = notice {
            self.notices.operator.tell(notice);
        }
    }
}

#[cfg(test)]
mod tests {
    use holdfast_model::Timestamp;

    use super::*;

    fn stored(state: LaneState) -> StoredState {
        StoredState { state, reason: "503".into(), since: Timestamp(0) }
    }

    fn told(notices: &mut Notices, state: LaneState) -> Option<&'static str> {
        notices.notice("siem", &stored(state)).map(|notice| notice.state)
    }

    #[test]
    fn trouble_and_its_end_are_told_and_nothing_else() {
        let mut notices = Notices::default();
        assert_eq!(told(&mut notices, LaneState::Active), None);
        assert_eq!(told(&mut notices, LaneState::Open), Some("open"));
        assert_eq!(told(&mut notices, LaneState::Throttled { until: Timestamp(9) }), None);
        assert_eq!(told(&mut notices, LaneState::Active), Some("active"));
        assert_eq!(told(&mut notices, LaneState::Active), None);
        let mut after_a_restart = Notices::new(Operator::silent(), &stored(LaneState::AuthFailed));
        assert_eq!(told(&mut after_a_restart, LaneState::Active), Some("active"));
    }

    #[test]
    fn a_lane_that_fails_with_operator_events_alone_tells_nothing_of_it() {
        let mut notices = Notices { only_operator: true, ..Notices::default() };
        assert_eq!(told(&mut notices, LaneState::Open), None);
        assert_eq!(told(&mut notices, LaneState::Active), None);
        notices.ordered();
        assert_eq!(told(&mut notices, LaneState::Paused), Some("paused"));
    }
}
