//! How far the source has read, in which file, and how to know that file again.
//!
//! A name is not enough: `alerts.json` is a new file after each midnight. An inode is not enough
//! either: it is given to another file as soon as the last one is gone. So a position also holds
//! the fingerprint of the file's first line, which no two files share (it carries a time and an
//! id), and which survives a rename, `gzip` and a copy to another disk.

use std::{fs::Metadata, os::unix::fs::MetadataExt};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::parts::Part;

/// How much of a long first line is looked at.
pub(super) const HEAD_BYTES_MAX: usize = 4096;

const VERSION: u8 = 1;

/// Which file, as the system numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) dev: u64,
    pub(super) ino: u64,
}

/// A file's first line, line break included, or as much of it as is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head(Bytes);

/// What a position keeps of a [`Head`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fingerprint {
    len: usize,
    /// The first 16 bytes of the SHA-256, in hexadecimal.
    sha256: String,
}

/// Stored with every batch, in the same commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    v: u8,
    dev: u64,
    ino: u64,
    /// Everything before this was taken. In a compressed part it counts uncompressed bytes.
    pub(super) offset: u64,
    /// `None`: the file had no complete first line yet.
    pub(super) head: Option<Fingerprint>,
    /// The dated name of the file, when it has one.
    pub(super) part: Option<Part>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum PositionError {
    #[error("the stored position cannot be read")]
    Syntax(#[from] serde_json::Error),
    #[error("the stored position has version {0}, this program knows {VERSION}")]
    Version(u8),
}

// === impl Identity ===

impl Identity {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self { dev: metadata.dev(), ino: metadata.ino() }
    }
}

// === impl Head ===

impl Head {
    /// `None` while there is no whole first line, and when it could stand in any file: blank, or
    /// the zeros that a crash leaves.
    pub(super) fn of(beginning: &[u8]) -> Option<Self> {
        let seen = &beginning[..beginning.len().min(HEAD_BYTES_MAX)];
        let line = match memchr::memchr(b'\n', seen) {
            Some(at) => &seen[..=at],
            None if seen.len() == HEAD_BYTES_MAX => seen,
            None => return None,
        };
        let telling = line.iter().any(|b| *b != 0 && !b.is_ascii_whitespace());
        telling.then(|| Self(Bytes::copy_from_slice(line)))
    }

    pub(super) fn begins(&self, beginning: &[u8]) -> bool {
        beginning.starts_with(&self.0)
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        Fingerprint { len: self.0.len(), sha256: short_hash(&self.0) }
    }
}

// === impl Fingerprint ===

impl Fingerprint {
    pub(super) fn begins(&self, beginning: &[u8]) -> bool {
        beginning.get(..self.len).is_some_and(|head| short_hash(head) == self.sha256)
    }
}

fn short_hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes)[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

// === impl Position ===

impl Position {
    pub(super) fn new(
        identity: Identity,
        offset: u64,
        head: Option<Fingerprint>,
        part: Option<Part>,
    ) -> Self {
        Self { v: VERSION, dev: identity.dev, ino: identity.ino, offset, head, part }
    }

    /// The file was not there at the first start, so all of it will be new.
    pub(super) fn before_the_file() -> Self {
        Self::new(Identity { dev: 0, ino: 0 }, 0, None, None)
    }

    pub(super) fn is_before_the_file(&self) -> bool {
        self.ino == 0
    }

    pub(super) fn identity(&self) -> Identity {
        Identity { dev: self.dev, ino: self.ino }
    }

    pub(super) fn at(&self, offset: u64) -> Self {
        Self { offset, ..self.clone() }
    }

    pub(super) fn encode(&self) -> Bytes {
        // Numbers, texts and a struct: there is nothing in it that JSON cannot write.
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, PositionError> {
        #[derive(Deserialize)]
        struct Versioned {
            v: u8,
        }
        let Versioned { v } = serde_json::from_slice(bytes)?;
        if v != VERSION {
            return Err(PositionError::Version(v));
        }
        Ok(serde_json::from_slice(bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_reads_back_what_it_wrote() {
        let head = Head::of(b"{\"id\":\"1\"}\n{\"id\":\"2\"}\n").unwrap();
        let part = "2026/Mar/ossec-alerts-10-002".parse().ok();
        let identity = Identity { dev: u64::MAX, ino: 7 };
        for position in [
            Position::new(identity, 22, Some(head.fingerprint()), part),
            Position::before_the_file(),
        ] {
            assert_eq!(Position::decode(&position.encode()).unwrap(), position);
        }
    }

    #[test]
    fn a_position_of_another_version_is_not_guessed_at() {
        let error = Position::decode(b"{\"v\":2,\"place\":\"elsewhere\"}").unwrap_err();
        assert!(matches!(error, PositionError::Version(2)));
        assert!(matches!(Position::decode(b"{\"v\":"), Err(PositionError::Syntax(_))));
    }

    #[test]
    fn a_head_is_a_whole_line_that_tells_files_apart() {
        for unfit in ["", "{\"id\":", "\n{}\n", " \r\n", "\0\0\0\n"] {
            assert_eq!(Head::of(unfit.as_bytes()), None, "{unfit:?}");
        }
        let head = Head::of(b"{\"id\":\"1\"}\n{\"id\":").unwrap();
        assert!(head.begins(b"{\"id\":\"1\"}\n{\"id\":\"2\"}\n"));
        assert!(!head.begins(b"{\"id\":\"1\"}"), "a shorter file was truncated");
        assert!(head.fingerprint().begins(b"{\"id\":\"1\"}\nrest"));
        assert!(!head.fingerprint().begins(b"{\"id\":\"2\"}\nrest"));
        assert!(!head.fingerprint().begins(b"{"));
        let long = vec![b'x'; HEAD_BYTES_MAX + 9];
        assert_eq!(Head::of(&long).unwrap().0.len(), HEAD_BYTES_MAX);
    }
}
