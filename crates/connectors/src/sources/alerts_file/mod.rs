//! Follows Wazuh's `alerts.json` through everything that happens to it. `json_file` follows any
//! other file with the same means; only Wazuh's dated parts are not looked for then.
//!
//! Promised: every line that is in the file, or in a file that stood in its place since the stored
//! position, is taken exactly once and in the order it was written, as long as the file it is in
//! can still be found. The position is committed in the same batch as the alerts.
//!
//! What the file can do, and what comes of it (each is a test):
//!
//! | what happens | what comes of it |
//! | --- | --- |
//! | midnight, or a size limit: another file stands at the path | the old one is read to its end, then every dated part after it, in order |
//! | a restart, after days and several rotations | the place is found by inode and first line, or by the dated name |
//! | `monitord` compressed the part | the `.json.gz` is read from the same place in its content |
//! | `logrotate` renames it, or copies and truncates it | the renamed or copied file is read to its end first |
//! | it is truncated in place, even if it has grown past our place again | read from its beginning; a warning |
//! | it is deleted with lines unread | an error names path and place; on with the oldest part after it |
//! | it is missing, unreadable, a directory | said in the source's health; tried again |
//! | a line is not finished | it waits; if the file was replaced, it is judged as it is |
//! | a line is no alert, or too long, or a hole of zeros from a crash | a dead letter with the bytes and the place |
//! | the queue is full | the same batch is offered until it is taken |
//!
//! Not promised: lines that were truncated away or deleted unread; lines that the kernel had not
//! written when the power failed; a file moved to a place where neither Wazuh nor `logrotate` puts it.
//!
//! Reading and parsing the next batch overlaps with committing the last one. There is never more
//! than one commit under way, because positions must be stored in order.

mod batch;
mod folder;
mod follow;
mod lines;
mod locate;
mod next;
mod parts;
mod past;
mod position;
mod reader;
mod submit;
#[cfg(test)]
pub(super) mod tests;
mod unpack;
mod watch;

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use holdfast_model::{
    Chain, Intake, Name,
    settings::{Section, Setting},
};
use tokio::{sync::Notify, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

pub(super) use self::batch::Form;
use self::{
    follow::{Follower, Step},
    position::Position,
    submit::{Closed, Submitter},
};
use super::{Kind, Source, SourceHealth, wrap::Wrap};

const PATH: Setting = Setting::optional(
    "path",
    "\"/var/ossec/logs/alerts/alerts.json\"",
    "The file to follow, as an absolute path. Rotated parts are looked for beside it and in the \
     folders YYYY/Mmm under the one it is in.",
);
pub(super) const START: Setting = Setting::new(
    "start",
    "\"end\"",
    "Where to begin the first time only, in the file that is there then: \"end\" or \"beginning\". \
     Later the stored position decides. A file that appears after the start is read whole.",
);
pub(super) const MAX_LINE: Setting = Setting::new(
    "max_line",
    "\"1MiB\"",
    "The longest line that is taken, 1KiB to 64MiB. Of a longer one the first 64 KiB \
     become a dead letter of the source.",
);
pub(super) const POLL_INTERVAL: Setting = Setting::new(
    "poll_interval",
    "\"250ms\"",
    "How often to look at the file when the kernel does not report a change, 10ms to 1m. \
     Changes that it reports are read at once.",
);

pub(super) const KIND: Kind = Kind {
    name: "alerts_file",
    summary: "Wazuh's alerts.json, followed through rotation, compression and restarts.",
    settings: &[&PATH, &START, &MAX_LINE, &POLL_INTERVAL],
    build,
};

/// How long a renamed file without a dated name must be left alone before it counts as complete.
const SETTLE: Duration = Duration::from_secs(2);

/// How long damage in a compressed part may be that of a copy under way.
const DAMAGED_WAIT: Duration = Duration::from_secs(30);

/// After a fault of our own, before starting over from the stored position.
const PANIC_WAIT: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
struct Options {
    path: PathBuf,
    /// Whether Wazuh writes the file, with its dated parts.
    dated: bool,
    from_end: bool,
    form: Form,
    poll_interval: Duration,
    settle: Duration,
    damaged_wait: Duration,
}

/// A file that is followed, whoever writes it.
#[derive(Debug)]
struct Followed {
    name: Arc<str>,
    /// The type of source.
    kind: &'static str,
    options: Arc<Options>,
}

fn build(section: &Section<'_>, name: &Name) -> Option<Box<dyn Source>> {
    follow(section, name, &KIND, &PATH, None)
}

/// Reads the keys of a source that follows a file, and builds it. With `wrap` lines are wrapped.
pub(super) fn follow(
    section: &Section<'_>,
    name: &Name,
    kind: &Kind,
    path: &Setting,
    wrap: Option<Arc<Wrap>>,
) -> Option<Box<dyn Source>> {
    let setting = path;
    let path = PathBuf::from(section.required_text(setting));
    let from_end = section.word(&START, &["end", "beginning"]) == "end";
    let line_bytes_max = section.size(&MAX_LINE, 1024..=64 << 20);
    let bounds = Duration::from_millis(10)..=Duration::from_secs(60);
    let poll_interval = section.duration(&POLL_INTERVAL, bounds);
    if path.as_os_str().is_empty() {
        return None;
    }
    if !path.is_absolute() || path.file_name().is_none() {
        section.fault(setting.name, "it must be the absolute path of a file");
        return None;
    }
    let options = Options {
        path,
        dated: kind.name == KIND.name,
        from_end,
        form: Form { line_bytes_max: usize::try_from(line_bytes_max).unwrap_or(usize::MAX), wrap },
        poll_interval,
        settle: SETTLE,
        damaged_wait: DAMAGED_WAIT,
    };
    let (name, options) = (name.as_str().into(), Arc::new(options));
    Some(Box::new(Followed { name, kind: kind.name, options }))
}

#[async_trait]
impl Source for Followed {
    fn position_key(&self) -> String {
        format!("{}:{}", self.kind, self.options.path.display())
    }

    async fn run(
        self: Box<Self>,
        intake: Arc<dyn Intake>,
        health: Arc<SourceHealth>,
        stop: CancellationToken,
    ) {
        let source = Arc::clone(&self.name);
        let submitter = Submitter { intake, source, health, stop: stop.clone() };
        loop {
            let Err(fault) = self.follow(&submitter).await else { return };
            tracing::error!(error = %Chain(&fault), "the source starts over from its stored position");
            submitter.health.set_trouble("the source failed and starts over");
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PANIC_WAIT) => {}
            }
        }
    }
}

impl Followed {
    /// Follows the file until it is told to stop. Fails only by a fault of its own.
    async fn follow(&self, submitter: &Submitter) -> Result<(), tokio::task::JoinError> {
        let Ok(stored) = submitter.position().await else { return Ok(()) };
        let wake = Arc::new(Notify::new());
        let (options, woken) = (Arc::clone(&self.options), Arc::clone(&wake));
        let mut follower = spawn_blocking(move || {
            let (options, position) = resume(options, stored.as_deref());
            Follower::new(options, position, woken)
        })
        .await?;
        let mut ready = None;
        loop {
            let next = spawn_blocking(move || {
                let step = follower.step();
                (follower, step)
            });
            let append = async {
                match ready.take() {
                    Some(batch) => submitter.submit(batch).await,
                    None => Ok(()),
                }
            };
            let (next, appended) = tokio::join!(next, append);
            let step;
            (follower, step) = next?;
            if appended.is_err() || submitter.stop.is_cancelled() {
                return Ok(());
            }
            match step {
                Step::Batch(batch) => ready = Some(batch),
                Step::Again => {}
                Step::Idle => {
                    submitter.health.clear_trouble();
                    if self.pause(submitter, &wake).await.is_err() {
                        return Ok(());
                    }
                }
                Step::Trouble(text) => {
                    report(&submitter.health, text);
                    if self.pause(submitter, &wake).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Waits until something may have changed.
    async fn pause(&self, submitter: &Submitter, wake: &Notify) -> Result<(), Closed> {
        tokio::select! {
            () = submitter.stop.cancelled() => Err(Closed),
            () = wake.notified() => Ok(()),
            () = tokio::time::sleep(self.options.poll_interval) => Ok(()),
        }
    }
}

/// Reads the stored position. One that makes no sense is no reason to skip what is there.
fn resume(options: Arc<Options>, stored: Option<&[u8]>) -> (Arc<Options>, Option<Position>) {
    match stored.map(Position::decode) {
        None => (options, None),
        Some(Ok(position)) => (options, Some(position)),
        Some(Err(error)) => {
            let (path, error) = (options.path.display(), Chain(&error));
            tracing::error!(%path, %error, "the file is read from its beginning; alerts may repeat");
            (Arc::new(Options { from_end: false, ..(*options).clone() }), None)
        }
    }
}

/// Says what is wrong in the source's health, and once in the log.
fn report(health: &SourceHealth, text: String) {
    if health.trouble().as_deref() != Some(&text) {
        tracing::warn!(trouble = text, "nothing is read");
        health.set_trouble(text);
    }
}
