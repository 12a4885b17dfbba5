//! What is measured, in the order of the table, with what it is compared to and what DESIGN 11 asks.

/// One line of the table.
pub(crate) struct Measure {
    pub(crate) id: &'static str,
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    /// Measures of the same run whose ratio is shown.
    pub(crate) against: &'static [&'static str],
    pub(crate) goal: &'static str,
}

const fn measure(
    id: &'static str,
    what: &'static str,
    unit: &'static str,
    against: &'static [&'static str],
    goal: &'static str,
) -> Measure {
    Measure { id, what, unit, against, goal }
}

const RATE: &str = "alerts/s";
const US: &str = "µs an alert";
const MS: &str = "ms";
const MIB: &str = "MiB";

pub(crate) const MEASURES: &[Measure] = &[
    measure("raw-256", "file append, `fdatasync` per 256 alerts", RATE, &[], ""),
    measure("raw-1", "file append, `fdatasync` per alert", RATE, &[], ""),
    measure(
        "ingest-4",
        "HTTP NDJSON of 500, 4 connections",
        RATE,
        &["raw-256"],
        "≥ 100,000; 0.25 × raw-256",
    ),
    measure(
        "ingest-8",
        "HTTP NDJSON of 500, 8 connections",
        RATE,
        &["raw-256"],
        "≥ 100,000; 0.25 × raw-256",
    ),
    measure("ingest-one", "HTTP one alert a POST, 32 connections", RATE, &["raw-1"], ""),
    measure("tail", "file tail → log", RATE, &["raw-256"], "≥ 200,000"),
    measure(
        "batch-8",
        "tail → webhook, batches of 500, concurrency 8",
        RATE,
        &["syslog-ng-batch", "rsyslog-memory"],
        "≥ 200,000; 1.5 × syslog-ng",
    ),
    measure(
        "batch-32",
        "the same, concurrency 32",
        RATE,
        &["syslog-ng-batch"],
        "≥ 200,000; 1.5 × syslog-ng",
    ),
    measure(
        "one-8",
        "tail → webhook, one POST an alert, concurrency 8",
        RATE,
        &["syslog-ng-one", "rsyslog-synced"],
        "≥ 20,000; 2 × syslog-ng",
    ),
    measure(
        "one-32",
        "the same, concurrency 32",
        RATE,
        &["syslog-ng-one", "rsyslog-synced"],
        "≥ 20,000; 2 × syslog-ng",
    ),
    measure(
        "syslog-ng-batch",
        "syslog-ng: file → HTTP, batches of 500, 8 workers, no sync",
        RATE,
        &[],
        "",
    ),
    measure(
        "syslog-ng-one",
        "syslog-ng: file → HTTP, one POST an alert, 8 workers, no sync",
        RATE,
        &[],
        "",
    ),
    measure("rsyslog-memory", "rsyslog: file → TCP lines, queue in memory", RATE, &[], ""),
    measure("rsyslog-synced", "rsyslog: file → TCP lines, synced disk queue", RATE, &[], ""),
    measure("ingest-4-cpu", "processor: NDJSON of 500, 4 connections", US, &[], ""),
    measure("ingest-8-cpu", "processor: NDJSON of 500, 8 connections", US, &[], ""),
    measure("ingest-one-cpu", "processor: one alert a POST", US, &[], ""),
    measure("tail-cpu", "processor: tail → log", US, &[], ""),
    measure(
        "batch-8-cpu",
        "processor: tail → webhook, batches, concurrency 8",
        US,
        &["syslog-ng-batch-cpu"],
        "",
    ),
    measure(
        "batch-32-cpu",
        "processor: the same, concurrency 32",
        US,
        &["syslog-ng-batch-cpu"],
        "",
    ),
    measure(
        "one-8-cpu",
        "processor: one POST an alert, concurrency 8",
        US,
        &["syslog-ng-one-cpu"],
        "",
    ),
    measure("one-32-cpu", "processor: the same, concurrency 32", US, &["syslog-ng-one-cpu"], ""),
    measure("syslog-ng-batch-cpu", "processor: syslog-ng, batches", US, &[], ""),
    measure("syslog-ng-one-cpu", "processor: syslog-ng, one POST an alert", US, &[], ""),
    measure("rsyslog-memory-cpu", "processor: rsyslog, memory", US, &[], ""),
    measure("rsyslog-synced-cpu", "processor: rsyslog, synced", US, &[], ""),
    measure(
        "latency-100-p50",
        "line written → received, 100/s, p50",
        MS,
        &["rsyslog-latency-p50", "syslog-ng-latency-p50"],
        "≤ 1.5",
    ),
    measure(
        "latency-100-p99",
        "line written → received, 100/s, p99",
        MS,
        &["rsyslog-latency-p99", "syslog-ng-latency-p99"],
        "≤ 3",
    ),
    measure("latency-10000-p50", "line written → received, 10,000/s, p50", MS, &[], ""),
    measure("latency-10000-p99", "line written → received, 10,000/s, p99", MS, &[], "≤ 20"),
    measure("rsyslog-latency-p50", "rsyslog (memory, TCP), 100/s, p50", MS, &[], ""),
    measure("rsyslog-latency-p99", "rsyslog (memory, TCP), 100/s, p99", MS, &[], ""),
    measure("syslog-ng-latency-p50", "syslog-ng (looks every 10 ms), 100/s, p50", MS, &[], ""),
    measure("syslog-ng-latency-p99", "syslog-ng (looks every 10 ms), 100/s, p99", MS, &[], ""),
    measure("idle", "resident memory, idle", MIB, &[], "≤ 30"),
    measure("backlog-in", "backlog, receiver down: in", RATE, &[], "≥ 200,000"),
    measure(
        "backlog-rss",
        "resident memory with the backlog",
        MIB,
        &[],
        "≤ 80 at 1 million, ≤ 128 at 10",
    ),
    measure("backlog-peak", "highest resident memory while it came in", MIB, &[], ""),
    measure("backlog-disk", "bytes on disk per byte of alerts", "×", &[], "≤ 0.25"),
    measure("backlog-ready", "`kill -9`, started again, ready", "s", &[], "≤ 2"),
    measure(
        "backlog-restarted",
        "resident memory after that start",
        MIB,
        &[],
        "≤ 80 at 1 million, ≤ 128 at 10",
    ),
    measure("backlog-out", "backlog: out, batches of 500", RATE, &[], "≥ 300,000"),
    measure("backlog-out-peak", "highest resident memory while it went out", MIB, &[], ""),
    measure("backlog-missing", "alerts of the backlog that never came", "alerts", &[], "0"),
    measure(
        "backlog-repeated",
        "alerts of the backlog that came more than once",
        "alerts",
        &[],
        "",
    ),
    measure(
        "cost-one",
        "1,000/s to 5 webhooks, one POST an alert: processor",
        "% of a core",
        &[],
        "",
    ),
    measure("cost-batch", "1,000/s to 5 webhooks, batches: processor", "% of a core", &[], "≤ 25"),
];
