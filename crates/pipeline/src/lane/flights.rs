//! The flights that hold a slot: under way, or landed and not settled yet.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use holdfast_model::{Event, Seq};
use holdfast_queue::Slots;

use crate::{
    lane::{flight::Origin, loans::Permit},
    order::Taken,
};

/// See the module header. Counts what it holds, because that is asked for at every turn.
#[derive(Debug, Default)]
pub(super) struct Flights {
    by_number: HashMap<u64, InFlight>,
    events: usize,
    retrying: u64,
    /// Records of detached flights.
    detached: HashSet<Seq>,
    /// No flight from the log holds an event below; of either class.
    floors: [Seq; 2],
    taken: Taken,
}

#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) origin: Origin,
    /// The places of the lane's order that its events take.
    pub(super) slots: Slots,
    /// Empty for a retry record, which the flight itself has loaded.
    pub(super) events: Vec<Arc<Event>>,
    pub(super) count: usize,
    /// Its outcome is known and waits to be stored.
    pub(super) landed: bool,
    /// What a live lane lent for it.
    pub(super) _permit: Option<Permit>,
}

impl InFlight {
    fn retrying(&self) -> u64 {
        match self.origin {
            Origin::Log | Origin::Express => 0,
            Origin::Retry(_) | Origin::Detached(_) => self.count as u64,
        }
    }
}

impl Flights {
    pub(super) fn insert(&mut self, number: u64, flight: InFlight) {
        self.events += flight.count;
        self.retrying += flight.retrying();
        self.taken.add(flight.slots);
        self.by_number.insert(number, flight);
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<InFlight> {
        let flight = self.by_number.remove(&number)?;
        self.events -= flight.count;
        self.retrying -= flight.retrying();
        self.taken.remove(flight.slots);
        if let Origin::Detached(records) = &flight.origin {
            records.iter().for_each(|id| _ = self.detached.remove(id));
        }
        Some(flight)
    }

    pub(super) fn get(&self, number: u64) -> Option<&InFlight> {
        self.by_number.get(&number)
    }

    pub(super) fn landed(&mut self, number: u64) {
        if let Some(flight) = self.by_number.get_mut(&number) {
            flight.landed = true;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_number.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    pub(super) fn events(&self) -> usize {
        self.events
    }

    /// Events that are in retry records meanwhile.
    pub(super) fn retrying(&self) -> u64 {
        self.retrying
    }

    /// The slots of all events that are under way.
    pub(super) fn slots(&self) -> Slots {
        self.taken.slots()
    }

    /// The flight of a class that holds its oldest event of the log, if that is below `floor`.
    pub(super) fn oldest_below(&mut self, express: bool, floor: Seq) -> Option<u64> {
        if self.floors[usize::from(express)] >= floor {
            return None;
        }
        let class = if express { Origin::Express } else { Origin::Log };
        let of_log =
            self.by_number.iter().filter(|(_, flight)| flight.origin == class && !flight.landed);
        let oldest = of_log
            .filter_map(|(number, flight)| flight.events.first().map(|event| (event.seq, *number)))
            .min();
        // New flights are above those that are under way, so this only rises.
        self.floors[usize::from(express)] = oldest.map_or(floor, |(seq, _)| seq);
        oldest.filter(|(seq, _)| *seq < floor).map(|(_, number)| number)
    }

    /// Whether the record belongs to a detached flight.
    pub(super) fn hold(&self, record: Seq) -> bool {
        self.detached.contains(&record)
    }

    /// The flight goes on, and its events are in these retry records meanwhile.
    pub(super) fn detach(&mut self, number: u64, records: Vec<Seq>) {
        if let Some(mut flight) = self.remove(number) {
            self.detached.extend(&records);
            flight.origin = Origin::Detached(records);
            self.insert(number, flight);
        }
    }
}
