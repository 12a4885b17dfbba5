//! Secrets that verify: HMAC-SHA256, or a value that both sides know. In constant time.

use std::error::Error;

use holdfast_model::settings::{Node, Section, Setting, Value};
use ring::hmac;

use crate::{secrets::LiveSecret, vendor};

/// Secrets at once: the old and the new one.
const SECRETS_MAX: usize = 2;

/// One secret, or two while it is changed.
#[derive(Debug)]
pub(crate) struct Keys(Vec<LiveSecret>);

impl Keys {
    /// Reads one secret or a list of two, each of which `judge` must find fit.
    pub(crate) fn read(
        table: &Section<'_>,
        setting: &Setting,
        optional: bool,
        judge: fn(&str) -> Result<(), String>,
    ) -> Option<Self> {
        let name = setting.name;
        let Some(node) = table.node(name) else {
            if !optional {
                table.fault("", format!("`{name}` is missing: {}", setting.doc));
            }
            return optional.then(|| Self(Vec::new()));
        };
        let nodes: &[Node] = match &node.value {
            Value::List(items) => items,
            _ => std::slice::from_ref(node),
        };
        if nodes.is_empty() || nodes.len() > SECRETS_MAX {
            table.fault(name, "give one secret, or two while it is changed");
            return None;
        }
        let one = |node: &Node| {
            let secret = vendor::resolve(table, name, &table.secret_at(name, node)?)?;
            judge(secret.current().expose()).map_err(|problem| table.fault(name, problem)).ok()?;
            Some(secret)
        };
        let secrets: Vec<_> = nodes.iter().map(one).collect();
        secrets.into_iter().collect::<Option<Vec<_>>>().map(Self)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of the secrets fits. All of them are tried in any case.
    pub(crate) fn any(&self, fits: impl Fn(&str) -> bool) -> bool {
        self.0.iter().fold(false, |found, secret| fits(secret.current().expose()) | found)
    }

    /// Whether `tag` is the HMAC-SHA256 of the parts, one behind the other.
    pub(crate) fn signed(&self, parts: &[&[u8]], tag: &[u8]) -> bool {
        self.any(|secret| verify(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), parts, tag))
    }

    /// As [`Self::signed`], with the tag in hexadecimal digits as vendors write them.
    pub(crate) fn signed_hex(&self, parts: &[&[u8]], tag: &str) -> bool {
        let lower = !tag.bytes().any(|b| b.is_ascii_uppercase());
        lower && hex::decode(tag).is_ok_and(|tag| self.signed(parts, &tag))
    }

    /// Whether it is the secret itself, however long either is.
    pub(crate) fn same(&self, given: &[u8]) -> bool {
        // Both are hashed first, so that how long the comparison takes says nothing of the secret.
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"holdfast callback");
        let given = hmac::sign(&key, given);
        self.any(|secret| hmac::verify(&key, secret.as_bytes(), given.as_ref()).is_ok())
    }

    pub(crate) fn refresh(&self) -> Result<bool, Box<dyn Error + Send + Sync>> {
        let results: Vec<_> = self.0.iter().map(LiveSecret::refresh).collect();
        let changed = results.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(changed.contains(&true))
    }
}

/// Whether `tag` is the parts' HMAC by this key.
pub(crate) fn verify(key: &hmac::Key, parts: &[&[u8]], tag: &[u8]) -> bool {
    hmac::verify(key, &parts.concat(), tag).is_ok()
}
