//! Patience with an end.

use std::{thread, time::Duration};

use rustix::time::{ClockId, clock_gettime};

const PAUSE: Duration = Duration::from_millis(10);

/// Long enough for a loaded machine, and for what happens once a minute; a condition that holds
/// costs nothing of it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(100);

/// Nanoseconds of the monotonic clock.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

pub(crate) fn since(ns: u64) -> Duration {
    Duration::from_nanos(now_ns().saturating_sub(ns))
}

/// Waits until `check` has an answer, or panics with what never came.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, check: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, check).unwrap_or_else(|| panic!("never happened: {what}"))
}

/// Waits until `check` has an answer, at most so long.
pub(crate) fn within<T>(patience: Duration, mut check: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = now_ns();
    loop {
        if let Some(answer) = check() {
            return Some(answer);
        }
        if since(begun) > patience {
            return None;
        }
        thread::sleep(PAUSE);
    }
}

/// `Some(())` when it holds, for [`eventually`].
pub(crate) fn holds(condition: bool) -> Option<()> {
    condition.then_some(())
}

/// Year, month and day of a day counted from 1970-01-01 (Howard Hinnant's `civil_from_days`).
pub(crate) fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year + era * 400 + u64::from(month <= 2), month, day)
}

/// [`within`] so many seconds.
pub(crate) fn within_patience<T>(seconds: u64, check: impl FnMut() -> Option<T>) -> Option<T> {
    within(Duration::from_secs(seconds), check)
}
