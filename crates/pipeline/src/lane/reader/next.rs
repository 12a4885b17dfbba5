//! What of the events that were read goes next: one, or a batch that fills.

use std::{sync::Arc, time::Duration};

use holdfast_model::Event;
use holdfast_queue::Slots;
use tokio::time::Instant;

use super::Reader;
use crate::{lane::held, settings::BatchSettings};

/// How much longer a batch waits for a page that is being read: its last place is filled at once
/// while the lane catches up, and yet a log full of filtered events cannot hold it back.
const PAGE_WAIT_MAX: Duration = Duration::from_millis(50);

/// What an event may have to wait for.
#[derive(Clone, Copy, Debug)]
pub(in crate::lane) struct Waiting {
    /// Slots that others have taken.
    pub(in crate::lane) blocked: Slots,
    /// Most events that may wait for their slot.
    pub(in crate::lane) held_max: u64,
}

/// What to send next.
pub(in crate::lane) enum Next {
    Batch(Vec<Arc<Event>>),
    /// A batch is filling, until then.
    Filling(Instant),
    Nothing,
}

impl Reader {
    /// The next event or batch whose slots are free. `more_to_come`: the log has more that is not in
    /// the buffer yet, so a batch can still fill at once.
    pub(in crate::lane) fn next(
        &mut self,
        settings: &BatchSettings,
        more_to_come: bool,
        wait: &Waiting,
        now: Instant,
    ) -> Next {
        if settings.events_max == 1 {
            let next = self.pop(wait, usize::MAX).event();
            return next.map_or(Next::Nothing, |event| Next::Batch(vec![event]));
        }
        let is_cut = self.fill(settings, now, wait, Self::pop);
        if is_cut {
            return self.batch_if_free(wait);
        }
        let Some(since) = self.batch_since else { return Next::Nothing };
        let grace = if more_to_come { PAGE_WAIT_MAX } else { Duration::ZERO };
        let deadline = since + settings.wait_max + grace;
        if self.batch.len() >= settings.events_max || now >= deadline {
            return self.batch_if_free(wait);
        }
        Next::Filling(deadline)
    }

    /// Fills the batch with what `pop` has. Says whether the size of the next event ends it.
    fn fill(
        &mut self,
        settings: &BatchSettings,
        now: Instant,
        wait: &Waiting,
        mut pop: impl FnMut(&mut Self, &Waiting, usize) -> Popped,
    ) -> bool {
        while self.batch.len() < settings.events_max {
            let room = match self.batch.is_empty() {
                true => usize::MAX,
                false => settings.bytes_max.saturating_sub(self.batch_bytes),
            };
            match pop(self, wait, room) {
                Popped::Event(event, slots) => {
                    self.batch_bytes += event.body.len() + 1;
                    self.batch_slots = self.batch_slots.with(slots);
                    self.batch_since.get_or_insert(now);
                    self.batch.push(event);
                }
                Popped::TooLarge => return true,
                Popped::Nothing => return false,
            }
        }
        false
    }

    /// Takes the next event whose slot is free and which fits into `room`: first of those that were
    /// put aside, or nobody would ever catch up. What must wait for another one of its slot is put
    /// aside, as long as there is place for it.
    fn pop(&mut self, wait: &Waiting, room: usize) -> Popped {
        match self.pop_held(wait, room) {
            Popped::Nothing => {}
            found => return found,
        }
        loop {
            let Some((event, slots)) = self.buffer.front() else { return Popped::Nothing };
            if !slots.overlaps(wait.blocked.with(self.held.slots())) {
                if event.body.len().saturating_add(1) > room {
                    return Popped::TooLarge;
                }
                self.buffer_bytes -= event.body.len();
                return self.buffer.pop_front().into();
            }
            let Some(slot) = held::slot(*slots) else { return Popped::Nothing };
            if !self.held.has_room(wait.held_max) {
                return Popped::Nothing;
            }
            self.buffer_bytes -= event.body.len();
            let Some((event, _)) = self.buffer.pop_front() else { return Popped::Nothing };
            self.held.push(slot, event);
        }
    }

    fn pop_held(&mut self, wait: &Waiting, room: usize) -> Popped {
        match self.held.free(wait.blocked) {
            None => Popped::Nothing,
            Some(event) if event.body.len().saturating_add(1) > room => Popped::TooLarge,
            Some(_) => self.held.pop_free(wait.blocked).into(),
        }
    }

    /// The batch, unless something older took one of its slots while it filled.
    fn batch_if_free(&mut self, wait: &Waiting) -> Next {
        if self.batch_slots.overlaps(wait.blocked) {
            return Next::Nothing;
        }
        self.batch_bytes = 0;
        self.batch_since = None;
        self.batch_slots = Slots::NONE;
        Next::Batch(std::mem::take(&mut self.batch))
    }

    /// One event for a probe, whatever batches say.
    pub(in crate::lane) fn next_single(&mut self, wait: &Waiting) -> Option<Arc<Event>> {
        if self.batch.is_empty() {
            return self.pop(wait, usize::MAX).event();
        }
        if self.batch_slots.overlaps(wait.blocked) {
            return None;
        }
        let event = self.batch.remove(0);
        self.batch_bytes = self.batch_bytes.saturating_sub(event.body.len() + 1);
        if self.batch.is_empty() {
            self.batch_since = None;
            self.batch_slots = Slots::NONE;
        }
        Some(event)
    }

    /// Those that waited for their slots, which are free now, as one batch: what was taken into a
    /// batch before goes with them, because it is older than what waits in the same slot.
    pub(in crate::lane) fn next_held(
        &mut self,
        settings: &BatchSettings,
        wait: &Waiting,
        now: Instant,
    ) -> Option<Vec<Arc<Event>>> {
        self.fill(settings, now, wait, Self::pop_held);
        match self.batch_if_free(wait) {
            Next::Batch(events) if !events.is_empty() => Some(events),
            _ => None,
        }
    }
}

/// What can go next.
enum Popped {
    Event(Arc<Event>, Slots),
    /// It does not fit into the room that is left.
    TooLarge,
    Nothing,
}

impl Popped {
    fn event(self) -> Option<Arc<Event>> {
        match self {
            Self::Event(event, _) => Some(event),
            Self::TooLarge | Self::Nothing => None,
        }
    }
}

impl From<Option<(Arc<Event>, Slots)>> for Popped {
    fn from(found: Option<(Arc<Event>, Slots)>) -> Self {
        found.map_or(Self::Nothing, |(event, slots)| Self::Event(event, slots))
    }
}
