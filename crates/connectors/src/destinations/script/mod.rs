//! A script of Wazuh's integrator, `custom-*` or shipped, run unchanged.
//!
//! Promises: the script gets the arguments, the working directory and the files that
//! `wazuh-integratord` gives it; its exit code is read, so an alert whose script failed is tried
//! again; a script that hangs is killed with everything it started; its files are private and go
//! in every case; what it prints is shown without our secrets.
//!
//! Quirks: `api_key` and `hook_url` are arguments, because that is the contract, so users of the
//! machine may see them while the script runs. Many scripts exit 0 whatever their receiver said.
//! Here a blank in a key does not shift the arguments after it, and the environment is cleared.
//! Like there, a script runs until nobody holds its standard output.
//!
//! Source: Wazuh 4.14 `src/os_integrator/integrator.c`; sysexits(3) for exit codes.

mod files;
mod settings;
#[cfg(test)]
mod tests;
mod text;

use std::{
    collections::HashMap,
    error::Error,
    ffi::OsStr,
    fs,
    os::unix::{fs::MetadataExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use async_trait::async_trait;
use holdfast_model::{
    DeliveryError, Destination, Member, Reason, Receipt, Secret, Shipment, delivery::Delivered,
};
use rustix::fs::{Access, access};
use tokio::{
    process::Command,
    time::{Instant, timeout_at},
};

use self::files::{Files, Folder};
use super::Kind;
use crate::{
    body::{self, Shape},
    child::{self, Group, Outcome, Tail, Variables},
    secrets::LiveSecret,
    vendor,
};

pub(super) const KIND: Kind = Kind {
    name: "script",
    summary: "Runs a Wazuh integration script (`custom-*`) once an alert, with Wazuh's arguments.",
    example: r#"
script = "custom-example"
hook_url = "https://soar.example/hook"
"#,
    settings: &[
        &settings::SCRIPT,
        &settings::WAZUH_HOME,
        &settings::API_KEY,
        &settings::HOOK_URL,
        &settings::OPTIONS,
        &settings::ALERT_FORMAT,
        &settings::MAX_LOG,
        &settings::DEBUG,
        &settings::REQUEST_TIMEOUT,
        &settings::REQUEST_RETRIES,
        &settings::EXIT_CODES,
        &settings::RUNTIME_DIR,
        &child::ENV,
    ],
    batches: false,
    http: false,
    build: settings::build,
};

/// The last argument of Wazuh, outside debug mode. One argument; nothing is redirected by it.
const LAST_ARGUMENT: &str = "> /dev/null 2>&1";

/// Longest wait between asking a script to end and killing it.
const GRACE_MAX: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Script {
    name: String,
    wazuh_home: PathBuf,
    api_key: Option<LiveSecret>,
    hook_url: Option<LiveSecret>,
    options: Option<LiveSecret>,
    /// The alert file is in Wazuh's text format, with so much of the log.
    text_log_max: Option<usize>,
    debug: bool,
    request_timeout: Duration,
    request_retries: u32,
    exit_codes: HashMap<i32, Outcome>,
    variables: Variables,
    folder: Folder,
    timeout: Duration,
}

/// Why a script is not run.
#[derive(Debug, thiserror::Error)]
enum ScriptError {
    #[error("there is no script `{}`", .0.display())]
    Missing(PathBuf, #[source] std::io::Error),
    #[error("`{path}` is refused, because others can change it; run `chmod go-w {path}`", path = .0.display())]
    Writable(PathBuf),
    #[error("`{}` cannot be run by us; give our group the right: `chown root:wazuh`, `chmod 0750`, and Holdfast in the group wazuh", .0.display())]
    NotExecutable(PathBuf),
    #[error("`{}` cannot be written by us, and scripts log there; add Holdfast to the group wazuh and run `chmod g+w` on it, or run Holdfast as the user wazuh", .0.display())]
    Log(PathBuf, #[source] std::io::Error),
    #[error("`{}` does not start", .0.display())]
    Start(PathBuf, #[source] std::io::Error),
    #[error("it was ended after {0:?}")]
    TimedOut(Duration),
    #[error("it was killed by signal {0}")]
    Killed(i32),
}

#[async_trait]
impl Destination for Script {
    async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError> {
        let member = shipment.only()?;
        let deadline = Instant::now() + self.timeout;
        // Named before the group, so that they go after it has ended.
        let files = timeout_at(deadline, self.files(member))
            .await
            .map_err(|late| DeliveryError::caused_by(Reason::Connect, late))??;
        let mut group = Group::start(&mut self.command(member, &files)).map_err(|error| {
            let reason = child::start_reason(&error);
            DeliveryError::caused_by(reason, ScriptError::Start(self.path(), error))
        })?;
        let mut pipes = group.pipes();
        let run = async {
            pipes.drain().await;
            group.wait().await
        };
        match timeout_at(deadline, run).await {
            Ok(Ok(status)) => self.judge(status, &pipes.tail),
            Ok(Err(error)) => Err(DeliveryError::caused_by(Reason::InDoubt, error)),
            Err(_) => {
                // The lane waits a tenth longer than the time limit, and 100 ms.
                let grace = GRACE_MAX.min(self.timeout / 20 + Duration::from_millis(50));
                let status = group.end(grace, pipes.drain()).await;
                // That no longer says whether it had sent the alert.
                tracing::debug!(script = self.name, ?status, "a script was ended");
                let late = ScriptError::TimedOut(self.timeout);
                let excerpt = pipes.tail.excerpt(&self.secrets());
                Err(DeliveryError::caused_by(Reason::InDoubt, late).with_excerpt(excerpt))
            }
        }
    }

    /// Whether the script can be run and can log. What its receiver thinks, only an event shows.
    async fn check(&self) -> Option<Result<(), DeliveryError>> {
        let fit = judge_script(&self.path()).and_then(|()| self.judge_log());
        fit.err().map(|error| Err(DeliveryError::caused_by(Reason::Misconfigured, error)))
    }

    fn refresh_secrets(&self) -> Result<bool, Box<dyn Error + Send + Sync>> {
        let mut changed = self.variables.refresh()?;
        for secret in [&self.api_key, &self.hook_url, &self.options].into_iter().flatten() {
            changed |= secret.refresh()?;
        }
        Ok(changed)
    }
}

// === impl Script ===

impl Script {
    fn path(&self) -> PathBuf {
        self.wazuh_home.join("integrations").join(&self.name)
    }

    /// Looks at the script and writes its files.
    async fn files(&self, member: &Member) -> Result<Files, DeliveryError> {
        let mut alert = body::single(member, Shape::Bare)?.to_vec();
        match self.text_log_max {
            Some(log_bytes_max) => alert = text::of(&alert, log_bytes_max),
            None => alert.push(b'\n'),
        }
        let (path, folder, name) = (self.path(), self.folder.clone(), self.name.clone());
        let options = self.options.as_ref().map(LiveSecret::current);
        let write = move || {
            judge_script(&path)
                .map_err(|error| DeliveryError::caused_by(Reason::Misconfigured, error))?;
            folder.prepare()?;
            Ok(folder.write(&name, &alert, options.as_ref().map(Secret::expose))?)
        };
        match tokio::task::spawn_blocking(write).await {
            Ok(files) => files,
            Err(error) => Err(DeliveryError::caused_by(Reason::Connect, error)),
        }
    }

    fn command(&self, member: &Member, files: &Files) -> Command {
        let secret = |secret: &Option<LiveSecret>| {
            secret.as_ref().map_or(String::new(), |secret| secret.current().expose().to_owned())
        };
        let mut command = Command::new(self.path());
        self.variables.set(&mut command);
        command
            // For a `#!` script the kernel puts the script's path there.
            .arg0("integrations")
            .arg(&files.alert)
            .arg(secret(&self.api_key))
            .arg(secret(&self.hook_url))
            .arg(if self.debug { "debug" } else { "" })
            .arg(files.options.as_deref().map_or(OsStr::new(""), Path::as_os_str))
            .arg(self.request_timeout.as_secs().to_string())
            .arg(self.request_retries.to_string())
            .args((!self.debug).then_some(LAST_ARGUMENT))
            .current_dir(&self.wazuh_home)
            .env("WAZUH_PATH", &self.wazuh_home)
            // The contract has no place for these; a script that knows them can drop repeats.
            .env("HOLDFAST_KEY", &member.key)
            .env("HOLDFAST_ATTEMPT", member.attempt.to_string())
            .env("HOLDFAST_IN_DOUBT", if member.in_doubt { "1" } else { "0" })
            .stdin(Stdio::null());
        command
    }

    fn judge(&self, status: ExitStatus, tail: &Tail) -> Result<Delivered, DeliveryError> {
        let excerpt = tail.excerpt(&self.secrets());
        let Some(code) = status.code() else {
            let killed = ScriptError::Killed(status.signal().unwrap_or_default());
            return Err(DeliveryError::caused_by(Reason::InDoubt, killed).with_excerpt(excerpt));
        };
        let unknown = Outcome::Failed(Reason::ServerFault);
        let outcome = match code {
            0 => Outcome::Delivered,
            _ => self.exit_codes.get(&code).copied().unwrap_or(unknown),
        };
        let duplicate = outcome == Outcome::Duplicate;
        match outcome {
            Outcome::Delivered | Outcome::Duplicate => {
                tracing::debug!(script = self.name, code, output = excerpt, "a script has ended");
                Ok(Delivered::All(Receipt { duplicate, ..Receipt::default() }))
            }
            Outcome::Failed(reason) => {
                let status = u16::try_from(code).ok();
                Err(DeliveryError { status, excerpt, ..DeliveryError::new(reason) })
            }
        }
    }

    fn secrets(&self) -> Vec<Secret> {
        let own = [&self.api_key, &self.hook_url, &self.options].into_iter().flatten();
        let mut secrets: Vec<Secret> = own.map(LiveSecret::current).collect();
        // What an HTTP library says of an address that fails is its path.
        let url = self.hook_url.as_ref().and_then(|url| vendor::parse_url(&url.current()).ok());
        if let Some(url) = url {
            let query = url.query().map_or(String::new(), |query| format!("?{query}"));
            secrets.push(Secret::new(format!("{}{query}", url.path())));
        }
        secrets.extend(self.variables.secrets());
        secrets
    }

    /// Whether scripts can append to their log, which the shipped ones do on every run.
    fn judge_log(&self) -> Result<(), ScriptError> {
        let log = self.wazuh_home.join("logs/integrations.log");
        match access(&log, Access::WRITE_OK) {
            Err(error) => Err(ScriptError::Log(log, error.into())),
            Ok(()) => Ok(()),
        }
    }
}

/// Whether a script is there, can be run, and is nobody else's to change. Whoever can change it
/// would act with our rights and our secrets, which Wazuh refuses too.
fn judge_script(path: &Path) -> Result<(), ScriptError> {
    let metadata =
        fs::metadata(path).map_err(|error| ScriptError::Missing(path.to_owned(), error))?;
    if metadata.mode() & 0o022 != 0 {
        return Err(ScriptError::Writable(path.to_owned()));
    }
    if !metadata.is_file() || access(path, Access::EXEC_OK).is_err() {
        return Err(ScriptError::NotExecutable(path.to_owned()));
    }
    Ok(())
}
