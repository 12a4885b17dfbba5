//! How fast a lane may go: its rate, and the ramp after an outage. Pure: time is an argument.

use std::time::Duration;

use holdfast_model::units::Rate;
use tokio::time::Instant;

/// The slowest that throttled items can make a lane whose own rate is not slower still.
const SLOWED_PER_S_MIN: f64 = 1.0 / 60.0;

/// Tokens for attempts. One second's worth, at least one, may be saved up.
#[derive(Debug)]
pub struct Pace {
    rate: Option<Rate>,
    /// While ramping or after an item's 429, the share of the rate that is used.
    slowed_per_s: Option<f64>,
    tokens: f64,
    filled_at: Instant,
    concurrency: u32,
    /// While ramping, the concurrency in force.
    ramp: Option<u32>,
}

impl Pace {
    pub fn new(rate: Option<Rate>, concurrency: u32, now: Instant) -> Self {
        let mut pace =
            Self { rate, slowed_per_s: None, tokens: 0.0, filled_at: now, concurrency, ramp: None };
        pace.tokens = pace.burst();
        pace
    }

    /// A rate without anything saved up.
    pub fn empty(rate: Rate, now: Instant) -> Self {
        Self { tokens: 0.0, ..Self::new(Some(rate), 1, now) }
    }

    /// Whole tokens there are. Only with a rate.
    pub fn tokens(&mut self, now: Instant) -> u64 {
        self.fill(now);
        self.tokens.max(0.0) as u64
    }

    /// Attempts that may be under way at once.
    pub fn concurrency(&self) -> u32 {
        self.ramp.unwrap_or(self.concurrency)
    }

    /// After an outage: one at a time, one a second; then twice as much each time around.
    pub fn begin_ramp(&mut self, now: Instant) {
        self.fill(now);
        self.ramp = (self.concurrency > 1).then_some(1);
        self.slowed_per_s = self.full_per_s().map(|full| full.min(1.0));
        self.tokens = self.tokens.min(1.0);
    }

    /// One more for each success doubles it each time around: all that were under way succeed.
    pub fn succeeded(&mut self, now: Instant) {
        self.fill(now);
        self.ramp = self.ramp.map(|now| now.saturating_add(1)).filter(|n| *n < self.concurrency);
        if let (Some(slowed), Some(full)) = (self.slowed_per_s, self.full_per_s()) {
            self.slowed_per_s = Some(slowed + slowed.min(1.0)).filter(|rate| *rate < full);
        }
    }

    /// An item was throttled: half as fast, until successes double it again.
    pub fn halve(&mut self, now: Instant) {
        self.fill(now);
        self.ramp = Some((self.concurrency() / 2).max(1)).filter(|n| *n < self.concurrency);
        if let Some(full) = self.full_per_s() {
            let halved = self.slowed_per_s.unwrap_or(full) / 2.0;
            self.slowed_per_s = Some(halved.max(full.min(SLOWED_PER_S_MIN)));
        }
    }

    /// Whether there is a token for an attempt; if not, how long until there is.
    pub fn ready(&mut self, now: Instant) -> Result<(), Duration> {
        let Some(per_s) = self.slowed_per_s.or(self.full_per_s()) else { return Ok(()) };
        self.fill(now);
        if self.tokens >= 1.0 {
            return Ok(());
        }
        // A little more than needed, so that rounding cannot make it ask twice.
        Err(Duration::from_secs_f64((1.0 - self.tokens) / per_s) + Duration::from_millis(1))
    }

    /// Takes the tokens of attempts. It may owe some: how many requests a batch takes is known
    /// only afterwards.
    pub fn spend(&mut self, attempts: u32) {
        if self.rate.is_some() {
            self.tokens -= f64::from(attempts);
        }
    }

    /// Takes a token for one attempt, or says how long until there is one.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.ready(now)?;
        self.spend(1);
        Ok(())
    }

    fn full_per_s(&self) -> Option<f64> {
        self.rate.map(|rate| f64::from(rate.count) / rate.per.as_secs_f64())
    }

    fn burst(&self) -> f64 {
        self.full_per_s().map_or(1.0, |per_s| per_s.max(1.0))
    }

    fn fill(&mut self, now: Instant) {
        if let Some(per_s) = self.slowed_per_s.or(self.full_per_s()) {
            let gained = now.duration_since(self.filled_at).as_secs_f64() * per_s;
            self.tokens = (self.tokens + gained).min(self.burst());
        }
        self.filled_at = self.filled_at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(pace: &mut Pace, from: Instant, seconds: u32) -> u32 {
        let millis = (0..seconds * 1_000).map(|ms| from + Duration::from_millis(ms.into()));
        millis.filter(|now| pace.take(*now).is_ok()).count() as u32
    }

    #[test]
    fn a_rate_is_kept_over_time_and_a_pause_saves_up_one_second_at_most() {
        let start = Instant::now();
        let rate = Rate { count: 10, per: Duration::from_secs(1) };
        let mut pace = Pace::new(Some(rate), 8, start);
        assert!((100..=110).contains(&taken(&mut pace, start, 10)));
        let later = start + Duration::from_secs(1_000);
        assert!((10..=20).contains(&taken(&mut pace, later, 1)));
        let slow = Rate { count: 30, per: Duration::from_secs(60) };
        assert!((30..=31).contains(&taken(&mut Pace::new(Some(slow), 8, start), start, 60)));
    }

    #[test]
    fn a_ramp_doubles_each_time_around_up_to_the_settings() {
        let now = Instant::now();
        let mut pace = Pace::new(None, 20, now);
        pace.begin_ramp(now);
        let mut seen = vec![pace.concurrency()];
        for _ in 0..6 {
            (0..pace.concurrency()).for_each(|_| pace.succeeded(now));
            seen.push(pace.concurrency());
        }
        assert_eq!(seen, [1, 2, 4, 8, 16, 20, 20]);
        assert_eq!(pace.take(now), Ok(()), "without a rate only the concurrency ramps");
    }

    #[test]
    fn a_rate_ramps_up_from_one_a_second() {
        let mut now = Instant::now();
        let rate = Rate { count: 20, per: Duration::from_secs(1) };
        let mut pace = Pace::new(Some(rate), 1, now);
        pace.begin_ramp(now);
        let mut seen = Vec::new();
        for _ in 0..8 {
            let taken = taken(&mut pace, now, 1);
            now += Duration::from_secs(1);
            (0..taken).for_each(|_| pace.succeeded(now));
            seen.push(taken);
        }
        for (taken, expected) in seen.into_iter().zip([1, 2, 4, 8, 16, 20, 20, 20]) {
            assert!((expected..=expected + 2).contains(&taken), "{taken}, expected {expected}");
        }
    }

    #[test]
    fn throttled_items_slow_a_lane_down_and_never_stop_it() {
        let now = Instant::now();
        let mut pace = Pace::new(Some(Rate { count: 8, per: Duration::from_secs(1) }), 8, now);
        pace.spend(8);
        pace.halve(now);
        assert_eq!(pace.concurrency(), 4);
        assert!((39..=40).contains(&taken(&mut pace, now, 10)));
        (0..2_000).for_each(|_| pace.halve(now));
        assert_eq!(pace.concurrency(), 1);
        let wait = pace.ready(now + Duration::from_secs(10)).unwrap_err();
        assert!(wait <= Duration::from_secs(61), "{wait:?}");
        (0..20).for_each(|_| pace.succeeded(now));
        assert_eq!(pace.concurrency(), 8);
    }

    #[test]
    fn the_requests_of_a_batch_that_was_taken_apart_are_paid_for_afterwards() {
        let now = Instant::now();
        let mut pace = Pace::new(Some(Rate { count: 1, per: Duration::from_secs(1) }), 8, now);
        assert_eq!(pace.take(now), Ok(()));
        pace.spend(9);
        assert_eq!(taken(&mut pace, now, 20), 10);
    }
}
