//! What can be seen of the queue from outside.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use holdfast_model::{Ledger, Seq};
use holdfast_queue::{DeadId, QueueEngine, ReadLimit, Spans, Start};

use super::plain::Model;
use crate::bed::Bed;

#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) head: Seq,
    pub(crate) position: u64,
    pub(crate) log: BTreeMap<Seq, Bytes>,
    pub(crate) rejects: BTreeSet<Seq>,
    pub(crate) keys: Vec<([u8; 16], Seq)>,
    pub(crate) lanes: Vec<SeenLane>,
}

#[derive(Debug)]
pub(crate) struct SeenLane {
    pub(crate) name: String,
    pub(crate) spans: Spans,
    /// Members and tries, in order.
    pub(crate) retries: Vec<(Vec<Seq>, u32)>,
    pub(crate) dead: BTreeSet<Seq>,
    pub(crate) ledger: Ledger,
}

async fn dead_of(bed: &Bed, owner: &str) -> BTreeSet<Seq> {
    bed.dead_ids(owner).await.into_iter().map(|id| id.seq).collect()
}

pub(crate) async fn look(bed: &Bed, model: &Model) -> Seen {
    let head = *bed.q().head().borrow();
    let mut log = BTreeMap::new();
    let mut from = 0;
    while from < head {
        let page = bed.page(from, ReadLimit { events_max: 50, bytes_max: 100_000 }).await;
        assert_eq!(page.corrupt, 0);
        log.extend(page.events.iter().map(|event| (event.seq, event.body.clone())));
        from = page.next;
    }
    let mut lanes = Vec::new();
    for name in model.lane_names() {
        let open = bed.q().open_lane(&name, Start::New).await.unwrap();
        let mut retries = Vec::new();
        for head in &open.retries {
            let record = bed.q_retry(&name, head.id).await.unwrap();
            assert_eq!(record.head(), *head);
            retries.push((record.members.iter().map(|member| member.seq).collect(), record.tries));
        }
        lanes.push(SeenLane {
            name: name.to_string(),
            spans: Spans::new(open.position, &open.settled),
            retries,
            dead: dead_of(bed, name.as_str()).await,
            ledger: bed.ledger(&name).await,
        });
    }
    let mut keys = Vec::new();
    for key in model.possible_keys() {
        if let Some(answer) = bed.q().idempotent(key).await.unwrap() {
            keys.push((key, answer.first));
        }
    }
    let position = bed.q().source_position("wazuh").await.unwrap();
    let position = position.map_or(0, |text| String::from_utf8_lossy(&text).parse().unwrap());
    let rejects = dead_of(bed, &DeadId::source_owner("wazuh")).await;
    Seen { head, position, log, rejects, keys, lanes }
}
