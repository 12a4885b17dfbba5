//! Follows any file of JSON lines, as `osqueryd.results.log` and `osqueryd.snapshots.log`.
//!
//! Promises what [`super::alerts_file`] promises, without Wazuh's dated parts: a rename
//! (`FILE.1`, `FILE-20260310`), a copy with truncation, and parts that were compressed (`.gz`,
//! osquery's `.zst`) are followed; the position is committed with the lines.
//!
//! Does not promise: to tell two files apart whose first lines are the same. (osquery's carry time
//! and counter.)
//!
//! Source: osquery `docs/wiki/installation/cli-flags.md`, `logger_rotate`; `deployment/logging.md`.

use std::sync::Arc;

use holdfast_model::{
    Name,
    settings::{Section, Setting},
};

use super::{
    Kind, Source,
    alerts_file::{self, MAX_LINE, POLL_INTERVAL, START},
    wrap::{INTEGRATION, WRAP, Wrap},
};

const PATH: Setting = Setting::optional(
    "path",
    "\"/var/log/osquery/osqueryd.results.log\"",
    "The file to follow, as an absolute path: one JSON object a line. Renamed and compressed parts \
     are looked for beside it.",
);

pub(super) const KIND: Kind = Kind {
    name: "json_file",
    summary: "Any file of JSON lines, as osquery's logs, followed through rotation and restarts.",
    settings: &[&PATH, &START, &MAX_LINE, &POLL_INTERVAL, &WRAP, &INTEGRATION],
    build,
};

fn build(section: &Section<'_>, name: &Name) -> Option<Box<dyn Source>> {
    let wrap = Wrap::read(section);
    let unfit = wrap.is_none();
    let wrap = wrap.flatten().map(Arc::new);
    alerts_file::follow(section, name, &KIND, &PATH, wrap).filter(|_| !unfit)
}

#[cfg(test)]
mod tests;
