//! Storm control: the first of many events alike goes at once, the rest of its window does not. Pure.
//!
//! With `digest` the rest becomes one counted summary; with `dedup` it is only counted. A window
//! begins with an event and ends `window` later by the events' own times, so a backlog that is read
//! in one second makes the same summaries as the storm itself would have.
//!
//! # Not promised
//!
//! After a crash the event that follows one that was sent may be sent, too: a window is stored with
//! the first event that it holds back.

mod summary;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use holdfast_model::{Event, Seq, Timestamp};
use holdfast_queue::{SAMPLES_MAX, Sample, Window};
use serde_json::Value;

use crate::fields::{self, Path};

pub use summary::{SUMMARY_SOURCE, is_summary, summary};

/// Windows that a lane has open at most; what is alike to none of them then goes singly.
pub const WINDOWS_MAX: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// One counted summary.
    Summary,
    /// Nothing: only the count remains.
    Nothing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StormSettings {
    pub rest: Rest,
    /// Events are alike when they have the same texts here.
    pub by: Vec<Path>,
    pub window: Duration,
}

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    Passes,
    /// Held back, in the window that this event opened.
    Suppressed(Seq),
}

/// See the module header.
#[derive(Debug, Default)]
pub struct Storm {
    settings: Option<StormSettings>,
    /// By the event that opened them.
    open: BTreeMap<Seq, Window>,
    by: HashMap<String, Seq>,
    by_end: BTreeSet<(Timestamp, Seq)>,
    /// Ended, and not taken yet.
    ended: Vec<Window>,
}

impl Storm {
    /// Goes on with the windows that were open when the lane last ran.
    pub fn new(settings: Option<StormSettings>, windows: Vec<Window>) -> Self {
        let mut storm = Self { settings, ..Self::default() };
        for window in windows {
            // Without the setting nobody would ever end them.
            match storm.settings {
                Some(_) => storm.insert(window),
                None => storm.ended.push(window),
            }
        }
        storm
    }

    pub fn is_idle(&self) -> bool {
        self.settings.is_none() && self.ended.is_empty()
    }

    /// What a summary stands for, if there are summaries.
    pub fn rest(&self) -> Rest {
        self.settings.as_ref().map_or(Rest::Summary, |settings| settings.rest)
    }

    pub fn judge(&mut self, event: &Event) -> Judgement {
        let Some(settings) = &self.settings else { return Judgement::Passes };
        let body = fields::parse(event);
        let by = alike(&settings.by, &body);
        let at = event.received_at;
        if let Some(first) = self.by.get(&by).copied()
            && let Some(window) = self.open.get_mut(&first)
        {
            if event.seq <= first {
                // Read again after a crash; it was sent, or is yet to be.
                return Judgement::Passes;
            }
            if at < window.closes_at {
                hold_back(window, event, &body);
                return Judgement::Suppressed(first);
            }
            self.end(first);
        }
        if self.open.len() >= WINDOWS_MAX {
            self.forget_empty(at);
        }
        if self.open.len() < WINDOWS_MAX {
            let closes_at = at.saturating_add(self.window());
            self.insert(Window {
                first: event.seq,
                first_suppressed: 0,
                last_suppressed: 0,
                suppressed: 0,
                opened_at: at,
                closes_at,
                by,
                alert: Default::default(),
                samples: Vec::new(),
            });
        }
        Judgement::Passes
    }

    /// A window as it is now, to be stored; also one that has just ended.
    pub fn window_of(&self, first: Seq) -> Option<&Window> {
        let ended = || self.ended.iter().find(|window| window.first == first);
        self.open.get(&first).or_else(ended)
    }

    /// Whether a window has ended and waits to be taken.
    pub fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// Takes a window that has ended and held something back.
    pub fn take_ended(&mut self) -> Option<Window> {
        self.ended.pop()
    }

    /// Ends what is over at `now`. Call it when every event received until then has been judged.
    pub fn end_due(&mut self, now: Timestamp) {
        while let Some((closes_at, first)) = self.by_end.first().copied()
            && closes_at <= now
        {
            self.end(first);
        }
    }

    /// When the next window is over.
    pub fn next_end(&self) -> Option<Timestamp> {
        self.by_end.first().map(|(closes_at, _)| *closes_at)
    }

    fn window(&self) -> Duration {
        self.settings.as_ref().map_or(Duration::ZERO, |settings| settings.window)
    }

    fn insert(&mut self, window: Window) {
        self.by.insert(window.by.clone(), window.first);
        self.by_end.insert((window.closes_at, window.first));
        self.open.insert(window.first, window);
    }

    fn end(&mut self, first: Seq) {
        let Some(window) = self.open.remove(&first) else { return };
        self.by.remove(&window.by);
        self.by_end.remove(&(window.closes_at, first));
        if window.suppressed > 0 {
            self.ended.push(window);
        }
    }

    /// Makes room: windows that are over and held nothing back.
    fn forget_empty(&mut self, now: Timestamp) {
        let over = self.by_end.iter().take_while(|(closes_at, _)| *closes_at <= now);
        let firsts: Vec<Seq> = over.map(|(_, first)| *first).collect();
        firsts.into_iter().for_each(|first| self.end(first));
    }
}

fn alike(by: &[Path], body: &Value) -> String {
    let texts = by.iter().map(|path| {
        let text = path.text_in(body);
        format!("{}={}", path.as_str(), summary::clip(&text))
    });
    texts.collect::<Vec<_>>().join(", ")
}

fn hold_back(window: &mut Window, event: &Event, body: &Value) {
    if window.suppressed == 0 {
        window.first_suppressed = event.seq;
        window.alert = summary::brief(body);
    }
    window.suppressed += 1;
    window.last_suppressed = event.seq;
    if window.samples.len() < SAMPLES_MAX {
        window.samples.push(Sample {
            seq: event.seq,
            received_at: event.received_at,
            text: summary::line(body),
        });
    }
}

#[cfg(test)]
mod tests;
