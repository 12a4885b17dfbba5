//! What happens to an event, and in which order.
//!
//! ```text
//! source ──► intake ──► the log ──► lane: read → filter → (enrich) → attempt → settle ──► destination
//!                                     │ retry records, dead letters ◄──┘
//!                                     └ replay jobs put dead letters back
//! ```
//!
//! Deciding is pure ([`filter`], [`order`], [`storm`], [`settlement`], [`backoff`], [`breaker`],
//! [`pace`]); acting is at the edges ([`intake`], [`lane`], [`jobs`], [`operator`]). Nothing here
//! knows a vendor, HTTP or sled.

pub mod backoff;
pub mod breaker;
pub mod canary;
pub mod clock;
pub mod consumer;
mod fields;
pub mod filter;
pub mod intake;
pub mod jobs;
pub mod lane;
pub mod lanes;
pub mod metrics;
pub mod operator;
pub mod order;
mod osmatch;
pub mod pace;
pub mod settings;
pub mod settlement;
pub mod storm;
pub mod trial;

pub use clock::Clock;
pub use consumer::Consumer;
pub use fields::{Path, project};
pub use intake::QueueIntake;
pub use lane::{LaneConfig, LaneHandle, LaneView, Surroundings};
pub use lanes::Lanes;
pub use metrics::Metrics;
pub use operator::Operator;
pub use settings::LaneSettings;
