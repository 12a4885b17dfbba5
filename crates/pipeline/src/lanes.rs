//! The lanes that run just now: a set that a reload changes while others read it.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use holdfast_model::Name;

use crate::lane::LaneHandle;

/// Shared by everybody who speaks to lanes. A handle that was taken from it may have stopped
/// meanwhile, which its calls then say.
#[derive(Clone, Debug, Default)]
pub struct Lanes(Arc<RwLock<BTreeMap<Name, LaneHandle>>>);

impl Lanes {
    pub fn get(&self, name: &Name) -> Option<LaneHandle> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub fn contains(&self, name: &Name) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains_key(name)
    }

    pub fn all(&self) -> Vec<(Name, LaneHandle)> {
        let lanes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        lanes.iter().map(|(name, lane)| (name.clone(), lane.clone())).collect()
    }

    /// In place of the one of this name, if there is one.
    pub fn insert(&self, name: Name, lane: LaneHandle) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(name, lane);
    }

    pub fn remove(&self, name: &Name) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

impl From<BTreeMap<Name, LaneHandle>> for Lanes {
    fn from(lanes: BTreeMap<Name, LaneHandle>) -> Self {
        Self(Arc::new(RwLock::new(lanes)))
    }
}
