//! What an operator can say about the endpoint.

use std::{fs, io::Read, net::SocketAddr, path::PathBuf, sync::Arc};

use holdfast_model::{
    Chain, Name,
    settings::{Node, Section, Setting, Value},
};
use serde_json::{Map, Value as Json};

use super::{super::Source, OsqueryTls};
use crate::{
    secrets::LiveSecret,
    server_tls::{TLS, TlsFiles},
    vendor,
};

pub(super) const ALL: &[&Setting] =
    &[&LISTEN, &TLS, &ENROLL_SECRET, &CONFIG, &MAX_BODY, &MAX_LINE, &MAX_NODES, &KEY_EPOCH];

const LISTEN: Setting =
    Setting::optional("listen", "\"0.0.0.0:8443\"", "The address and port that osqueryd comes to.");

const ENROLL_SECRET: Setting = Setting::optional(
    "enroll_secret",
    "{ file = \"/etc/holdfast/secrets/osquery\" }",
    "What a host must know to enrol. A secret. Hosts that have enrolled do not need it again.",
);

const CONFIG: Setting = Setting::optional(
    "config",
    "\"/etc/holdfast/osquery.json\"",
    "osquery's configuration that is handed out: the absolute path of a JSON file, which is read \
     anew each time, or a table. Without it an empty one.",
);

const MAX_BODY: Setting = Setting::new(
    "max_body",
    "\"32MiB\"",
    "The largest request, also after it is decompressed, 64KiB to 48MiB. osqueryd sends up to \
     `logger_tls_max_lines` (1024) lines at once.",
);

const MAX_LINE: Setting = Setting::new(
    "max_line",
    "\"1MiB\"",
    "The longest line of a log that is taken, 1KiB to 16MiB. The beginning of a longer one becomes \
     a dead letter of the source.",
);

const MAX_NODES: Setting = Setting::new(
    "max_nodes",
    "10000",
    "Most hosts at once, 1 to 200000. A host that was silent for a day makes room.",
);

const KEY_EPOCH: Setting = Setting::new(
    "key_epoch",
    "1",
    "Another number makes all node keys invalid, so that every host must enrol anew with the \
     secret. 1 to 1000000.",
);

/// Largest configuration that is handed out, in bytes.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Debug)]
pub(super) struct Options {
    pub(super) listen: SocketAddr,
    pub(super) tls: TlsFiles,
    pub(super) enroll_secret: LiveSecret,
    pub(super) config: Config,
    pub(super) body_bytes_max: usize,
    pub(super) line_bytes_max: usize,
    pub(super) hosts_max: usize,
    pub(super) key_epoch: u32,
}

/// What `/config` answers.
#[derive(Debug)]
pub(super) enum Config {
    Table(Map<String, Json>),
    File(PathBuf),
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ConfigError {
    #[error("{} cannot be read", .0.display())]
    Unreadable(PathBuf, #[source] std::io::Error),
    #[error("{} has more than {CONFIG_BYTES_MAX} bytes", .0.display())]
    TooLong(PathBuf),
    #[error("{} is not a JSON object", .0.display())]
    Syntax(PathBuf, #[source] serde_json::Error),
}

pub(super) fn build(section: &Section<'_>, name: &Name) -> Option<Box<dyn Source>> {
    let options = Arc::new(read(section)?);
    Some(Box::new(OsqueryTls { name: name.as_str().into(), options }))
}

/// Everything is read before anything returns, so that every fault is reported at once.
pub(super) fn read(section: &Section<'_>) -> Option<Options> {
    let listen = section.required_text(&LISTEN);
    let listen: Option<SocketAddr> = match listen.parse() {
        Ok(address) => Some(address),
        Err(_) if listen.is_empty() => None,
        Err(_) => {
            section.fault(LISTEN.name, "it must be an address and a port, as 0.0.0.0:8443");
            None
        }
    };
    let tls = TlsFiles::read(section);
    let enroll_secret = vendor::secret(section, &ENROLL_SECRET);
    let config = config(section);
    let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
    let body_bytes_max = bytes(section.size(&MAX_BODY, 64 << 10..=48 << 20));
    let line_bytes_max = bytes(section.size(&MAX_LINE, 1024..=16 << 20));
    let hosts_max = section.count(&MAX_NODES, 1..=200_000) as usize;
    let key_epoch = section.count(&KEY_EPOCH, 1..=1_000_000);
    Some(Options {
        listen: listen?,
        tls: tls?,
        enroll_secret: enroll_secret?,
        config: config?,
        body_bytes_max,
        line_bytes_max,
        hosts_max,
        key_epoch,
    })
}

fn config(section: &Section<'_>) -> Option<Config> {
    let config = match section.node(CONFIG.name).map(|node| &node.value) {
        None => Config::Table(Map::new()),
        Some(Value::Table(entries)) => Config::Table(object(entries)),
        Some(Value::Text(path)) if path.starts_with('/') => Config::File(path.into()),
        Some(_) => {
            section.fault(CONFIG.name, "it must be the absolute path of a JSON file, or a table");
            return None;
        }
    };
    match config.read() {
        Ok(_) => Some(config),
        Err(error) => {
            section.fault(CONFIG.name, Chain(&error));
            None
        }
    }
}

fn object(entries: &[(String, Node)]) -> Map<String, Json> {
    entries.iter().map(|(key, node)| (key.clone(), json(node))).collect()
}

fn json(node: &Node) -> Json {
    match &node.value {
        Value::Bool(yes) => (*yes).into(),
        Value::Integer(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::Text(text) => text.clone().into(),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Table(entries) => object(entries).into(),
    }
}

// === impl Config ===

impl Config {
    /// The configuration as it is now. Blocking.
    pub(super) fn read(&self) -> Result<Map<String, Json>, ConfigError> {
        let path = match self {
            Self::Table(table) => return Ok(table.clone()),
            Self::File(path) => path,
        };
        let unreadable = |error| ConfigError::Unreadable(path.clone(), error);
        let file = fs::File::open(path).map_err(unreadable)?;
        let mut bytes = Vec::new();
        file.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > CONFIG_BYTES_MAX {
            return Err(ConfigError::TooLong(path.clone()));
        }
        serde_json::from_slice(&bytes).map_err(|error| ConfigError::Syntax(path.clone(), error))
    }
}
