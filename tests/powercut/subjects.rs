//! Small programs that keep, or forget, to sync. They run in their own process, under the shim:
//! this test binary is started again with POWERCUT_SUBJECT naming one of them.
//!
//! Each prints `ack <number> <nanoseconds>` when it believes that a number is on stable storage.

use std::{
    fs::{self, File, OpenOptions},
    io::{IoSlice, Read, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::time::{ClockId, clock_gettime};

use crate::shim::Shim;

pub(crate) const RECORD_BYTES: usize = 600;
const RECORDS: u64 = 60;
pub(crate) const SLED_KEYS: u64 = 1_500;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) number: u64,
    pub(crate) ns: u64,
}

pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Runs one of the programs below to its end and returns what it acknowledged.
pub(crate) fn run(shim: &Shim, subject: &str) -> Vec<Ack> {
    let mut program = this_binary("run_as_subject");
    program.env("POWERCUT_SUBJECT", subject);
    shim.put_under(&mut program);
    let output = program.output().expect("start the test binary again");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{subject} failed:\n{text}\n{errors}");
    text.lines().filter_map(parse_ack).collect()
}

/// Starts this binary again for one test function.
pub(crate) fn this_binary(test: &str) -> Command {
    let mut program = Command::new(std::env::current_exe().expect("the test binary"));
    program.args([&format!("subjects::{test}"), "--exact", "--nocapture", "--test-threads=1"]);
    program.stdin(Stdio::null());
    program
}

fn parse_ack(line: &str) -> Option<Ack> {
    // libtest may have begun the line with its own words.
    let (_, ack) = line.split_once("ack ")?;
    let (number, ns) = ack.split_once(' ')?;
    Some(Ack { number: number.parse().ok()?, ns: ns.parse().ok()? })
}

/// Not a test of its own: the body of the processes that `run` starts.
#[test]
fn run_as_subject() {
    let Ok(subject) = std::env::var("POWERCUT_SUBJECT") else { return };
    let root = PathBuf::from(std::env::var_os("POWERCUT_ROOT").expect("POWERCUT_ROOT"));
    match subject.as_str() {
        "append, synced" => append(&root, true),
        "append, not synced" => append(&root, false),
        "overwrite, synced" => overwrite(&root),
        "replace, synced" => replace(&root, true, true),
        "replace, draft not synced" => replace(&root, false, true),
        "replace, directory not synced" => replace(&root, true, false),
        "every kind of change" => every_kind_of_change(&root),
        "behind the shim's back" => unseen(&root),
        "sled" => sled_appends(&root),
        other => panic!("no subject `{other}`"),
    }
}

fn ack(number: u64) {
    println!("ack {number} {}", now_ns());
}

/// A record that is long enough to cross pages, and says which it is.
pub(crate) fn record(number: u64) -> Vec<u8> {
    let mut bytes = vec![b'.'; RECORD_BYTES];
    bytes[..8].copy_from_slice(&(number + 1).to_le_bytes());
    bytes
}

fn append(root: &Path, synced: bool) {
    let mut file = OpenOptions::new().create(true).append(true).open(root.join("log")).unwrap();
    for number in 0..RECORDS {
        file.write_all(&record(number)).unwrap();
        if synced {
            file.sync_data().unwrap();
        }
        ack(number);
    }
}

/// Writes into a file whose size never changes, while another file's rename waits for a commit
/// that no such sync brings.
fn overwrite(root: &Path) {
    let file = File::create(root.join("log")).unwrap();
    file.set_len(RECORDS * RECORD_BYTES as u64).unwrap();
    file.sync_all().unwrap();
    fs::write(root.join("other.draft"), b"").unwrap();
    fs::rename(root.join("other.draft"), root.join("other")).unwrap();
    for number in 0..RECORDS {
        file.write_all_at(&record(number), number * RECORD_BYTES as u64).unwrap();
        file.sync_data().unwrap();
        ack(number);
    }
}

fn replace(root: &Path, draft_synced: bool, directory_synced: bool) {
    let (draft, target) = (root.join("draft"), root.join("target"));
    for number in 0..RECORDS {
        let mut file = File::create(&draft).unwrap();
        file.write_all(&record(number)).unwrap();
        if draft_synced {
            file.sync_all().unwrap();
        }
        fs::rename(&draft, &target).unwrap();
        if directory_synced {
            File::open(root).unwrap().sync_all().unwrap();
        }
        ack(number);
    }
}

fn every_kind_of_change(root: &Path) {
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::write(root.join("a/b/one"), vec![1; 10_000]).unwrap();
    fs::copy(root.join("a/b/one"), root.join("a/two")).unwrap();
    fs::hard_link(root.join("a/two"), root.join("three")).unwrap();
    fs::rename(root.join("a/two"), root.join("a/b/two")).unwrap();
    let mut file = OpenOptions::new().append(true).open(root.join("three")).unwrap();
    file.write_all(b"appended").unwrap();
    file.set_len(9_000).unwrap();
    file.set_len(20_000).unwrap();
    let parts = [IoSlice::new(b"in "), IoSlice::new(b"parts")];
    assert_eq!(file.write_vectored(&parts).unwrap(), 8);
    fs::create_dir(root.join("gone")).unwrap();
    fs::write(root.join("gone/file"), b"x").unwrap();
    fs::remove_dir_all(root.join("gone")).unwrap();
    fs::write(root.join("a/b/one"), b"shorter").unwrap();
    // An inode number that was ours, and may be given to a file elsewhere next.
    fs::remove_file(root.join("a/b/one")).unwrap();
    let outside = root.with_file_name("outside");
    fs::write(&outside, vec![9; 5_000]).unwrap();
    // A child goes on in the same journal, as long as its parent waits.
    let mut fallocate = Command::new("fallocate");
    assert!(fallocate.args(["-l", "30000"]).arg(root.join("three")).status().unwrap().success());
    OpenOptions::new().append(true).open(root.join("three")).unwrap().write_all(b"end").unwrap();
    let mut read = String::new();
    File::open("/proc/self/comm").unwrap().read_to_string(&mut read).unwrap();
}

/// A program that the shim does not see, as a raw system call or a shared mapping would not be.
fn unseen(root: &Path) {
    fs::write(root.join("seen"), b"seen").unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", "echo unseen >> \"$0\""]).arg(root.join("seen")).env_remove("LD_PRELOAD");
    assert!(shell.status().unwrap().success());
}

/// What a user of sled 0.34 does who trusts `flush`.
fn sled_appends(root: &Path) {
    let config = sled::Config::new().path(root.join("db")).flush_every_ms(None);
    let db = config.segment_size(64 * 1024).open().unwrap();
    // sled writes `conf` in two parts and never syncs it; half of it makes the database unopenable.
    File::open(root.join("db/conf")).unwrap().sync_all().unwrap();
    for number in 0..SLED_KEYS {
        db.insert(number.to_be_bytes(), record(number)).unwrap();
        if number % 10 == 9 {
            db.flush().unwrap();
            (number - 9..=number).for_each(ack);
        }
    }
}

/// The body of the processes that look into a sled database after a cut; sled may panic, or abort.
#[test]
fn list_sled_keys() {
    let Some(root) = std::env::var_os("POWERCUT_SLED") else { return };
    let path = Path::new(&root).join("db");
    let db = sled::Config::new().path(path).segment_size(64 * 1024).open().unwrap();
    for entry in db.iter() {
        let (key, value) = entry.unwrap();
        let number = u64::from_be_bytes(key.as_ref().try_into().unwrap());
        if value == record(number) {
            println!("key {number}");
        }
    }
}
