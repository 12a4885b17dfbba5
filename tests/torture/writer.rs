//! analysisd and monitord: alerts through a buffer, rotations, compression.

use std::{
    io,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{layout::Layout, support::alerts};

const TICK: Duration = Duration::from_millis(20);
/// As stdio buffers: whole blocks go out, so a line may be half written.
const BLOCK: usize = 4096;
const ALERTS_A_TICK_MAX: u64 = 10;

/// What was done.
pub(crate) struct Written {
    /// Alerts 0 to this are in the files.
    pub(crate) alerts: u64,
    pub(crate) rotations: u32,
    pub(crate) compressed: u32,
}

/// Writes until it is told to stop; then everything is flushed.
pub(crate) fn write(folder: &Path, seed: u64, stop: &AtomicBool) -> io::Result<Written> {
    let mut dice = StdRng::seed_from_u64(seed);
    let mut layout = Layout::new(folder)?;
    let (mut next, mut buffer) = (0, Vec::new());
    while !stop.load(Ordering::SeqCst) {
        for _ in 0..dice.random_range(0..=ALERTS_A_TICK_MAX) {
            buffer.extend_from_slice(alerts::alert(next).as_bytes());
            buffer.push(b'\n');
            next += 1;
        }
        let whole = buffer.len() / BLOCK * BLOCK;
        layout.write(&buffer[..whole])?;
        buffer.drain(..whole);
        // About once a second, and before every rotation, the rest follows.
        let rotates = dice.random_bool(0.008);
        if rotates || dice.random_bool(0.02) {
            layout.write(&buffer)?;
            buffer.clear();
        }
        if rotates {
            if dice.random_bool(0.5) { layout.next_day()? } else { layout.next_part()? }
        }
        if dice.random_bool(0.01) {
            layout.compress_old()?;
        }
        thread::sleep(TICK);
    }
    layout.write(&buffer)?;
    Ok(Written { alerts: next, rotations: layout.rotations, compressed: layout.compressed })
}
