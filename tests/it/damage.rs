//! A queue that is somebody else's, of another version, or damaged: refused or set aside, said
//! which, and never deleted.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;

use crate::support::{Config, Gateway, Receiver, alerts, binary, eventually, wait::holds};

const EVENTS: u64 = 400;

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
    let mut gateway = stopped_with_backlog(&Receiver::willing());
    let path = gateway.queue_path();
    let open = || {
        let config = sled::Config::new().path(path.join("sled")).segment_size(2 << 20);
        eventually("the queue is free", || config.open().ok())
    };
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
    gateway.wait_for_term("all", "delivered", EVENTS);
    gateway.finish();
}

/// A gateway that was stopped with all its events pending.
fn stopped_with_backlog(receiver: &Receiver) -> Gateway {
    let config = Config::new().queue("reserve = \"0B\"").webhook("all", &receiver.url("/"), "");
    let mut gateway = Gateway::start(config);
    gateway.post("/v1/destinations/all/pause", &json!({}));
    for n in 0..EVENTS / 10 {
        gateway.accept(&alerts::ndjson(n * 10..n * 10 + 10));
    }
    gateway.post("/v1/destinations/all/pause", &json!({}));
    assert_eq!(gateway.terminate(), Some(0));
    let mut gateway = gateway;
    gateway.restart();
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
        if entry.path().is_dir() { copy(&entry.path(), &target) } else { fs::copy(entry.path(), target).map(drop).unwrap() }
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
fn start_damaged(gateway: &mut Gateway, receiver: &Receiver) -> Found {
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
        assert!(log.contains(path.to_str().unwrap()), "it must say which file:\n{log}");
        return Found::Refused;
    }
    gateway.post("/v1/destinations/all/resume", &json!({}));
    gateway.wait_for_lane("all", "sent all it has", |lane| {
        lane["ledger"]["pending"] == 0 && lane["ledger"]["difference"] == 0
    });
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
    if sound.len() as u64 == EVENTS {
        return Found::Nothing;
    }
    // What is missing was said, and its bytes are kept.
    assert!(log.contains("damaged") || log.contains("set aside"), "lost without a word:\n{log}");
    let said = binary::queue("inspect", &gateway.queue_path());
    assert!(!said.out.contains(" 0 damaged records set aside"), "{said:?}");
    Found::SetAside
}

#[test]
fn flipped_bytes_are_found_and_said_and_nothing_is_deleted() {
    let seed = std::env::var("DAMAGE_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or(20_260_310);
    let rounds: u32 = std::env::var("DAMAGE_ROUNDS").ok().and_then(|t| t.parse().ok()).unwrap_or(16);
    println!("DAMAGE_SEED={seed}");
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
        let (victim, at) = damage(&queue, round, &mut dice);
        let result = start_damaged(&mut gateway, &receiver);
        println!("round {round}: {} byte {at}: {result:?}", victim.display());
        for path in files_before.keys().filter(|path| !path.to_string_lossy().contains("snap.")) {
            assert!(path.exists(), "{} was deleted", path.display());
        }
        *found.entry(format!("{result:?}")).or_insert(0) += 1;
    }
    println!("{found:?}");
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
    holds(true).unwrap();
}

/// Flips one to eight bytes of one file, where bytes were written.
fn damage(queue: &Path, round: u32, dice: &mut StdRng) -> (PathBuf, usize) {
    let files: Vec<PathBuf> = files(queue).into_keys().collect();
    let database = files.iter().position(|path| path.ends_with("db")).expect("sled's file");
    // The database itself mostly, then each of the others.
    let victim = if round.is_multiple_of(4) { dice.random_range(0..files.len()) } else { database };
    let victim = files[victim].clone();
    let mut bytes = fs::read(&victim).unwrap();
    let written: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let Some(at) = written.get(dice.random_range(0..written.len().max(1))).copied() else {
        return (victim, 0);
    };
    for place in &mut bytes[at..] .iter_mut().take(dice.random_range(1..=8)) {
        *place ^= dice.random_range(1..=255_u8);
    }
    fs::write(&victim, bytes).unwrap();
    (victim, at)
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
