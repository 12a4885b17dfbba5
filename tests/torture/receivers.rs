//! Receivers that fail three requests of ten, in every way, until they are told to be well.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    support::{Receiver, Reply},
    tally::{Tally, load},
};

pub(crate) struct Sink {
    pub(crate) receiver: Receiver,
    pub(crate) tally: Arc<Mutex<Tally>>,
}

/// What the sinks are told.
#[derive(Clone)]
pub(crate) struct Mood {
    /// Counts the runs of the gateway.
    pub(crate) run: Arc<AtomicU32>,
    pub(crate) well: Arc<AtomicBool>,
}

impl Sink {
    pub(crate) fn start(mood: &Mood, seed: u64) -> Self {
        let tally = Arc::new(Mutex::new(Tally::default()));
        let dice = Mutex::new(StdRng::seed_from_u64(seed));
        let (noted, mood, well) = (Arc::clone(&tally), mood.clone(), Arc::clone(&mood.well));
        let receiver = Receiver::observed(
            move |_| match well.load(Ordering::SeqCst) {
                true => Reply::ok(),
                false => roll(&mut dice.lock().unwrap()),
            },
            move |exchange| {
                let run = mood.run.load(Ordering::SeqCst);
                noted.lock().unwrap().note(run, exchange, load(exchange));
            },
        );
        Self { receiver, tally }
    }
}

fn roll(dice: &mut StdRng) -> Reply {
    match dice.random_range(0..1000) {
        0..120 => Reply::status(500),
        120..190 => Reply::status(503),
        190..193 => Reply::status(503).with("Retry-After", "1"),
        193..205 => Reply::status(429),
        205..208 => Reply::status(429).with("Retry-After", "1"),
        208..280 => Reply::Reset,
        280..290 => Reply::Broken(b"HTTP/1.1 ".to_vec()),
        290..295 => Reply::Broken(Vec::new()),
        295..300 => Reply::Hang,
        300..320 => Reply::Later(Duration::from_millis(30), Box::new(Reply::ok())),
        _ => Reply::ok(),
    }
}
