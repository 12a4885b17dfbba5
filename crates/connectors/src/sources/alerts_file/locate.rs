//! Finds the file that a position speaks of, under whatever name it has now.

use std::io::{self, ErrorKind};

use super::{
    folder::{Folder, Opened},
    parts::Part,
    position::Position,
};

/// The file of a position, and its dated name if it was found by it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) opened: Opened,
    pub(super) part: Option<Part>,
}

/// How a candidate came to be one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// It has the inode, or the dated name, of the position.
    Mark,
    /// It only lies beside the file.
    Place,
}

/// Looks for the file where Wazuh and `logrotate` put it.
///
/// `Ok(None)` means that every place was looked into. When one could not be, that is an error and
/// the caller tries again: a folder that is not readable just now is no reason to give alerts up.
pub(super) fn locate(folder: &Folder, position: &Position) -> io::Result<Option<Found>> {
    let mut fault = None;
    let mut consider = |candidate: io::Result<Option<Opened>>, part, by: Option<By>| {
        let opened = candidate.and_then(|opened| {
            let Some(opened) = opened else { return Ok(None) };
            let by = by.unwrap_or(marked(&opened, position));
            Ok(is_the_one(&opened, position, by)?.then_some(opened))
        });
        match opened {
            Ok(opened) => opened.map(|opened| Found { opened, part }),
            Err(error) => {
                fault.get_or_insert(error);
                None
            }
        }
    };

    // Without a first line to know it by, an inode proves nothing where dated names tell more: it
    // may already belong to a later part. (Wazuh deletes parts that stay empty.)
    let by_name_only = position.head.is_none() && position.part.is_some();

    let mut found = None;
    if !by_name_only {
        found = consider(folder.open_current(), None, None);
    }
    if let (None, Some(part)) = (&found, position.part) {
        found = consider(folder.open_part(part), Some(part), Some(By::Mark));
    }
    if found.is_none() && !by_name_only {
        let part = folder.part_of(position.identity()).transpose();
        if let Some(part) = part {
            let opened = part.as_ref().map_err(again).and_then(|part| folder.open_part(*part));
            found = consider(opened, part.ok(), None);
        }
    }
    if found.is_none() && !by_name_only {
        for sibling in folder.siblings()? {
            found = consider(folder.open_sibling(&sibling), None, None);
            if found.is_some() {
                break;
            }
        }
    }
    match (found, fault) {
        (None, Some(error)) => Err(error),
        (found, _) => Ok(found),
    }
}

/// Whether this is still, or again, the file of the position.
pub(super) fn is_same(opened: &Opened, position: &Position) -> io::Result<bool> {
    is_the_one(opened, position, marked(opened, position))
}

fn marked(opened: &Opened, position: &Position) -> By {
    if opened.identity == position.identity() { By::Mark } else { By::Place }
}

/// Whether the file's content is the one the position was taken in.
fn is_the_one(opened: &Opened, position: &Position, by: By) -> io::Result<bool> {
    // A compressed part's size says nothing about its content's.
    if opened.packed.is_none() && opened.file.metadata()?.len() < position.offset {
        return Ok(false);
    }
    let Some(head) = &position.head else { return Ok(by == By::Mark) };
    match opened.beginning() {
        Ok(beginning) => Ok(head.begins(&beginning)),
        Err(error) if opened.packed.is_some() && is_damage(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether reading a compressed part failed because of what is in it.
pub(super) fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof
    )
}

fn again(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}
