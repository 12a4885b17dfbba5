//! What a remote system tells us, in one vocabulary for all of them.
//!
//! The port [`Callbacks`] verifies and reads one request; storing, deduplicating and linking it is
//! the gateway's work. Nothing here does I/O.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{event::EventId, time::Timestamp};

/// What was done there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Acknowledged,
    Commented,
    Assigned,
    Closed,
    Reopened,
    /// Somebody judged it: a true or false positive, in `data`.
    Verdict,
    /// Somebody asks Holdfast to act, by the name in `data.request`.
    ActionRequested,
}

/// A request to `/v1/callbacks/{destination}`, as it came.
#[derive(Clone, Copy, Debug)]
pub struct CallbackRequest<'a> {
    /// Names in lower case, values as they came.
    pub headers: &'a [(String, Vec<u8>)],
    /// What stands behind `?`, without it.
    pub query: &'a str,
    /// The raw bytes, over which the signature is made.
    pub body: &'a [u8],
    /// Whether the connection presented a client certificate that our CA signed.
    pub client_certified: bool,
    pub now: Timestamp,
}

/// What a verified request says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heard {
    /// In order; none for a handshake, or for what has no meaning here.
    pub notices: Vec<Notice>,
    pub reply: CallbackReply,
}

/// One thing that was done there.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// The vendor's id for this delivery; the same for a repeat of it.
    pub delivery_id: String,
    pub action: Action,
    /// The remote system's ids for the thing it is about, the likeliest first; a link is looked up
    /// by each.
    pub remote_ids: Vec<String>,
    /// The event it is about, where the message named it.
    pub event: Option<EventId>,
    /// Who did it, by the vendor's id and name.
    pub actor: Option<Actor>,
    /// What a person wrote.
    pub text: String,
    /// When it was done, by the vendor's clock.
    pub at: Option<Timestamp>,
    /// What else the vendor said that filters and templates may want.
    pub data: serde_json::Value,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    pub id: String,
    #[serde(default)]
    pub name: String,
}

/// What the vendor expects to read when its callback was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallbackReply {
    pub content_type: &'static str,
    pub body: String,
}

/// Why a callback is not taken. Each is counted by [`Refusal::as_str`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No signature, a wrong one, or nothing is set up to verify it with.
    #[error("the signature is wrong")]
    Signature,
    /// Signed, but too long ago, or in the future.
    #[error("the signature is too old, or from the future")]
    Stale,
    /// Signed, and not what the vendor sends.
    #[error("it cannot be read: {0}")]
    Malformed(String),
}

/// Who may ask Holdfast to act. A signature proves which system it was, not which person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operators {
    /// By the vendor's id; empty: nobody.
    pub ids: Vec<String>,
    /// How long after the message that somebody answers.
    pub action_ttl: Duration,
}

/// A destination whose remote system calls back.
#[async_trait]
pub trait Callbacks: Send + Sync + fmt::Debug {
    /// Verifies the request over its raw bytes, in constant time, and reads it.
    ///
    /// # Errors
    ///
    /// See [`Refusal`]. Nothing of a refused request is used.
    fn hear(&self, request: &CallbackRequest<'_>) -> Result<Heard, Refusal>;

    /// Who may ask Holdfast to act; the gateway obeys nobody else.
    fn operators(&self) -> Operators {
        Operators::default()
    }

    /// Tells the person who sent a verified request what became of it, where the vendor has a way.
    /// Best effort: who does not hear of it sees it in the audit.
    async fn tell(&self, _request: &CallbackRequest<'_>, _text: &str) {}
}

// === impl Action ===

impl Action {
    pub const ALL: [Self; 7] = [
        Self::Acknowledged,
        Self::Commented,
        Self::Assigned,
        Self::Closed,
        Self::Reopened,
        Self::Verdict,
        Self::ActionRequested,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Acknowledged => "acknowledged",
            Self::Commented => "commented",
            Self::Assigned => "assigned",
            Self::Closed => "closed",
            Self::Reopened => "reopened",
            Self::Verdict => "verdict",
            Self::ActionRequested => "action_requested",
        }
    }
}

// === impl CallbackReply ===

impl Default for CallbackReply {
    fn default() -> Self {
        Self { content_type: "application/json", body: "{}".to_owned() }
    }
}

// === impl CallbackRequest ===

impl<'a> CallbackRequest<'a> {
    /// The only value of a header, by its name in lower case. A header that stands there twice is
    /// none: nobody can say which of them was signed.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let mut found = self.headers.iter().filter(|(given, _)| given == name);
        let (_, value) = found.next()?;
        if found.next().is_some() { None } else { std::str::from_utf8(value).ok() }
    }
}

// === impl Refusal ===

impl Refusal {
    /// The value of the metric label `reason`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Signature => "signature",
            Self::Stale => "stale",
            Self::Malformed(_) => "malformed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_stands_there_twice_is_none() {
        let header = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
        let headers = [header("a", "1"), header("b", "2"), header("a", "3")];
        let request = CallbackRequest {
            headers: &headers,
            query: "",
            body: b"",
            client_certified: false,
            now: Timestamp(0),
        };
        assert_eq!((request.header("a"), request.header("b")), (None, Some("2")));
    }
}
