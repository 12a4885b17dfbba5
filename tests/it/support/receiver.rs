//! A receiver of HTTP requests that does what a test tells it, and remembers everything.

use std::{
    collections::HashMap,
    io::{self, BufReader, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::net::sockopt::set_socket_linger;

use super::{
    alerts,
    request::{Reply, Request},
    wait::{eventually, now_ns},
};

type Script = dyn Fn(&Request) -> Reply + Send + Sync;
type Observer = dyn Fn(&Exchange) + Send + Sync;

/// A request, what was answered, and when.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) request: Request,
    pub(crate) reply: Reply,
    /// When the answer had been written; 0 while it has not, or could not be.
    pub(crate) answered_ns: u64,
}

#[derive(Default)]
struct Inner {
    exchanges: Vec<Exchange>,
    arrived: usize,
    connections: HashMap<u64, TcpStream>,
    next_connection: u64,
}

struct Shared {
    script: Mutex<Arc<Script>>,
    inner: Mutex<Inner>,
    /// Is told each exchange instead of it being kept.
    observer: Option<Box<Observer>>,
}

/// See the module header. Dropping it closes everything.
pub(crate) struct Receiver {
    port: u16,
    shared: Arc<Shared>,
    listening: Option<Listening>,
}

struct Listening {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Receiver {
    pub(crate) fn start(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::begin(Arc::new(script), None)
    }

    /// Keeps nothing and tells `observer` each exchange when its answer has been written, or could
    /// not be. For more requests than fit into memory.
    #[allow(dead_code, reason = "the torture needs it")]
    pub(crate) fn observed(
        script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
        observer: impl Fn(&Exchange) + Send + Sync + 'static,
    ) -> Self {
        Self::begin(Arc::new(script), Some(Box::new(observer)))
    }

    fn begin(script: Arc<Script>, observer: Option<Box<Observer>>) -> Self {
        let shared = Shared { script: Mutex::new(script), inner: Mutex::default(), observer };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("a bound port").port();
        let shared = Arc::new(shared);
        let listening = Some(Listening::begin(listener, Arc::clone(&shared)));
        Self { port, shared, listening }
    }

    /// Takes everything.
    pub(crate) fn willing() -> Self {
        Self::start(|_| Reply::ok())
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// From now on.
    pub(crate) fn behave(&self, script: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        *lock(&self.shared.script) = Arc::new(script);
    }

    pub(crate) fn exchanges(&self) -> Vec<Exchange> {
        lock(&self.shared.inner).exchanges.clone()
    }

    /// Those from this number on.
    pub(crate) fn exchanges_from(&self, number: usize) -> Vec<Exchange> {
        let inner = lock(&self.shared.inner);
        inner.exchanges.get(number..).map(<[_]>::to_vec).unwrap_or_default()
    }

    pub(crate) fn count(&self) -> usize {
        lock(&self.shared.inner).exchanges.len()
    }

    pub(crate) fn open_connections(&self) -> usize {
        lock(&self.shared.inner).connections.len()
    }

    /// All that were ever accepted.
    pub(crate) fn connections_accepted(&self) -> u64 {
        lock(&self.shared.inner).next_connection
    }

    /// The numbers of the alerts that it took, in order, repeats included.
    pub(crate) fn taken(&self) -> Vec<u64> {
        let inner = lock(&self.shared.inner);
        let taken = inner.exchanges.iter().filter(|exchange| exchange.reply.accepts());
        taken.flat_map(|exchange| alerts::numbers(&exchange.request.body)).collect()
    }

    /// Waits until it has taken so many different alerts.
    #[track_caller]
    pub(crate) fn wait_for(&self, alerts: usize) {
        let what = format!("{alerts} different alerts taken");
        eventually(&what, || {
            let mut taken = self.taken();
            taken.sort_unstable();
            taken.dedup();
            (taken.len() >= alerts).then_some(())
        });
    }

    /// Stops listening and closes every connection: nobody is there.
    pub(crate) fn go_away(&mut self) {
        let Some(listening) = self.listening.take() else { return };
        listening.end(self.port);
        for stream in lock(&self.shared.inner).connections.values() {
            stream.shutdown(Shutdown::Both).ok();
        }
    }

    /// Listens again, at the same port.
    pub(crate) fn come_back(&mut self) {
        if self.listening.is_none() {
            let listener = eventually("the receiver's port is free again", || {
                TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).ok()
            });
            self.listening = Some(Listening::begin(listener, Arc::clone(&self.shared)));
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.go_away();
    }
}

impl Listening {
    fn begin(listener: TcpListener, shared: Arc<Shared>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&shared);
                if let Ok(stream) = stream {
                    thread::spawn(move || shared.serve(stream));
                }
            }
        });
        Self { stop, thread }
    }

    fn end(self, port: u16) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the accepting thread.
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok();
        self.thread.join().expect("the accepting thread ends");
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) {
        let id = {
            let mut inner = lock(&self.inner);
            let id = inner.next_connection;
            inner.next_connection += 1;
            let copy = stream.try_clone().expect("a second handle of a socket");
            inner.connections.insert(id, copy);
            id
        };
        stream.set_nodelay(true).ok();
        // The sender has gone, or was sent away: either is the end of the connection.
        self.converse(stream).ok();
        lock(&self.inner).connections.remove(&id);
    }

    fn keep(&self, exchange: Exchange) -> usize {
        let mut inner = lock(&self.inner);
        inner.exchanges.push(exchange);
        inner.exchanges.len() - 1
    }

    fn converse(&self, stream: TcpStream) -> io::Result<()> {
        let mut writer = stream.try_clone()?;
        let mut reader = BufReader::new(stream);
        while let Some(mut request) = Request::read(&mut reader)? {
            let script = Arc::clone(&lock(&self.script));
            request.number = lock(&self.inner).arrived;
            lock(&self.inner).arrived += 1;
            let reply = script(&request);
            let mut exchange = Exchange { request, reply: reply.clone(), answered_ns: 0 };
            let kept = self.observer.is_none().then(|| self.keep(exchange.clone()));
            let done = carry_out(reply, &mut writer, &mut reader);
            exchange.answered_ns = if done.is_ok() { now_ns() } else { 0 };
            match (kept, &self.observer) {
                (Some(kept), _) => {
                    lock(&self.inner).exchanges[kept].answered_ns = exchange.answered_ns
                }
                (None, Some(observer)) => observer(&exchange),
                (None, None) => {}
            }
            if !done? {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Answers whether the connection goes on.
fn carry_out(
    reply: Reply,
    to: &mut TcpStream,
    from: &mut BufReader<TcpStream>,
) -> io::Result<bool> {
    match reply {
        Reply::Answer { status, headers, body } => {
            let mut head = format!("HTTP/1.1 {status} Said\r\nContent-Length: {}\r\n", body.len());
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            head.push_str("\r\n");
            let mut bytes = head.into_bytes();
            bytes.extend_from_slice(&body);
            to.write_all(&bytes)?;
            Ok(true)
        }
        Reply::Later(wait, reply) => {
            thread::sleep(wait);
            carry_out(*reply, to, from)
        }
        Reply::Hang => {
            from.get_mut().set_read_timeout(None)?;
            let mut sink = [0; 1024];
            while from.read(&mut sink)? > 0 {}
            Ok(false)
        }
        Reply::Reset => {
            reset_on_close(to);
            Ok(false)
        }
        Reply::Broken(bytes) => {
            to.write_all(&bytes)?;
            // The bytes must arrive before the reset takes back what was not read.
            thread::sleep(Duration::from_millis(20));
            reset_on_close(to);
            Ok(false)
        }
    }
}

fn reset_on_close(stream: &TcpStream) {
    set_socket_linger(stream, Some(Duration::ZERO)).ok();
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
