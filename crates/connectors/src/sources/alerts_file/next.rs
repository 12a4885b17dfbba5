//! Which file comes after the one that was read to its end.

use std::io;

use tokio::time::Instant;

use super::{
    folder::Opened,
    follow::{Cursor, Follower, Step},
    locate,
    parts::Part,
};

impl Follower {
    /// Goes on to the file after this one.
    pub(super) fn leave(&mut self, cursor: &Cursor) -> io::Result<Step> {
        let next = match cursor.reader.part {
            Some(_) => self.open_next(|| self.parts_after(cursor))?,
            None => self.open_after(cursor)?.map(|opened| (opened, None)),
        };
        // It was just renamed or compressed, or the old file came back: the next look tells.
        let Some((opened, part)) = next else { return Ok(Step::Idle) };
        if opened.identity == cursor.reader.opened.identity {
            return Ok(Step::Idle);
        }
        if cursor.reader.part.is_some() && part.is_none() && !self.is_undated_for_long() {
            return Ok(Step::Idle);
        }
        let offset = self.past.offset_in(&opened)?;
        self.past.remember(cursor.reader.position());
        self.go_on_with(opened, part, offset)
    }

    pub(super) fn parts_after(&self, cursor: &Cursor) -> io::Result<Vec<Part>> {
        cursor.reader.part.map_or(Ok(Vec::new()), |part| self.folder.parts_after(part))
    }

    /// The oldest of these parts that is not damaged, else the current file with its dated name.
    ///
    /// The current file is opened before the parts are listed, because every part between ours
    /// and that file was there before it was. The other way round, two rotations between the
    /// listing and the opening would hide the part they left behind.
    pub(super) fn open_next(
        &self,
        parts: impl Fn() -> io::Result<Vec<Part>>,
    ) -> io::Result<Option<(Opened, Option<Part>)>> {
        let current = self.folder.open_current()?;
        let usable = |part: &Part| !self.past.is_given_up(&self.folder.packed(*part));
        match parts()?.into_iter().find(usable) {
            Some(part) => Ok(self.folder.open_part(part)?.map(|opened| (opened, Some(part)))),
            None => {
                let Some(current) = current else { return Ok(None) };
                let part = self.folder.part_of(current.identity)?;
                Ok(Some((current, part)))
            }
        }
    }

    /// Whether the current file has had no dated name for so long that it will not get one.
    ///
    /// Wazuh deletes an empty part's dated name a moment before it puts the next part in place.
    /// To go on in that file would be to forget which parts come after it.
    pub(super) fn is_undated_for_long(&mut self) -> bool {
        self.undated.get_or_insert_with(Instant::now).elapsed() >= self.options.settle
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
                        Some(opened) if !self.past.is_given_up(&opened.path) => {
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
}
