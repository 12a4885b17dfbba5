//! What an event is about: the event behind it, as this lane's destination knows it.
//!
//! An answer or a callback has a parent, which may have one itself. The lane looks for the nearest
//! of them of which its own remote system made something, so that an update finds it; where there
//! is none, for the first of them, which is an alert.
//!
//! Does not promise the parent itself: the log may have trimmed it.

use std::sync::Arc;

use holdfast_model::{Chain, Event, EventId, Kind, Member, Parent, delivery_key};
use holdfast_queue::{LaneLink, QueueError, Standing};

use crate::lane::flight::Craft;

/// Steps from an event to the first of its ancestors.
const STEPS_MAX: usize = 8;

impl Craft {
    /// `None`: the event is about no other.
    pub(super) async fn parent(&self, event: &Event) -> Option<Arc<Parent>> {
        let mut id = event.parent.clone()?;
        for _ in 0..STEPS_MAX {
            let found = match self.ancestor(&id).await {
                Ok(found) => found,
                // The attempt goes on: the event itself says what it is about.
                Err(error) => {
                    let (lane, error) = (&self.lane, Chain(&error));
                    tracing::warn!(%lane, %id, %error, "cannot look up what an event is about");
                    Parent::unknown(id.clone(), self.key_of(&id))
                }
            };
            let above = found.event.as_ref().and_then(|event| event.parent.clone());
            match above {
                Some(above) if found.remote_id.is_none() => id = above,
                _ => return Some(Arc::new(found)),
            }
        }
        Some(Arc::new(Parent::unknown(id.clone(), self.key_of(&id))))
    }

    /// Whether the event tells what became of another one that this lane has not settled yet: what
    /// it would update is not there.
    pub(super) async fn is_early(&self, member: &Member) -> bool {
        let Some(parent) = member.parent.as_ref().filter(|_| member.event.kind == Kind::Callback)
        else {
            return false;
        };
        if parent.remote_id.is_some() || parent.id.log != self.log_id {
            return false;
        }
        match self.engine.standing(&self.linked_as, parent.id.seq).await {
            Ok(standing) => {
                matches!(standing, Some(Standing::Unsettled | Standing::Retrying(_)))
            }
            // The attempt goes on, as it does where nothing is known of the parent.
            Err(error) => {
                let (lane, error) = (&self.lane, Chain(&error));
                tracing::warn!(%lane, %error, "cannot see whether an event is settled");
                false
            }
        }
    }

    async fn ancestor(&self, id: &EventId) -> Result<Parent, QueueError> {
        let mut parent = Parent::unknown(id.clone(), self.key_of(id));
        // Of another log nothing is known here.
        if id.log != self.log_id {
            return Ok(parent);
        }
        for LaneLink { lane, link } in self.engine.links_of(id.seq).await? {
            if lane == self.linked_as {
                parent.remote_id = Some(link.remote_id);
            } else {
                parent.links.push((lane, link.remote_id));
            }
        }
        parent.event = self.engine.event(id.seq).await?;
        Ok(parent)
    }

    fn key_of(&self, id: &EventId) -> String {
        delivery_key(id, &self.keyed_as, None)
    }
}
