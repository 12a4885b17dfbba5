//! What is shipped under `deploy/` agrees with the binary, with itself and with the manual.

mod docker;
mod notify;
mod prometheus;
mod systemd;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::binary::Said;

/// A path in the repository.
fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

#[track_caller]
fn read(path: &str) -> String {
    fs::read_to_string(shipped(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Runs a program of another project; `None` when it is not on this machine.
fn tool(name: &str, arguments: &[&str], folder: &Path) -> Option<Said> {
    let output = Command::new(name).args(arguments).current_dir(folder).output();
    match output {
        Ok(output) => Some(output.into()),
        Err(error) => {
            println!("{name} is not here, so it was not asked: {error}");
            None
        }
    }
}
