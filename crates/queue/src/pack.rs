//! zstd with its working memory kept: making that anew costs more than packing a small record.

use std::{cell::RefCell, io};

use zstd::bulk::Compressor;

/// Level 1 packs alerts to about a seventh at several hundred MB a second; more is not worth it.
const ZSTD_LEVEL: i32 = 1;

thread_local! {
    // Only the runtime's workers and the writing thread pack.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
}

pub(crate) fn compress(plain: &[u8]) -> io::Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|kept| {
        let compressor = match kept {
            Some(compressor) => compressor,
            None => kept.insert(Compressor::new(ZSTD_LEVEL)?),
        };
        compressor.compress(plain)
    })
}
