//! A connection that begins in the clear and is read line by line.
//!
//! Promises: nothing that was sent behind the answer to STARTTLS is taken for an answer that came
//! through TLS. Whoever sits between could put it there, and every later answer, the last 250 too,
//! would be mistaken for the one before (RFC 3207 section 6). What follows the line stays in the
//! socket, where TLS finds it and refuses it.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// Most that one read takes.
const READ_BYTES_MAX: usize = 4096;

#[derive(Debug)]
pub(super) struct LineStream(pub(super) TcpStream);

impl AsyncRead for LineStream {
    /// Never goes beyond the first line feed. TLS does not mind: it gathers its records itself.
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = [0; READ_BYTES_MAX];
        let room = out.remaining().min(READ_BYTES_MAX);
        let mut seen = ReadBuf::new(&mut bytes[..room]);
        ready!(self.0.poll_peek(context, &mut seen))?;
        let seen = seen.filled();
        let end = seen.iter().position(|byte| *byte == b'\n').map_or(seen.len(), |at| at + 1);
        let mut line = ReadBuf::new(&mut bytes[..end]);
        ready!(Pin::new(&mut self.0).poll_read(context, &mut line))?;
        out.put_slice(line.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for LineStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

impl AsyncTokioStream for LineStream {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.peer_addr()
    }
}
