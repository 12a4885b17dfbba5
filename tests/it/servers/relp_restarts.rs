//! An rsyslog that is killed and restarted again and again loses nothing of what it is sent over
//! RELP, because what it had not acknowledged is sent again.

use std::collections::BTreeMap;

use super::rsyslog::{Rsyslog, alert_of, relp};
use crate::support::{Config, Gateway, alerts, eventually, wait::holds};

const ALERTS: u64 = 10_000;
const RESTARTS: u64 = 5;
const CONCURRENCY: u64 = 4;
const BATCH: u64 = 100;

#[test]
fn ten_thousand_alerts_over_relp_survive_five_restarts_of_rsyslog() {
    let mut config = Config::new();
    let [modules, inputs] = relp();
    let mut rsyslog = Rsyslog::start(&config.file("rsyslog"), &modules, &inputs);
    config = config.table(&format!(
        "[destinations.siem]\ntype = \"syslog\"\naddress = \"127.0.0.1:{}\"\n\
         transport = \"relp\"\nformat = \"json\"\nconcurrency = {CONCURRENCY}\n\
         batch = {{ max_events = {BATCH}, max_wait = \"20ms\" }}\n\
         retry = {{ initial = \"20ms\", max = \"200ms\" }}\ntimeout = \"10s\"",
        rsyslog.port
    ));
    let mut gateway = Gateway::start(config);
    let each = ALERTS / RESTARTS;
    let mut caught = Vec::new();
    for round in 0..RESTARTS {
        let arrived = rsyslog.lines().len();
        gateway.accept(&alerts::ndjson(round * each..(round + 1) * each));
        eventually("some of them arrived", || holds(rsyslog.lines().len() > arrived + 100));
        let how = if round % 2 == 0 { "kill -9" } else { "TERM" };
        if round % 2 == 0 {
            rsyslog.server.kill()
        } else {
            rsyslog.server.terminate()
        }
        let sent = (round + 1) * each;
        caught.push(format!("{how} at {} of {sent}", distinct(&rsyslog).len()));
        rsyslog.server.begin();
    }
    gateway.wait_for_term("siem", "delivered", ALERTS);
    assert_eq!(gateway.lane("siem")["ledger"]["dead"], 0);

    let found = distinct(&rsyslog);
    let missing: Vec<u64> = (0..ALERTS).filter(|number| !found.contains_key(number)).collect();
    let repeated: u64 = found.values().sum::<u64>() - found.len() as u64;
    let bound = RESTARTS * CONCURRENCY * BATCH;
    println!(
        "rsyslog over RELP: {} restarts ({}); sent {ALERTS}, arrived {}, missing {}, repeated \
         {repeated} (at most {bound})",
        caught.len(),
        caught.join(", "),
        found.len(),
        missing.len()
    );
    assert!(missing.is_empty(), "missing: {missing:?}");
    assert!(repeated <= bound, "{repeated} were sent again");
    gateway.finish();
}

/// How often each alert arrived whole. A kill may have left half a message, with the next one behind
/// it on the same line; it was not acknowledged and came again.
fn distinct(rsyslog: &Rsyslog) -> BTreeMap<u64, u64> {
    let mut found = BTreeMap::new();
    for line in rsyslog.lines() {
        let Some(alert) = alert_of(&line) else { continue };
        let number = alerts::number(alert.as_bytes());
        if let Some(number) = number.filter(|number| alerts::alert(*number) == alert) {
            *found.entry(number).or_default() += 1;
        }
    }
    found
}
