//! Opening: what is not ours, or not free, is left alone.

use std::fs;

use holdfast_model::Timestamp;
use holdfast_queue::{
    Engine, QueueEngine, QueueError,
    store::{Store, Write, memory::MemoryStore, sled::SledStore},
    verify::verify,
};

use crate::{
    bed::{Bed, MIB, limits},
    make::{NOON, alert, batch},
};

#[tokio::test]
async fn a_store_of_another_format_is_refused_and_left_alone() {
    let store = std::sync::Arc::new(MemoryStore::default());
    store.apply(vec![Write::Put(b"f".to_vec(), b"holdfast-queue 9".to_vec())]).unwrap();
    let path = std::path::Path::new("bed");
    let refused = Engine::start(store.clone(), limits(), NOON, path).err().unwrap();
    let QueueError::OtherFormat { found, .. } = &refused else { panic!("{refused}") };
    assert_eq!(found, "holdfast-queue 9");
    assert_eq!(store.unsynced(), 1, "nothing was written");
    assert!(matches!(verify(store, path), Err(QueueError::OtherFormat { .. })));
}

#[tokio::test]
async fn a_queue_is_open_once() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::open(folder.path(), limits(), 0, NOON).unwrap();
    let second = Engine::open(folder.path(), limits(), 0, NOON).err().unwrap();
    assert!(matches!(second, QueueError::Locked { .. }), "{second}");
    engine.append(batch("wazuh", NOON, vec![alert(1)])).await.unwrap();
    engine.close().await.unwrap();
    drop(engine);
    let engine = Engine::open(folder.path(), limits(), 0, NOON).unwrap();
    assert_eq!(engine.stats().events_in_log, 1);
}

#[tokio::test]
async fn the_reserve_is_taken_at_start_and_given_up_for_room() {
    let folder = tempfile::tempdir().unwrap();
    let reserve = folder.path().join("reserve");
    let store = SledStore::open(folder.path(), 4 * MIB).unwrap();
    assert_eq!(fs::metadata(&reserve).unwrap().len(), 4 * MIB);
    assert_eq!(store.space().reserve, 4 * MIB);
    store.give_up_reserve();
    assert!(!reserve.exists());
    assert_eq!(store.space().reserve, 0);
    store.restore_reserve();
    assert_eq!(fs::metadata(&reserve).unwrap().len(), 4 * MIB);
}

#[test]
fn looking_for_a_queue_makes_none() {
    let folder = tempfile::tempdir().unwrap();
    let missing = SledStore::open_existing(&folder.path().join("queue")).err().unwrap();
    assert!(matches!(missing, QueueError::Io { .. }), "{missing}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let empty = std::sync::Arc::new(MemoryStore::default());
    assert!(matches!(verify(empty, folder.path()), Err(QueueError::Io { .. })));
}

#[test]
fn what_is_not_a_database_is_reported_with_its_place_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    drop(SledStore::open(folder.path(), 0).unwrap());
    let settings = folder.path().join("sled").join("conf");
    fs::write(&settings, b"no settings of sled").unwrap();
    // sled gives up its lock a moment after the last handle is dropped; the store waits for that.
    let error = SledStore::open(folder.path(), 0).err().unwrap();
    let text = error.to_string();
    assert!(text.contains(&*folder.path().to_string_lossy()), "{text}");
    assert_eq!(fs::read(&settings).unwrap(), b"no settings of sled");
}

#[tokio::test]
async fn a_start_at_an_earlier_time_ages_nothing() {
    let mut bed = Bed::memory();
    let lane = bed.lane("slack").await;
    bed.append([1]).await;
    bed.settle(&lane, crate::make::delivered([1])).await;
    bed.now = Timestamp(NOON.0 - 500 * 24 * 3_600_000);
    bed.crash(0);
    bed.upkeep_at(bed.now).await;
    assert_eq!(bed.q().stats().events_in_log, 1);
    bed.sound().await;
}
