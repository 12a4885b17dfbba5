use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::event::EventId;

/// Longest name of a lane, source, consumer or token, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// The name a person gave to a destination, source or token: `[A-Za-z0-9_-]`, 1 to 64.
///
/// The characters are few because the name becomes a metric label, a path segment of the API and
/// a key in the store. It never holds a NUL or a dot, which separate it from what follows there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a name has 1 to {NAME_BYTES_MAX} characters of A-Z, a-z, 0-9, `_` and `-`")]
pub struct BadName;

impl Name {
    pub fn new(text: &str) -> Result<Self, BadName> {
        let fits = (1..=NAME_BYTES_MAX).contains(&text.len());
        let clean = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if fits && clean { Ok(Self(text.into())) } else { Err(BadName) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Name {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        Self::new(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0.as_ref().to_owned()
    }
}

/// What a destination dedupes by: `<event id>.<lane>`.
///
/// A replay from the log is a new delivery on purpose, so it adds `.r<job>`; a replayed dead
/// letter is the same delivery, so it keeps its key.
pub fn delivery_key(id: &EventId, lane: &Name, log_replay: Option<u64>) -> String {
    match log_replay {
        None => format!("{id}.{lane}"),
        Some(job) => format!("{id}.{lane}.r{job}"),
    }
}

/// The key of the summary that stands for a window of events alike: `<first id>.d.<lane>`, of the
/// first event that was held back.
pub fn summary_key(first: &EventId, lane: &Name) -> String {
    format!("{first}.d.{lane}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_smuggle_a_separator() {
        for bad in ["", "a.b", "a b", "a/b", "ä", "a\0b", &"x".repeat(65)] {
            assert_eq!(Name::new(bad), Err(BadName), "{bad:?}");
        }
        assert_eq!(Name::new("soc-slack_2").map(|name| name.to_string()), Ok("soc-slack_2".into()));
    }
}
