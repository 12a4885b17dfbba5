//! Reads what is in a compressed file.
//!
//! Promises: content that is broken is an error of a kind that says so, whatever compressed it.

use std::{
    fs::File,
    io::{self, BufReader, ErrorKind, Read},
};

use flate2::read::MultiGzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

use super::parts::Packing;

const BUFFER_BYTES: usize = 64 * 1024;

pub(super) enum Unpacked {
    Gzip(Box<MultiGzDecoder<BufReader<File>>>),
    Zstd(ZstdDecoder<'static, BufReader<File>>),
}

impl Unpacked {
    pub(super) fn new(packing: Packing, file: File) -> io::Result<Self> {
        let file = BufReader::with_capacity(BUFFER_BYTES, file);
        Ok(match packing {
            Packing::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(file))),
            Packing::Zstd => Self::Zstd(ZstdDecoder::with_buffer(file)?),
        })
    }
}

impl Read for Unpacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer).map_err(|error| match error.kind() {
                // The decoder's own errors; the system's have a number.
                ErrorKind::Other if error.raw_os_error().is_none() => {
                    io::Error::new(ErrorKind::InvalidData, error)
                }
                _ => error,
            }),
        }
    }
}
