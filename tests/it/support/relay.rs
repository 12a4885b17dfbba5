//! Stands between a client and the gateway, and ends what has no end: a stream of server-sent
//! events is closed behind its head. All else passes as it is.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    thread,
};

/// A head is at most so long, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const STREAM: &[u8] = b"content-type: text/event-stream";
const END_OF_HEAD: &[u8] = b"\r\n\r\n";
/// The last chunk of a body.
const END_OF_BODY: &[u8] = b"0\r\n\r\n";

/// Listens until the process ends; answers the port.
pub(crate) fn start(gateway: u16) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener.local_addr().expect("a bound port").port();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            // Either side may hang up whenever it likes.
            thread::spawn(move || relay(&client, gateway).ok());
        }
    });
    port
}

fn relay(client: &TcpStream, gateway: u16) -> io::Result<()> {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, gateway))?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        io::copy(&mut from_client, &mut to_server).ok();
        to_server.shutdown(Shutdown::Write).ok();
    });
    let ended = answer(server.try_clone()?, client.try_clone()?);
    client.shutdown(Shutdown::Both).ok();
    server.shutdown(Shutdown::Both).ok();
    ended
}

fn answer(mut server: TcpStream, mut client: TcpStream) -> io::Result<()> {
    let mut piece = vec![0; HEAD_BYTES_MAX];
    loop {
        let mut filled = server.read(&mut piece)?;
        if filled == 0 {
            return Ok(());
        }
        // The gateway writes a head in one piece, at the beginning of one.
        let is_stream = |bytes: &[u8]| position(bytes, STREAM).is_some();
        while is_stream(&piece[..filled]) && position(&piece[..filled], END_OF_HEAD).is_none() {
            filled += server.read(&mut piece[filled..])?;
        }
        match position(&piece[..filled], END_OF_HEAD) {
            Some(at) if is_stream(&piece[..at]) => {
                client.write_all(&piece[..at + END_OF_HEAD.len()])?;
                return client.write_all(END_OF_BODY);
            }
            _ => client.write_all(&piece[..filled])?,
        }
    }
}

fn position(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}
