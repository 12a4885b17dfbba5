//! An answer is in the log once for each alert, whatever dies when, and asks nothing itself.

use std::collections::BTreeMap;

use serde_json::Value;

use super::lookup::{self, MALICIOUS, asked};
use crate::support::{Config, Gateway, Receiver, alerts, eventually, wait::holds};

const ALERTS: u64 = 60;

/// What the receiver took of kind `lookup`: the event's id, and its parent's.
fn taken(receiver: &Receiver) -> BTreeMap<String, String> {
    let of = |body: &[u8]| {
        let event: Value = serde_json::from_slice(body).ok()?;
        assert_eq!(event["kind"], "lookup", "{event}");
        assert_eq!(event["source"], "vt", "{event}");
        assert_eq!(event["data"]["virustotal"]["positives"], 52, "{event}");
        Some((event["id"].as_str()?.to_owned(), event["parent"].as_str()?.to_owned()))
    };
    receiver.exchanges().iter().filter_map(|exchange| of(&exchange.request.body)).collect()
}

#[test]
fn every_alert_has_one_answer_in_the_log_although_the_gateway_is_killed_between() {
    let chat = Receiver::willing();
    let config = Config::new().queue("reserve = \"1MiB\"\nretention = \"1h\"");
    let vt = lookup::table(&config, "vt", MALICIOUS, "0.01", "concurrency = 4");
    let config = config.table(&vt).webhook("chat", &chat.url("/"), "when = { kind = \"lookup\" }");
    let mut gateway = Gateway::start(config);
    // The samples have some that an integration put into Wazuh.
    let alert = |n| format!("{{\"number\":{n},\"rule\":{{\"id\":\"554\",\"level\":7}}}}\n");
    let accepted = gateway.accept(&(0..ALERTS).map(alert).collect::<String>());
    let first = accepted["first"].as_str().unwrap().to_owned();
    for kills in 1..=2 {
        eventually("some were asked", || holds(asked(&gateway.config, "vt").len() >= kills * 15));
        gateway.kill();
        gateway.restart();
    }
    gateway.wait_for_term("vt", "delivered", ALERTS);
    gateway.wait_for_term("chat", "delivered", ALERTS);
    gateway.wait_for_lane("vt", "passed its answers over", |lane| {
        lane["ledger"]["seen"] == 2 * ALERTS && lane["ledger"]["filtered"] == ALERTS
    });
    let taken = taken(&chat);
    let (log, number) = first.split_once('-').unwrap();
    let number: u64 = number.parse().unwrap();
    for id in (number..number + ALERTS).map(|seq| format!("{log}-{seq}")) {
        let shown = gateway.get(&format!("/v1/alerts/{id}")).json();
        let children = shown["children"].as_array().unwrap();
        assert_eq!(children.len(), 1, "{shown:#}");
        assert_eq!(
            (&children[0]["kind"], &children[0]["parent"]),
            (&"lookup".into(), &id.clone().into())
        );
        let answer = children[0]["id"].as_str().unwrap();
        assert_eq!(taken.get(answer), Some(&id));
    }
    assert_eq!(taken.len() as u64, ALERTS, "nobody was told of another");
    let questions = asked(&gateway.config, "vt").len() as u64;
    assert!(questions <= ALERTS + 2 * 4, "{questions} questions for {ALERTS} alerts");
    gateway.finish();
}

#[test]
fn a_lookup_asks_nothing_about_what_an_integration_put_into_wazuh_and_others_are_told() {
    let siem = Receiver::willing();
    let config = Config::new();
    let vt =
        lookup::table(&config, "vt", MALICIOUS, "0", "when = { kind = [\"alert\", \"lookup\"] }");
    let config = config.table(&vt).webhook("siem", &siem.url("/"), "");
    let mut gateway = Gateway::start(config);
    let injected = r#"{"rule":{"id":"87105","level":12},"location":"virustotal","#.to_owned()
        + r#""data":{"integration":"virustotal","virustotal":{"malicious":"1"}}}"#;
    gateway.accept(&format!("{}{injected}\n", alerts::ndjson(0..1)));
    gateway.wait_for_term("siem", "delivered", 2);
    gateway.wait_for_lane("vt", "passed them over", |lane| {
        lane["ledger"]["delivered"] == 1 && lane["ledger"]["filtered"] == 2
    });
    assert_eq!(asked(&gateway.config, "vt").len(), 1);
    gateway.finish();
}
