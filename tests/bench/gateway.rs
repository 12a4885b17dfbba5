//! The release binary of Holdfast on a state of its own.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use crate::{
    Result,
    clock::{now_ns, seconds_since},
    http,
    process::Process,
};

pub(crate) const TOKEN: &str = "bench-token-0123456789abcdef0123456789";
const READY_SECONDS_MAX: f64 = 120.0;
const STALL_SECONDS_MAX: f64 = 60.0;

/// See the module header.
pub(crate) struct Gateway {
    pub(crate) process: Process,
    pub(crate) port: u16,
    /// From its start to the first 200 of `/readyz`.
    pub(crate) ready_seconds: f64,
    state: PathBuf,
}

impl Gateway {
    /// Starts it in `folder`, with `tables` (sources, destinations) beside the defaults.
    pub(crate) fn start(folder: &Path, tables: &str) -> Result<Self> {
        let port = free_port()?;
        let state = folder.join("state");
        let config = folder.join("holdfast.toml");
        let text = format!(
            "[node]\nname = \"bench\"\nstate = \"{}\"\n[server]\nlisten = \"127.0.0.1:{port}\"\n\
             tokens = [{{ name = \"bench\", role = \"admin\", token = \"{TOKEN}\" }}]\n\
             [queue]\nreserve = \"16MiB\"\n{tables}",
            state.display()
        );
        fs::remove_file(&config).ok();
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&config)?;
        file.write_all(text.as_bytes())?;
        let mut command = Command::new(binary()?);
        command.arg("run").arg("--config").arg(&config);
        let begun = now_ns();
        let process = Process::start(command, folder)?;
        let mut gateway = Self { process, port, ready_seconds: 0.0, state };
        while !http::get(port, "/readyz").is_ok_and(|(status, _)| status == 200) {
            gateway.process.check()?;
            if seconds_since(begun) > READY_SECONDS_MAX {
                return Err(format!("it is never ready:\n{}", gateway.process.last_words()).into());
            }
            thread::sleep(Duration::from_millis(2));
        }
        gateway.ready_seconds = seconds_since(begun);
        Ok(gateway)
    }

    /// Alerts that all sources have had acknowledged in this run.
    pub(crate) fn accepted(&self) -> Result<u64> {
        let (_, metrics) = http::get(self.port, "/metrics")?;
        let lines = metrics.lines().filter(|line| {
            line.starts_with("holdfast_ingest_alerts_total{") && line.contains("\"accepted\"")
        });
        let values = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        Ok(values.sum::<f64>() as u64)
    }

    /// Waits until it has accepted so many alerts.
    pub(crate) fn wait_for(&mut self, alerts: u64) -> Result<()> {
        let (mut seen, mut since) = (0, now_ns());
        while seen < alerts {
            thread::sleep(Duration::from_millis(10));
            self.process.check()?;
            let now = self.accepted()?;
            if now != seen {
                (seen, since) = (now, now_ns());
            } else if seconds_since(since) > STALL_SECONDS_MAX {
                let words = self.process.last_words();
                return Err(format!("{seen} of {alerts} alerts were taken:\n{words}").into());
            }
        }
        Ok(())
    }

    /// Bytes that the queue occupies on the disk, without the reserve.
    pub(crate) fn disk_bytes(&self) -> Result<u64> {
        occupied(&self.state.join("queue"))
    }
}

fn occupied(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            bytes += occupied(&entry.path())?;
        } else if entry.file_name() != "reserve" {
            bytes += metadata.blocks() * 512;
        }
    }
    Ok(bytes)
}

/// A source that follows a file from its beginning.
pub(crate) fn tail(path: &Path) -> String {
    let path = path.display();
    format!("[sources.tail]\ntype = \"alerts_file\"\npath = \"{path}\"\nstart = \"beginning\"\n")
}

/// A destination. After an outage it is tried again soon, so that a drain begins soon.
pub(crate) fn webhook(name: &str, port: u16, keys: &str) -> String {
    format!(
        "[destinations.{name}]\ntype = \"webhook\"\nurl = \"http://127.0.0.1:{port}/\"\n\
         retry = {{ initial = \"500ms\", max = \"2s\" }}\n{keys}\n"
    )
}

/// `HOLDFAST_BIN`, or the release build beside this program.
fn binary() -> Result<PathBuf> {
    let path = match std::env::var_os("HOLDFAST_BIN") {
        Some(given) => PathBuf::from(given),
        None => std::env::current_exe()?.with_file_name("../release/holdfast"),
    };
    if path.is_file() {
        return Ok(path);
    }
    Err(format!(
        "there is no {}: run `cargo build --release -p holdfast`, or set HOLDFAST_BIN",
        path.display()
    )
    .into())
}

/// One that was free a moment ago.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
