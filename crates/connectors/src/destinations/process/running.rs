//! One run of a program, from its start to its end.

use std::{
    collections::HashMap,
    process::ExitStatus,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use holdfast_model::{DeliveryError, Reason, Receipt};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::protocol::{ANSWER_BYTES_MAX, Answer, Read, excerpt, read_line};
use crate::child::{Group, Tail, Variables};

/// Longest line of standard error in a log message, in bytes.
const LOG_LINE_BYTES_MAX: usize = 1024;

/// Longest wait for a program's exit code after it has closed its standard output.
const EXIT_WAIT: Duration = Duration::from_millis(500);

/// Longest wait between asking a program to end and killing it.
const GRACE: Duration = Duration::from_secs(2);

type Said = Result<Receipt, DeliveryError>;

/// What a run is given.
pub(super) struct Run {
    pub(super) group: Group,
    pub(super) variables: Arc<Variables>,
    /// The destination's name, for the log.
    pub(super) lane: String,
    /// Longest wait for the answers to what was written, once standard input is closed.
    pub(super) close_wait: Duration,
}

/// The way to a running program.
#[derive(Debug)]
pub(super) struct Running {
    requests: mpsc::Sender<(String, Vec<u8>)>,
    waiting: Mutex<Waiting>,
    answers: AtomicU64,
    /// End it at once: it does not answer any more.
    pub(super) stop: CancellationToken,
    /// Close its standard input and let it finish.
    pub(super) close: CancellationToken,
}

#[derive(Debug, Default)]
struct Waiting {
    /// It has ended; nobody will be answered.
    ended: bool,
    by_id: HashMap<String, Waiter>,
}

#[derive(Debug)]
struct Waiter {
    answer: oneshot::Sender<Said>,
    /// Some of it may have been read by the program.
    sent: bool,
}

/// A request that waits for its answer. Dropping it gives up.
pub(super) struct Ticket<'a> {
    running: &'a Running,
    id: String,
    answer: oneshot::Receiver<Said>,
    answers_before: u64,
    asked_at: Instant,
}

/// Why a run ended.
#[derive(Debug)]
enum End {
    /// Its standard output did.
    Quiet,
    Garbage(String),
    Stuck,
    Closed,
}

/// Starts to look after a program. `ended` is told when it is gone.
pub(super) fn look_after(
    run: Run,
    window: usize,
    ended: impl FnOnce(&Arc<Running>) + Send + 'static,
) -> Arc<Running> {
    let (requests, incoming) = mpsc::channel(window);
    let running = Arc::new(Running {
        requests,
        waiting: Mutex::default(),
        answers: AtomicU64::new(0),
        stop: CancellationToken::new(),
        close: CancellationToken::new(),
    });
    let here = Arc::clone(&running);
    tokio::spawn(async move {
        supervise(run, &here, incoming).await;
        ended(&here);
    });
    running
}

async fn supervise(
    mut run: Run,
    running: &Running,
    mut incoming: mpsc::Receiver<(String, Vec<u8>)>,
) {
    let (stdin, stdout, stderr) = run.group.take_streams();
    let tail = Arc::new(Mutex::new(Tail::default()));
    let log = log_lines(stderr, Arc::clone(&tail), Arc::clone(&run.variables), run.lane.clone());
    let log = tokio::spawn(log);
    let logging = log.abort_handle();
    let write = async {
        write_requests(stdin, &mut incoming, running).await;
        sleep(run.close_wait).await;
    };
    // Beside the writing, which may hang.
    let close = async {
        running.close.cancelled().await;
        sleep(run.close_wait).await;
    };
    let end = tokio::select! {
        end = read_answers(stdout, running, &run.variables) => end,
        () = write => End::Closed,
        () = close => End::Closed,
        () = running.stop.cancelled() => End::Stuck,
    };
    if let End::Garbage(said) = &end {
        running.end(|sent| {
            let reason = if sent { Reason::BadAnswer } else { Reason::Connect };
            DeliveryError::new(reason).with_excerpt(said)
        });
    }
    if let End::Quiet = &end {
        // Its exit code is better known than our signal.
        run.group.exits(EXIT_WAIT).await;
    }
    let status = run.group.end(GRACE, async { drop(log.await) }).await;
    // Who left the group may hold standard error for ever.
    logging.abort();
    let said = lock(&tail).excerpt(&run.variables.secrets());
    let said = format!("{}\n{said}", end.describe(status)).trim().to_owned();
    tracing::info!(lane = run.lane, said, "a program has ended");
    running.end(|sent| {
        let reason = if sent { Reason::InDoubt } else { Reason::Connect };
        DeliveryError::new(reason).with_excerpt(&said)
    });
}

async fn write_requests(
    stdin: Option<impl AsyncWrite + Unpin>,
    incoming: &mut mpsc::Receiver<(String, Vec<u8>)>,
    running: &Running,
) {
    let Some(mut stdin) = stdin else { return };
    loop {
        let next = tokio::select! {
            biased;
            next = incoming.recv() => next,
            () = running.close.cancelled() => None,
        };
        let Some((id, line)) = next else { return };
        // Whoever has given up meanwhile is sure that nothing was sent.
        if !running.mark_sent(&id) {
            continue;
        }
        let written = async {
            stdin.write_all(&line).await?;
            stdin.flush().await
        };
        if written.await.is_err() {
            // It reads no more. What it still has to say is read until it ends.
            return;
        }
    }
}

async fn read_answers(
    stdout: Option<impl AsyncRead + Unpin>,
    running: &Running,
    variables: &Variables,
) -> End {
    let Some(stdout) = stdout else { return End::Quiet };
    let mut stdout = BufReader::new(stdout);
    let mut line = Vec::new();
    loop {
        let read = read_line(&mut stdout, &mut line, ANSWER_BYTES_MAX).await;
        let is_blank = line.trim_ascii().is_empty();
        let answer = if read == Read::Cut { None } else { Answer::parse(&line) };
        match (read, answer) {
            (_, Some(answer)) => running.answer(answer, variables),
            (Read::Line, None) if is_blank => {}
            (Read::Line | Read::Cut, None) => {
                let said = String::from_utf8_lossy(&line);
                return End::Garbage(excerpt(&said, &variables.secrets()));
            }
            (Read::Rest, None) => {}
        }
        if read == Read::Rest {
            return End::Quiet;
        }
    }
}

async fn log_lines(
    stderr: Option<impl AsyncRead + Unpin>,
    tail: Arc<Mutex<Tail>>,
    variables: Arc<Variables>,
    lane: String,
) {
    let Some(stderr) = stderr else { return };
    let mut stderr = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        let read = read_line(&mut stderr, &mut line, LOG_LINE_BYTES_MAX).await;
        if !line.is_empty() {
            let mut tail = lock(&tail);
            tail.push(&line);
            if read == Read::Line {
                tail.push(b"\n");
            }
        }
        if !line.is_empty() && tracing::enabled!(tracing::Level::DEBUG) {
            let said = excerpt(&String::from_utf8_lossy(&line), &variables.secrets());
            tracing::debug!(lane, said, "a program's standard error");
        }
        if read == Read::Rest {
            return;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Running ===

impl Running {
    /// Sends a request. `Connect` when it can no longer be sent.
    pub(super) fn ask(&self, id: String, line: Vec<u8>) -> Result<Ticket<'_>, DeliveryError> {
        let (sender, answer) = oneshot::channel();
        {
            let mut waiting = lock(&self.waiting);
            if waiting.ended {
                return Err(DeliveryError::new(Reason::Connect));
            }
            waiting.by_id.insert(id.clone(), Waiter { answer: sender, sent: false });
        }
        let answers_before = self.answers.load(Ordering::Relaxed);
        let asked_at = Instant::now();
        let ticket = Ticket { running: self, id: id.clone(), answer, answers_before, asked_at };
        // Full: it does not even read those whose time is up.
        let sent = self.requests.try_send((id, line));
        sent.map_err(|_| DeliveryError::new(Reason::Connect))?;
        Ok(ticket)
    }

    pub(super) fn has_answered(&self) -> bool {
        self.answers.load(Ordering::Relaxed) > 0
    }

    fn mark_sent(&self, id: &str) -> bool {
        match lock(&self.waiting).by_id.get_mut(id) {
            Some(waiter) => {
                waiter.sent = true;
                true
            }
            None => false,
        }
    }

    fn answer(&self, answer: Answer, variables: &Variables) {
        self.answers.fetch_add(1, Ordering::Relaxed);
        let Some(waiter) = lock(&self.waiting).by_id.remove(&answer.id) else {
            // Late, or twice. Who asked has ended in doubt, and asks again.
            tracing::debug!(id = answer.id, "a program answered what nobody waits for");
            return;
        };
        // Whoever waited may have given up just now.
        drop(waiter.answer.send(answer.result(&variables.secrets())));
    }

    /// Tells everybody who still waits, and whoever comes later.
    fn end(&self, why: impl Fn(bool) -> DeliveryError) {
        let mut waiting = lock(&self.waiting);
        waiting.ended = true;
        for (_, waiter) in waiting.by_id.drain() {
            drop(waiter.answer.send(Err(why(waiter.sent))));
        }
    }
}

// === impl Ticket ===

impl Ticket<'_> {
    /// Waits for the answer. Can be cancelled and called again.
    pub(super) async fn answered(&mut self) -> Said {
        match (&mut self.answer).await {
            Ok(said) => said,
            Err(_) => Err(DeliveryError::new(Reason::InDoubt)),
        }
    }

    /// The time is up. A program that answered nobody in about that time hangs, and is ended; not
    /// so when most of the time went by before it was asked.
    pub(super) fn give_up(self, timeout: Duration) -> DeliveryError {
        let waiter = lock(&self.running.waiting).by_id.remove(&self.id);
        let had_time = self.asked_at.elapsed() >= timeout.mul_f64(0.9);
        if had_time && self.running.answers.load(Ordering::Relaxed) == self.answers_before {
            self.running.stop.cancel();
        }
        let sent = waiter.is_none_or(|waiter| waiter.sent);
        let error = DeliveryError::new(if sent { Reason::InDoubt } else { Reason::Connect });
        error.with_excerpt("the program did not answer in time")
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        lock(&self.running.waiting).by_id.remove(&self.id);
    }
}

// === impl End ===

impl End {
    fn describe(&self, status: Option<ExitStatus>) -> String {
        let what = match self {
            Self::Quiet => "the program ended",
            Self::Garbage(_) => "the program wrote what is no answer, and was ended",
            Self::Stuck => "the program answered nothing in time, and was ended",
            Self::Closed => "the program was ended",
        };
        status.map_or(what.to_owned(), |status| format!("{what} ({status})"))
    }
}
