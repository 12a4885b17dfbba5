//! The lanes, end to end: the real queue in memory, far ends that follow a script, and a clock that
//! only moves when nobody has anything to do.

#![allow(clippy::unwrap_used, reason = "tests")]

mod batches;
mod bounds;
mod breaker;
mod credentials;
mod damage;
mod delivery;
mod doubt;
mod express;
mod intake;
mod lookups;
mod order;
mod orders;
mod poison;
mod replay;
mod replay_own;
mod retries;
mod rig;
mod storm;
mod throttling;
