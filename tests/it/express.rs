//! A critical alert does not wait behind a backlog, nor does a kill cost it its place.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::support::{Config, Gateway, Receiver, Reply, alerts, eventually, wait::holds};

const BACKLOG: u64 = 1_000;
const CONCURRENCY: usize = 2;
/// While an alert is posted and read, the backlog goes on; far from its end all the same.
const OTHERS_MAX: usize = BACKLOG as usize / 10;

fn of_level(number: u64, level: u64) -> String {
    format!("{{\"number\":{number},\"rule\":{{\"id\":\"100{level}\",\"level\":{level}}}}}\n")
}

fn backlog(numbers: impl Iterator<Item = u64>) -> String {
    numbers.map(|number| of_level(number, number % 11)).collect()
}

/// The numbers of all requests from one on, in the order in which they came.
fn arrived(receiver: &Receiver, from: usize) -> Vec<u64> {
    let exchanges = receiver.exchanges();
    exchanges[from..].iter().flat_map(|exchange| alerts::numbers(&exchange.request.body)).collect()
}

/// Waits until `critical` has come; answers how many others came between.
fn others_before(receiver: &Receiver, from: usize, critical: u64) -> usize {
    eventually("the critical alert arrives", || {
        arrived(receiver, from).iter().position(|number| *number == critical)
    })
}

#[test]
fn a_critical_alert_overtakes_the_backlog_across_a_kill() {
    let held = Arc::new(AtomicBool::new(false));
    let holding = Arc::clone(&held);
    let receiver = Receiver::start(move |_| match holding.load(Ordering::SeqCst) {
        true => Reply::Hang,
        false => Reply::Later(Duration::from_millis(15), Box::new(Reply::ok())),
    });
    let keys = format!("express_level = 12\nconcurrency = {CONCURRENCY}");
    let config = Config::new().webhook("oncall", &receiver.url("/"), &keys);
    let mut gateway = Gateway::start(config);
    gateway.accept(&backlog(0..BACKLOG));
    eventually("some of the backlog", || holds(receiver.count() >= 10));

    let (first, second, below) = (BACKLOG, BACKLOG + 1, BACKLOG + 2);
    let from = receiver.count();
    gateway.accept(&of_level(first, 14));
    let others = others_before(&receiver, from, first);
    println!("{others} requests of {BACKLOG} before the critical one");
    assert!(others <= OTHERS_MAX, "{others}");

    // Nothing is answered any more, so what is acknowledged now cannot have been sent yet.
    held.store(true, Ordering::SeqCst);
    eventually("the lane stands still", || {
        let exchanges = receiver.exchanges();
        let hanging = exchanges.iter().filter(|exchange| matches!(exchange.reply, Reply::Hang));
        holds(hanging.count() == CONCURRENCY)
    });
    gateway.accept(&(of_level(below, 11) + &of_level(second, 14)));
    gateway.kill();
    eventually("the connections close", || holds(receiver.open_connections() == 0));
    assert!(!arrived(&receiver, 0).contains(&second), "it was held up");
    held.store(false, Ordering::SeqCst);
    let from = receiver.count();
    gateway.restart();
    let others = others_before(&receiver, from, second);
    println!("after the kill: {others} requests before the critical one");
    assert!(others <= OTHERS_MAX, "{others}");
    assert!(!arrived(&receiver, from)[..others].contains(&below), "it is below the level");

    gateway.wait_for_term("oncall", "delivered", BACKLOG + 3);
    let mut taken = receiver.taken();
    let total = taken.len();
    taken.sort_unstable();
    taken.dedup();
    assert!(taken.into_iter().eq(0..BACKLOG + 3), "nothing is lost");
    assert!(total as u64 <= BACKLOG + 3 + CONCURRENCY as u64, "{total} were taken");
    gateway.finish();
}
