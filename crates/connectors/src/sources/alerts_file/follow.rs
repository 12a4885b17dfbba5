//! Which file is read next: the order of everything the file at one path ever was.
//!
//! Blocking, and with one caller. Each [`Follower::step`] does a bounded piece of work.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use holdfast_model::Chain;
use tokio::{sync::Notify, time::Instant};

use super::{
    Options,
    batch::Batch,
    folder::{Folder, Opened},
    locate::{self, Found},
    parts::Part,
    position::Position,
    reader::{Next, ReadError, Reader},
    watch::Watch,
};

/// How many files that were read to their end are remembered, should one of them come back.
const DONE_FILES_MAX: usize = 8;

#[derive(Debug)]
pub(super) enum Step {
    Batch(Batch),
    /// There may be more at once.
    Again,
    /// Everything there is was read.
    Idle,
    /// Nothing can be read just now, and why.
    Trouble(String),
}

pub(super) struct Follower {
    options: Arc<Options>,
    folder: Folder,
    watch: Watch,
    state: State,
    done: Vec<Position>,
    /// The compressed part whose content is broken, and since when that is known.
    damaged: Option<(PathBuf, Instant)>,
    given_up: Vec<PathBuf>,
}

enum State {
    /// Nothing was ever read.
    New,
    /// The file of this position must be found.
    Lost(Position),
    Reading(Cursor),
}

struct Cursor {
    reader: Reader,
    /// When it was noticed that another file has taken this one's place.
    replaced: Option<Instant>,
}

/// Turns "no such file" into the trouble it is where a file is needed.
fn missing(folder: &Folder) -> Step {
    Step::Trouble(format!("{} does not exist", folder.path.display()))
}

impl Follower {
    pub(super) fn new(
        options: Arc<Options>,
        position: Option<Position>,
        wake: Arc<Notify>,
    ) -> Self {
        let folder = Folder::around(options.path.clone());
        let watch = Watch::new(options.path.clone(), wake);
        let state = position.map_or(State::New, State::Lost);
        Self { options, folder, watch, state, done: Vec::new(), damaged: None, given_up: Vec::new() }
    }

    pub(super) fn step(&mut self) -> Step {
        let step = match std::mem::replace(&mut self.state, State::New) {
            State::New => self.begin(),
            State::Lost(position) => {
                self.state = State::Lost(position.clone());
                self.find(position)
            }
            State::Reading(mut cursor) => {
                let step = self.read(&mut cursor);
                // Unless the reading led elsewhere.
                if matches!(self.state, State::New) {
                    self.state = State::Reading(cursor);
                }
                step
            }
        };
        step.unwrap_or_else(|error| Step::Trouble(self.describe(&error)))
    }

    fn describe(&self, error: &io::Error) -> String {
        let path = match &self.state {
            State::Reading(cursor) => cursor.reader.opened.path.display(),
            State::New | State::Lost(_) => self.folder.path.display(),
        };
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied => " (Wazuh lets its group `wazuh` read the alerts)",
            _ => "",
        };
        format!("{path} cannot be read: {}{hint}", Chain(error))
    }

    /// The very first start.
    fn begin(&mut self) -> io::Result<Step> {
        let Some(opened) = self.folder.open_current()? else {
            let position = Position::before_the_file();
            self.state = State::Lost(position.clone());
            return Ok(Step::Batch(Batch::only_position(position)));
        };
        let offset = if self.options.from_end { opened.last_line_end()? } else { 0 };
        self.go_on_with(opened, None, offset)
    }

    /// Starts on a file, and stores that at once: until then a restart would begin elsewhere.
    fn go_on_with(
        &mut self,
        opened: Opened,
        part: Option<Part>,
        offset: u64,
    ) -> io::Result<Step> {
        let part = match part {
            Some(part) => Some(part),
            None => self.folder.part_of(opened.identity)?,
        };
        let path = opened.path.clone();
        let reader = match Reader::new(opened, part, offset, self.options.line_bytes_max) {
            Ok(reader) => reader,
            Err(error) if self.gives_up(&path, &error) => {
                self.given_up.push(path);
                return Ok(Step::Again);
            }
            Err(error) => return Err(error),
        };
        let position = reader.position();
        let path = reader.opened.path.display();
        tracing::info!(%path, offset, "reading");
        self.state = State::Reading(Cursor { reader, replaced: None });
        Ok(Step::Batch(Batch::only_position(position)))
    }

    /// Finds its place again.
    fn find(&mut self, position: Position) -> io::Result<Step> {
        if position.is_before_the_file() {
            return match self.folder.open_current()? {
                Some(opened) => self.go_on_with(opened, None, 0),
                None => self.wait_for_file(),
            };
        }
        if let Some(Found { opened, part }) = locate::locate(&self.folder, &position)? {
            return self.go_on_with(opened, part, position.offset);
        }
        let path = self.folder.path.display();
        let Some(current) = self.folder.current()? else { return self.wait_for_file() };
        let offset = position.offset;
        if current == position.identity() {
            tracing::warn!(%path, offset, "the file was truncated in place; \
                 what stood in it unread is gone, and it is read from its beginning");
            return self.restart_at_current();
        }
        let next = match position.part {
            Some(part) => self.usable(self.folder.parts_from(part)?),
            None => None,
        };
        let (dated, next_part) =
            (position.part.map(|part| part.to_string()), next.map(|part| part.to_string()));
        tracing::error!(%path, offset, inode = position.identity().ino, dated, next_part,
            "the file that was being read is gone; what stood in it behind this offset, and in \
             files that were rotated away since and deleted, is lost");
        match next {
            Some(part) => match self.folder.open_part(part)? {
                Some(opened) => self.go_on_with(opened, Some(part), 0),
                None => Ok(Step::Again),
            },
            None => self.restart_at_current(),
        }
    }

    fn restart_at_current(&mut self) -> io::Result<Step> {
        match self.folder.open_current()? {
            Some(opened) => self.go_on_with(opened, None, 0),
            None => self.wait_for_file(),
        }
    }

    fn wait_for_file(&mut self) -> io::Result<Step> {
        let news = self.watch.follow(None);
        Ok(if news { Step::Again } else { missing(&self.folder) })
    }

    fn read(&mut self, cursor: &mut Cursor) -> io::Result<Step> {
        match cursor.reader.next_batch() {
            Ok(Next::Batch(batch)) => Ok(Step::Batch(batch)),
            Ok(Next::Again) => Ok(Step::Again),
            Ok(Next::Drained) => self.at_end(cursor),
            Err(ReadError::Truncated) => {
                // Perhaps its content was moved to a sibling, as `copytruncate` does.
                self.state = State::Lost(cursor.reader.position());
                Ok(Step::Again)
            }
            Err(ReadError::Io(error)) => self.after_fault(&mut cursor.reader, error),
        }
    }

    /// Everything in the file was read. Is it still the file to read?
    fn at_end(&mut self, cursor: &mut Cursor) -> io::Result<Step> {
        let current = self.folder.current()?;
        if current == Some(cursor.reader.opened.identity) {
            cursor.replaced = None;
            return Ok(if self.watch.follow(current) { Step::Again } else { Step::Idle });
        }
        if cursor.reader.part.is_none() {
            cursor.reader.part = self.folder.part_of(cursor.reader.opened.identity)?;
        }
        let next_part = match cursor.reader.part {
            Some(part) => self.usable(self.folder.parts_after(part)?),
            None => None,
        };
        if current.is_none() && next_part.is_none() {
            // Renamed or deleted, with nothing in its place. Its writer may still hold it open.
            return self.wait_for_file();
        }
        let Some(noticed) = cursor.replaced else {
            // What was written between our last read and the replacement is read first.
            cursor.replaced = Some(Instant::now());
            return Ok(Step::Again);
        };
        if !self.is_complete(cursor, noticed) {
            return Ok(Step::Idle);
        }
        if let Some(batch) = cursor.reader.finish() {
            return Ok(Step::Batch(batch));
        }
        self.leave(cursor, next_part)
    }

    /// Whether nobody writes to a replaced file any more.
    ///
    /// Wazuh closes a dated part before it puts the next one in its place. After a plain rename
    /// the writer goes on until it is told to reopen.
    fn is_complete(&self, cursor: &Cursor, noticed: Instant) -> bool {
        let settle = self.options.settle;
        let reader = &cursor.reader;
        reader.part.is_some()
            || reader.opened.packed
            || reader.is_quiet_for(settle)
            || noticed.elapsed() >= settle
    }

    /// Goes on to the file after this one.
    fn leave(&mut self, cursor: &Cursor, next_part: Option<Part>) -> io::Result<Step> {
        let opened = match next_part {
            Some(part) => self.folder.open_part(part),
            None => self.open_after(cursor),
        };
        // It was just renamed or compressed, or the old file came back: the next look tells.
        let Some(opened) = opened? else { return Ok(Step::Idle) };
        if opened.identity == cursor.reader.opened.identity {
            return Ok(Step::Idle);
        }
        let offset = self.offset_in(&opened)?;
        self.remember(cursor.reader.position());
        self.go_on_with(opened, next_part, offset)
    }

    /// The oldest of these that is not damaged.
    fn usable(&self, parts: Vec<Part>) -> Option<Part> {
        parts.into_iter().find(|part| !self.given_up.contains(&self.folder.packed(*part)))
    }

    /// The next newer sibling of a file without a dated name, or the current file.
    fn open_after(&self, cursor: &Cursor) -> io::Result<Option<Opened>> {
        let position = cursor.reader.position();
        let mut siblings = self.folder.siblings()?.into_iter();
        while let Some(sibling) = siblings.next() {
            let Some(opened) = self.folder.open_sibling(&sibling)? else { continue };
            if locate::is_same(&opened, &position)? {
                for newer in siblings {
                    match self.folder.open_sibling(&newer)? {
                        Some(opened) if !self.given_up.contains(&opened.path) => {
                            return Ok(Some(opened));
                        }
                        _ => {}
                    }
                }
                break;
            }
        }
        self.folder.open_current()
    }

    /// Where to begin in a file: at its beginning, unless it was read before. (When clocks are set
    /// back across midnight, Wazuh returns to the part of the day before.)
    fn offset_in(&self, opened: &Opened) -> io::Result<u64> {
        for done in &self.done {
            if done.identity() == opened.identity && locate::is_same(opened, done)? {
                return Ok(done.offset);
            }
        }
        Ok(0)
    }

    fn remember(&mut self, position: Position) {
        self.done.retain(|done| done.identity() != position.identity());
        if self.done.len() == DONE_FILES_MAX {
            self.done.remove(0);
        }
        self.done.push(position);
    }

    /// A fault in reading is tried again for ever, but damage inside a compressed part only for a
    /// while: then the part counts as read to its end, so that one bad file does not end the flow.
    fn after_fault(&mut self, reader: &mut Reader, error: io::Error) -> io::Result<Step> {
        let path = reader.opened.path.clone();
        if !self.gives_up(&path, &error) {
            reader.reopen()?;
            return Err(error);
        }
        reader.end_here();
        Ok(Step::Again)
    }

    fn gives_up(&mut self, path: &Path, error: &io::Error) -> bool {
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
        if since.elapsed() < self.options.damaged_wait {
            return false;
        }
        let (path, error) = (path.display(), Chain(error));
        tracing::error!(%path, %error, "a compressed part is damaged; what follows the damage is lost");
        true
    }
}
