//! When a lane that may not send tries one event, to find out. Pure; time is an argument.

use holdfast_model::Seq;
use tokio::time::Instant;

use crate::{backoff, settings::RetrySettings};

/// See the module header.
#[derive(Debug)]
pub(super) struct Probes {
    retry: RetrySettings,
    /// Probes since the breaker opened.
    count: u32,
    at: Instant,
    /// The flight that is, or was last, the probe. Older flights prove nothing.
    flight: Option<u64>,
    /// The event of the last probe, or of the failure that made probes necessary.
    last_tried: Option<Seq>,
}

impl Probes {
    pub(super) fn new(retry: RetrySettings, now: Instant) -> Self {
        Self { retry, count: 0, at: now, flight: None, last_tried: None }
    }

    /// When the next is due.
    pub(super) fn at(&self) -> Instant {
        self.at
    }

    /// The event that the next probe should not try, while there is another.
    pub(super) fn last_tried(&self) -> Option<Seq> {
        self.last_tried
    }

    pub(super) fn is(&self, flight: u64) -> bool {
        self.flight == Some(flight)
    }

    /// The breaker has opened over `tried`: probes follow the retry schedule.
    pub(super) fn begin(&mut self, tried: Option<Seq>, dice: f64, now: Instant) {
        (self.count, self.flight, self.last_tried) = (0, None, tried);
        self.missed(dice, now);
    }

    /// A person must act: probes are rare.
    pub(super) fn begin_parked(&mut self, now: Instant) {
        self.flight = None;
        self.at = now + self.retry.max;
    }

    /// A probe has started: another one only when this one has ended, or much later.
    pub(super) fn started(&mut self, seq: Seq, flight: u64, now: Instant) {
        (self.flight, self.last_tried) = (Some(flight), Some(seq));
        self.at = now + self.retry.max;
    }

    /// A probe of an open breaker has failed.
    pub(super) fn missed(&mut self, dice: f64, now: Instant) {
        self.count = self.count.saturating_add(1);
        self.at = now + backoff::wait(self.retry.initial, self.retry.max, self.count, dice);
    }

    pub(super) fn not_before(&mut self, at: Instant) {
        self.at = self.at.max(at);
    }

    pub(super) fn due(&mut self, now: Instant) {
        self.at = now;
    }

    pub(super) fn end(&mut self) {
        (self.count, self.last_tried) = (0, None);
    }
}
