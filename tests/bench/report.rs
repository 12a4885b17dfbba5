//! Collects samples over the runs and prints the medians.

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use crate::measures::{MEASURES, Measure};

pub(crate) struct Report {
    begun: Ticks,
    samples: BTreeMap<&'static str, Vec<f64>>,
    remarks: Vec<String>,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self { begun: Ticks::now(), samples: BTreeMap::new(), remarks: Vec::new() }
    }

    pub(crate) fn add(&mut self, id: &'static str, value: f64) {
        debug_assert!(MEASURES.iter().any(|measure| measure.id == id), "{id} is not in the table");
        eprintln!("  {id}: {}", number(value));
        self.samples.entry(id).or_default().push(value);
    }

    /// What a reader of the table must know; said once.
    pub(crate) fn remark(&mut self, text: String) {
        eprintln!("  {text}");
        if !self.remarks.contains(&text) {
            self.remarks.push(text);
        }
    }

    pub(crate) fn markdown(&self, folder: &Path, runs: u32) -> String {
        let others = Ticks::now().others_percent(&self.begun);
        let mut out = machine(folder);
        // Nothing can fail, here and below: `out` is memory.
        writeln!(out, "Medians of {runs}. Others used {others:.0} % of the processors meanwhile.")
            .ok();
        out.push_str("\n| what | median | lowest–highest | ratio | goal |\n| --- | --- | --- | --- | --- |\n");
        for measure in MEASURES {
            if let Some(samples) = self.samples.get(measure.id) {
                writeln!(out, "{}", self.line(measure, samples)).ok();
            }
        }
        for remark in &self.remarks {
            writeln!(out, "\n{remark}").ok();
        }
        out
    }

    fn line(&self, measure: &Measure, samples: &[f64]) -> String {
        let Measure { what, unit, goal, .. } = measure;
        let value = median(samples);
        let lowest = samples.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = samples.iter().copied().fold(0.0, f64::max);
        let ratios: Vec<String> = measure
            .against
            .iter()
            .filter_map(|id| {
                let other = median(self.samples.get(id)?);
                (other > 0.0).then(|| format!("{:.2} × {id}", value / other))
            })
            .collect();
        format!(
            "| {what} | {} {unit} | {}–{} | {} | {goal} |",
            number(value),
            number(lowest),
            number(highest),
            ratios.join("; ")
        )
    }
}

/// Processor time so far, of everybody and of this program with its children.
struct Ticks {
    all: u64,
    idle: u64,
    own: u64,
}

impl Ticks {
    fn now() -> Self {
        let numbers = |text: &str, from: usize, count: usize| -> Vec<u64> {
            let fields = text.split_whitespace().skip(from).take(count);
            fields.map(|field| field.parse().unwrap_or(0)).collect()
        };
        // user nice system idle iowait irq softirq steal
        let all = numbers(&read("/proc/stat"), 1, 8);
        let stat = read("/proc/self/stat");
        let after_name = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        Self {
            all: all.iter().sum(),
            idle: all.iter().skip(3).take(2).sum(),
            own: numbers(after_name, 11, 4).iter().sum(),
        }
    }

    /// The share of the machine that somebody else had since `begun`.
    fn others_percent(&self, begun: &Self) -> f64 {
        let all = self.all.saturating_sub(begun.all).max(1);
        let ours = self.idle.saturating_sub(begun.idle) + self.own.saturating_sub(begun.own);
        100.0 * all.saturating_sub(ours) as f64 / all as f64
    }
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

/// The value at a share of all, the nearest above.
pub(crate) fn percentile(samples: &mut [f64], share: f64) -> f64 {
    samples.sort_unstable_by(f64::total_cmp);
    let at = (samples.len() as f64 * share).ceil() as usize;
    samples.get(at.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// Whole with thousands, or three figures.
fn number(value: f64) -> String {
    if value < 100.0 && value.fract() != 0.0 {
        let decimals = if value < 1.0 {
            3
        } else if value < 10.0 {
            2
        } else {
            1
        };
        return format!("{value:.decimals$}");
    }
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// What it is made of.
fn machine(folder: &Path) -> String {
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory_kib = field(&read("/proc/meminfo"), "MemTotal");
    let memory_kib = memory_kib.split(' ').next().and_then(|kib| kib.parse::<u64>().ok());
    let mounts = read("/proc/mounts");
    let file_system = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (mount, kind) = (fields.next()?, fields.next()?);
        folder.starts_with(mount).then_some((mount.len(), kind))
    });
    let file_system = file_system.max().map_or("unknown", |(_, kind)| kind);
    format!(
        "{cores} cores ({}), {} GiB of memory, {file_system}, Linux {}.\n",
        field(&read("/proc/cpuinfo"), "model name"),
        memory_kib.unwrap_or(0).div_ceil(1 << 20),
        read("/proc/sys/kernel/osrelease").trim()
    )
}
