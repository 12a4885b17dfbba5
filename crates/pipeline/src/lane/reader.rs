//! A lane's way through the log: pages in, filter, batches out. Decides nothing about delivery.
//!
//! What the lane need not send (filtered events, gaps) is collected as settled stretches.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use holdfast_model::{Event, Seq};
use holdfast_queue::{LaneOpen, Page, Span};
use tokio::time::Instant;

use crate::{
    filter::{Filter, Verdict},
    settings::BatchSettings,
};

/// Events that a lane takes out of the log at once.
pub(super) const PAGE_EVENTS_MAX: usize = 1_024;
/// The same in bytes.
pub(super) const PAGE_BYTES_MAX: usize = 1024 * 1024;
/// How much longer a batch waits for a page that is being read: its last place is filled at once
/// while the lane catches up, and yet a log full of filtered events cannot hold it back.
const PAGE_WAIT_MAX: Duration = Duration::from_millis(50);

/// See the module header.
pub(super) struct Reader {
    cursor: Seq,
    /// What was settled before this run and lies above the cursor.
    already: VecDeque<Span>,
    buffer: VecDeque<Arc<Event>>,
    buffer_bytes: usize,
    batch: Vec<Arc<Event>>,
    batch_bytes: usize,
    batch_since: Option<Instant>,
    pub(super) skipped: Skipped,
    pub(super) unsure: Unsure,
}

/// Events that passed because `where` erred.
#[derive(Debug, Default)]
pub(super) struct Unsure {
    pub(super) events: u64,
    /// What it said about the last one.
    pub(super) reason: Option<String>,
}

impl Unsure {
    fn add(&mut self, reason: String) {
        self.events += 1;
        self.reason = Some(reason);
    }
}

/// What was passed over and is not settled yet.
#[derive(Debug, Default)]
pub(super) struct Skipped {
    pub(super) spans: Vec<Span>,
    pub(super) filtered: u64,
    /// Events of damaged chunks: they cannot be sent.
    pub(super) corrupt: u64,
    pub(super) since: Option<Instant>,
}

/// What to send next.
pub(super) enum Next {
    Batch(Vec<Arc<Event>>),
    /// A batch is filling, until then.
    Filling(Instant),
    Nothing,
}

impl Reader {
    pub(super) fn new(open: &LaneOpen) -> Self {
        let mut already: Vec<Span> = open.settled.clone();
        already.sort_unstable_by_key(|span| span.from);
        Self {
            cursor: open.position,
            already: already.into(),
            buffer: VecDeque::new(),
            buffer_bytes: 0,
            batch: Vec::new(),
            batch_bytes: 0,
            batch_since: None,
            skipped: Skipped::default(),
            unsure: Unsure::default(),
        }
    }

    /// Where the next page begins.
    pub(super) fn cursor(&self) -> Seq {
        self.cursor
    }

    /// Whether there are events that were read and not handed out.
    pub(super) fn has_events(&self) -> bool {
        !self.buffer.is_empty() || !self.batch.is_empty()
    }

    /// The number of the first of them.
    pub(super) fn next_seq(&self) -> Option<Seq> {
        self.batch.first().or_else(|| self.buffer.front()).map(|event| event.seq)
    }

    /// Whether another page is wanted.
    pub(super) fn wants_page(&self, head: Seq) -> bool {
        let room = self.buffer.len() < PAGE_EVENTS_MAX && self.buffer_bytes < PAGE_BYTES_MAX;
        self.cursor < head && room
    }

    pub(super) fn take_page(&mut self, page: Page, filter: &Filter, now: Instant) {
        let mut lost = page.lost.into_iter().peekable();
        for event in page.events {
            while let Some(span) = lost.next_if(|span| span.from <= event.seq) {
                self.take_lost(span, now);
            }
            if event.seq < self.cursor {
                continue;
            }
            self.skip_to(event.seq, now);
            self.cursor = event.seq + 1;
            if self.was_settled(event.seq) {
                continue;
            }
            match filter.judge(&event) {
                Verdict::Passes => {}
                Verdict::Unsure(reason) => self.unsure.add(reason),
                Verdict::Filtered => {
                    self.skipped.filtered += 1;
                    self.skipped.add(Span::one(event.seq), now);
                    continue;
                }
            }
            self.buffer_bytes += event.body.len();
            self.buffer.push_back(event);
        }
        lost.for_each(|span| self.take_lost(span, now));
        self.skip_to(page.next, now);
    }

    /// A stretch of events that cannot be read any more.
    fn take_lost(&mut self, span: Span, now: Instant) {
        self.skip_to(span.from, now);
        let mut left = span.count;
        while self.cursor < span.to {
            let missing = self.next_missing(span.to);
            let count = left.min(missing.to - missing.from);
            left -= count;
            self.skipped.corrupt += count;
            self.skipped.add(Span { count, ..missing }, now);
        }
    }

    /// Moves the cursor over numbers that hold no events.
    fn skip_to(&mut self, to: Seq, now: Instant) {
        while self.cursor < to {
            let missing = self.next_missing(to);
            self.skipped.add(missing, now);
        }
    }

    /// Moves the cursor to `to`, or over the next stretch that was settled before. Answers the
    /// part before that, which was not.
    fn next_missing(&mut self, to: Seq) -> Span {
        let from = self.cursor;
        while self.already.pop_front_if(|span| span.to <= from).is_some() {}
        let next = self.already.front().filter(|span| span.from < to);
        let end = next.map_or(to, |span| span.from.max(from));
        self.cursor = next.map_or(to, |span| span.to.min(to));
        Span { from, to: end, count: 0 }
    }

    fn was_settled(&mut self, seq: Seq) -> bool {
        while self.already.pop_front_if(|span| span.to <= seq).is_some() {}
        self.already.front().is_some_and(|span| span.from <= seq)
    }

    /// Takes what is passed over, to settle it.
    pub(super) fn take_skipped(&mut self) -> Skipped {
        std::mem::take(&mut self.skipped)
    }

    /// The next event or batch. `more_to_come`: the log has more that is not in the buffer yet, so
    /// a batch can still fill at once.
    pub(super) fn next(
        &mut self,
        settings: &BatchSettings,
        more_to_come: bool,
        now: Instant,
    ) -> Next {
        if settings.events_max == 1 {
            return self.pop().map_or(Next::Nothing, |event| Next::Batch(vec![event]));
        }
        while self.batch.len() < settings.events_max
            && let Some(event) = self.buffer.front()
        {
            let bytes = self.batch_bytes + event.body.len() + 1;
            if !self.batch.is_empty() && bytes > settings.bytes_max {
                return Next::Batch(self.take_batch());
            }
            self.batch_bytes = bytes;
            self.batch_since.get_or_insert(now);
            let event = self.pop();
            self.batch.extend(event);
        }
        let Some(since) = self.batch_since else { return Next::Nothing };
        let grace = if more_to_come { PAGE_WAIT_MAX } else { Duration::ZERO };
        let deadline = since + settings.wait_max + grace;
        if self.batch.len() >= settings.events_max || now >= deadline {
            return Next::Batch(self.take_batch());
        }
        Next::Filling(deadline)
    }

    fn pop(&mut self) -> Option<Arc<Event>> {
        let event = self.buffer.pop_front()?;
        self.buffer_bytes -= event.body.len();
        Some(event)
    }

    fn take_batch(&mut self) -> Vec<Arc<Event>> {
        self.batch_bytes = 0;
        self.batch_since = None;
        std::mem::take(&mut self.batch)
    }

    /// One event for a probe, whatever batches say.
    pub(super) fn next_single(&mut self) -> Option<Arc<Event>> {
        if self.batch.is_empty() {
            return self.pop();
        }
        let event = self.batch.remove(0);
        self.batch_bytes = self.batch_bytes.saturating_sub(event.body.len() + 1);
        if self.batch.is_empty() {
            self.batch_since = None;
        }
        Some(event)
    }
}

impl Skipped {
    fn add(&mut self, span: Span, now: Instant) {
        if span.from >= span.to {
            return;
        }
        self.since.get_or_insert(now);
        match self.spans.last_mut() {
            Some(last) if last.to == span.from => {
                last.to = span.to;
                last.count += span.count;
            }
            _ => self.spans.push(span),
        }
    }
}

#[cfg(test)]
mod tests;
