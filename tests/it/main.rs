//! The real binary from outside: files and HTTP in, HTTP and files out, and every fault between.
//!
//! `HOLDFAST_BIN` names the binary; without it the newest build beside the tests is taken. Each
//! test has its own folder, ports and receivers, and ends by asking for every lane's ledger and
//! letting `queue verify` recount it.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

mod api;
mod architecture;
mod callbacks;
mod canary;
mod cli;
mod cli_pull;
mod cli_queue;
mod cli_top;
mod clients;
mod damage;
mod dead_letters;
mod deploy;
mod doubt;
mod express;
mod faulty_config;
mod first_look;
mod full_disk;
mod ingest;
mod isolation;
mod operator;
mod order;
mod overflow;
mod pacing;
mod pull;
mod receivers;
mod reload;
mod reload_storm;
mod render;
mod replay_log;
mod schemathesis;
mod secrecy;
mod servers;
mod shutdown;
mod signatures;
mod soc;
mod storm;
mod two_way;
mod way_out;
mod wazuh_back;
