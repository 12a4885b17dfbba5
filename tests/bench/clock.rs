//! The monotonic clock in nanoseconds, which a vector of atomics can hold.

use std::{thread, time::Duration};

use rustix::time::{ClockId, clock_gettime};

pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

pub(crate) fn seconds_since(ns: u64) -> f64 {
    now_ns().saturating_sub(ns) as f64 / 1e9
}

pub(crate) fn sleep_until(ns: u64) {
    thread::sleep(Duration::from_nanos(ns.saturating_sub(now_ns())));
}
