//! Programs that we start: what they inherit, how they end, and what is kept of what they say.
//!
//! Promises: a program has a process group of its own, and when we give up on it the whole group
//! ends, its children included; it sees of our environment only what is listed in [`INHERITED`];
//! what it says is kept up to a limit, and our secrets are masked in it.
//!
//! Does not promise anything about a child that leaves the group (`setsid`).

use std::{
    io,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use holdfast_model::{
    Chain, Reason, Secret,
    delivery::EXCERPT_BYTES_MAX,
    settings::{Section, Setting},
};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    time::{Instant, sleep, timeout},
};

use crate::{http::mask, secrets::LiveSecret};

pub(crate) const ENV: Setting = Setting::optional(
    "env",
    "{ https_proxy = \"http://proxy.example:3128\" }",
    "Variables for the program, each a text or a secret. Of Holdfast's own it sees only PATH, HOME and LANG.",
);

/// What a program sees of our environment. The rest may hold our secrets.
const INHERITED: [&str; 3] = ["PATH", "HOME", "LANG"];

/// `PATH` where we have none ourselves.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is kept of a program's words: an excerpt, and enough before it to recognise a secret that
/// lies across its beginning.
const TAIL_BYTES_MAX: usize = 4 * EXCERPT_BYTES_MAX;

/// How often a group that was asked to end is looked at.
const END_POLL: Duration = Duration::from_millis(10);

/// Longest wait for the kernel to take a killed program away.
const REAP_TIMEOUT: Duration = Duration::from_secs(1);

/// How an event ended, in the words that scripts and programs use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Delivered,
    Duplicate,
    Failed(Reason),
}

/// The variables that a program is given, by name.
#[derive(Debug)]
pub(crate) struct Variables(Vec<(String, LiveSecret)>);

/// A running program with everything it started.
#[derive(Debug)]
pub(crate) struct Group {
    child: Child,
    pid: Option<Pid>,
    /// The kernel has forgotten it, and its number may be another's.
    reaped: bool,
}

/// The end of what a program said.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    bytes: Vec<u8>,
    cut: bool,
}

/// Both streams of a program, read into one tail.
#[derive(Debug)]
pub(crate) struct Pipes {
    out: Option<ChildStdout>,
    err: Option<ChildStderr>,
    pub(crate) tail: Tail,
}

/// What it means that a program could not be started.
pub(crate) fn start_reason(error: &io::Error) -> Reason {
    use io::ErrorKind::{
        ArgumentListTooLong, InvalidFilename, InvalidInput, IsADirectory, NotADirectory, NotFound,
        PermissionDenied,
    };
    let no_program = error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error());
    match error.kind() {
        _ if no_program => Reason::Misconfigured,
        NotFound | PermissionDenied | NotADirectory | IsADirectory | InvalidInput
        | InvalidFilename | ArgumentListTooLong => Reason::Misconfigured,
        // Too many processes, no memory, a file being written: nothing was sent, and it passes.
        _ => Reason::Connect,
    }
}

// === impl Outcome ===

impl Outcome {
    pub(crate) const WORDS: [(&str, Self); 7] = [
        ("delivered", Self::Delivered),
        ("duplicate", Self::Duplicate),
        ("retry", Self::Failed(Reason::ServerFault)),
        ("throttled", Self::Failed(Reason::Throttled)),
        ("refused", Self::Failed(Reason::Refused)),
        ("unauthorized", Self::Failed(Reason::Unauthorized)),
        ("misconfigured", Self::Failed(Reason::Misconfigured)),
    ];

    pub(crate) fn of_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(known, _)| *known == word).map(|(_, outcome)| *outcome)
    }
}

// === impl Variables ===

impl Variables {
    /// Reads [`ENV`] and reports its faults.
    pub(crate) fn read(section: &Section<'_>) -> Option<Self> {
        let given = section.has(ENV.name);
        let Some(table) = section.table(ENV.name) else {
            return (!given).then(|| Self(Vec::new()));
        };
        let mut variables = Vec::new();
        let mut all_good = true;
        for (name, node) in table.entries() {
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || !name.chars().all(word) || name.starts_with(char::is_numeric) {
                table.fault(name, "it is no variable's name: letters, digits and `_`");
                all_good = false;
            }
            match table.secret_at(name, node).map(|spec| LiveSecret::resolve(&spec)) {
                Some(Ok(value)) => variables.push((name.clone(), value)),
                Some(Err(error)) => {
                    table.fault(name, Chain(&error));
                    all_good = false;
                }
                None => all_good = false,
            }
        }
        all_good.then_some(Self(variables))
    }

    /// Makes these, and what is inherited, the whole environment of a program.
    pub(crate) fn set(&self, command: &mut Command) {
        command.env_clear().env("PATH", PATH_DEFAULT);
        for name in INHERITED {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        for (name, value) in &self.0 {
            command.env(name, value.current().expose());
        }
    }

    pub(crate) fn secrets(&self) -> Vec<Secret> {
        self.0.iter().map(|(_, value)| value.current()).collect()
    }

    pub(crate) fn refresh(&self) -> Result<bool, crate::secrets::SecretError> {
        let mut changed = false;
        for (_, value) in &self.0 {
            changed |= value.refresh()?;
        }
        Ok(changed)
    }
}

// === impl Group ===

impl Group {
    pub(crate) fn start(command: &mut Command) -> io::Result<Self> {
        let child = command
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok(Self { child, pid, reaped: false })
    }

    pub(crate) fn pipes(&mut self) -> Pipes {
        Pipes {
            out: self.child.stdout.take(),
            err: self.child.stderr.take(),
            tail: Tail::default(),
        }
    }

    pub(crate) fn take_streams(
        &mut self,
    ) -> (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>) {
        (self.child.stdin.take(), self.child.stdout.take(), self.child.stderr.take())
    }

    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        self.reaped = true;
        Ok(status)
    }

    /// Asks the group to end, and kills after `grace` whoever is left of it. `quiet` ends when
    /// nobody holds the program's streams any more.
    ///
    /// The first process is not taken away before that: as long as it is there its number, which
    /// is the group's, belongs to nobody else.
    pub(crate) async fn end(
        &mut self,
        grace: Duration,
        quiet: impl Future<Output = ()>,
    ) -> Option<ExitStatus> {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + grace;
        // Whether it became quiet or not, the kill follows.
        let all_quiet = timeout(grace, quiet).await.is_ok();
        while all_quiet && !self.has_exited() && Instant::now() < deadline {
            sleep(END_POLL).await;
        }
        self.signal(Signal::KILL);
        timeout(REAP_TIMEOUT, self.wait()).await.ok()?.ok()
    }

    /// Waits until the first process has ended by itself; says whether it has. It is not taken away.
    pub(crate) async fn exits(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        while !self.has_exited() {
            if Instant::now() >= deadline {
                return false;
            }
            sleep(END_POLL).await;
        }
        true
    }

    fn signal(&self, signal: Signal) {
        let Some(pid) = self.pid.filter(|_| !self.reaped) else { return };
        // That nobody is left to be told is what is wanted.
        if let Err(error) = kill_process_group(pid, signal)
            && error != rustix::io::Errno::SRCH
        {
            tracing::debug!(%error, "cannot signal a process group");
        }
    }

    /// Whether the first process has ended. It is not taken away by asking.
    fn has_exited(&self) -> bool {
        let Some(pid) = self.pid.filter(|_| !self.reaped) else { return true };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        !matches!(waitid(WaitId::Pid(pid), options), Ok(None))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

// === impl Pipes ===

impl Pipes {
    /// Reads until nobody holds either stream. Can be cancelled and called again.
    pub(crate) async fn drain(&mut self) {
        let (mut out_chunk, mut err_chunk) = ([0; 4096], [0; 4096]);
        while self.out.is_some() || self.err.is_some() {
            tokio::select! {
                count = read(&mut self.out, &mut out_chunk) => self.tail.push(&out_chunk[..count]),
                count = read(&mut self.err, &mut err_chunk) => self.tail.push(&err_chunk[..count]),
            }
        }
    }
}

/// Reads some bytes; closes the stream at its end. Waits for ever on a closed one.
async fn read(stream: &mut Option<impl AsyncRead + Unpin>, chunk: &mut [u8]) -> usize {
    let Some(open) = stream else { return std::future::pending().await };
    match open.read(chunk).await {
        Ok(count @ 1..) => count,
        Ok(0) | Err(_) => {
            *stream = None;
            0
        }
    }
}

// === impl Tail ===

impl Tail {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > 2 * TAIL_BYTES_MAX {
            self.bytes.drain(..self.bytes.len() - TAIL_BYTES_MAX);
            self.cut = true;
        }
    }

    /// The end of it as text, at most [`EXCERPT_BYTES_MAX`] bytes, without our secrets. The end,
    /// because a stack trace has its cause there.
    pub(crate) fn excerpt(&self, secrets: &[Secret]) -> String {
        let mut secrets = secrets.to_vec();
        // The longest first: one may be a part of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.expose().len()));
        // What is left of a secret that was cut in two goes too.
        let longest = secrets.first().map_or(0, |secret| secret.expose().len());
        let from = if self.cut { longest.min(self.bytes.len()) } else { 0 };
        let text = mask(&String::from_utf8_lossy(&self.bytes[from..]), &secrets);
        let text = text.trim();
        text[text.ceil_char_boundary(text.len().saturating_sub(EXCERPT_BYTES_MAX))..].to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_the_end_without_secrets() {
        let mut tail = Tail::default();
        let secret = Secret::new("s3cret-".repeat(20));
        for _ in 0..2000 {
            tail.push(b"noise ");
            tail.push(secret.expose().as_bytes());
        }
        tail.push("ß the cause\n".as_bytes());
        let excerpt = tail.excerpt(&[Secret::new("s3cret"), secret]);
        assert!(excerpt.len() <= EXCERPT_BYTES_MAX && excerpt.ends_with("ß the cause"));
        assert!(!excerpt.contains("s3cret"), "{excerpt}");
        assert!(tail.bytes.len() <= 3 * TAIL_BYTES_MAX);
    }

    fn shell(script: &str) -> Group {
        let mut command = Command::new("/bin/sh");
        Group::start(command.arg("-c").arg(script).stdin(Stdio::null())).unwrap()
    }

    /// Reads until the program has said `word`.
    async fn said(pipes: &mut Pipes, word: &str) -> String {
        loop {
            let text = pipes.tail.excerpt(&[]);
            if text.contains(word) {
                return text;
            }
            let (mut chunk, out) = ([0; 64], &mut pipes.out);
            let count = read(out, &mut chunk).await;
            pipes.tail.push(&chunk[..count]);
        }
    }

    #[tokio::test]
    async fn a_program_that_is_asked_to_end_may_clean_up() {
        let mut group =
            shell("trap 'echo cleaned; exit 5' TERM; echo began; while :; do sleep 0.01; done");
        let mut pipes = group.pipes();
        said(&mut pipes, "began").await;
        let status = group.end(Duration::from_secs(60), pipes.drain()).await.unwrap();
        assert_eq!(status.code(), Some(5));
        // The shell may add that its `sleep` was ended too.
        assert!(pipes.tail.excerpt(&[]).contains("cleaned"));
    }

    #[tokio::test]
    async fn a_program_that_does_not_listen_is_killed_with_all_it_started() {
        // The grandchild has closed what we would see of it.
        let mut group = shell(
            "trap '' TERM; (exec >/dev/null 2>&1; while :; do sleep 1; done) & \
             echo \"pid=$! began\"; while :; do sleep 1; done",
        );
        let mut pipes = group.pipes();
        let text = said(&mut pipes, "began").await;
        let grandchild = text.split(['=', ' ']).nth(1).unwrap();
        let status = group.end(Duration::from_millis(20), pipes.drain()).await.unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
        // Gone, or dead and only not yet buried by whoever inherited it.
        let stat = format!("/proc/{grandchild}/stat");
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            sleep(END_POLL).await;
        }
    }

    #[test]
    fn every_word_is_its_own_outcome() {
        for (word, outcome) in Outcome::WORDS {
            assert_eq!(Outcome::of_word(word), Some(outcome));
        }
        assert_eq!(Outcome::of_word("ok"), None);
    }
}
