//! The running gateway: started, killed, stopped, restarted on the same state, and asked.

use std::{
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{
    binary::{self, Said},
    config::{Config, TOKEN, free_port},
    http::{Answer, Call},
    wait::{eventually, holds},
};

/// Another process may take a free port before the gateway does.
const PORT_TRIES_MAX: u32 = 5;

/// See the module header. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) config: Config,
    pub(crate) port: u16,
    pub(crate) token: String,
    environment: Vec<(String, String)>,
    child: Option<Child>,
}

impl Gateway {
    /// Starts it and waits until it accepts alerts.
    #[track_caller]
    pub(crate) fn start(config: Config) -> Self {
        let mut gateway = Self::new(config);
        gateway.restart();
        gateway
    }

    /// Not started yet.
    pub(crate) fn new(config: Config) -> Self {
        let token = TOKEN.to_owned();
        Self { config, port: 0, token, environment: Vec::new(), child: None }
    }

    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it on the same state and waits until it accepts alerts.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        for _ in 0..PORT_TRIES_MAX {
            self.spawn();
            if self.ready() {
                return;
            }
            if !self.log().contains("cannot listen") {
                break;
            }
        }
        panic!("holdfast is not ready:\n{}", self.last_words());
    }

    /// Stops it and starts it again at the same port, for who holds on to its address.
    #[track_caller]
    pub(crate) fn restart_in_place(&mut self) {
        assert_eq!(self.terminate(), Some(0), "it did not stop in order:\n{}", self.last_words());
        self.spawn_at(self.port);
        assert!(self.ready(), "holdfast is not ready:\n{}", self.last_words());
    }

    /// Starts it and waits for nothing.
    pub(crate) fn spawn(&mut self) {
        self.spawn_at(free_port());
    }

    fn spawn_at(&mut self, port: u16) {
        assert!(self.child.is_none(), "it is running already");
        self.port = port;
        let path = self.config.write(self.port);
        let mut command = binary::command();
        command.arg("run").arg("--config").arg(path);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdout(self.output("stdout")).stderr(self.output("stderr"));
        self.child = Some(command.spawn().expect("start holdfast"));
    }

    /// Waits until it is; `false` when it ended instead.
    fn ready(&mut self) -> bool {
        let begun = eventually("ready, or ended", || {
            if self.exited().is_some() {
                return Some(false);
            }
            let answer = Call::new(self.port, "GET", "/readyz").send();
            answer.is_ok_and(|answer| answer.status == 200).then_some(true)
        });
        if !begun {
            self.child = None;
        }
        begun
    }

    /// Its status, if it has ended.
    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        let child = self.child.as_mut()?;
        child.try_wait().expect("ask for a child's status")
    }

    /// Waits for an end that it comes to by itself.
    #[track_caller]
    pub(crate) fn wait_for_exit(&mut self) -> Option<i32> {
        let status = eventually("holdfast ends", || self.exited());
        self.child = None;
        status.code()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("it is running").id()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().and_then(|()| child.wait()).expect("kill holdfast");
        }
    }

    /// SIGTERM, and its exit code.
    #[track_caller]
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.wait_for_exit()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid() as i32).expect("a process id");
        kill_process(pid, signal).expect("send a signal");
    }

    /// Writes the configuration with these tables, and asks for a reload.
    #[track_caller]
    pub(crate) fn reload(&mut self, tables: &str) -> Answer {
        self.config.set_tables(tables);
        self.config.write(self.port);
        self.post("/v1/reload", &json!({}))
    }

    /// As [`Self::reload`], and it is done.
    #[track_caller]
    pub(crate) fn reloaded(&mut self, tables: &str) -> Value {
        let answer = self.reload(tables);
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    }

    /// The value of one line of `/metrics`, its labels as they are printed.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = line.unwrap_or_else(|| panic!("there is no metric {name}"));
        value.parse().expect("a number")
    }

    fn output(&self, name: &str) -> File {
        let path = self.config.file(name);
        OpenOptions::new().append(true).create(true).open(path).expect("a file for its output")
    }

    /// What it wrote to standard error in all its runs.
    pub(crate) fn log(&self) -> String {
        read_lossy(&self.config.file("stderr"))
    }

    pub(crate) fn stdout(&self) -> String {
        read_lossy(&self.config.file("stdout"))
    }

    pub(crate) fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    pub(crate) fn queue_path(&self) -> PathBuf {
        self.config.state().join("queue")
    }

    /// A request with the administrator's token.
    pub(crate) fn call(&self, method: &str, path: &str) -> Call {
        Call::new(self.port, method, path).bearer(&self.token)
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.call("GET", path).send().expect("the gateway answers")
    }

    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        let call = self.call("POST", path).body("application/json", body.to_string());
        call.send().expect("the gateway answers")
    }

    /// Posts NDJSON and expects it to be taken whole.
    #[track_caller]
    pub(crate) fn accept(&self, ndjson: &str) -> Value {
        let answer = self.call("POST", "/v1/alerts").ndjson(ndjson).send().expect("an answer");
        assert_eq!(answer.status, 202, "{}", answer.text);
        answer.json()
    }

    /// One lane as `GET /v1/destinations` shows it.
    #[track_caller]
    pub(crate) fn lane(&self, name: &str) -> Value {
        let answer = self.get(&format!("/v1/destinations/{name}"));
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    }

    /// Waits until a lane is as `is_so` wants it.
    #[track_caller]
    pub(crate) fn wait_for_lane(
        &self,
        name: &str,
        what: &str,
        is_so: impl Fn(&Value) -> bool,
    ) -> Value {
        let mut last = Value::Null;
        let found = super::wait::within(super::wait::PATIENCE, || {
            last = self.lane(name);
            is_so(&last).then(|| last.clone())
        });
        found.unwrap_or_else(|| panic!("lane {name} never {what}: {last:#}\n{}", self.last_words()))
    }

    #[track_caller]
    pub(crate) fn wait_for_term(&self, lane: &str, term: &str, count: u64) {
        let what = format!("had {term} = {count}");
        self.wait_for_lane(lane, &what, |lane| lane["ledger"][term] == count);
    }

    /// So many alerts wait in a lane that delivered none and gave none up. Holdfast's own events
    /// about its lanes may wait there as well.
    pub(crate) fn all_wait(lane: &Value, alerts: u64) -> bool {
        let ledger = &lane["ledger"];
        let kept = ledger["pending"].as_u64() >= Some(alerts);
        kept && ledger["delivered"] == 0 && ledger["dead"] == 0
    }

    #[track_caller]
    pub(crate) fn wait_for_state(&self, lane: &str, state: &str) {
        self.wait_for_lane(lane, &format!("was {state}"), |lane| lane["state"] == state);
    }

    /// Dead letters as the API lists them.
    #[track_caller]
    pub(crate) fn dead_letters(&self, query: &str) -> Vec<Value> {
        let answer = self.get(&format!("/v1/dead-letters?{query}"));
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()["data"].as_array().cloned().unwrap_or_default()
    }

    /// Runs a command that speaks to this gateway.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Said {
        self.cli_command(arguments).output().expect("start holdfast").into()
    }

    pub(crate) fn cli_command(&self, arguments: &[&str]) -> Command {
        let mut command = binary::command();
        command.args(arguments).stdin(Stdio::null());
        command.env("HOLDFAST_URL", format!("http://127.0.0.1:{}", self.port));
        command.env("HOLDFAST_TOKEN", &self.token);
        command
    }

    /// Waits until every lane's ledger adds up.
    #[track_caller]
    pub(crate) fn balanced(&self) {
        let mut last = Value::Null;
        let found = super::wait::within(super::wait::PATIENCE, || {
            last = self.get("/v1/destinations").json();
            let lanes = last["data"].as_array()?;
            holds(lanes.iter().all(|lane| lane["ledger"]["difference"] == 0))
        });
        assert!(found.is_some(), "a ledger does not add up: {last:#}");
    }

    /// The end of every test: the ledgers add up, it stops in order, and so do the records.
    #[track_caller]
    pub(crate) fn finish(&mut self) {
        self.balanced();
        let code = self.terminate();
        assert_eq!(code, Some(0), "it did not stop in order:\n{}", self.last_words());
        self.verified();
    }

    /// `queue verify` of the stopped gateway finds nothing.
    #[track_caller]
    pub(crate) fn verified(&self) {
        let said = binary::queue("verify", &self.queue_path());
        assert_eq!(said.code, Some(0), "queue verify: {said:#?}");
        assert!(!self.log().contains("panicked"), "something panicked:\n{}", self.log());
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() && self.child.is_some() {
            eprintln!("the gateway's last words:\n{}", self.last_words());
        }
        self.kill();
    }
}

fn read_lossy(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
