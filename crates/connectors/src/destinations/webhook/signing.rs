//! Signatures by which a receiver knows that a request is ours: Standard Webhooks 1.0.0, the
//! symmetric scheme (`v1`, HMAC-SHA256).
//!
//! Promises: what is signed is the id, the time of the try and the body byte for byte as it is sent,
//! so compressed if it is; with two secrets there is a signature by each, so that a receiver that
//! knows either accepts it while they are changed.
//!
//! The specification wants no full stop in an id that others choose. Ours has one, and is chosen by
//! us: a log id, a number and a lane's name.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{
    alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
    prelude::{BASE64_STANDARD, Engine},
};
use holdfast_model::{
    Chain, Secret,
    settings::{Node, Section, Setting, Value},
};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue};
use ring::hmac;

use crate::{
    secrets::{LiveSecret, SecretError},
    vendor,
};

pub(super) const SIGNING_SECRET: Setting = Setting::optional(
    "signing_secret",
    "{ file = \"/etc/holdfast/secrets/collector-signing\" }",
    "Signs every request by Standard Webhooks: \"whsec_\" and 24 to 64 bytes in base64. A secret, or \
     a list of two while it is changed: then either is enough for the receiver.",
);

pub(super) const ID: HeaderName = HeaderName::from_static("webhook-id");
pub(super) const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
pub(super) const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

const PREFIX: &str = "whsec_";

/// The specification's bounds of a key, in bytes.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Secrets at once: the old and the new one.
const SECRETS_MAX: usize = 2;

/// Padded or not: implementations differ in what they hand out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a secret signs nothing. It is not repeated.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadSecret {
    #[error("it must begin with `whsec_`; keys of other kinds are not known here")]
    Prefix,
    #[error("what follows `whsec_` is not base64")]
    Base64,
    #[error("it has {0} bytes, but must have 24 to 64")]
    Length(usize),
    #[error(transparent)]
    Unreadable(#[from] SecretError),
}

/// Signs bodies with each of its keys.
pub(super) struct Signer {
    keys: Vec<hmac::Key>,
}

/// Reads one secret or a list of two, and reports their faults.
pub(super) fn read(section: &Section<'_>) -> Option<Vec<LiveSecret>> {
    let Some(node) = section.node(SIGNING_SECRET.name) else { return Some(Vec::new()) };
    let nodes: &[Node] = match &node.value {
        Value::List(items) => items,
        _ => std::slice::from_ref(node),
    };
    if nodes.is_empty() || nodes.len() > SECRETS_MAX {
        section.fault(SIGNING_SECRET.name, "give one secret, or two while it is changed");
        return None;
    }
    let name = SIGNING_SECRET.name;
    let one = |node: &Node| {
        let secret = vendor::resolve(section, name, &section.secret_at(name, node)?)?;
        match key(&secret.current()) {
            Ok(_) => Some(secret),
            Err(error) => {
                section.fault(name, Chain(&error));
                None
            }
        }
    };
    let secrets: Vec<_> = nodes.iter().map(one).collect();
    secrets.into_iter().collect()
}

pub(super) fn key(secret: &Secret) -> Result<hmac::Key, BadSecret> {
    let text = secret.expose().strip_prefix(PREFIX).ok_or(BadSecret::Prefix)?;
    let bytes = BASE64.decode(text).map_err(|_| BadSecret::Base64)?;
    if !KEY_BYTES.contains(&bytes.len()) {
        return Err(BadSecret::Length(bytes.len()));
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

// === impl Signer ===

impl Signer {
    /// From the secrets as they are now.
    pub(super) fn new(secrets: &[LiveSecret]) -> Result<Self, BadSecret> {
        let keys = secrets.iter().map(|secret| key(&secret.current()));
        Ok(Self { keys: keys.collect::<Result<_, _>>()? })
    }

    /// Sets the three headers, unless there is no secret.
    pub(super) fn sign(
        &self,
        headers: &mut HeaderMap,
        id: &HeaderValue,
        body: &[u8],
    ) -> Result<(), InvalidHeaderValue> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let signature = self.signature(id.as_bytes(), seconds, body);
        headers.insert(ID, id.clone());
        headers.insert(TIMESTAMP, seconds.into());
        headers.insert(SIGNATURE, HeaderValue::from_str(&signature)?);
        Ok(())
    }

    fn signature(&self, id: &[u8], seconds: u64, body: &[u8]) -> String {
        let one = |key: &hmac::Key| {
            let mut context = hmac::Context::with_key(key);
            for part in [id, b".", seconds.to_string().as_bytes(), b".", body] {
                context.update(part);
            }
            format!("v1,{}", BASE64_STANDARD.encode(context.sign()))
        };
        self.keys.iter().map(one).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(secrets: &[&str]) -> Signer {
        let keys = secrets.iter().map(|secret| key(&Secret::new(*secret)).unwrap());
        Signer { keys: keys.collect() }
    }

    /// The example of the specification's own libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const EXPECTED: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    #[test]
    fn the_published_example_comes_out() {
        let sign = |signer: &Signer| {
            let body = br#"{"test": 2432232314}"#;
            signer.signature(b"msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body)
        };
        assert_eq!(sign(&signer(&[SECRET])), EXPECTED);
        let both = sign(&signer(&["whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", SECRET]));
        let all: Vec<_> = both.split(' ').collect();
        assert!(all.len() == 2 && all[1] == EXPECTED && all[0] != EXPECTED, "{both}");
    }

    #[test]
    fn a_secret_is_judged_and_not_repeated() {
        #[rustfmt::skip]
        let table = [
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_"),
            ("whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_"),
            ("whsec_MfKQ9r8G*YqrTwjUPD8ILPZIo2LaLaSw", "not base64"),
            ("whsec_MfKQ9r8GKYqr", "9 bytes"),
            ("whsec_", "0 bytes"),
        ];
        for (secret, expected) in table {
            let said = key(&Secret::new(secret)).unwrap_err().to_string();
            assert!(said.contains(expected) && !said.contains("MfKQ"), "{secret}: {said}");
        }
        let longest = format!("whsec_{}", BASE64_STANDARD.encode([7; 64]));
        assert!(key(&Secret::new(longest)).is_ok());
        let unpadded = format!("whsec_{}", BASE64_STANDARD.encode([7; 25]).trim_end_matches('='));
        assert!(key(&Secret::new(unpadded)).is_ok());
        assert!(key(&Secret::new(format!("whsec_{}", BASE64_STANDARD.encode([7; 65])))).is_err());
    }
}
