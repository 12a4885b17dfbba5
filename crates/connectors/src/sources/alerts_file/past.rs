//! What the source remembers of files it has left, and of those it cannot read.
//!
//! Only in memory: after a restart the stored position says enough.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use holdfast_model::Chain;
use tokio::time::Instant;

use super::{folder::Opened, locate, position::Position};

/// How many files that were read to their end are remembered, should one of them come back.
const DONE_FILES_MAX: usize = 8;

#[derive(Debug)]
pub(super) struct Past {
    done: Vec<Position>,
    /// The compressed part whose content is broken, and since when that is known.
    damaged: Option<(PathBuf, Instant)>,
    damaged_wait: Duration,
    given_up: Vec<PathBuf>,
}

impl Past {
    pub(super) fn new(damaged_wait: Duration) -> Self {
        Self { done: Vec::new(), damaged: None, damaged_wait, given_up: Vec::new() }
    }

    /// Where to begin in a file: at its beginning, unless it was read before. (When clocks are set
    /// back across midnight, Wazuh returns to the part of the day before.)
    pub(super) fn offset_in(&self, opened: &Opened) -> io::Result<u64> {
        for done in &self.done {
            if done.identity() == opened.identity && locate::is_same(opened, done)? {
                return Ok(done.offset);
            }
        }
        Ok(0)
    }

    pub(super) fn remember(&mut self, position: Position) {
        self.done.retain(|done| done.identity() != position.identity());
        if self.done.len() == DONE_FILES_MAX {
            self.done.remove(0);
        }
        self.done.push(position);
    }

    pub(super) fn is_given_up(&self, path: &Path) -> bool {
        self.given_up.iter().any(|given_up| given_up == path)
    }

    /// Whether to go on without the rest of a file that could not be read.
    ///
    /// Only when its compressed content is damaged, and that has been so for a while: until then
    /// it may be a copy under way.
    pub(super) fn gives_up(&mut self, path: &Path, error: &io::Error) -> bool {
        if !locate::is_damage(error) {
            return false;
        }
        let since = match &self.damaged {
            Some((known, since)) if known == path => *since,
            _ => {
                let now = Instant::now();
                self.damaged = Some((path.to_owned(), now));
                now
            }
        };
        if since.elapsed() < self.damaged_wait {
            return false;
        }
        self.given_up.push(path.to_owned());
        let (path, error) = (path.display(), Chain(error));
        tracing::error!(%path, %error,
            "a compressed part is damaged; what follows the damage is lost");
        true
    }
}
