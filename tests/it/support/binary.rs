//! The `holdfast` binary: `HOLDFAST_BIN`, or the newest build beside this test.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::LazyLock,
};

static BINARY: LazyLock<PathBuf> = LazyLock::new(find);

pub(crate) fn command() -> Command {
    let mut command = Command::new(&*BINARY);
    command.stdin(Stdio::null());
    // Nobody's own settings decide what is tested.
    for name in
        ["HOLDFAST_CONFIG", "HOLDFAST_LOG", "HOLDFAST_STATE", "HOLDFAST_TOKEN", "HOLDFAST_URL"]
    {
        command.env_remove(name);
    }
    command
}

fn find() -> PathBuf {
    if let Some(given) = std::env::var_os("HOLDFAST_BIN") {
        let given = PathBuf::from(given);
        assert!(given.is_file(), "HOLDFAST_BIN: there is no {}", given.display());
        return given;
    }
    let test = std::env::current_exe().expect("the test binary has a path");
    let target = test.ancestors().nth(3).expect("it is target/<profile>/deps/<test>");
    let built_at = |path: &PathBuf| path.metadata().and_then(|file| file.modified()).ok();
    ["release", "debug"]
        .map(|profile| target.join(profile).join("holdfast"))
        .into_iter()
        .filter(|path| path.is_file())
        .max_by_key(built_at)
        .expect(
            "there is no holdfast binary: run `cargo build -p holdfast` first, or set HOLDFAST_BIN",
        )
}

/// What a finished command said, and its exit code.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs a command to its end.
pub(crate) fn run(arguments: &[&str]) -> Said {
    command().args(arguments).output().expect("start holdfast").into()
}

/// `holdfast queue <action>` on a queue that nobody has open.
pub(crate) fn queue(action: &str, path: &Path) -> Said {
    let path = path.to_str().expect("temporary paths are UTF-8");
    run(&["queue", action, "--path", path])
}
