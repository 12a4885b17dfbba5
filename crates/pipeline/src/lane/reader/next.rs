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
            let next = self.pop(wait, usize::MAX);
            return next.map_or(Next::Nothing, |(event, _)| Next::Batch(vec![event]));
        }
        while self.batch.len() < settings.events_max {
            let room = match self.batch.is_empty() {
                true => usize::MAX,
                false => settings.bytes_max.saturating_sub(self.batch_bytes),
            };
            match self.pop(wait, room) {
                Some((event, slots)) => {
                    self.batch_bytes += event.body.len() + 1;
                    self.batch_slots = self.batch_slots.with(slots);
                    self.batch_since.get_or_insert(now);
                    self.batch.push(event);
                }
                None if self.is_next_too_large(wait, room) => return self.batch_if_free(wait),
                None => break,
            }
        }
        let Some(since) = self.batch_since else { return Next::Nothing };
        let grace = if more_to_come { PAGE_WAIT_MAX } else { Duration::ZERO };
        let deadline = since + settings.wait_max + grace;
        if self.batch.len() >= settings.events_max || now >= deadline {
            return self.batch_if_free(wait);
        }
        Next::Filling(deadline)
    }

    /// Takes the next event whose slot is free and which fits into `room`. What must wait for
    /// another one of its slot is put aside, as long as there is place for it.
    fn pop(&mut self, wait: &Waiting, room: usize) -> Option<(Arc<Event>, Slots)> {
        if room == usize::MAX
            && let Some(free) = self.held.pop_free(wait.blocked)
        {
            return Some(free);
        }
        loop {
            let (event, slots) = self.buffer.front()?;
            if !slots.overlaps(wait.blocked.with(self.held.slots())) {
                if event.body.len() + 1 > room {
                    return None;
                }
                self.buffer_bytes -= event.body.len();
                return self.buffer.pop_front();
            }
            let slot = held::slot(*slots)?;
            if !self.held.has_room(wait.held_max) {
                return None;
            }
            self.buffer_bytes -= event.body.len();
            let (event, _) = self.buffer.pop_front()?;
            self.held.push(slot, event);
        }
    }

    /// Whether it is the size of the next event that ends the batch.
    fn is_next_too_large(&self, wait: &Waiting, room: usize) -> bool {
        let blocked = wait.blocked.with(self.held.slots());
        let next = self.buffer.front().filter(|(_, slots)| !slots.overlaps(blocked));
        next.is_some_and(|(event, _)| event.body.len() + 1 > room)
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
            return self.pop(wait, usize::MAX).map(|(event, _)| event);
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

    /// One that waited for its slot, which is free now.
    pub(in crate::lane) fn next_held(&mut self, wait: &Waiting) -> Option<Arc<Event>> {
        self.held.pop_free(wait.blocked).map(|(event, _)| event)
    }
}
