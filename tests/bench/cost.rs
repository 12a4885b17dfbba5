//! What it costs to stand there, and to forward an ordinary day's load.

use std::{fs::OpenOptions, io::Write, thread, time::Duration};

use crate::{
    Bench, Result,
    clock::{now_ns, seconds_since, sleep_until},
    empty_file,
    gateway::{self, Gateway},
    sink::{Protocol, Sink},
};

const IDLE: Duration = Duration::from_secs(3);
const DESTINATIONS: usize = 5;
const ALERTS_PER_SECOND: u64 = 1000;
const SECONDS: u64 = 20;
/// Lines in one write.
const BURST: u64 = 10;

pub(crate) fn idle(bench: &mut Bench) -> Result<()> {
    let (room, sink) = (bench.room()?, Sink::start(0, Protocol::Http, 0)?);
    let path = empty_file(room.path())?;
    let tables = gateway::tail(&path) + &gateway::webhook("sink", sink.port, "");
    let gateway = Gateway::start(room.path(), &tables)?;
    thread::sleep(IDLE);
    bench.report.add("idle", gateway.process.memory_mib()?.0);
    gateway.process.stop()
}

pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    for (id, keys) in [("cost-one", ""), ("cost-batch", "batch = { max_events = 500 }")] {
        let percent = share(bench, keys)?;
        bench.report.add(id, percent);
    }
    Ok(())
}

/// Processor time for each second of the load, in percent.
fn share(bench: &Bench, keys: &str) -> Result<f64> {
    let (room, sink) = (bench.room()?, Sink::start(0, Protocol::Http, 0)?);
    let path = empty_file(room.path())?;
    let lanes = (1..=DESTINATIONS).map(|n| gateway::webhook(&format!("sink-{n}"), sink.port, keys));
    let tables = gateway::tail(&path) + &lanes.collect::<String>();
    let mut gateway = Gateway::start(room.path(), &tables)?;
    let mut file = OpenOptions::new().append(true).open(path)?;
    let (before, begun, mut lines) = (gateway.process.cpu_seconds()?, now_ns(), Vec::new());
    let mut due = begun;
    for number in 0..ALERTS_PER_SECOND * SECONDS {
        bench.alerts.write(number, &mut lines);
        if (number + 1) % BURST == 0 {
            due += 1_000_000_000 * BURST / ALERTS_PER_SECOND;
            sleep_until(due);
            file.write_all(&lines)?;
            lines.clear();
        }
    }
    let expected = ALERTS_PER_SECOND * SECONDS * DESTINATIONS as u64;
    sink.wait_for(expected, &mut gateway.process)?;
    let used = gateway.process.cpu_seconds()? - before;
    let percent = 100.0 * used / seconds_since(begun);
    gateway.process.stop()?;
    Ok(percent)
}
