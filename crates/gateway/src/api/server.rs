//! The listeners: connections with limits, with TLS or without, and an orderly end.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use axum::{Router, extract::Request};
use hyper::{body::Incoming, service::Service};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::tls::Current;

/// Connections at once; further ones wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 1_024;
/// Longest wait for a request's headers: a client that dribbles them holds a connection no longer.
const HEADERS_WAIT_MAX: Duration = Duration::from_secs(10);
/// The same for a TLS handshake.
const HANDSHAKE_WAIT_MAX: Duration = Duration::from_secs(10);
/// Longest wait for requests that are under way when the gateway stops.
const DRAIN_WAIT_MAX: Duration = Duration::from_secs(5);

/// Where a request comes from; in its extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Whether the connection showed a certificate that our CA signed; in a request's extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Certified(pub(crate) bool);

/// Serves until `stop`, then finishes what is under way. With `tls` nothing else is spoken.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<Current>,
    stop: CancellationToken,
) {
    let graceful = GracefulShutdown::new();
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS_WAIT_MAX);
    loop {
        let permit = match Arc::clone(&permits).acquire_owned().await {
            Ok(permit) => permit,
            Err(_) => return,
        };
        let (stream, address) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, mostly: wait, so that some can close.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = stop.cancelled() => break,
        };
        let connection = Connection {
            builder: builder.clone(),
            router: router.clone(),
            peer: Peer(address.ip().to_canonical()),
            watcher: graceful.watcher(),
        };
        let tls = tls.as_ref().map(|current| TlsAcceptor::from(current.load_full()));
        tokio::spawn(async move {
            if let Err(error) = connection.run(stream, tls).await {
                tracing::debug!(error, "a connection ended early");
            }
            drop(permit);
        });
    }
    drop(listener);
    if timeout(DRAIN_WAIT_MAX, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still under way when the gateway stopped");
    }
}

/// One connection and what it needs.
struct Connection {
    builder: auto::Builder<TokioExecutor>,
    router: Router,
    peer: Peer,
    watcher: Watcher,
}

impl Connection {
    async fn run(self, stream: TcpStream, tls: Option<TlsAcceptor>) -> Result<(), String> {
        // Answers are small; waiting to fill a packet would only delay them.
        stream.set_nodelay(true).ok();
        let Some(acceptor) = tls else { return self.serve(stream, Certified(false)).await };
        let handshake = timeout(HANDSHAKE_WAIT_MAX, acceptor.accept(stream)).await;
        let stream = handshake.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let stream = stream.map_err(|error| format!("no TLS handshake: {error}"))?;
        // What is shown was verified: another one ends the handshake.
        let certified = Certified(stream.get_ref().1.peer_certificates().is_some());
        self.serve(stream, certified).await
    }

    async fn serve<S>(self, stream: S, certified: Certified) -> Result<(), String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { builder, router, peer, watcher } = self;
        let inner = TowerToHyperService::new(router);
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            request.extensions_mut().insert(certified);
            inner.call(request)
        });
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        watcher.watch(connection).await.map_err(|error| error.to_string())
    }
}
