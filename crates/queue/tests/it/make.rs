//! What goes into the queue.

use bytes::Bytes;
use holdfast_model::{DeadReason, Name, NewEvent, Seq, Timestamp};
use holdfast_queue::{Append, DeadId, DeadLetter, RetryRecord, Settle, Span, StoredEvent};

/// When the tests take place.
pub(crate) const NOON: Timestamp = Timestamp(1_773_144_000_000);

pub(crate) fn batch(source: &str, now: Timestamp, events: Vec<NewEvent>) -> Append {
    Append {
        source: source.into(),
        received_at: now,
        events,
        rejects: Vec::new(),
        position: None,
        idempotency: None,
        from_source: true,
    }
}

pub(crate) fn alert(number: u64) -> NewEvent {
    NewEvent::alert(format!(r#"{{"rule":{{"id":"{}","level":3}},"n":{number}}}"#, number % 7))
}

/// The number in an alert made by [`alert`].
pub(crate) fn number(body: &[u8]) -> u64 {
    let alert: serde_json::Value = serde_json::from_slice(body).unwrap();
    alert["n"].as_u64().unwrap()
}

/// Bytes that do not compress, the same at every run.
pub(crate) fn noise(bytes: usize, mut seed: u64) -> Bytes {
    let mut noise = Vec::with_capacity(bytes + 8);
    while noise.len() < bytes {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        noise.extend_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
    }
    noise.truncate(bytes);
    noise.into()
}

/// These single events, settled as delivered.
pub(crate) fn delivered(seqs: impl IntoIterator<Item = Seq>) -> Settle {
    let spans: Vec<Span> = seqs.into_iter().map(Span::one).collect();
    Settle { delivered: spans.len() as u64, spans, ..Settle::default() }
}

pub(crate) fn retry(members: Vec<StoredEvent>) -> RetryRecord {
    RetryRecord {
        members,
        due: NOON,
        tries: 1,
        attempts: Vec::new(),
        first_active_ms: 0,
        in_doubt: false,
        job: None,
        slots: holdfast_queue::Slots::NONE,
    }
}

pub(crate) fn dead(event: StoredEvent) -> DeadLetter {
    DeadLetter {
        event,
        reason: DeadReason::Refused,
        died_at: NOON,
        tries: 1,
        attempts: Vec::new(),
        first_active_ms: 0,
        message: String::new(),
        slots: holdfast_queue::Slots::NONE,
    }
}

pub(crate) fn dead_id(owner: &Name, seq: Seq) -> DeadId {
    DeadId { owner: owner.to_string(), seq }
}
