//! One event through every lane, from the lanes' own records.
//!
//! Promises: what is answered was on stable storage, and an event that waits or is dead is never
//! shown as settled. Does not promise one moment for all lanes.

use std::{collections::BTreeSet, sync::Arc};

use holdfast_model::{Event, Name, Seq};

use super::{Engine, group::Group, read, state::State};
use crate::{
    QueueEngine,
    error::QueueError,
    types::{DeadId, RetryRecord, Standing, Trace, is_express},
};

/// Batches of a lane that one look goes through.
const BATCHES_MAX: usize = 64;
/// Looks at a lane whose records change meanwhile.
const LOOKS_MAX: usize = 5;

/// What the writing thread knows of the event in one lane.
#[derive(Debug)]
struct Sight {
    settled: bool,
    before_lane: bool,
    /// Records that may hold it, the likeliest first.
    records: Vec<Seq>,
    /// There are more than that.
    more: bool,
}

impl Engine {
    pub(super) async fn trace_event(&self, seq: Seq) -> Result<Vec<Trace>, QueueError> {
        let mut traces = Vec::new();
        if seq >= self.shared.published().head {
            return Ok(traces);
        }
        let event = self.event(seq).await?;
        for lane in self.lanes() {
            if let Some(standing) = self.stands(&lane.name, seq, event.as_ref()).await? {
                traces.push(Trace { owner: lane.name.to_string(), standing });
            }
        }
        let sources = self.dead_boxes().into_iter().filter(|dead| Name::new(&dead.owner).is_err());
        for dead in sources {
            let id = DeadId { owner: dead.owner, seq };
            if let Some(letter) = self.dead_letter(&id).await? {
                let standing = Standing::Dead(Box::new(letter));
                traces.push(Trace { owner: id.owner, standing });
            }
        }
        Ok(traces)
    }

    pub(super) async fn standing_of(
        &self,
        lane: &Name,
        seq: Seq,
    ) -> Result<Option<Standing>, QueueError> {
        if seq >= self.shared.published().head {
            return Ok(None);
        }
        let event = self.event(seq).await?;
        self.stands(lane, seq, event.as_ref()).await
    }

    /// `None`: the lane is gone.
    async fn stands(
        &self,
        lane: &Name,
        seq: Seq,
        event: Option<&Arc<Event>>,
    ) -> Result<Option<Standing>, QueueError> {
        let id = DeadId { owner: lane.to_string(), seq };
        let mut looked = BTreeSet::new();
        for look in 0..LOOKS_MAX {
            let sight = {
                let (lane, event) = (lane.clone(), event.cloned());
                let look = move |state: &mut State, group: &mut Group| {
                    sight(state, group, &lane, seq, event.as_deref())
                };
                self.write(look).await?
            };
            let Some(sight) = sight else { return Ok(None) };
            if sight.before_lane {
                return Ok(Some(Standing::BeforeLane));
            }
            if !sight.settled {
                return Ok(Some(Standing::Unsettled));
            }
            if let Some(record) = self.record_with(lane, seq, &sight).await? {
                return Ok(Some(Standing::Retrying(Box::new(record))));
            }
            if let Some(letter) = self.dead_letter(&id).await? {
                return Ok(Some(Standing::Dead(Box::new(letter))));
            }
            let new = sight.records.iter().filter(|id| looked.insert(**id)).count();
            // It may have moved between two records while they were looked through.
            if new == 0 && look > 0 {
                let standing = if sight.more { Standing::Unknown } else { Standing::Settled };
                return Ok(Some(standing));
            }
        }
        Ok(Some(Standing::Unknown))
    }

    async fn record_with(
        &self,
        lane: &Name,
        seq: Seq,
        sight: &Sight,
    ) -> Result<Option<RetryRecord>, QueueError> {
        for id in &sight.records {
            if let Some(record) = self.retry(lane, *id).await?
                && record.members.iter().any(|member| member.seq == seq)
            {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }
}

/// Runs on the writing thread.
fn sight(
    state: &mut State,
    group: &mut Group,
    lane: &Name,
    seq: Seq,
    event: Option<&Event>,
) -> Result<Option<Sight>, QueueError> {
    if !state.lanes.contains_key(lane) {
        return Ok(None);
    }
    // The store must show the chunks of the batch under way.
    group.close(state)?;
    let end = read::End { head: state.meta.next_seq, events_total: state.meta.events_total };
    let before = read::events_before(&*state.store, seq, end, state.meta.events_trimmed);
    let before = match before {
        Ok(before) => before,
        Err(QueueError::Corrupt { .. }) => None,
        Err(error) => return Err(error),
    };
    let Some(lane) = state.lanes.get(lane) else { return Ok(None) };
    // Each class passes over the other's events, so an event is judged by its own.
    let open = lane.express.open();
    let express =
        event.is_some_and(|event| is_express(&open.boundaries, seq, event.facets().level));
    let spans = if express { &lane.express.spans } else { &lane.spans };
    let settled = spans.contains(seq);
    // A batch is named by its first member, so only records up to the event can hold it.
    let holds = |head: &crate::RetryHead| head.id == seq || head.members > 1;
    let mut records = lane.retries.range(..=seq).rev().map(|(_, retry)| retry.head).filter(holds);
    let candidates: Vec<Seq> = records.by_ref().take(BATCHES_MAX).map(|head| head.id).collect();
    let more = records.next().is_some();
    let before_lane = settled && before.is_some_and(|before| before < lane.born_events);
    Ok(Some(Sight { settled, before_lane, records: candidates, more }))
}
