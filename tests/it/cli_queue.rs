//! `queue export|import|compact|renew` of the real binary.

use std::{fs, path::Path};

use serde_json::Value;

use crate::support::{Config, Gateway, Receiver, Reply, alerts, binary};

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}

/// `queue verify`, without what an import may cut anew.
fn counted(queue: &Path) -> Value {
    let said = binary::run(&["queue", "verify", "--json", "--path", path(queue)]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    let mut report: Value = serde_json::from_str(&said.out).unwrap();
    report["chunks"] = Value::Null;
    report
}

/// A stopped gateway with events that were delivered, wait for a retry, died, and were refused.
fn filled() -> Gateway {
    let receiver = Receiver::start(|request| match request.text() {
        text if text.contains("\"number\":3,") => Reply::status(400),
        text if text.contains("\"number\":5,") => Reply::status(503),
        _ => Reply::ok(),
    });
    let config = Config::new().queue("reserve = \"1MiB\"\nretention = \"1h\"").webhook(
        "siem",
        &receiver.url("/"),
        "retry = { initial = \"1h\", max = \"1h\" }",
    );
    let mut gateway = Gateway::start(config);
    gateway.accept(&alerts::ndjson(0..20));
    gateway.wait_for_term("siem", "delivered", 18);
    gateway.wait_for_term("siem", "dead", 1);
    gateway.wait_for_term("siem", "retrying", 1);
    let lines = format!("{}\n{{oops\n", alerts::alert(20));
    let call = gateway.call("POST", "/v1/alerts?on_invalid=dead_letter").ndjson(lines);
    assert_eq!(call.send().unwrap().status, 202);
    gateway.wait_for_term("siem", "delivered", 19);
    // A job that came to its end: the receiver refuses it once more.
    let job = gateway.cli(&["replay", "start", "--destination", "siem", "--json"]);
    assert_eq!(job.code, Some(0), "{}", job.err);
    gateway.finish();
    gateway
}

#[test]
fn a_queue_moves_with_an_export_and_an_import_and_goes_on_where_it_was() {
    let mut gateway = filled();
    let queue = gateway.queue_path();
    let export = binary::queue("export", &queue);
    assert_eq!(export.code, Some(0), "{}", export.err);
    let file = gateway.config.file("export.ndjson");
    fs::write(&file, &export.out).unwrap();
    let before = counted(&queue);
    let elsewhere = gateway.config.file("moved");
    let arguments = ["queue", "import", path(&file), "--json", "--path", path(&elsewhere)];
    let said = binary::run(&arguments);
    assert_eq!(said.code, Some(0), "{said:#?}");
    let report: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(report["lines"], export.out.lines().count());
    assert_eq!(counted(&elsewhere), before);
    assert_eq!(binary::queue("export", &elsewhere).out, export.out);

    // The gateway itself goes on from it.
    fs::rename(&queue, gateway.config.file("old")).unwrap();
    fs::rename(&elsewhere, &queue).unwrap();
    gateway.restart();
    let lane = gateway.lane("siem");
    assert_eq!(lane["ledger"]["retrying"], 1, "{lane}");
    assert_eq!(gateway.dead_letters("").len(), 2);
    let jobs = gateway.get("/v1/replays").json();
    assert_eq!(jobs["data"][0]["failed"], 1, "{jobs}");
    let answer = gateway.accept(&alerts::ndjson(30..31));
    let log = before["log_id"].as_str().unwrap();
    assert_eq!(answer["first"], format!("{log}-{}", before["head"]));
    gateway.finish();
}

#[test]
fn an_import_names_faults_and_replaces_nothing() {
    let gateway = filled();
    let queue = gateway.queue_path();
    let export = binary::queue("export", &queue).out;
    let file = gateway.config.file("export.ndjson");
    let elsewhere = gateway.config.file("moved");
    let import = |text: &str, to: &Path| {
        fs::write(&file, text).unwrap();
        binary::run(&["queue", "import", path(&file), "--path", path(to)])
    };
    let cut = import(&export[..export.len() - 30], &elsewhere);
    assert_eq!(cut.code, Some(1));
    assert!(cut.err.contains("cut short"), "{}", cut.err);
    let wrong = import(&export.replacen("\"seq\":4,", "\"seq\":\"four\",", 1), &elsewhere);
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.err.contains("export.ndjson:5: `seq`:"), "{}", wrong.err);
    assert!(!elsewhere.exists(), "nothing was made");
    let full = import(&export, &queue);
    assert_eq!(full.code, Some(1));
    assert!(full.err.contains("is not empty") && full.err.contains("--path"), "{}", full.err);
    let missing = binary::run(&["queue", "import", "/nowhere/at/all", "--path", path(&elsewhere)]);
    assert_eq!(missing.code, Some(2), "{}", missing.err);
    gateway.verified();
}

#[test]
fn compaction_and_renewal_keep_every_count() {
    let mut gateway = filled();
    let queue = gateway.queue_path();
    let before = counted(&queue);
    let said = binary::queue("compact", &queue);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert_eq!(counted(&queue), before);
    let renewed = binary::queue("renew", &queue);
    assert_eq!(renewed.code, Some(0), "{renewed:#?}");
    let mut after = counted(&queue);
    let log = after["log_id"].as_str().unwrap().to_owned();
    assert!(renewed.out.contains(&log) && renewed.out.contains("no id is given twice"));
    assert_ne!(before["log_id"], log.as_str());
    after["log_id"] = before["log_id"].clone();
    assert_eq!(after, before);
    gateway.restart();
    let answer = gateway.accept(&alerts::ndjson(40..41));
    assert!(answer["first"].as_str().unwrap().starts_with(&log), "{answer}");
    gateway.finish();
}

#[test]
fn every_offline_tool_leaves_a_running_gateway_s_queue_alone() {
    let mut gateway = Gateway::start(Config::new());
    let queue = gateway.queue_path();
    let file = gateway.config.file("empty");
    let mut other = Gateway::start(Config::new());
    other.finish();
    let lines = binary::queue("export", &other.queue_path()).out;
    fs::write(&file, lines).unwrap();
    for arguments in [
        vec!["inspect"],
        vec!["verify"],
        vec!["export"],
        vec!["import", path(&file)],
        vec!["compact"],
        vec!["renew"],
    ] {
        let mut all = vec!["queue"];
        all.extend(&arguments);
        all.extend(["--path", path(&queue)]);
        let said = binary::run(&all);
        assert_eq!(said.code, Some(75), "{arguments:?}: {said:#?}");
        assert!(said.err.contains("stop the gateway first"), "{}", said.err);
    }
    gateway.finish();
}
