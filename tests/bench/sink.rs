//! The receiver: takes everything, at once, and counts. HTTP/1.1, or bare lines over TCP.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use memchr::memmem;

use crate::{
    Result, alerts,
    clock::{now_ns, seconds_since},
    http::content_length,
    process::Process,
};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
/// Nothing new for so long is the end of the measurement.
const STALL_SECONDS_MAX: f64 = 60.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http,
    Lines,
}

#[derive(Default)]
struct Counts {
    alerts: AtomicU64,
    first_ns: AtomicU64,
    last_ns: AtomicU64,
    /// When each alert came first, by its number; empty when nobody asks.
    arrivals: Vec<AtomicU64>,
    stopped: AtomicBool,
}

/// See the module header.
pub(crate) struct Sink {
    pub(crate) port: u16,
    counts: Arc<Counts>,
    accepting: Option<JoinHandle<()>>,
}

impl Sink {
    /// `port` 0 is any free one; with `tracked` more than 0 it looks at each alert's number.
    pub(crate) fn start(port: u16, protocol: Protocol, tracked: u64) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let port = listener.local_addr()?.port();
        let arrivals = (0..tracked).map(|_| AtomicU64::new(0)).collect();
        let counts = Arc::new(Counts { arrivals, ..Counts::default() });
        let shared = Arc::clone(&counts);
        let accepting = thread::spawn(move || {
            for stream in listener.incoming().map_while(io::Result::ok) {
                if shared.stopped.load(Relaxed) {
                    return;
                }
                let counts = Arc::clone(&shared);
                // The sender's end of a connection is no event.
                thread::spawn(move || match protocol {
                    Protocol::Http => counts.take_requests(stream).ok(),
                    Protocol::Lines => counts.take_lines(stream).ok(),
                });
            }
        });
        Ok(Self { port, counts, accepting: Some(accepting) })
    }

    pub(crate) fn alerts(&self) -> u64 {
        self.counts.alerts.load(Relaxed)
    }

    /// Waits for so many alerts; returns how many came a second from the first to the last.
    pub(crate) fn wait_for(&self, alerts: u64, sender: &mut Process) -> Result<f64> {
        let (mut seen, mut since) = (self.alerts(), now_ns());
        while seen < alerts {
            thread::sleep(Duration::from_millis(2));
            let now = self.alerts();
            if now != seen {
                (seen, since) = (now, now_ns());
            } else if seconds_since(since) > STALL_SECONDS_MAX {
                let words = sender.last_words();
                return Err(format!("{seen} of {alerts} alerts came:\n{words}").into());
            }
            sender.check()?;
        }
        let last = self.counts.last_ns.load(Relaxed);
        let ns = last.saturating_sub(self.counts.first_ns.load(Relaxed));
        Ok(seen as f64 / (ns.max(1) as f64 / 1e9))
    }

    /// When each alert came, by its number; 0: never.
    pub(crate) fn arrivals(&self) -> Vec<u64> {
        self.counts.arrivals.iter().map(|at| at.load(Relaxed)).collect()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.counts.stopped.store(true, Relaxed);
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok();
        if let Some(accepting) = self.accepting.take() {
            accepting.join().ok();
        }
    }
}

// === impl Counts ===

impl Counts {
    fn take(&self, body: &[u8], alerts: u64) {
        let now = now_ns();
        if !self.arrivals.is_empty() {
            for number in alerts::numbers(body) {
                if let Some(at) = self.arrivals.get(number as usize) {
                    at.compare_exchange(0, now, Relaxed, Relaxed).ok();
                }
            }
        }
        self.first_ns.compare_exchange(0, now, Relaxed, Relaxed).ok();
        self.last_ns.fetch_max(now, Relaxed);
        self.alerts.fetch_add(alerts, Relaxed);
    }

    fn take_requests(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut buffer = vec![0; 64 * 1024];
        let mut filled = 0;
        loop {
            let head = loop {
                if let Some(end) = memmem::find(&buffer[..filled], b"\r\n\r\n") {
                    break end + 4;
                }
                filled += read_some(&mut stream, &mut buffer[filled..])?;
            };
            let text = String::from_utf8_lossy(&buffer[..head]);
            let end = head + content_length(&text).unwrap_or(0);
            if text.contains("100-continue") {
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            if buffer.len() < end {
                buffer.resize(end.next_power_of_two(), 0);
            }
            while filled < end {
                filled += read_some(&mut stream, &mut buffer[filled..])?;
            }
            let body = &buffer[head..end];
            // A last line may lack its line break.
            let unfinished = u64::from(body.last().is_some_and(|byte| *byte != b'\n'));
            self.take(body, memchr::memchr_iter(b'\n', body).count() as u64 + unfinished);
            stream.write_all(OK)?;
            buffer.copy_within(end..filled, 0);
            filled -= end;
        }
    }

    fn take_lines(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut buffer = vec![0; 256 * 1024];
        let mut filled = 0;
        loop {
            filled += read_some(&mut stream, &mut buffer[filled..])?;
            let Some(end) = memchr::memrchr(b'\n', &buffer[..filled]) else { continue };
            let lines = &buffer[..=end];
            self.take(lines, memchr::memchr_iter(b'\n', lines).count() as u64);
            buffer.copy_within(end + 1..filled, 0);
            filled -= end + 1;
        }
    }
}

fn read_some(stream: &mut TcpStream, room: &mut [u8]) -> io::Result<usize> {
    match stream.read(room)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        n => Ok(n),
    }
}
