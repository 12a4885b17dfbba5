//! Canaries: marked test events that a lane carries to its destination like any other, so that a
//! way that nobody used today is known to work.
//!
//! A canary is addressed by its source, and only its lane's filter lets it pass. The next is sent
//! only when the last has ended: there is never more than one of a lane under way in one run.

use std::{collections::HashMap, sync::Arc};

use holdfast_model::{Chain, Kind, Name, NewEvent, Seq, Timestamp};
use holdfast_queue::{Append, QueueEngine};
use serde_json::json;
use tokio::time::Instant;

use crate::{clock::Clock, lane::LaneHandle, lanes::Lanes};

/// What names the canaries of a lane. No source of the configuration can be called so.
pub fn source(lane: &Name) -> Arc<str> {
    format!("holdfast.canary.{lane}").into()
}

/// When each lane last had one, and which.
pub struct Canaries {
    engine: Arc<dyn QueueEngine>,
    clock: Clock,
    last: HashMap<Name, (Instant, Seq)>,
}

impl Canaries {
    pub fn new(engine: Arc<dyn QueueEngine>, clock: Clock) -> Self {
        Self { engine, clock, last: HashMap::new() }
    }

    /// Sends those that are due.
    pub async fn send_due(&mut self, lanes: &Lanes) {
        let lanes = lanes.all();
        self.last.retain(|name, _| lanes.iter().any(|(lane, _)| lane == name));
        for (name, lane) in lanes {
            let Some(every) = lane.canary else { continue };
            let now = Instant::now();
            if let Some((at, seq)) = self.last.get(&name)
                && (now.duration_since(*at) < every || !self.has_ended(&lane, *seq))
            {
                continue;
            }
            if let Some(seq) = self.send(&name).await {
                self.last.insert(name, (now, seq));
            }
        }
    }

    /// It was taken, or is dead; or the lane has passed it and keeps nothing, as after an expiry.
    fn has_ended(&self, lane: &LaneHandle, seq: Seq) -> bool {
        let view = lane.view();
        let summaries = self.engine.lanes();
        let passed = summaries.iter().any(|lane| lane.name == view.name && lane.position > seq);
        view.canary_ended >= seq || (passed && view.retrying == 0 && view.in_flight == 0)
    }

    async fn send(&self, lane: &Name) -> Option<Seq> {
        let received_at = self.clock.now();
        let append = Append {
            source: source(lane),
            received_at,
            events: vec![event(lane, received_at)],
            rejects: Vec::new(),
            position: None,
            idempotency: None,
            from_source: false,
        };
        match self.engine.append(append).await {
            Ok(appended) => appended.last,
            Err(error) => {
                tracing::warn!(%lane, error = %Chain(&error), "a canary found no room");
                None
            }
        }
    }
}

fn event(lane: &Name, at: Timestamp) -> NewEvent {
    let text = format!("Holdfast canary: a test of the way to {lane}; nothing has happened");
    let body = json!({
        "timestamp": at,
        "rule": {
            "id": "holdfast-canary",
            "level": 1,
            "description": text,
            "groups": ["holdfast", "canary"],
        },
        "canary": { "destination": lane },
    });
    NewEvent { kind: Kind::Canary, parent: None, body: body.to_string().into() }
}
