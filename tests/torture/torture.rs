use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::Value;

use crate::{
    lanes::{LANES, LaneUnderTest},
    layout::Layout,
    poster::{self, Posted},
    receivers::{Mood, Sink},
    support::{
        Config, Gateway, eventually,
        wait::{holds, now_ns, since, within},
    },
    writer::{self, Written},
};

const KILLS: u32 = 200;
/// Without anything new arriving for so long, what is missing is lost.
const STANDSTILL_MAX: Duration = Duration::from_secs(60);
/// How often the records are recounted between two runs.
const VERIFY_EVERY: u32 = 20;

struct Bench {
    gateway: Gateway,
    port: Arc<AtomicU16>,
    mood: Mood,
    sinks: Vec<Sink>,
    dice: StdRng,
}

fn number_of(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

impl Bench {
    fn new(seed: u64) -> Self {
        let mood =
            Mood { run: Arc::new(AtomicU32::new(0)), well: Arc::new(AtomicBool::new(false)) };
        let sinks: Vec<Sink> =
            (1..).zip(LANES).map(|(n, _)| Sink::start(&mood, seed ^ (n << 8))).collect();
        let retry = "timeout = \"3s\"\nretry = { initial = \"20ms\", max = \"300ms\" }";
        let config = Config::new();
        let alerts = Layout::alerts(&config.file("alerts"));
        let config = LANES.iter().zip(&sinks).fold(config.tail(&alerts), |config, (lane, sink)| {
            let keys = format!("{}\n{retry}", lane.keys);
            config.webhook(lane.name, &sink.receiver.url("/"), &keys)
        });
        let (port, dice) = (Arc::new(AtomicU16::new(0)), StdRng::seed_from_u64(seed));
        Self { gateway: Gateway::new(config), port, mood, sinks, dice }
    }

    fn millis(&mut self, range: std::ops::Range<u64>) {
        thread::sleep(Duration::from_millis(self.dice.random_range(range)));
    }

    /// Only when the killed one's last requests have been dealt with does the next run begin.
    fn end_run(&mut self) {
        self.gateway.kill();
        for sink in &self.sinks {
            eventually("the dead one's connections close", || {
                holds(sink.receiver.open_connections() == 0)
            });
        }
        self.mood.run.fetch_add(1, Ordering::SeqCst);
    }

    /// One run of the gateway, to its violent end.
    fn live_and_die(&mut self, kill: u32) {
        if self.dice.random_bool(0.15) {
            // Not even ready.
            self.gateway.spawn();
            self.port.store(self.gateway.port, Ordering::SeqCst);
            self.millis(0..120);
        } else {
            self.gateway.restart();
            self.port.store(self.gateway.port, Ordering::SeqCst);
            self.millis(50..900);
        }
        self.end_run();
        for sink in &mut self.sinks {
            match self.dice.random_range(0..10) {
                0 | 1 => sink.receiver.go_away(),
                _ => sink.receiver.come_back(),
            }
        }
        if kill.is_multiple_of(VERIFY_EVERY) {
            self.gateway.verified();
        }
        if self.dice.random_bool(0.05) {
            // Long enough for rotations, and for their compression.
            self.millis(1_000..3_000);
        }
    }

    /// Receivers are well; waits until all of `expected` has arrived, or nothing more does.
    fn drain(&mut self, expected: &BTreeSet<u64>) {
        self.mood.well.store(true, Ordering::SeqCst);
        self.sinks.iter_mut().for_each(|sink| sink.receiver.come_back());
        self.gateway.restart();
        for (lane, sink) in LANES.iter().zip(&self.sinks).filter(|(lane, _)| !lane.sums) {
            let (mut known, mut moved_at) = (0, now_ns());
            loop {
                let tally = sink.tally.lock().unwrap();
                let (count, complete) = (tally.count(), expected.iter().all(|n| tally.has(*n)));
                drop(tally);
                if count > known {
                    (known, moved_at) = (count, now_ns());
                }
                if complete || since(moved_at) > STANDSTILL_MAX {
                    break;
                }
                thread::sleep(Duration::from_millis(50));
            }
            // Lost ones are for the report to name.
            self.empty(lane.name);
        }
        for (lane, sink) in LANES.iter().zip(&self.sinks).filter(|(lane, _)| lane.sums) {
            // The last window has yet to end; what is not in a summary then is for the report.
            let total = self.sinks[0].tally.lock().unwrap().count() as u64;
            within(STANDSTILL_MAX, || holds(sink.tally.lock().unwrap().summed() == total));
            self.empty(lane.name);
        }
    }

    /// All but a canary that is just on its way.
    fn empty(&self, lane: &str) {
        let is_empty = |lane: &Value| lane["ledger"]["pending"].as_u64() <= Some(1);
        self.gateway.wait_for_lane(lane, "was empty", is_empty);
    }
}

/// Lost, invented, duplicates for each kill (most, mean): one lane's numbers.
struct Numbers {
    lost: Vec<u64>,
    invented: Vec<u64>,
    most: u64,
    total: u64,
}

fn judge(sink: &Sink, expected: &BTreeSet<u64>, posted: &Posted, written: u64) -> Numbers {
    let tally = sink.tally.lock().unwrap();
    let may_be = |number: &u64| {
        *number < written || posted.acknowledged.contains(number) || posted.unknown.contains(number)
    };
    Numbers {
        lost: expected.iter().copied().filter(|number| !tally.has(*number)).collect(),
        invented: tally.seen.iter().copied().filter(|number| !may_be(number)).collect(),
        most: tally.by_kill.values().copied().max().unwrap_or(0),
        total: tally.by_kill.values().sum(),
    }
}

fn alongside(bench: &mut Bench, folder: &Path, kills: u32, seed: u64) -> (Written, Posted) {
    let stop = AtomicBool::new(false);
    let port = Arc::clone(&bench.port);
    thread::scope(|scope| {
        let writing = scope.spawn(|| writer::write(folder, seed ^ 3, &stop));
        eventually("the first file is there", || holds(Layout::alerts(folder).exists()));
        let posting = scope.spawn(|| poster::post(&port, seed ^ 4, &stop));
        // Panics must not leave the others running.
        let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for kill in 1..=kills {
                bench.live_and_die(kill);
                if kill % 25 == 0 {
                    println!("{kill} kills");
                }
            }
            bench.gateway.restart();
            bench.port.store(bench.gateway.port, Ordering::SeqCst);
        }));
        stop.store(true, Ordering::SeqCst);
        let written = writing.join().unwrap().expect("write the alerts");
        let posted = posting.join().unwrap();
        if let Err(panic) = killed {
            std::panic::resume_unwind(panic);
        }
        bench.end_run();
        (written, posted)
    })
}

/// Prints one lane's numbers and answers what is wrong with them.
fn report(
    bench: &Bench,
    lane: &LaneUnderTest,
    sink: &Sink,
    expected: &BTreeSet<u64>,
    posted: &Posted,
    written: &Written,
    kills: u32,
) -> Vec<String> {
    let (name, bound) = (lane.name, lane.bound);
    let mut numbers = judge(sink, expected, posted, written.alerts);
    let difference = bench.gateway.lane(name)["ledger"]["difference"].clone();
    let mean = numbers.total as f64 / f64::from(kills);
    let total = bench.sinks[0].tally.lock().unwrap().count() as u64;
    let tally = sink.tally.lock().unwrap();
    let mut faults = Vec::new();
    if lane.sums {
        // What did not come by itself must be in a summary, and nowhere twice.
        numbers.lost.clear();
        println!(
            "{name}: {} at once and {} in summaries are {} of {total}",
            tally.count(),
            tally.summed() - tally.count() as u64,
            tally.summed()
        );
        if tally.summed() != total {
            faults.push(format!("{name}: {} of {total} alerts", tally.summed()));
        }
    } else {
        assert!(tally.summaries.is_empty(), "{name} sent summaries");
    }
    println!(
        "{name}: lost {}, invented {}, duplicates per kill {} at most (bound {bound}) and \
         {mean:.2} on average, {} summaries, {} canaries, ledger difference {difference}",
        numbers.lost.len(),
        numbers.invented.len(),
        numbers.most,
        tally.summaries.len(),
        tally.canaries,
    );
    let twice = tally.twice_in();
    let lists =
        [("lost", &numbers.lost), ("invented", &numbers.invented), ("taken in twice", &twice)];
    for (what, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        let few = &list[..list.len().min(10)];
        faults.push(format!("{name}: {} {what}: {few:?}", list.len()));
    }
    if numbers.most > bound {
        faults.push(format!("{name}: {:?}", tally.by_kill));
    }
    if !tally.unexplained.is_empty() {
        faults.push(format!("{name}: delivered twice without a kill: {:?}", tally.unexplained));
    }
    faults
}

#[test]
fn nothing_is_lost_or_invented_however_often_it_is_killed() {
    let kills = number_of("TORTURE_KILLS").map_or(KILLS, |kills| kills as u32);
    let seed = number_of("TORTURE_SEED").unwrap_or_else(|| rand::random::<u32>().into());
    println!("TORTURE_SEED={seed} TORTURE_KILLS={kills}");
    let mut bench = Bench::new(seed);
    let folder = bench.gateway.config.file("alerts");
    let (written, posted) = alongside(&mut bench, &folder, kills, seed);
    let expected: BTreeSet<u64> =
        (0..written.alerts).chain(posted.acknowledged.iter().copied()).collect();
    bench.drain(&expected);

    println!(
        "{} alerts written in {} parts ({} compressed); {} posts' alerts acknowledged, {} without \
         an answer, {} refused; {} answers were repeats",
        written.alerts,
        written.rotations + 1,
        written.compressed,
        posted.acknowledged.len(),
        posted.unknown.len(),
        posted.refused.len(),
        posted.replayed,
    );
    let mut faults = Vec::new();
    for (lane, sink) in LANES.iter().zip(&bench.sinks) {
        faults.extend(report(&bench, lane, sink, &expected, &posted, &written, kills));
    }
    let dead = bench.gateway.get("/v1/dead-letters?limit=5").json();
    if dead["data"].as_array().is_none_or(|dead| !dead.is_empty()) {
        faults.push(format!("dead letters: {dead}"));
    }
    assert!(faults.is_empty(), "{}\n{}", faults.join("\n"), bench.gateway.last_words());
    bench.gateway.finish();
}
