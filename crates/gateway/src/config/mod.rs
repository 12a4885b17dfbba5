//! The configuration: one TOML file, read whole, with all its faults at once.
//!
//! Promises: every fault names line and key, what was given and what is allowed; a key that nobody
//! knows is a fault; no fault repeats a secret; a file that holds a secret as it is and that others
//! can read or write is refused; what [`load`] returns is built, so its secrets were read.
//!
//! Does not promise that the outside world answers: no address is tried and no folder made.
//!
//! Paths begin with `/`, or with `./` or `../` in the current directory ([`paths`]).
//!
//! The settings are constants beside their readers. [`mod@reference`] prints the manual and the
//! commented file from them.

mod connectors;
mod fixed;
mod names;
mod node;
mod paths;
mod prints;
mod queue;
pub(crate) mod reference;
mod server;
#[cfg(test)]
mod tests;
mod toml;

use std::{
    cell::RefCell,
    fmt,
    fs::File,
    io::{self, Read},
    path::Path,
};

use holdfast_connectors::{
    secrets::{SecretError, check_config_file},
    sources::Source,
};
use holdfast_model::{
    Chain, Name,
    settings::{Fault, Literal, Section},
};
use holdfast_pipeline::LaneConfig;

pub(crate) use self::{
    fixed::Fixed,
    node::NodeConfig,
    prints::{Print, Prints},
    queue::{IdempotencyConfig, QueueConfig},
    server::{Role, ServerConfig, Token},
};

/// Longest file, in bytes. A thousand destinations take a tenth of it.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A whole configuration without faults.
pub(crate) struct Config {
    pub(crate) node: NodeConfig,
    pub(crate) server: ServerConfig,
    pub(crate) idempotency: IdempotencyConfig,
    pub(crate) queue: QueueConfig,
    /// In the order of the file. `http` is not among them.
    pub(crate) sources: Vec<(Name, Box<dyn Source>)>,
    /// In the order of the file.
    pub(crate) destinations: Vec<LaneConfig>,
    /// What this reading is compared with the next one by.
    pub(crate) prints: Prints,
}

/// A fault with its file, as compilers print theirs: `file:line: key: problem`.
pub(crate) struct Located<'a>(pub(crate) &'a Path, pub(crate) &'a Fault);

/// Why a file cannot be taken at all.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("the file cannot be read")]
    Unreadable(#[from] io::Error),
    #[error("it is longer than {FILE_BYTES_MAX} bytes")]
    TooLong,
    #[error("it is not UTF-8 text")]
    NotText { line: usize },
}

/// Reads the file and builds everything in it.
///
/// # Errors
///
/// All faults, in the order of the lines; never none. Line 0 is the file as a whole, and no key
/// means that the line has none.
pub(crate) fn load(path: &Path) -> Result<Config, Vec<Fault>> {
    let text = read_file(path).map_err(|error| vec![error.fault()])?;
    from_text(&text, || check_config_file(path))
}

/// As [`load`]; `exposure` judges who can read the text, and is asked if it holds a secret.
fn from_text(
    text: &str,
    exposure: impl FnOnce() -> Result<(), SecretError>,
) -> Result<Config, Vec<Fault>> {
    let mut entries = toml::parse(text)?;
    paths::make_absolute(&mut entries);
    let faults = RefCell::new(paths::shared(&entries));
    let literals = RefCell::default();
    let prints = Prints::of(&entries);
    let section = Section::new("", 1, &entries, &faults).noting(&literals);
    let config = Config::read(&section, prints);
    let mut faults = faults.into_inner();
    if let Some(first) = literals.into_inner().into_iter().min_by_key(|literal| literal.line)
        && let Err(error) = exposure()
    {
        faults.push(exposed(first, &error));
    }
    faults.sort_by_key(|fault| fault.line);
    if faults.is_empty() { Ok(config) } else { Err(faults) }
}

fn exposed(literal: Literal, error: &SecretError) -> Fault {
    let Literal { line, key } = literal;
    let problem = format!(
        "a secret stands here as it is, but {}; or give the secret as {{ env = \"NAME\" }}, \
         {{ file = \"/path\" }} or {{ credential = \"name\" }}",
        Chain(error)
    );
    Fault { line, key, problem }
}

fn read_file(path: &Path) -> Result<String, FileError> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(FileError::TooLong);
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        FileError::NotText { line: valid.iter().filter(|b| **b == b'\n').count() + 1 }
    })
}

// === impl Config ===

impl Config {
    /// Reads everything and reports all faults; the result is fit for use only without any.
    fn read(root: &Section<'_>, prints: Prints) -> Self {
        let node = NodeConfig::read(&root.table_or_empty("node"));
        let queue = QueueConfig::read(&root.table_or_empty("queue"), &node.state);
        let config = Self {
            server: ServerConfig::read(&root.table_or_empty("server")),
            idempotency: IdempotencyConfig::read(&root.table_or_empty("ingest")),
            sources: connectors::read_sources(root),
            destinations: connectors::read_destinations(root, queue.dead_bytes_max),
            node,
            queue,
            prints,
        };
        root.finish();
        config
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources: Vec<_> =
            self.sources.iter().map(|(name, source)| (name, source.position_key())).collect();
        f.debug_struct("Config")
            .field("node", &self.node)
            .field("server", &self.server)
            .field("idempotency", &self.idempotency)
            .field("queue", &self.queue)
            .field("sources", &sources)
            .field("destinations", &self.destinations)
            .finish()
    }
}

// === impl FileError ===

impl FileError {
    fn fault(&self) -> Fault {
        let line = match self {
            Self::NotText { line } => *line,
            Self::Unreadable(_) | Self::TooLong => 0,
        };
        Fault { line, key: String::new(), problem: Chain(self).to_string() }
    }
}

// === impl Located ===

impl fmt::Display for Located<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(path, Fault { line, key, problem }) = self;
        write!(f, "{}:", path.display())?;
        if *line > 0 {
            write!(f, "{line}:")?;
        }
        if !key.is_empty() {
            write!(f, " {key}:")?;
        }
        write!(f, " {problem}")
    }
}
