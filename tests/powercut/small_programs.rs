//! The harness against programs whose faults are known: it finds a loss exactly where a sync is
//! missing. Each program is cut at every point of its life, several times over.

use std::{collections::HashSet, fs, path::Path};

use crate::{
    cuts::{Cut, Plan, seed},
    journal::Journal,
    names::Rule,
    shim::{Shim, scratch},
    subjects::{self, Ack, RECORD_BYTES, SLED_KEYS, record},
};

/// Each point is cut this often, with other dice.
const ROUNDS: u64 = 8;

/// Each is a process that opens a database.
const SLED_CUTS: usize = 25;

struct Life {
    folder: tempfile::TempDir,
    journal: Journal,
    acks: Vec<Ack>,
}

fn live(subject: &str, set: impl FnOnce(&mut Shim)) -> Life {
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let mut shim = Shim::new(folder.path()).unwrap();
    set(&mut shim);
    let acks = subjects::run(&shim, subject);
    let journal = shim.finished(&[]);
    assert!(!journal.records.is_empty(), "nothing was recorded");
    Life { folder, journal, acks }
}

impl Life {
    /// How many cuts lost something that was acknowledged before them.
    fn losses(&self, rule: Rule, survives: impl Fn(&Ack, &Path) -> bool + Sync) -> usize {
        let points: Vec<usize> = (0..=self.journal.records.len()).collect();
        let seed = seed();
        let rounds = (0..ROUNDS).map(|round| {
            let plan = Plan {
                journal: &self.journal,
                rule,
                writeback: None,
                seed: seed.wrapping_add(round),
            };
            let check = |cut: &Cut, image: &Path| {
                let mut acked = self.acks.iter().filter(|ack| ack.ns < cut.ns);
                acked.any(|ack| !survives(ack, image))
            };
            let outcomes = plan.run(&points, self.folder.path(), check);
            outcomes.iter().filter(|(_, lost)| *lost).count()
        });
        let lost = rounds.sum();
        println!("{} cuts, seed {seed}: {lost} lost something", points.len() as u64 * ROUNDS);
        lost
    }
}

/// Whether the file holds this record at its place.
fn in_log(ack: &Ack, image: &Path) -> bool {
    let Ok(bytes) = fs::read(image.join("log")) else { return false };
    let start = ack.number as usize * RECORD_BYTES;
    bytes.get(start..start + RECORD_BYTES) == Some(&record(ack.number)[..])
}

/// Whether the file holds this state, or a later one, whole.
fn in_target(ack: &Ack, image: &Path) -> bool {
    let Ok(bytes) = fs::read(image.join("target")) else { return false };
    let Some(head) = bytes.get(..8) else { return false };
    let number = u64::from_le_bytes(head.try_into().unwrap());
    number > ack.number && bytes == record(number - 1)
}

#[test]
fn an_append_that_is_synced_survives_every_cut() {
    let life = live("append, synced", |_| {});
    assert_eq!(life.acks.len(), 60);
    assert_eq!(life.losses(Rule::Ordered, in_log), 0);
}

#[test]
fn an_append_that_is_not_synced_is_lost() {
    assert_ne!(live("append, not synced", |_| {}).losses(Rule::Ordered, in_log), 0);
}

#[test]
fn an_append_whose_sync_is_ignored_is_lost() {
    let life = live("append, synced", |shim| shim.ignore_fdatasync = Some("log"));
    assert_ne!(life.losses(Rule::Ordered, in_log), 0);
}

#[test]
fn a_new_file_whose_directory_was_not_synced_is_lost_by_the_letter_of_posix() {
    let life = live("append, synced", |_| {});
    assert_ne!(life.losses(Rule::Strict, in_log), 0);
}

#[test]
fn writing_in_place_survives_and_commits_no_rename_of_another_file() {
    let life = live("overwrite, synced", |_| {});
    assert_eq!(life.losses(Rule::Ordered, in_log), 0);
    let renamed = |_: &Ack, image: &Path| image.join("other").exists();
    assert_ne!(life.losses(Rule::Ordered, renamed), 0);
}

#[test]
fn a_file_replaced_by_the_book_is_old_or_new_under_both_rules() {
    let life = live("replace, synced", |_| {});
    assert_eq!(life.losses(Rule::Ordered, in_target), 0);
    assert_eq!(life.losses(Rule::Strict, in_target), 0);
}

#[test]
fn a_file_replaced_by_a_draft_that_was_not_synced_is_torn() {
    assert_ne!(live("replace, draft not synced", |_| {}).losses(Rule::Ordered, in_target), 0);
}

#[test]
fn a_rename_whose_directory_was_not_synced_is_lost() {
    let life = live("replace, directory not synced", |_| {});
    assert_ne!(life.losses(Rule::Ordered, in_target), 0);
}

#[test]
fn the_journal_explains_every_kind_of_change() {
    let life = live("every kind of change", |_| {});
    assert!(life.journal.records.len() > 20);
}

#[test]
#[should_panic(expected = "the journal does not explain the disk: seen")]
fn a_change_that_the_shim_did_not_see_is_found() {
    live("behind the shim's back", |_| {});
}

#[test]
fn a_journal_torn_anywhere_is_read_up_to_the_tear() {
    let life = live("append, synced", |_| {});
    let (whole, count) = (&life.journal.bytes, life.journal.records.len());
    for len in (0..whole.len()).step_by(37) {
        let torn = Journal::parse(whole[..len].to_vec()).unwrap();
        assert!(torn.records.len() < count);
    }
}

#[test]
fn the_same_seed_gives_the_same_image() {
    let life = live("append, not synced", |_| {});
    let images = |seed| {
        let plan = Plan { journal: &life.journal, rule: Rule::Ordered, writeback: None, seed };
        let read = |_: &Cut, image: &Path| fs::read(image.join("log")).ok();
        let mut found = plan.run(&[20, 40, 60], life.folder.path(), read);
        found.sort_by_key(|(cut, _)| cut.at);
        found.into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>()
    };
    assert_eq!(images(7), images(7));
}

/// sled's own `flush` ends in `sync_file_range`: the reason for this harness.
#[test]
fn sled_loses_writes_with_sync_file_range_and_none_with_fdatasync() {
    let range = live("sled", |_| {});
    let real = live("sled", |shim| shim.range_is_fdatasync = true);
    let ignored = live("sled", |shim| {
        shim.range_is_fdatasync = true;
        shim.ignore_fdatasync = Some("db");
    });
    assert_ne!(sled_failures("sync_file_range", &range), 0);
    assert_eq!(sled_failures("fdatasync", &real), 0);
    assert_ne!(sled_failures("fdatasync, ignored", &ignored), 0);
}

/// How many cuts left a database that does not open, or that lost something acknowledged.
fn sled_failures(name: &str, life: &Life) -> usize {
    assert_eq!(life.acks.len() as u64, SLED_KEYS);
    let seed = seed();
    let plan = Plan { journal: &life.journal, rule: Rule::Ordered, writeback: None, seed };
    let last = life.journal.records.len();
    let first = life.journal.records.partition_point(|record| record.ns < life.acks[0].ns);
    let points: Vec<usize> =
        (0..SLED_CUTS).map(|part| first + (last - first) * part / (SLED_CUTS - 1)).collect();
    let outcomes = plan.run(&points, life.folder.path(), |cut, image| {
        let mut look = subjects::this_binary("list_sled_keys");
        let output = look.env("POWERCUT_SLED", image).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let keys: HashSet<u64> =
            text.lines().filter_map(|line| line.split_once("key ")?.1.parse().ok()).collect();
        let mut acked = life.acks.iter().filter(|ack| ack.ns < cut.ns);
        (output.status.success(), acked.any(|ack| !keys.contains(&ack.number)))
    });
    let unopenable = outcomes.iter().filter(|(_, (opened, _))| !opened).count();
    let lossy = outcomes.iter().filter(|(_, (opened, lost))| *opened && *lost).count();
    println!(
        "sled with {name}: {SLED_CUTS} cuts, seed {seed}: {unopenable} unopenable, {lossy} lossy"
    );
    unopenable + lossy
}
