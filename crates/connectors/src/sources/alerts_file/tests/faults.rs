//! What can be wrong with the file, its folder, the stored position, the queue and the settings.

use std::{cell::RefCell, fs, sync::Arc};

use bytes::Bytes;
use holdfast_model::{
    Name, RejectReason,
    settings::{Node, Section, Value},
};

use super::{Fake, PATIENCE, Refusal, Running, Scene, Stored, from_beginning, from_end};
use crate::sources::alerts_file::{KIND, position::Position};

#[tokio::test]
async fn a_missing_file_is_reported_and_read_from_its_beginning_when_it_appears() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logs/alerts.json");
    let intake = Arc::<Fake>::default();
    let running = Running::start(from_end(&path), &intake);
    let trouble = running.until_trouble("does not exist").await;
    assert!(trouble.contains("logs/alerts.json"), "{trouble}");
    running.stop().await;
    // Also when it appears while nobody looks.
    fs::create_dir(folder.path().join("logs")).unwrap();
    fs::write(&path, "{\"n\":1}\n").unwrap();
    let running = Running::start(from_end(&path), &intake);
    intake.until_lines(&["{\"n\":1}"]).await;
    running.stop().await;
}

#[tokio::test]
async fn a_file_that_vanishes_and_comes_back_as_another_is_followed() {
    let mut scene = Scene::running().await;
    scene.wazuh.write_alerts(1);
    scene.until_caught_up().await;
    fs::remove_file(scene.wazuh.path()).unwrap();
    scene.running.as_ref().unwrap().until_trouble("does not exist").await;
    scene.wazuh.write_alerts(1);
    scene.until_caught_up().await;
    scene.wazuh.size_limit();
    scene.wazuh.write_alerts(1);
    scene.until_caught_up().await;
    assert_eq!(scene.running.as_ref().unwrap().health.trouble(), None);
}

#[tokio::test]
async fn a_directory_in_its_place_is_reported_and_survived() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.json");
    let intake = Arc::<Fake>::default();
    fs::create_dir(&path).unwrap();
    let running = Running::start(from_beginning(&path), &intake);
    running.until_trouble("not a regular file").await;
    fs::remove_dir(&path).unwrap();
    fs::write(&path, "{\"n\":1}\n").unwrap();
    intake.until_lines(&["{\"n\":1}"]).await;
    running.stop().await;
}

#[tokio::test]
async fn truncation_in_place_is_noticed_while_running_and_after_a_downtime() {
    for (downtime, regrown) in [(false, 1), (false, 60), (true, 1), (true, 60)] {
        let mut scene = Scene::running().await;
        scene.wazuh.write_alerts(20);
        scene.until_caught_up().await;
        if downtime {
            scene.stop().await;
        }
        scene.wazuh.truncate(20);
        scene.wazuh.write_alerts(regrown);
        if downtime {
            scene.start();
        }
        scene.until_caught_up().await;
    }
}

#[tokio::test]
async fn a_deleted_file_is_an_error_and_the_parts_after_it_are_still_read() {
    let mut scene = Scene::running().await;
    scene.wazuh.write_alerts(2);
    scene.until_caught_up().await;
    scene.stop().await;
    let lost = scene.wazuh.plain(scene.wazuh.part());
    scene.wazuh.midnight(1);
    scene.wazuh.write_alerts(2);
    scene.wazuh.size_limit();
    scene.wazuh.write_alerts(2);
    fs::remove_file(&lost).unwrap();
    scene.start();
    scene.until_caught_up().await;
}

#[tokio::test]
async fn a_damaged_part_does_not_end_the_flow() {
    for damage in ["cut", "empty"] {
        let mut scene = Scene::running().await;
        scene.wazuh.write_alerts(1);
        scene.until_caught_up().await;
        scene.stop().await;
        scene.wazuh.midnight(1);
        let part = scene.wazuh.part();
        scene.wazuh.write_raw(&[b'\n'; 9]);
        scene.wazuh.midnight(1);
        scene.wazuh.compress_old();
        scene.wazuh.write_alerts(1);
        let packed = format!("{}.gz", scene.wazuh.plain(part).display());
        let len = fs::metadata(&packed).unwrap().len();
        let keep = if damage == "cut" { len - 6 } else { 0 };
        fs::File::options().write(true).open(&packed).unwrap().set_len(keep).unwrap();
        scene.start();
        scene.running.as_ref().unwrap().until_trouble("cannot be read").await;
        scene.until_caught_up().await;
    }
}

#[tokio::test]
async fn a_full_queue_is_waited_for_and_nothing_is_dropped() {
    let mut scene = Scene::new();
    scene.wazuh.write_alerts(3000);
    scene.intake.stored().refusals.extend([Refusal::Full; 40]);
    scene.start();
    scene.running.as_ref().unwrap().until_trouble("the queue is full").await;
    scene.until_caught_up().await;
    scene.wazuh.write_alerts(1);
    scene.until_caught_up().await;
    assert_eq!(scene.intake.stored().refused, 40);
    scene.stop().await;
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_taken_in_pieces_each_with_its_own_position() {
    let mut scene = Scene::new();
    scene.wazuh.write_alerts(50);
    scene.intake.stored().records_max = Some(3);
    while scene.intake.stored().lines.len() < 50 {
        let before = scene.intake.stored().lines.len();
        scene.start();
        scene.intake.until("one more piece", |stored| stored.lines.len() > before).await;
        scene.crash().await;
    }
    assert_eq!(scene.intake.stored().lines, scene.wazuh.written);
}

#[tokio::test]
async fn an_alert_too_large_for_the_queue_becomes_a_reject() {
    let mut scene = Scene::new();
    scene.wazuh.write_alerts(1);
    scene.wazuh.write_raw(format!("{{\"pad\":\"{}\"}}\n", "x".repeat(600)).as_bytes());
    scene.wazuh.write_alerts(1);
    scene.intake.stored().bytes_max = Some(500);
    scene.start();
    scene.until_caught_up().await;
    let stored = scene.intake.stored();
    assert_eq!(stored.rejects.len(), 1);
    assert_eq!(stored.rejects[0].reason, RejectReason::TooLong);
}

#[tokio::test]
async fn it_ends_when_the_queue_has_failed_or_stops() {
    for refusal in [Refusal::Queue, Refusal::Stopping] {
        let mut scene = Scene::new();
        scene.wazuh.write_alerts(1);
        scene.intake.stored().refusals.push_back(refusal);
        scene.start();
        let task = scene.running.take().unwrap().task;
        tokio::time::timeout(PATIENCE, task).await.expect("it ends").unwrap();
    }
}

#[tokio::test]
async fn it_stops_when_told_also_while_the_queue_is_full() {
    let mut scene = Scene::new();
    scene.wazuh.write_alerts(1);
    scene.intake.stored().refusals.extend([Refusal::Full; 100_000]);
    scene.start();
    scene.intake.until("a refusal", |stored: &Stored| stored.refused > 0).await;
    scene.stop().await;
}

#[tokio::test]
async fn a_position_that_cannot_be_read_skips_nothing() {
    let mut scene = Scene::new();
    scene.wazuh.write_alerts(2);
    scene.intake.stored().position = Some(Bytes::from_static(b"{\"v\":99}"));
    scene.running = Some(Running::start(from_end(&scene.wazuh.path()), &scene.intake));
    scene.until_caught_up().await;
    let position = scene.intake.stored().position.clone().unwrap();
    assert!(Position::decode(&position).is_ok());
}

#[test]
fn settings_are_checked_and_the_position_is_kept_by_type_and_path() {
    let node = |text: &str| Node { line: 1, value: Value::Text(text.into()) };
    let name = Name::new("wazuh").unwrap();
    for (path, good) in [("/var/ossec/alerts.json", true), ("alerts.json", false), ("/", false)] {
        let (faults, entries) = (RefCell::default(), vec![("path".to_owned(), node(path))]);
        let source = (KIND.build)(&Section::new("sources.wazuh", 1, &entries, &faults), &name);
        assert_eq!(faults.borrow().is_empty(), good, "{path}");
        let key = source.map(|source| source.position_key());
        assert_eq!(key, good.then(|| format!("alerts_file:{path}")));
    }
    let faults = RefCell::default();
    assert!((KIND.build)(&Section::new("sources.wazuh", 1, &[], &faults), &name).is_none());
    assert_eq!(faults.borrow().len(), 1, "said once");
}
