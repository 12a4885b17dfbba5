//! When a lane stops trying for a while. Pure: time is an argument.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// Least attempts in the window before their ratio counts.
const WINDOW_ATTEMPTS_MIN: usize = 20;
/// Most attempts that the window remembers.
const WINDOW_ATTEMPTS_MAX: usize = 1_000;

/// `breaker = { failures, ratio, window }`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerSettings {
    pub failures: u32,
    pub ratio: f64,
    pub window: Duration,
}

/// Counts attempts; says when to open.
#[derive(Debug)]
pub struct Breaker {
    settings: BreakerSettings,
    in_row: u32,
    recent: VecDeque<(Instant, bool)>,
}

impl Breaker {
    pub fn new(settings: BreakerSettings) -> Self {
        Self { settings, in_row: 0, recent: VecDeque::new() }
    }

    /// Failures since the last success.
    pub fn failures_in_row(&self) -> u32 {
        self.in_row
    }

    pub fn succeeded(&mut self, now: Instant) {
        self.in_row = 0;
        self.note(now, true);
    }

    /// Says whether the breaker must open now.
    pub fn failed(&mut self, now: Instant) -> bool {
        self.in_row = self.in_row.saturating_add(1);
        self.note(now, false);
        let failed = self.recent.iter().filter(|(_, ok)| !ok).count();
        let enough = self.recent.len() >= WINDOW_ATTEMPTS_MIN;
        let ratio = failed as f64 / self.recent.len().max(1) as f64;
        self.in_row >= self.settings.failures || (enough && ratio >= self.settings.ratio)
    }

    /// Forgets the past: after the lane has recovered, old failures must not open it again.
    pub fn reset(&mut self) {
        self.in_row = 0;
        self.recent.clear();
    }

    fn note(&mut self, now: Instant, ok: bool) {
        let expired = |at: Instant| now.duration_since(at) > self.settings.window;
        while self.recent.len() >= WINDOW_ATTEMPTS_MAX
            || self.recent.front().is_some_and(|(at, _)| expired(*at))
        {
            self.recent.pop_front();
        }
        self.recent.push_back((now, ok));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: BreakerSettings =
        BreakerSettings { failures: 5, ratio: 0.5, window: Duration::from_secs(30) };

    #[test]
    fn five_failures_in_a_row_open_it_and_a_success_between_does_not() {
        let (mut breaker, now) = (Breaker::new(SETTINGS), Instant::now());
        let opened: Vec<bool> = (0..5).map(|_| breaker.failed(now)).collect();
        assert_eq!(opened, [false, false, false, false, true]);
        breaker.reset();
        for _ in 0..4 {
            assert!(!breaker.failed(now));
        }
        breaker.succeeded(now);
        assert!(!breaker.failed(now));
    }

    #[test]
    fn half_of_twenty_within_the_window_open_it() {
        let (mut breaker, now) = (Breaker::new(SETTINGS), Instant::now());
        for n in 1..=10 {
            breaker.succeeded(now);
            assert_eq!(breaker.failed(now), n == 10, "pair {n}");
        }
        let mut breaker = Breaker::new(SETTINGS);
        for n in 0..20 {
            let later = now + SETTINGS.window * n;
            breaker.succeeded(later);
            assert!(!breaker.failed(later), "never twenty within one window");
        }
    }
}
