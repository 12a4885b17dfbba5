//! Everything at once: rotations, posts, a receiver that fails, and `kill -9` at random moments.
//!
//! A writer appends numbered alerts in Wazuh's file layout, a poster sends others over HTTP, the
//! receivers of five lanes (singly, in batches, in strict order, in order by agent, summed up; with
//! express alerts and canaries) fail 30 % of their requests and go away for stretches, and the
//! gateway is killed again and again. At the end every alert that was written or acknowledged must
//! have reached all lanes, in that of the summaries by itself or in one count; nothing else may
//! have, and what was delivered twice must be explained by a kill.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `HOLDFAST_BIN` | the binary to test; default: the newest build beside the tests |
//! | `TORTURE_KILLS` | how often it is killed; default 200 |
//! | `TORTURE_SEED` | repeats the dice of an earlier run; the threads' timing is their own |

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod lanes;
mod layout;
mod poster;
mod receivers;
#[path = "../it/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with the other black-box tests")]
mod support;
mod tally;
mod torture;
mod writer;
