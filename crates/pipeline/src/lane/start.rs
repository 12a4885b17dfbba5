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
            self.look_for_room(at);
            match self.health.mode(self.flights.len(), at) {
                Mode::Wait(until) => return soonest(wake, until),
                Mode::Probe if self.room_at.is_some() && self.answers_as.is_some() => {
                    return soonest(wake, self.room_at);
                }
                Mode::Probe if !self.may_attempt(Self::has_anything) => {
                    return self.begin_reading(wake);
                }
                Mode::Probe => return self.start_probe(wake, at),
                Mode::Send => {}
            }
            self.note_want_of_room(at);
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
            if !self.may_attempt(|lane| lane.has_work(at)) {
                soonest(wake, self.held_for_search(false, at.now));
                return self.wake_for_retry(wake, at);
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
        let is_active = self.health.is_active();
        let held = self.held_for_search(true, now);
        soonest(wake, held);
        if is_active
            && held.is_none()
            && let Some(work) = self.next_express(wake, now)
        {
            return Some(work);
        }
        let held = self.held_for_search(false, now);
        soonest(wake, held);
        let fresh_allowed = is_active && held.is_none();
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
        if !is_active && held.is_none() {
            let (waiting, batch) = (self.waiting(), &self.config.settings.batch);
            if let Some(events) = self.normal.reader.next_held(batch, &waiting, now) {
                return Some(Work::Fresh { events, express: false });
            }
        }
        if let Some(head) = self.take_due(wall) {
            return Some(Work::Retry(head));
        }
        // What a replay brought back goes below all that is live, unless it has its order.
        let behind = self.has_read_all() || !fresh_allowed;
        if behind
            && !self.config.settings.order.is_kept()
            && let Some(head) = self.retries.take_due_of_job(wall)
        {
            return Some(Work::Retry(head));
        }
        self.wake_for_retry(wake, Moment { wall, now });
        None
    }

    /// Notes when the next retry is due, if it is not yet.
    fn wake_for_retry(&mut self, wake: &mut Option<Instant>, Moment { wall, now }: Moment) {
        let next = match self.config.settings.order.is_kept() {
            false => self.retries.next_due_later(wall),
            true => self.next_due().filter(|due| *due > wall),
        };
        if let Some(due) = next {
            let lag = self.search_lag.unwrap_or_default();
            let wait_max = self.config.settings.retry.wait_max().max(lag);
            if due.since(wall) > wait_max {
                // The clock has jumped.
                self.retries.clamp(wall, wait_max);
            }
            soonest(wake, Some(now + self.clock.until(due, wait_max)));
        }
    }

    /// Whether there may be something to send now.
    fn has_work(&self, at: Moment) -> bool {
        let held = self.held_for_search(false, at.now).is_some();
        let fresh = self.normal.reader.has_events() && !held && self.health.is_active();
        fresh || self.next_due().is_some_and(|due| due <= at.wall)
    }

    /// Until when the next event of a class must wait, because a search would miss what may have
    /// been made of it.
    fn held_for_search(&self, express: bool, now: Instant) -> Option<Instant> {
        let way = if express { self.express.as_ref() } else { Some(&self.normal) };
        let next = way.and_then(|way| way.reader.next_seq());
        self.doubts.held(express, next, now)
    }

    /// Whether there is anything left to send, now or later.
    fn has_anything(&self) -> bool {
        let has_events = self.normal.reader.has_events();
        has_events || !self.has_read_all() || self.retries.next_due().is_some()
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
        self.retries.take_first(busy, wall, |id| suspects.contains(id), |head| head.due <= wall)
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
    fn take_any(&mut self, last: Option<Seq>, wall: Timestamp) -> Option<RetryHead> {
        if !self.config.settings.order.is_kept() {
            return self.retries.take_any(last, wall);
        }
        let busy = self.flights.slots();
        self.retries.take_first(busy, wall, |_| false, |head| Some(head.id) != last)
    }

    /// While there is no room for what comes of an attempt, the lane looks for it now and then.
    fn look_for_room(&mut self, at: Moment) {
        let due = match self.room_at {
            Some(room_at) => at.now >= room_at,
            None => self.answers_as.is_some(),
        };
        if due {
            let full = self.headroom_used_up() || (self.room_at.is_some() && self.dead_full());
            self.room_at = full.then(|| at.now + ROOM_EVERY);
        }
    }

    /// Of a lookup: nobody asks what could not be kept.
    fn headroom_used_up(&self) -> bool {
        self.answers_as.is_some() && !self.engine.stats().has_headroom()
    }

    fn note_want_of_room(&mut self, at: Moment) {
        if self.room_at.is_some() {
            let reason = match self.headroom_used_up() {
                true => "the queue has no room for answers",
                false => "the dead letters are full",
            };
            self.health.backed_up(reason, at.wall);
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
    fn start_probe(&mut self, wake: &mut Option<Instant>, at: Moment) {
        let last = self.health.probes.last_tried();
        let waiting = self.waiting();
        let free = Waiting { blocked: Slots::NONE, held_max: 0 };
        let held = self.held_for_search(false, at.now);
        let express_held = self.held_for_search(true, at.now);
        let express = |lane: &mut Self| lane.express.as_mut()?.reader.next_single(&free);
        let work = if express_held.is_none()
            && let Some(event) = express(self)
        {
            Work::Fresh { events: vec![event], express: true }
        } else if let Some(head) = self.take_any(last, at.wall) {
            Work::Retry(head)
        } else if held.is_none()
            && let Some(event) = self.normal.reader.next_single(&waiting)
        {
            Work::Fresh { events: vec![event], express: false }
        } else if held.is_none() && self.read_any_page(at.now) {
            // There may be another.
            return;
        } else if let Some(head) = self.take_any(None, at.wall) {
            Work::Retry(head)
        } else {
            soonest(wake, held);
            soonest(wake, express_held);
            if let (Some(due), Some(lag)) = (self.retries.next_due(), self.search_lag) {
                soonest(wake, Some(at.now + self.clock.until(due, lag)));
            }
            return;
        };
        let id = work.id();
        let number = self.start(work);
        self.health.probes.started(id, number, at.now);
    }

    fn start(&mut self, work: Work) -> u64 {
        let number = self.next_flight;
        self.next_flight += 1;
        let first = work.id();
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
        // A replay's rate counts events; a lane's counts attempts.
        self.health.pace.spend(if self.borrowing.is_some() { count as u32 } else { 1 });
        let _permit = self.take_permit();
        let in_doubt = self.doubts.take(&origin, first, count);
        let active_ms = self.active_now();
        let plan =
            Plan { number, origin: origin.clone(), events: events.clone(), in_doubt, active_ms };
        self.flights
            .insert(number, InFlight { origin, slots, events, count, landed: false, _permit });
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
