//! 500 reloads, half of them bad, under traffic.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use serde_json::Value;

use crate::support::{Config, Gateway, Receiver, alerts, http::Call};

const RELOADS: u64 = 500;

fn webhook(name: &str, receiver: &Receiver, keys: &str) -> String {
    let url = receiver.url("/");
    format!(
        "[destinations.{name}]\ntype = \"webhook\"\nurl = \"{url}\"\nconcurrency = 1\n\
         retry = {{ initial = \"20ms\", max = \"500ms\" }}\n{keys}\n"
    )
}

/// Posts alert after alert until it is told to stop; answers how many were taken.
fn traffic(port: u16, token: String, stop: Arc<AtomicBool>, sent: Arc<AtomicU64>) {
    while !stop.load(Ordering::SeqCst) {
        let next = sent.load(Ordering::SeqCst);
        let body = alerts::ndjson(next..next + 5);
        let call = Call::new(port, "POST", "/v1/alerts").bearer(&token).ndjson(body);
        let answer = call.send().expect("an answer");
        assert_eq!(answer.status, 202, "{}", answer.text);
        sent.store(next + 5, Ordering::SeqCst);
    }
}

#[test]
fn a_storm_of_reloads_loses_and_repeats_nothing_and_untouched_lanes_keep_their_connections() {
    let (steady, changing, coming) =
        (Receiver::willing(), Receiver::willing(), Receiver::willing());
    let untouched = webhook("steady", &steady, "");
    let tables = |n: u64| {
        let rate = format!("rate = \"{}/s\"", 100_000 + n);
        let mut tables = untouched.clone() + &webhook("changing", &changing, &rate);
        if n.is_multiple_of(4) {
            tables += &webhook("coming", &coming, "");
        }
        tables
    };
    let mut gateway = Gateway::start(Config::new().table(&tables(0)));
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let poster = {
        let (port, token) = (gateway.port, gateway.token.clone());
        let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
        thread::spawn(move || traffic(port, token, stop, sent))
    };
    steady.wait_for(50);
    let connections = steady.connections_accepted();
    let (mut good, mut bad) = (0, 0);
    for n in 0..RELOADS {
        if n % 2 == 0 {
            let report = gateway.reloaded(&tables(n / 2));
            assert!(report["unchanged"].as_array().unwrap().contains(&Value::from("steady")));
            good += 1;
        } else {
            let fault = ["rate = \"fast\"", "colour = \"red\"", "when = { level = 99 }"];
            let broken = tables(n / 2).replace("rate", fault[(n / 2) as usize % 3]);
            assert_eq!(gateway.reload(&broken).status, 422);
            bad += 1;
        }
    }
    // So that every lane has a destination to deliver to.
    gateway.reloaded(&tables(0));
    stop.store(true, Ordering::SeqCst);
    poster.join().unwrap();
    let sent = sent.load(Ordering::SeqCst);
    assert!(sent > 500, "there was traffic: {sent}");
    for (name, receiver) in [("steady", &steady), ("changing", &changing), ("coming", &coming)] {
        gateway.wait_for_term(name, "delivered", sent);
        let mut taken = receiver.taken();
        taken.sort_unstable();
        assert_eq!(taken, (0..sent).collect::<Vec<_>>(), "{name}: none lost, none twice");
    }
    assert_eq!(steady.connections_accepted(), connections, "it kept its connections");
    assert!(changing.connections_accepted() > 100, "the other began anew each time");
    let metric = |outcome: &str| {
        gateway.metric(&format!("holdfast_config_reloads_total{{outcome=\"{outcome}\"}}"))
    };
    assert_eq!((metric("ok"), metric("failed")), (f64::from(good + 1), f64::from(bad)));
    gateway.finish();
}
