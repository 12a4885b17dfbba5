//! The wait before the next try. Pure: the caller supplies the dice.

use std::time::Duration;

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff as _};

/// The least wait, so that no try follows another at once.
pub const WAIT_MIN: Duration = Duration::from_millis(100);

/// Doublings after which any `max` has been reached.
const DOUBLINGS_MAX: u32 = 40;

/// The wait after the `failures`-th failure in a row, counted from 1:
/// `uniform(0, min(max, initial · 2^(failures-1)))`, at least [`WAIT_MIN`].
///
/// `dice` is uniform in `[0, 1)`. The full spread breaks up a herd best; the crate `backoff`
/// supplies the interval, without its own jitter and without an end.
pub fn wait(initial: Duration, max: Duration, failures: u32, dice: f64) -> Duration {
    let mut schedule: ExponentialBackoff = ExponentialBackoffBuilder::new()
        .with_initial_interval(initial)
        .with_max_interval(max)
        .with_multiplier(2.0)
        .with_randomization_factor(0.0)
        .with_max_elapsed_time(None)
        .build();
    let mut interval = initial.min(max);
    for _ in 0..failures.clamp(1, DOUBLINGS_MAX) {
        interval = schedule.next_backoff().unwrap_or(max).min(max);
        if interval >= max {
            break;
        }
    }
    interval.mul_f64(dice.clamp(0.0, 1.0)).max(WAIT_MIN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_interval_doubles_up_to_its_limit() {
        let full = |failures| wait(Duration::from_secs(1), Duration::from_secs(300), failures, 1.0);
        let seconds: Vec<u64> = (1..=11).map(|n| full(n).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }

    proptest! {
        /// Whatever is configured and however long an outage lasts.
        #[test]
        fn a_wait_stays_inside_its_bounds(
            initial_ms in 1_u64..100_000, max_ms in 1_u64..100_000_000,
            failures in 0_u32.., dice in 0.0_f64..1.0,
        ) {
            let max = Duration::from_millis(max_ms);
            let waited = wait(Duration::from_millis(initial_ms), max, failures, dice);
            prop_assert!(waited >= WAIT_MIN);
            prop_assert!(waited <= max.max(WAIT_MIN));
        }
    }
}
