//! What the engine needs of a key-value store, and the stores that offer it.

pub mod memory;
mod real_sync;
pub mod sled;

use std::ops::ControlFlow;

/// One change in an atomic batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    Put(Vec<u8>, Vec<u8>),
    Remove(Vec<u8>),
}

impl Write {
    pub fn key(&self) -> &[u8] {
        match self {
            Self::Put(key, _) | Self::Remove(key) => key,
        }
    }

    /// Key and value.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Put(key, value) => key.len() + value.len(),
            Self::Remove(key) => key.len(),
        }
    }
}

/// Most writes in one atomic batch: sled's memory follows this number (DESIGN 5).
pub const BATCH_WRITES_MAX: usize = 128;

/// Where the store's directory stands with the disk, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    pub free: u64,
    /// What deleting the reserve file would give; 0 once it is given up.
    pub reserve: u64,
}

pub type StoreError = Box<dyn std::error::Error + Send + Sync>;

/// Called with key and value; says whether to go on.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// An ordered key-value store with atomic batches and real syncs.
///
/// One thread writes; any thread reads. A read sees every applied batch, synced or not.
pub trait Store: Send + Sync + 'static {
    /// Applies at most [`BATCH_WRITES_MAX`] writes, all or none. Batches survive a crash in order:
    /// if one does, so do all before it.
    fn apply(&self, writes: Vec<Write>) -> Result<(), StoreError>;

    /// Returns once everything applied before is on stable storage. After an error nothing more
    /// may be promised: the page cache may have been marked clean.
    fn sync(&self) -> Result<(), StoreError>;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Visits the keys of `from..to` in order.
    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StoreError>;

    /// The last entry whose key is at most `key` and at least `floor`.
    #[allow(clippy::type_complexity, reason = "a pair of key and value needs no name")]
    fn last_at(&self, floor: &[u8], key: &[u8]) -> Result<Option<(Vec<u8>, Vec<u8>)>, StoreError>;

    fn space(&self) -> Space;

    /// Gives the reserve file's room to the store.
    fn give_up_reserve(&self);

    /// Takes the reserve back, when the disk has plenty of room again.
    fn restore_reserve(&self);
}
