//! What a receiver gets, and what it may answer.

use std::{
    io::{self, BufRead, BufReader, Read},
    net::TcpStream,
    time::Duration,
};

use super::wait::now_ns;

const BODY_BYTES_MAX: u64 = 64 << 20;

/// One request, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Counted from 0, in the order of arrival.
    pub(crate) number: usize,
    /// When its last byte had arrived.
    pub(crate) at_ns: u64,
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// What becomes of a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Answer {
        status: u16,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    },
    /// The same, later.
    Later(Duration, Box<Reply>),
    /// Nothing, until the sender gives up.
    Hang,
    /// The connection is reset instead of an answer.
    Reset,
    /// These bytes, and then the connection is reset.
    Broken(Vec<u8>),
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self::Answer { status, headers: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn ok() -> Self {
        Self::status(200)
    }

    pub(crate) fn text(status: u16, body: &str) -> Self {
        Self::Answer { status, headers: Vec::new(), body: body.as_bytes().to_vec() }
    }

    pub(crate) fn with(self, name: &str, value: &str) -> Self {
        match self {
            Self::Answer { status, mut headers, body } => {
                headers.push((name.to_owned(), value.to_owned()));
                Self::Answer { status, headers, body }
            }
            other => other,
        }
    }

    /// Whether it tells the sender that the request was taken.
    pub(crate) fn accepts(&self) -> bool {
        match self {
            Self::Answer { status, .. } => (200..300).contains(status),
            Self::Later(_, reply) => reply.accepts(),
            Self::Hang | Self::Reset | Self::Broken(_) => false,
        }
    }
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn key(&self) -> &str {
        self.header("idempotency-key").unwrap_or_default()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Reads the next one; `None` when the sender has closed.
    pub(crate) fn read(from: &mut BufReader<TcpStream>) -> io::Result<Option<Self>> {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut headers = Vec::new();
        loop {
            line.clear();
            from.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut request = Self { number: 0, at_ns: 0, method, path, headers, body: Vec::new() };
        let length = request.header("content-length").map(|text| text.parse::<u64>());
        let length = length.transpose().map_err(io::Error::other)?;
        let length = match length {
            None if request.method == "GET" => 0,
            length => length.ok_or_else(|| io::Error::other("a request without a length"))?,
        };
        let read = from.take(length.min(BODY_BYTES_MAX)).read_to_end(&mut request.body)?;
        if read as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        request.at_ns = now_ns();
        Ok(Some(request))
    }
}
