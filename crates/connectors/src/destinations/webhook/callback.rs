//! Callbacks of anybody's own system: Standard Webhooks 1.0.0 over our own vocabulary
//! ([`crate::callback::own`]).
//!
//! `webhook-signature` holds one or more `v1,<base64>` behind spaces, each an HMAC-SHA256 over
//! `{webhook-id}.{webhook-timestamp}.{body}`; one that fits is enough. The id is signed, so it names
//! the delivery.

use base64::prelude::{BASE64_STANDARD, Engine};
use holdfast_model::{CallbackRequest, Chain, Heard, Refusal, Secret, Timestamp};

use super::signing;
use crate::callback::{self, Callback, REPLAY_WINDOW, Vendor, keys, own};

/// Signatures that one request may carry.
const SIGNATURES_MAX: usize = 8;

pub(super) const VENDOR: Vendor = Vendor { judge, ..Vendor::signing(verify, read) };

fn judge(secret: &str) -> Result<(), String> {
    signing::key(&Secret::new(secret)).map(drop).map_err(|error| Chain(&error).to_string())
}

fn verify(callback: &Callback, request: &CallbackRequest<'_>) -> Result<(), Refusal> {
    let header = |name: &str| request.header(name).ok_or(Refusal::Signature);
    let (id, time) = (header("webhook-id")?, header("webhook-timestamp")?);
    let all = header("webhook-signature")?;
    let seconds: u64 = time.parse().map_err(|_| Refusal::Signature)?;
    let parts = [id.as_bytes(), b".", time.as_bytes(), b".", request.body];
    let mut tags = all
        .split(' ')
        .take(SIGNATURES_MAX)
        .filter_map(|one| BASE64_STANDARD.decode(one.strip_prefix("v1,")?).ok());
    let fits = |secret: &str, tag: &[u8]| {
        signing::key(&Secret::new(secret)).is_ok_and(|key| keys::verify(&key, &parts, tag))
    };
    if id.is_empty() || !tags.any(|tag| callback.keys.any(|secret| fits(secret, &tag))) {
        return Err(Refusal::Signature);
    }
    callback::fresh(Timestamp(seconds.saturating_mul(1000)), request.now, REPLAY_WINDOW)
}

fn read(request: &CallbackRequest<'_>) -> Result<Heard, Refusal> {
    own::read_named(request, request.header("webhook-id"))
}
