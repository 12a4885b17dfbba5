//! What storm control and links keep beside a lane's events.

use bytes::Bytes;
use holdfast_model::{Name, Seq, Timestamp};
use serde::{Deserialize, Serialize};

/// Most windows that one settlement stores or ends.
pub const WINDOWS_STEP_MAX: usize = 32;
/// Most links that one settlement stores.
pub const LINKS_STEP_MAX: usize = 8;
/// Most suppressed events that a window remembers one by one.
pub const SAMPLES_MAX: usize = 20;

/// A window of storm control: the events alike that follow one that was sent at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// The event that was sent at once. It names the window.
    pub first: Seq,
    /// The first event that was held back, for which the summary stands; 0: none was.
    pub first_suppressed: Seq,
    pub last_suppressed: Seq,
    pub suppressed: u64,
    pub opened_at: Timestamp,
    pub closes_at: Timestamp,
    /// What the events have in common, by which they are recognised.
    pub by: String,
    /// What a summary is made of: the first event held back, in brief.
    pub alert: Bytes,
    pub samples: Vec<Sample>,
}

/// One event that was held back, in brief.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    pub seq: Seq,
    pub received_at: Timestamp,
    pub text: String,
}

/// What a remote system called the thing it made of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub seq: Seq,
    pub remote_id: String,
    pub at: Timestamp,
}

/// A link with the lane that stored it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneLink {
    pub lane: Name,
    pub link: Link,
}
