//! Reading the log, while the lane may send: one way a class.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use holdfast_model::{Chain, Seq};
use holdfast_queue::{ExpressOpen, LaneOpen, Page, QueueEngine, QueueError, ReadLimit, Span};
use tokio::time::Instant;

use crate::lane::{
    reader::{Class, Judges, PAGE_BYTES_MAX, PAGE_EVENTS_MAX, Reader, Waiting},
    run::{Lane, next_of, soonest},
};

/// How long a lane waits after the log could not be read.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// A reader with the page that it waits for.
pub(super) struct Way {
    pub(super) reader: Reader,
    reading: Option<BoxFuture<'static, Result<Page, QueueError>>>,
    /// After a failed read.
    read_again_at: Option<Instant>,
}

impl Way {
    /// `until`: where a replay's stretch of the log ends.
    pub(super) fn normal(open: &LaneOpen, until: Option<Seq>) -> Self {
        Self::new(open.position, &open.settled, &open.express, false, until)
    }

    /// The express class, if there is one, or something left of one.
    pub(super) fn express(open: &ExpressOpen) -> Option<Self> {
        let last = open.boundaries.last()?;
        let is_over = last.level.is_none() && open.position >= last.from;
        (!is_over).then(|| Self::new(open.position, &open.settled, open, true, None))
    }

    fn new(
        position: Seq,
        settled: &[Span],
        open: &ExpressOpen,
        express: bool,
        until: Option<Seq>,
    ) -> Self {
        let class = Class { express, boundaries: open.boundaries.clone().into(), until };
        let reader = Reader::new(position, settled, class);
        Self { reader, reading: None, read_again_at: None }
    }

    pub(super) fn read_again_at(&self) -> Option<Instant> {
        self.read_again_at
    }

    /// Says whether the log has more that was not handed out yet, or is on its way.
    pub(super) fn has_more(&self, head: Seq) -> bool {
        self.reading.is_some() || self.reader.cursor() < self.reader.end(head)
    }

    /// Begins to read. Says whether a page is on its way.
    pub(super) fn read_page(
        &mut self,
        engine: &Arc<dyn QueueEngine>,
        head: Seq,
        now: Instant,
    ) -> bool {
        if self.reading.is_some() {
            return true;
        }
        let cursor = self.reader.cursor();
        let too_early = self.read_again_at.is_some_and(|at| now < at);
        if cursor >= self.reader.end(head) || too_early {
            return false;
        }
        self.read_again_at = None;
        let engine = Arc::clone(engine);
        let limit = ReadLimit { events_max: PAGE_EVENTS_MAX, bytes_max: PAGE_BYTES_MAX };
        self.reading = Some(Box::pin(async move { engine.read(cursor, limit).await }));
        true
    }

    /// The page that is on its way.
    pub(super) async fn page(&mut self) -> Result<Page, QueueError> {
        next_of(&mut self.reading).await
    }
}

/// The next page of either class, and whether it is the express one.
pub(super) async fn next_page(
    normal: &mut Way,
    express: Option<&mut Way>,
) -> (bool, Result<Page, QueueError>) {
    let express = async {
        match express {
            Some(way) => way.page().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        page = normal.page() => (false, page),
        page = express => (true, page),
    }
}

impl Lane {
    pub(super) fn ways(&mut self) -> impl Iterator<Item = &mut Way> {
        self.express.iter_mut().chain(std::iter::once(&mut self.normal))
    }

    /// Begins to read when there is room for more. A lane that may not send does not read either.
    pub(super) fn begin_reading(&mut self, wake: &mut Option<Instant>) {
        if !self.health.is_active() {
            return;
        }
        let (head, now) = (*self.head.borrow(), Instant::now());
        let engine = Arc::clone(&self.engine);
        for way in self.ways() {
            if way.reader.wants_page(head) {
                way.read_page(&engine, head, now);
                soonest(wake, way.read_again_at);
            }
        }
    }

    /// Says whether a page of either class is on its way.
    pub(super) fn read_any_page(&mut self, now: Instant) -> bool {
        let (head, engine) = (*self.head.borrow(), Arc::clone(&self.engine));
        let mut any = false;
        for way in self.ways() {
            any |= way.read_page(&engine, head, now);
        }
        any
    }

    /// A log that cannot be read just now is read again later: nothing of it is lost.
    pub(super) fn take_page(
        &mut self,
        express: bool,
        page: Result<Page, QueueError>,
    ) -> Result<(), QueueError> {
        let now = Instant::now();
        let Some(way) = (if express { self.express.as_mut() } else { Some(&mut self.normal) })
        else {
            return Ok(());
        };
        match page {
            Ok(mut page) => {
                // A replay's lane ends in the middle of a page.
                let end = way.reader.end(Seq::MAX);
                if page.next > end {
                    page.events.retain(|event| event.seq < end);
                    page.lost.retain(|span| span.from < end);
                    page.next = end.max(way.reader.cursor());
                }
                let settings = &self.config.settings;
                let mut judges = Judges {
                    filter: &settings.filter,
                    storm: &mut self.storm,
                    order: &settings.order,
                };
                way.reader.take_page(page, &mut judges, now);
            }
            Err(error @ (QueueError::Closed | QueueError::Failed { .. })) => return Err(error),
            Err(error) => {
                tracing::error!(lane = %self.config.name, error = %Chain(&error), "the lane cannot read the log");
                self.last_error = Chain(&error).to_string();
                way.read_again_at = Some(now + READ_AGAIN_AFTER);
            }
        }
        Ok(())
    }

    /// Whether all of the log is in the readers' hands.
    pub(super) fn has_read_all(&self) -> bool {
        let head = *self.head.borrow();
        let has_more = |way: &Way| way.has_more(head);
        !has_more(&self.normal) && !self.express.as_ref().is_some_and(has_more)
    }

    /// What an event of the log may have to wait for. While a 403 is undecided, its event holds
    /// nothing back: another one must decide it, and if that is taken, the first is dead.
    pub(super) fn waiting(&self) -> Waiting {
        let suspects = &self.health.suspects;
        let of_retries = match suspects.is_empty() {
            true => self.retries.slots(),
            false => self.retries.slots_but(|id| suspects.contains(id)),
        };
        let blocked = self.flights.slots().with(of_retries).with(self.parting);
        let pending = self.retries.members() + self.flights.retrying();
        let held_max = self.config.settings.retry.pending_max.saturating_sub(pending);
        Waiting { blocked, held_max }
    }
}
