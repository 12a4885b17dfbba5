//! Starting flights: what the lane sends next, and when.

use std::{sync::Arc, time::Duration};

use holdfast_model::{Event, Seq, Timestamp};
use holdfast_queue::{RetryHead, Slots};
use tokio::time::Instant;

use crate::{
    lane::{
        flight::{Origin, Plan},
        flights::InFlight,
        health::{Mode, Moment},
        reader::{Next, Waiting},
        run::{Lane, soonest},
        way::Way,
    },
    settings::BatchSettings,
};

/// How often a lane that waits for room among the dead letters looks again.
const ROOM_EVERY: Duration = Duration::from_secs(5);

/// What a flight carries.
enum Work {
    Retry(RetryHead),
    Fresh { events: Vec<Arc<Event>>, express: bool },
}

impl Work {
    fn id(&self) -> Seq {
        match self {
            Self::Retry(head) => head.id,
            Self::Fresh { events, .. } => events.first().map_or(0, |event| event.seq),
        }
    }
}

impl Lane {
    /// Starts what may start now. Notes in `wake` when there may be more.
    pub(super) fn start_flights(&mut self, wake: &mut Option<Instant>) {
        loop {
            let at = self.moment();
            match self.health.mode(self.flights.len(), at) {
                Mode::Wait(until) => return soonest(wake, until),
                Mode::Probe => return self.start_probe(at.now),
                Mode::Send => {}
            }
            self.look_for_room(at);
            self.judge_room(at.wall);
            if let Some(again) = self.room_at {
                return soonest(wake, Some(again));
            }
            self.begin_reading(wake);
            if self.flights.len() >= self.health.concurrency() {
                return;
            }
            self.ask_about_suspects();
            // Before anything is taken, so that a batch fills while it waits.
            if let Err(wait) = self.health.pace.ready(at.now) {
                return soonest(wake, Some(at.now + wait));
            }
            let Some(work) = self.next_work(wake, at.wall, at.now) else {
                // A batch that is filling has made room for another page.
                return self.begin_reading(wake);
            };
            self.start(work);
        }
    }

    /// Retries that are due and fresh events take turns.
    fn next_work(
        &mut self,
        wake: &mut Option<Instant>,
        wall: Timestamp,
        now: Instant,
    ) -> Option<Work> {
        let fresh_allowed = self.health.is_active();
        if fresh_allowed && let Some(work) = self.next_express(wake, now) {
            return Some(work);
        }
        // A suspect is best decided by another event.
        let retry_first = self.retry_turn && self.health.suspects.is_empty();
        if (retry_first || !fresh_allowed)
            && let Some(head) = self.take_due(wall)
        {
            self.retry_turn = false;
            return Some(Work::Retry(head));
        }
        if fresh_allowed && let Some(events) = self.next_fresh(wake, now) {
            self.retry_turn = true;
            return Some(Work::Fresh { events, express: false });
        }
        // What waits for order is no news, and the room that it takes must become free.
        if !fresh_allowed {
            let (waiting, batch) = (self.waiting(), &self.config.settings.batch);
            if let Some(events) = self.normal.reader.next_held(batch, &waiting, now) {
                return Some(Work::Fresh { events, express: false });
            }
        }
        if let Some(head) = self.take_due(wall) {
            return Some(Work::Retry(head));
        }
        if let Some(due) = self.next_due() {
            let wait_max = self.config.settings.retry.wait_max();
            if due.since(wall) > wait_max {
                // The clock has jumped.
                self.retries.clamp(wall, wait_max);
            }
            soonest(wake, Some(now + self.clock.until(due, wait_max)));
        }
        None
    }

    fn next_fresh(&mut self, wake: &mut Option<Instant>, now: Instant) -> Option<Vec<Arc<Event>>> {
        let waiting = self.waiting();
        let batch = &self.config.settings.batch;
        next_of_way(&mut self.normal, batch, *self.head.borrow(), &waiting, wake, now)
    }

    fn next_express(&mut self, wake: &mut Option<Instant>, now: Instant) -> Option<Work> {
        let waiting = Waiting { blocked: Slots::NONE, held_max: 0 };
        let (batch, head) = (&self.config.settings.batch, *self.head.borrow());
        let events = next_of_way(self.express.as_mut()?, batch, head, &waiting, wake, now)?;
        Some(Work::Fresh { events, express: true })
    }

    /// A retry that is due, and has nothing before it in its order.
    fn take_due(&mut self, wall: Timestamp) -> Option<RetryHead> {
        if !self.config.settings.order.is_kept() {
            return self.retries.take_due(wall);
        }
        let (busy, suspects) = (self.flights.slots(), &self.health.suspects);
        self.retries.take_first(busy, |id| suspects.contains(id), |head| head.due <= wall)
    }

    /// When the next retry may go, others allowing.
    fn next_due(&self) -> Option<Timestamp> {
        if !self.config.settings.order.is_kept() {
            return self.retries.next_due();
        }
        let suspects = &self.health.suspects;
        self.retries.next_due_in_order(self.flights.slots(), |id| suspects.contains(id))
    }

    /// Any retry for a probe, but not `last` while there is another.
    fn take_any(&mut self, last: Option<Seq>) -> Option<RetryHead> {
        if !self.config.settings.order.is_kept() {
            return self.retries.take_any(last);
        }
        let busy = self.flights.slots();
        self.retries.take_first(busy, |_| false, |head| Some(head.id) != last)
    }

    /// While the dead letters are full, the lane looks for room now and then.
    fn look_for_room(&mut self, at: Moment) {
        if self.room_at.is_some_and(|room_at| at.now >= room_at) {
            self.room_at = self.dead_full().then(|| at.now + ROOM_EVERY);
        }
        if self.room_at.is_some() {
            self.health.backed_up("the dead letters are full", at.wall);
        }
    }

    /// Events wait for a retry up to a bound; then the lane reads no more, until a tenth is free.
    fn judge_room(&mut self, wall: Timestamp) {
        let pending_max = self.config.settings.retry.pending_max;
        let held = self.normal.reader.held();
        let pending = self.retries.members() + self.flights.retrying() + held;
        if pending >= pending_max {
            self.health.backed_up("too many events wait for a retry", wall);
        } else if self.room_at.is_none() && pending <= pending_max - pending_max.div_ceil(10) {
            self.health.room_again(wall);
        }
    }

    /// One event, and never the same twice in a row while there is another.
    fn start_probe(&mut self, now: Instant) {
        let last = self.health.probes.last_tried();
        let waiting = self.waiting();
        let free = Waiting { blocked: Slots::NONE, held_max: 0 };
        let express = |lane: &mut Self| lane.express.as_mut()?.reader.next_single(&free);
        let work = if let Some(event) = express(self) {
            Work::Fresh { events: vec![event], express: true }
        } else if let Some(head) = self.take_any(last) {
            Work::Retry(head)
        } else if let Some(event) = self.normal.reader.next_single(&waiting) {
            Work::Fresh { events: vec![event], express: false }
        } else if self.read_any_page(now) {
            // There may be another.
            return;
        } else if let Some(head) = self.take_any(None) {
            Work::Retry(head)
        } else {
            return;
        };
        let id = work.id();
        let number = self.start(work);
        self.health.probes.started(id, number, now);
    }

    fn start(&mut self, work: Work) -> u64 {
        let number = self.next_flight;
        self.next_flight += 1;
        self.health.pace.spend(1);
        let (origin, slots, events, count) = match work {
            Work::Retry(head) => {
                (Origin::Retry(head), head.slots, Vec::new(), head.members as usize)
            }
            Work::Fresh { events, express: true } => {
                let count = events.len();
                (Origin::Express, Slots::NONE, events, count)
            }
            Work::Fresh { events, express: false } => {
                let slots =
                    self.config.settings.order.slots_of(events.iter().map(|event| &**event));
                let count = events.len();
                (Origin::Log, slots, events, count)
            }
        };
        let in_doubt = self.doubts.take(&origin, count);
        let active_ms = self.active_now();
        let plan =
            Plan { number, origin: origin.clone(), events: events.clone(), in_doubt, active_ms };
        self.flights.insert(number, InFlight { origin, slots, events, count, landed: false });
        let task = self.tasks.spawn(Arc::clone(&self.craft).fly(plan));
        self.flight_of_task.insert(task.id(), number);
        number
    }
}

fn next_of_way(
    way: &mut Way,
    batch: &BatchSettings,
    head: Seq,
    waiting: &Waiting,
    wake: &mut Option<Instant>,
    now: Instant,
) -> Option<Vec<Arc<Event>>> {
    let more_to_come = way.has_more(head);
    match way.reader.next(batch, more_to_come, waiting, now) {
        Next::Batch(events) => Some(events),
        Next::Filling(deadline) => {
            soonest(wake, Some(deadline));
            None
        }
        Next::Nothing => None,
    }
}
