//! Alertmanager shows an alert, tells its receiver, keeps it firing as long as we said, and ends it
//! when another rule says that the problem is over.

use std::fs;

use serde_json::{Value, json};

use super::server::{Server, daemon, text};
use crate::support::{
    Config, Gateway, Receiver, config::free_port, eventually, http::Call, wait::holds,
};

/// Its own default, after which it would end an alert by itself.
const FIVE_MINUTES: u64 = 5 * 60;

fn alert(rule: &str, level: u64, agent: &str) -> String {
    let alert = json!({
        "rule": { "id": rule, "level": level, "description": format!("rule {rule}"), "groups": ["ossec"] },
        "agent": { "id": agent, "name": format!("host \"{agent}\"\\") },
        "manager": { "name": "mgr" },
    });
    format!("{alert}\n")
}

/// The alerts that are not resolved, as its API lists them.
fn open(port: u16) -> Vec<Value> {
    let answer = Call::new(port, "GET", "/api/v2/alerts").send().expect("it answers");
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json().as_array().cloned().unwrap_or_default()
}

/// Seconds from the one time of an alert to the other, which are less than a day apart.
fn seconds(alert: &Value, from: &str, to: &str) -> u64 {
    const DAY: u64 = 86_400;
    let of_day = |name: &str| {
        let text = alert[name].as_str().expect("a time");
        let part =
            |range| text.get(range).and_then(|t: &str| t.parse::<u64>().ok()).expect("digits");
        part(11..13) * 3600 + part(14..16) * 60 + part(17..19)
    };
    (of_day(to) + DAY - of_day(from)) % DAY
}

#[test]
fn alertmanager_shows_an_alert_keeps_it_firing_and_ends_it_with_its_problem() {
    let told = Receiver::willing();
    let mut config = Config::new();
    let (port, folder) = (free_port(), config.folder().to_owned());
    let file = folder.join("alertmanager.yml");
    fs::write(
        &file,
        format!(
            "route:\n  receiver: us\n  group_by: ['...']\n  group_wait: 0s\n  group_interval: 1s\n\
             receivers:\n  - name: us\n    webhook_configs:\n      - url: {}\n        \
             send_resolved: true\n",
            told.url("/told")
        ),
    )
    .unwrap();
    let listen = format!("--web.listen-address=127.0.0.1:{port}");
    let (file, data) = (
        format!("--config.file={}", text(&file)),
        format!("--storage.path={}", text(&folder.join("data"))),
    );
    let arguments = [listen.as_str(), &file, &data, "--cluster.listen-address="];
    let program = daemon("usr/bin/prometheus-alertmanager");
    let _server = Server::new(program, &arguments, folder.join("said"), port).begun();
    config = config.table(&format!(
        "[destinations.alerts]\ntype = \"alertmanager\"\nurl = \"http://127.0.0.1:{port}\"\n\
         resolve_after = \"6h\"\nresolved_by = {{ \"504\" = \"503\" }}\nlabels = {{ team = \"soc\" }}\n\
         concurrency = 1\nretry = {{ initial = \"20ms\", max = \"500ms\" }}"
    ));
    let mut gateway = Gateway::start(config);

    // Two agents are gone, one of them twice, and something else happens on it.
    let gone = [alert("504", 3, "001"), alert("504", 3, "002"), alert("504", 3, "001")].concat();
    gateway.accept(&(gone + &alert("5710", 12, "001")));
    gateway.wait_for_term("alerts", "delivered", 4);
    let shown = eventually("three alerts are shown", || {
        let shown = open(port);
        (shown.len() == 3).then_some(shown)
    });
    for alert in &shown {
        assert_eq!(alert["status"]["state"], "active", "{alert}");
        assert_eq!(alert["labels"]["team"], "soc", "{alert}");
        let lasts = seconds(alert, "updatedAt", "endsAt");
        assert!(lasts > FIVE_MINUTES && lasts <= 6 * 3600 + 60, "it fires for {lasts} s: {alert}");
    }
    let find = |rule: &str, agent: &str| {
        let of = |alert: &&Value| {
            alert["labels"]["rule_id"] == rule && alert["labels"]["agent_id"] == agent
        };
        open(port).iter().find(of).cloned()
    };
    let high = find("5710", "001").expect("it is shown");
    assert_eq!(high["labels"]["severity"], "critical", "{high}");
    assert_eq!(high["labels"]["agent"], "host \"001\"\\", "{high}");
    assert_eq!(high["annotations"]["summary"], "rule 5710 on host \"001\"\\", "{high}");

    // One agent is back.
    gateway.accept(&alert("503", 3, "001"));
    gateway.wait_for_term("alerts", "delivered", 5);
    eventually("its alert has ended", || holds(find("504", "001").is_none()));
    assert!(find("504", "002").is_some() && find("5710", "001").is_some(), "the others fire on");

    // What a person's pager would have been told.
    let words = |status: &str| {
        let bodies = told
            .exchanges()
            .into_iter()
            .filter_map(|one| serde_json::from_slice::<Value>(&one.request.body).ok());
        let alerts = bodies.flat_map(|b| b["alerts"].as_array().cloned().unwrap_or_default());
        alerts.filter(|alert| alert["status"] == status).collect::<Vec<_>>()
    };
    eventually("the receiver was told of the end", || holds(!words("resolved").is_empty()));
    let ended = words("resolved");
    assert!(
        ended.iter().all(|a| a["labels"]["agent_id"] == "001" && a["labels"]["rule_id"] == "504")
    );
    assert!(words("firing").len() >= 3, "{:?}", words("firing"));
    gateway.finish();
}
