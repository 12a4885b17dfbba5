//! A program of one's own, in any language, that is started once and gets events as JSON lines.
//!
//! Promises: every event that was written is answered, or ends in doubt when the program dies or
//! does not answer in time; at most `window` events are with it; a program that dies is started
//! again, later each time; one that hangs is ended with everything it started; neither what it
//! says nor how much of it can harm the gateway.
//!
//! Does not promise: that an event is handled once. The program gets the key, which is the same for
//! every try.
//!
//! Source: docs/destinations/process.md is the protocol.

mod protocol;
mod running;
#[cfg(test)]
mod tests;

use std::{
    error::Error,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use holdfast_model::{
    DeliveryError, Destination, Name, Reason, Shipment,
    delivery::Delivered,
    settings::{Section, Setting},
};
use tokio::{
    process::Command,
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use self::running::{Run, Running};
use super::{Context, Kind};
use crate::child::{self, Group, Variables};

pub(super) const KIND: Kind = Kind {
    name: "process",
    summary: "Hands events to a program of your own, as JSON lines over its standard input.",
    example: r#"
command = ["/usr/bin/python3", "/etc/holdfast/process.py"]
"#,
    settings: &[&COMMAND, &FOLDER, &WINDOW, &RESTART_MAX, &LOOKUP, &child::ENV],
    batches: false,
    http: false,
    build,
};

const COMMAND: Setting = Setting::optional(
    "command",
    "[\"/usr/bin/python3\", \"/etc/holdfast/process.py\"]",
    "The program and its arguments. No shell reads it. Users of this machine may see it, so \
     secrets belong into env.",
);

const FOLDER: Setting =
    Setting::new("folder", "\"/\"", "The program's working directory, from the root.");

const WINDOW: Setting = Setting::new(
    "window",
    "8",
    "Events that are with the program at once, 1 to 1000; concurrency limits them too. With 1 it \
     gets the next event when it has answered.",
);

const RESTART_MAX: Setting = Setting::new(
    "restart_max",
    "\"1m\"",
    "Longest wait before the program is started again, 1 second to 1 hour. The first wait is a \
     second, and it doubles while the program answers nothing.",
);

const LOOKUP: Setting = Setting::new(
    "lookup",
    "false",
    "Whether the program answers questions: what it says as `answers` becomes events of kind \
     `lookup`, and other destinations can ask it with `enrich`.",
);

/// The first wait before a program is started again.
const RESTART_FIRST: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Process {
    lane: Name,
    command: Vec<String>,
    folder: PathBuf,
    variables: Arc<Variables>,
    window: usize,
    places: Semaphore,
    timeout: Duration,
    lookup: bool,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    running: Option<Arc<Running>>,
    restart_max: Duration,
    /// Ends in a row without an answer before them.
    failures: u32,
    next_start: Option<Instant>,
}

/// Why there is no program to ask.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("`{0}` does not start")]
    Spawn(String, #[source] std::io::Error),
    #[error("it has ended, and is started again in {0:?}")]
    NotDue(Duration),
}

fn build(section: &Section<'_>, context: &Context) -> Option<Arc<dyn Destination>> {
    if !section.has(COMMAND.name) {
        section.fault("", format!("`{}` is missing: {}", COMMAND.name, COMMAND.doc));
    }
    let command = section.texts(&COMMAND);
    let folder = section.text(&FOLDER).map(PathBuf::from);
    let window = section.count(&WINDOW, 1..=1000) as usize;
    let bounds = RESTART_FIRST..=Duration::from_secs(3600);
    let restart_max = section.duration(&RESTART_MAX, bounds);
    let lookup = section.bool(&LOOKUP);
    let variables = Variables::read(section);
    let (command, folder) = (command?, folder?);
    if command.first().is_none_or(|program| program.is_empty()) {
        section.fault(COMMAND.name, "it names no program");
        return None;
    }
    if command.iter().any(|text| text.contains('\0')) {
        section.fault(COMMAND.name, "it holds a NUL, which no argument can");
        return None;
    }
    if !folder.is_absolute() {
        section.fault(FOLDER.name, "it must begin at the root, with a `/`");
        return None;
    }
    let state = State { running: None, restart_max, failures: 0, next_start: None };
    Some(Arc::new(Process {
        lane: context.name.clone(),
        command,
        folder,
        variables: Arc::new(variables?),
        window,
        places: Semaphore::new(window),
        timeout: context.timeout,
        lookup,
        state: Arc::new(Mutex::new(state)),
    }))
}

#[async_trait]
impl Destination for Process {
    async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError> {
        let member = shipment.only()?;
        let deadline = Instant::now() + self.timeout;
        let line = protocol::request(member)?;
        // An error of the semaphore itself cannot be: nobody closes it.
        let Ok(Ok(_place)) = timeout_at(deadline, self.places.acquire()).await else {
            return Err(DeliveryError::new(Reason::Connect));
        };
        let running = self.running()?;
        let mut ticket = running.ask(protocol::request_id(member), line)?;
        match timeout_at(deadline, ticket.answered()).await {
            Ok(said) => {
                let mut receipt = said?;
                if !self.lookup {
                    receipt.answers.clear();
                }
                Ok(Delivered::All(receipt))
            }
            Err(_) => Err(ticket.give_up(self.timeout)),
        }
    }

    fn is_lookup(&self) -> bool {
        self.lookup
    }

    /// A program cannot be given a new variable, so another one takes over. The old one answers
    /// what it was asked, and ends with its standard input.
    fn refresh_secrets(&self) -> Result<bool, Box<dyn Error + Send + Sync>> {
        let changed = self.variables.refresh()?;
        if changed && let Some(old) = self.state().running.take() {
            old.close.cancel();
        }
        Ok(changed)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(running) = self.state().running.take() {
            running.close.cancel();
        }
    }
}

// === impl Process ===

impl Process {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The running program; a new one when there is none and its time has come.
    fn running(&self) -> Result<Arc<Running>, DeliveryError> {
        let mut state = self.state();
        if let Some(running) = &state.running {
            return Ok(Arc::clone(running));
        }
        let now = Instant::now();
        if let Some(due) = state.next_start.filter(|due| now < *due) {
            let wait = StartError::NotDue(due - now);
            return Err(DeliveryError::caused_by(Reason::Connect, wait));
        }
        let group = Group::start(&mut self.command()).map_err(|error| {
            let reason = child::start_reason(&error);
            let program = self.command.first().cloned().unwrap_or_default();
            DeliveryError::caused_by(reason, StartError::Spawn(program, error))
        })?;
        let run = Run {
            group,
            variables: Arc::clone(&self.variables),
            lane: self.lane.as_str().to_owned(),
            close_wait: self.timeout,
        };
        let shared = Arc::clone(&self.state);
        let ended = move |ended: &Arc<Running>| lock(&shared).forget(ended);
        let running = running::look_after(run, self.window, ended);
        state.running = Some(Arc::clone(&running));
        Ok(running)
    }

    fn command(&self) -> Command {
        let mut words = self.command.iter();
        let mut command = Command::new(words.next().map_or("", String::as_str));
        self.variables.set(&mut command);
        command.args(words).current_dir(&self.folder).stdin(Stdio::piped());
        command
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl State ===

impl State {
    /// A program has ended. If another has taken over already, that was wanted.
    fn forget(&mut self, ended: &Arc<Running>) {
        if !self.running.as_ref().is_some_and(|running| Arc::ptr_eq(running, ended)) {
            return;
        }
        self.running = None;
        self.failures = if ended.has_answered() { 0 } else { self.failures.saturating_add(1) };
        let doublings = self.failures.saturating_sub(1).min(16);
        let wait = RESTART_FIRST * 2u32.pow(doublings);
        self.next_start = Some(Instant::now() + wait.min(self.restart_max));
    }
}
