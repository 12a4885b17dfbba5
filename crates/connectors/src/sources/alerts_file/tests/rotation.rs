//! Other files take the file's place.

use std::{fs, io::Write, time::Duration};

use super::{Fake, Running, Scene, from_beginning, from_end, wazuh::compress};

#[tokio::test]
async fn nothing_is_missed_at_midnight_or_at_a_size_limit() {
    let mut scene = Scene::running().await;
    for round in 0..20 {
        scene.wazuh.write_alerts(3);
        match round % 3 {
            0 => scene.wazuh.midnight(1),
            1 => scene.wazuh.size_limit(),
            _ => scene.until_caught_up().await,
        }
        scene.wazuh.write_alerts(1);
    }
    scene.until_caught_up().await;
    scene.stop().await;
}

#[tokio::test]
async fn after_days_away_it_reads_the_rest_and_every_part_since_in_order() {
    for compressed in [false, true] {
        let mut scene = Scene::running().await;
        scene.wazuh.write_alerts(5);
        scene.until_caught_up().await;
        scene.stop().await;
        scene.wazuh.write_alerts(4);
        for days in [1, 1, 40, 400] {
            scene.wazuh.midnight(days);
            scene.wazuh.write_alerts(2);
            scene.wazuh.size_limit();
            scene.wazuh.write_alerts(2);
            scene.wazuh.size_limit();
            scene.wazuh.write_alerts(2);
        }
        if compressed {
            scene.wazuh.compress_old();
        }
        scene.start();
        scene.until_caught_up().await;
        scene.wazuh.write_alerts(1);
        scene.until_caught_up().await;
        scene.stop().await;
    }
}

#[tokio::test]
async fn a_part_compressed_while_it_is_read_is_no_matter() {
    let mut scene = Scene::running().await;
    scene.wazuh.write_alerts(2000);
    scene.wazuh.midnight(1);
    scene.wazuh.compress_old();
    scene.wazuh.write_alerts(2);
    scene.crash().await;
    scene.start();
    scene.until_caught_up().await;
}

#[tokio::test]
async fn a_restart_at_any_batch_takes_every_line_once() {
    let mut scene = Scene::running().await;
    scene.stop().await;
    for _ in 0..6 {
        scene.wazuh.write_alerts(2500);
        scene.wazuh.size_limit();
    }
    scene.wazuh.compress_old();
    scene.wazuh.write_alerts(10);
    while scene.intake.stored().lines.len() < scene.wazuh.written.len() {
        let before = scene.intake.stored().lines.len();
        scene.start();
        scene.intake.until("one more batch", |stored| stored.lines.len() > before).await;
        scene.crash().await;
    }
    assert_eq!(scene.intake.stored().lines, scene.wazuh.written);
}

#[tokio::test]
async fn a_clock_set_back_across_midnight_repeats_nothing() {
    let mut scene = Scene::running().await;
    scene.wazuh.write_alerts(2);
    scene.until_caught_up().await;
    for _ in 0..2 {
        scene.wazuh.midnight(1);
        scene.wazuh.write_alerts(2);
        scene.until_caught_up().await;
        scene.wazuh.back(1);
        scene.wazuh.write_alerts(2);
        scene.until_caught_up().await;
    }
}

#[tokio::test]
async fn the_kernel_reports_new_lines_also_after_a_rotation() {
    let mut scene = Scene::new();
    let options = super::Options {
        poll_interval: Duration::from_secs(3600),
        ..from_beginning(&scene.wazuh.path())
    };
    scene.running = Some(Running::start(options, &scene.intake));
    for _ in 0..5 {
        scene.wazuh.write_alerts(1);
        scene.until_caught_up().await;
        scene.wazuh.midnight(1);
        scene.wazuh.write_alerts(1);
        scene.until_caught_up().await;
    }
}

/// Appends to a plain file, as programs other than Wazuh do.
fn append(path: &std::path::Path, text: &str) {
    let mut file = fs::File::options().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[tokio::test]
async fn a_plain_rename_is_followed_while_the_writer_goes_on_in_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.json");
    let intake = std::sync::Arc::<Fake>::default();
    append(&path, "{\"n\":1}\n");
    let settle = Duration::from_millis(400);
    let options = super::Options { settle, ..from_beginning(&path) };
    let running = Running::start(options, &intake);
    intake.until_lines(&["{\"n\":1}"]).await;
    let mut old = fs::File::options().append(true).open(&path).unwrap();
    fs::rename(&path, folder.path().join("alerts.json.1")).unwrap();
    append(&path, "{\"n\":3}\n");
    old.write_all(b"{\"n\":2}\n").unwrap();
    intake.until_lines(&["{\"n\":1}", "{\"n\":2}", "{\"n\":3}"]).await;
    running.stop().await;
}

#[tokio::test]
async fn renamed_files_are_read_in_order_after_a_downtime_compressed_or_not() {
    for compressed in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts.json");
        let intake = std::sync::Arc::<Fake>::default();
        append(&path, "{\"n\":1}\n");
        let running = Running::start(from_beginning(&path), &intake);
        intake.until_lines(&["{\"n\":1}"]).await;
        running.stop().await;
        append(&path, "{\"n\":2}\n");
        let named = |name: &str| folder.path().join(name);
        fs::rename(&path, named("alerts.json.2")).unwrap();
        append(&named("alerts.json.1"), "{\"n\":3}\n");
        append(&path, "{\"n\":4}\n");
        if compressed {
            compress(&named("alerts.json.2"));
        }
        let running = Running::start(from_beginning(&path), &intake);
        intake.until_lines(&["{\"n\":1}", "{\"n\":2}", "{\"n\":3}", "{\"n\":4}"]).await;
        running.stop().await;
    }
}

#[tokio::test]
async fn a_copy_made_before_truncation_is_read_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.json");
    let intake = std::sync::Arc::<Fake>::default();
    append(&path, "{\"n\":1}\n");
    let running = Running::start(from_beginning(&path), &intake);
    intake.until_lines(&["{\"n\":1}"]).await;
    running.stop().await;
    append(&path, "{\"n\":2}\n");
    fs::copy(&path, folder.path().join("alerts.json-20260310")).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    append(&path, "{\"n\":3}\n{\"n\":4}\n{\"n\":5}\n");
    let running = Running::start(from_beginning(&path), &intake);
    let all = ["{\"n\":1}", "{\"n\":2}", "{\"n\":3}", "{\"n\":4}", "{\"n\":5}"];
    intake.until_lines(&all).await;
    running.stop().await;
}

#[tokio::test]
async fn the_end_is_where_it_begins_and_is_remembered_before_the_first_alert() {
    let mut scene = Scene::new();
    scene.wazuh.write_alerts(3);
    scene.wazuh.write_half();
    let running = Running::start(from_end(&scene.wazuh.path()), &scene.intake);
    scene.intake.until("a position", |stored| stored.position.is_some()).await;
    running.stop().await;
    scene.wazuh.write_alerts(2);
    scene.wazuh.midnight(1);
    scene.wazuh.write_alerts(1);
    scene.wazuh.written.drain(..3);
    scene.running = Some(Running::start(from_end(&scene.wazuh.path()), &scene.intake));
    scene.until_caught_up().await;
}
