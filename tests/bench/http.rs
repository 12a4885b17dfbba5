//! As little of an HTTP/1.1 client as the load needs: it shares two cores with what it measures.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    time::Duration,
};

use memchr::memmem;

use crate::Result;

const PATIENCE: Duration = Duration::from_secs(60);

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Sends a whole request and reads the whole answer: status and body.
    pub(crate) fn call(&mut self, request: &[u8]) -> Result<(u16, &[u8])> {
        self.stream.write_all(request)?;
        self.buffer.clear();
        let head = loop {
            if let Some(end) = memmem::find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            self.read()?;
        };
        let text = std::str::from_utf8(&self.buffer[..head])?;
        let status = text.get(9..12).ok_or("no status")?.parse()?;
        let length = content_length(text).ok_or("an answer without a length")?;
        while self.buffer.len() < head + length {
            self.read()?;
        }
        Ok((status, &self.buffer[head..head + length]))
    }

    fn read(&mut self) -> Result<()> {
        let mut block = [0; 16 * 1024];
        match self.stream.read(&mut block)? {
            0 => Err("the connection was closed".into()),
            n => {
                self.buffer.extend_from_slice(&block[..n]);
                Ok(())
            }
        }
    }
}

/// The value of `Content-Length` in a head.
pub(crate) fn content_length(head: &str) -> Option<usize> {
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    })
}

pub(crate) fn get(port: u16, path: &str) -> Result<(u16, String)> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n");
    let mut client = Client::connect(port)?;
    let (status, body) = client.call(request.as_bytes())?;
    Ok((status, String::from_utf8_lossy(body).into_owned()))
}

/// A whole `POST /v1/alerts` of NDJSON.
pub(crate) fn post(port: u16, token: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /v1/alerts HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/x-ndjson\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}
