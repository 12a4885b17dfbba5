//! As much of HTTP/1.1 as a sender and a receiver of alerts on this machine need.
//!
//! Written out, and blocking, so that the moment of each answer is known and nothing buffers it.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpStream},
    time::Duration,
};

use crate::subjects::now_ns;

const TIMEOUT: Duration = Duration::from_secs(30);
const BODY_BYTES_MAX: u64 = 64 << 20;

pub(crate) struct Answer {
    pub(crate) status: u16,
    /// When its first bytes had arrived.
    pub(crate) ns: u64,
    pub(crate) text: String,
}

pub(crate) fn get(port: u16, path: &str) -> io::Result<Answer> {
    exchange(port, &format!("GET {path} HTTP/1.1\r\n"), b"")
}

pub(crate) fn get_with(port: u16, path: &str, token: &str) -> io::Result<Answer> {
    let head = format!("GET {path} HTTP/1.1\r\nAuthorization: Bearer {token}\r\n");
    let mut answer = exchange(port, &head, b"")?;
    if let Some((_, body)) = answer.text.split_once("\r\n\r\n") {
        answer.text = body.to_owned();
    }
    Ok(answer)
}

pub(crate) fn post_ndjson(port: u16, path: &str, token: &str, body: &[u8]) -> io::Result<Answer> {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/x-ndjson\r\nContent-Length: {length}\r\n"
    );
    exchange(port, &head, body)
}

fn exchange(port: u16, head: &str, body: &[u8]) -> io::Result<Answer> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut request =
        format!("{head}Host: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n").into_bytes();
    request.extend_from_slice(body);
    stream.write_all(&request)?;
    let mut answer = BufReader::new(stream);
    let mut line = String::new();
    answer.read_line(&mut line)?;
    let ns = now_ns();
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("not HTTP: {line:?}")))?;
    let mut text = Vec::new();
    answer.take(BODY_BYTES_MAX).read_to_end(&mut text)?;
    Ok(Answer { status, ns, text: String::from_utf8_lossy(&text).into_owned() })
}

/// Reads one request's body, whatever the request; `None` when the sender has closed.
pub(crate) fn read_request(from: &mut BufReader<TcpStream>) -> io::Result<Option<Vec<u8>>> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let (mut length, mut chunked) = (0, false);
    loop {
        line.clear();
        from.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        match (name.to_ascii_lowercase().as_str(), value.trim()) {
            ("content-length", value) => length = value.parse().map_err(io::Error::other)?,
            ("transfer-encoding", "chunked") => chunked = true,
            _ => {}
        }
    }
    let mut body = Vec::new();
    if !chunked {
        read_exactly(from, length, &mut body)?;
        return Ok(Some(body));
    }
    loop {
        line.clear();
        from.read_line(&mut line)?;
        let size = u64::from_str_radix(line.trim_end(), 16).map_err(io::Error::other)?;
        read_exactly(from, size, &mut body)?;
        line.clear();
        from.read_line(&mut line)?;
        if size == 0 {
            return Ok(Some(body));
        }
    }
}

fn read_exactly(from: &mut BufReader<TcpStream>, length: u64, to: &mut Vec<u8>) -> io::Result<()> {
    assert!(length <= BODY_BYTES_MAX, "a body of {length} bytes");
    let read = from.take(length).read_to_end(to)? as u64;
    if read == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

pub(crate) fn answer(to: &mut TcpStream, status: &str) -> io::Result<()> {
    to.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes())
}
