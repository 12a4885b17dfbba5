//! In which order a lane's events go: which of them must not overtake each other. Pure.
//!
//! Every event takes some of 128 *slots*. Events that share a slot are sent one after the other, by
//! their numbers; a later one waits until the earlier is delivered or dead.
//!
//! - `none`: no slot.
//! - `strict`: all of them, so one request is under way at a time.
//! - `key`: the one that the hash of a field's text names. Two keys can share a slot, and are then
//!   in order with each other, too; so the memory for it is bounded whatever the keys are.

use holdfast_model::Event;
use holdfast_queue::Slots;

use crate::fields::{self, Path};

const SLOTS: usize = 128;

/// See the module header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Order {
    #[default]
    None,
    Strict,
    Key(Path),
}

/// How many of some events take each slot.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    counts: [u32; SLOTS],
    slots: Slots,
}

impl Order {
    pub fn is_kept(&self) -> bool {
        *self != Self::None
    }

    /// The slots that an event takes.
    pub fn slots(&self, event: &Event) -> Slots {
        match self {
            Self::None => Slots::NONE,
            Self::Strict => Slots::ALL,
            Self::Key(path) => {
                let key = path.text_in(&fields::parse(event));
                Slots(1 << (crc32fast::hash(key.as_bytes()) as usize % SLOTS))
            }
        }
    }

    /// The slots that several events take.
    pub(crate) fn slots_of<'a>(&self, events: impl IntoIterator<Item = &'a Event>) -> Slots {
        match self {
            Self::None => Slots::NONE,
            Self::Strict => Slots::ALL,
            Self::Key(_) => {
                let all = events.into_iter().map(|event| self.slots(event));
                all.fold(Slots::NONE, Slots::with)
            }
        }
    }
}

impl Default for Taken {
    fn default() -> Self {
        Self { counts: [0; SLOTS], slots: Slots::NONE }
    }
}

impl Taken {
    pub(crate) fn slots(&self) -> Slots {
        self.slots
    }

    pub(crate) fn add(&mut self, slots: Slots) {
        each(slots, |slot| {
            self.counts[slot] += 1;
            self.slots.0 |= 1 << slot;
        });
    }

    pub(crate) fn remove(&mut self, slots: Slots) {
        each(slots, |slot| {
            self.counts[slot] = self.counts[slot].saturating_sub(1);
            if self.counts[slot] == 0 {
                self.slots.0 &= !(1 << slot);
            }
        });
    }
}

fn each(slots: Slots, mut act: impl FnMut(usize)) {
    let mut left = slots.0;
    while left != 0 {
        act(left.trailing_zeros() as usize);
        left &= left - 1;
    }
}

/// The number of the only slot, if it is one.
pub(crate) fn only(slots: Slots) -> Option<usize> {
    slots.0.is_power_of_two().then(|| slots.0.trailing_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use holdfast_model::{NewEvent, Timestamp};

    use super::*;

    fn event(agent: &str) -> Event {
        let body = format!(r#"{{"agent":{{"id":"{agent}"}}}}"#);
        Event::new(1, NewEvent::alert(body), "a".into(), Timestamp(0))
    }

    #[test]
    fn one_key_has_one_slot_for_ever_and_many_keys_share_few() {
        let order = Order::Key(Path::new("agent.id").unwrap());
        // Stored with retries, so it must not change between versions.
        assert_eq!(order.slots(&event("001")), Slots(1 << (crc32fast::hash(b"001") % 128)));
        let used: std::collections::HashSet<_> =
            (0..2_000).map(|n| order.slots(&event(&n.to_string()))).collect();
        assert!(used.len() > 100 && used.iter().all(|slots| only(*slots).is_some()));
        assert_eq!(
            (Order::None.slots(&event("1")), Order::Strict.slots(&event("1"))),
            (Slots::NONE, Slots::ALL)
        );
    }

    #[test]
    fn a_slot_is_free_when_the_last_that_took_it_is_gone() {
        let mut taken = Taken::default();
        taken.add(Slots(0b11));
        taken.add(Slots(0b10));
        taken.remove(Slots(0b11));
        assert_eq!(taken.slots(), Slots(0b10));
        taken.remove(Slots(0b10));
        assert_eq!(taken.slots(), Slots::NONE);
        taken.add(Slots::ALL);
        assert_eq!(taken.slots(), Slots::ALL);
    }
}
