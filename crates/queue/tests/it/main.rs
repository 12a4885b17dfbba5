//! The promises of the queue as tests: each has the promise as its name, and runs against every
//! store. What only a store in memory can do (lose power between two batches, fail on purpose,
//! damage its bytes) is tested on that alone.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

mod adopt;
mod answers;
mod append;
mod bed;
mod beside;
mod consumers;
mod crash;
mod damage;
mod dead;
mod disk;
mod express;
mod failure;
mod jobs;
mod keys;
mod lanes;
mod large;
mod make;
mod merge;
mod model;
mod open;
mod race;
mod read;
mod settle;
mod trace;
mod transfer;
mod trim;

/// Runs promises against every store, one test each.
macro_rules! promises {
    ($($promise:ident),+ $(,)?) => {
        mod in_memory {
            $(
                #[tokio::test]
                async fn $promise() {
                    super::$promise($crate::bed::Bed::memory()).await;
                }
            )+
        }

        mod on_disk {
            $(
                #[tokio::test]
                async fn $promise() {
                    super::$promise($crate::bed::Bed::sled()).await;
                }
            )+
        }
    };
}
pub(crate) use promises;
