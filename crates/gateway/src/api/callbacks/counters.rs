//! What is counted of callbacks. Labels are destinations that take some, and closed sets of words;
//! what names no such destination is counted as `unknown`.

use std::sync::{Arc, Mutex, PoisonError};

use holdfast_pipeline::Lanes;
use prometheus::{IntCounterVec, Opts, Registry};

/// Stands for every name that takes no callbacks.
pub(super) const UNKNOWN: &str = "unknown";

const OUTCOMES: [&str; 4] = ["stored", "unmatched", "repeat", "ignored"];
const REFUSALS: [&str; 7] =
    ["signature", "stale", "malformed", "too_large", "timeout", "rate_limited", "not_stored"];
const REQUESTS: [&str; 6] = ["authorized", "operator", "late", "unlinked", "gone", "repeat"];

#[derive(Clone, Debug)]
pub(crate) struct Counters {
    callbacks: IntCounterVec,
    refused: IntCounterVec,
    requests: IntCounterVec,
    /// Destinations whose counters exist.
    known: Arc<Mutex<Vec<String>>>,
}

impl Counters {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let make = |name: &str, help: &str, label: &str| {
            let opts = Opts::new(format!("holdfast_{name}"), help);
            let counters = IntCounterVec::new(opts, &["destination", label])?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let counters = Self {
            callbacks: make(
                "callbacks_total",
                "What verified callbacks told of, by what became of it.",
                "outcome",
            )?,
            refused: make(
                "callbacks_refused_total",
                "Requests to /v1/callbacks/ that were not taken.",
                "reason",
            )?,
            requests: make(
                "callback_actions_total",
                "Actions that callbacks asked for, by what became of the wish.",
                "outcome",
            )?,
            known: Arc::default(),
        };
        for reason in REFUSALS {
            counters.refused(UNKNOWN, reason, 0);
        }
        Ok(counters)
    }

    /// Makes every combination of the destinations exist that take callbacks now.
    pub(crate) fn exist(&self, lanes: &Lanes) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, lane) in lanes.all() {
            let takes = lane.config().destination.callbacks().is_some();
            if !takes || known.iter().any(|known| known == name.as_str()) {
                continue;
            }
            for outcome in OUTCOMES {
                self.heard(name.as_str(), outcome, 0);
            }
            for reason in REFUSALS {
                self.refused(name.as_str(), reason, 0);
            }
            for outcome in REQUESTS {
                self.request(name.as_str(), outcome, 0);
            }
            known.push(name.to_string());
        }
    }

    pub(super) fn heard(&self, destination: &str, outcome: &str, count: u64) {
        self.callbacks.with_label_values(&[destination, outcome]).inc_by(count);
    }

    pub(super) fn refused(&self, destination: &str, reason: &str, count: u64) {
        self.refused.with_label_values(&[destination, reason]).inc_by(count);
    }

    pub(super) fn request(&self, destination: &str, outcome: &str, count: u64) {
        self.requests.with_label_values(&[destination, outcome]).inc_by(count);
    }
}
