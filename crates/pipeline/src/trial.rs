//! A marked test event, sent once and straight to a destination.
//!
//! It comes from no log, passes no filter, and is in no lane's ledger: whatever happens to it
//! changes nothing but the far end.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use holdfast_model::{
    Delivered, DeliveryError, Event, Kind, LogId, Member, NewEvent, Reason, Receipt, Shipment,
    Timestamp,
};
use serde_json::json;
use tokio::time::timeout;

use crate::lane::LaneConfig;

/// What the event says of itself, wherever a person sees it.
const TITLE: &str = "TEST from Holdfast: no alert, please ignore";

/// Sends it, at most within the lane's own `timeout`. `key` must be a new one for each test, or
/// the far end takes it for a repeat.
pub async fn send(
    lane: &LaneConfig,
    log: &LogId,
    key: String,
    now: Timestamp,
) -> Result<Receipt, DeliveryError> {
    let event = Arc::new(event(now, &key));
    let member = Member::first(log.event(0), key, event);
    let shipment = Shipment { members: vec![member] };
    // As for a lane's attempts: the destination's own limit is the same and knows more.
    let limit = lane.settings.timeout;
    let patience = limit + limit / 10 + Duration::from_millis(100);
    let guarded = AssertUnwindSafe(lane.destination.deliver(&shipment)).catch_unwind();
    let delivered = match timeout(patience, guarded).await {
        Ok(Ok(delivered)) => delivered?,
        Ok(Err(_)) => {
            let problem = "the destination's code panicked; this is a fault of Holdfast";
            return Err(DeliveryError::new(Reason::InDoubt).with_excerpt(problem));
        }
        Err(elapsed) => return Err(DeliveryError::caused_by(Reason::InDoubt, elapsed)),
    };
    match delivered {
        Delivered::All(receipt) => Ok(receipt),
        Delivered::Each(mut results) if results.len() == 1 => results.remove(0),
        Delivered::Each(results) => {
            let given = format!("{} results for 1 event", results.len());
            Err(DeliveryError::new(Reason::BadAnswer).with_excerpt(given))
        }
    }
}

/// In the shape of a Wazuh alert, so that every template finds what it looks for; of a level that
/// wakes nobody.
fn event(now: Timestamp, key: &str) -> Event {
    let body = json!({
        "timestamp": now,
        "id": key,
        "rule": {
            "id": "0",
            "level": 3,
            "description": TITLE,
            "groups": ["holdfast", "test"],
        },
        "agent": { "id": "000", "name": "holdfast" },
        "manager": { "name": "holdfast" },
        "location": "holdfast",
        "full_log": TITLE,
        "holdfast": { "test": true, "key": key },
    });
    let new =
        NewEvent { kind: Kind::Canary, parent: None, body: body.to_string().into_bytes().into() };
    Event::new(0, new, "test".into(), now)
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use holdfast_model::{Destination, Name};

    use super::*;
    use crate::settings::LaneSettings;

    #[derive(Debug)]
    enum Far {
        Takes,
        Refuses,
        Hangs,
        Panics,
        Babbles,
    }

    #[async_trait]
    impl Destination for Far {
        async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError> {
            let member = shipment.only()?;
            assert!(member.key.starts_with("test-") && member.event.kind == Kind::Canary);
            match self {
                Self::Takes => Ok(Delivered::All(Receipt::default())),
                Self::Refuses => Err(DeliveryError::new(Reason::Refused).with_status(400)),
                Self::Hangs => std::future::pending().await,
                Self::Panics => panic!("far end"),
                Self::Babbles => Ok(Delivered::Each(Vec::new())),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_the_far_end_does_there_is_an_answer() {
        let log = LogId::from_random([7; 10]);
        for (far, expected) in [
            (Far::Takes, None),
            (Far::Refuses, Some(Reason::Refused)),
            (Far::Hangs, Some(Reason::InDoubt)),
            (Far::Panics, Some(Reason::InDoubt)),
            (Far::Babbles, Some(Reason::BadAnswer)),
        ] {
            let lane = LaneConfig {
                name: Name::new("far").unwrap(),
                kind: "far",
                settings: LaneSettings::default(),
                destination: Arc::new(far),
                dead_bytes_max: 0,
            };
            let sent = send(&lane, &log, "test-1".into(), Timestamp(1)).await;
            assert_eq!(sent.err().map(|error| error.reason), expected);
        }
    }
}
