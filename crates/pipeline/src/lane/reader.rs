//! A lane's way through the log: pages in, filter, batches out. Decides nothing about delivery.
//!
//! What the lane need not send (filtered events, gaps) is collected as settled stretches.

mod next;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use holdfast_model::{Event, Kind, Seq};
use holdfast_queue::{Boundary, Page, Slots, Span, WINDOWS_STEP_MAX, Window, is_express};
use tokio::time::Instant;

use crate::{
    filter::{Filter, Verdict},
    lane::held::Held,
    order::Order,
    storm::{Judgement, Storm},
};

pub(super) use self::next::{Next, Waiting};

/// Events that a lane takes out of the log at once.
pub(super) const PAGE_EVENTS_MAX: usize = 1_024;
/// The same in bytes.
pub(super) const PAGE_BYTES_MAX: usize = 1024 * 1024;
/// Which events a reader is for.
#[derive(Clone, Debug, Default)]
pub(super) struct Class {
    pub(super) express: bool,
    pub(super) boundaries: Arc<[Boundary]>,
    /// A replay's stretch of the log ends here.
    pub(super) until: Option<Seq>,
}

/// What a reader asks about every event of its class.
pub(super) struct Judges<'a> {
    pub(super) filter: &'a Filter,
    pub(super) storm: &'a mut Storm,
    pub(super) order: &'a Order,
}

/// See the module header.
pub(super) struct Reader {
    class: Class,
    cursor: Seq,
    /// What was settled before this run and lies above the cursor.
    already: VecDeque<Span>,
    buffer: VecDeque<(Arc<Event>, Slots)>,
    buffer_bytes: usize,
    held: Held,
    batch: Vec<Arc<Event>>,
    batch_slots: Slots,
    batch_bytes: usize,
    batch_since: Option<Instant>,
    /// What comes before it, and is not under way, expires.
    expire_to: Seq,
    pub(super) skipped: Skipped,
    /// Passed over before that, each as much as one settlement takes.
    sealed: Vec<Skipped>,
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
    /// Events of the express class.
    pub(super) express_passed: u64,
    pub(super) suppressed: u64,
    /// The windows in which they were, by the events that opened them; as they are now, once the
    /// stretch is sealed.
    touched: BTreeSet<Seq>,
    pub(super) windows: Vec<Window>,
    pub(super) expired: u64,
    /// Events of damaged chunks: they cannot be sent.
    pub(super) corrupt: u64,
    pub(super) since: Option<Instant>,
}

impl Reader {
    pub(super) fn new(position: Seq, settled: &[Span], class: Class) -> Self {
        let mut already: Vec<Span> = settled.to_vec();
        already.sort_unstable_by_key(|span| span.from);
        Self {
            class,
            cursor: position,
            already: already.into(),
            buffer: VecDeque::new(),
            buffer_bytes: 0,
            held: Held::default(),
            batch: Vec::new(),
            batch_slots: Slots::NONE,
            batch_bytes: 0,
            batch_since: None,
            expire_to: 0,
            skipped: Skipped::default(),
            sealed: Vec::new(),
            unsure: Unsure::default(),
        }
    }

    pub(super) fn is_express(&self) -> bool {
        self.class.express
    }

    /// How far there is something for this reader.
    pub(super) fn end(&self, head: Seq) -> Seq {
        let head = self.class.until.map_or(head, |until| until.min(head));
        match self.class.boundaries.last() {
            Some(Boundary { from, level: None }) if self.class.express => head.min(*from),
            _ => head,
        }
    }

    /// Events that wait for another one of their slot.
    pub(super) fn held(&self) -> u64 {
        self.held.count()
    }

    /// The oldest of those, below a number.
    pub(super) fn take_held_below(&mut self, floor: Seq) -> Option<(Arc<Event>, Slots)> {
        self.held.pop_below(floor)
    }

    /// Whether there are events that were read and not handed out.
    pub(super) fn has_events(&self) -> bool {
        !self.buffer.is_empty() || !self.batch.is_empty() || self.held.count() > 0
    }

    /// The number of the first of them.
    pub(super) fn next_seq(&self) -> Option<Seq> {
        let of_buffer = || self.buffer.front().map(|(event, _)| event.seq);
        let next = self.batch.first().map(|event| event.seq).or_else(of_buffer);
        [next, self.held.first()].into_iter().flatten().min()
    }

    /// Where the next page begins.
    pub(super) fn cursor(&self) -> Seq {
        self.cursor
    }

    /// Whether another page is wanted.
    pub(super) fn wants_page(&self, head: Seq) -> bool {
        let room = self.buffer.len() < PAGE_EVENTS_MAX && self.buffer_bytes < PAGE_BYTES_MAX;
        self.cursor < self.end(head) && room
    }

    pub(super) fn take_page(&mut self, page: Page, judges: &mut Judges<'_>, now: Instant) {
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
            if self.is_wanted(&event, judges, now) {
                let slots = match self.class.express {
                    // It overtakes by design.
                    true => Slots::NONE,
                    false => judges.order.slots(&event),
                };
                self.buffer_bytes += event.body.len();
                self.buffer.push_back((event, slots));
            }
        }
        lost.for_each(|span| self.take_lost(span, now));
        self.skip_to(page.next, now);
    }

    /// Whether the event is of this reader's class, and to be sent. What is not is passed over.
    fn is_wanted(&mut self, event: &Event, judges: &mut Judges<'_>, now: Instant) -> bool {
        let boundaries = &self.class.boundaries;
        let is_express =
            !boundaries.is_empty() && is_express(boundaries, event.seq, event.facets().level);
        if is_express != self.class.express {
            let count = u64::from(is_express);
            self.skipped.express_passed += count;
            self.skipped.add(Span { count, ..Span::one(event.seq) }, now);
            return false;
        }
        match judges.filter.judge(event) {
            Verdict::Passes => {}
            Verdict::Unsure(reason) => self.unsure.add(reason),
            Verdict::Filtered => {
                self.skipped.filtered += 1;
                self.skipped.add(Span::one(event.seq), now);
                return false;
            }
        }
        if self.class.express {
            // Few, and the ones that matter: they never expire for room.
            return true;
        }
        if event.seq < self.expire_to {
            self.skipped.expired += 1;
            self.skipped.add(Span::one(event.seq), now);
            return false;
        }
        if event.kind == Kind::Canary {
            // Each is like the last, and says something only when it goes its way.
            return true;
        }
        let judged = judges.storm.judge(event);
        if judges.storm.has_ended() {
            // The window must be stored as it ended, before its summary takes its place.
            self.seal(judges.storm);
        }
        match judged {
            Judgement::Passes => true,
            Judgement::Suppressed(window) => {
                if self.skipped.touched.len() >= WINDOWS_STEP_MAX {
                    self.seal(judges.storm);
                }
                self.skipped.suppressed += 1;
                self.skipped.touched.insert(window);
                self.skipped.add(Span::one(event.seq), now);
                false
            }
        }
    }

    /// Ends the stretch under way, with the windows as they are now.
    pub(super) fn seal(&mut self, storm: &Storm) {
        if self.skipped.touched.is_empty() {
            return;
        }
        let mut sealed = std::mem::take(&mut self.skipped);
        let touched = std::mem::take(&mut sealed.touched);
        sealed.windows =
            touched.iter().filter_map(|first| storm.window_of(*first).cloned()).collect();
        self.skipped.since = sealed.since;
        self.sealed.push(sealed);
    }

    /// What was read and waits expires at once, the rest as it is read.
    pub(super) fn expire_to(&mut self, to: Seq, now: Instant) {
        self.expire_to = self.expire_to.max(to);
        while let Some((event, _)) = self.held.pop_below(to) {
            self.skipped.expired += 1;
            self.skipped.add_apart(Span::one(event.seq), now);
        }
        while let Some((event, _)) = self.buffer.pop_front_if(|(event, _)| event.seq < to) {
            self.buffer_bytes -= event.body.len();
            self.skipped.expired += 1;
            self.skipped.add(Span::one(event.seq), now);
        }
    }

    /// Whether there is more to read that only expires.
    pub(super) fn is_expiring(&self) -> bool {
        self.cursor < self.expire_to
    }

    /// A stretch of events that cannot be read any more.
    fn take_lost(&mut self, span: Span, now: Instant) {
        self.skip_to(span.from, now);
        let mut left = span.count;
        while self.cursor < span.to {
            let missing = self.next_missing(span.to);
            let count = left.min(missing.to - missing.from);
            left -= count;
            // The other class settles them: nobody knows their level any more.
            let count = if self.class.express { 0 } else { count };
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

    /// Whether something waits that was passed over.
    pub(super) fn has_sealed(&self) -> bool {
        !self.sealed.is_empty()
    }

    /// Takes what is passed over, to settle it in this order.
    pub(super) fn take_skipped(&mut self, storm: &Storm) -> Vec<Skipped> {
        self.seal(storm);
        self.skipped.since = None;
        let last = std::mem::take(&mut self.skipped);
        let mut all = std::mem::take(&mut self.sealed);
        if !last.spans.is_empty() {
            all.push(last);
        }
        all
    }
}

impl Skipped {
    /// A stretch that lies anywhere among the others.
    fn add_apart(&mut self, span: Span, now: Instant) {
        self.since.get_or_insert(now);
        self.spans.push(span);
    }

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
