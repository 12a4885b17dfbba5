//! The `holdfast` binary as the harness uses it. Everything that it takes for granted is here:
//!
//! - the configuration of [`config`];
//! - `run --config F` serves until it is killed, and `GET /readyz` answers 200 once it accepts;
//! - `queue verify --config F` exits with 0 when the queue is whole;
//! - `queue export --config F` prints everything that the queue still holds (the log, events that
//!   wait for a retry, dead letters), alerts as they came in.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::{http, shim::Shim};

pub(crate) const TOKEN: &str = "powercut-token-0123456789abcdef0123456789abcdef";

/// The file whose `fdatasync` the negative control ignores.
pub(crate) const DATABASE: &str = "db";

/// Files whose bytes do not matter: made anew when they are missing, and maybe by a call that the
/// shim does not see.
pub(crate) const EXPENDABLE: &[&str] = &["reserve"];

const READY_TRIES_MAX: u32 = 1_500;
const READY_PAUSE: Duration = Duration::from_millis(20);

/// Where one gateway lives, and whom it talks to.
pub(crate) struct Place<'a> {
    /// Holds the state and the queue: the modelled disk, or an image of it.
    pub(crate) disk: &'a Path,
    /// The tailed file, on another disk.
    pub(crate) alerts: &'a Path,
    pub(crate) port: u16,
    /// Of the receivers, by lane.
    pub(crate) ports: [u16; LANES.len()],
}

/// One lane, and what its receiver does.
pub(crate) struct LaneUnderTest {
    pub(crate) name: &'static str,
    keys: &'static str,
    /// Every so many requests, it answers 503; 0: never.
    pub(crate) fails_every: usize,
    /// Every alert comes by itself; the other lane sums up.
    pub(crate) is_whole: bool,
}

pub(crate) const LANES: [LaneUnderTest; 5] = [
    LaneUnderTest {
        name: "steady",
        keys: "canary = \"1s\"\nbatch = { max_events = 100, max_wait = \"20ms\" }",
        fails_every: 0,
        is_whole: true,
    },
    LaneUnderTest {
        name: "flaky",
        keys: "express_level = 12\nbatch = { max_events = 100, max_wait = \"20ms\" }",
        fails_every: 3,
        is_whole: true,
    },
    LaneUnderTest {
        name: "strict",
        keys: "order = \"strict\"\nbatch = { max_events = 100, max_wait = \"20ms\" }",
        fails_every: 7,
        is_whole: true,
    },
    LaneUnderTest {
        name: "keyed",
        keys: "order = \"key\"\nbatch = { max_events = 100, max_wait = \"20ms\" }",
        fails_every: 5,
        is_whole: true,
    },
    LaneUnderTest {
        name: "digest",
        keys: "express_level = 14\ndigest = { by = [\"agent.id\"], window = \"1s\" }",
        fails_every: 4,
        is_whole: false,
    },
];

fn config(place: &Place<'_>) -> String {
    let Place { disk, alerts, port, ports } = place;
    let (disk, alerts) = (disk.display(), alerts.display());
    let lanes = LANES.iter().zip(ports).map(|(lane, port)| {
        let LaneUnderTest { name, keys, .. } = lane;
        format!(
            "\n[destinations.{name}]\ntype = \"webhook\"\nurl = \"http://127.0.0.1:{port}/{name}\"\n\
             retry = {{ initial = \"100ms\", max = \"1s\" }}\nstart = \"all\"\n{keys}\n"
        )
    });
    let lanes: String = lanes.collect();
    format!(
        r#"
[node]
name = "powercut"
state = "{disk}/state"

[server]
listen = "127.0.0.1:{port}"
tokens = [{{ name = "powercut", role = "admin", token = "{TOKEN}" }}]

[queue]
engine = "sled"
path = "{disk}/queue"
max_size = "1GiB"
reserve = "16MiB"
retention = "1s"

[sources.tail]
type = "alerts_file"
path = "{alerts}"
start = "beginning"
{lanes}"#
    )
}

/// A running gateway; killed with SIGKILL when it is dropped.
pub(crate) struct Gateway {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Gateway {
    /// `name` tells its files apart in `folder`, which lies outside the modelled disk.
    pub(crate) fn start(place: &Place<'_>, folder: &Path, name: &str, shim: Option<&Shim>) -> Self {
        let config = write_config(place, folder, name);
        let log = folder.join(format!("{name}.log"));
        let log_file = File::create(&log).expect("create the log");
        let mut program = Command::new(binary());
        program.arg("run").arg("--config").arg(config).stdin(Stdio::null());
        program.stderr(log_file.try_clone().expect("one log for both")).stdout(log_file);
        if let Some(shim) = shim {
            shim.put_under(&mut program);
        }
        let child = program.spawn().expect("start holdfast");
        Self { child, port: place.port, log }
    }

    /// Waits until it accepts alerts, or says why it never will.
    pub(crate) fn ready(&mut self) -> Result<(), String> {
        for _ in 0..READY_TRIES_MAX {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("holdfast ended with {status}: {}", self.last_words()));
            }
            if http::get(self.port, "/readyz").is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            thread::sleep(READY_PAUSE);
        }
        Err(format!("holdfast is not ready: {}", self.last_words()))
    }

    /// Waits until every lane's ledger adds up.
    pub(crate) fn balanced(&self) -> Result<(), String> {
        let mut last = String::new();
        for _ in 0..READY_TRIES_MAX {
            match http::get_with(self.port, "/v1/destinations", TOKEN) {
                Ok(answer) if answer.status == 200 => last = answer.text,
                Ok(answer) => return Err(format!("{} {}", answer.status, answer.text)),
                Err(error) => return Err(error.to_string()),
            }
            let json: Value = serde_json::from_str(&last).unwrap_or_default();
            let lanes = json["data"].as_array().map(Vec::as_slice).unwrap_or_default();
            let adds_up = |lane: &Value| lane["ledger"]["difference"] == 0;
            if lanes.len() == LANES.len() && lanes.iter().all(adds_up) {
                return Ok(());
            }
            thread::sleep(READY_PAUSE);
        }
        Err(format!("a ledger does not add up: {last}"))
    }

    fn last_words(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(2_000)..]).into_owned()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("holdfast could not be killed: {error}");
        }
    }
}

/// Runs `holdfast queue <command>` on a gateway that is not running.
pub(crate) fn queue(place: &Place<'_>, folder: &Path, name: &str, command: &str) -> Output {
    let config = write_config(place, folder, name);
    let mut program = Command::new(binary());
    program.args(["queue", command, "--config"]).arg(config).stdin(Stdio::null());
    program.output().expect("start holdfast")
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound port").port()
}

/// For its owner alone: it holds a token, and Holdfast refuses one that others can read.
fn write_config(place: &Place<'_>, folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(format!("{name}.toml"));
    let write = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        file.write_all(config(place).as_bytes())
    };
    write().expect("write the configuration");
    path
}

/// `HOLDFAST_BIN`, or the binary beside this test, or the release build.
fn binary() -> PathBuf {
    if let Some(given) = std::env::var_os("HOLDFAST_BIN") {
        let given = PathBuf::from(given);
        assert!(given.is_file(), "HOLDFAST_BIN: there is no {}", given.display());
        return given;
    }
    let test = std::env::current_exe().expect("the test binary");
    let profile = test.ancestors().nth(2).expect("target/<profile>/deps/<test>");
    [profile.join("holdfast"), profile.with_file_name("release").join("holdfast")]
        .into_iter()
        .find(|path| path.is_file())
        .expect("no holdfast binary: build it first, or name it in HOLDFAST_BIN")
}
