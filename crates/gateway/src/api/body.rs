//! A request's body: read with limits, unpacked with limits.

use std::{io::Read, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use super::{
    Api,
    problem::{Kind, Problem},
};

/// Longest wait for a whole body.
const BODY_WAIT_MAX: Duration = Duration::from_secs(30);
/// Largest body of a command, in bytes.
pub(crate) const COMMAND_BYTES_MAX: usize = 64 * 1024;

/// Reads a body of at most `bytes_max`.
pub(crate) async fn read(body: Body, bytes_max: usize) -> Result<Bytes, Problem> {
    read_within(body, bytes_max, BODY_WAIT_MAX).await
}

/// As [`read`], with another patience.
pub(crate) async fn read_within(
    body: Body,
    bytes_max: usize,
    wait_max: Duration,
) -> Result<Bytes, Problem> {
    match timeout(wait_max, Limited::new(body, bytes_max).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Problem::new(Kind::TooLarge, format!("the body is larger than {bytes_max} bytes")))
        }
        Ok(Err(_)) => Err(Problem::new(Kind::BadRequest, "the body broke off")),
        Err(_) => Err(Problem::new(Kind::Timeout, "the body did not arrive in time")),
    }
}

/// Reads a command: a JSON document, or nothing.
pub(crate) async fn command<T: serde::de::DeserializeOwned + Default>(
    body: Body,
) -> Result<T, Problem> {
    let bytes = read(body, COMMAND_BYTES_MAX).await?;
    let text = bytes.trim_ascii();
    if text.is_empty() {
        return Ok(T::default());
    }
    // serde would take a list as the fields in their order.
    if text.first() != Some(&b'{') {
        return Err(Problem::new(Kind::BadRequest, "the body is not a JSON object"));
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| Problem::new(Kind::BadRequest, error.to_string()))
}

/// Undoes `Content-Encoding: gzip` within the same limit, so that no small body becomes a huge one.
pub(crate) fn unzip(body: &Bytes, bytes_max: usize) -> Result<Bytes, Problem> {
    let mut plain = Vec::new();
    let limit = bytes_max as u64 + 1;
    flate2::read::MultiGzDecoder::new(body.as_ref()).take(limit).read_to_end(&mut plain).map_err(
        |error| Problem::new(Kind::BadRequest, format!("the body is not gzip: {error}")),
    )?;
    if plain.len() > bytes_max {
        let detail = format!("the body is larger than {bytes_max} bytes when unpacked");
        return Err(Problem::new(Kind::TooLarge, detail));
    }
    Ok(plain.into())
}

impl Api {
    /// Waits for room among the bodies that are in memory.
    pub(crate) async fn body_permit(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let kib = u32::try_from(bytes.div_ceil(1024))
            .unwrap_or(u32::MAX)
            .clamp(1, super::BODIES_KIB_MAX as u32);
        let bodies = std::sync::Arc::clone(&self.bodies);
        bodies
            .acquire_many_owned(kib)
            .await
            .map_err(|_| Problem::new(Kind::Stopping, "the gateway is stopping"))
    }
}
