//! What lookups say of an event before it goes: asked inline, all within one time.
//!
//! Promises: an attempt never waits longer than `enrich_wait`, and never fails for want of an
//! answer; what is missing says why. What is asked here enters no log.
//!
//! A lookup's own lane is not asked: its pace and its retries are for its own events. But where a
//! person paused it, or it is parked, nobody asks.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use holdfast_model::{
    Delivered, Destination, Enrichment, Kind, LaneState, Member, Name, Shipment,
    delivery::{ANSWER_BYTES_MAX, ANSWERS_MAX},
    delivery_key,
};
use tokio::time::{Instant, sleep, timeout_at};

use crate::{lanes::Lanes, storm};

/// Questions under way at once for one attempt.
const ASKS_MAX: usize = 16;
/// How often a lookup that is not there is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The lookups of a lane.
pub(super) struct Enricher {
    pub(super) lookups: Vec<Name>,
    pub(super) wait: Duration,
    /// Where they are found, by their names, as they run just now.
    pub(super) lanes: Lanes,
}

impl Enricher {
    /// Asks about every alert among the members.
    pub(super) async fn enrich(&self, members: &mut [Member]) {
        if self.lookups.is_empty() {
            return;
        }
        let deadline = Instant::now() + self.wait;
        let alerts = members.iter().enumerate().filter(|(_, member)| {
            member.event.kind == Kind::Alert && !storm::is_summary(&member.event)
        });
        let asks: Vec<_> = alerts
            .flat_map(|(at, member)| self.lookups.iter().map(move |lookup| (at, lookup, member)))
            .map(|(at, lookup, member)| async move {
                (at, lookup.clone(), self.ask(lookup, member, deadline).await)
            })
            .collect();
        // In their order, so that answers stand in the order of the settings.
        let answered: Vec<_> = stream::iter(asks).buffered(ASKS_MAX).collect().await;
        for (at, lookup, answers) in answered {
            members[at].enrichments.push(Enrichment { lookup, answers });
        }
    }

    async fn ask(
        &self,
        lookup: &Name,
        member: &Member,
        deadline: Instant,
    ) -> Result<Vec<Bytes>, String> {
        let destination = self.find(lookup, deadline).await?;
        let late = || format!("no answer within {}", humantime::format_duration(self.wait));
        if Instant::now() >= deadline {
            return Err(late());
        }
        let key = delivery_key(&member.id, lookup, None);
        let question = Member {
            parent: member.parent.clone(),
            ..Member::first(member.id.clone(), key, Arc::clone(&member.event))
        };
        let shipment = Shipment { members: vec![question] };
        let guarded = AssertUnwindSafe(destination.deliver(&shipment)).catch_unwind();
        let delivered = match timeout_at(deadline, guarded).await {
            Err(_) => return Err(late()),
            Ok(Err(_)) => {
                tracing::error!(%lookup, "the lookup's code panicked");
                return Err("its code panicked; this is a fault of Holdfast".to_owned());
            }
            Ok(Ok(delivered)) => delivered,
        };
        let receipt = match delivered {
            Ok(Delivered::All(receipt)) => Ok(receipt),
            Ok(Delivered::Each(mut results)) if results.len() == 1 => results.remove(0),
            Ok(Delivered::Each(_)) => return Err("its answer makes no sense".to_owned()),
            Err(error) => Err(error),
        };
        match receipt {
            Ok(receipt) => Ok(within_limits(lookup, receipt.answers)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// A lookup that is just being started, or changed, is waited for.
    async fn find(&self, lookup: &Name, deadline: Instant) -> Result<Arc<dyn Destination>, String> {
        let lane = loop {
            if let Some(lane) = self.lanes.get(lookup) {
                break lane;
            }
            if Instant::now() >= deadline {
                return Err("it does not run just now".to_owned());
            }
            sleep(LOOK_EVERY).await;
        };
        let refusal = match lane.view().state.state {
            LaneState::Paused => "it is paused",
            LaneState::AuthFailed => "its credentials were refused",
            LaneState::ConfigFailed => "a setting of it is wrong",
            LaneState::Active | LaneState::Throttled { .. } | LaneState::Open => "",
            LaneState::BackedUp => "",
        };
        let destination = Arc::clone(&lane.config().destination);
        match refusal {
            "" if destination.is_lookup() => Ok(destination),
            "" => Err("it is no lookup".to_owned()),
            refusal => Err(refusal.to_owned()),
        }
    }
}

/// What of a lookup's answers is taken. More than that is a fault of the lookup.
pub(super) fn within_limits(lookup: &Name, mut answers: Vec<Bytes>) -> Vec<Bytes> {
    let given = answers.len();
    answers.retain(|answer| answer.len() <= ANSWER_BYTES_MAX);
    answers.truncate(ANSWERS_MAX);
    if answers.len() < given {
        let left_out = given - answers.len();
        tracing::error!(%lookup, left_out, "answers of a lookup are too many or too long");
    }
    answers
}
