//! Requests' bodies, within limits: one body's size, all bodies' memory together, and time.

use std::{
    io::Read,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use flate2::bufread::MultiGzDecoder;
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;

/// Longest wait for a body.
const BODY_WAIT_MAX: Duration = Duration::from_secs(60);

/// All bodies together may be as large as so many of the largest.
const AT_ONCE: usize = 4;

/// Why a body was not read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadBody {
    #[error("the body has more than {0} bytes")]
    TooLarge(usize),
    #[error("the body did not come in time")]
    Late,
    #[error("the body broke off")]
    Broken,
    #[error("the body is not gzip")]
    NotGzip,
    #[error("this encoding is not taken; gzip is")]
    Encoding,
    #[error("too much at once; send it again later")]
    Busy,
}

/// How much memory all bodies have together.
#[derive(Debug)]
pub(super) struct Budget {
    left: Arc<AtomicUsize>,
    body_bytes_max: usize,
}

/// A part of the budget, given back when it is dropped.
struct Share {
    left: Arc<AtomicUsize>,
    taken: usize,
}

/// A body, and its part of the budget.
pub(super) struct Taken {
    pub(super) bytes: Bytes,
    _share: Share,
}

// === impl BadBody ===

impl BadBody {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Late => StatusCode::REQUEST_TIMEOUT,
            Self::Broken | Self::NotGzip => StatusCode::BAD_REQUEST,
            Self::Encoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

// === impl Share ===

impl Share {
    fn grow(&mut self, bytes: usize) -> Result<(), BadBody> {
        let take = |left: usize| left.checked_sub(bytes);
        let taken = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.map_err(|_| BadBody::Busy)?;
        self.taken += bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.left.fetch_add(self.taken, Ordering::Relaxed);
    }
}

// === impl Budget ===

impl Budget {
    pub(super) fn new(body_bytes_max: usize) -> Self {
        let left = Arc::new(AtomicUsize::new(body_bytes_max.saturating_mul(AT_ONCE)));
        Self { left, body_bytes_max }
    }

    /// Reads a body whole, and decompresses it; at most `limit` bytes, and never more than the
    /// largest body.
    pub(super) async fn read(
        &self,
        headers: &HeaderMap,
        body: Body,
        limit: usize,
    ) -> Result<Taken, BadBody> {
        let limit = limit.min(self.body_bytes_max);
        let gzip = match headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes()) {
            None | Some(b"identity") => false,
            Some(b"gzip") => true,
            Some(_) => return Err(BadBody::Encoding),
        };
        let mut share = Share { left: Arc::clone(&self.left), taken: 0 };
        let reading = collect(body, limit, &mut share);
        let bytes =
            tokio::time::timeout(BODY_WAIT_MAX, reading).await.map_err(|_| BadBody::Late)??;
        if !gzip {
            return Ok(Taken { bytes, _share: share });
        }
        let unpacked = tokio::task::spawn_blocking(move || {
            let plain = unpack(&bytes, limit, &mut share)?;
            Ok(Taken { bytes: plain.into(), _share: share })
        });
        unpacked.await.unwrap_or(Err(BadBody::NotGzip))
    }
}

async fn collect(mut body: Body, limit: usize, share: &mut Share) -> Result<Bytes, BadBody> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| BadBody::Broken)?;
        let Ok(data) = frame.into_data() else { continue };
        if data.len() > limit - bytes.len() {
            return Err(BadBody::TooLarge(limit));
        }
        share.grow(data.len())?;
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

fn unpack(bytes: &[u8], limit: usize, share: &mut Share) -> Result<Vec<u8>, BadBody> {
    let mut decoder = MultiGzDecoder::new(bytes);
    let (mut plain, mut block) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        let read = decoder.read(&mut block).map_err(|_| BadBody::NotGzip)?;
        if read == 0 {
            return Ok(plain);
        }
        if read > limit - plain.len() {
            return Err(BadBody::TooLarge(limit));
        }
        share.grow(read)?;
        plain.extend_from_slice(&block[..read]);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    async fn read(budget: &Budget, encoding: &str, body: Vec<u8>) -> Result<Vec<u8>, BadBody> {
        let mut headers = HeaderMap::new();
        if !encoding.is_empty() {
            headers.insert(header::CONTENT_ENCODING, encoding.parse().unwrap());
        }
        budget.read(&headers, body.into(), usize::MAX).await.map(|taken| taken.bytes.to_vec())
    }

    #[tokio::test]
    async fn a_body_has_a_limit_packed_and_unpacked() {
        let budget = Budget::new(100);
        let full = vec![b'x'; 100];
        assert_eq!(read(&budget, "", full.clone()).await, Ok(full.clone()));
        assert_eq!(read(&budget, "gzip", packed(&full)).await, Ok(full.clone()));
        assert_eq!(read(&budget, "", vec![b'x'; 101]).await, Err(BadBody::TooLarge(100)));
        // A bomb is not unpacked further than to the limit.
        let bomb = packed(&vec![0; 64 << 10]);
        let budget = Budget::new(1000);
        assert!(bomb.len() < 1000, "{}", bomb.len());
        assert_eq!(read(&budget, "gzip", bomb).await, Err(BadBody::TooLarge(1000)));
        assert_eq!(read(&budget, "gzip", full).await, Err(BadBody::NotGzip));
        let mut cut = packed(b"{\"a\":1}");
        cut.truncate(cut.len() - 6);
        assert_eq!(read(&budget, "gzip", cut).await, Err(BadBody::NotGzip));
        assert_eq!(read(&budget, "br", Vec::new()).await, Err(BadBody::Encoding));
    }

    #[tokio::test]
    async fn all_bodies_together_have_a_limit_that_is_given_back() {
        let budget = Budget::new(10);
        let mut held = Vec::new();
        for _ in 0..AT_ONCE {
            let body = Body::from(vec![b'x'; 10]);
            held.push(budget.read(&HeaderMap::new(), body, 10).await.unwrap());
        }
        assert_eq!(read(&budget, "", vec![b'x']).await, Err(BadBody::Busy));
        held.pop();
        assert_eq!(read(&budget, "", vec![b'x'; 10]).await.unwrap().len(), 10);
    }
}
