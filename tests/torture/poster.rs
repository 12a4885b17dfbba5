//! A sender over HTTP that knows what it was promised.

use std::{
    collections::BTreeSet,
    io,
    sync::atomic::{AtomicBool, AtomicU16, Ordering},
    thread,
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::support::{alerts, config::TOKEN, http::Call};

const TICK: Duration = Duration::from_millis(10);
/// So that they are not the file's.
pub(crate) const FIRST: u64 = 1_000_000_000;
const ALERTS_A_POST_MAX: u64 = 10;
const RETRIES_MAX: u32 = 400;

#[derive(Default)]
pub(crate) struct Posted {
    /// 202: they must arrive.
    pub(crate) acknowledged: BTreeSet<u64>,
    /// No answer came: they may.
    pub(crate) unknown: BTreeSet<u64>,
    /// Refused, or never sent: they must not.
    pub(crate) refused: BTreeSet<u64>,
    /// Answers that were those of an earlier try.
    pub(crate) replayed: u64,
}

enum End {
    Acknowledged { replayed: bool },
    Refused,
    Unknown,
}

pub(crate) fn post(port: &AtomicU16, seed: u64, stop: &AtomicBool) -> Posted {
    let mut dice = StdRng::seed_from_u64(seed);
    let mut posted = Posted::default();
    let mut next = FIRST;
    while !stop.load(Ordering::SeqCst) {
        let numbers = next..next + dice.random_range(1..=ALERTS_A_POST_MAX);
        next = numbers.end;
        let key = dice.random_bool(0.5).then(|| format!("post-{}", numbers.start));
        let body = alerts::ndjson(numbers.clone());
        let mut end = once(port, key.as_deref(), &body);
        // With a key it may be sent again until an answer comes, and is taken once.
        for _ in 0..RETRIES_MAX {
            let certain = matches!(end, End::Acknowledged { .. });
            if key.is_none() || certain {
                break;
            }
            thread::sleep(TICK);
            end = match (once(port, key.as_deref(), &body), end) {
                // The first try may have been taken all the same.
                (End::Refused, End::Unknown) => End::Unknown,
                (now, _) => now,
            };
        }
        match end {
            End::Acknowledged { replayed } => {
                posted.replayed += u64::from(replayed);
                posted.acknowledged.extend(numbers);
            }
            End::Refused => posted.refused.extend(numbers),
            End::Unknown => posted.unknown.extend(numbers),
        }
        thread::sleep(TICK);
    }
    posted
}

fn once(port: &AtomicU16, key: Option<&str>, body: &str) -> End {
    let mut call = Call::new(port.load(Ordering::SeqCst), "POST", "/v1/alerts").bearer(TOKEN);
    if let Some(key) = key {
        call = call.header("Idempotency-Key", key);
    }
    match call.ndjson(body).send() {
        Ok(answer) if answer.status == 202 => {
            End::Acknowledged { replayed: answer.header("idempotent-replayed").is_some() }
        }
        // 409: an earlier try with this key is still under way.
        Ok(answer) if answer.status == 409 || answer.status == 500 => End::Unknown,
        Ok(_) => End::Refused,
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => End::Refused,
        Err(_) => End::Unknown,
    }
}
