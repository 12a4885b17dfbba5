//! The consumers that there are, and how each gets its events.
//!
//! A consumer's state is changed under its own lock. What must survive is on stable storage before
//! the lock is given up, so a later change is never overtaken by an earlier one.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use holdfast_model::{Event, Name, Seq};
use holdfast_pipeline::Consumer;
use holdfast_queue::{ConsumerRecord, QueueEngine};
use tokio::{
    sync::{Mutex, MutexGuard, Notify, RwLock},
    time::{Instant, sleep, sleep_until},
};

use crate::api::{
    Api,
    alerts::{Failure, GATHER, PAGE_BYTES_MAX, SCAN_EVENTS_MAX, aside, page_at},
    problem::{Kind, Problem},
};

/// All consumers.
#[derive(Default)]
pub(crate) struct Desks {
    pub(super) all: RwLock<BTreeMap<Name, Arc<Desk>>>,
}

/// One consumer.
pub(crate) struct Desk {
    /// `None` once it is removed.
    held: Mutex<Option<Consumer>>,
    /// Something comes again earlier, or there is room again, or it is gone.
    changed: Notify,
}

/// What is handed out.
pub(super) struct Handed {
    pub(super) events: Vec<Arc<Event>>,
    /// Of those, the first so many were handed out before.
    pub(super) again: usize,
    /// Below it nothing is left to do, once these are acknowledged.
    pub(super) done_below: Seq,
    pub(super) in_hand: usize,
    pub(super) has_more: bool,
}

/// What one look found, and when to look again at the latest.
struct Look {
    handed: Handed,
    next_due: Option<Instant>,
}

pub(super) fn gone() -> Problem {
    Problem::new(Kind::NotFound, "there is no such consumer")
}

impl Desks {
    /// Those that are stored.
    pub(crate) fn of(engine: &dyn QueueEngine) -> Self {
        let now = Instant::now();
        let mut all = BTreeMap::new();
        for record in engine.consumers() {
            match Consumer::new(ConsumerRecord::clone(&record), now) {
                Ok(consumer) => {
                    all.insert(record.name.clone(), Arc::new(Desk::new(consumer)));
                }
                Err(faults) => tracing::error!(
                    consumer = %record.name, faults = faults.join("; "),
                    "a consumer's stored conditions do not read; it cannot be used"
                ),
            }
        }
        Self { all: RwLock::new(all) }
    }

    pub(super) async fn get(&self, name: &str) -> Result<Arc<Desk>, Problem> {
        let name = Name::new(name).map_err(|_| gone())?;
        self.all.read().await.get(&name).cloned().ok_or_else(gone)
    }
}

impl Desk {
    pub(super) fn new(consumer: Consumer) -> Self {
        Self { held: Mutex::new(Some(consumer)), changed: Notify::new() }
    }

    pub(super) async fn lock(&self) -> MutexGuard<'_, Option<Consumer>> {
        self.held.lock().await
    }

    /// Tells who waits for events.
    pub(super) fn tell(&self) {
        self.changed.notify_waiters();
    }

    /// Changes the consumer, and stores it before anybody hears of it.
    pub(super) async fn change<T>(
        &self,
        api: &Api,
        change: impl FnOnce(&mut Consumer) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let mut held = self.lock().await;
        let consumer = held.as_mut().ok_or_else(gone)?;
        let before = consumer.record();
        let done = change(consumer)?;
        let record = consumer.record();
        if record != before {
            store(api, consumer, record).await?;
        }
        drop(held);
        self.tell();
        Ok(done)
    }

    /// What comes next, perhaps after waiting for it.
    pub(super) async fn next(
        &self,
        api: &Api,
        limit: usize,
        wait: Duration,
    ) -> Result<Handed, Failure> {
        let _permit = if wait.is_zero() { None } else { Some(api.readers.wait()?) };
        let deadline = Instant::now() + wait;
        let mut head = api.engine.head();
        loop {
            head.borrow_and_update();
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From now on no change is missed.
            changed.as_mut().enable();
            let Look { handed, next_due } = self.look(api, limit).await?;
            if !handed.events.is_empty() || Instant::now() >= deadline {
                return Ok(handed);
            }
            if handed.has_more {
                continue;
            }
            let until = next_due.map_or(deadline, |due| due.min(deadline));
            tokio::select! {
                come = head.changed() => match come {
                    Ok(()) => sleep(GATHER).await,
                    Err(_) => return Ok(handed),
                },
                () = &mut changed => {}
                () = sleep_until(until) => {}
                () = api.readers.stopped() => return Ok(handed),
            }
        }
    }

    async fn look(&self, api: &Api, limit: usize) -> Result<Look, Failure> {
        let mut held = self.lock().await;
        let consumer = held.as_mut().ok_or_else(gone)?;
        let mut events = Vec::new();
        let done = hand_out(api, consumer, limit, &mut events).await;
        let again = match (done, events.is_empty()) {
            (Err(failure), true) => return Err(failure),
            // What is handed out already is given; the failure comes with the next request.
            (Err(_), false) => events.len(),
            (Ok(again), _) => again,
        };
        if events.is_empty() && consumer.should_store() {
            let record = consumer.record();
            store(api, consumer, record).await?;
        }
        let head = *api.engine.head().borrow();
        let unread = consumer.room() > 0 && consumer.reach() < head;
        let seqs: Vec<Seq> = events.iter().map(|event| event.seq).collect();
        let (done_below, in_hand) = (consumer.done_below(&seqs), consumer.in_hand());
        let has_more = unread || !consumer.due(Instant::now(), 1).is_empty();
        let handed = Handed { events, again, done_below, in_hand, has_more };
        Ok(Look { handed, next_due: consumer.next_due() })
    }
}

async fn store(api: &Api, consumer: &mut Consumer, record: ConsumerRecord) -> Result<(), Problem> {
    let reach = record.reach;
    api.engine.put_consumer(record).await?;
    consumer.note_stored(reach);
    Ok(())
}

/// Takes what is due again, and then what is new. Says how many of them came again.
async fn hand_out(
    api: &Api,
    consumer: &mut Consumer,
    limit: usize,
    events: &mut Vec<Arc<Event>>,
) -> Result<usize, Failure> {
    let now = Instant::now();
    let mut bytes = 0;
    let due = consumer.due(now, limit);
    let mut due = due.as_slice();
    while let Some((&first, _)) = due.split_first()
        && bytes < PAGE_BYTES_MAX
    {
        let (page, _permit) = page_at(api, first).await?;
        let (here, later) = due.split_at(due.partition_point(|seq| *seq < page.next));
        for seq in here {
            match page.events.binary_search_by_key(seq, |event| event.seq) {
                Ok(at) => {
                    bytes += page.events[at].body.len();
                    events.push(Arc::clone(&page.events[at]));
                    consumer.again(&[*seq], now);
                }
                // Its chunk is damaged: nobody can read it any more.
                Err(_) => drop(consumer.ack(&[*seq])),
            }
        }
        due = later;
    }
    let again = events.len();
    let head = *api.engine.head().borrow();
    let mut looked_at = 0;
    while consumer.reach() < head
        && consumer.room() > 0
        && events.len() < limit
        && bytes < PAGE_BYTES_MAX
        && looked_at < SCAN_EVENTS_MAX
    {
        let (page, _permit) = page_at(api, consumer.reach()).await?;
        looked_at += page.events.len() as u64;
        aside(page.events.len(), || {
            for event in &page.events {
                if consumer.room() == 0 || events.len() >= limit || bytes >= PAGE_BYTES_MAX {
                    return;
                }
                if consumer.look_at(event, now) {
                    bytes += event.body.len();
                    events.push(Arc::clone(event));
                }
            }
            consumer.looked_to(page.next);
        });
    }
    Ok(again)
}
