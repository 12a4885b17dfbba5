//! Second thoughts about events: those that were refused for nothing go back to pending, and a 403
//! that another event decided becomes a dead letter.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;
use holdfast_model::{DeadReason, DeliveryError, Reason, Seq};
use holdfast_queue::{DEAD_STEP_MAX, DeadId, QueueError, Settle};
use tokio::time::timeout;

use crate::lane::{records, run::Lane};

/// What the check call said; `None`: nothing.
pub(super) type CheckAnswer = Option<Result<(), DeliveryError>>;

impl Lane {
    /// While a 403 is undecided and there is no other event to decide it with, the destination is
    /// asked, where it has a call for it. When it has none, the suspect itself is tried again by
    /// the schedule, until another event comes.
    pub(super) fn ask_about_suspects(&mut self) {
        let alone = !self.health.suspects.is_empty() && !self.has_other_than_suspects();
        if alone && self.checking.is_none() && !std::mem::replace(&mut self.check_asked, true) {
            let destination = Arc::clone(&self.config.destination);
            let patience = self.config.settings.timeout;
            self.checking = Some(Box::pin(async move {
                // A panic, or no answer in time, leaves it undecided.
                let guarded = AssertUnwindSafe(destination.check()).catch_unwind();
                timeout(patience, guarded).await.ok()?.ok()?
            }));
        }
    }

    fn has_other_than_suspects(&self) -> bool {
        self.reader.has_events()
            || self.reading.is_some()
            || self.reader.cursor() < self.log_end()
            || self.retries.any_other(|seq| self.health.suspects.contains(seq))
    }

    pub(super) fn checked(&mut self, answer: CheckAnswer) {
        let passed = match answer {
            None => return,
            Some(Ok(())) => true,
            Some(Err(error))
                if matches!(error.reason, Reason::Unauthorized | Reason::Forbidden) =>
            {
                false
            }
            Some(Err(_)) => return,
        };
        let at = self.moment();
        self.condemned.extend(self.health.checked(passed, at));
        // A settlement, even of nothing, is when the condemned are buried.
        self.settling.waiting.push(Settle::default());
    }

    /// The setting was wrong, not the events: they go back to pending.
    pub(super) async fn revive_poisoned(&mut self) -> Result<(), QueueError> {
        // First all of their dead letters must be stored.
        if self.to_revive.is_empty() || !self.settling.waiting.is_empty() {
            return Ok(());
        }
        let owner = self.config.name.to_string();
        let seqs = std::mem::take(&mut self.to_revive);
        let ids: Vec<DeadId> =
            seqs.into_iter().map(|seq| DeadId { owner: owner.clone(), seq }).collect();
        for step in ids.chunks(DEAD_STEP_MAX) {
            let heads = self.engine.revive(step.to_vec(), None).await?;
            heads.into_iter().for_each(|head| self.retries.add(head));
        }
        Ok(())
    }

    /// A 403 that a later success decided was about the event.
    pub(super) async fn bury_condemned(&mut self) -> Result<(), QueueError> {
        for seq in std::mem::take(&mut self.condemned) {
            // Its record is stored by now: it held the only slot until then. If it is being tried
            // again just now, or waits for room, its next answer decides.
            if self.retries.contains(seq) && !self.dead_full() {
                self.bury(seq).await?;
            }
        }
        Ok(())
    }

    async fn bury(&mut self, seq: Seq) -> Result<(), QueueError> {
        if let Some(record) = self.engine.retry(&self.config.name, seq).await? {
            let settle = records::forbidden_letter(record, self.clock.now());
            let count = settle.dead.len();
            self.engine.settle(&self.config.name, vec![settle]).await?;
            (0..count).for_each(|_| self.metrics.died(DeadReason::Forbidden));
        }
        self.retries.remove(seq);
        Ok(())
    }
}
