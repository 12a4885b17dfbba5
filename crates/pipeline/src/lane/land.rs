//! Landing flights: what an outcome means for the events and for the lane.

use holdfast_model::Chain;
use tokio::{
    task::{Id, JoinError},
    time::Instant,
};

use crate::{
    backoff,
    lane::{
        decide::{self, Answering, Decision, Now},
        flight::{Landing, Origin},
        flights::InFlight,
        health::Moment,
        run::Lane,
    },
    settlement::{self, Signal},
};

impl Lane {
    pub(super) fn land(&mut self, joined: Result<(Id, Landing), JoinError>) {
        match joined {
            Ok((task, landing)) => {
                self.flight_of_task.remove(&task);
                self.take_landing(landing);
            }
            // Only the end of the process cancels a flight. Its events are unsettled and come again.
            Err(error) if error.is_cancelled() => {}
            Err(error) => {
                let Some(number) = self.flight_of_task.remove(&error.id()) else { return };
                tracing::error!(lane = %self.config.name, %error, "an attempt ended without an answer");
                let events = self.flights.get(number).map(|flight| flight.events.clone());
                let at = self.clock.now();
                self.take_landing(Landing::crashed(number, events.unwrap_or_default(), at));
            }
        }
    }

    fn take_landing(&mut self, landing: Landing) {
        let at = self.moment();
        self.notices.landed(&landing);
        if landing.members.is_empty() {
            if let Some(flight) = self.flights.remove(landing.number) {
                self.came_back_empty(landing, flight, at);
            }
            return;
        }
        let Some(origin) = self.flights.get(landing.number).map(|flight| flight.origin.clone())
        else {
            return;
        };
        let dice = rand::random();
        let present = Now {
            wall: at.wall,
            active_ms: self.active_now(),
            dice,
            search_lag: self.search_lag,
            parked: self.health.state().is_parked(),
            dead_full: &|| self.dead_full(),
            answering: self.answering(),
        };
        let decision = decide::decide(&landing, &origin, &self.config.settings, &present);
        if decision.dead_waits {
            self.room_at = Some(at.now);
        }
        self.learn(&landing, &decision, dice, at);
        self.note_canaries(&landing, &decision, at);
        self.count(&decision, at);
        self.metrics.template_errors.inc_by(self.config.destination.take_template_errors());
        self.settling.waiting.extend(decision.settle);
        self.settling.landed.push(landing.number);
        self.flights.landed(landing.number);
    }

    /// Nothing was sent: the record is gone, cannot be read, or its own code panicked.
    fn came_back_empty(&mut self, landing: Landing, flight: InFlight, at: Moment) {
        let Origin::Retry(mut head) = flight.origin else { return };
        if let Some(error) = &landing.unreadable {
            tracing::error!(
                lane = %self.config.name, id = head.id, error = %Chain(error),
                "a retry record cannot be read"
            );
        } else if landing.failure.is_none() {
            tracing::info!(lane = %self.config.name, id = head.id, "a retry record is gone");
            return;
        }
        head.due = at.wall.saturating_add(self.config.settings.retry.max);
        self.retries.add(head);
    }

    /// What the outcome says about the lane.
    fn learn(&mut self, landing: &Landing, decision: &Decision, dice: f64, at: Moment) {
        let number = landing.number;
        self.health.pace.spend(landing.requests.saturating_sub(1));
        if decision.delivered.is_empty() {
            self.health.came_to_nothing(number, dice, at.now);
        } else {
            self.metrics.last_success.set(at.wall.seconds());
            self.condemned.extend(self.health.succeeded(number, at));
        }
        let tried = landing.members.first().map(|(event, _)| event.seq);
        if let Some(failure) = &landing.failure {
            self.metrics.last_failure.set(at.wall.seconds());
            self.last_error.clone_from(&failure.excerpt);
            let retry = &self.config.settings.retry;
            let schedule = backoff::wait(retry.initial, retry.max, landing.past.tries + 1, dice);
            let signal = settlement::signal(failure, retry.server_wait_max, schedule);
            self.health.failed(signal, &failure.excerpt, tried, dice, at);
            tracing::debug!(lane = %self.config.name, error = %failure.excerpt, "an attempt failed");
        } else if decision.item_throttled {
            self.health.failed(Signal::SlowDown, "", tried, dice, at);
        }
        let latest = self.next_flight - 1;
        for seq in &decision.forbidden {
            self.health.forbidden(*seq, number, latest, landing.forbidden_twice, at);
            self.check_asked = false;
        }
        // Where others were taken, it is not the setting that is wrong.
        if decision.delivered.is_empty() {
            for (seq, rule) in &decision.refused {
                let back = self.health.poisoned(*seq, rule.clone(), at);
                self.to_revive.extend(back);
            }
        }
    }

    fn count(&self, decision: &Decision, at: Moment) {
        self.metrics.delivered.inc_by(decision.delivered.len() as u64);
        for received_at in &decision.delivered {
            let latency = at.wall.since(*received_at);
            self.metrics.latency_seconds.observe(latency.as_secs_f64());
        }
        for reason in &decision.died {
            self.metrics.died(*reason);
        }
    }

    /// Of a lookup: how its answers enter the log.
    fn answering(&self) -> Option<Answering<'_>> {
        let source = self.answers_as.as_ref()?;
        Some(Answering { log: &self.craft.log_id, source })
    }

    pub(super) fn dead_full(&self) -> bool {
        self.engine.stats().bytes_dead >= self.config.dead_bytes_max
    }

    pub(super) fn moment(&self) -> Moment {
        Moment { wall: self.clock.now(), now: Instant::now() }
    }
}
