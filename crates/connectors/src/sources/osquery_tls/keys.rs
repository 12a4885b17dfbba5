//! Node keys: what a host shows at each request after it has enrolled. Pure but for the drawing.
//!
//! A key says itself whose it is, and is signed. So any number of hosts is known again after a
//! restart with one small key of our own, which is stored as the source's position.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use bytes::Bytes;
use ring::{
    hmac,
    rand::{SecureRandom, SystemRandom},
};
use serde::{Deserialize, Serialize};

const VERSION: u8 = 1;

/// Longest node key that is looked at, in bytes.
const KEY_BYTES_MAX: usize = 2048;

#[derive(Debug)]
pub(super) struct Keys {
    key: hmac::Key,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    v: u8,
    key: String,
}

/// Whose a node key is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Node {
    /// `host_identifier`, as osquery gave it.
    pub(super) id: String,
    /// Its host name.
    pub(super) host: String,
    /// No two keys are the same.
    pub(super) once: String,
}

// === impl Keys ===

impl Keys {
    /// Takes the stored key. `None`: it makes no sense, so every host will enrol anew.
    pub(super) fn read(stored: &[u8], epoch: u32) -> Option<Self> {
        let stored: Stored =
            serde_json::from_slice(stored).ok().filter(|s: &Stored| s.v == VERSION)?;
        let secret = hex::decode(stored.key).ok().filter(|secret| secret.len() == 32)?;
        Some(Self::of(&secret, epoch))
    }

    /// Draws a key, with what is to be stored of it. `None`: the system has no randomness.
    pub(super) fn draw(epoch: u32) -> Option<(Self, Bytes)> {
        let mut secret = [0; 32];
        SystemRandom::new().fill(&mut secret).ok()?;
        let stored = Stored { v: VERSION, key: hex::encode(secret) };
        let text = serde_json::to_vec(&stored).ok()?;
        Some((Self::of(&secret, epoch), text.into()))
    }

    fn of(secret: &[u8], epoch: u32) -> Self {
        let outer = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let tag = hmac::sign(&outer, format!("osquery node keys, epoch {epoch}").as_bytes());
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, tag.as_ref()) }
    }

    /// A new key for a host. `None`: the system has no randomness.
    pub(super) fn issue(&self, id: &str, host: &str) -> Option<String> {
        let mut once = [0; 16];
        SystemRandom::new().fill(&mut once).ok()?;
        let node = Node { id: id.to_owned(), host: host.to_owned(), once: hex::encode(once) };
        let said = BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(&node).ok()?);
        let tag = hmac::sign(&self.key, said.as_bytes());
        Some(format!("{said}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag)))
    }

    /// Whose the key is, if it is ours. Takes the same time for every wrong one.
    pub(super) fn verify(&self, key: &str) -> Option<Node> {
        let (said, tag) = key.split_once('.').filter(|_| key.len() <= KEY_BYTES_MAX)?;
        let tag = BASE64_URL_SAFE_NO_PAD.decode(tag).ok()?;
        hmac::verify(&self.key, said.as_bytes(), &tag).ok()?;
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(said).ok()?).ok()
    }

    /// Whether two secrets are the same, in a time that does not tell where they differ.
    pub(super) fn same(&self, one: &str, other: &str) -> bool {
        let tag = hmac::sign(&self.key, one.as_bytes());
        hmac::verify(&self.key, other.as_bytes(), tag.as_ref()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_again_after_a_restart_and_no_other() {
        let (keys, stored) = Keys::draw(1).unwrap();
        let key = keys.issue("uuid-1", "web-01").unwrap();
        let again = Keys::read(&stored, 1).unwrap();
        let node = again.verify(&key).unwrap();
        assert_eq!((node.id.as_str(), node.host.as_str()), ("uuid-1", "web-01"));
        assert_ne!(keys.issue("uuid-1", "web-01").unwrap(), key, "no two are the same");
        assert_eq!(Keys::read(&stored, 2).unwrap().verify(&key), None, "another epoch");
        assert_eq!(Keys::draw(1).unwrap().0.verify(&key), None, "another queue");
        for at in [0, key.len() / 2, key.len() - 2] {
            let mut changed = key.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(keys.verify(std::str::from_utf8(&changed).unwrap()), None, "{at}");
        }
        for bad in ["", ".", "x", "x.y", &"x".repeat(5000), &key[..key.len() - 9]] {
            assert_eq!(keys.verify(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_stored_is_not_guessed_at() {
        for bad in
            ["", "{}", r#"{"v":2,"key":"00"}"#, r#"{"v":1,"key":"00"}"#, r#"{"v":1,"key":"zz"}"#]
        {
            assert!(Keys::read(bad.as_bytes(), 1).is_none(), "{bad}");
        }
        let (keys, _) = Keys::draw(1).unwrap();
        assert!(keys.same("abc", "abc") && !keys.same("abc", "abd") && !keys.same("abc", ""));
    }
}
