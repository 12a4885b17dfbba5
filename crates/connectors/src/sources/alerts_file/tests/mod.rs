//! The source against real files, with an intake that remembers, refuses and fails on demand.

mod faults;
mod journal;
mod lines;
mod random;
mod rotation;
mod undated;
mod wazuh;

use std::{
    collections::VecDeque,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use holdfast_model::{Accepted, Intake, IntakeBatch, IntakeError, Reject};
use tokio::{sync::Notify, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use self::wazuh::Wazuh;
use super::{super::SourceHealth, Followed, Form, KIND, Options, Source};

/// Longer than any machine should need; reached only by a failing test.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug)]
enum Refusal {
    Full,
    Stopping,
    Queue,
}

/// What is "on stable storage".
#[derive(Debug, Default)]
pub(in crate::sources) struct Stored {
    pub(in crate::sources) lines: Vec<String>,
    pub(in crate::sources) rejects: Vec<Reject>,
    pub(in crate::sources) position: Option<Bytes>,
    refusals: VecDeque<Refusal>,
    refused: usize,
    records_max: Option<usize>,
    bytes_max: Option<usize>,
}

#[derive(Debug, Default)]
pub(in crate::sources) struct Fake {
    stored: Mutex<Stored>,
    changed: Notify,
}

impl Fake {
    pub(in crate::sources) fn stored(&self) -> MutexGuard<'_, Stored> {
        self.stored.lock().unwrap()
    }

    /// Waits for a state, not for a time.
    pub(in crate::sources) async fn until(&self, what: &str, reached: impl Fn(&Stored) -> bool) {
        let waiting = async {
            loop {
                let mut changed = std::pin::pin!(self.changed.notified());
                changed.as_mut().enable();
                if reached(&self.stored()) {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            let stored = self.stored();
            let (lines, rejects, position) = (&stored.lines, &stored.rejects, &stored.position);
            let last = &lines[lines.len().saturating_sub(3)..];
            panic!(
                "it never came to this: {what}; {} lines, the last are {last:?}; \
                 rejects: {rejects:?}; position: {position:?}",
                lines.len(),
            );
        }
    }

    pub(in crate::sources) async fn until_lines(&self, lines: &[&str]) {
        self.until(&format!("{lines:?}"), |stored| stored.lines.len() >= lines.len()).await;
        assert_eq!(self.stored().lines, lines);
    }

    fn take(&self, batch: IntakeBatch) -> Result<Accepted, IntakeError> {
        let mut stored = self.stored();
        let retry_after = Duration::from_millis(1);
        if let Some(refusal) = stored.refusals.pop_front() {
            stored.refused += 1;
            return Err(match refusal {
                Refusal::Full => IntakeError::Full { bytes_live: 9, bytes_max: 9, retry_after },
                Refusal::Stopping => IntakeError::Stopping,
                Refusal::Queue => IntakeError::Queue("the disk is gone".into()),
            });
        }
        let bytes = batch.events.iter().map(|event| event.body.len()).sum::<usize>()
            + batch.rejects.iter().map(|reject| reject.raw.len()).sum::<usize>();
        let records = batch.events.len() + batch.rejects.len();
        let too_many = stored.records_max.is_some_and(|most| records > most);
        if too_many || stored.bytes_max.is_some_and(|most| bytes > most) {
            stored.refused += 1;
            return Err(IntakeError::TooLarge { bytes: bytes as u64 });
        }
        let lines = batch.events.iter().map(|e| String::from_utf8_lossy(&e.body).into_owned());
        stored.lines.extend(lines);
        stored.rejects.extend(batch.rejects);
        stored.position = Some(batch.position.expect("every batch carries a position"));
        Ok(Accepted { accepted: 0, rejected: 0, first: None, last: None })
    }
}

#[async_trait]
impl Intake for Fake {
    async fn append(&self, source: &Arc<str>, batch: IntakeBatch) -> Result<Accepted, IntakeError> {
        assert_eq!(&**source, "wazuh");
        // As a commit does, it takes place apart from the caller.
        tokio::task::yield_now().await;
        let result = self.take(batch);
        self.changed.notify_waiters();
        result
    }

    async fn position(&self, _source: &str) -> Result<Option<Bytes>, IntakeError> {
        Ok(self.stored().position.clone())
    }
}

/// A source at work.
pub(in crate::sources) struct Running {
    task: JoinHandle<()>,
    stop: CancellationToken,
    pub(in crate::sources) health: Arc<SourceHealth>,
}

impl Running {
    fn start(options: Options, intake: &Arc<Fake>) -> Self {
        let (kind, options) = (KIND.name, Arc::new(options));
        Self::start_source(Box::new(Followed { name: "wazuh".into(), kind, options }), intake)
    }

    pub(in crate::sources) fn start_source(source: Box<dyn Source>, intake: &Arc<Fake>) -> Self {
        let (stop, health) = (CancellationToken::new(), Arc::new(SourceHealth::default()));
        let intake: Arc<dyn Intake> = Arc::<Fake>::clone(intake);
        let task = tokio::spawn(source.run(intake, Arc::clone(&health), stop.clone()));
        Self { task, stop, health }
    }

    pub(in crate::sources) async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("it stops when told").unwrap();
    }

    /// Ends it in the middle of whatever it does.
    async fn crash(self) {
        self.task.abort();
        drop(self.task.await);
    }

    pub(in crate::sources) async fn until_trouble(&self, about: &str) -> String {
        let waiting = async {
            loop {
                match self.health.trouble() {
                    Some(trouble) if trouble.contains(about) => return trouble,
                    _ => tokio::time::sleep(Duration::from_millis(2)).await,
                }
            }
        };
        let trouble = tokio::time::timeout(PATIENCE, waiting).await;
        trouble.unwrap_or_else(|_| panic!("no trouble about {about}: {:?}", self.health.trouble()))
    }
}

fn from_beginning(path: &Path) -> Options {
    Options {
        path: path.to_owned(),
        from_end: false,
        dated: true,
        form: Form { line_bytes_max: 1024, wrap: None },
        poll_interval: Duration::from_millis(5),
        settle: Duration::from_millis(50),
        damaged_wait: Duration::from_millis(100),
    }
}

fn from_end(path: &Path) -> Options {
    Options { from_end: true, ..from_beginning(path) }
}

/// A manager, a source that follows its file, and where the alerts go.
struct Scene {
    wazuh: Wazuh,
    intake: Arc<Fake>,
    running: Option<Running>,
}

impl Scene {
    fn new() -> Self {
        Self { wazuh: Wazuh::new(), intake: Arc::default(), running: None }
    }

    /// With a source that has found the file, so that whatever follows is its business.
    async fn running() -> Self {
        let mut scene = Self::new();
        scene.start();
        scene.intake.until("a position", |stored| stored.position.is_some()).await;
        scene
    }

    fn start(&mut self) {
        self.running = Some(Running::start(from_beginning(&self.wazuh.path()), &self.intake));
    }

    async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
    }

    async fn crash(&mut self) {
        if let Some(running) = self.running.take() {
            running.crash().await;
        }
    }

    /// Until everything that was written is taken, once and in order.
    async fn until_caught_up(&self) {
        let written = self.wazuh.written.len();
        let enough = |stored: &Stored| stored.lines.len() >= written;
        self.intake.until(&format!("all {written} lines are taken"), enough).await;
        let stored = self.intake.stored();
        let pairs = stored.lines.iter().zip(&self.wazuh.written);
        let wrong = pairs.enumerate().find(|(_, (taken, written))| taken != written);
        assert_eq!(wrong, None, "the first line that is not the one written");
        assert_eq!(stored.lines.len(), written);
    }
}
