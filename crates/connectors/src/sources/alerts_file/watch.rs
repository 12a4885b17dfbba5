//! Wakes the source when the file, or what stands at its path, changes.
//!
//! Both the folder and the file are watched. The folder alone is not enough: Wazuh writes through
//! the file's dated name, and the kernel reports a write to the folder of the name it went
//! through. Where watching is not possible (no inotify left, a network file system) the source's
//! own polling remains, and one line in the log says so.

use std::{path::PathBuf, sync::Arc};

use holdfast_model::Chain;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher, event::AccessKind};
use tokio::sync::Notify;

use super::position::Identity;

#[derive(Debug)]
pub(super) struct Watch {
    path: PathBuf,
    watcher: Option<RecommendedWatcher>,
    folder_watched: bool,
    /// Which file the last attempt was made for, successful or not.
    file: Option<Identity>,
    warned: bool,
}

impl Watch {
    pub(super) fn new(path: PathBuf, wake: Arc<Notify>) -> Self {
        let mut watch =
            Self { path, watcher: None, folder_watched: false, file: None, warned: false };
        let path = watch.path.clone();
        let watcher = notify::recommended_watcher(move |event| {
            if concerns(&path, &event) {
                wake.notify_one();
            }
        });
        match watcher {
            Ok(watcher) => watch.watcher = Some(watcher),
            Err(error) => watch.warn(&error),
        }
        watch
    }

    /// Watches the file that stands at the path now. Answers whether that is news, and then
    /// something may have been written before the watch was set.
    pub(super) fn follow(&mut self, file: Option<Identity>) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let mut news = false;
        if !self.folder_watched
            && let Some(folder) = self.path.parent()
        {
            // Tried at each poll while there is no such folder, and silently: the missing file is
            // reported anyway.
            self.folder_watched = watcher.watch(folder, RecursiveMode::NonRecursive).is_ok();
            news |= self.folder_watched;
        }
        if self.file == file {
            return news;
        }
        self.file = file;
        // The old watch may already be gone with its file; then this fails, and nothing is left.
        drop(watcher.unwatch(&self.path));
        if file.is_some()
            && let Err(error) = watcher.watch(&self.path, RecursiveMode::NonRecursive)
        {
            self.warn(&error);
        }
        true
    }

    fn warn(&mut self, error: &notify::Error) {
        if !std::mem::replace(&mut self.warned, true) {
            let (path, error) = (self.path.display(), Chain(error));
            tracing::warn!(%path, %error, "the file cannot be watched and is polled instead");
        }
    }
}

fn concerns(path: &PathBuf, event: &notify::Result<notify::Event>) -> bool {
    let Ok(event) = event else { return true };
    // Our own opening of the file is reported too.
    let opened = matches!(event.kind, EventKind::Access(AccessKind::Open(_)));
    !opened && (event.need_rescan() || event.paths.is_empty() || event.paths.contains(path))
}
