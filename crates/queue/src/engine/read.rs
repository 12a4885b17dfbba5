//! Reading the log from the store: for lanes that are behind what the ring holds.

use std::ops::ControlFlow;

use holdfast_model::Seq;

use crate::{
    chunk::{self, Head},
    engine::{
        keys,
        state::{failed, get, join},
    },
    error::QueueError,
    record::part_key,
    store::Store,
    types::{Page, ReadLimit},
};

/// A chunk that could not be read, to be set aside.
pub(super) struct Damaged {
    pub(super) first: Seq,
}

/// The events of `from..head`, as many as fit.
pub(super) fn page(
    store: &dyn Store,
    from: Seq,
    head: Seq,
    limit: ReadLimit,
) -> Result<(Page, Vec<Damaged>), QueueError> {
    let mut page = Page { next: from, ..Page::default() };
    let mut damaged = Vec::new();
    if from >= head {
        page.next = from.max(head);
        return Ok((page, damaged));
    }
    let begin = containing(store, from)?.map_or(from, |(first, _)| first);
    let (mut bytes, mut full) = (0, false);
    let mut failure = None;
    // Parts of the chunk that is being put together.
    let mut joining: Option<(Seq, usize, Vec<u8>)> = None;
    let mut visit = |key: &[u8], value: &[u8]| {
        let Some(first) = keys::chunk_first(key) else { return ControlFlow::Continue(()) };
        if first >= head {
            return ControlFlow::Break(());
        }
        if key.last() == Some(&0) {
            if full {
                return ControlFlow::Break(());
            }
            let parts = Head::decode(key, value).map_or(1, |head| usize::from(head.parts));
            joining = Some((first, parts, Vec::new()));
        }
        let Some((first, parts, joined)) = joining.as_mut() else { return ControlFlow::Continue(()) };
        joined.extend_from_slice(value);
        *parts = parts.saturating_sub(1);
        if *parts > 0 {
            return ControlFlow::Continue(());
        }
        match take_chunk(*first, joined, from, limit, &mut page, &mut bytes) {
            Ok(is_full) => full = is_full,
            Err(QueueError::Corrupt { .. }) => match count_damaged(store, *first, joined) {
                Ok((next, count)) => {
                    page.corrupt += count;
                    page.next = next.min(head);
                    damaged.push(Damaged { first: *first });
                }
                Err(error) => failure = Some(error),
            },
            Err(error) => failure = Some(error),
        }
        joining = None;
        if failure.is_some() || full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let end = keys::under(b"c").1;
    store.scan(&keys::chunk(begin), &end, &mut visit).map_err(|source| failed("read from", source))?;
    match failure {
        Some(error) => Err(error),
        None => {
            if !full {
                page.next = head;
            }
            Ok((page, damaged))
        }
    }
}

/// Takes a chunk's events into the page. Says whether the page is full.
fn take_chunk(
    first: Seq,
    joined: &[u8],
    from: Seq,
    limit: ReadLimit,
    page: &mut Page,
    bytes: &mut usize,
) -> Result<bool, QueueError> {
    let key = part_key(&keys::chunk(first), 0);
    let head = Head::decode(&key, joined)?;
    if head.is_tombstone() {
        if first + Seq::from(head.count) > from {
            page.corrupt += u64::from(head.count);
            page.next = first + Seq::from(head.count);
        }
        return Ok(false);
    }
    for event in chunk::unpack(&key, first, joined)? {
        if event.seq < from {
            continue;
        }
        if page.events.len() >= limit.events_max || *bytes >= limit.bytes_max {
            page.next = event.seq;
            return Ok(true);
        }
        *bytes += event.body.len();
        page.next = event.seq + 1;
        page.events.push(event);
    }
    Ok(page.events.len() >= limit.events_max || *bytes >= limit.bytes_max)
}

/// The last chunk that begins at or before `seq`.
pub(super) fn containing(store: &dyn Store, seq: Seq) -> Result<Option<(Seq, Vec<u8>)>, QueueError> {
    let last = store
        .last_at(b"c", &part_key(&keys::chunk(seq), usize::from(u8::MAX)))
        .map_err(|source| failed("read from", source))?;
    let Some((key, value)) = last else { return Ok(None) };
    let Some(first) = keys::chunk_first(&key) else { return Ok(None) };
    if key.last() == Some(&0) {
        return Ok(Some((first, value)));
    }
    Ok(get(store, &part_key(&keys::chunk(first), 0))?.map(|value| (first, value)))
}

/// The chunk that follows the one at `first`.
pub(super) fn following(store: &dyn Store, first: Seq) -> Result<Option<(Seq, Vec<u8>)>, QueueError> {
    let mut found = None;
    store
        .scan(&keys::chunk(first + 1), &keys::under(b"c").1, &mut |key, value| {
            found = keys::chunk_first(key).map(|first| (first, value.to_vec()));
            ControlFlow::Break(())
        })
        .map_err(|source| failed("read from", source))?;
    Ok(found)
}

/// First number and events before it, of the oldest chunk.
pub(super) fn log_begin(store: &dyn Store) -> Result<Option<(Seq, u64)>, QueueError> {
    let Some((first, value)) = following(store, 0)? else { return Ok(None) };
    let key = keys::chunk(first);
    Ok(Some((first, Head::decode(&key, &value).map_or(0, |head| head.events_before))))
}

/// How many events of the log come before `position`, by the chunks' own counts.
pub(super) fn events_before(
    store: &dyn Store,
    position: Seq,
    head: Seq,
    events_total: u64,
) -> Result<u64, QueueError> {
    if position >= head {
        return Ok(events_total);
    }
    if let Some((first, value)) = containing(store, position)?
        && let Ok(found) = Head::decode(&keys::chunk(first), &value)
    {
        return Ok(found.events_before + (position - first).min(Seq::from(found.count)));
    }
    // The position is in a gap before the oldest chunk.
    match following(store, position)? {
        Some((first, value)) => Ok(Head::decode(&keys::chunk(first), &value)?.events_before),
        None => Ok(events_total),
    }
}

/// How many events a damaged chunk held, and where the log goes on behind it.
pub(super) fn count_damaged(
    store: &dyn Store,
    first: Seq,
    joined: &[u8],
) -> Result<(Seq, u64), QueueError> {
    if let Ok(head) = Head::decode(&keys::chunk(first), joined) {
        return Ok((first + Seq::from(head.count), u64::from(head.count)));
    }
    // Even its head is damaged: its neighbours say how many there were.
    let before = match first.checked_sub(1).map(|seq| containing(store, seq)).transpose()?.flatten() {
        Some((previous, value)) => Head::decode(&keys::chunk(previous), &value)
            .map(|head| head.events_before + u64::from(head.count)).ok(),
        None => None,
    };
    match (before, following(store, first)?) {
        (Some(before), Some((next, value))) => {
            let next_before = Head::decode(&keys::chunk(next), &value).map_or(before, |head| head.events_before);
            let count = next_before.saturating_sub(before);
            Ok((first + count.max(1), count))
        }
        // Nothing to count by: one is the least it held.
        _ => Ok((first + 1, 1)),
    }
}

/// All of a chunk's stored bytes.
pub(super) fn whole(store: &dyn Store, first: Seq) -> Result<(usize, Vec<u8>), QueueError> {
    let key = keys::chunk(first);
    let head = get(store, &part_key(&key, 0))?.unwrap_or_default();
    let parts = Head::decode(&key, &head).map_or(1, |head| usize::from(head.parts));
    Ok((parts, join(store, &key, parts)?))
}
