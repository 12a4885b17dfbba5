//! Cuts the power at chosen points of a journal and has each image checked.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, mpsc},
    thread,
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{disk::Disk, journal::Journal, names::Rule};

/// Dirty pages survive with a probability drawn for each cut from nothing to this.
const KEEP_MAX: f64 = 0.9;

/// One checks while the other starts: the tests are given two cores.
const CHECKERS: usize = 2;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    /// The first record that did not happen.
    pub(crate) at: usize,
    /// The moment of the cut: what was acknowledged before it must be on the disk.
    pub(crate) ns: u64,
    /// Of this cut alone.
    pub(crate) seed: u64,
    pub(crate) keep: f64,
}

pub(crate) struct Plan<'a> {
    pub(crate) journal: &'a Journal,
    pub(crate) rule: Rule,
    pub(crate) writeback: Option<Duration>,
    pub(crate) seed: u64,
}

impl Plan<'_> {
    /// Builds the disk as it is after each cut, in rising order, and hands it to `check`.
    /// The image is removed afterwards. Results come in no particular order.
    pub(crate) fn run<R: Send>(
        &self,
        points: &[usize],
        work: &Path,
        check: impl Fn(&Cut, &Path) -> R + Sync,
    ) -> Vec<(Cut, R)> {
        let mut points = points.to_vec();
        points.sort_unstable();
        let results = Mutex::new(Vec::new());
        let (send, receive) = mpsc::sync_channel::<(Cut, PathBuf)>(1);
        let receive = Mutex::new(receive);
        let (receive, results_ref, check) = (&receive, &results, &check);
        thread::scope(|scope| {
            for _ in 0..CHECKERS {
                scope.spawn(move || {
                    // The lock is released before the check, which takes the time.
                    let next = || receive.lock().expect("no checker panicked").recv();
                    while let Ok((cut, image)) = next() {
                        let result = check(&cut, &image);
                        fs::remove_dir_all(image).expect("remove the image");
                        results_ref.lock().expect("no checker panicked").push((cut, result));
                    }
                });
            }
            let mut disk = Disk::new(self.journal, self.rule, self.writeback);
            for (number, at) in points.into_iter().enumerate() {
                let cut = self.cut(number, at);
                let image = work.join(format!("image-{number}"));
                disk.advance(at);
                let mut dice = StdRng::seed_from_u64(cut.seed);
                disk.image(cut.keep, &mut dice, &image).expect("build the image");
                send.send((cut, image)).expect("checkers wait for cuts");
            }
            drop(send);
        });
        results.into_inner().expect("no checker panicked")
    }

    fn cut(&self, number: usize, at: usize) -> Cut {
        let seed = self.seed.wrapping_add((number as u64) << 32);
        let keep = StdRng::seed_from_u64(!seed).random_range(0.0..KEEP_MAX);
        let ns = self.journal.records.get(at).map_or(u64::MAX, |record| record.ns);
        Cut { at, ns, seed, keep }
    }
}

/// The seed of this run: a new one, or the one that POWERCUT_SEED repeats.
pub(crate) fn seed() -> u64 {
    match std::env::var("POWERCUT_SEED") {
        Ok(given) => given.parse().expect("POWERCUT_SEED is a number"),
        Err(_) => rand::random(),
    }
}

/// `POWERCUT_MODE=strict` asks for the letter of POSIX; the default is what ext4 and XFS do.
pub(crate) fn rule() -> Rule {
    match std::env::var("POWERCUT_MODE").as_deref() {
        Ok("strict") => Rule::Strict,
        Ok("ext4") | Err(_) => Rule::Ordered,
        Ok(other) => panic!("POWERCUT_MODE is `ext4` or `strict`, not `{other}`"),
    }
}
