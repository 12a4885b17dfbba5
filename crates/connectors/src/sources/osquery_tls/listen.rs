//! The listener: TLS connections with limits, new certificates under running ones, an orderly end.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{Router, extract::Request};
use holdfast_model::Chain;
use hyper::{body::Incoming, server::conn::http1, service::Service};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{answers::Door, settings::Options};

/// Connections at once; further ones wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 1024;
/// Longest wait for a handshake, and for a request's headers.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Longest wait for requests that are under way when the source stops.
const DRAIN_WAIT_MAX: Duration = Duration::from_secs(5);
/// How often certificate and secret are read anew.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Where a request comes from; in its extensions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

/// Serves until `stop`, then finishes what is under way.
pub(super) async fn serve(
    listener: TcpListener,
    door: Arc<Door>,
    options: &Arc<Options>,
    stop: CancellationToken,
) {
    let mut tls = loop {
        if let Some(tls) = load(options).await {
            break tls;
        }
        door.health.set_trouble("the certificates cannot be used");
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(super::AGAIN) => {}
        }
    };
    door.health.clear_trouble();
    let router = super::answers::router(Arc::clone(&door));
    let graceful = GracefulShutdown::new();
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        let accepted = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            () = stop.cancelled() => break,
            _ = ticks.tick() => {
                if let Some(new) = load(options).await {
                    tls = new;
                }
                continue;
            }
            accepted = accepted => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, mostly: wait, so that some can close.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (router, watcher) = (router.clone(), graceful.watcher());
        let (acceptor, peer) =
            (TlsAcceptor::from(Arc::clone(&tls)), Peer(address.ip().to_canonical()));
        tokio::spawn(async move {
            if let Err(error) = connection(stream, acceptor, router, peer, watcher).await {
                tracing::debug!(error, peer = %peer.0, "a connection ended early");
            }
            drop(permit);
        });
    }
    drop(listener);
    if timeout(DRAIN_WAIT_MAX, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests of osqueryd were still under way when the source stopped");
    }
}

/// Reads certificate and secret anew; what does not work is told and changes nothing.
async fn load(options: &Arc<Options>) -> Option<Arc<ServerConfig>> {
    let options = Arc::clone(options);
    let read = move || {
        if let Err(error) = options.enroll_secret.refresh() {
            tracing::error!(error = %Chain(&error), "the enroll secret cannot be read; the old one stays");
        }
        let loaded = options.tls.load();
        loaded
            .inspect_err(|error| {
                tracing::error!(error = %Chain(error), "the certificates cannot be used");
            })
            .ok()
    };
    tokio::task::spawn_blocking(read).await.ok().flatten()
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    router: Router,
    peer: Peer,
    watcher: Watcher,
) -> Result<(), String> {
    stream.set_nodelay(true).ok();
    let shaken = timeout(WAIT_MAX, acceptor.accept(stream)).await;
    let stream = shaken.map_err(|_| "no handshake in time".to_owned())?;
    let stream = stream.map_err(|error| format!("no TLS handshake: {error}"))?;
    let inner = TowerToHyperService::new(router);
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        inner.call(request)
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(WAIT_MAX);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    watcher.watch(connection).await.map_err(|error| error.to_string())
}
