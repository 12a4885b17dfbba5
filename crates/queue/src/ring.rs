//! The newest events, decoded, so that lanes that keep up share them and touch no disk.

use std::{collections::VecDeque, sync::Arc};

use holdfast_model::{Event, Seq};

use crate::types::{Page, ReadLimit};

/// A bounded run of recent events without holes other than the log's own gaps.
pub(crate) struct Ring {
    bytes_max: usize,
    bytes: usize,
    /// First number that the ring can answer for.
    start: Seq,
    /// One past the last.
    end: Seq,
    events: VecDeque<Arc<Event>>,
}

/// What an event costs beside its body, in bytes.
const EVENT_OVERHEAD_BYTES: usize = 256;

impl Ring {
    pub(crate) fn new(bytes_max: usize, head: Seq) -> Self {
        Self { bytes_max, bytes: 0, start: head, end: head, events: VecDeque::new() }
    }

    /// Adds what was just committed, up to `head`.
    pub(crate) fn push(&mut self, events: Vec<Arc<Event>>, head: Seq) {
        for event in events {
            self.bytes += event.body.len() + EVENT_OVERHEAD_BYTES;
            self.events.push_back(event);
        }
        self.end = head;
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.events.pop_front()
        {
            self.bytes -= oldest.body.len() + EVENT_OVERHEAD_BYTES;
            self.start = oldest.seq + 1;
        }
        if self.events.is_empty() {
            self.start = self.end;
        }
    }

    /// The events from `from` on; `None` when they are older than the ring.
    pub(crate) fn read(&self, from: Seq, limit: ReadLimit) -> Option<Page> {
        if from < self.start {
            return None;
        }
        let mut page = Page { next: from.max(self.end), ..Page::default() };
        let mut bytes = 0;
        let begin = self.events.partition_point(|event| event.seq < from);
        for event in self.events.range(begin..) {
            let full = page.events.len() >= limit.events_max || bytes >= limit.bytes_max;
            if full {
                page.next = event.seq;
                break;
            }
            bytes += event.body.len();
            page.events.push(Arc::clone(event));
        }
        Some(page)
    }
}

#[cfg(test)]
mod tests {
    use holdfast_model::{NewEvent, Timestamp};

    use super::*;

    fn event(seq: Seq) -> Arc<Event> {
        Arc::new(Event::new(seq, NewEvent::alert(vec![b'x'; 100]), "a".into(), Timestamp(0)))
    }

    #[test]
    fn the_ring_answers_for_what_it_holds_and_for_nothing_older() {
        let limit = ReadLimit { events_max: 2, bytes_max: usize::MAX };
        let mut ring = Ring::new(3 * (100 + EVENT_OVERHEAD_BYTES), 1);
        ring.push(vec![event(1), event(2)], 3);
        ring.push(vec![event(5), event(6)], 7);
        assert!(ring.read(1, limit).is_none(), "event 1 was pushed out");
        let page = ring.read(2, limit).unwrap();
        assert_eq!(page.events.iter().map(|e| e.seq).collect::<Vec<_>>(), [2, 5]);
        assert_eq!(page.next, 6);
        let page = ring.read(page.next, limit).unwrap();
        assert_eq!((page.events.len(), page.next), (1, 7));
        let page = ring.read(7, limit).unwrap();
        assert_eq!((page.events.len(), page.next), (0, 7));
    }

    #[test]
    fn an_event_larger_than_the_ring_is_read_from_the_store() {
        let limit = ReadLimit { events_max: 2, bytes_max: usize::MAX };
        let mut ring = Ring::new(50, 1);
        ring.push(vec![event(1)], 2);
        assert!(ring.read(1, limit).is_none());
        assert_eq!(ring.read(2, limit).unwrap().next, 2);
    }
}
