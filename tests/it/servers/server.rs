//! A program of `tests/programs`: found, started, awaited, restarted, ended.

use std::{
    fs::{self, File, OpenOptions},
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::LazyLock,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{eventually, wait::holds};

static PLACE: LazyLock<PathBuf> = LazyLock::new(|| {
    let test = std::env::current_exe().expect("the test binary has a path");
    let target = test.ancestors().nth(3).expect("it is target/<profile>/deps/<test>");
    let place = target.join("test-programs");
    let complete = place.join("complete").is_file();
    assert!(complete, "the servers are missing: run `tests/programs` as root first");
    place
});

/// A daemon of a Debian package.
pub(super) fn daemon(path: &str) -> PathBuf {
    PLACE.join("root").join(path)
}

/// Where a package keeps what it loads, in this machine's own folder of libraries.
pub(super) fn loaded_from(name: &str) -> PathBuf {
    let libraries = fs::read_dir(daemon("usr/lib")).expect("libraries were unpacked");
    let mut folders = libraries.filter_map(|entry| Some(entry.ok()?.path().join(name)));
    folders.find(|folder| folder.is_dir()).expect("a folder of loadable modules")
}

pub(super) fn python() -> PathBuf {
    PLACE.join("venv/bin/python")
}

/// See the module header. Dropping it kills the process.
#[derive(Debug)]
pub(super) struct Server {
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, PathBuf)>,
    log: PathBuf,
    port: u16,
    child: Option<Child>,
}

// === impl Server ===

impl Server {
    /// Not started yet. Its output goes to a file, and it is there when `port` is.
    pub(super) fn new(program: PathBuf, arguments: &[&str], log: PathBuf, port: u16) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Self { program, arguments, environment: Vec::new(), log, port, child: None }
    }

    pub(super) fn environment(mut self, name: &str, value: PathBuf) -> Self {
        self.environment.push((name.to_owned(), value));
        self
    }

    pub(super) fn begun(mut self) -> Self {
        self.begin();
        self
    }

    /// Starts it and waits until it takes connections.
    pub(super) fn begin(&mut self) {
        assert!(self.child.is_none(), "it is running already");
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdout(self.output()).stderr(self.output());
        let child = command.spawn();
        let what = self.program.display().to_string();
        self.child = Some(child.unwrap_or_else(|error| panic!("{what}: {error}")));
        eventually(&format!("{what} takes connections"), || {
            let child = self.child.as_mut()?;
            if let Some(status) = child.try_wait().expect("ask for a child's status") {
                panic!("{what} ended, {status}:\n{}", self.said());
            }
            holds(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok())
        });
    }

    fn output(&self) -> File {
        let file = OpenOptions::new().append(true).create(true).open(&self.log);
        file.expect("a file for its output")
    }

    pub(super) fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().and_then(|()| child.wait()).expect("kill a server");
        }
    }

    /// SIGTERM, and waits for its end.
    pub(super) fn terminate(&mut self) {
        let mut child = self.child.take().expect("it is running");
        let pid = Pid::from_raw(child.id() as i32).expect("a process id");
        kill_process(pid, Signal::TERM).expect("send a signal");
        eventually("the server ends", || child.try_wait().expect("ask for a child's status"));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() && self.child.is_some() {
            let said = self.said();
            let from = said.floor_char_boundary(said.len().saturating_sub(3000));
            eprintln!("the last words of {}:\n{}", self.program.display(), &said[from..]);
        }
        self.kill();
    }
}

/// A path as text; those of a test are UTF-8.
pub(super) fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}
