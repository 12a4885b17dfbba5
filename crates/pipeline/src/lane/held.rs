//! Events that were read and must wait for another one of their slot.

use std::{collections::VecDeque, sync::Arc};

use holdfast_model::{Event, Seq};
use holdfast_queue::Slots;

use crate::order;

/// Bytes of events that wait, beside their number: an outage of one key must not fill the memory.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// See the module header. Each slot's events are in order.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Empty, or one a slot.
    slots: Vec<VecDeque<Arc<Event>>>,
    taken: Slots,
    count: usize,
    bytes: usize,
}

impl Held {
    pub(super) fn count(&self) -> u64 {
        self.count as u64
    }

    /// The slots in which something waits.
    pub(super) fn slots(&self) -> Slots {
        self.taken
    }

    pub(super) fn has_room(&self, count_max: u64) -> bool {
        self.count() < count_max && self.bytes < BYTES_MAX
    }

    pub(super) fn push(&mut self, slot: usize, event: Arc<Event>) {
        if self.slots.is_empty() {
            self.slots.resize_with(128, VecDeque::new);
        }
        self.count += 1;
        self.bytes += event.body.len();
        self.taken = self.taken.with(Slots(1 << slot));
        self.slots[slot].push_back(event);
    }

    /// The number of the oldest.
    pub(super) fn first(&self) -> Option<Seq> {
        if self.count == 0 {
            return None;
        }
        self.slots.iter().filter_map(|events| events.front()).map(|event| event.seq).min()
    }

    /// What [`Self::pop_free`] would take.
    pub(super) fn free(&self, blocked: Slots) -> Option<&Arc<Event>> {
        let slot = self.oldest_where(|slots, _| !slots.overlaps(blocked))?;
        self.slots[slot].front()
    }

    /// The oldest whose slot is free.
    pub(super) fn pop_free(&mut self, blocked: Slots) -> Option<(Arc<Event>, Slots)> {
        self.pop_where(|slots, _| !slots.overlaps(blocked))
    }

    /// The oldest below a number, whatever its slot.
    pub(super) fn pop_below(&mut self, floor: Seq) -> Option<(Arc<Event>, Slots)> {
        self.pop_where(|_, seq| seq < floor)
    }

    fn pop_where(&mut self, may: impl Fn(Slots, Seq) -> bool) -> Option<(Arc<Event>, Slots)> {
        let slot = self.oldest_where(may)?;
        let event = self.slots[slot].pop_front()?;
        self.count -= 1;
        self.bytes -= event.body.len();
        let slots = Slots(1 << slot);
        if self.slots[slot].is_empty() {
            self.taken = Slots(self.taken.0 & !slots.0);
        }
        Some((event, slots))
    }

    /// The slot of the oldest event that may go.
    fn oldest_where(&self, may: impl Fn(Slots, Seq) -> bool) -> Option<usize> {
        if self.count == 0 {
            return None;
        }
        let fronts = self.slots.iter().enumerate();
        let fronts = fronts.filter_map(|(slot, events)| Some((events.front()?.seq, slot)));
        fronts.filter(|(seq, slot)| may(Slots(1 << slot), *seq)).min().map(|(_, slot)| slot)
    }
}

/// The slot in which an event can wait. One that takes several waits where it was read.
pub(super) fn slot(slots: Slots) -> Option<usize> {
    order::only(slots)
}
