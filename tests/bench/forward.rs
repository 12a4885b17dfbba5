//! From a file that is there to the log, and on to a receiver: Holdfast and its peers.

use tempfile::TempDir;

use crate::{
    Bench, Result,
    clock::{now_ns, seconds_since},
    gateway::{self, Gateway},
    peers::{Rsyslog, SyslogNg},
    sink::{Protocol, Sink},
};

/// With one request an alert.
const SINGLES: u64 = 100_000;
/// Through a disk queue that is synced for each.
const SYNCED: u64 = 5_000;

/// From the start of the process; nothing reads the log.
pub(crate) fn tail(bench: &mut Bench) -> Result<()> {
    let (path, _) = bench.input(bench.many)?;
    let room = bench.room()?;
    let begun = now_ns();
    let mut gateway = Gateway::start(room.path(), &gateway::tail(&path))?;
    gateway.wait_for(bench.many)?;
    bench.report.add("tail", bench.many as f64 / seconds_since(begun));
    bench.report.add("tail-cpu", gateway.process.cpu_us_per(bench.many)?);
    gateway.process.stop()
}

pub(crate) fn batches(bench: &mut Bench) -> Result<()> {
    for (id, cpu, concurrency) in [("batch-8", "batch-8-cpu", 8), ("batch-32", "batch-32-cpu", 32)]
    {
        let keys = format!("concurrency = {concurrency}\nbatch = {{ max_events = 500 }}");
        forward(bench, (id, cpu), bench.many, &keys)?;
    }
    Ok(())
}

pub(crate) fn singles(bench: &mut Bench) -> Result<()> {
    for (id, cpu, concurrency) in [("one-8", "one-8-cpu", 8), ("one-32", "one-32-cpu", 32)] {
        forward(bench, (id, cpu), SINGLES, &format!("concurrency = {concurrency}"))?;
    }
    Ok(())
}

fn forward(
    bench: &mut Bench,
    (id, cpu): (&'static str, &'static str),
    alerts: u64,
    keys: &str,
) -> Result<()> {
    let (path, _) = bench.input(alerts)?;
    let (room, sink) = (bench.room()?, Sink::start(0, Protocol::Http, 0)?);
    let tables = gateway::tail(&path) + &gateway::webhook("sink", sink.port, keys);
    let mut gateway = Gateway::start(room.path(), &tables)?;
    let rate = sink.wait_for(alerts, &mut gateway.process)?;
    bench.report.add(id, rate);
    bench.report.add(cpu, gateway.process.cpu_us_per(alerts)?);
    gateway.process.stop()
}

pub(crate) fn peers(bench: &mut Bench) -> Result<()> {
    let many = bench.many;
    for (ids, alerts, batch) in [
        (("syslog-ng-batch", "syslog-ng-batch-cpu"), many, 500),
        (("syslog-ng-one", "syslog-ng-one-cpu"), SINGLES, 1),
    ] {
        let subject = SyslogNg { batch, look_every: "0.1" };
        through_peer(bench, ids, alerts, Protocol::Http, |bench, room, sink| {
            let (path, _) = bench.input(alerts)?;
            bench.peers().syslog_ng(room.path(), &path, sink.port, subject)
        })?;
    }
    for (ids, alerts, synced) in [
        (("rsyslog-memory", "rsyslog-memory-cpu"), many, false),
        (("rsyslog-synced", "rsyslog-synced-cpu"), SYNCED, true),
    ] {
        through_peer(bench, ids, alerts, Protocol::Lines, |bench, room, sink| {
            let (path, _) = bench.input(alerts)?;
            bench.peers().rsyslog(room.path(), &path, sink.port, Rsyslog { synced })
        })?;
    }
    Ok(())
}

fn through_peer(
    bench: &mut Bench,
    (id, cpu): (&'static str, &'static str),
    alerts: u64,
    protocol: Protocol,
    start: impl FnOnce(&mut Bench, &TempDir, &Sink) -> Result<crate::process::Process>,
) -> Result<()> {
    let (room, sink) = (bench.room()?, Sink::start(0, protocol, 0)?);
    match start(bench, &room, &sink) {
        Err(missing) => bench.report.remark(format!("`{id}` was not measured: {missing}")),
        Ok(mut peer) => {
            let rate = sink.wait_for(alerts, &mut peer)?;
            bench.report.add(id, rate);
            bench.report.add(cpu, peer.cpu_us_per(alerts)?);
            peer.stop()?;
        }
    }
    Ok(())
}
