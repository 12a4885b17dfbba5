//! A far end that fails in one way, where it is given the event or where it is asked something
//! beside it, and works otherwise.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::cases::Case;

/// What the far end does with the event.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// The answer of [`Case::success`].
    None,
    /// The same, byte by byte.
    Slow,
    /// Reads, and answers nothing.
    Hang,
    /// Resets the connection when it has the head.
    ResetBefore,
    /// Resets it when it has everything.
    ResetAfter,
    Say(Vec<u8>),
    /// Writes this and closes.
    BreakOff(Vec<u8>),
}

/// Which requests meet the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Event,
    Beside,
}

pub(super) struct Server {
    pub(super) url: String,
    shared: Arc<Shared>,
}

struct Shared {
    case: &'static Case,
    fault: Fault,
    place: Place,
    success: Vec<u8>,
    /// Bodies that carried the event.
    bodies: Mutex<Vec<Vec<u8>>>,
    /// Lines that nobody foresaw.
    strange: Mutex<Vec<String>>,
}

/// An answer with headers, each with its line's end.
pub(super) fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = if status.starts_with("204") {
        String::new()
    } else {
        format!("Content-Length: {}\r\n", body.len())
    };
    let mut bytes = format!("HTTP/1.1 {status}\r\n{headers}{length}\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

// === impl Server ===

impl Server {
    pub(super) async fn start(case: &'static Case, fault: Fault, key: &str) -> Self {
        Self::start_at(case, fault, Place::Event, key).await
    }

    pub(super) async fn start_at(
        case: &'static Case,
        fault: Fault,
        place: Place,
        key: &str,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (status, body) = case.success;
        let success = answer(status, "", body.replace("KEY", key).as_bytes());
        let (bodies, strange) = (Mutex::default(), Mutex::default());
        let shared = Arc::new(Shared { case, fault, place, success, bodies, strange });
        let here = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&here)));
            }
        });
        Self { url, shared }
    }

    /// The bodies that carried the event. Nothing else was asked than what was foreseen.
    #[track_caller]
    pub(super) fn bodies(&self) -> Vec<Vec<u8>> {
        let strange = self.shared.strange.lock().unwrap();
        assert!(strange.is_empty(), "{}: {strange:?}", self.shared.case.name);
        self.shared.bodies.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    let case = shared.case;
    while let Some((line, length)) = read_head(&mut stream).await {
        let carries = line.starts_with(case.subject);
        let place = if carries { Place::Event } else { Place::Beside };
        let fault = if place == shared.place { &shared.fault } else { &Fault::None };
        if matches!(fault, Fault::ResetBefore) {
            return stream.set_zero_linger().unwrap();
        }
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        let success = if carries {
            shared.bodies.lock().unwrap().push(body);
            shared.success.clone()
        } else {
            let beside = case.beside.iter().find(|(start, _)| line.starts_with(start));
            let Some((_, said)) = beside else {
                shared.strange.lock().unwrap().push(line);
                return;
            };
            answer("200 OK", "", said.as_bytes())
        };
        if !act(&mut stream, fault, &success).await {
            return;
        }
    }
}

/// Does what the fault says. Whether the connection goes on.
async fn act(stream: &mut TcpStream, fault: &Fault, success: &[u8]) -> bool {
    // The other side may have gone; that is its right.
    match fault {
        Fault::None => stream.write_all(success).await.is_ok(),
        Fault::Slow => drip(stream, success).await.is_ok(),
        Fault::Say(bytes) => stream.write_all(bytes).await.is_ok(),
        Fault::BreakOff(bytes) => {
            drop(stream.write_all(bytes).await);
            false
        }
        Fault::Hang => std::future::pending().await,
        Fault::ResetBefore | Fault::ResetAfter => {
            stream.set_zero_linger().unwrap();
            false
        }
    }
}

async fn drip(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    for byte in bytes {
        tokio::time::sleep(Duration::from_millis(1)).await;
        stream.write_all(&[*byte]).await?;
    }
    Ok(())
}

/// The request's line and the length of its body; `None` when the connection ends before.
async fn read_head(stream: &mut TcpStream) -> Option<(String, usize)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.split("\r\n");
    let line = lines.next()?.to_owned();
    let length = lines.find_map(|text| {
        let (name, value) = text.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then(|| value.parse().ok())?
    });
    Some((line, length.unwrap_or(0)))
}
