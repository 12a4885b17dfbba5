//! One run of the gateway on the modelled disk: alerts flow, it is killed and started again, and
//! what it promised meanwhile is kept as evidence for the cuts.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use crate::{
    gateway::{self, Gateway, LANES, Place},
    journal::Journal,
    shim::{Shim, scratch},
    subjects::Ack,
    traffic::{Load, Receiver, Sent},
};

/// Each life ends with `kill -9`, and the next goes on with the same disk.
const LIVES: usize = 2;

/// The promises of one run. Times are CLOCK_MONOTONIC.
#[derive(Default)]
pub(crate) struct Evidence {
    /// In the order in which the answers came.
    pub(crate) acks: Vec<Ack>,
    /// Lines of the tailed file; their acknowledgement is a position that only the gateway knows.
    pub(crate) lines: u64,
    /// By lane, when each number first came.
    pub(crate) seen: [HashMap<u64, u64>; LANES.len()],
}

pub(crate) struct Run {
    pub(crate) folder: PathBuf,
    pub(crate) journal: Journal,
    pub(crate) evidence: Evidence,
    /// Removes the folder in the end, unless something was found.
    guard: Option<tempfile::TempDir>,
}

impl Run {
    /// Runs the gateway now; `ignore_fdatasync` makes it the negative control.
    pub(crate) fn live(ignore_fdatasync: Option<&'static str>, life: Duration) -> Self {
        let guard = tempfile::tempdir_in(scratch()).expect("a folder for the run");
        let folder = guard.path().canonicalize().expect("a folder that is there");
        let mut shim = Shim::new(&folder).expect("an empty disk");
        shim.ignore_fdatasync = ignore_fdatasync;
        let receivers = Receiver::of_all_lanes();
        let sent = Arc::new(Sent::default());
        let alerts = alerts_file(&folder);
        fs::write(&alerts, b"").expect("create the alerts file");
        let mut journal = None;
        for number in 0..LIVES {
            let place = Place {
                disk: &shim.root,
                alerts: &alerts,
                port: gateway::free_port(),
                ports: receivers.each_ref().map(|receiver| receiver.port),
            };
            let mut gateway =
                Gateway::start(&place, &folder, &format!("life-{number}"), Some(&shim));
            gateway.ready().unwrap_or_else(|why| panic!("{why}"));
            let load = Load::start(place.port, gateway::TOKEN, &alerts, &sent);
            thread::sleep(life);
            let frozen = shim.freeze().expect("hold the gateway still");
            drop(gateway); // under load: this is the `kill -9`
            drop(frozen);
            drop(load);
            journal = Some(shim.finished(gateway::EXPENDABLE));
        }
        let mut acks = sent.acks.lock().expect("no sender panicked").clone();
        acks.sort_by_key(|ack| ack.ns);
        let evidence =
            Evidence { acks, lines: sent.lines(), seen: receivers.each_ref().map(Receiver::seen) };
        let journal = journal.expect("at least one life");
        Self { folder, journal, evidence, guard: Some(guard) }
    }

    /// A run that was kept: its journal and evidence, to be cut again.
    pub(crate) fn kept(folder: &Path) -> io::Result<Self> {
        let journal = Journal::read(&folder.join("journal"))?;
        let evidence = Evidence::parse(&fs::read_to_string(folder.join("evidence"))?);
        let folder = folder.canonicalize()?;
        Ok(Self { folder, journal, evidence, guard: None })
    }

    /// Leaves journal and evidence where they are, because something was found in them.
    pub(crate) fn keep(&mut self) -> io::Result<&Path> {
        fs::write(self.folder.join("evidence"), self.evidence.print())?;
        if let Some(guard) = self.guard.take() {
            self.folder = guard.keep();
        }
        Ok(&self.folder)
    }

    pub(crate) fn alerts(&self) -> PathBuf {
        alerts_file(&self.folder)
    }
}

fn alerts_file(folder: &Path) -> PathBuf {
    folder.join("alerts.json")
}

impl Evidence {
    fn print(&self) -> String {
        let acks = self.acks.iter().map(|ack| ("ack", ack.number, ack.ns));
        let seen = LANES
            .iter()
            .zip(&self.seen)
            .flat_map(|(lane, seen)| seen.iter().map(|(number, ns)| (lane.name, *number, *ns)));
        [("lines", self.lines, 0)]
            .into_iter()
            .chain(acks)
            .chain(seen)
            .map(|(what, number, ns)| format!("{what} {number} {ns}\n"))
            .collect()
    }

    fn parse(text: &str) -> Self {
        let mut evidence = Self::default();
        for line in text.lines() {
            let mut words = line.split(' ');
            let what = words.next().unwrap_or_default();
            let mut number = || words.next().and_then(|word| word.parse().ok()).expect("a number");
            let (number, ns) = (number(), number());
            match what {
                "lines" => evidence.lines = number,
                "ack" => evidence.acks.push(Ack { number, ns }),
                name => {
                    let lane = LANES.iter().position(|lane| lane.name == name);
                    let lane = lane.unwrap_or_else(|| panic!("unknown evidence `{name}`"));
                    evidence.seen[lane].insert(number, ns);
                }
            }
        }
        evidence
    }
}

#[test]
fn evidence_is_read_as_it_was_written() {
    let mut evidence = Evidence {
        acks: vec![Ack { number: 3, ns: 5 }, Ack { number: 4, ns: 6 }],
        lines: 2,
        ..Evidence::default()
    };
    evidence.seen[0].insert(3, 7);
    evidence.seen[4].insert(4, 8);
    let read = Evidence::parse(&evidence.print());
    assert_eq!((read.acks, read.lines), (evidence.acks, 2));
    assert_eq!(read.seen, evidence.seen);
}
