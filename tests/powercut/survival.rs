//! The promise: an alert that was acknowledged survives a power cut.
//!
//! Three questions are put to the disk that a cut leaves behind. Most cuts: is the queue whole, and
//! does it hold every acknowledged alert that has not reached all destinations? Some: when the
//! gateway is started on it, does everything arrive, the lines of the tailed file too, and does
//! every ledger add up (that of the lane which sums up as well)? And for cuts before the first acknowledgement: does it start?

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    thread,
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    cuts::{Cut, Plan, rule, seed},
    gateway::{self, DATABASE, Gateway, LANES, Place},
    run::Run,
    traffic::{Receiver, TAIL_FROM, numbers},
};

const CUTS: usize = 100;
const CONTROL_CUTS: usize = 20;
const RESUMED: usize = 8;
const FIRST_STARTS: usize = 8;

const LIFE: Duration = Duration::from_secs(5);
const CONTROL_LIFE: Duration = Duration::from_secs(3);

/// The control is generous: whatever is older than this has reached the disk by itself.
const WRITEBACK: Duration = Duration::from_secs(1);

/// So often in a row nothing new arrives before the rest counts as lost.
const QUIET_TRIES_MAX: usize = 200;
const ARRIVAL_PAUSE: Duration = Duration::from_millis(50);

/// Nobody listens there.
const NOBODY: [u16; LANES.len()] = [1; LANES.len()];

/// What one cut left behind.
#[derive(Debug, Default)]
struct Verdict {
    /// Why the queue could not be used at all.
    unusable: Option<String>,
    lost: Vec<u64>,
}

impl Verdict {
    fn is_good(&self) -> bool {
        self.unusable.is_none() && self.lost.is_empty()
    }
}

#[test]
fn acknowledged_alerts_survive_a_power_cut() {
    let mut run = match std::env::var_os("POWERCUT_REPLAY") {
        Some(folder) => Run::kept(Path::new(&folder)).expect("a run that was kept"),
        None => Run::live(None, LIFE),
    };
    let seed = seed();
    let cuts = std::env::var("POWERCUT_CUTS").map_or(CUTS, |n| n.parse().expect("POWERCUT_CUTS"));
    let mut dice = StdRng::seed_from_u64(seed);
    let (first, last) = acknowledged_span(&run);
    let points: Vec<usize> = (0..cuts).map(|_| point(&run, first, last, &mut dice)).collect();
    let resumed: Vec<usize> = (0..RESUMED).map(|_| point(&run, first, last, &mut dice)).collect();
    let starts: Vec<usize> = (0..FIRST_STARTS).map(|_| dice.random_range(0..first)).collect();

    println!(
        "{} alerts acknowledged, {} lines tailed, {:?} delivered, {} operations, {} bytes, seed \
         {seed}",
        run.evidence.acks.len(),
        run.evidence.lines,
        LANES
            .iter()
            .zip(&run.evidence.seen)
            .map(|(l, seen)| (l.name, seen.len()))
            .collect::<Vec<_>>(),
        run.journal.records.len(),
        run.journal.bytes.len(),
    );
    let mut good = judge("queue verified and exported", &run, None, seed, &points, |cut, image| {
        inspect(&run, cut, image)
    });
    good &= judge("gateway resumed", &run, None, !seed, &resumed, |cut, image| {
        resume(&run, cut, image)
    });
    good &= judge("gateway first started", &run, None, seed / 3, &starts, |cut, image| {
        start(&run, cut, image)
    });
    if !good {
        let folder = run.keep().expect("keep the run").display();
        panic!("repeat with POWERCUT_REPLAY={folder} POWERCUT_SEED={seed} POWERCUT_CUTS={cuts}");
    }
}

/// The negative control: with syncs that do nothing the same questions must find losses.
#[test]
fn without_real_syncs_acknowledged_alerts_are_lost() {
    let run = Run::live(Some(DATABASE), CONTROL_LIFE);
    let seed = seed();
    let mut dice = StdRng::seed_from_u64(seed);
    let (first, last) = acknowledged_span(&run);
    let points: Vec<usize> =
        (0..CONTROL_CUTS).map(|_| point(&run, first, last, &mut dice)).collect();
    println!("control: {} alerts acknowledged, seed {seed}", run.evidence.acks.len());
    let inspect = |cut: &Cut, image: &Path| inspect(&run, cut, image);
    let good = judge("control", &run, Some(WRITEBACK), seed, &points, inspect);
    assert!(!good, "no cut did harm without syncs, so the other test proves nothing");
}

/// From the first record after an acknowledgement to the end.
fn acknowledged_span(run: &Run) -> (usize, usize) {
    let first = run.evidence.acks.first().expect("alerts were acknowledged").ns;
    let records = &run.journal.records;
    (records.partition_point(|record| record.ns <= first), records.len())
}

/// Half of the cuts come anywhere, half right after an acknowledgement, where it is tightest.
fn point(run: &Run, first: usize, last: usize, dice: &mut StdRng) -> usize {
    if dice.random_bool(0.5) {
        return dice.random_range(first..=last);
    }
    let ack = run.evidence.acks[dice.random_range(0..run.evidence.acks.len())];
    run.journal.records.partition_point(|record| record.ns <= ack.ns)
}

fn judge(
    question: &str,
    run: &Run,
    writeback: Option<Duration>,
    seed: u64,
    points: &[usize],
    check: impl Fn(&Cut, &Path) -> Verdict + Sync,
) -> bool {
    let plan = Plan { journal: &run.journal, rule: rule(), writeback, seed };
    let mut verdicts = plan.run(points, &run.folder, check);
    verdicts.sort_by_key(|(cut, _)| cut.at);
    let unusable = verdicts.iter().filter(|(_, verdict)| verdict.unusable.is_some()).count();
    let lossy = verdicts.iter().filter(|(_, verdict)| !verdict.lost.is_empty()).count();
    let lost: usize = verdicts.iter().map(|(_, verdict)| verdict.lost.len()).sum();
    println!(
        "{question}: {} cuts, {unusable} unusable, {lossy} lost something, {lost} alerts lost",
        verdicts.len()
    );
    for (cut, verdict) in verdicts.iter().filter(|(_, verdict)| !verdict.is_good()).take(3) {
        let few = &verdict.lost[..verdict.lost.len().min(5)];
        println!("  {cut:?}: {:?}, lost {few:?}", verdict.unusable);
    }
    verdicts.iter().all(|(_, verdict)| verdict.is_good())
}

/// Of the lanes to which every alert comes by itself.
fn whole(seen: &[HashMap<u64, u64>; LANES.len()]) -> impl Iterator<Item = &HashMap<u64, u64>> {
    LANES.iter().zip(seen).filter(|(lane, _)| lane.is_whole).map(|(_, seen)| seen)
}

/// Whether an alert had reached a destination when the power went.
fn delivered(seen: &HashMap<u64, u64>, number: u64, cut: &Cut) -> bool {
    seen.get(&number).is_some_and(|ns| *ns < cut.ns)
}

fn acked_before<'a>(run: &'a Run, cut: &Cut) -> impl Iterator<Item = u64> + use<'a> {
    let count = run.evidence.acks.partition_point(|ack| ack.ns < cut.ns);
    run.evidence.acks[..count].iter().map(|ack| ack.number)
}

fn inspect(run: &Run, cut: &Cut, image: &Path) -> Verdict {
    let place = Place { disk: image, alerts: &run.alerts(), port: 1, ports: NOBODY };
    let name = format!("cut-{}-{}", cut.at, cut.seed);
    let mut held = HashSet::new();
    for command in ["verify", "export"] {
        let output = gateway::queue(&place, &run.folder, &name, command);
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            let unusable = Some(format!("queue {command}: {}: {words}", output.status));
            return Verdict { unusable, lost: Vec::new() };
        }
        if command == "export" {
            held.extend(numbers(&output.stdout));
        }
    }
    // What all of them have may be trimmed; anything else is still owed to one of them.
    let settled = |number| whole(&run.evidence.seen).all(|seen| delivered(seen, number, cut));
    let lost = acked_before(run, cut).filter(|n| !held.contains(n) && !settled(*n)).collect();
    Verdict { unusable: None, lost }
}

fn resume(run: &Run, cut: &Cut, image: &Path) -> Verdict {
    let receivers = Receiver::of_all_lanes();
    let ports = receivers.each_ref().map(|receiver| receiver.port);
    let gateway = match started(run, cut, image, ports) {
        Ok(gateway) => gateway,
        Err(why) => return Verdict { unusable: Some(why), lost: Vec::new() },
    };
    let lines = (0..run.evidence.lines).map(|line| TAIL_FROM + line);
    let owed: Vec<u64> = acked_before(run, cut).chain(lines).collect();
    let (mut lost, mut quiet) = (owed, 0);
    while !lost.is_empty() && quiet < QUIET_TRIES_MAX {
        thread::sleep(ARRIVAL_PAUSE);
        let before = lost.len();
        let came = receivers.each_ref().map(Receiver::seen);
        lost.retain(|number| {
            let mut lanes = whole(&came).zip(whole(&run.evidence.seen));
            !lanes.all(|(new, old)| new.contains_key(number) || delivered(old, *number, cut))
        });
        quiet = if lost.len() < before { 0 } else { quiet + 1 };
    }
    Verdict { unusable: gateway.balanced().err(), lost }
}

fn start(run: &Run, cut: &Cut, image: &Path) -> Verdict {
    Verdict { unusable: started(run, cut, image, NOBODY).err(), lost: Vec::new() }
}

fn started(
    run: &Run,
    cut: &Cut,
    image: &Path,
    ports: [u16; LANES.len()],
) -> Result<Gateway, String> {
    let (alerts, port) = (run.alerts(), gateway::free_port());
    let place = Place { disk: image, alerts: &alerts, port, ports };
    let name = format!("resumed-{}-{}", cut.at, cut.seed);
    let mut gateway = Gateway::start(&place, &run.folder, &name, None);
    gateway.ready().map(|()| gateway)
}
