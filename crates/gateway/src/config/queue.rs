//! `[queue]` and `[ingest]`: what is kept, how much of it, and for how long.

use std::{path::PathBuf, time::Duration};

use holdfast_model::settings::{Section, Setting};

use super::paths;

const DAY: Duration = Duration::from_secs(86_400);
const SECOND: Duration = Duration::from_secs(1);
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

const ENGINE: Setting =
    Setting::new("engine", "\"sled\"", "What stores the events. This version has \"sled\".");
const PATH: Setting = Setting::optional(
    "path",
    "\"/var/lib/holdfast/queue\"",
    "The queue's folder, on a local disk. Default: `queue` in the state folder.",
);
const MAX_SIZE: Setting = Setting::new(
    "max_size",
    "\"20GiB\"",
    "Live bytes at which no more is taken from sources, 1MiB to 1024TiB. The file on disk may \
     grow to twice that.",
);
const RESERVE: Setting = Setting::new(
    "reserve",
    "\"256MiB\"",
    "The size of a file that is given up first, so that the gateway goes on delivering when the \
     disk is full, 0B to 1TiB. 0B: none.",
);
const RETENTION: Setting = Setting::new(
    "retention",
    "\"24h\"",
    "How long events stay after every lane has passed them, 0s to 3650d.",
);
const DEAD_MAX_SIZE: Setting = Setting::new(
    "max_size",
    "\"2GiB\"",
    "Live bytes of dead letters at which lanes park instead of giving up more, 64KiB to 1024TiB; \
     never more than half of `queue.max_size`.",
);
const DEAD_MAX_AGE: Setting = Setting::new(
    "max_age",
    "\"90d\"",
    "How long a dead letter is kept, 1s to 3650d. Then it is removed and counted as expired.",
);
const WINDOW: Setting = Setting::new(
    "window",
    "\"24h\"",
    "How long an `Idempotency-Key` of `POST /v1/alerts` is remembered, 1m to 30d.",
);
const MAX_KEYS: Setting = Setting::new(
    "max_keys",
    "1000000",
    "Keys that are remembered, 1 to 10000000. The oldest go first.",
);

pub(super) const SETTINGS: &[&Setting] = &[&ENGINE, &PATH, &MAX_SIZE, &RESERVE, &RETENTION];
pub(super) const DEAD_LETTER_SETTINGS: &[&Setting] = &[&DEAD_MAX_SIZE, &DEAD_MAX_AGE];
pub(super) const IDEMPOTENCY_SETTINGS: &[&Setting] = &[&WINDOW, &MAX_KEYS];

/// What the queue keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueueConfig {
    /// An absolute path. Nobody has looked whether it is there.
    pub(crate) path: PathBuf,
    /// Live bytes at which sources are refused.
    pub(crate) bytes_max: u64,
    /// Size of the file that is given up first on a full disk; 0: none.
    pub(crate) reserve_bytes: u64,
    /// How long events stay after every lane has passed them.
    pub(crate) retention: Duration,
    /// Live bytes of dead letters at which lanes park; at most half of `bytes_max`.
    pub(crate) dead_bytes_max: u64,
    /// How long a dead letter is kept.
    pub(crate) dead_age_max: Duration,
}

/// How long requests are remembered, so that a repeat is not taken twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdempotencyConfig {
    pub(crate) window: Duration,
    pub(crate) keys_max: usize,
}

// === impl QueueConfig ===

impl QueueConfig {
    /// `state` is where the queue is unless its own path is given.
    pub(super) fn read(section: &Section<'_>, state: &std::path::Path) -> Self {
        read_engine(section);
        let dead = section.table_or_empty("dead_letters");
        let bytes_max = section.size(&MAX_SIZE, MIB..=1024 * TIB);
        let config = Self {
            path: paths::read(section, &PATH).unwrap_or_else(|| state.join("queue")),
            bytes_max,
            reserve_bytes: section.size(&RESERVE, 0..=TIB),
            retention: section.duration(&RETENTION, Duration::ZERO..=DAY * 3650),
            dead_bytes_max: dead.size(&DEAD_MAX_SIZE, 64 << 10..=1024 * TIB).min(bytes_max / 2),
            dead_age_max: dead.duration(&DEAD_MAX_AGE, SECOND..=DAY * 3650),
        };
        dead.finish();
        section.finish();
        config
    }
}

fn read_engine(section: &Section<'_>) {
    match section.text(&ENGINE) {
        Some("sled") | None => {}
        Some("jetstream") => {
            let problem = "\"jetstream\" is not in this version; the engine is \"sled\"";
            section.fault(ENGINE.name, problem);
        }
        Some(other) => section.fault(ENGINE.name, format!("\"{other}\" is not one of \"sled\"")),
    }
}

// === impl IdempotencyConfig ===

impl IdempotencyConfig {
    /// Reads `[ingest]`, which has nothing else.
    pub(super) fn read(ingest: &Section<'_>) -> Self {
        let section = ingest.table_or_empty("idempotency");
        let config = Self {
            window: section.duration(&WINDOW, SECOND * 60..=DAY * 30),
            keys_max: section.count(&MAX_KEYS, 1..=10_000_000) as usize,
        };
        section.finish();
        ingest.finish();
        config
    }
}
