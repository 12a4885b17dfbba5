//! Records on their way to the intake, each with the place behind it.
//!
//! The places are kept one by one because a batch that is too large is taken in pieces, and each
//! piece must carry exactly its own position.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use holdfast_model::{AlertError, IntakeBatch, NewEvent, Reject, RejectReason, check_alert};

use super::{super::wrap::Wrap, lines::Piece, position::Position};

/// How much of a hole is kept: zeros are all alike.
const HOLE_KEPT_BYTES: usize = 64;

/// What a line must be, and what becomes of it.
#[derive(Clone, Debug)]
pub(in crate::sources) struct Form {
    pub(in crate::sources) line_bytes_max: usize,
    pub(in crate::sources) wrap: Option<Arc<Wrap>>,
}

#[derive(Clone, Debug)]
pub(super) enum Record {
    Alert(Bytes),
    Reject(Reject),
}

/// What is taken at once. Without records it only moves the position.
#[derive(Debug)]
pub(super) struct Batch {
    /// Each record with the offset behind it.
    pub(super) records: Vec<(Record, u64)>,
    /// Behind the last record.
    pub(super) position: Position,
    /// How much of the file was not read when the batch was made.
    pub(super) unread_bytes: u64,
}

// === impl Form ===

impl Form {
    /// The event's body of a line.
    fn body(&self, line: &Bytes) -> Result<Bytes, AlertError> {
        check_alert(line, self.line_bytes_max)?;
        match &self.wrap {
            Some(wrap) => wrap.around(line),
            None => Ok(line.clone()),
        }
    }
}

// === impl Record ===

impl Record {
    /// Judges a piece of the file. `place` says where it was, for people.
    pub(super) fn of(piece: Piece, form: &Form, place: impl Fn() -> String) -> Self {
        match piece {
            Piece::Line(line) => match form.body(&line) {
                Ok(body) => Self::Alert(body),
                Err(error) => Self::refused(&error, &place(), &line),
            },
            Piece::TooLong { kept, bytes } => {
                let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
                let error = AlertError::TooLong { bytes, bytes_max: form.line_bytes_max };
                Self::refused(&error, &place(), &kept)
            }
            Piece::Hole(bytes) => Self::Reject(Reject {
                reason: RejectReason::Invalid,
                message: format!("{bytes} zero bytes, as a crash leaves them, {}", place()),
                raw: vec![0; HOLE_KEPT_BYTES.min(usize::try_from(bytes).unwrap_or(usize::MAX))]
                    .into(),
            }),
        }
    }

    fn refused(error: &AlertError, place: &str, raw: &[u8]) -> Self {
        let reason = match error {
            AlertError::TooLong { .. } => RejectReason::TooLong,
            AlertError::TooDeep | AlertError::NotAnObject | AlertError::Syntax(_) => {
                RejectReason::Invalid
            }
        };
        // Copied: a slice would keep its whole block in memory.
        let raw = Bytes::copy_from_slice(raw);
        Self::Reject(Reject { reason, message: format!("{error}; {place}"), raw })
    }

    /// What is left of a record that the intake finds too large on its own: less of it each time,
    /// and `None` when nothing can be left out any more.
    fn smaller(&self) -> Option<Self> {
        const STEPS: [usize; 3] = [64 * 1024, 4 * 1024, 0];
        match self {
            Self::Alert(body) => Some(Self::Reject(Reject {
                reason: RejectReason::TooLong,
                message: format!("the queue cannot take its {} bytes at once", body.len()),
                raw: Bytes::copy_from_slice(&body[..body.len().min(STEPS[0])]),
            })),
            Self::Reject(reject) => {
                let len = STEPS.into_iter().find(|len| *len < reject.raw.len())?;
                let raw = Bytes::copy_from_slice(&reject.raw[..len]);
                Some(Self::Reject(Reject { raw, ..reject.clone() }))
            }
        }
    }
}

// === impl Batch ===

impl Batch {
    pub(super) fn only_position(position: Position) -> Self {
        Self { records: Vec::new(), position, unread_bytes: 0 }
    }

    /// A part of the batch for the intake. The bodies are shared, not copied.
    pub(super) fn intake(&self, range: Range<usize>) -> IntakeBatch {
        let position = match self.records[range.clone()].last() {
            Some((_, end)) if range.end < self.records.len() => self.position.at(*end),
            _ => self.position.clone(),
        };
        let mut batch = IntakeBatch { position: Some(position.encode()), ..IntakeBatch::default() };
        batch.events.reserve(range.len());
        for (record, _) in &self.records[range] {
            match record {
                Record::Alert(body) => batch.events.push(NewEvent::alert(body.clone())),
                Record::Reject(reject) => batch.rejects.push(reject.clone()),
            }
        }
        batch
    }

    /// Leaves something out of a record that is too large on its own.
    pub(super) fn shrink(&mut self, index: usize) -> bool {
        let smaller = self.records.get(index).and_then(|(record, _)| record.smaller());
        match (smaller, self.records.get_mut(index)) {
            (Some(smaller), Some((record, _))) => {
                *record = smaller;
                true
            }
            _ => false,
        }
    }
}
