//! What can stand in a file.

use holdfast_model::RejectReason;

use super::{Scene, Stored};

#[tokio::test]
async fn a_line_waits_until_it_is_finished() {
    let mut scene = Scene::running().await;
    scene.wazuh.write_alerts(1);
    scene.until_caught_up().await;
    scene.wazuh.write_half();
    scene.stop().await;
    assert_eq!(scene.intake.stored().lines.len(), 1);
    scene.start();
    scene.wazuh.finish();
    scene.until_caught_up().await;
    assert!(scene.intake.stored().rejects.is_empty());
}

#[tokio::test]
async fn an_unfinished_line_of_a_replaced_file_is_taken_or_rejected_but_not_lost() {
    let mut scene = Scene::running().await;
    scene.wazuh.write_alerts(1);
    let last = scene.wazuh.alert();
    scene.wazuh.write_raw(last.as_bytes());
    scene.wazuh.written.push(last);
    scene.wazuh.midnight(1);
    scene.wazuh.write_alerts(1);
    scene.wazuh.write_raw(b"{\"n\":");
    scene.wazuh.size_limit();
    scene.wazuh.write_alerts(1);
    scene.until_caught_up().await;
    let rejects = scene.intake.stored().rejects.clone();
    assert_eq!(rejects.len(), 1);
    assert_eq!((rejects[0].reason, &rejects[0].raw[..]), (RejectReason::Invalid, &b"{\"n\":"[..]));
}

#[tokio::test]
async fn what_is_no_alert_becomes_a_reject_with_its_bytes_and_place() {
    let mut scene = Scene::running().await;
    scene.wazuh.write_alerts(1);
    scene.wazuh.write_raw(b"\n \r\n\n");
    scene.wazuh.write_raw(b"not json \xff\n");
    scene.wazuh.write_raw(&[0; 100_000]);
    scene.wazuh.write_alerts(1);
    scene.wazuh.write_raw(format!("{{\"pad\":\"{}\"}}\n", "x".repeat(70_000)).as_bytes());
    scene.wazuh.write_alerts(1);
    scene.until_caught_up().await;
    let rejects = scene.intake.stored().rejects.clone();
    assert_eq!(rejects.len(), 3, "blank lines are none");
    assert_eq!(&rejects[0].raw[..], b"not json \xff");
    assert!(rejects[0].message.contains("alerts.json at or after byte"), "{}", rejects[0].message);
    assert!(rejects[1].message.starts_with("100000 zero bytes"), "{}", rejects[1].message);
    assert_eq!((rejects[1].reason, rejects[1].raw.len()), (RejectReason::Invalid, 64));
    assert_eq!((rejects[2].reason, rejects[2].raw.len()), (RejectReason::TooLong, 65_536));
    assert!(rejects[2].message.contains("70010 bytes"), "{}", rejects[2].message);
}

#[tokio::test]
async fn invalid_utf8_is_kept() {
    let mut scene = Scene::running().await;
    scene.wazuh.write_raw(b"{\"full_log\":\"\xff\xfe\"}\n");
    scene.intake.until_lines(&["{\"full_log\":\"\u{fffd}\u{fffd}\"}"]).await;
    assert!(scene.intake.stored().rejects.is_empty());
}

#[tokio::test]
async fn lines_longer_than_a_block_and_files_longer_than_many_blocks_come_through() {
    let mut scene = Scene::new();
    let path = scene.wazuh.path();
    let long = format!("{{\"pad\":\"{}\"}}", "x".repeat(3 << 20));
    scene.wazuh.write_raw(format!("{long}\n").as_bytes());
    scene.wazuh.written.push(long.clone());
    scene.wazuh.write_alerts(30_000);
    scene.wazuh.write_raw(format!("{long}{long}\n").as_bytes());
    scene.wazuh.write_alerts(1);
    let form = super::Form { line_bytes_max: 4 << 20, wrap: None };
    let options = super::Options { form, ..super::from_beginning(&path) };
    scene.running = Some(super::Running::start(options, &scene.intake));
    scene.until_caught_up().await;
    let both = |stored: &Stored| stored.rejects.len() == 1;
    assert!(both(&scene.intake.stored()));
}
