//! The receiver is away while a backlog comes in; then it is back.

use std::{thread, time::Duration};

use crate::{
    Bench, Result,
    clock::{now_ns, seconds_since},
    gateway::{self, Gateway, free_port},
    sink::{Protocol, Sink},
};

/// After the last alert is in: what was buffered for it is freed, the queue merges.
const SETTLE: Duration = Duration::from_secs(3);

pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let alerts = bench.backlog;
    let (path, bytes) = bench.input(alerts)?;
    let (room, port) = (bench.room()?, free_port()?);
    let keys = "batch = { max_events = 500 }";
    let tables = gateway::tail(&path) + &gateway::webhook("sink", port, keys);

    let begun = now_ns();
    let mut gateway = Gateway::start(room.path(), &tables)?;
    gateway.wait_for(alerts)?;
    bench.report.add("backlog-in", alerts as f64 / seconds_since(begun));
    thread::sleep(SETTLE);
    let (resident, peak) = gateway.process.memory_mib()?;
    bench.report.add("backlog-rss", resident);
    bench.report.add("backlog-peak", peak);
    bench.report.add("backlog-disk", gateway.disk_bytes()? as f64 / bytes as f64);
    gateway.process.kill()?;

    let mut gateway = Gateway::start(room.path(), &tables)?;
    bench.report.add("backlog-ready", gateway.ready_seconds);
    thread::sleep(SETTLE);
    bench.report.add("backlog-restarted", gateway.process.memory_mib()?.0);
    let sink = Sink::start(port, Protocol::Http, alerts)?;
    match sink.wait_for(alerts, &mut gateway.process) {
        Ok(rate) => bench.report.add("backlog-out", rate),
        Err(error) => bench.report.remark(format!("the backlog stayed: {error}")),
    }
    bench.report.add("backlog-out-peak", gateway.process.memory_mib()?.1);
    // Repeats may have been counted before the last new one came.
    thread::sleep(SETTLE);
    let missing = sink.arrivals().iter().filter(|arrived| **arrived == 0).count() as u64;
    bench.report.add("backlog-missing", missing as f64);
    let repeated = sink.alerts().saturating_sub(alerts - missing);
    bench.report.add("backlog-repeated", repeated as f64);
    gateway.process.stop()
}
