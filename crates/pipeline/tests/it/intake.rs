use std::sync::Arc;

use bytes::Bytes;
use holdfast_model::{
    DeadReason, Intake, IntakeBatch, IntakeError, NewEvent, Reject, RejectReason,
};
use holdfast_pipeline::QueueIntake;
use holdfast_queue::QueueEngine;

use crate::rig::*;

const BYTES_MAX: u64 = 1_000;

fn intake(rig: &Rig, position_key: &str) -> QueueIntake {
    let engine = Arc::clone(&rig.queue) as Arc<dyn QueueEngine>;
    QueueIntake::new(
        engine,
        rig.clock.clone(),
        rig.metrics.clone(),
        BYTES_MAX,
        position_key.to_owned(),
    )
}

fn batch(bodies: &[&str]) -> IntakeBatch {
    let events = bodies.iter().map(|body| NewEvent::alert((*body).to_owned())).collect();
    IntakeBatch { events, ..IntakeBatch::default() }
}

fn counted(rig: &Rig, source: &str, result: &str) -> u64 {
    rig.metrics.ingest_alerts.with_label_values(&[source, result]).get()
}

fn refused(rig: &Rig, source: &str, reason: &str) -> u64 {
    rig.metrics.ingest_rejected.with_label_values(&[source, reason]).get()
}

#[tokio::test(start_paused = true)]
async fn what_a_source_brings_in_is_answered_with_ids_and_reaches_the_lanes() {
    let (mut rig, far) = (Rig::new(), FarEnd::new());
    rig.lane("a", settings(|_| {}), &far).await;
    let source: Arc<str> = "wazuh".into();
    let accepted = intake(&rig, "file:/x").append(&source, batch(&["{}", "{}"])).await.unwrap();
    assert_eq!((accepted.accepted, accepted.rejected), (2, 0));
    let ids = (accepted.first.unwrap(), accepted.last.unwrap());
    assert_eq!((ids.0.log, ids.1.seq - ids.0.seq), (rig.queue.log_id().clone(), 1));
    assert_eq!(rig.drained("a").await.delivered, 2);
    assert_eq!(counted(&rig, "wazuh", "accepted"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_position_belongs_to_what_is_read_and_not_to_the_sources_name() {
    let rig = Rig::new();
    let before = intake(&rig, "file:/var/ossec/alerts.json");
    let at = Bytes::from_static(b"42");
    let with_position = IntakeBatch { position: Some(at.clone()), ..batch(&["{}"]) };
    before.append(&"wazuh".into(), with_position).await.unwrap();
    let rig = rig.crash(0).await;
    let renamed = intake(&rig, "file:/var/ossec/alerts.json");
    assert_eq!(renamed.position("manager").await.unwrap(), Some(at));
    assert_eq!(intake(&rig, "file:/elsewhere").position("wazuh").await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_no_alert_is_kept_as_a_dead_letter_of_its_source() {
    let rig = Rig::new();
    let reject =
        |reason| Reject { reason, message: "line 7".into(), raw: Bytes::from_static(b"x") };
    let rejects = vec![reject(RejectReason::Invalid), reject(RejectReason::TooLong)];
    let source: Arc<str> = "wazuh".into();
    let mixed = IntakeBatch { rejects, ..batch(&["{}"]) };
    let accepted = intake(&rig, "k").append(&source, mixed).await.unwrap();
    assert_eq!((accepted.accepted, accepted.rejected), (1, 2));
    let dead = rig.dead("source.wazuh").await;
    assert_eq!(
        dead.iter().map(|(_, reason)| *reason).collect::<Vec<_>>(),
        [DeadReason::Invalid, DeadReason::TooLong]
    );
    assert_eq!((refused(&rig, "wazuh", "invalid"), refused(&rig, "wazuh", "too_large")), (1, 1));
    assert_eq!(counted(&rig, "wazuh", "rejected"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_too_large_or_finds_no_room_is_refused_whole_and_counted() {
    let rig = Rig::new();
    let source: Arc<str> = "wazuh".into();
    let large = "x".repeat(600);
    let too_large = intake(&rig, "k").append(&source, batch(&[&large, &large])).await;
    assert!(matches!(too_large, Err(IntakeError::TooLarge { bytes: 1_200 })), "{too_large:?}");
    assert_eq!(refused(&rig, "wazuh", "too_large"), 2);

    rig.store.set_space(40 << 20, 0);
    let full = intake(&rig, "k").append(&source, batch(&["{}"])).await;
    assert!(matches!(full, Err(IntakeError::DiskFull { .. })), "{full:?}");
    assert_eq!(refused(&rig, "wazuh", "disk_full"), 1);
    assert_eq!((counted(&rig, "wazuh", "accepted"), rig.queue.stats().head), (0, 1));
}
