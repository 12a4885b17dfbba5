//! What is written to a program and read from it: one JSON object a line.

use std::time::Duration;

use bytes::Bytes;
use holdfast_model::{
    DeliveryError, Member, Reason, Receipt, Secret,
    delivery::{ANSWERS_MAX, EXCERPT_BYTES_MAX},
};
use serde::Serialize;
use serde_json::{Value, value::RawValue};
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

use crate::{
    body::{self, Shape},
    child::Outcome,
    http::{RETRY_AFTER_MAX, mask},
    message::one_line,
};

/// Longest answer, in bytes.
pub(super) const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Longest `remote_id`, in characters.
const REMOTE_ID_CHARS_MAX: usize = 250;

#[derive(Serialize)]
struct Request<'a> {
    id: &'a str,
    key: &'a str,
    attempt: u32,
    in_doubt: bool,
    event: &'a RawValue,
}

/// One line of a program's answers.
#[derive(Debug)]
pub(super) struct Answer {
    /// Which request it answers.
    pub(super) id: String,
    said: Value,
}

/// What the next bytes of a stream are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    Line,
    /// As much as is allowed, of a line that is longer.
    Cut,
    /// What stands behind the last line break. Nothing follows.
    Rest,
}

/// Names one try, so that a late answer to an earlier one is told from it.
pub(super) fn request_id(member: &Member) -> String {
    format!("{}.{}", member.id, member.attempt)
}

/// The line for one event, with its line break.
pub(super) fn request(member: &Member) -> Result<Vec<u8>, DeliveryError> {
    let render = |error| DeliveryError::caused_by(Reason::Render, error);
    let event = body::single(member, Shape::Envelope)?;
    let request = Request {
        id: &request_id(member),
        key: &member.key,
        attempt: member.attempt,
        in_doubt: member.in_doubt,
        event: serde_json::from_slice(&event).map_err(render)?,
    };
    let mut line = serde_json::to_vec(&request).map_err(render)?;
    line.push(b'\n');
    Ok(line)
}

/// Reads up to the next line break, which is not kept.
pub(super) async fn read_line(
    stream: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
    bytes_max: usize,
) -> Read {
    line.clear();
    loop {
        let chunk = match stream.fill_buf().await {
            Ok(chunk) if !chunk.is_empty() => chunk,
            Ok(_) | Err(_) => return Read::Rest,
        };
        let found = memchr::memchr(b'\n', chunk);
        let end = found.unwrap_or(chunk.len());
        let room = bytes_max - line.len();
        if end > room {
            line.extend_from_slice(&chunk[..room]);
            stream.consume(room);
            return Read::Cut;
        }
        line.extend_from_slice(&chunk[..end]);
        stream.consume(end + usize::from(found.is_some()));
        if found.is_some() {
            return Read::Line;
        }
    }
}

// === impl Answer ===

impl Answer {
    /// `None`: it names no request, so nobody knows what it is about.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let said: Value = serde_json::from_slice(line).ok()?;
        let id = said.get("id")?.as_str()?.to_owned();
        Some(Self { id, said })
    }

    pub(super) fn result(&self, secrets: &[Secret]) -> Result<Receipt, DeliveryError> {
        let outcome = self.said["outcome"].as_str().and_then(Outcome::of_word);
        let duplicate = outcome == Some(Outcome::Duplicate);
        match outcome {
            Some(Outcome::Delivered | Outcome::Duplicate) => Ok(Receipt {
                status: None,
                remote_id: self.remote_id(),
                duplicate,
                answers: self.answers(),
            }),
            Some(Outcome::Failed(reason)) => {
                let said = self.said["message"].as_str().unwrap_or_default();
                Err(DeliveryError {
                    retry_after: self.retry_after(),
                    ..DeliveryError::new(reason).with_excerpt(excerpt(said, secrets))
                })
            }
            None => {
                let said = excerpt(&self.said.to_string(), secrets);
                Err(DeliveryError::new(Reason::BadAnswer).with_excerpt(said))
            }
        }
    }

    fn remote_id(&self) -> Option<String> {
        let id = match &self.said["remote_id"] {
            Value::String(id) => id.clone(),
            Value::Number(id) => id.to_string(),
            _ => return None,
        };
        Some(one_line(&id, REMOTE_ID_CHARS_MAX)).filter(|id| !id.is_empty())
    }

    /// Bodies of a lookup's answers: objects, at most as many as there may be.
    fn answers(&self) -> Vec<Bytes> {
        let said = self.said["answers"].as_array().map_or(&[][..], Vec::as_slice);
        let objects = said.iter().filter(|answer| answer.is_object());
        objects.take(ANSWERS_MAX).map(|answer| answer.to_string().into()).collect()
    }

    fn retry_after(&self) -> Option<Duration> {
        let seconds = self.said["retry_after_seconds"].as_f64()?;
        let wait = Duration::try_from_secs_f64(seconds);
        // Negative is no wait, and too large for a duration is the longest.
        (seconds >= 0.0).then(|| wait.unwrap_or(RETRY_AFTER_MAX).min(RETRY_AFTER_MAX))
    }
}

/// The beginning of what a program said, without our secrets.
pub(super) fn excerpt(text: &str, secrets: &[Secret]) -> String {
    let mut text = mask(text, secrets);
    text.truncate(text.floor_char_boundary(EXCERPT_BYTES_MAX));
    text
}
