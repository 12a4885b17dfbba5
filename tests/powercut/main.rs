//! What is left when the power is cut at any moment.
//!
//! `disk.c` notes what a program does to its disk; `disk.rs` replays that up to a cut and builds a
//! disk as the cut may leave it: all that was synced, and a random part of what was not.
//! `small_programs.rs` proves on programs with known faults that this finds losses where, and only
//! where, a sync is missing. `survival.rs` then puts the gateway on it.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `HOLDFAST_BIN` | the binary to test; default: the one beside the tests |
//! | `POWERCUT_CUTS` | cuts of the gateway's disk; default 100 |
//! | `POWERCUT_SEED` | repeats the dice of an earlier run |
//! | `POWERCUT_REPLAY` | cuts a journal that a failed test has kept, instead of a new one |
//! | `POWERCUT_MODE` | `ext4` (default) or `strict`: which names survive, see `names.rs` |

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod cuts;
mod disk;
mod file;
mod gateway;
mod http;
mod journal;
mod names;
mod run;
mod shim;
mod small_programs;
mod subjects;
mod survival;
mod traffic;
