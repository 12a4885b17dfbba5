//! A lane's state: when it may send, and what an outcome does to that. No I/O; time is an argument.
//!
//! A pause by a person outlasts everything else. A parked lane (`auth_failed`, `config_failed`)
//! and an open breaker send one event at a time, by the schedule, until one of them succeeds.

mod blame;

use std::time::Duration;

use holdfast_model::{LaneState, Seq, Timestamp};
use holdfast_queue::StoredState;
use tokio::time::Instant;

use crate::{
    breaker::Breaker,
    lane::{poisons::Poisons, probes::Probes, suspects::Suspects},
    pace::Pace,
    settings::LaneSettings,
    settlement::Signal,
};

/// How often secrets in files are read anew while their lane is `auth_failed`.
const SECRETS_EVERY: Duration = Duration::from_secs(60);

/// What the lane may do now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mode {
    Send,
    /// One event, to find out.
    Probe,
    /// Nothing, until then; `None`: until something happens.
    Wait(Option<Instant>),
}

/// The moment of an outcome: wall time for what is stored, the other for waiting.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) wall: Timestamp,
    pub(super) now: Instant,
}

/// See the module header.
pub(super) struct Health {
    pub(super) stored: StoredState,
    /// The state must be stored.
    pub(super) changed: bool,
    pub(super) pace: Pace,
    pub(super) suspects: Suspects,
    poisons: Poisons,
    breaker: Breaker,
    server_wait_max: Duration,
    /// The remote system's word, which holds whatever else happens to the lane.
    quiet_until: Timestamp,
    pub(super) probes: Probes,
    secrets_at: Instant,
}

impl Health {
    pub(super) fn new(stored: StoredState, settings: &LaneSettings, now: Instant) -> Self {
        let mut health = Self {
            stored,
            changed: false,
            pace: Pace::new(settings.rate, settings.concurrency, now),
            suspects: Suspects::default(),
            poisons: Poisons::new(settings.poison_limit),
            breaker: Breaker::new(settings.breaker),
            server_wait_max: settings.retry.server_wait_max,
            quiet_until: Timestamp(0),
            probes: Probes::new(settings.retry, now),
            secrets_at: now,
        };
        // What kept it from sending may be over; a restart finds out with one event. Only a
        // person's pause and a server's wait are kept as they are.
        match health.stored.state {
            LaneState::Active | LaneState::Paused => {}
            LaneState::Throttled { until } => health.quiet_until = until,
            LaneState::BackedUp => {
                let since = health.stored.since;
                health.set(LaneState::Active, "", since);
            }
            LaneState::Open | LaneState::AuthFailed | LaneState::ConfigFailed => {}
        }
        health
    }

    pub(super) fn state(&self) -> LaneState {
        self.stored.state
    }

    pub(super) fn failures_in_row(&self) -> u32 {
        self.breaker.failures_in_row()
    }

    /// Ages events, and reads the log.
    pub(super) fn is_active(&self) -> bool {
        self.state() == LaneState::Active
    }

    fn set(&mut self, state: LaneState, reason: impl Into<String>, wall: Timestamp) {
        if self.stored.state != state {
            self.stored = StoredState { state, reason: reason.into(), since: wall };
            self.changed = true;
        }
    }

    /// Nothing of its own keeps the lane from sending; the remote system's word still may.
    fn activate(&mut self, wall: Timestamp) {
        if self.quiet_until > wall {
            let state = LaneState::Throttled { until: self.quiet_until };
            self.set(state, "the destination asked to wait", wall);
        } else {
            self.set(LaneState::Active, "", wall);
        }
    }

    pub(super) fn mode(&mut self, in_flight: usize, at: Moment) -> Mode {
        match self.state() {
            LaneState::Paused => Mode::Wait(None),
            LaneState::Throttled { until } => {
                // After a jump of the clock nothing waits longer than the server could have said.
                let until = until.min(at.wall.saturating_add(self.server_wait_max));
                self.quiet_until = until;
                self.activate(at.wall);
                if self.state() != LaneState::Active {
                    return Mode::Wait(Some(at.now + until.since(at.wall)));
                }
                self.pace.begin_ramp(at.now);
                Mode::Send
            }
            LaneState::Open | LaneState::AuthFailed | LaneState::ConfigFailed => {
                if in_flight > 0 {
                    Mode::Wait(None)
                } else if at.now >= self.probes.at() {
                    Mode::Probe
                } else {
                    Mode::Wait(Some(self.probes.at()))
                }
            }
            LaneState::Active | LaneState::BackedUp => Mode::Send,
        }
    }

    /// How many flights may be under way.
    pub(super) fn concurrency(&self) -> usize {
        // While a 403 is undecided, one event after the other.
        if self.suspects.is_empty() { self.pace.concurrency() as usize } else { 1 }
    }

    /// A flight ended without anything taken.
    pub(super) fn came_to_nothing(&mut self, flight: u64, dice: f64, now: Instant) {
        if self.state() == LaneState::Open && self.probes.is(flight) {
            self.probes.missed(dice, now);
        }
    }

    /// When secrets are to be read anew, while that may help.
    pub(super) fn secrets_at(&self) -> Option<Instant> {
        (self.state() == LaneState::AuthFailed).then_some(self.secrets_at)
    }

    pub(super) fn secrets_read(&mut self, changed: bool, now: Instant) {
        self.secrets_at = now + SECRETS_EVERY;
        if changed {
            self.probes.due(now);
        }
    }

    /// An event was taken. Answers the suspects that this clears up: the credentials are good, so
    /// the 403 was about them.
    pub(super) fn succeeded(&mut self, flight: u64, at: Moment) -> Vec<Seq> {
        self.breaker.succeeded(at.now);
        self.pace.succeeded(at.now);
        self.poisons.clear();
        match self.state() {
            // What began before the trouble did says nothing about its end.
            LaneState::Open | LaneState::AuthFailed | LaneState::ConfigFailed
                if self.probes.is(flight) =>
            {
                self.activate(at.wall);
                self.breaker.reset();
                self.probes.end();
                self.pace.begin_ramp(at.now);
            }
            LaneState::Open | LaneState::AuthFailed | LaneState::ConfigFailed => {}
            LaneState::Active | LaneState::Paused | LaneState::BackedUp => {}
            LaneState::Throttled { .. } => {}
        }
        self.suspects.decided_by(flight)
    }

    /// A request failed for a cause that is not one event's. `tried` names what it carried.
    pub(super) fn failed(
        &mut self,
        signal: Signal,
        reason: &str,
        tried: Option<Seq>,
        dice: f64,
        at: Moment,
    ) {
        match signal {
            Signal::Healthy | Signal::Poison | Signal::Forbidden => {}
            Signal::SlowDown => self.pace.halve(at.now),
            Signal::Throttled(wait) => self.throttled(wait, reason, at),
            Signal::Failing => {
                let must_open = self.breaker.failed(at.now);
                if must_open && matches!(self.state(), LaneState::Active | LaneState::BackedUp) {
                    self.set(LaneState::Open, reason, at.wall);
                    self.probes.begin(tried, dice, at.now);
                }
            }
            Signal::BadCredential => self.park(LaneState::AuthFailed, reason, at),
            Signal::BadSetting => self.park(LaneState::ConfigFailed, reason, at),
        }
    }

    fn throttled(&mut self, wait: Duration, reason: &str, at: Moment) {
        // Answers to concurrent requests: the longest wait is the one to keep.
        self.quiet_until = self.quiet_until.max(at.wall.saturating_add(wait));
        match self.state() {
            LaneState::Active
            | LaneState::BackedUp
            | LaneState::Open
            | LaneState::Throttled { .. } => {
                self.set(LaneState::Throttled { until: self.quiet_until }, reason, at.wall);
            }
            LaneState::AuthFailed | LaneState::ConfigFailed => {
                self.probes.not_before(at.now + wait);
            }
            LaneState::Paused => {}
        }
    }

    /// A person must act; one event every `retry.max` finds out whether they have.
    fn park(&mut self, state: LaneState, reason: &str, at: Moment) {
        if self.state() != LaneState::Paused && self.state() != state {
            self.set(state, reason, at.wall);
            self.probes.begin_parked(at.now);
            // They may have been changed already: a rotated token shows first as a 401.
            self.secrets_at = at.now;
        }
        self.suspects.clear();
    }

    /// There is no room for more that waits.
    pub(super) fn backed_up(&mut self, reason: &str, wall: Timestamp) {
        if self.state() == LaneState::Active {
            self.set(LaneState::BackedUp, reason, wall);
        }
    }

    pub(super) fn room_again(&mut self, wall: Timestamp) {
        if self.state() == LaneState::BackedUp {
            self.activate(wall);
        }
    }

    pub(super) fn pause(&mut self, by: &str, wall: Timestamp) {
        self.set(LaneState::Paused, format!("paused by {by}"), wall);
    }

    /// Goes on: a pause ends, a parked or open lane tries at once.
    pub(super) fn resume(&mut self, at: Moment) {
        if self.state() == LaneState::Paused {
            self.activate(at.wall);
        }
        self.try_now(at.now);
    }

    pub(super) fn try_now(&mut self, now: Instant) {
        self.probes.due(now);
        self.secrets_at = now;
    }
}

#[cfg(test)]
mod tests;
