//! Where credentials come from: the configuration, the environment, a file, or systemd.
//!
//! Promises: a file that others can read or change is refused, by the open file and not by its
//! name, so a link is judged by its target and nothing can be exchanged in between; an error
//! names the place and what to do, and never repeats a value; a refresh that fails keeps the
//! value that worked.
//!
//! Does not promise: anything about the folders above a file, or about copies in memory.

mod judge;
#[cfg(test)]
mod tests;

use std::{
    env, fmt,
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError, RwLock},
};

use holdfast_model::{Secret, settings::SecretSpec};
use reqwest::header::HeaderValue;
use rustix::fs::{OFlags, StatVfsMountFlags, fstatvfs};

pub use self::judge::Exposure;
use self::judge::{Access, Process, judge, remedy};

/// Longest secret, in bytes. Keys and tokens are far shorter; a whole certificate chain fits.
pub const SECRET_BYTES_MAX: usize = 64 * 1024;

/// systemd's folder of credentials (systemd.exec(5), "Credentials").
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// A place a secret was to come from, as errors name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Configuration,
    Variable(String),
    File(PathBuf),
}

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("{0} is not set; set it, or name another place for the secret")]
    NotSet(Place),
    #[error("`{0}` is not a credential's name: it may hold no `/` and is not `.` or `..`")]
    BadName(String),
    #[error("there are no systemd credentials; add `LoadCredential={0}:…` to the unit")]
    NoCredentials(String),
    #[error("{0} cannot be read")]
    Unreadable(Place, #[source] io::Error),
    #[error("{0} is not a regular file")]
    NotAFile(Place),
    #[error("{place} is refused, because {exposure}; run `{remedy}`")]
    Exposed { place: Place, exposure: Exposure, remedy: String },
    #[error("{0} is empty")]
    Empty(Place),
    #[error("{0} has more than {SECRET_BYTES_MAX} bytes")]
    TooLong(Place),
    #[error("{0} is not UTF-8 text")]
    NotText(Place),
    #[error("{0} cannot be sent in a header, because it holds a line break or control character")]
    NotForHeaders(Place),
}

/// A secret that may be read anew while it is in use.
#[derive(Debug)]
pub struct LiveSecret {
    spec: SecretSpec,
    current: RwLock<Secret>,
}

/// Every secret that was resolved since [`remember`] was called.
static READ_SO_FAR: OnceLock<Mutex<Vec<Secret>>> = OnceLock::new();

/// Keeps a list of what is resolved from here on, for a command that shows what would be sent and
/// must mask it. The gateway itself never does.
pub fn remember() {
    READ_SO_FAR.get_or_init(Mutex::default);
}

/// What was resolved since [`remember`].
pub(crate) fn read_so_far() -> Vec<Secret> {
    let all =
        READ_SO_FAR.get().map(|all| all.lock().unwrap_or_else(PoisonError::into_inner).clone());
    all.unwrap_or_default()
}

/// Refuses a configuration file that holds a literal secret and that others can read or write.
///
/// # Errors
///
/// As for a secret's own file; what the file says is not looked at.
pub fn check_config_file(path: &Path) -> Result<(), SecretError> {
    open_private(path).map(drop)
}

// === impl LiveSecret ===

impl LiveSecret {
    /// Reads the secret for the first time.
    pub fn resolve(spec: &SecretSpec) -> Result<Self, SecretError> {
        let secret = read(spec)?;
        if let Some(all) = READ_SO_FAR.get() {
            all.lock().unwrap_or_else(PoisonError::into_inner).push(secret.clone());
        }
        let current = RwLock::new(secret);
        Ok(Self { spec: spec.clone(), current })
    }

    /// A value of our own that needs no hiding, as a vendor's public address.
    pub(crate) fn public(text: &str) -> Self {
        let current = Secret::new(text);
        Self { spec: SecretSpec::Literal(current.clone()), current: RwLock::new(current) }
    }

    pub fn current(&self) -> Secret {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the secret anew if it lives in a file; says whether it changed. The others cannot
    /// change while the process runs.
    ///
    /// # Errors
    ///
    /// The file became unfit. The old value stays in use.
    pub fn refresh(&self) -> Result<bool, SecretError> {
        let SecretSpec::File(_) = &self.spec else { return Ok(false) };
        let new = read(&self.spec)?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let changed = *current != new;
        *current = new;
        Ok(changed)
    }

    /// The value with `prefix` before it, for a header; marked so that it is never printed.
    ///
    /// # Errors
    ///
    /// It holds what RFC 9110 section 5.5 does not allow in a field value: a NUL, CR, LF or
    /// another control character.
    pub fn header(&self, prefix: &str) -> Result<HeaderValue, SecretError> {
        let text = format!("{prefix}{}", self.current().expose());
        let mut value = HeaderValue::from_bytes(text.as_bytes())
            .map_err(|_| SecretError::NotForHeaders(Place::of(&self.spec)))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// The place it comes from, for errors about its content.
    pub fn place(&self) -> Place {
        Place::of(&self.spec)
    }
}

fn read(spec: &SecretSpec) -> Result<Secret, SecretError> {
    let text = match spec {
        SecretSpec::Literal(secret) => secret.expose().to_owned(),
        SecretSpec::Env(name) => read_variable(name)?,
        SecretSpec::File(path) => read_file(Path::new(path))?,
        SecretSpec::Credential(name) => read_file(&credential_path(name)?)?,
    };
    let place = Place::of(spec);
    if text.is_empty() {
        return Err(SecretError::Empty(place));
    }
    if text.len() > SECRET_BYTES_MAX {
        return Err(SecretError::TooLong(place));
    }
    Ok(Secret::new(text))
}

fn read_variable(name: &str) -> Result<String, SecretError> {
    let place = Place::Variable(name.to_owned());
    match env::var_os(name) {
        Some(value) => value.into_string().map_err(|_| SecretError::NotText(place)),
        None => Err(SecretError::NotSet(place)),
    }
}

fn credential_path(name: &str) -> Result<PathBuf, SecretError> {
    if name.is_empty() || name == "." || name == ".." || name.contains('/') {
        return Err(SecretError::BadName(name.to_owned()));
    }
    let folder = env::var_os(CREDENTIALS_DIRECTORY);
    let folder = folder.ok_or_else(|| SecretError::NoCredentials(name.to_owned()))?;
    Ok(Path::new(&folder).join(name))
}

fn read_file(path: &Path) -> Result<String, SecretError> {
    let place = || Place::File(path.to_owned());
    let file = open_private(path)?;
    let mut bytes = Vec::new();
    // One more than allowed, and the line break, so that too long is told from just fitting.
    let bytes_max = SECRET_BYTES_MAX as u64 + 3;
    file.take(bytes_max)
        .read_to_end(&mut bytes)
        .map_err(|error| SecretError::Unreadable(place(), error))?;
    let mut text = String::from_utf8(bytes).map_err(|_| SecretError::NotText(place()))?;
    // Editors end a file with a line break that is not part of the secret. One is cut, no more.
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

/// Opens a file for reading, unless others can read or write it.
fn open_private(path: &Path) -> Result<File, SecretError> {
    let place = || Place::File(path.to_owned());
    let unreadable = |error| SecretError::Unreadable(place(), error);
    // Opening a pipe would wait for a writer.
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let file =
        OpenOptions::new().read(true).custom_flags(nonblocking).open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(SecretError::NotAFile(place()));
    }
    if is_guarded_elsewhere(&file, path).map_err(unreadable)? {
        return Ok(file);
    }
    let access = Access { mode: metadata.mode(), uid: metadata.uid(), gid: metadata.gid() };
    let process = Process::current();
    match judge(access, process) {
        Ok(()) => Ok(file),
        Err(exposure) => {
            let remedy = remedy(&path.display().to_string(), access, process);
            Err(SecretError::Exposed { place: place(), exposure, remedy })
        }
    }
}

/// Whether whoever mounted the file answers for it: a container's read-only secret, whose mode
/// nobody can change, or systemd's credentials, which have an access list besides the mode.
fn is_guarded_elsewhere(file: &File, path: &Path) -> io::Result<bool> {
    if fstatvfs(file)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(true);
    }
    let Some(folder) = env::var_os(CREDENTIALS_DIRECTORY) else { return Ok(false) };
    Ok(path.canonicalize()?.starts_with(Path::new(&folder).canonicalize()?))
}

// === impl Place ===

impl Place {
    fn of(spec: &SecretSpec) -> Self {
        match spec {
            SecretSpec::Literal(_) => Self::Configuration,
            SecretSpec::Env(name) => Self::Variable(name.clone()),
            SecretSpec::File(path) => Self::File(path.into()),
            SecretSpec::Credential(name) => match credential_path(name) {
                Ok(path) => Self::File(path),
                Err(_) => Self::File(name.into()),
            },
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration => f.write_str("the text in the configuration"),
            Self::Variable(name) => write!(f, "the environment variable `{name}`"),
            Self::File(path) => write!(f, "the file `{}`", path.display()),
        }
    }
}
