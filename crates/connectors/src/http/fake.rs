//! A receiver on loopback that does exactly what a test tells it, and is strict about what it is
//! sent: a request that RFC 9112 would not allow fails the test that asks for what was seen.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What the receiver does with one request, after it has read it whole.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Writes these bytes and keeps the connection.
    Say(Vec<u8>),
    /// Writes these bytes and closes.
    SayAndClose(Vec<u8>),
    /// Writes these bytes and resets the connection.
    SayAndReset(Vec<u8>),
    /// Writes these bytes and then nothing more.
    SayAndHang(Vec<u8>),
    /// Writes the bytes one by one, with pauses.
    Drip(Vec<u8>),
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Which connection it came over, counted from 0.
    pub(crate) connection: usize,
}

pub(crate) struct Fake {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Result<Seen, String>>>>,
}

/// An answer with a body of this length.
pub(crate) fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n{body}").into_bytes()
}

pub(crate) fn say(status: &str) -> Act {
    Act::Say(answer(status, "", "fine"))
}

// === impl Fake ===

impl Fake {
    /// Takes one act a request; the last one repeats.
    pub(crate) async fn start(acts: impl IntoIterator<Item = Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let acts = Arc::new(Mutex::new(acts.into_iter().collect::<Vec<_>>()));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        tokio::spawn(async move {
            for connection in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                tokio::spawn(serve(stream, connection, Arc::clone(&acts), Arc::clone(&log)));
            }
        });
        Self { url, seen }
    }

    /// Every request so far.
    #[track_caller]
    pub(crate) fn seen(&self) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|seen| seen.clone().expect("a valid request")).collect()
    }

    #[track_caller]
    pub(crate) fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.into_iter().next().unwrap()
    }
}

// === impl Seen ===

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

async fn serve(
    mut stream: TcpStream,
    connection: usize,
    acts: Arc<Mutex<Vec<Act>>>,
    log: Arc<Mutex<Vec<Result<Seen, String>>>>,
) {
    while let Some(request) = read_request(&mut stream, connection).await {
        log.lock().unwrap().push(request);
        let act = {
            let mut acts = acts.lock().unwrap();
            if acts.len() > 1 { acts.remove(0) } else { acts[0].clone() }
        };
        // The other side may have gone; that is its right.
        let (bytes, end) = match act {
            Act::Say(bytes) => (bytes, ""),
            Act::SayAndClose(bytes) => (bytes, "close"),
            Act::SayAndReset(bytes) => (bytes, "reset"),
            Act::SayAndHang(bytes) => (bytes, "hang"),
            Act::Drip(bytes) => {
                for byte in bytes {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    if stream.write_all(&[byte]).await.is_err() {
                        return;
                    }
                }
                continue;
            }
        };
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
        match end {
            "close" => return,
            "reset" => return stream.set_zero_linger().unwrap(),
            "hang" => std::future::pending::<()>().await,
            _ => {}
        }
    }
}

/// Reads one request; `None` when the connection ends before one begins.
async fn read_request(stream: &mut TcpStream, connection: usize) -> Option<Result<Seen, String>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.trim_end().split("\r\n");
    let line = lines.next()?.to_owned();
    let mut headers = Vec::new();
    for text in lines {
        let Some((key, value)) = text.split_once(':') else {
            return Some(Err(format!("a header without a colon: {text}")));
        };
        headers.push((key.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let all = |name: &str| headers.iter().filter(|(key, _)| key == name).collect::<Vec<_>>();
    for name in ["host", "content-length", "user-agent"] {
        // RFC 9110 section 8.6: a request without a body need not say its length.
        let bodiless = line.starts_with("GET ") || line.starts_with("HEAD ");
        let optional = name == "content-length" && bodiless;
        if all(name).len() != 1 && !(optional && all(name).is_empty()) {
            return Some(Err(format!("{} times `{name}` in {head}", all(name).len())));
        }
    }
    if !line.ends_with(" HTTP/1.1") || !all("transfer-encoding").is_empty() {
        return Some(Err(format!("not what was expected: {head}")));
    }
    let length = all("content-length").first().map_or(Ok(0), |(_, text)| text.parse()).ok()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Ok(Seen { line, headers, body, connection }))
}
