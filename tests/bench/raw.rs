//! The machine's own limit: a file that grows, made durable as often as the alerts are acknowledged.

use std::{fs::File, io::Write};

use crate::{
    Bench, Result,
    clock::{now_ns, seconds_since},
};

const GROUPS: u64 = 2000;
const SINGLES: u64 = 3000;

pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let grouped = append(bench, GROUPS, 256)?;
    bench.report.add("raw-256", grouped);
    let single = append(bench, SINGLES, 1)?;
    bench.report.add("raw-1", single);
    Ok(())
}

/// Alerts a second.
fn append(bench: &Bench, syncs: u64, alerts_per_sync: u64) -> Result<f64> {
    let mut block = Vec::new();
    let mut ends = Vec::new();
    // Enough different ones; making them is not part of the limit.
    for number in 0..alerts_per_sync * 64 {
        bench.alerts.write(number, &mut block);
        if (number + 1) % alerts_per_sync == 0 {
            ends.push(block.len());
        }
    }
    let room = bench.room()?;
    let mut file = File::create(room.path().join("raw"))?;
    let begun = now_ns();
    for group in 0..syncs as usize {
        let at = group % ends.len();
        let start = if at == 0 { 0 } else { ends[at - 1] };
        file.write_all(&block[start..ends[at]])?;
        file.sync_data()?;
    }
    Ok((syncs * alerts_per_sync) as f64 / seconds_since(begun))
}
