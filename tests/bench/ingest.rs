//! `POST /v1/alerts`: acknowledged, so durable, alerts a second.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
};

use crate::{
    Bench, Result,
    clock::{now_ns, seconds_since},
    gateway::{Gateway, TOKEN},
    http::{self, Client},
};

/// Different bodies, made before the clock starts and sent in turn.
const BODIES: u64 = 200;
const IN_BATCHES: u64 = 400_000;
const SINGLES: u64 = 30_000;

pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    for (id, cpu, connections, per_post, alerts) in [
        ("ingest-4", "ingest-4-cpu", 4, 500, IN_BATCHES),
        ("ingest-8", "ingest-8-cpu", 8, 500, IN_BATCHES),
        ("ingest-one", "ingest-one-cpu", 32, 1, SINGLES),
    ] {
        let (rate, us) = load(bench, connections, per_post, alerts)?;
        bench.report.add(id, rate);
        bench.report.add(cpu, us);
    }
    Ok(())
}

/// Alerts a second, and the gateway's microseconds an alert.
fn load(bench: &Bench, connections: usize, per_post: u64, alerts: u64) -> Result<(f64, f64)> {
    let room = bench.room()?;
    let gateway = Gateway::start(room.path(), "")?;
    let port = gateway.port;
    let requests: Vec<Vec<u8>> = (0..BODIES)
        .map(|body| {
            let mut ndjson = Vec::new();
            for number in body * per_post..(body + 1) * per_post {
                bench.alerts.write(number, &mut ndjson);
            }
            http::post(port, TOKEN, &ndjson)
        })
        .collect();
    let (posts, next) = ((alerts / per_post) as usize, AtomicUsize::new(0));
    let begun = now_ns();
    thread::scope(|scope| {
        let send = || -> std::result::Result<(), String> {
            let mut client = Client::connect(port).map_err(|error| error.to_string())?;
            loop {
                let post = next.fetch_add(1, Relaxed);
                if post >= posts {
                    return Ok(());
                }
                let request = &requests[post % requests.len()];
                let (status, body) = client.call(request).map_err(|error| error.to_string())?;
                if status != 202 {
                    return Err(format!("{status}: {}", String::from_utf8_lossy(body)));
                }
            }
        };
        let senders: Vec<_> = (0..connections).map(|_| scope.spawn(send)).collect();
        senders.into_iter().try_for_each(|sender| {
            sender.join().unwrap_or_else(|_| Err("a sender panicked".to_owned()))
        })
    })?;
    let seconds = seconds_since(begun);
    let us = gateway.process.cpu_us_per(alerts)?;
    gateway.process.stop()?;
    Ok((alerts as f64 / seconds, us))
}
