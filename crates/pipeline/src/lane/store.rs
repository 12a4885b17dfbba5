//! Storing settlements: one call to the queue at a time, with all that has gathered meanwhile.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use holdfast_model::{Name, Seq};
use holdfast_queue::{QueueEngine, QueueError, RetryHead, RetryRecord, Settle, Slots, Span};
use tokio::time::Instant;

use crate::lane::{
    records,
    run::{Lane, soonest},
};

/// Passed-over events are settled at the latest after this, and at these counts.
const SKIPPED_WAIT_MAX: Duration = Duration::from_millis(500);
const SKIPPED_SPANS_MAX: usize = 64;
const SKIPPED_EVENTS_MAX: u64 = 4_096;
/// The settled set above a position spans at most so many numbers; then the oldest flight's events
/// become retry records, and the position moves on.
const REACH_MAX: u64 = 60_000;

/// Settlements on their way into the queue.
#[derive(Default)]
pub(super) struct Settling {
    /// For the next call.
    pub(super) waiting: Vec<Settle>,
    /// Flights whose settlement is among them.
    pub(super) landed: Vec<u64>,
    /// The call under way; it answers which retry records there are now.
    pub(super) call: Option<BoxFuture<'static, Result<Vec<RetryHead>, QueueError>>>,
    landed_in_call: Vec<u64>,
}

impl Settling {
    pub(super) fn is_idle(&self) -> bool {
        self.call.is_none() && self.waiting.is_empty()
    }
}

impl Lane {
    /// Settles what was passed over, when it is much or has waited.
    pub(super) fn flush_skipped(&mut self, wake: &mut Option<Instant>) {
        let now = Instant::now();
        self.note_unsure();
        let joins = !self.settling.waiting.is_empty() && self.settling.call.is_none();
        let (mut must, mut at) = (false, None);
        for way in self.ways() {
            let skipped = &way.reader.skipped;
            let Some(since) = skipped.since else {
                must |= way.reader.has_sealed();
                continue;
            };
            let events: u64 = skipped.spans.iter().map(|span| span.count).sum();
            let much = skipped.spans.len() >= SKIPPED_SPANS_MAX || events >= SKIPPED_EVENTS_MAX;
            must |= much || joins || now >= since + SKIPPED_WAIT_MAX || way.reader.has_sealed();
            soonest(&mut at, Some(since + SKIPPED_WAIT_MAX));
        }
        if must || (self.stopping && at.is_some()) {
            self.settle_skipped();
        } else {
            soonest(wake, at);
        }
    }

    /// Settles all that was passed over.
    pub(super) fn settle_skipped(&mut self) {
        for way in self.express.iter_mut().chain(std::iter::once(&mut self.normal)) {
            let express = way.reader.is_express();
            for skipped in way.reader.take_skipped(&self.storm) {
                self.metrics.filtered.inc_by(skipped.filtered);
                self.metrics.suppressed.inc_by(skipped.suppressed);
                self.metrics.dropped_corrupt.inc_by(skipped.corrupt);
                self.metrics.dropped_expired.inc_by(skipped.expired);
                let mut settle = Settle {
                    filtered: skipped.filtered,
                    expired: skipped.expired,
                    purged: skipped.corrupt,
                    express_passed: skipped.express_passed,
                    suppressed: skipped.suppressed,
                    windows: skipped.windows,
                    ..Settle::default()
                };
                match express {
                    true => settle.express_spans = skipped.spans,
                    false => settle.spans = skipped.spans,
                }
                self.settling.waiting.push(settle);
            }
        }
    }

    /// Counts the events that passed because `where` erred, and says so the first time.
    fn note_unsure(&mut self) {
        let mut unsure = std::mem::take(&mut self.normal.reader.unsure);
        if let Some(way) = &mut self.express {
            let more = std::mem::take(&mut way.reader.unsure);
            unsure.events += more.events;
            unsure.reason = unsure.reason.or(more.reason);
        }
        let Some(reason) = unsure.reason else { return };
        if self.metrics.filter_errors.get() == 0 {
            let destination = self.config.name.as_str();
            tracing::warn!(
                destination,
                reason,
                "`where` erred, so the event passes; this is said once, then counted"
            );
        }
        self.metrics.filter_errors.inc_by(unsure.events);
    }

    /// When an old flight keeps the position too far behind, its events become retry records of
    /// their own; the flight goes on and settles those records when it lands.
    pub(super) fn detach_slow(&mut self) {
        let floors = [Some(&self.normal), self.express.as_ref()]
            .map(|way| way.map_or(0, |way| way.reader.cursor().saturating_sub(REACH_MAX)));
        for (floor, express) in floors.into_iter().zip([false, true]) {
            self.detach_below(express, floor);
        }
        let (now, active_ms) = (self.clock.now(), self.active_now());
        while let Some((event, slots)) = self.normal.reader.take_held_below(floors[0]) {
            self.parting = self.parting.with(slots);
            self.settling.waiting.push(records::parted(&event, slots, now, active_ms));
        }
    }

    fn detach_below(&mut self, express: bool, floor: Seq) {
        while let Some(number) = self.flights.oldest_below(express, floor) {
            let Some(flight) = self.flights.get(number) else { return };
            let due = self.clock.now().saturating_add(self.config.settings.timeout * 2);
            let order = &self.config.settings.order;
            let settled = records::detached(&flight.events, express, due, self.active_now(), order);
            let ids = settled.iter().flat_map(|settle| &settle.retry).map(RetryRecord::id);
            self.flights.detach(number, ids.collect());
            self.settling.waiting.extend(settled);
            tracing::warn!(lane = %self.config.name, "a slow attempt holds the log back; its events wait apart");
        }
    }

    pub(super) fn begin_settling(&mut self) {
        if self.settling.call.is_some() || self.settling.waiting.is_empty() {
            return;
        }
        let mut items = std::mem::take(&mut self.settling.waiting);
        let active_ms = self.active_now();
        if let Some(first) = items.first_mut() {
            first.active += Duration::from_millis(active_ms - self.active_ms);
        }
        self.active_ms = active_ms;
        self.active_since = self.active_since.map(|_| Instant::now());
        merge_plain(&mut items);
        self.settling.landed_in_call = std::mem::take(&mut self.settling.landed);
        let (engine, name) = (Arc::clone(&self.engine), self.config.name.clone());
        self.settling.call = Some(Box::pin(async move { store(&*engine, &name, items).await }));
    }

    pub(super) async fn settled(
        &mut self,
        result: Result<Vec<RetryHead>, QueueError>,
    ) -> Result<(), QueueError> {
        let heads = result?;
        // Only now are their slots free: what a crash sends again stays within its bound.
        for number in std::mem::take(&mut self.settling.landed_in_call) {
            self.flights.remove(number);
        }
        for head in heads {
            // Records of a detached flight are its own until it has landed.
            if !self.flights.hold(head.id) {
                self.keep_retry(head);
            }
        }
        if self.settling.waiting.is_empty() {
            self.parting = Slots::NONE;
        }
        self.revive_poisoned().await?;
        self.bury_condemned().await
    }
}

impl Lane {
    /// What may have arrived waits until a search would show it, whatever makes it due earlier.
    fn keep_retry(&mut self, head: RetryHead) {
        self.retries.add(head);
        if head.in_doubt
            && let Some(lag) = self.search_lag
        {
            let until = self.clock.now().saturating_add(lag);
            self.retries.hold(head.id, head.due.min(until));
        }
    }
}

/// Joins settlements that carry no records: they need no atomicity of their own.
fn merge_plain(items: &mut Vec<Settle>) {
    let mut merged: Vec<Settle> = Vec::with_capacity(items.len());
    for item in items.drain(..) {
        let plain = |item: &Settle| {
            let no_records = item.retry.is_empty() && item.dead.is_empty();
            let nothing_beside = item.windows.is_empty() && item.windows_done.is_empty();
            let nothing_beside = nothing_beside && item.links.is_empty() && item.jobs.is_empty();
            let nothing_beside = nothing_beside && item.answers.is_empty();
            no_records && item.retries_done.is_empty() && nothing_beside
        };
        match merged.last_mut() {
            Some(last) if plain(last) && plain(&item) => {
                last.spans.extend(item.spans);
                last.express_spans.extend(item.express_spans);
                last.express_passed += item.express_passed;
                last.suppressed += item.suppressed;
                last.filtered += item.filtered;
                last.delivered += item.delivered;
                last.expired += item.expired;
                last.purged += item.purged;
                last.active += item.active;
            }
            _ => merged.push(item),
        }
    }
    for item in &mut merged {
        item.spans.sort_unstable_by_key(|span: &Span| span.from);
        item.express_spans.sort_unstable_by_key(|span: &Span| span.from);
    }
    *items = merged;
}

/// Stores settlements and answers which of their retry records remain. A record that does not fit
/// is stored in halves, which are sent apart from then on.
async fn store(
    engine: &dyn QueueEngine,
    lane: &Name,
    items: Vec<Settle>,
) -> Result<Vec<RetryHead>, QueueError> {
    let plain = items.iter().all(|item| item.retry.is_empty());
    if plain {
        engine.settle(lane, items).await?;
        return Ok(Vec::new());
    }
    match engine.settle(lane, items.clone()).await {
        Ok(()) => return Ok(remaining(&items)),
        Err(QueueError::TooLarge { .. }) => {}
        Err(error) => return Err(error),
    }
    let mut stored = Vec::with_capacity(items.len());
    let mut parts: HashMap<Seq, Vec<Seq>> = HashMap::new();
    for mut item in items {
        let more: Vec<Seq> =
            item.retries_done.iter().filter_map(|id| parts.remove(id)).flatten().collect();
        item.retries_done.extend(more);
        loop {
            match engine.settle(lane, vec![item.clone()]).await {
                Err(QueueError::TooLarge { .. }) if halve(&mut item.retry, &mut parts) => {}
                done => break done?,
            }
        }
        stored.push(item);
    }
    Ok(remaining(&stored))
}

/// Cuts every record with more than one member in two, and notes which came of which. Says whether
/// there was one.
fn halve(records: &mut Vec<RetryRecord>, parts: &mut HashMap<Seq, Vec<Seq>>) -> bool {
    let mut halved = false;
    for mut record in std::mem::take(records) {
        let count = record.members.len();
        if count > 1 {
            halved = true;
            let members = record.members.split_off(count / 2);
            let second = RetryRecord { members, ..record.clone() };
            let first = record.id();
            let whole = parts.iter_mut().find(|(_, ids)| ids.contains(&first));
            match whole {
                Some((_, ids)) => ids.push(second.id()),
                None => parts.entry(first).or_default().push(second.id()),
            }
            records.extend([record, second]);
        } else {
            records.push(record);
        }
    }
    halved
}

/// The records that are there after all of the settlements, in order.
fn remaining(items: &[Settle]) -> Vec<RetryHead> {
    let mut heads = BTreeMap::new();
    for item in items {
        for id in &item.retries_done {
            heads.remove(id);
        }
        heads.extend(item.retry.iter().map(|record| (record.id(), record.head())));
    }
    heads.into_values().collect()
}

#[cfg(test)]
mod tests;
