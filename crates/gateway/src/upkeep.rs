//! What happens about once a second: the queue's own upkeep, the end of orphans, what overflows,
//! and canaries.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use holdfast_model::{Chain, Name};
use holdfast_pipeline::{
    Clock, Lanes, Operator,
    canary::Canaries,
    operator::{Happening, Notice},
    settings::OnOverflow,
};
use holdfast_queue::{AuditEntry, DeadEnd, Engine, LaneSummary, QueueEngine};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(1);
/// How long a lane without a destination holds its events.
const ORPHAN_KEEP: Duration = Duration::from_secs(7 * 86_400);

pub(crate) struct Upkeep {
    pub(crate) engine: Arc<Engine>,
    pub(crate) clock: Clock,
    pub(crate) lanes: Lanes,
    pub(crate) operator: Operator,
    /// Lanes that hold back more than they may, with what had expired when that began.
    pub(crate) over: BTreeMap<Name, u64>,
}

impl Upkeep {
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let engine = Arc::clone(&self.engine) as Arc<dyn QueueEngine>;
        let mut canaries = Canaries::new(engine, self.clock.clone());
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if let Err(error) = self.engine.upkeep(self.clock.now()).await {
                tracing::warn!(error = %Chain(&error), "the queue's upkeep failed");
                continue;
            }
            for lane in self.engine.lanes() {
                self.end_orphan(&lane).await;
                self.judge_backlog(&lane).await;
            }
            canaries.send_due(&self.lanes).await;
        }
    }

    /// Gives up what a lane without a destination holds, after its time.
    async fn end_orphan(&self, lane: &LaneSummary) {
        let orphaned = lane.job.is_none() && !lane.open && !self.lanes.contains(&lane.name);
        if !orphaned || self.clock.now().since(lane.last_open_at) <= ORPHAN_KEEP {
            return;
        }
        match self.engine.abandon_lane(&lane.name, DeadEnd::Expired).await {
            Ok(0) => {}
            Ok(expired) => tracing::warn!(
                lane = %lane.name, expired, "an orphaned lane's events expired"
            ),
            Err(error) => tracing::error!(error = %Chain(&error), "cannot expire a lane"),
        }
    }

    /// Lets the lane give up what is too much, and tells when that begins and ends.
    async fn judge_backlog(&mut self, lane: &LaneSummary) {
        let handle = self.lanes.get(&lane.name);
        let expires = handle.as_ref().is_some_and(|lane| lane.on_overflow == OnOverflow::Expire);
        if expires && let (Some(handle), Some(to)) = (&handle, lane.backlog.expire_to) {
            handle.expire_to(to);
        }
        let was_over = self.over.contains_key(&lane.name);
        if lane.backlog.over == was_over {
            return;
        }
        let Ok(ledger) = self.engine.ledger(&lane.name).await else { return };
        let (bytes, bytes_max) = (lane.backlog.bytes, lane.backlog.bytes_max);
        let name = lane.name.as_str();
        if lane.backlog.over {
            self.over.insert(lane.name.clone(), ledger.expired);
            let (action, text) = if expires {
                (
                    "expire",
                    format!("Holdfast: {name} holds back too much; its oldest events expire"),
                )
            } else {
                ("block", format!("Holdfast: {name} holds back too much; no more input is taken"))
            };
            let reason = format!("{bytes} bytes of the {bytes_max} that it may hold back");
            tracing::error!(lane = name, action, bytes, bytes_max, "a lane holds back too much");
            self.tell(name, action, 12, text, reason.clone());
            self.audit(&format!("{action} begins"), name, reason).await;
        } else {
            let before = self.over.remove(&lane.name).unwrap_or(ledger.expired);
            let expired = ledger.expired.saturating_sub(before);
            let reason = format!("{expired} events expired");
            tracing::warn!(lane = name, expired, "a lane no longer holds back too much");
            let text = format!("Holdfast: {name} no longer holds back too much");
            self.tell(name, "over", 5, text, reason.clone());
            self.audit("overflow ends", name, reason).await;
        }
    }

    fn tell(&self, lane: &str, state: &'static str, level: u8, text: String, reason: String) {
        let (happening, subject) = (Happening::Overflow, lane.to_owned());
        self.operator.tell(Notice { happening, subject, state, level, text, reason });
    }

    async fn audit(&self, action: &str, lane: &str, detail: String) {
        let entry = AuditEntry {
            at: self.clock.now(),
            who: "holdfast".to_owned(),
            action: action.to_owned(),
            subject: lane.to_owned(),
            detail,
        };
        if let Err(error) = self.engine.add_audit(entry).await {
            tracing::error!(error = %Chain(&error), "cannot write the audit entry");
        }
    }
}
