//! Blocking work on one thing, one piece at a time, with a time limit.
//!
//! Promises: work that hangs (a network file system, a pipe nobody reads) holds one thread of the
//! blocking pool and no more, however often it is tried again, so other lanes keep theirs.
//! Does not promise that work stops when its time is up: it may still succeed, and whoever asked
//! for it is in doubt.

use std::{sync::Arc, time::Duration};

use holdfast_model::{DeliveryError, Reason};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout_at},
};

#[derive(Debug)]
pub(crate) struct Serial<T> {
    held: Arc<Mutex<T>>,
}

impl<T: Send + 'static> Serial<T> {
    pub(crate) fn new(held: T) -> Self {
        Self { held: Arc::new(Mutex::new(held)) }
    }

    /// Runs `work` on the blocking pool once it is its turn.
    ///
    /// # Errors
    ///
    /// Its own; `Connect` when its turn did not come in time, so that it was not begun; `InDoubt`
    /// when it was begun and has not ended in time.
    pub(crate) async fn run<R: Send + 'static>(
        &self,
        timeout: Duration,
        work: impl FnOnce(&mut T) -> Result<R, DeliveryError> + Send + 'static,
    ) -> Result<R, DeliveryError> {
        let deadline = Instant::now() + timeout;
        let turn = timeout_at(deadline, Arc::clone(&self.held).lock_owned()).await;
        let mut held = turn.map_err(|late| DeliveryError::caused_by(Reason::Connect, late))?;
        let task = tokio::task::spawn_blocking(move || work(&mut held));
        match timeout_at(deadline, task).await {
            Ok(Ok(done)) => done,
            Ok(Err(panicked)) => Err(DeliveryError::caused_by(Reason::InDoubt, panicked)),
            Err(late) => Err(DeliveryError::caused_by(Reason::InDoubt, late)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn work_that_hangs_is_in_doubt_and_the_next_is_not_begun() {
        let serial = Serial::new(0);
        let (release, hold) = mpsc::channel::<()>();
        let short = Duration::from_millis(50);
        let hung = serial.run(short, move |_| {
            // Until the other end is dropped.
            assert!(hold.recv().is_err());
            Ok(())
        });
        assert_eq!(hung.await.unwrap_err().reason, Reason::InDoubt);
        let next = serial.run(short, |_| -> Result<(), _> { panic!("begun") }).await;
        assert_eq!(next.unwrap_err().reason, Reason::Connect);
        drop(release);
        let long = Duration::from_secs(30);
        assert_eq!(serial.run(long, |n| Ok(*n)).await.unwrap(), 0, "it goes on afterwards");
    }
}
