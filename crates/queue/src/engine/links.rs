//! Links: which remote thing was made of which event, both ways.

use std::ops::ControlFlow;

use holdfast_model::{Name, Seq, Timestamp};

use crate::{
    engine::{
        group::Group,
        keys,
        state::{State, all, get, millis, scan},
    },
    error::QueueError,
    record::{self, Sealed, part_key},
    store::{Store, Write},
    types::{LINKS_STEP_MAX, LaneLink, Link},
};

/// How long a link is kept: as long as a remote system may plausibly answer.
const KEEP: std::time::Duration = std::time::Duration::from_secs(180 * 86_400);
/// Links that one step of expiry looks at.
const STEP_MAX: usize = 24;
/// Longest remote id, in bytes. A longer one is no id.
const REMOTE_ID_BYTES_MAX: usize = 1024;

/// The writes that store these links. An id that is too long is left out.
pub(super) fn writes(name: &Name, links: &[Link]) -> Result<Vec<Write>, QueueError> {
    if links.len() > LINKS_STEP_MAX {
        let (bytes, bytes_max) = (links.len() as u64, LINKS_STEP_MAX as u64);
        return Err(QueueError::TooLarge { what: "a settlement (in links)", bytes, bytes_max });
    }
    let mut writes = Vec::with_capacity(2 * links.len());
    for link in links.iter().filter(|link| link.remote_id.len() <= REMOTE_ID_BYTES_MAX) {
        let sealed = Sealed::new(link)?;
        writes.extend(sealed.writes(&keys::link(link.seq, name.as_str())));
        let back = Sealed::new(&link.seq)?;
        writes.extend(back.writes(&keys::linked(name.as_str(), &link.remote_id)));
    }
    Ok(writes)
}

/// What remote systems made of an event.
pub(super) fn of(store: &dyn Store, seq: Seq) -> Result<Vec<LaneLink>, QueueError> {
    let mut links = Vec::new();
    for (key, value) in all(store, &keys::links_of(seq))? {
        let Some((_, lane)) = keys::link_id(&key) else { continue };
        match (Name::new(lane), record::open::<Link>(&key, &value)) {
            (Ok(lane), Ok(link)) => links.push(LaneLink { lane, link }),
            (Err(_), _) => {}
            (_, Err(error)) => tracing::error!(%error, "a link is damaged"),
        }
    }
    Ok(links)
}

/// The event of which a lane's remote system made this.
pub(super) fn event(
    store: &dyn Store,
    lane: &Name,
    remote_id: &str,
) -> Result<Option<Seq>, QueueError> {
    let key = part_key(&keys::linked(lane.as_str(), remote_id), 0);
    let Some(bytes) = get(store, &key)? else { return Ok(None) };
    record::open(&key, &bytes).map(Some)
}

/// One step of removing old links, oldest events first.
pub(super) fn expire(
    state: &mut State,
    group: &mut Group,
    now: Timestamp,
) -> Result<(), QueueError> {
    let mut oldest = Vec::new();
    scan(&*state.store, b"e", |key, value| {
        oldest.push((key.to_vec(), value.to_vec()));
        if oldest.len() < STEP_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    let keep_from = Timestamp(now.0.saturating_sub(millis(KEEP)));
    for (key, value) in oldest {
        let link = record::open::<Link>(&key, &value);
        if link.as_ref().is_ok_and(|link| link.at >= keep_from) {
            break;
        }
        group.reserve(state, 2)?;
        if let (Ok(link), Some((_, lane))) = (&link, keys::link_id(&key)) {
            let back = part_key(&keys::linked(lane, &link.remote_id), 0);
            group.push(Write::Remove(back));
        }
        group.push(Write::Remove(key));
    }
    Ok(())
}
