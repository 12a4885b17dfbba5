//! The real binary from outside: files and HTTP in, HTTP and files out, and every fault between.
//!
//! `HOLDFAST_BIN` names the binary; without it the newest build beside the tests is taken. Each
//! test has its own folder, ports and receivers, and ends by asking for every lane's ledger and
//! letting `queue verify` recount it.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

mod architecture;
mod damage;
mod dead_letters;
mod doubt;
mod faulty_config;
mod first_look;
mod full_disk;
mod ingest;
mod isolation;
mod overflow;
mod pacing;
mod receivers;
mod render;
mod replay_log;
mod secrecy;
mod shutdown;
