//! Readers that are overtaken: merging and trimming between two steps of one reading. A store that
//! stops in the middle of a scan makes every such moment happen.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use holdfast_model::{Name, Timestamp};
use holdfast_queue::{
    Append, Engine, QueueEngine, ReadLimit, Span, Start,
    store::{Space, Store, StoreError, Visit, Write, memory::MemoryStore},
};

use crate::{
    bed::{ALL, Bed, MIB, limits},
    make::{NOON, alert, batch, delivered, noise, number},
};

type Hook = Box<dyn FnOnce() + Send>;

/// A store in memory whose scans, like sled's, see what happens between their steps.
#[derive(Default)]
struct Stepping {
    inner: MemoryStore,
    /// Runs before this many more steps.
    hook: Mutex<Option<(usize, Hook)>>,
}

impl Stepping {
    fn at_step(&self, step: usize, hook: Hook) {
        *self.hook.lock().unwrap() = Some((step, hook));
    }

    /// Whether the hook has run.
    fn has_run(&self) -> bool {
        self.hook.lock().unwrap().is_none()
    }

    fn step(&self) {
        let due = {
            let mut hook = self.hook.lock().unwrap();
            match &mut *hook {
                Some((0, _)) => hook.take().map(|(_, hook)| hook),
                Some((steps, _)) => {
                    *steps -= 1;
                    None
                }
                None => None,
            }
        };
        if let Some(hook) = due {
            hook();
        }
    }
}

impl Store for Stepping {
    fn apply(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        self.inner.apply(writes)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.inner.sync()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        let mut from = from.to_vec();
        loop {
            self.step();
            let mut next = None;
            self.inner.scan(&from, to, &mut |key, value| {
                next = Some((key.to_vec(), value.to_vec()));
                std::ops::ControlFlow::Break(())
            })?;
            let Some((key, value)) = next else { return Ok(()) };
            if visit(&key, &value).is_break() {
                return Ok(());
            }
            from = [key, vec![0]].concat();
        }
    }

    fn last_at(&self, floor: &[u8], key: &[u8]) -> Result<Option<(Vec<u8>, Vec<u8>)>, StoreError> {
        self.inner.last_at(floor, key)
    }

    fn space(&self) -> Space {
        self.inner.space()
    }

    fn give_up_reserve(&self) {}

    fn restore_reserve(&self) {}
}

fn start(store: &Arc<Stepping>) -> Arc<Engine> {
    let store = Arc::clone(store);
    Arc::new(Engine::start(store, limits(), NOON, Path::new("bed")).unwrap())
}

async fn append(engine: &Engine, numbers: std::ops::Range<u64>) {
    let events = numbers.map(alert).collect();
    engine.append(batch("wazuh", NOON, events)).await.unwrap();
}

/// Runs `then` to its end on the reader's thread.
fn hook<F: Future<Output = ()> + Send + 'static>(then: F) -> Hook {
    let runtime = tokio::runtime::Handle::current();
    Box::new(move || runtime.block_on(then))
}

#[tokio::test]
async fn merging_between_any_two_steps_of_a_reading_hides_no_event() {
    let mut moments = 0;
    for from in [1, 40] {
        for step in 0.. {
            let store = Arc::new(Stepping::default());
            let engine = start(&store);
            engine.open_lane(&Name::new("slack").unwrap(), Start::All).await.unwrap();
            for n in 0..70 {
                append(&engine, n..n + 1).await;
            }
            engine.close().await.unwrap();
            // A ring that is empty, and small chunks enough to be merged.
            let engine = start(&store);
            for n in 70..140 {
                append(&engine, n..n + 1).await;
            }
            let merging = Arc::clone(&engine);
            store.at_step(step, hook(async move { merging.upkeep(NOON).await.unwrap() }));
            let page = engine.read(from, ALL).await.unwrap();
            if !store.has_run() {
                break;
            }
            moments += 1;
            let numbers = page.events.iter().map(|event| number(&event.body));
            assert!(numbers.eq(from - 1..140), "merged before step {step}");
            assert_eq!((page.next, page.corrupt), (141, 0));
        }
    }
    assert!(moments > 100);
}

#[tokio::test]
async fn trimming_between_any_two_steps_of_a_reading_is_no_damage() {
    for step in 0.. {
        let store = Arc::new(Stepping::default());
        let engine = start(&store);
        let lane = Name::new("slack").unwrap();
        engine.open_lane(&lane, Start::All).await.unwrap();
        // One event in many parts, and others behind it.
        let large = holdfast_model::NewEvent::alert(noise(300_000, 1));
        engine.append(batch("wazuh", NOON, vec![large, alert(0)])).await.unwrap();
        append(&engine, 1..130).await;
        engine.settle(&lane, vec![delivered(1..=66)]).await.unwrap();
        engine.close().await.unwrap();
        let engine = start(&store);
        let trimming = Arc::clone(&engine);
        let later = Timestamp(NOON.0 + 48 * 3_600_000);
        store.at_step(step, hook(async move { trimming.upkeep(later).await.unwrap() }));
        let page = engine.read(1, ALL).await.unwrap();
        if !store.has_run() {
            return;
        }
        assert_eq!((page.corrupt, engine.stats().chunks_corrupt), (0, 0), "step {step}");
        let last = page.events.iter().rev().take(64).map(|event| number(&event.body));
        assert!(last.eq((66..130).rev()), "step {step}");
    }
}

#[tokio::test]
async fn a_ledger_read_while_the_log_is_trimmed_is_balanced() {
    let store = Arc::new(Stepping::default());
    let engine = start(&store);
    let lane = Name::new("slack").unwrap();
    engine.open_lane(&lane, Start::All).await.unwrap();
    append(&engine, 0..64).await;
    let reject = holdfast_model::Reject {
        reason: holdfast_model::RejectReason::Invalid,
        message: String::new(),
        raw: noise(9, 1),
    };
    engine
        .append(Append { rejects: vec![reject], ..batch("wazuh", NOON, Vec::new()) })
        .await
        .unwrap();
    append(&engine, 64..128).await;
    append(&engine, 128..192).await;
    engine.settle(&lane, vec![delivered(1..=64)]).await.unwrap();
    let later = Timestamp(NOON.0 + 48 * 3_600_000);
    engine.upkeep(later).await.unwrap();
    // The position is now in the gap before the oldest chunk, which goes while it is looked for.
    let moving = Arc::clone(&engine);
    let mover = lane.clone();
    let move_on = async move {
        let item = holdfast_queue::Settle {
            spans: vec![Span { from: 65, to: 130, count: 64 }],
            delivered: 64,
            ..Default::default()
        };
        moving.settle(&mover, vec![item]).await.unwrap();
        moving.upkeep(later).await.unwrap();
    };
    store.at_step(0, hook(move_on));
    let ledger = engine.ledger(&lane).await.unwrap();
    assert!(store.has_run());
    assert_eq!(ledger.imbalance(), 0, "{ledger:?}");
}

/// Not every moment, but the real store and real threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lanes_that_read_behind_a_busy_writer_see_every_event_once() {
    const EVENTS: u64 = 8_000;
    let bed = Arc::new(Bed::sled());
    let names = ["a", "b"].map(|name| Name::new(name).unwrap());
    for name in &names {
        bed.q().open_lane(name, Start::All).await.unwrap();
    }
    let pad = noise(700, 3).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let writer = async {
        for from in (0..EVENTS).step_by(30) {
            let single = |n: u64| {
                let body = format!(r#"{{"n":{n},"pad":"{pad}"}}"#);
                bed.try_append(vec![holdfast_model::NewEvent::alert(body)])
            };
            for n in from..from + 30 {
                single(n).await.unwrap();
            }
        }
    };
    let upkeep = async {
        for round in 0.. {
            // Everything passed is old, so trimming goes on as well.
            bed.q().upkeep(Timestamp(NOON.0 + 48 * 3_600_000 + round)).await.unwrap();
            if bed.q().lanes().iter().all(|lane| lane.position > EVENTS) {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    let lane = |name: Name| {
        let bed = Arc::clone(&bed);
        tokio::spawn(async move {
            let (mut from, mut expected) = (1, 0);
            // Far behind, so that it reads from the store.
            bed.q().head().wait_for(|head| *head > 10 * MIB / 1_700).await.unwrap();
            while expected < EVENTS {
                let limit = ReadLimit { events_max: 37, bytes_max: usize::MAX };
                let page = bed.page(from, limit).await;
                for event in &page.events {
                    assert_eq!(number(&event.body), expected);
                    expected += 1;
                }
                if page.events.is_empty() {
                    bed.q().head().wait_for(|head| *head > from).await.unwrap();
                    continue;
                }
                let seqs = page.events.iter().map(|event| event.seq);
                bed.settle(&name, delivered(seqs)).await;
                assert_eq!(bed.ledger(&name).await.imbalance(), 0);
                from = page.next;
            }
        })
    };
    let lanes = names.map(lane);
    tokio::join!(writer, upkeep);
    for lane in lanes {
        lane.await.unwrap();
    }
    let mut bed = Arc::into_inner(bed).unwrap();
    bed.sound().await;
}
