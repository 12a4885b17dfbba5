//! The binary `holdfast`: it wires the crates together, serves, and stops.

mod api;
mod cli;
mod config;
mod import_ossec;
mod notebook;
mod notify;
mod recall;
mod reload;
mod run;
mod stages;
mod upkeep;

use std::process::ExitCode;

use clap::Parser;

// glibc's allocator keeps what a burst needed; this one gives it back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main(cli::Cli::parse())
}
