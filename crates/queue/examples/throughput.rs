//! What the queue does on this machine: `cargo run --release -p holdfast-queue --example throughput`.
//!
//! Appends; a backlog of a million alerts, reading it, settling it, opening it. The first argument
//! is the directory to work in (default: a temporary one), the second the backlog, the third a part
//! alone, because memory is only comparable in a process of its own.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on should stop")]
#![allow(clippy::print_stdout, reason = "its results")]

use std::{fs, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use holdfast_model::{Name, NewEvent, Timestamp};
use holdfast_queue::{Append, Engine, Limits, QueueEngine, ReadLimit, Settle, Span, Start};
use tokio::time::Instant;

const BATCH: u64 = 500;
const NOW: Timestamp = Timestamp(1_773_144_000_000);

/// As the gateway does: glibc's malloc keeps what a burst needed.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An alert as Wazuh 4 writes them for a failed SSH login, about 1.1 KB, with the fields that vary.
fn alert(n: u64) -> NewEvent {
    // So that neighbours differ in more than a counter.
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (n >> 3);
    let (agent, port, pid) = (mixed % 400, 1_024 + mixed % 60_000, mixed % 4_194_304);
    let ip = format!(
        "{}.{}.{}.{}",
        mixed % 223,
        (mixed >> 8) % 256,
        (mixed >> 16) % 256,
        (mixed >> 24) % 256
    );
    let user = ["root", "admin", "oracle", "ubuntu", "postgres", "test", "deploy"]
        [(mixed >> 32) as usize % 7];
    let (level, rule) =
        [(5, 5710), (5, 5503), (10, 5763), (3, 5501), (10, 2502)][(mixed >> 40) as usize % 5];
    let (minute, second, milli) = (n / 60_000 % 60, n / 1_000 % 60, n % 1_000);
    let time = format!("2026-03-10T12:{minute:02}:{second:02}.{milli:03}+0000");
    let log = format!(
        "Mar 10 12:{minute:02}:{second:02} web-{agent:03} sshd[{pid}]: Failed password for invalid user {user} from {ip} port {port} ssh2"
    );
    NewEvent::alert(format!(
        r#"{{"timestamp":"{time}","rule":{{"level":{level},"description":"sshd: Attempt to login using a non-existent user","id":"{rule}","mitre":{{"id":["T1110.001","T1021.004","T1078"],"tactic":["Credential Access","Lateral Movement","Defense Evasion","Persistence","Privilege Escalation","Initial Access"],"technique":["Password Guessing","SSH","Valid Accounts"]}},"firedtimes":{},"mail":false,"groups":["syslog","sshd","authentication_failed","invalid_login"],"gdpr":["IV_35.7.d","IV_32.2"],"gpg13":["7.1"],"hipaa":["164.312.b"],"nist_800_53":["AU.14","AC.7","AU.6"],"pci_dss":["10.2.4","10.2.5","10.6.1"],"tsc":["CC6.1","CC6.8","CC7.2","CC7.3"]}},"agent":{{"id":"{agent:03}","name":"web-{agent:03}.example.internal","ip":"10.20.{}.{}"}},"manager":{{"name":"mgr-1"}},"id":"{}.{}","full_log":"{log}","predecoder":{{"program_name":"sshd","timestamp":"Mar 10 12:{minute:02}:{second:02}","hostname":"web-{agent:03}"}},"decoder":{{"parent":"sshd","name":"sshd"}},"data":{{"srcip":"{ip}","srcport":"{port}","srcuser":"{user}"}},"location":"/var/log/auth.log"}}"#,
        n % 97,
        agent / 256,
        agent % 256,
        1_773_144_000 + n / 1_000,
        mixed % 100_000_000,
    ))
}

fn batch(events: Vec<NewEvent>) -> Append {
    Append {
        source: "wazuh".into(),
        received_at: NOW,
        events,
        rejects: Vec::new(),
        position: Some(("wazuh".into(), Bytes::from_static(b"offset"))),
        idempotency: None,
        from_source: true,
    }
}

fn open(folder: &Path) -> Engine {
    let limits = Limits {
        bytes_max: 20 << 30,
        retention: Duration::from_secs(24 * 3_600),
        dead_age_max: Duration::from_secs(90 * 24 * 3_600),
        idempotency_window: Duration::from_secs(24 * 3_600),
        idempotency_keys_max: 1_000_000,
    };
    Engine::open(folder, limits, 0, NOW).unwrap()
}

/// Resident and highest resident memory, in MiB.
fn memory() -> (u64, u64) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or(0) / 1_024
    };
    (field("VmRSS:"), field("VmHWM:"))
}

fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => folder_bytes(&entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

fn rate(what: &str, count: u64, since: Instant) {
    let seconds = since.elapsed().as_secs_f64();
    println!("{what:<44} {:>10.0}/s  ({count} in {seconds:.2} s)", count as f64 / seconds);
}

fn resident(when: &str) {
    let (now, most) = memory();
    println!("{when:<44} {now:>7} MiB  (at most {most})");
}

/// Several writers, each waiting for its own commit before the next.
async fn append_with(engine: &Engine, writers: u64, per_append: u64, total: u64) -> u64 {
    let writer = |writer: u64| async move {
        let mut bytes = 0;
        for round in 0..total / per_append / writers {
            let first = (round * writers + writer) * per_append;
            let events: Vec<_> = (first..first + per_append).map(alert).collect();
            bytes += events.iter().map(|event| event.body.len() as u64).sum::<u64>();
            engine.append(batch(events)).await.unwrap();
        }
        bytes
    };
    join_all((0..writers).map(writer)).await.into_iter().sum()
}

/// The same with alerts made beforehand and over again, so that only the queue is measured.
async fn append_ready(engine: &Engine, writers: u64, total: u64) {
    let events: Vec<NewEvent> = (0..64 * BATCH).map(alert).collect();
    let batches: Vec<&[NewEvent]> = events.chunks(BATCH as usize).collect();
    let batches = &batches;
    let begun = Instant::now();
    let writer = |writer: u64| async move {
        for round in 0..total / BATCH / writers {
            let events = batches[(round * writers + writer) as usize % batches.len()].to_vec();
            engine.append(batch(events)).await.unwrap();
        }
    };
    join_all((0..writers).map(writer)).await;
    rate(&format!("append, batches of {BATCH}, {writers} writer(s)"), total, begun);
}

async fn appends(folder: &Path) {
    let engine = Arc::new(open(folder));
    for writers in [1, 2, 4] {
        append_ready(&engine, writers, 200_000).await;
    }
    for (writers, total) in [(1, 3_000), (8, 20_000), (64, 60_000)] {
        let begun = Instant::now();
        append_with(&engine, writers, 1, total).await;
        rate(&format!("append, single alerts, {writers} writer(s)"), total, begun);
    }
    let begun = Instant::now();
    engine.upkeep(NOW).await.unwrap();
    println!("{:<44} {:>10.2} s", "one round of upkeep behind them", begun.elapsed().as_secs_f64());
    let mut times: Vec<u64> = engine.commits().take_recent().iter().map(|(us, _)| *us).collect();
    times.sort_unstable();
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or(0);
    println!("{:<44} {:>7} / {} / {} us", "sync, p50 / p90 / p99", at(50), at(90), at(99));
    engine.close().await.unwrap();
}

async fn read_all(engine: &Engine, events_max: usize) -> u64 {
    let head = *engine.head().borrow();
    let (mut from, mut count) = (1, 0);
    while from < head {
        let page = engine.read(from, ReadLimit { events_max, bytes_max: 4 << 20 }).await.unwrap();
        count += page.events.len() as u64;
        from = page.next;
    }
    count
}

async fn settle_all(engine: &Engine, lane: &Name, total: u64, step: u64) {
    let begun = Instant::now();
    for from in (1..=total).step_by(step as usize) {
        let to = (from + step).min(total + 1);
        let spans = vec![Span { from, to, count: to - from }];
        let item = Settle { spans, delivered: to - from, ..Settle::default() };
        engine.settle(lane, vec![item]).await.unwrap();
    }
    rate(&format!("settle, {step} at a time, each awaited"), total, begun);
}

async fn backlog(folder: &Path, total: u64) {
    let engine = open(folder);
    let lanes = ["a", "b"].map(|name| Name::new(name).unwrap());
    for lane in &lanes {
        engine.open_lane(lane, Start::All).await.unwrap();
    }
    resident("resident without a backlog");
    let bytes = append_with(&engine, 2, BATCH, total).await;
    println!("backlog: {total} alerts of {} bytes", bytes / total);
    resident("resident with the backlog");
    let live = engine.stats().bytes_live;
    println!("{:<44} {:>10.3}", "live bytes per alert byte", live as f64 / bytes as f64);
    let disk = folder_bytes(folder);
    println!("{:<44} {:>10.3}", "bytes on disk per alert byte", disk as f64 / bytes as f64);
    engine.close().await.unwrap();
    drop(engine);

    let begun = Instant::now();
    let engine = open(folder);
    println!("{:<44} {:>10.2} s", "open with the backlog", begun.elapsed().as_secs_f64());
    resident("resident after opening");
    for events_max in [500, 64] {
        let begun = Instant::now();
        let count = read_all(&engine, events_max).await;
        rate(&format!("read, pages of {events_max}"), count, begun);
    }
    resident("resident after reading");
    settle_all(&engine, &lanes[0], total, BATCH).await;
    settle_all(&engine, &lanes[1], total, 10 * BATCH).await;
    resident("resident after settling");
    let begun = Instant::now();
    let later = Timestamp(NOW.0 + 48 * 3_600_000);
    while engine.stats().events_in_log > 0 {
        engine.upkeep(later).await.unwrap();
    }
    rate("trim", total, begun);
    resident("resident at the end");
    engine.close().await.unwrap();
}

fn main() {
    // mimalloc asks for huge pages, and every one of them that is touched counts whole.
    rustix::thread::disable_transparent_huge_pages(true).unwrap();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let temporary = tempfile::tempdir().unwrap();
    let folder = arguments.first().map_or(temporary.path().to_owned(), Into::into);
    let total = arguments.get(1).and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match arguments.get(2).map(String::as_str) {
        Some("appends") => runtime.block_on(appends(&folder)),
        Some("backlog") => runtime.block_on(backlog(&folder, total)),
        _ => {
            for part in ["appends", "backlog"] {
                let mut command = std::process::Command::new(std::env::current_exe().unwrap());
                let folder = folder.join(part);
                command.arg(folder).arg(total.to_string()).arg(part).status().unwrap();
            }
        }
    }
}
