//! Reading the log from the store: for lanes that are behind what the ring holds.
//!
//! Merging and trimming change the store under a reader's feet, between two of its steps. What a
//! page must add up to tells: every chunk says how many events come before it, so a page whose
//! chunks do not follow each other by count is read again.

use std::ops::ControlFlow;

use holdfast_model::Seq;

use crate::{
    chunk::{self, Head},
    engine::{
        keys,
        state::{all, failed, get},
    },
    error::QueueError,
    record::part_key,
    spans::Span,
    store::Store,
    types::{Page, ReadLimit},
};

/// How far the log goes: what is on stable storage.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) head: Seq,
    pub(super) events_total: u64,
}

pub(super) enum Found {
    Page(Page),
    /// The chunk at this number does not match its checksum, or misses a part.
    Damaged(Seq),
    /// The store changed meanwhile.
    Changed,
}

/// The events of `from..head`, as many as fit. With `strict`, only if they add up.
pub(super) fn page(
    store: &dyn Store,
    from: Seq,
    end: End,
    limit: ReadLimit,
    strict: bool,
) -> Result<Found, QueueError> {
    let page = Page { next: from, ..Page::default() };
    if from >= end.head {
        return Ok(Found::Page(page));
    }
    let begin = containing(store, from)?.map(|(first, _)| first);
    let mut walk = Walk {
        from,
        end,
        limit,
        strict,
        begin,
        page,
        bytes: 0,
        before: None,
        joining: None,
        stopped: None,
    };
    let (scan_from, scan_to) = (keys::chunk(begin.unwrap_or(from)), keys::under(keys::CHUNKS).1);
    store
        .scan(&scan_from, &scan_to, &mut |key, value| walk.visit(key, value))
        .map_err(|source| failed("read from", source))?;
    Ok(walk.end())
}

/// A page in the making.
struct Walk {
    from: Seq,
    end: End,
    limit: ReadLimit,
    strict: bool,
    /// The chunk that must come first.
    begin: Option<Seq>,
    page: Page,
    bytes: usize,
    /// Events before the chunk that must come next; `None` at the first.
    before: Option<u64>,
    /// The chunk whose parts are being put together, and how many are missing.
    joining: Option<(Seq, Head, Vec<u8>, u8)>,
    stopped: Option<Found>,
}

impl Walk {
    fn visit(&mut self, key: &[u8], value: &[u8]) -> ControlFlow<()> {
        let Some(first) = keys::chunk_first(key) else { return ControlFlow::Continue(()) };
        if first >= self.end.head {
            return ControlFlow::Break(());
        }
        let found = if key.last() == Some(&0) {
            self.first_part(first, key, value)
        } else {
            self.further_part(first, value)
        };
        let Some(found) = found else { return ControlFlow::Continue(()) };
        self.stopped = Some(found);
        ControlFlow::Break(())
    }

    fn first_part(&mut self, first: Seq, key: &[u8], value: &[u8]) -> Option<Found> {
        if let Some((unfinished, ..)) = self.joining {
            return Some(Found::Damaged(unfinished));
        }
        if self.is_full() {
            return Some(self.page_up_to(first));
        }
        let Ok(head) = Head::decode(key, value) else { return Some(Found::Damaged(first)) };
        let follows = match self.before {
            None => self.begin.is_none_or(|begin| begin == first),
            Some(before) => before == head.events_before,
        };
        if self.strict && !follows {
            return Some(Found::Changed);
        }
        if head.is_tombstone() {
            self.note_lost(first, head);
            return None;
        }
        self.joining = Some((first, head, value.to_vec(), head.parts.saturating_sub(1)));
        self.finish_chunk()
    }

    fn further_part(&mut self, first: Seq, value: &[u8]) -> Option<Found> {
        match &mut self.joining {
            Some((joining, _, joined, missing)) if *joining == first && *missing > 0 => {
                joined.extend_from_slice(value);
                *missing -= 1;
                self.finish_chunk()
            }
            // What a longer record left behind, or its first part is gone.
            _ => None,
        }
    }

    fn finish_chunk(&mut self) -> Option<Found> {
        let (first, head, joined, _) = self.joining.take_if(|(.., missing)| *missing == 0)?;
        let Ok(events) = chunk::unpack(&keys::chunk(first), first, &joined) else {
            return Some(Found::Damaged(first));
        };
        self.counted(first, head);
        for event in events {
            // A merged chunk may reach over the head, to what is not on stable storage yet.
            if event.seq < self.from || event.seq >= self.end.head {
                continue;
            }
            if self.is_full() {
                return Some(self.page_up_to(event.seq));
            }
            self.bytes += event.body.len();
            self.page.events.push(event);
        }
        None
    }

    fn note_lost(&mut self, first: Seq, head: Head) {
        self.counted(first, head);
        let from = first.max(self.from);
        let to = (first + Seq::from(head.count)).min(self.end.head);
        if from < to {
            self.page.corrupt += to - from;
            self.page.lost.push(Span { from, to, count: to - from });
        }
    }

    fn counted(&mut self, first: Seq, head: Head) {
        let below_head = u64::from(head.count).min(self.end.head - first);
        self.before = Some(head.events_before + below_head);
    }

    /// The same rule as the ring's, so that both give the same pages.
    fn is_full(&self) -> bool {
        self.page.events.len() >= self.limit.events_max || self.bytes >= self.limit.bytes_max
    }

    fn page_up_to(&mut self, next: Seq) -> Found {
        Found::Page(Page { next: next.max(self.from), ..std::mem::take(&mut self.page) })
    }

    fn end(mut self) -> Found {
        if let Some(found) = self.stopped {
            return found;
        }
        if let Some((unfinished, ..)) = self.joining {
            return Found::Damaged(unfinished);
        }
        if self.strict && self.before.is_some_and(|before| before != self.end.events_total) {
            return Found::Changed;
        }
        self.page_up_to(self.end.head)
    }
}

/// The last chunk that begins at or before `seq`, with its first part.
pub(super) fn containing(
    store: &dyn Store,
    seq: Seq,
) -> Result<Option<(Seq, Vec<u8>)>, QueueError> {
    let last = store
        .last_at(keys::CHUNKS, &part_key(&keys::chunk(seq), usize::from(u8::MAX)))
        .map_err(|source| failed("read from", source))?;
    let Some((key, value)) = last else { return Ok(None) };
    let Some(first) = keys::chunk_first(&key) else { return Ok(None) };
    if key.last() == Some(&0) {
        return Ok(Some((first, value)));
    }
    let value = get(store, &part_key(&keys::chunk(first), 0))?;
    // Without its first part it is damaged, which an empty one shows as well.
    Ok(Some((first, value.unwrap_or_default())))
}

/// The chunk that follows the one at `first`, with its first part.
pub(super) fn following(
    store: &dyn Store,
    first: Seq,
) -> Result<Option<(Seq, Vec<u8>)>, QueueError> {
    let mut found = None;
    store
        .scan(&keys::chunk(first + 1), &keys::under(keys::CHUNKS).1, &mut |key, value| {
            let value = if key.last() == Some(&0) { value.to_vec() } else { Vec::new() };
            found = keys::chunk_first(key).map(|first| (first, value));
            ControlFlow::Break(())
        })
        .map_err(|source| failed("read from", source))?;
    Ok(found)
}

/// A chunk's parts, joined as they lie there; unpacking it tells whether they are all.
pub(super) fn whole_chunk(store: &dyn Store, first: Seq) -> Result<Vec<u8>, QueueError> {
    let parts = all(store, &keys::chunk(first))?;
    Ok(parts.into_iter().flat_map(|(_, part)| part).collect())
}

/// The number of the log's oldest event.
pub(super) fn first_chunk(store: &dyn Store) -> Result<Option<Seq>, QueueError> {
    Ok(following(store, 0)?.map(|(first, _)| first))
}

/// How many events of the log come before `position`, by the chunks' own counts. `None` when the
/// store has moved on from where the caller is: what it asks for is trimmed.
pub(super) fn events_before(
    store: &dyn Store,
    position: Seq,
    end: End,
    events_trimmed: u64,
) -> Result<Option<u64>, QueueError> {
    if position >= end.head {
        return Ok(Some(end.events_total));
    }
    if let Some((first, value)) = containing(store, position)? {
        let head = Head::decode(&keys::chunk(first), &value)?;
        return Ok(Some(head.events_before + (position - first).min(Seq::from(head.count))));
    }
    // Before the oldest chunk. What comes before that has been trimmed, and is the same for every
    // position in the gap; but only if no more has been trimmed since.
    let before = match following(store, position)? {
        Some((first, value)) => Head::decode(&keys::chunk(first), &value)?.events_before,
        None => end.events_total,
    };
    Ok((before == events_trimmed).then_some(before))
}

#[cfg(test)]
mod tests;
