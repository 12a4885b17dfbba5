//! What people, and jobs, tell a lane; and its secrets, which people change.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use holdfast_model::{Chain, LaneState};
use holdfast_queue::{QueueError, Settle};
use tokio::time::Instant;

use crate::lane::{
    Command,
    run::{Lane, soonest},
};

impl Lane {
    pub(super) async fn obey(&mut self, order: Command) -> Result<(), QueueError> {
        let at = self.moment();
        self.notices.ordered();
        let done = match order {
            Command::Pause { by, done } => {
                self.health.pause(&by, at.wall);
                done
            }
            Command::Resume { done } => {
                self.health.resume(at);
                done
            }
            Command::RetryNow { done } => {
                self.retries.due_now(at.wall);
                self.health.try_now(at.now);
                done
            }
            Command::TryNow { done } => {
                self.health.try_now(at.now);
                done
            }
            Command::ExpireTo(to) => {
                self.expire_to(to);
                return Ok(());
            }
            Command::Lend { reply } => {
                self.loans.ask(reply);
                self.advance().await?;
                return Ok(());
            }
            Command::Revived { heads, done } => {
                heads.into_iter().for_each(|head| self.retries.add(head));
                done
            }
        };
        // Whoever asked is answered when it has taken effect, and is stored.
        self.advance().await?;
        done.send(()).ok();
        Ok(())
    }

    pub(super) fn refresh_secrets(&mut self, wake: &mut Option<Instant>) {
        let now = Instant::now();
        let Some(at) = self.health.secrets_at() else { return };
        if now < at {
            return soonest(wake, Some(at));
        }
        let destination = &self.config.destination;
        let changed = match catch_unwind(AssertUnwindSafe(|| destination.refresh_secrets())) {
            Ok(Ok(changed)) => changed,
            Ok(Err(error)) => {
                let error = Chain(error.as_ref()).to_string();
                tracing::warn!(lane = %self.config.name, %error, "cannot read the lane's secrets anew");
                false
            }
            Err(_) => {
                tracing::error!(lane = %self.config.name, "the destination's code panicked");
                false
            }
        };
        self.health.secrets_read(changed, now);
        soonest(wake, self.health.secrets_at());
    }

    /// The lane's own clock, by which events age.
    pub(super) fn active_now(&self) -> u64 {
        let running = self.active_since.map_or(Duration::ZERO, |since| since.elapsed());
        self.active_ms + u64::try_from(running.as_millis()).unwrap_or(0)
    }

    /// Runs the lane's own clock while the lane is active.
    pub(super) fn keep_time(&mut self) {
        match (self.health.is_active(), self.active_since) {
            (true, None) => self.active_since = Some(Instant::now()),
            (false, Some(_)) => {
                let now = self.active_now();
                let active = Duration::from_millis(now - self.active_ms);
                (self.active_ms, self.active_since) = (now, None);
                self.settling.waiting.push(Settle { active, ..Settle::default() });
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    pub(super) fn report_state(&self) {
        let state = &self.health.stored;
        let (lane, to, reason) = (&self.config.name, state.state.as_str(), &state.reason);
        match state.state {
            LaneState::Active => tracing::info!(%lane, "the lane is active again"),
            LaneState::AuthFailed | LaneState::ConfigFailed => {
                tracing::error!(%lane, state = to, reason, "the lane is parked; a person must act");
            }
            LaneState::Throttled { .. }
            | LaneState::Open
            | LaneState::BackedUp
            | LaneState::Paused => {
                tracing::warn!(%lane, state = to, reason, "the lane changed its state");
            }
        }
    }

    pub(super) fn show(&self) {
        self.metrics.in_flight(self.flights.events());
        let mut view = self.view.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if view.state != self.health.stored {
            view.state = self.health.stored.clone();
        }
        view.read_to = self.normal.reader.cursor();
        view.in_flight = self.flights.events() as u64;
        view.held = self.normal.reader.held();
        view.retrying = self.retries.members();
        view.retry_oldest = self.retries.oldest();
        view.next_retry = self.retries.next_due();
        view.concurrency = self.health.concurrency() as u32;
        view.failures_in_row = self.health.failures_in_row();
        view.canary_ended = self.canary_ended;
        if view.last_error != self.last_error {
            view.last_error.clone_from(&self.last_error);
        }
    }
}
