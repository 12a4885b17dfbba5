//! `[node]`: this gateway itself.

use std::{path::PathBuf, time::Duration};

use holdfast_model::settings::{Section, Setting};

use super::paths;

/// Longest label, in bytes; a host name has at most 64 on Linux, a DNS name 253.
const NAME_BYTES_MAX: usize = 253;

const NAME: Setting = Setting::optional(
    "name",
    "\"mgr-1\"",
    "A label for this gateway, 1 to 253 bytes without white space. Default: the host name.",
);
pub(super) const STATE: Setting = Setting::new(
    "state",
    "\"/var/lib/holdfast\"",
    "The folder of what the gateway keeps: the generated admin token, and the queue unless \
     `queue.path` says otherwise.",
);
const SHUTDOWN_TIMEOUT: Setting = Setting::new(
    "shutdown_timeout",
    "\"10s\"",
    "How long attempts under way may take to end when the gateway stops, 0s to 10m. What has not \
     ended by then is sent again after the next start.",
);

pub(super) const SETTINGS: &[&Setting] = &[&NAME, &STATE, &SHUTDOWN_TIMEOUT];

/// This gateway itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeConfig {
    /// A label; it is not part of any id.
    pub(crate) name: String,
    /// An absolute path. Nobody has looked whether it is there.
    pub(crate) state: PathBuf,
    /// How long attempts under way may take to end.
    pub(crate) shutdown_timeout: Duration,
}

impl NodeConfig {
    pub(super) fn read(section: &Section<'_>) -> Self {
        let name = section.text(&NAME).map_or_else(host_name, str::to_owned);
        let clean = !name.contains(|c: char| c.is_whitespace() || c.is_control());
        if !(1..=NAME_BYTES_MAX).contains(&name.len()) || !clean {
            let problem = format!("it must have 1 to {NAME_BYTES_MAX} bytes without white space");
            section.fault(NAME.name, problem);
        }
        let config = Self {
            name,
            state: paths::read(section, &STATE).unwrap_or_default(),
            shutdown_timeout: section
                .duration(&SHUTDOWN_TIMEOUT, Duration::ZERO..=Duration::from_secs(600)),
        };
        section.finish();
        config
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
