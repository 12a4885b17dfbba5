//! What happens to an event, and in which order.
//!
//! ```text
//! source ──► intake ──► the log ──► lane: read → filter → attempt → settle ──► destination
//!                                     │ retry records, dead letters ◄──┘
//!                                     └ replay jobs put dead letters back
//! ```
//!
//! Deciding is pure ([`filter`], [`settlement`], [`backoff`], [`breaker`], [`pace`]); acting is at
//! the edges ([`intake`], [`lane`], [`jobs`]). Nothing here knows a vendor, HTTP or sled.

pub mod backoff;
pub mod breaker;
pub mod clock;
pub mod filter;
pub mod intake;
pub mod jobs;
pub mod lane;
pub mod metrics;
mod osmatch;
pub mod pace;
pub mod settings;
pub mod settlement;
pub mod trial;

pub use clock::Clock;
pub use intake::QueueIntake;
pub use lane::{LaneConfig, LaneHandle, LaneView};
pub use metrics::Metrics;
pub use settings::LaneSettings;
