//! Files that Wazuh does not write: no dated parts, osquery's rotation, records that are wrapped.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    sync::Arc,
};

use holdfast_model::RejectReason;

use super::{Fake, Form, Options, Running, from_beginning, from_end};

fn of_any(path: &Path) -> Options {
    Options { dated: false, ..from_beginning(path) }
}

fn append(path: &Path, lines: std::ops::Range<u32>) {
    let mut file = File::options().append(true).create(true).open(path).unwrap();
    for line in lines {
        writeln!(file, "{{\"n\":{line}}}").unwrap();
    }
}

async fn taken_up_to(intake: &Fake, end: u32) {
    let all: Vec<String> = (1..end).map(|n| format!("{{\"n\":{n}}}")).collect();
    intake.until_lines(&all.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

/// As `LogRotate` of osquery: the newest is plain, older ones are compressed.
fn rotate(path: &Path) {
    let named = |addition: &str| path.with_file_name(format!("log.json{addition}"));
    if named(".2.zst").exists() {
        fs::rename(named(".2.zst"), named(".3.zst")).unwrap();
    }
    if named(".1").exists() {
        let packed = zstd::encode_all(File::open(named(".1")).unwrap(), 3).unwrap();
        fs::write(named(".2.zst"), packed).unwrap();
        fs::remove_file(named(".1")).unwrap();
    }
    fs::rename(path, named(".1")).unwrap();
}

#[tokio::test]
async fn osquerys_rotation_is_followed_while_it_runs_and_after_a_downtime() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.json");
    let intake = Arc::<Fake>::default();
    append(&path, 1..3);
    let mut running = Running::start(of_any(&path), &intake);
    taken_up_to(&intake, 3).await;
    rotate(&path);
    append(&path, 3..5);
    taken_up_to(&intake, 5).await;
    running.stop().await;
    // What was read last is in `.3.zst` when it is back.
    append(&path, 5..7);
    for end in [9, 11, 13] {
        rotate(&path);
        append(&path, end - 2..end);
    }
    running = Running::start(of_any(&path), &intake);
    taken_up_to(&intake, 13).await;
    running.stop().await;
}

#[tokio::test]
async fn a_damaged_zstd_part_does_not_end_the_flow() {
    for keep in [0.5, 0.0] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.json");
        let intake = Arc::<Fake>::default();
        append(&path, 1..2);
        let running = Running::start(of_any(&path), &intake);
        taken_up_to(&intake, 2).await;
        running.stop().await;
        rotate(&path);
        append(&path, 3..3000);
        rotate(&path);
        append(&path, 4000..4001);
        let packed = path.with_file_name("log.json.2.zst");
        let content = fs::read(path.with_file_name("log.json.1")).unwrap();
        let mut whole = zstd::encode_all(&content[..], 3).unwrap();
        whole.truncate((whole.len() as f64 * keep) as usize);
        fs::rename(&packed, path.with_file_name("log.json.3.zst")).unwrap();
        fs::write(&packed, whole).unwrap();
        fs::remove_file(path.with_file_name("log.json.1")).unwrap();
        let running = Running::start(of_any(&path), &intake);
        let last = |lines: &[String]| lines.last().is_some_and(|line| line == "{\"n\":4000}");
        intake.until("the file after the damage", |stored| last(&stored.lines)).await;
        running.stop().await;
    }
}

#[tokio::test]
async fn truncation_in_place_is_noticed() {
    for regrown in [1, 40] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.json");
        let intake = Arc::<Fake>::default();
        append(&path, 1..9);
        let running = Running::start(of_any(&path), &intake);
        taken_up_to(&intake, 9).await;
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        append(&path, 9..9 + regrown);
        taken_up_to(&intake, 9 + regrown).await;
        running.stop().await;
    }
}

#[tokio::test]
async fn folders_that_look_like_wazuhs_are_not_looked_into() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.json");
    let dated = folder.path().join("2026/Mar");
    fs::create_dir_all(&dated).unwrap();
    let intake = Arc::<Fake>::default();
    append(&path, 1..2);
    fs::hard_link(&path, dated.join("ossec-alerts-10.json")).unwrap();
    let running = Running::start(of_any(&path), &intake);
    taken_up_to(&intake, 2).await;
    append(&dated.join("ossec-alerts-11.json"), 7..9);
    fs::rename(&path, path.with_file_name("log.json.1")).unwrap();
    append(&path, 2..4);
    taken_up_to(&intake, 4).await;
    running.stop().await;
    let position = intake.stored().position.clone().unwrap();
    assert!(String::from_utf8_lossy(&position).contains("\"part\":null"), "{position:?}");
}

#[tokio::test]
async fn the_end_is_where_it_begins() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.json");
    let intake = Arc::<Fake>::default();
    append(&path, 8..9);
    let running = Running::start(Options { dated: false, ..from_end(&path) }, &intake);
    intake.until("a position", |stored| stored.position.is_some()).await;
    append(&path, 1..3);
    taken_up_to(&intake, 3).await;
    running.stop().await;
}

#[tokio::test]
async fn the_limit_on_a_line_counts_the_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.json");
    let intake = Arc::<Fake>::default();
    let long = |bytes: usize| format!("{{\"pad\":\"{}\"}}", "x".repeat(bytes - 10));
    fs::write(&path, format!("{}\n{}\n", long(1024), long(1025))).unwrap();
    let form = Form { line_bytes_max: 1024, wrap: None };
    let running = Running::start(Options { form, ..of_any(&path) }, &intake);
    intake.until("a reject", |stored| !stored.rejects.is_empty()).await;
    running.stop().await;
    let stored = intake.stored();
    assert_eq!((stored.lines.len(), stored.rejects.len()), (1, 1));
    assert_eq!(stored.rejects[0].reason, RejectReason::TooLong);
}
