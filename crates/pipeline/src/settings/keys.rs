//! The keys that every destination has, with what the manual says of them. Reading them is the
//! parent's work.

use holdfast_model::settings::Setting;

pub(super) const RATE: Setting = Setting::optional(
    "rate",
    "\"30/min\"",
    "Attempts per s, min, h or day. Without it the lane goes as fast as the destination answers.",
);
pub(super) const CONCURRENCY: Setting = Setting::new(
    "concurrency",
    "8",
    "Attempts under way at once, 1 to 1024. Also bounds what is sent again after a crash: \
     `concurrency` x `batch.max_events` events.",
);
pub(super) const TIMEOUT: Setting = Setting::new(
    "timeout",
    "\"30s\"",
    "Longest wait for one attempt, connect to last byte: 10ms to 10m.",
);
pub(super) const IN_DOUBT: Setting = Setting::new(
    "in_doubt",
    "\"resend\"",
    "What to do with an event that was sent and never answered, where the destination can neither \
     dedupe nor be searched: \"resend\" or \"dead_letter\". One with `search_lag` is searched.",
);
pub(super) const START: Setting = Setting::new(
    "start",
    "\"new\"",
    "Where a lane that is new begins: \"new\" (at the head) or \"all\" (with what the log still has).",
);
pub(super) const POISON_LIMIT: Setting = Setting::new(
    "poison_limit",
    "10",
    "Permanent errors in a row, over at least 3 rules, that park the lane as wrongly set up; \
     those events go back to pending. 2 to 1000.",
);
pub(super) const ORDER: Setting = Setting::new(
    "order",
    "\"none\"",
    "Which events must not overtake each other: \"none\", \"strict\" (all of them: one request at a \
     time), or \"key\" (those with the same `order_key`). Items of one bulk request count as sent \
     together.",
);
pub(super) const ORDER_KEY: Setting = Setting::new(
    "order_key",
    "\"agent.id\"",
    "The field of the alert that `order = \"key\"` goes by, with dots. Keys are spread over 128 slots, \
     and those in one slot wait for each other.",
);
pub(super) const EXPRESS_LEVEL: Setting = Setting::optional(
    "express_level",
    "12",
    "Events at or above this level go before the others, with a position of their own, so that a \
     fresh critical alert does not wait behind a backlog. 0 to 16; not with `order = \"strict\"`.",
);
pub(super) const BY: Setting = Setting::new(
    "by",
    "[\"rule.id\", \"agent.id\"]",
    "The fields, with dots, in which events alike are the same.",
);
pub(super) const STORM_WINDOW: Setting = Setting::new(
    "window",
    "\"5m\"",
    "How long after the first of them events alike are held back. 1s to 7d.",
);
pub(super) const MAX_EVENTS: Setting =
    Setting::new("max_events", "1", "Most events in one request, 1 to 10000; 1: no batches.");
pub(super) const MAX_BYTES: Setting = Setting::new(
    "max_bytes",
    "\"1MiB\"",
    "Most bytes of alerts in one request, 1KiB to 64MiB. A \
     batch above 8MiB that has to wait for a retry is sent again in parts.",
);
pub(super) const MAX_WAIT: Setting =
    Setting::new("max_wait", "\"200ms\"", "Longest wait for a batch to fill, 0s to 10m.");
pub(super) const FORMAT: Setting = Setting::new(
    "format",
    "\"ndjson\"",
    "How a batch is written: \"ndjson\", \"array\", or \"envelope\" (lines with id, seq and alert).",
);
pub(super) const INITIAL: Setting = Setting::new(
    "initial",
    "\"1s\"",
    "Wait after the first failure; it doubles each time. 1ms to 1h.",
);
pub(super) const MAX: Setting =
    Setting::new("max", "\"5m\"", "Longest wait between two tries. 1ms to 24h.");
pub(super) const MAX_AGE: Setting = Setting::new(
    "max_age",
    "\"72h\"",
    "How long an event is tried, from its first attempt and only while the lane is active; then it \
     becomes a dead letter. 1s to 3650d.",
);
pub(super) const SERVER_WAIT_MAX: Setting = Setting::new(
    "server_wait_max",
    "\"1h\"",
    "The longest `Retry-After` that is obeyed. 1s to 30d.",
);
pub(super) const MAX_PENDING: Setting = Setting::new(
    "max_pending",
    "10000",
    "Events that may wait for a retry before the lane stops reading. 1 to 1000000.",
);
pub(super) const FAILURES: Setting =
    Setting::new("failures", "5", "Failures in a row that open the breaker. 1 to 1000.");
pub(super) const RATIO: Setting = Setting::new(
    "ratio",
    "0.5",
    "Share of failures among at least 20 attempts in the window that opens it. 0.01 to 1.",
);
pub(super) const WINDOW: Setting = Setting::new("window", "\"30s\"", "That window. 1s to 1h.");
pub(super) const MAX_BACKLOG: Setting = Setting::new(
    "max_backlog",
    "\"50%\"",
    "How much of the log the lane may hold back: a share of `queue.max_size`, 1% to 100%, or a \
     size, 64KiB to 1024TiB. Measured once a second, by the log's bytes shared out by events.",
);
pub(super) const ON_OVERFLOW: Setting = Setting::new(
    "on_overflow",
    "\"block\"",
    "What happens then: \"block\" (no more input is taken until the lane has caught up) or \
     \"expire\" (its oldest unread events are given up, counted and audited).",
);
pub(super) const CANARY: Setting = Setting::optional(
    "canary",
    "\"5m\"",
    "How often a marked test event goes this way, to this destination alone, 1s to 7d; the next one \
     only when the last has ended. Without it: never.",
);
pub(super) const RENAMED_FROM: Setting = Setting::optional(
    "renamed_from",
    "\"old-name\"",
    "The name that this destination had before. A lane that is new then takes over the position, \
     retries, dead letters and counts of the old one.",
);
pub(super) const FOLLOW: Setting = Setting::optional(
    "follow",
    "[\"closed\"]",
    "What other systems say of events that this destination got, too: \"acknowledged\", \
     \"commented\", \"assigned\", \"closed\", \"reopened\", \"verdict\". Callbacks with these actions \
     go this way whatever `when` says; a closed case resolves the page or ticket of the same event, \
     and with `group = \"problem\"` of the same problem.",
);
pub(super) const ENRICH: Setting = Setting::optional(
    "enrich",
    "[\"vt\", \"misp\"]",
    "Lookups, by their destinations' names, that are asked about an alert before it is sent, so that \
     the message says what they know. At most 8.",
);
pub(super) const ENRICH_WAIT: Setting = Setting::new(
    "enrich_wait",
    "\"5s\"",
    "Longest wait for all of them together, 100ms to 1m. Then the message goes without, and says so.",
);
pub(super) const LOOPS: Setting = Setting::optional(
    "loops",
    "\"allow\"",
    "Whether alerts pass that came of an event which an integration put into Wazuh: \"refuse\" or \
     \"allow\". Default: lookups and destinations that act on Wazuh refuse them, so that nothing \
     goes round in circles, and all others let them pass. A lookup that refuses them asks nothing \
     about answers either.",
);

/// The keys of every destination.
pub const SETTINGS: &[&Setting] = &[
    &RATE,
    &CONCURRENCY,
    &TIMEOUT,
    &IN_DOUBT,
    &START,
    &POISON_LIMIT,
    &ORDER,
    &ORDER_KEY,
    &EXPRESS_LEVEL,
    &MAX_BACKLOG,
    &ON_OVERFLOW,
    &CANARY,
    &RENAMED_FROM,
    &FOLLOW,
    &ENRICH,
    &ENRICH_WAIT,
    &LOOPS,
];
/// Of `digest` and of `dedup`.
pub const STORM_SETTINGS: &[&Setting] = &[&BY, &STORM_WINDOW];
pub const BATCH_SETTINGS: &[&Setting] = &[&MAX_EVENTS, &MAX_BYTES, &MAX_WAIT, &FORMAT];
pub const RETRY_SETTINGS: &[&Setting] = &[&INITIAL, &MAX, &MAX_AGE, &SERVER_WAIT_MAX, &MAX_PENDING];
pub const BREAKER_SETTINGS: &[&Setting] = &[&FAILURES, &RATIO, &WINDOW];
