//! What one lane's receiver saw, held against the order in which the alerts were posted.
//!
//! Two laws, per key: an alert does not arrive for the first time before every earlier one of its
//! key was taken or refused for good, and is not taken for the first time before that either (a
//! batch that failed may come again in parts). Alerts of one request count as sent together.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

const FAULTS_MAX: usize = 10;

pub(super) struct Book {
    key_of: fn(u64) -> u64,
    /// By key: posted, and neither taken nor refused for good.
    owed: HashMap<u64, BTreeSet<u64>>,
    seen: HashSet<u64>,
    /// By alert: the run of the gateway in which it was taken last.
    taken: HashMap<u64, u32>,
    /// Refused for good, which makes a dead letter.
    pub(super) dead: BTreeSet<u64>,
    /// Counts the runs of the gateway.
    pub(super) run: u32,
    /// Taken again, by the kill that explains it: the end of the run in which it was taken before.
    pub(super) by_kill: BTreeMap<u32, u64>,
    pub(super) faults: Vec<String>,
}

impl Book {
    pub(super) fn new(key_of: fn(u64) -> u64) -> Self {
        Self {
            key_of,
            owed: HashMap::new(),
            seen: HashSet::new(),
            taken: HashMap::new(),
            dead: BTreeSet::new(),
            run: 0,
            by_kill: BTreeMap::new(),
            faults: Vec::new(),
        }
    }

    /// They are posted, or replayed, in this order.
    pub(super) fn owe(&mut self, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            self.owed.entry((self.key_of)(number)).or_default().insert(number);
        }
    }

    /// The dead letters are sent again, which is as if they were new.
    pub(super) fn replay(&mut self) -> usize {
        let dead = std::mem::take(&mut self.dead);
        self.seen.retain(|number| !dead.contains(number));
        self.owe(dead.iter().copied());
        dead.len()
    }

    /// A request has come.
    pub(super) fn arrive(&mut self, members: &[u64]) {
        let mut last_of_key: HashMap<u64, u64> = HashMap::new();
        for number in members {
            let before = last_of_key.insert((self.key_of)(*number), *number);
            if before.is_some_and(|before| before > *number) {
                self.fault(format!("{number} stands behind {before:?} in one request"));
            }
            if self.seen.insert(*number) {
                self.expect_turn("arrived", *number, members);
            }
        }
    }

    pub(super) fn take(&mut self, members: &[u64]) {
        for number in members {
            match self.taken.insert(*number, self.run) {
                None => self.expect_turn("was taken", *number, members),
                Some(before) if before < self.run => {
                    *self.by_kill.entry(before).or_default() += 1;
                }
                Some(_) => self.fault(format!("{number} was taken twice without a kill")),
            }
        }
        members.iter().for_each(|number| self.settle(*number));
    }

    pub(super) fn refuse(&mut self, number: u64) {
        self.expect_turn("was refused", number, &[]);
        self.dead.insert(number);
        self.settle(number);
    }

    fn settle(&mut self, number: u64) {
        if let Some(owed) = self.owed.get_mut(&(self.key_of)(number)) {
            owed.remove(&number);
        }
    }

    fn expect_turn(&mut self, what: &str, number: u64, together: &[u64]) {
        let key = (self.key_of)(number);
        let owed = self.owed.get(&key).into_iter().flatten();
        let earlier = owed.take_while(|earlier| **earlier < number);
        let early = earlier.copied().find(|earlier| !together.contains(earlier));
        if let Some(earlier) = early {
            self.fault(format!("{number} of key {key} {what} before {earlier}, run {}", self.run));
        }
    }

    fn fault(&mut self, what: String) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(what);
        }
    }

    pub(super) fn taken(&self) -> usize {
        self.taken.len()
    }

    /// Of how many different keys the dead are.
    pub(super) fn dead_keys(&self) -> usize {
        self.dead.iter().map(|number| (self.key_of)(*number)).collect::<HashSet<_>>().len()
    }
}

#[test]
fn the_book_finds_what_it_is_for() {
    let mut book = Book::new(|number| number % 2);
    book.owe(0..10);
    book.arrive(&[0, 1]);
    book.arrive(&[3]);
    assert_eq!(book.faults.len(), 1, "1 was not taken yet");
    book.take(&[0, 1]);
    book.arrive(&[2, 4]);
    book.take(&[4]);
    assert_eq!(book.faults.len(), 2, "2 was in the same request, but is not taken");
    book.refuse(2);
    book.arrive(&[6]);
    assert_eq!(book.faults.len(), 2, "2 is dead, 4 taken");
    assert_eq!(book.replay(), 1);
    book.arrive(&[8]);
    assert_eq!(book.faults.len(), 3, "2 is owed again, and so is 6");
    book.arrive(&[5, 3]);
    assert_eq!(book.faults.len(), 4, "a request in the wrong order");
}
