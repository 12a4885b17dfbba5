//! What is shown of named readers, and of what they are handed.

use std::sync::Arc;

use holdfast_model::{Name, Timestamp};
use holdfast_queue::{ConsumerRecord, QueueEngine};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::desk::{Desk, gone};
use crate::api::{
    Api,
    alerts::behind,
    event::EventView,
    problem::{Kind, Problem},
};

/// A named reader and how far it is
#[derive(Serialize, ToSchema)]
#[schema(as = Consumer, example = json!({"name": "siem", "owner": "soc",
    "created_at": "2026-03-10T06:11:28.189Z", "when": {"level": 10}, "max_in_flight": 1000,
    "ack_wait": "30s", "hold": false, "position": "MS5rM3Y5eDBhcTJtLTQx",
    "unread": 12, "in_flight": 3, "lag": 15}))]
pub(crate) struct View {
    #[schema(value_type = String)]
    pub(super) name: Name,
    /// The name of the token that made it.
    pub(super) owner: String,
    #[schema(value_type = String, format = DateTime)]
    pub(super) created_at: Timestamp,
    #[schema(value_type = Object)]
    pub(super) when: Box<RawValue>,
    pub(super) max_in_flight: u32,
    pub(super) ack_wait: String,
    pub(super) hold: bool,
    /// A cursor: everything up to it is done.
    pub(super) position: String,
    /// Events of the log that it has not looked at; not all of them may pass.
    pub(super) unread: u64,
    /// Events that are not acknowledged.
    pub(super) in_flight: u64,
    /// Both together.
    pub(super) lag: u64,
}

/// Named readers
#[derive(Serialize, ToSchema)]
#[schema(as = Consumers)]
pub(crate) struct List {
    pub(super) data: Vec<View>,
}

/// Events that are handed out
#[derive(Serialize, ToSchema)]
#[schema(as = ConsumerPage)]
pub(crate) struct Page {
    /// In the order of the log.
    pub(super) data: Vec<EventView>,
    /// The first so many were handed out before.
    pub(super) redelivered: usize,
    /// Give it to `ack` as `up_to` when all of these are done. It does not pass what other pages hold.
    pub(super) next_cursor: String,
    /// There is more just now.
    pub(super) has_more: bool,
    /// Events that are not acknowledged, with these.
    pub(super) in_flight: usize,
}

/// How many events it was about
#[derive(Serialize, ToSchema)]
#[schema(as = ConsumerDone, example = json!({"count": 3}))]
pub(crate) struct Done {
    /// Of those that were given, how many were not acknowledged until now.
    pub(super) count: usize,
}

pub(super) async fn view(api: &Api, desk: &Desk) -> Result<View, Problem> {
    let (record, reach, position, in_flight) = {
        let held = desk.lock().await;
        let consumer = held.as_ref().ok_or_else(gone)?;
        let in_flight = consumer.in_hand() as u64;
        (consumer.settings().clone(), consumer.reach(), consumer.position(), in_flight)
    };
    let unread = api.engine.events_from(reach).await?;
    let ConsumerRecord { name, owner, created_at, when, max_in_flight, hold, .. } = record;
    let ack_wait = match record.ack_wait_ms {
        ms if ms.is_multiple_of(1_000) => format!("{}s", ms / 1_000),
        ms => format!("{ms}ms"),
    };
    // It was an object when it was stored.
    let when = RawValue::from_string(when).unwrap_or_default();
    let (position, lag) = (behind(api, position), unread + in_flight);
    Ok(View {
        name,
        owner,
        created_at,
        when,
        max_in_flight,
        ack_wait,
        hold,
        position,
        unread,
        in_flight,
        lag,
    })
}

pub(super) async fn all_views(api: &Api) -> Result<Vec<View>, Problem> {
    let desks: Vec<Arc<Desk>> = api.consumers.all.read().await.values().cloned().collect();
    let mut views = Vec::with_capacity(desks.len());
    for desk in desks {
        match view(api, &desk).await {
            Ok(view) => views.push(view),
            // Removed meanwhile.
            Err(problem) if problem.kind() == Kind::NotFound => {}
            Err(problem) => return Err(problem),
        }
    }
    Ok(views)
}

/// Each consumer's lag, for the metrics.
pub(crate) async fn lags(api: &Api) -> Result<Vec<(Name, u64)>, Problem> {
    Ok(all_views(api).await?.into_iter().map(|view| (view.name, view.lag)).collect())
}
