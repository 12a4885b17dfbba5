//! What the service manager is told, by sd_notify(3): that the gateway runs, reloads, stops, and
//! that it lives.
//!
//! Without `NOTIFY_SOCKET` nothing is told and nothing fails. A message that cannot be sent is
//! logged and costs nothing else: systemd then does what `Type=notify` and `WatchdogSec=` say.

use std::{sync::Arc, time::Duration};

use holdfast_queue::{Engine, QueueEngine};
use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// It takes alerts, and its lanes run.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("running")]);
}

/// Until the next [`ready`], whether or not the reload changes anything.
pub(crate) fn reloading() {
    // `Type=notify-reload` wants the time with it.
    let mut states = vec![NotifyState::Reloading, NotifyState::Status("reloading")];
    states.extend(NotifyState::monotonic_usec_now());
    tell(&states);
}

pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// Says that it lives, twice in the time that systemd allows, for as long as the queue can promise
/// anything. A runtime that hangs says nothing, and so systemd starts the gateway anew.
pub(crate) async fn live(engine: Arc<Engine>, stop: CancellationToken) {
    let Some(allowed) = sd_notify::watchdog_enabled() else { return };
    // Zero would not be a period.
    let mut ticks = interval((allowed / 2).max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let failure = engine.failure();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if failure.borrow().is_none() {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot tell the service manager");
    }
}
