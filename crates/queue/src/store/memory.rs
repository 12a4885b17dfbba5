//! A store in memory for tests: it can lose power and fail on purpose.
//!
//! What was applied but not synced is lost at [`MemoryStore::crash`], but for as many of the oldest
//! batches as the test says: a real disk may have written any number of them on its own.

use std::{
    collections::BTreeMap,
    ops::{Bound, ControlFlow},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use super::{BATCH_WRITES_MAX, Space, Store, StoreError, Visit, Write};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Debug, Default)]
struct Content {
    applied: Map,
    durable: Map,
    unsynced: Vec<Vec<Write>>,
}

/// See the module header.
#[derive(Debug)]
pub struct MemoryStore {
    content: Mutex<Content>,
    pub fail_apply: AtomicBool,
    /// So many batches are applied before it fails.
    pub applies_left: AtomicU64,
    pub fail_sync: AtomicBool,
    free: AtomicU64,
    reserve: AtomicU64,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self {
            content: Mutex::default(),
            fail_apply: AtomicBool::new(false),
            applies_left: AtomicU64::new(u64::MAX),
            fail_sync: AtomicBool::new(false),
            free: AtomicU64::new(u64::MAX / 2),
            reserve: AtomicU64::new(0),
        }
    }
}

impl MemoryStore {
    /// The store after a power cut: everything synced, and the first `kept` batches that were not.
    pub fn crash(&self, kept: usize) -> Self {
        let content = self.lock();
        let mut durable = content.durable.clone();
        for batch in content.unsynced.iter().take(kept) {
            apply(&mut durable, batch);
        }
        let content = Content { applied: durable.clone(), durable, unsynced: Vec::new() };
        Self { content: Mutex::new(content), ..Self::default() }
    }

    /// How many batches are applied and not synced.
    pub fn unsynced(&self) -> usize {
        self.lock().unsynced.len()
    }

    /// Pretends that the disk has so much room.
    pub fn set_space(&self, free: u64, reserve: u64) {
        self.free.store(free, Ordering::SeqCst);
        self.reserve.store(reserve, Ordering::SeqCst);
    }

    /// Changes a stored value behind the engine's back.
    pub fn damage(&self, prefix: &[u8], change: impl Fn(&mut Vec<u8>)) -> usize {
        let mut content = self.lock();
        let mut changed = 0;
        for (key, value) in &mut content.applied {
            if key.starts_with(prefix) {
                change(value);
                changed += 1;
            }
        }
        content.durable = content.applied.clone();
        changed
    }

    /// Removes a stored value behind the engine's back.
    pub fn remove(&self, key: &[u8]) -> bool {
        let mut content = self.lock();
        let removed = content.applied.remove(key).is_some();
        content.durable = content.applied.clone();
        removed
    }

    /// A stored value, as it lies there.
    pub fn value(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.lock().applied.get(key).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn apply(map: &mut Map, batch: &[Write]) {
    for write in batch {
        match write {
            Write::Put(key, value) => map.insert(key.clone(), value.clone()),
            Write::Remove(key) => map.remove(key),
        };
    }
}

impl Store for MemoryStore {
    fn apply(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        assert!(writes.len() <= BATCH_WRITES_MAX, "{} writes in one batch", writes.len());
        let left = self.applies_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            if left == u64::MAX { Some(left) } else { left.checked_sub(1) }
        });
        if self.fail_apply.load(Ordering::SeqCst) || left.is_err() {
            return Err("an injected write error".into());
        }
        let mut content = self.lock();
        apply(&mut content.applied, &writes);
        content.unsynced.push(writes);
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        if self.fail_sync.load(Ordering::SeqCst) {
            return Err("an injected sync error".into());
        }
        let mut content = self.lock();
        content.durable = content.applied.clone();
        content.unsynced.clear();
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.lock().applied.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        let content = self.lock();
        let range = (Bound::Included(from), Bound::Excluded(to));
        for (key, value) in content.applied.range::<[u8], _>(range) {
            if let ControlFlow::Break(()) = visit(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn last_at(&self, floor: &[u8], key: &[u8]) -> Result<Option<(Vec<u8>, Vec<u8>)>, StoreError> {
        let content = self.lock();
        let range = (Bound::Included(floor), Bound::Included(key));
        let last = content.applied.range::<[u8], _>(range).next_back();
        Ok(last.map(|(key, value)| (key.clone(), value.clone())))
    }

    fn space(&self) -> Space {
        Space {
            free: self.free.load(Ordering::SeqCst),
            reserve: self.reserve.load(Ordering::SeqCst),
        }
    }

    fn give_up_reserve(&self) {
        let reserve = self.reserve.swap(0, Ordering::SeqCst);
        self.free.fetch_add(reserve, Ordering::SeqCst);
    }

    fn restore_reserve(&self) {}
}
