//! Which file is read next: the order of everything the file at one path ever was.
//!
//! Blocking, and with one caller. Each [`Follower::step`] does a bounded piece of work.

use std::{io, sync::Arc};

use holdfast_model::Chain;
use tokio::{sync::Notify, time::Instant};

use super::{
    Options,
    batch::Batch,
    folder::{Folder, Opened},
    locate::{self, Found},
    parts::Part,
    past::Past,
    position::Position,
    reader::{Next, ReadError, Reader},
    watch::Watch,
};

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
    pub(super) options: Arc<Options>,
    pub(super) folder: Folder,
    watch: Watch,
    state: State,
    pub(super) past: Past,
    /// Since when the current file is known to have no dated name.
    pub(super) undated: Option<Instant>,
}

enum State {
    /// Nothing was ever read.
    New,
    /// The file of this position must be found.
    Lost(Position),
    Reading(Box<Cursor>),
}

pub(super) struct Cursor {
    pub(super) reader: Reader,
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
        let folder = Folder::around(options.path.clone(), options.dated);
        let watch = Watch::new(options.path.clone(), wake);
        let state = position.map_or(State::New, State::Lost);
        let past = Past::new(options.damaged_wait);
        Self { options, folder, watch, state, past, undated: None }
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
            io::ErrorKind::PermissionDenied if self.options.dated => {
                " (Wazuh lets its group `wazuh` read the alerts)"
            }
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
    pub(super) fn go_on_with(
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
        let reader = match Reader::new(opened, part, offset, self.options.form.clone()) {
            Ok(reader) => reader,
            Err(error) if self.past.gives_up(&path, &error) => return Ok(Step::Again),
            Err(error) => return Err(error),
        };
        let position = reader.position();
        let path = reader.opened.path.display();
        tracing::info!(%path, offset, "reading");
        self.undated = None;
        self.state = State::Reading(Box::new(Cursor { reader, replaced: None }));
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
        let Some(current) = self.folder.current()? else { return self.wait_for_file() };
        // The dated name too, because an inode may be another file's by now.
        let truncated =
            current == position.identity() && self.folder.part_of(current)? == position.part;
        let next = match position.part {
            Some(part) if !truncated => self.open_next(|| self.folder.parts_from(part))?,
            _ => self.folder.open_current()?.map(|opened| (opened, None)),
        };
        let Some((opened, part)) = next else { return Ok(Step::Idle) };
        if truncated && opened.identity != position.identity() {
            // Replaced since we looked. What was written to it after the truncation comes first.
            return Ok(Step::Again);
        }
        let dated = position.part.is_some() && !truncated;
        if dated && part.is_none() && !self.is_undated_for_long() {
            return Ok(Step::Idle);
        }
        self.tell_loss(&position, truncated, part);
        self.go_on_with(opened, part, 0)
    }

    fn tell_loss(&self, position: &Position, truncated: bool, next: Option<Part>) {
        let (path, offset) = (self.folder.path.display(), position.offset);
        let (part, next) = (position.part.map(|p| p.to_string()), next.map(|p| p.to_string()));
        if truncated {
            tracing::warn!(%path, offset, "the file was truncated in place; what stood in it unread \
                is gone, and it is read from its beginning");
        } else if offset == 0 && next.is_some() {
            tracing::info!(%path, part, next, "a part was deleted before anything was read from it");
        } else {
            tracing::error!(%path, offset, inode = position.identity().ino, part, next,
                "the file that was being read is gone; what stood in it behind this offset, and in \
                files that were rotated away since and deleted, is lost");
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
        if current.is_none() && self.parts_after(cursor)?.is_empty() {
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
        self.leave(cursor)
    }

    /// Whether nobody writes to a replaced file any more.
    ///
    /// Wazuh closes a dated part before it puts the next one in its place. After a plain rename
    /// the writer goes on until it is told to reopen.
    fn is_complete(&self, cursor: &Cursor, noticed: Instant) -> bool {
        let settle = self.options.settle;
        let reader = &cursor.reader;
        reader.part.is_some()
            || reader.opened.packed.is_some()
            || reader.is_quiet_for(settle)
            || noticed.elapsed() >= settle
    }

    /// A fault in reading is tried again for ever, but damage inside a compressed part only for a
    /// while: then the part counts as read to its end, so that one bad file does not end the flow.
    fn after_fault(&mut self, reader: &mut Reader, error: io::Error) -> io::Result<Step> {
        let path = reader.opened.path.clone();
        if !self.past.gives_up(&path, &error) {
            reader.reopen()?;
            return Err(error);
        }
        reader.end_here();
        Ok(Step::Again)
    }
}
