//! The peers, from Debian's packages. syslog-ng and rsyslog cannot both be installed, so both are
//! unpacked beside this program and run from there; the system is not touched.
//!
//! Debian's rsyslog has no HTTP output: it sends lines over TCP, which costs it less.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{Result, process::Process};

const PACKAGES: &[&str] = &[
    "syslog-ng-core",
    "syslog-ng-mod-http",
    "libivykis0",
    "libnet1",
    "libwrap0",
    "libjson-c5",
    "libpcre3",
    "libcurl4",
    "libglib2.0-0",
    "rsyslog",
    "libestr0",
    "libfastjson4",
    "liblognorm5",
];

/// How syslog-ng works.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SyslogNg {
    pub(crate) batch: u32,
    /// Seconds.
    pub(crate) look_every: &'static str,
}

/// How rsyslog works.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rsyslog {
    pub(crate) synced: bool,
}

/// Where they are, or why not.
pub(crate) struct Peers {
    root: std::result::Result<PathBuf, String>,
}

impl Peers {
    /// Takes what an earlier run has unpacked, or unpacks it now.
    pub(crate) fn fetch() -> Self {
        Self { root: fetch().map_err(|error| error.to_string()) }
    }

    pub(crate) fn syslog_ng(
        &self,
        folder: &Path,
        input: &Path,
        port: u16,
        how: SyslogNg,
    ) -> Result<Process> {
        let root = self.root.as_ref().map_err(Clone::clone)?;
        let SyslogNg { batch, look_every } = how;
        let input = input.display();
        let config = folder.join("syslog-ng.conf");
        let text = format!(
            "@version: 3.38\n@module affile\n@module http\noptions {{ stats-freq(0); }};\n\
             source s {{ file(\"{input}\" follow-freq({look_every}) flags(no-parse) \
             log-iw-size(100000) log-fetch-limit(1000)); }};\n\
             destination d {{ http(url(\"http://127.0.0.1:{port}/\") method(\"POST\") \
             body(\"${{MESSAGE}}\") workers(8) batch-lines({batch}) batch-timeout(200) \
             delimiter(\"\\n\") log-fifo-size(200000)); }};\n\
             log {{ source(s); destination(d); flags(flow-control); }};\n"
        );
        fs::write(&config, text)?;
        let mut command = with_libraries(root, "usr/sbin/syslog-ng");
        command.arg("--foreground").arg("--no-caps").arg("--stderr").arg("--cfgfile").arg(config);
        command.arg(option("--module-path", &root.join("usr/lib/syslog-ng/3.38")));
        command.arg(option("--persist-file", &folder.join("persist")));
        command.arg(option("--control", &folder.join("control")));
        command.arg(option("--pidfile", &folder.join("pid")));
        Process::start(command, folder)
    }

    pub(crate) fn rsyslog(
        &self,
        folder: &Path,
        input: &Path,
        port: u16,
        how: Rsyslog,
    ) -> Result<Process> {
        let root = self.root.as_ref().map_err(Clone::clone)?;
        let queue = if how.synced {
            "queue.type=\"Disk\" queue.filename=\"q\" queue.syncQueueFiles=\"on\" \
             queue.checkpointInterval=\"1\""
        } else {
            "queue.type=\"LinkedList\" queue.size=\"200000\" queue.dequeueBatchSize=\"1024\""
        };
        let (input, work) = (input.display(), folder.display());
        let config = folder.join("rsyslog.conf");
        let text = format!(
            "global(workDirectory=\"{work}\" maxMessageSize=\"64k\")\n\
             module(load=\"imfile\" mode=\"inotify\")\n\
             template(name=\"line\" type=\"string\" string=\"%msg%\\n\")\n\
             input(type=\"imfile\" file=\"{input}\" tag=\"wazuh\" ruleset=\"out\")\n\
             ruleset(name=\"out\" {queue}) {{ action(type=\"omfwd\" target=\"127.0.0.1\" \
             port=\"{port}\" protocol=\"tcp\" template=\"line\") }}\n"
        );
        fs::write(&config, text)?;
        let mut command = with_libraries(root, "usr/sbin/rsyslogd");
        command.arg("-n").arg("-f").arg(config).arg("-i").arg(folder.join("pid"));
        command.arg("-M").arg(root.join("usr/lib/x86_64-linux-gnu/rsyslog"));
        Process::start(command, folder)
    }
}

fn option(name: &str, path: &Path) -> String {
    format!("{name}={}", path.display())
}

fn with_libraries(root: &Path, program: &str) -> Command {
    let folders = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib/syslog-ng"];
    let folders = folders.map(|folder| root.join(folder).display().to_string());
    let mut command = Command::new(root.join(program));
    command.env("LD_LIBRARY_PATH", folders.join(":"));
    command
}

fn fetch() -> Result<PathBuf> {
    let folder = std::env::current_exe()?.with_file_name("bench-peers");
    let root = folder.join("root");
    let complete = folder.join("complete");
    if complete.exists() {
        return Ok(root);
    }
    fs::create_dir_all(&folder)?;
    quietly(Command::new("apt-get").arg("download").args(PACKAGES).current_dir(&folder))?;
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            quietly(Command::new("dpkg").arg("-x").arg(&path).arg(&root))?;
        }
    }
    fs::write(complete, "")?;
    Ok(root)
}

/// Runs a command to its end; its complaint is the error.
fn quietly(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program}: {}", complaint.lines().next().unwrap_or("it failed")).into())
}
