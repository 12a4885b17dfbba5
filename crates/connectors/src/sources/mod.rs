//! Everything that brings events in.
//!
//! One file (or folder) per source. To add one: write `name.rs` with a `KIND`, then add its `mod`
//! and its line in [`CATALOG`]. The configuration, its reference and the tidy test read the
//! catalogue. (`http` is always there and lives in the gateway, which owns the listener.)

mod alerts_file;
mod json_file;
mod osquery_tls;
mod wrap;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use holdfast_model::{
    Intake, Name,
    settings::{Section, Setting},
};
use tokio_util::sync::CancellationToken;

/// Every type of source, in the order users see them.
#[rustfmt::skip]
pub const CATALOG: &[Kind] = &[
    alerts_file::KIND,
    json_file::KIND,
    osquery_tls::KIND,
];

/// What the gateway knows about a type of source before one is configured.
pub struct Kind {
    /// The `type` written in the configuration, and the file's name here.
    pub name: &'static str,
    /// One line for the reference.
    pub summary: &'static str,
    pub settings: &'static [&'static Setting],
    /// Reads the section, reports its faults, and builds the source if there are none.
    pub build: fn(&Section<'_>, &Name) -> Option<Box<dyn Source>>,
}

/// Something that brings events in.
#[async_trait]
pub trait Source: Send {
    /// What its stored position is kept under: type and path, so that a rename continues.
    fn position_key(&self) -> String;

    /// Brings events in until `stop`. Never returns because of a fault of the outside world: it
    /// says so in `health` and tries again. Returns early only when the intake has failed for good.
    async fn run(
        self: Box<Self>,
        intake: Arc<dyn Intake>,
        health: Arc<SourceHealth>,
        stop: CancellationToken,
    );
}

/// What a source says about itself; read by `/readyz`, `/metrics` and `status`.
#[derive(Debug, Default)]
pub struct SourceHealth {
    /// Why nothing comes in just now; `None` while all is well.
    trouble: Mutex<Option<String>>,
    /// How far into the current file it has read.
    pub position_bytes: AtomicU64,
    /// How much of the current file it has not read.
    pub unread_bytes: AtomicU64,
    /// When it last read something, in milliseconds since 1970; 0: never.
    pub last_read_ms: AtomicU64,
    /// How many requests a source with a listener of its own has refused in this run.
    pub refused: AtomicU64,
}

impl SourceHealth {
    pub fn set_trouble(&self, trouble: impl Into<String>) {
        *self.lock() = Some(trouble.into());
    }

    pub fn clear_trouble(&self) {
        *self.lock() = None;
    }

    pub fn trouble(&self) -> Option<String> {
        self.lock().clone()
    }

    pub fn read_at(&self, now_ms: u64, position_bytes: u64, unread_bytes: u64) {
        self.last_read_ms.store(now_ms, Ordering::Relaxed);
        self.position_bytes.store(position_bytes, Ordering::Relaxed);
        self.unread_bytes.store(unread_bytes, Ordering::Relaxed);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
