//! Each kind of change of the configuration, while the gateway runs.

use std::{fs, fs::OpenOptions, io::Write};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    Config, Gateway, Receiver, Reply, alerts, config::write_private, eventually, wait::holds,
};

const SOON: &str = "retry = { initial = \"20ms\", max = \"500ms\" }";

/// A destination that retries soon, unless `keys` say otherwise.
fn webhook(name: &str, receiver: &Receiver, keys: &str) -> String {
    let retry = if keys.contains("retry") { "" } else { SOON };
    let url = receiver.url("/");
    format!("[destinations.{name}]\ntype = \"webhook\"\nurl = \"{url}\"\n{retry}\n{keys}\n")
}

fn gateway(tables: &str) -> Gateway {
    Gateway::start(Config::new().table(tables))
}

fn alert_of_level(number: u64, level: u64) -> String {
    format!("{{\"number\":{number},\"rule\":{{\"id\":\"{number}\",\"level\":{level}}}}}\n")
}

fn sorted(receiver: &Receiver) -> Vec<u64> {
    let mut taken = receiver.taken();
    taken.sort_unstable();
    taken
}

/// The newest audit entries of reloads, newest first.
fn audited(gateway: &Gateway) -> Vec<(String, String)> {
    let entries = gateway.get("/v1/audit").json()["data"].as_array().cloned().unwrap_or_default();
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    let reloads = entries.iter().filter(|entry| entry["action"] == "reload");
    reloads.map(|entry| (text(entry, "who"), text(entry, "detail"))).collect()
}

#[test]
fn a_changed_filter_applies_to_what_was_not_read_and_leaves_other_lanes_alone() {
    let (a, b) = (Receiver::willing(), Receiver::willing());
    let other = webhook("other", &b, "");
    let mut gateway = gateway(&(webhook("filtered", &a, "when = { level = 3 }") + &other));
    gateway.accept(&alert_of_level(1, 5));
    gateway.wait_for_term("filtered", "delivered", 1);
    gateway.post("/v1/destinations/filtered/pause", &json!({}));
    gateway.accept(&(2..6).map(|n| alert_of_level(n, n * 2)).collect::<String>());
    let report = gateway.reloaded(&(webhook("filtered", &a, "when = { level = 8 }") + &other));
    assert_eq!(
        (&report["changed"], &report["unchanged"]),
        (&json!(["filtered"]), &json!(["other"]))
    );
    // What a person said holds through it.
    assert_eq!(gateway.lane("filtered")["state"], "paused");
    gateway.post("/v1/destinations/filtered/resume", &json!({}));
    gateway.wait_for_term("filtered", "delivered", 3);
    assert_eq!(sorted(&a), [1, 4, 5]);
    b.wait_for(5);
    gateway.finish();
}

#[test]
fn a_changed_address_gets_what_waited_for_a_retry_rendered_anew() {
    let (old, new) = (Receiver::start(|_| Reply::status(500)), Receiver::willing());
    let slow = "retry = { initial = \"1h\", max = \"1h\" }\nbreaker = { failures = 1000, ratio = 1.0, window = \"1h\" }";
    let mut gateway = gateway(&webhook("siem", &old, slow));
    gateway.accept(&alerts::ndjson(0..5));
    gateway.wait_for_term("siem", "retrying", 5);
    let keys = slow.to_owned() + "\nheaders = { X-New = \"yes\" }";
    gateway.reloaded(&webhook("siem", &new, &keys));
    gateway.post("/v1/destinations/siem/retry-now", &json!({}));
    gateway.wait_for_term("siem", "delivered", 5);
    assert_eq!(sorted(&new), (0..5).collect::<Vec<_>>());
    let key = |receiver: &Receiver| {
        let mut keys: Vec<String> = receiver
            .exchanges()
            .iter()
            .filter_map(|exchange| exchange.request.header("idempotency-key").map(str::to_owned))
            .collect();
        keys.sort();
        keys.dedup();
        keys
    };
    assert_eq!(key(&old), key(&new), "the same tries under the same keys");
    let last = new.exchanges().pop().unwrap().request;
    assert_eq!(last.header("x-new"), Some("yes"));
    gateway.finish();
}

#[test]
fn a_changed_rate_holds_from_then_on() {
    let receiver = Receiver::willing();
    let mut gateway = gateway(&webhook("paced", &receiver, "rate = \"1/h\""));
    gateway.accept(&alerts::ndjson(0..20));
    gateway.wait_for_term("paced", "delivered", 1);
    gateway.reloaded(&webhook("paced", &receiver, "rate = \"1000/s\""));
    gateway.wait_for_term("paced", "delivered", 20);
    assert_eq!(sorted(&receiver), (0..20).collect::<Vec<_>>());
    gateway.finish();
}

#[test]
fn a_new_lane_begins_where_it_says_and_one_that_is_gone_keeps_its_events() {
    let (a, b, c) = (Receiver::willing(), Receiver::willing(), Receiver::willing());
    let config = Config::new().queue("reserve = \"1MiB\"\nretention = \"1h\"");
    let first = webhook("first", &a, "");
    let mut gateway = Gateway::start(config.table(&first));
    gateway.accept(&alerts::ndjson(0..10));
    gateway.wait_for_term("first", "delivered", 10);
    let all = webhook("all", &b, "start = \"all\"");
    let report = gateway.reloaded(&(first.clone() + &all + &webhook("new", &c, "start = \"new\"")));
    assert_eq!(report["started"], json!(["all", "new"]));
    gateway.accept(&alerts::ndjson(10..12));
    b.wait_for(12);
    c.wait_for(2);
    assert_eq!(sorted(&c), [10, 11]);

    let report = gateway.reloaded(&first);
    assert_eq!(report["removed"], json!(["all", "new"]));
    assert_eq!(gateway.lane("all")["state"], "orphaned");
    gateway.accept(&alerts::ndjson(12..15));
    gateway.wait_for_term("all", "pending", 3);
    assert_eq!(gateway.post("/v1/destinations/all/pause", &json!({})).status, 404);
    gateway.reloaded(&(first + &all));
    b.wait_for(15);
    assert_eq!(sorted(&b), (0..15).collect::<Vec<_>>(), "nothing twice");

    // A person gives up what the other one holds; what runs cannot be given up so.
    assert_eq!(gateway.post("/v1/destinations/first/purge", &json!({})).status, 409);
    let answer = gateway.post("/v1/destinations/new/purge", &json!({}));
    assert_eq!(answer.status, 200, "{}", answer.text);
    let ledger = answer.json()["ledger"].clone();
    assert_eq!((&ledger["pending"], &ledger["purged"]), (&json!(0), &json!(3)));
    gateway.finish();
}

#[test]
fn a_renamed_lane_takes_over_position_retries_dead_letters_and_keys() {
    let receiver = Receiver::start(|request| match alerts::number(&request.body) {
        Some(0) => Reply::status(400),
        Some(1) => Reply::status(500),
        _ => Reply::ok(),
    });
    let slow = "retry = { initial = \"1h\", max = \"1h\" }";
    let mut gateway = gateway(&webhook("old", &receiver, slow));
    gateway.accept(&alerts::ndjson(0..4));
    gateway.wait_for_lane("old", "settled all", |lane| {
        let ledger = &lane["ledger"];
        ledger["delivered"] == 2 && ledger["dead"] == 1 && ledger["retrying"] == 1
    });
    let renamed = webhook("new", &receiver, &format!("renamed_from = \"old\"\n{slow}"));
    let report = gateway.reloaded(&renamed);
    assert_eq!(report["renamed"], json!([{ "from": "old", "to": "new" }]));
    assert_eq!(gateway.get("/v1/destinations/old").status, 404);
    assert!(!gateway.get("/metrics").text.contains("destination_state{destination=\"old\""));
    let ledger = gateway.lane("new")["ledger"].clone();
    assert_eq!((&ledger["delivered"], &ledger["dead"]), (&json!(2), &json!(1)));
    let letters = gateway.dead_letters("destination=new");
    assert_eq!(letters.len(), 1);

    receiver.behave(|_| Reply::ok());
    gateway.post("/v1/destinations/new/retry-now", &json!({}));
    gateway.wait_for_term("new", "delivered", 3);
    let id = letters[0]["id"].as_str().unwrap();
    assert_eq!(gateway.post(&format!("/v1/dead-letters/{id}/replay"), &json!({})).status, 202);
    gateway.wait_for_term("new", "delivered", 4);
    for number in [0, 1] {
        let mut keys: Vec<String> = receiver
            .exchanges()
            .iter()
            .filter(|exchange| alerts::number(&exchange.request.body) == Some(number))
            .filter_map(|exchange| exchange.request.header("idempotency-key").map(str::to_owned))
            .collect();
        assert!(keys.len() >= 2, "{keys:?}");
        keys.dedup();
        assert_eq!(keys.len(), 1, "every try has the same key: {keys:?}");
    }
    // The word stays in the file, and means nothing at a start and at further reloads.
    gateway.reloaded(&renamed);
    assert_eq!(gateway.terminate(), Some(0));
    gateway.restart();
    gateway.accept(&alerts::ndjson(4..6));
    gateway.wait_for_term("new", "delivered", 6);
    gateway.finish();
}

#[test]
fn a_lane_that_was_renamed_while_the_gateway_stood_still_is_adopted_at_the_start() {
    let receiver = Receiver::willing();
    let mut gateway = gateway(&webhook("old", &receiver, ""));
    gateway.post("/v1/destinations/old/pause", &json!({}));
    gateway.accept(&alerts::ndjson(0..5));
    assert_eq!(gateway.terminate(), Some(0));
    gateway.config.set_tables(&webhook("new", &receiver, "renamed_from = \"old\""));
    gateway.restart();
    assert_eq!(gateway.lane("new")["state"], "paused");
    gateway.post("/v1/destinations/new/resume", &json!({}));
    gateway.wait_for_term("new", "delivered", 5);
    assert_eq!(gateway.get("/v1/destinations").json()["data"].as_array().unwrap().len(), 1);
    gateway.finish();
}

#[test]
fn a_bad_file_changes_nothing_and_says_so_everywhere() {
    let receiver = Receiver::willing();
    let good = webhook("siem", &receiver, "");
    let mut gateway = gateway(&good);
    gateway.accept(&alerts::ndjson(0..3));
    receiver.wait_for(3);
    #[rustfmt::skip]
    let bad = [
        ("not TOML",       "[destinations.siem\n".to_owned(), "not TOML"),
        ("an unknown key", webhook("siem", &receiver, "colour = \"red\""), "colour"),
        ("no secret",      webhook("siem", &receiver, "bearer = { file = \"/nowhere/secret\" }"), "/nowhere/secret"),
        ("another type",   "[destinations.siem]\ntype = \"stdout\"\n".to_owned(), "destinations.siem.type"),
        ("an heir of one that is there", good.clone() + &webhook("x", &receiver, "renamed_from = \"siem\""), "renamed_from"),
    ];
    for (n, (what, tables, said)) in bad.iter().enumerate() {
        let answer = gateway.reload(tables);
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (422, "bad-configuration"),
            "{what}"
        );
        let first = answer.json()["errors"][0].clone();
        assert!(first["line"].as_u64() > Some(0), "{what}: {first}");
        assert!(first["message"].as_str().unwrap().contains(said), "{what}: {first}");
        let failed = gateway.metric("holdfast_config_reloads_total{outcome=\"failed\"}");
        assert_eq!(failed, (n + 1) as f64, "{what}");
        assert!(audited(&gateway)[0].1.starts_with("failed: "), "{what}");
    }
    assert!(gateway.log().contains("the new configuration has a fault"));
    assert_eq!(gateway.metric("holdfast_config_reloads_total{outcome=\"ok\"}"), 0.0);
    gateway.accept(&alerts::ndjson(3..6));
    receiver.wait_for(6);
    // And none of them spoils the next good one.
    gateway.reloaded(&good);
    assert_eq!(audited(&gateway)[0], ("it".into(), "ok: no lane and no source changed".into()));
    gateway.finish();
}

#[test]
fn sighup_reads_secret_files_anew_and_environment_secrets_are_named() {
    let receiver = Receiver::willing();
    let config = Config::new();
    let secret = config.secret("token", "the-first-token-0123456789\n");
    let tables =
        webhook("siem", &receiver, &format!("bearer = {{ file = \"{}\" }}", secret.display()))
            + &webhook("env", &receiver, "bearer = { env = \"IT_TOKEN\" }\nwhen = { level = 16 }");
    let gateway = Gateway::new(config.table(&tables));
    let mut gateway = gateway.environment("IT_TOKEN", "an-environment-token-0123456789");
    gateway.restart();
    gateway.accept(&alerts::ndjson(0..1));
    gateway.wait_for_term("siem", "delivered", 1);
    write_private(&secret, "the-second-token-0123456789\n");
    gateway.signal(Signal::HUP);
    eventually("it was reloaded", || {
        holds(gateway.metric("holdfast_config_reloads_total{outcome=\"ok\"}") == 1.0)
    });
    assert_eq!(audited(&gateway)[0], ("SIGHUP".into(), "ok: changed siem".into()));
    gateway.accept(&alerts::ndjson(1..2));
    gateway.wait_for_term("siem", "delivered", 2);
    let seen: Vec<Option<String>> = receiver
        .exchanges()
        .iter()
        .map(|exchange| exchange.request.header("authorization").map(str::to_owned))
        .collect();
    let bearer = |token: &str| Some(format!("Bearer {token}"));
    assert_eq!(seen, [bearer("the-first-token-0123456789"), bearer("the-second-token-0123456789")]);
    let report = gateway.reloaded(&tables);
    assert_eq!(report["secrets_of_the_start"], json!(["destinations.env.bearer"]));
    assert_eq!(report["unchanged"], json!(["env", "siem"]));
    gateway.finish();
}

#[test]
fn a_parked_lane_tries_again_at_a_reload_though_nothing_of_it_changed() {
    let receiver = Receiver::start(|_| Reply::status(401));
    let tables = webhook("siem", &receiver, "retry = { initial = \"1s\", max = \"1h\" }");
    let mut gateway = gateway(&tables);
    gateway.accept(&alerts::ndjson(0..3));
    gateway.wait_for_state("siem", "auth_failed");
    receiver.behave(|_| Reply::ok());
    let report = gateway.reloaded(&tables);
    assert_eq!(report["unchanged"], json!(["siem"]));
    gateway.wait_for_term("siem", "delivered", 3);
    gateway.finish();
}

#[test]
fn a_lane_that_hangs_is_cut_off_in_its_time_and_its_events_are_sent_again() {
    let (hung, quick) = (Receiver::start(|_| Reply::Hang), Receiver::willing());
    let config = Config::new().node("shutdown_timeout = \"300ms\"");
    let other = webhook("other", &quick, "");
    let before = webhook("hung", &hung, "timeout = \"10m\"") + &other;
    let mut gateway = Gateway::start(config.table(&before));
    gateway.accept(&alerts::ndjson(0..20));
    eventually("it hangs", || holds(hung.count() >= 8));
    hung.behave(|_| Reply::ok());
    let report = gateway.reloaded(&(webhook("hung", &hung, "timeout = \"9m\"") + &other));
    assert_eq!(report["changed"], json!(["hung"]));
    gateway.wait_for_term("hung", "delivered", 20);
    gateway.wait_for_term("other", "delivered", 20);
    assert_eq!(sorted(&hung), (0..20).collect::<Vec<_>>());
    gateway.finish();
}

#[test]
fn a_source_that_changed_begins_again_at_its_position_and_another_goes_on() {
    let receiver = Receiver::willing();
    let config = Config::new();
    let (first, second) = (config.file("first.json"), config.file("second.json"));
    fs::write(&first, alerts::ndjson(0..5)).unwrap();
    fs::write(&second, alerts::ndjson(100..105)).unwrap();
    let source = |name: &str, path: &std::path::Path| {
        format!(
            "[sources.{name}]\ntype = \"alerts_file\"\npath = \"{}\"\nstart = \"beginning\"\n",
            path.display()
        )
    };
    let lane = webhook("siem", &receiver, "");
    let mut gateway = Gateway::start(config.table(&(source("one", &first) + &lane)));
    receiver.wait_for(5);
    // Another name for the same file goes on; a second file begins.
    let report = gateway.reloaded(&(source("renamed", &first) + &source("two", &second) + &lane));
    assert_eq!(report["sources_stopped"], json!(["one"]));
    assert_eq!(report["sources_started"], json!(["renamed", "two"]));
    assert_eq!(report["unchanged"], json!(["siem"]));
    receiver.wait_for(10);
    let mut file = OpenOptions::new().append(true).open(&first).unwrap();
    file.write_all(alerts::ndjson(5..8).as_bytes()).unwrap();
    receiver.wait_for(13);
    gateway.reloaded(&(source("two", &second) + &lane));
    file.write_all(alerts::ndjson(8..9).as_bytes()).unwrap();
    let mut file = OpenOptions::new().append(true).open(&second).unwrap();
    file.write_all(alerts::ndjson(105..107).as_bytes()).unwrap();
    receiver.wait_for(15);
    let expected: Vec<u64> = (0..8).chain(100..107).collect();
    assert_eq!(sorted(&receiver), expected, "nothing twice, and nothing of what was given up");
    gateway.finish();
}

#[test]
fn what_needs_a_restart_is_named() {
    let receiver = Receiver::willing();
    let tables = webhook("siem", &receiver, "");
    let mut gateway = gateway(&tables);
    let report = gateway.reloaded(&tables);
    assert_eq!(report["needs_restart"], json!([]));
    let state = gateway.config.state();
    let text = fs::read_to_string(gateway.config.file("holdfast.toml")).unwrap();
    let text = text.replace("retention = \"0s\"", "retention = \"1h\"\nmax_size = \"1GiB\"");
    let text = text.replace("name = \"it\"\nstate", "name = \"other\"\nstate");
    write_private(&gateway.config.file("holdfast.toml"), &text);
    let report = gateway.post("/v1/reload", &json!({})).json();
    let expected = json!(["node.name", "queue.max_size", "queue.retention"]);
    assert_eq!(report["needs_restart"], expected, "{state:?}");
    assert!(gateway.log().contains("take effect at the next start"));
    gateway.accept(&alerts::ndjson(0..2));
    receiver.wait_for(2);
    gateway.finish();
}

#[test]
fn a_changed_order_and_express_level_skip_and_repeat_nothing() {
    let receiver = Receiver::willing();
    let mut gateway = gateway(&webhook("siem", &receiver, ""));
    gateway.post("/v1/destinations/siem/pause", &json!({}));
    let settings = [
        "express_level = 12",
        "express_level = 7",
        "order = \"key\"\norder_key = \"rule.id\"\nexpress_level = 10",
        "order = \"strict\"",
        "",
    ];
    let batch =
        |n: u64| (n * 20..n * 20 + 20).map(|n| alert_of_level(n, [3, 8, 11, 15][n as usize % 4]));
    gateway.accept(&batch(0).collect::<String>());
    for (n, keys) in (1..).zip(settings) {
        let report = gateway.reloaded(&webhook("siem", &receiver, keys));
        assert_eq!(report["changed"], json!(["siem"]), "{keys}");
        gateway.accept(&batch(n).collect::<String>());
        if n == 2 {
            // Some of it goes under way, and more comes under other settings.
            gateway.post("/v1/destinations/siem/resume", &json!({}));
        }
    }
    gateway.wait_for_term("siem", "delivered", 120);
    assert_eq!(sorted(&receiver), (0..120).collect::<Vec<_>>());
    gateway.finish();
}
