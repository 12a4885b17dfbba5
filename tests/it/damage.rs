//! A queue that is somebody else's, of another version, or damaged: refused or set aside, said
//! which, and never deleted.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;

use crate::support::{Config, Gateway, Receiver, alerts, binary, eventually};

const EVENTS: u64 = 400;
const ROUNDS: u32 = 16;

#[test]
fn a_queue_that_another_process_has_open_is_left_alone() {
    let mut first = Gateway::start(Config::new());
    let path = first.queue_path();
    let said = binary::queue("verify", &path);
    assert_eq!(said.code, Some(75), "{said:?}");
    assert!(said.err.contains("stop the gateway first"), "{said:?}");
    let mut second = Gateway::new(Config::new().queue(&format!("path = \"{}\"", path.display())));
    second.spawn();
    assert_eq!(second.wait_for_exit(), Some(75), "{}", second.log());
    assert!(second.log().contains(path.to_str().unwrap()), "{}", second.log());
    first.accept(&alerts::ndjson(0..10));
    first.finish();
}

#[test]
fn a_queue_of_another_format_is_refused_with_its_name_and_left_as_it_is() {
    let receiver = Receiver::willing();
    let mut gateway = stopped_with_backlog(&receiver);
    let path = gateway.queue_path();
    let open = || open_sled(&path);
    let db = open();
    let before = db.insert(b"f", b"holdfast-queue 999").unwrap().unwrap();
    db.flush().unwrap();
    drop(db);
    gateway.spawn();
    assert_eq!(gateway.wait_for_exit(), Some(1));
    let log = gateway.log();
    assert!(log.contains("holdfast-queue 999") && log.contains(path.to_str().unwrap()), "{log}");
    let said = binary::queue("verify", &path);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("holdfast-queue 999"), "{said:?}");

    let db = open();
    db.insert(b"f", before).unwrap();
    db.flush().unwrap();
    drop(db);
    gateway.restart();
    gateway.post("/v1/destinations/all/resume", &json!({}));
    gateway.wait_for_term("all", "delivered", EVENTS);
    gateway.finish();
}

fn open_sled(queue: &Path) -> sled::Db {
    let config = sled::Config::new().path(queue.join("sled")).segment_size(2 << 20);
    eventually("the queue is free", || config.open().ok())
}

/// A gateway that was stopped with all its events pending.
fn stopped_with_backlog(receiver: &Receiver) -> Gateway {
    let config = Config::new().queue("reserve = \"0B\"").webhook("all", &receiver.url("/"), "");
    let mut gateway = Gateway::start(config);
    gateway.post("/v1/destinations/all/pause", &json!({}));
    for n in 0..EVENTS / 10 {
        gateway.accept(&alerts::ndjson(n * 10..n * 10 + 10));
    }
    gateway.finish();
    gateway
}

fn files(folder: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), path.metadata().unwrap().len());
        }
    }
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)
        } else {
            fs::copy(entry.path(), target).map(drop).unwrap()
        }
    }
}

/// What a start on a damaged queue came to.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Refused,
    SetAside,
    Nothing,
}

/// Starts on a damaged queue and lets it deliver what it can.
fn start_damaged(gateway: &mut Gateway, receiver: &Receiver, what: &str) -> Found {
    let before = receiver.count();
    let log_before = gateway.log().len();
    gateway.spawn();
    let started = eventually("it starts, or refuses to", || {
        if gateway.exited().is_some() {
            return Some(false);
        }
        gateway.call("GET", "/readyz").send().is_ok().then_some(true)
    });
    if !started {
        let code = gateway.wait_for_exit();
        let log = gateway.log().split_off(log_before);
        assert_eq!(code, Some(1), "{log}");
        let path = gateway.config.state();
        let says = log.contains(path.to_str().unwrap());
        // The test below has the one record whose damage ends the queue.
        assert!(says || what.starts_with("record \"m"), "it must say which file:\n{log}");
        return Found::Refused;
    }
    gateway.post("/v1/destinations/all/resume", &json!({}));
    gateway.wait_for_lane("all", "sent all it has", |lane| {
        lane["ledger"]["pending"] == 0 && lane["ledger"]["difference"] == 0
    });
    assert_eq!(gateway.get("/v1/audit").status, 200, "{}", gateway.last_words());
    let mut sound: Vec<u64> = Vec::new();
    for exchange in &receiver.exchanges()[before..] {
        let text = exchange.request.text();
        let number = alerts::number(text.as_bytes()).expect("nothing else was ever posted");
        assert_eq!(text, alerts::alert(number), "a damaged alert was delivered");
        sound.push(number);
    }
    sound.sort_unstable();
    sound.dedup();
    let log = gateway.log().split_off(log_before);
    assert_eq!(gateway.terminate(), Some(0), "{}", gateway.last_words());
    let matters = ["record \"c", "record \"l"].iter().any(|start| what.starts_with(start));
    if matters || (sound.len() as u64) < EVENTS {
        let said = log.contains("damaged") || log.contains("set aside");
        assert!(said, "{what}, and not a word:\n{log}");
    }
    if sound.len() as u64 == EVENTS {
        return Found::Nothing;
    }
    // The bytes of what is missing are kept.
    let said = binary::queue("inspect", &gateway.queue_path());
    assert!(!said.out.contains(" 0 damaged records set aside"), "{said:?}");
    Found::SetAside
}

fn number_of(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn flipped_bytes_of_the_files_are_found_and_said_and_nothing_is_deleted() {
    damaged_in_rounds(flip_in_a_file);
}

#[test]
fn flipped_bytes_in_a_record_cost_that_record_and_it_is_set_aside() {
    damaged_in_rounds(|queue, _, dice| flip_in_a_record(queue, dice));
}

/// Damages the same sound queue anew in each round, and starts on it.
fn damaged_in_rounds(damage: impl Fn(&Path, u32, &mut StdRng) -> String) {
    let seed = number_of("DAMAGE_SEED").unwrap_or(20_260_310);
    let rounds = number_of("DAMAGE_ROUNDS").map_or(ROUNDS, |rounds| rounds as u32);
    println!("DAMAGE_SEED={seed} DAMAGE_ROUNDS={rounds}");
    let mut dice = StdRng::seed_from_u64(seed);
    let receiver = Receiver::willing();
    let mut gateway = stopped_with_backlog(&receiver);
    let (queue, sound) = (gateway.queue_path(), gateway.config.file("sound"));
    copy(&queue, &sound);
    let mut found = BTreeMap::new();
    for round in 0..rounds {
        fs::remove_dir_all(&queue).unwrap();
        copy(&sound, &queue);
        let files_before = files(&queue);
        let what = damage(&queue, round, &mut dice);
        println!("round {round}: {what}");
        let result = start_damaged(&mut gateway, &receiver, &what);
        println!("round {round}: {what}: {result:?}");
        for path in files_before.keys().filter(|path| !path.to_string_lossy().contains("snap.")) {
            assert!(path.exists(), "{} was deleted", path.display());
        }
        *found.entry(format!("{result:?}")).or_insert(0) += 1;
    }
    println!("{found:?}");
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
}

/// One to eight bytes from one place on.
fn flip(bytes: &mut [u8], at: usize, dice: &mut StdRng) {
    let count = dice.random_range(1..=8);
    for byte in bytes.iter_mut().skip(at).take(count) {
        *byte ^= dice.random_range(1..=255_u8);
    }
}

/// As a faulty program would: sled's own checksums are right.
fn flip_in_a_record(queue: &Path, dice: &mut StdRng) -> String {
    let db = open_sled(queue);
    // By the letter that says what it is, so that the few of a kind are met too.
    let mut kinds: BTreeMap<u8, Vec<_>> = BTreeMap::new();
    for entry in db.iter() {
        let (key, value) = entry.expect("a sound database");
        kinds.entry(key[0]).or_default().push((key, value));
    }
    let kinds: Vec<_> = kinds.into_values().collect();
    let records = &kinds[dice.random_range(0..kinds.len())];
    let (key, value) = &records[dice.random_range(0..records.len())];
    let mut value = value.to_vec();
    let at = dice.random_range(0..value.len().max(1));
    flip(&mut value, at, dice);
    db.insert(key, value).expect("write");
    db.flush().expect("flush");
    format!("record {:?} byte {at}", String::from_utf8_lossy(key))
}

/// Where bytes were written.
fn flip_in_a_file(queue: &Path, round: u32, dice: &mut StdRng) -> String {
    let files: Vec<PathBuf> = files(queue).into_keys().collect();
    let database = files.iter().position(|path| path.ends_with("db")).expect("sled's file");
    // The database itself mostly, then each of the others.
    let victim = if round.is_multiple_of(4) { dice.random_range(0..files.len()) } else { database };
    let victim = files[victim].clone();
    let mut bytes = fs::read(&victim).unwrap();
    let written: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let Some(at) = written.get(dice.random_range(0..written.len().max(1))).copied() else {
        return "nothing".to_owned();
    };
    flip(&mut bytes, at, dice);
    fs::write(&victim, bytes).unwrap();
    format!("{} byte {at}", victim.strip_prefix(queue).unwrap().display())
}

#[test]
fn a_queue_whose_own_record_is_damaged_is_refused_with_its_path() {
    let mut gateway = stopped_with_backlog(&Receiver::willing());
    let path = gateway.queue_path();
    let db = open_sled(&path);
    let mut value = db.get(b"m").unwrap().unwrap().to_vec();
    value[5] ^= 1;
    db.insert(b"m", value).unwrap();
    db.flush().unwrap();
    drop(db);
    gateway.spawn();
    assert_eq!(gateway.wait_for_exit(), Some(1));
    assert!(gateway.log().contains(path.to_str().unwrap()), "which queue? {}", gateway.log());
    let said = binary::queue("verify", &path);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains(path.to_str().unwrap()), "which queue? {said:?}");
}

#[test]
fn a_folder_that_holds_something_else_keeps_it() {
    let config = Config::new();
    let other = config.file("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("precious"), "not ours").unwrap();
    let said = binary::queue("verify", &other);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains(other.to_str().unwrap()), "{said:?}");
    let queue = format!("path = \"{}\"\nreserve = \"0B\"", other.display());
    let mut gateway = Gateway::start(config.queue(&queue));
    gateway.accept(&alerts::ndjson(0..3));
    assert_eq!(gateway.terminate(), Some(0));
    assert_eq!(fs::read_to_string(other.join("precious")).unwrap(), "not ours");
}
