//! Requests that are made and not sent, for `holdfast render`.
//!
//! One switch for the whole process, not for a client: once it is on, nothing leaves through this
//! client, whoever made it.

use std::{
    fmt,
    io::{self, Read},
    sync::{Mutex, OnceLock, PoisonError},
};

use flate2::read::GzDecoder;
use holdfast_model::{DeliveryError, Reason, Secret};
use reqwest::{
    Request, Url,
    header::{self, HeaderValue},
};

use super::mask;
use crate::secrets;

static NOTED: OnceLock<Mutex<Vec<Rehearsed>>> = OnceLock::new();

/// Longest body that is shown, in bytes, after decompression.
const BODY_SHOWN_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A request as it would have been sent.
#[derive(Clone)]
pub struct Rehearsed {
    /// `POST https://…`, headers one a line, an empty line, the body.
    text: String,
}

/// From here on no request of this process is sent. Returns what would have been, so far.
pub fn rehearse() -> Vec<Rehearsed> {
    let noted = NOTED.get_or_init(Mutex::default);
    std::mem::take(&mut *noted.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Whether nothing is sent: a destination that asks before it sends goes on without an answer, so
/// that what it would send is seen.
pub(crate) fn is_rehearsal() -> bool {
    NOTED.get().is_some()
}

/// Notes the request if this is a rehearsal, and says what its sender is told.
pub(super) fn note(request: &Request) -> Option<DeliveryError> {
    let noted = NOTED.get()?;
    let text = describe(request);
    noted.lock().unwrap_or_else(PoisonError::into_inner).push(Rehearsed { text });
    Some(DeliveryError::new(Reason::Connect).with_excerpt("a rehearsal: nothing was sent"))
}

fn describe(request: &Request) -> String {
    let mut text = format!("{} {}\n", request.method(), request.url());
    for (name, value) in request.headers() {
        let value = if value.is_sensitive() {
            "[masked]".into()
        } else {
            String::from_utf8_lossy(value.as_bytes()).into_owned()
        };
        text.push_str(&format!("{name}: {value}\n"));
    }
    let body = request.body().and_then(|body| body.as_bytes()).unwrap_or_default();
    let body = match request.headers().get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None => String::from_utf8_lossy(body).into(),
        Some(b"zstd") => decompressed(zstd::Decoder::new(body), body.len()),
        Some(_) => decompressed(Ok(GzDecoder::new(body)), body.len()),
    };
    text.push_str(&format!("\n{body}"));
    text
}

fn decompressed(decoder: io::Result<impl Read>, length: usize) -> String {
    let mut bytes = Vec::new();
    let read =
        decoder.and_then(|decoder| decoder.take(BODY_SHOWN_BYTES_MAX).read_to_end(&mut bytes));
    match read {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("[{length} bytes, compressed: {error}]"),
    }
}

/// What of a secret may stand in a request: itself, plain or as a form writes it, and of an address
/// what is behind the host.
fn traces(secret: &Secret) -> Vec<Secret> {
    let address = secret.expose().parse::<Url>().ok().filter(|url| url.has_host());
    match address {
        Some(url) => {
            let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
            let path = url.path().trim_end_matches('/');
            vec![Secret::new(format!("{path}{query}"))]
        }
        None => vec![secret.clone(), Secret::new(as_form(secret.expose()))],
    }
}

/// As `application/x-www-form-urlencoded`.
fn as_form(text: &str) -> String {
    let Ok(mut form) = Url::parse("form:?") else { return String::new() };
    form.query_pairs_mut().append_key_only(text);
    form.query().unwrap_or_default().to_owned()
}

impl fmt::Display for Rehearsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Everything that this process has read as a secret, wherever it ended up.
        let traces: Vec<Secret> = secrets::read_so_far().iter().flat_map(traces).collect();
        f.write_str(&mask(&self.text, &traces))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_known_in_a_form_too() {
        let known = traces(&Secret::new("a b&c=1"));
        assert_eq!(known[1].expose(), "a+b%26c%3D1");
    }
}
