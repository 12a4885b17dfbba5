//! What a lookup knew before: its own answers that are in the log, told to it at its start.
//!
//! Promises: nobody waits for it; at most [`ANSWERS_MAX`] answers are told, the newest, oldest of them
//! first; at most the newest [`LOOKED_THROUGH_MAX`] numbers of the log are looked through; memory does
//! not follow how many there are.
//!
//! Does not promise that the lookup's lane waits: a question that comes first is asked again.

use std::{collections::VecDeque, sync::Arc};

use holdfast_model::{Chain, Destination, Event, Kind, Name, Seq};
use holdfast_queue::{QueueEngine, QueueError, ReadLimit};
use tokio_util::sync::CancellationToken;

/// Answers that one lookup is told of.
const ANSWERS_MAX: usize = 10_000;
/// Numbers of the log that are looked through for them.
const LOOKED_THROUGH_MAX: u64 = 1_000_000;
/// Read at once.
const PAGE: ReadLimit = ReadLimit { events_max: 1_024, bytes_max: 512 * 1024 };

/// A lookup and its names: what its answers have as their source.
pub(crate) struct Recall {
    pub(crate) destination: Arc<dyn Destination>,
    pub(crate) names: Vec<Name>,
}

impl Recall {
    /// Tells it of everything up to now, or until `stop`.
    pub(crate) async fn run(self, engine: Arc<dyn QueueEngine>, stop: CancellationToken) {
        let told = tokio::select! {
            told = self.tell(&*engine) => told,
            () = stop.cancelled() => return,
        };
        let lookup = self.names.first().map(Name::as_str).unwrap_or_default();
        match told {
            Ok(0) => {}
            Ok(answers) => tracing::info!(lookup, answers, "the lookup knows its answers again"),
            // It asks again what it could have known.
            Err(QueueError::Closed | QueueError::Failed { .. }) => {}
            Err(error) => {
                let error = Chain(&error);
                tracing::warn!(lookup, %error, "the lookup does not know all of its answers again");
            }
        }
    }

    async fn tell(&self, engine: &dyn QueueEngine) -> Result<usize, QueueError> {
        let head = *engine.head().borrow();
        let begin = head.saturating_sub(LOOKED_THROUGH_MAX);
        // First only where they are: the answers themselves would be too much to hold.
        let mut seqs: VecDeque<Seq> = VecDeque::new();
        self.each(engine, begin, head, |event| {
            seqs.push_back(event.seq);
            if seqs.len() > ANSWERS_MAX {
                seqs.pop_front();
            }
        })
        .await?;
        let Some(first) = seqs.front().copied() else { return Ok(0) };
        let mut told = 0;
        self.each(engine, first, head, |event| {
            self.destination.recall(event);
            told += 1;
        })
        .await?;
        Ok(told)
    }

    async fn each(
        &self,
        engine: &dyn QueueEngine,
        from: Seq,
        to: Seq,
        mut take: impl FnMut(&Event),
    ) -> Result<(), QueueError> {
        let mut at = from;
        while at < to {
            let page = engine.read(at, PAGE).await?;
            let own = |event: &&Arc<Event>| {
                let source = || self.names.iter().any(|name| name.as_str() == &*event.source);
                event.seq < to && event.kind == Kind::Lookup && source()
            };
            page.events.iter().filter(own).for_each(|event| take(event));
            if page.next <= at {
                break;
            }
            at = page.next;
            // A long log must not hold the thread.
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Mutex};

    use async_trait::async_trait;
    use holdfast_model::{Delivered, DeliveryError, NewEvent, Reason, Shipment, Timestamp};
    use holdfast_queue::{Append, Engine, Limits, store::memory::MemoryStore};

    use super::*;

    #[derive(Debug, Default)]
    struct Memory(Mutex<Vec<Seq>>);

    #[async_trait]
    impl Destination for Memory {
        async fn deliver(&self, _: &Shipment) -> Result<Delivered, DeliveryError> {
            Err(DeliveryError::new(Reason::Render))
        }

        fn recall(&self, answer: &Event) {
            self.0.lock().unwrap().push(answer.seq);
        }
    }

    #[tokio::test]
    async fn a_lookup_is_told_of_its_newest_answers_in_order_and_of_nothing_else() {
        let limits = Limits {
            bytes_max: 1 << 40,
            retention: std::time::Duration::from_secs(1 << 30),
            dead_age_max: std::time::Duration::MAX,
            idempotency_window: std::time::Duration::ZERO,
            idempotency_keys_max: 1,
        };
        let store = Arc::new(MemoryStore::default());
        let engine = Engine::start(store, limits, Timestamp(1), Path::new("memory")).unwrap();
        let append = async |source: &str, kind, count| {
            let event = || NewEvent { kind, parent: None, body: "{}".into() };
            let append = Append {
                source: source.into(),
                received_at: Timestamp(1),
                events: std::iter::repeat_with(event).take(count).collect(),
                rejects: Vec::new(),
                position: None,
                idempotency: None,
                from_source: false,
            };
            engine.append(append).await.unwrap().first.unwrap()
        };
        append("vt", Kind::Lookup, 50).await;
        append("vt", Kind::Alert, 3_000).await;
        append("misp", Kind::Lookup, 20).await;
        let old = append("old-vt", Kind::Lookup, 30).await;
        let new = append("vt", Kind::Lookup, ANSWERS_MAX - 10).await;
        let memory = Arc::new(Memory::default());
        let names = ["vt", "old-vt"].map(|name| Name::new(name).unwrap()).to_vec();
        let destination = Arc::clone(&memory) as Arc<dyn Destination>;
        let recall = Recall { destination, names };
        recall.run(Arc::new(engine), CancellationToken::new()).await;
        let told = memory.0.lock().unwrap();
        assert_eq!(told.len(), ANSWERS_MAX);
        assert!(told.is_sorted());
        assert_eq!((told[0], told[10]), (old + 20, new));
    }
}
