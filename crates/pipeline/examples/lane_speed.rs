//! How many events a second one lane delivers when the destination costs nothing.
//!
//! `cargo run --release -p holdfast-pipeline --example lane_speed`

use std::{
    collections::BTreeMap,
    error::Error,
    ops::{Bound, ControlFlow},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use holdfast_model::{
    Delivered, DeliveryError, Destination, Name, NewEvent, Receipt, Shipment, Timestamp,
};
use holdfast_pipeline::{Clock, LaneConfig, LaneSettings, Metrics, lane};
use holdfast_queue::{
    Append, Engine, Limits, QueueEngine, Start,
    store::{Space, Store, StoreError, Visit, Write},
};
use prometheus::Registry;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const EVENTS: u64 = 200_000;
const ALERT_BYTES: usize = 1_100;

/// A map without a second, durable copy: the queue's own memory store copies everything at each
/// sync, which would be all that is measured.
#[derive(Default)]
struct Quick(Mutex<BTreeMap<Vec<u8>, Vec<u8>>>);

impl Quick {
    fn with<T>(&self, run: impl FnOnce(&mut BTreeMap<Vec<u8>, Vec<u8>>) -> T) -> T {
        run(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Store for Quick {
    fn apply(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        self.with(|map| {
            for write in writes {
                match write {
                    Write::Put(key, value) => map.insert(key, value),
                    Write::Remove(key) => map.remove(&key),
                };
            }
        });
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.with(|map| map.get(key).cloned()))
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.with(|map| {
            let range = (Bound::Included(from), Bound::Excluded(to));
            for (key, value) in map.range::<[u8], _>(range) {
                if let ControlFlow::Break(()) = visit(key, value) {
                    break;
                }
            }
        });
        Ok(())
    }

    fn last_at(&self, floor: &[u8], key: &[u8]) -> Result<Option<(Vec<u8>, Vec<u8>)>, StoreError> {
        let range = (Bound::Included(floor), Bound::Included(key));
        Ok(self.with(|map| {
            let last = map.range::<[u8], _>(range).next_back();
            last.map(|(key, value)| (key.clone(), value.clone()))
        }))
    }

    fn space(&self) -> Space {
        Space { free: u64::MAX / 2, reserve: 0 }
    }

    fn give_up_reserve(&self) {}

    fn restore_reserve(&self) {}
}

#[derive(Debug)]
struct Instantly;

#[async_trait]
impl Destination for Instantly {
    async fn deliver(&self, _: &Shipment) -> Result<Delivered, DeliveryError> {
        Ok(Delivered::All(Receipt::default()))
    }
}

async fn measure(concurrency: u32, batch: usize) -> Result<(), Box<dyn Error>> {
    let hour = Duration::from_secs(3_600);
    let limits = Limits {
        bytes_max: 1 << 40,
        retention: hour,
        dead_age_max: hour,
        idempotency_window: hour,
        idempotency_keys_max: 1_000,
    };
    let clock = Clock::system();
    let started = Engine::start(Arc::new(Quick::default()), limits, clock.now(), Path::new("x"))?;
    let engine: Arc<dyn QueueEngine> = Arc::new(started);
    let body =
        format!("{{\"rule\":{{\"id\":\"1\"}},\"full_log\":\"{}\"}}", "x".repeat(ALERT_BYTES));
    for _ in 0..EVENTS / 500 {
        let events = (0..500).map(|_| NewEvent::alert(body.clone())).collect();
        let append = Append {
            source: "bench".into(),
            received_at: Timestamp(0),
            events,
            rejects: Vec::new(),
            position: None,
            idempotency: None,
            from_source: true,
        };
        engine.append(append).await?;
    }
    let mut settings = LaneSettings { start: Start::All, concurrency, ..LaneSettings::default() };
    settings.batch.events_max = batch;
    let name = Name::new("bench")?;
    let config = LaneConfig {
        name: name.clone(),
        kind: "instant",
        settings,
        destination: Arc::new(Instantly),
        dead_bytes_max: u64::MAX,
    };
    let metrics = Metrics::register(&Registry::new())?;
    let stop = CancellationToken::new();
    let opened = lane::open(config, Arc::clone(&engine), clock, &metrics, stop.clone()).await?;
    let begin = Instant::now();
    let task = tokio::spawn(opened.1);
    while engine.ledger(&name).await?.pending() > 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let per_s = EVENTS as f64 / begin.elapsed().as_secs_f64();
    println!("concurrency {concurrency:>4}, batches of {batch:>4}: {per_s:>9.0} events/s");
    stop.cancel();
    task.await?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    for (concurrency, batch) in [(1, 1), (8, 1), (32, 1), (128, 1), (8, 500)] {
        measure(concurrency, batch).await?;
    }
    Ok(())
}
