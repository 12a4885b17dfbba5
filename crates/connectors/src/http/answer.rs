use std::time::SystemTime;

use holdfast_model::{DeliveryError, Reason, Secret, delivery::EXCERPT_BYTES_MAX};
use reqwest::{Response, StatusCode, header::HeaderMap};
use tokio::time::{Instant, timeout_at};

use super::{DRAIN_BYTES_MAX, classify};

/// Shortest secret that is looked for in an answer, in bytes. A shorter one would blot out words.
const MASKED_BYTES_MIN: usize = 6;

/// What is kept of an answer whose body means nothing to us: an excerpt, and enough behind it to
/// recognise a secret that lies across its end.
pub const EXCERPT_READ_BYTES_MAX: usize = 4 * EXCERPT_BYTES_MAX;

/// What a remote system answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: Vec<u8>,
    end: End,
}

/// How the reading of a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Whole,
    /// There is more than was to be kept.
    TooLong,
    /// It broke off, or the time was up.
    Broken,
}

// === impl Answer ===

impl Answer {
    pub(super) async fn read(
        mut response: Response,
        body_bytes_max: usize,
        deadline: Instant,
    ) -> Self {
        let mut answer = Self {
            status: response.status(),
            headers: std::mem::take(response.headers_mut()),
            body: Vec::new(),
            end: End::Whole,
        };
        let mut read_bytes = 0;
        while read_bytes <= DRAIN_BYTES_MAX.max(body_bytes_max) {
            match timeout_at(deadline, response.chunk()).await {
                Ok(Ok(Some(chunk))) => {
                    read_bytes += chunk.len();
                    let room = body_bytes_max - answer.body.len();
                    answer.body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                }
                Ok(Ok(None)) => {
                    answer.end =
                        if read_bytes > body_bytes_max { End::TooLong } else { End::Whole };
                    return answer;
                }
                Ok(Err(_)) | Err(_) => {
                    answer.end = End::Broken;
                    return answer;
                }
            }
        }
        // The response is dropped with its end unread, which closes the connection.
        answer.end = End::TooLong;
        answer
    }

    /// What the status says: success, or the reason to act on with an excerpt of the body, in
    /// which `secrets` are masked.
    pub fn verdict(&self, secrets: &[Secret]) -> Result<(), DeliveryError> {
        classify(self.status, &self.headers, SystemTime::now())
            .map_err(|error| error.with_excerpt(self.excerpt(secrets)))
    }

    /// The whole body, for a destination whose vendor answers in it.
    ///
    /// # Errors
    ///
    /// `InDoubt` when it broke off, `BadAnswer` when it is longer than was to be kept.
    pub fn body(&self) -> Result<&[u8], DeliveryError> {
        let reason = match self.end {
            End::Whole => return Ok(&self.body),
            End::TooLong => Reason::BadAnswer,
            End::Broken => Reason::InDoubt,
        };
        Err(DeliveryError::new(reason).with_status(self.status.as_u16()))
    }

    /// The beginning of the body as text, at most [`EXCERPT_BYTES_MAX`] bytes.
    pub fn excerpt(&self, secrets: &[Secret]) -> String {
        let mut text = mask(&String::from_utf8_lossy(&self.body), secrets);
        text.truncate(text.floor_char_boundary(EXCERPT_BYTES_MAX));
        text
    }
}

/// Takes our own secrets out of what a remote system said, because some repeat the request
/// (`Cannot POST /services/T0/B0/…`) and excerpts are shown to people.
///
/// Finds them as they were sent; not when the remote system has encoded them anew.
pub fn mask(text: &str, secrets: &[Secret]) -> String {
    let long_enough = |secret: &&Secret| secret.expose().len() >= MASKED_BYTES_MIN;
    secrets.iter().filter(long_enough).fold(text.to_owned(), |text, secret| {
        if text.contains(secret.expose()) {
            text.replace(secret.expose(), "[masked]")
        } else {
            text
        }
    })
}

/// The error with these secrets masked, for those that do not belong to the client's own request.
pub(crate) fn masked(mut error: DeliveryError, secrets: &[Secret]) -> DeliveryError {
    error.excerpt = mask(&error.excerpt, secrets);
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: impl Into<Vec<u8>>) -> Answer {
        Answer {
            status: StatusCode::BAD_REQUEST,
            headers: HeaderMap::new(),
            body: body.into(),
            end: End::Whole,
        }
    }

    #[test]
    fn an_excerpt_is_short_and_cut_between_characters() {
        let excerpt = answer("é".repeat(EXCERPT_BYTES_MAX)).excerpt(&[]);
        assert_eq!(excerpt, "é".repeat(EXCERPT_BYTES_MAX / 2));
        // Each bad byte becomes three, which must not lengthen the excerpt.
        assert!(answer(vec![0xff; EXCERPT_BYTES_MAX]).excerpt(&[]).len() <= EXCERPT_BYTES_MAX);
    }

    #[test]
    fn a_secret_is_masked_in_an_excerpt_even_across_its_end() {
        let secret = Secret::new("hunter2-hunter2");
        let text = format!("you said hunter2-hunter2 {}", "x".repeat(EXCERPT_BYTES_MAX - 33));
        let excerpt = answer(format!("{text}hunter2-hunter2")).excerpt(&[secret]);
        assert!(!excerpt.contains("hunter2"), "{excerpt}");
        assert!(excerpt.starts_with("you said [masked] xx"));
        let short = [Secret::new("a"), Secret::new("")];
        assert_eq!(mask("banana", &short), "banana", "a short one would garble the text");
    }
}
