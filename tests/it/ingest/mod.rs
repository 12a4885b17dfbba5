//! `POST /v1/alerts`: durable first, then 202; whole or not at all; every refusal says why.

mod bad_input;
mod forms;
mod idempotency;
mod refusals;

use crate::support::{Config, Gateway, Receiver, alerts};

/// A gateway with one lane to a receiver that takes everything.
fn with_receiver() -> (Gateway, Receiver) {
    let receiver = Receiver::willing();
    let gateway = Gateway::start(Config::new().webhook("all", &receiver.url("/"), ""));
    (gateway, receiver)
}

/// What was taken, to the last one, and nothing beside it.
fn expect_taken(
    gateway: &mut Gateway,
    receiver: &Receiver,
    numbers: impl IntoIterator<Item = u64>,
) {
    let numbers: Vec<u64> = numbers.into_iter().collect();
    // What would be sent beside it is sent before this one, or with it.
    gateway.accept(&alerts::ndjson([u64::MAX]));
    gateway.wait_for_lane("all", "was through", |lane| {
        lane["ledger"]["pending"] == 0 && lane["ledger"]["seen"].as_u64() > Some(0)
    });
    let mut taken = receiver.taken();
    taken.sort_unstable();
    assert_eq!(taken, numbers.into_iter().chain([u64::MAX]).collect::<Vec<_>>());
    gateway.finish();
}
