//! From the moment a line is written to the moment the receiver has it.

use std::{fs::OpenOptions, io::Write, path::Path, thread, time::Duration};

use crate::{
    Bench, Result,
    clock::{now_ns, sleep_until},
    empty_file,
    gateway::{self, Gateway},
    peers::{Rsyslog, SyslogNg},
    process::Process,
    report::percentile,
    sink::{Protocol, Sink},
};

/// Written before the clock counts, so that connections are open.
const WARM_UP: u64 = 100;
/// A peer needs a moment until it watches the file.
const SETTLE: Duration = Duration::from_secs(2);

/// How lines are written.
#[derive(Clone, Copy, Debug)]
struct Pace {
    alerts_per_second: u64,
    alerts: u64,
    /// Lines in one write.
    burst: u64,
}

const SLOW: Pace = Pace { alerts_per_second: 100, alerts: 1000, burst: 1 };
const FAST: Pace = Pace { alerts_per_second: 10_000, alerts: 40_000, burst: 10 };

pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    for (p50, p99, pace) in [
        ("latency-100-p50", "latency-100-p99", SLOW),
        ("latency-10000-p50", "latency-10000-p99", FAST),
    ] {
        let (room, sink) = (bench.room()?, tracking(Protocol::Http, pace)?);
        let path = empty_file(room.path())?;
        let tables = gateway::tail(&path) + &gateway::webhook("sink", sink.port, "");
        let mut gateway = Gateway::start(room.path(), &tables)?;
        let mut ms = sample(bench, &path, pace, &sink, &mut gateway.process)?;
        bench.report.add(p50, percentile(&mut ms, 0.5));
        bench.report.add(p99, percentile(&mut ms, 0.99));
        gateway.process.stop()?;
    }
    Ok(())
}

pub(crate) fn peers(bench: &mut Bench) -> Result<()> {
    let room = bench.room()?;
    let (path, sink) = (empty_file(room.path())?, tracking(Protocol::Lines, SLOW)?);
    let started = bench.peers().rsyslog(room.path(), &path, sink.port, Rsyslog { synced: false });
    let ids = ("rsyslog-latency-p50", "rsyslog-latency-p99");
    peer(bench, ids, &path, &sink, started)?;
    let room = bench.room()?;
    let (path, sink) = (empty_file(room.path())?, tracking(Protocol::Http, SLOW)?);
    let how = SyslogNg { batch: 1, look_every: "0.01" };
    let started = bench.peers().syslog_ng(room.path(), &path, sink.port, how);
    let ids = ("syslog-ng-latency-p50", "syslog-ng-latency-p99");
    peer(bench, ids, &path, &sink, started)
}

fn peer(
    bench: &mut Bench,
    (p50, p99): (&'static str, &'static str),
    path: &Path,
    sink: &Sink,
    started: Result<Process>,
) -> Result<()> {
    match started {
        Err(missing) => bench.report.remark(format!("`{p50}` was not measured: {missing}")),
        Ok(mut process) => {
            thread::sleep(SETTLE);
            let mut ms = sample(bench, path, SLOW, sink, &mut process)?;
            bench.report.add(p50, percentile(&mut ms, 0.5));
            bench.report.add(p99, percentile(&mut ms, 0.99));
            process.stop()?;
        }
    }
    Ok(())
}

fn tracking(protocol: Protocol, pace: Pace) -> Result<Sink> {
    Sink::start(0, protocol, WARM_UP + pace.alerts)
}

/// Milliseconds of each alert after the warm-up.
fn sample(
    bench: &Bench,
    path: &Path,
    pace: Pace,
    sink: &Sink,
    sender: &mut Process,
) -> Result<Vec<f64>> {
    let written = write(bench, path, pace)?;
    sink.wait_for(written.len() as u64, sender)?;
    let pairs = written.iter().zip(sink.arrivals()).skip(WARM_UP as usize);
    Ok(pairs.map(|(written, arrived)| arrived.saturating_sub(*written) as f64 / 1e6).collect())
}

/// Appends at an even pace; returns when each line was written.
fn write(bench: &Bench, path: &Path, pace: Pace) -> Result<Vec<u64>> {
    let mut file = OpenOptions::new().append(true).open(path)?;
    let interval_ns = 1_000_000_000 * pace.burst / pace.alerts_per_second;
    let (mut written, mut lines) = (Vec::new(), Vec::new());
    let mut due = now_ns();
    for number in 0..WARM_UP + pace.alerts {
        bench.alerts.write(number, &mut lines);
        if (number + 1) % pace.burst != 0 {
            continue;
        }
        due += interval_ns;
        sleep_until(due);
        written.extend((0..pace.burst).map(|_| now_ns()));
        file.write_all(&lines)?;
        lines.clear();
    }
    Ok(written)
}
