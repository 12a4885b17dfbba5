//! The shipped `config/soc.toml`, as it is but for addresses, secrets and paths: every far end gets
//! exactly the alerts that its `when` selects.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
};

use serde_json::{Value, json};

use crate::{
    servers::rsyslog::{Rsyslog, alert_of, relp},
    support::{
        Config, Gateway, Receiver, Reply, Request, alerts, config::write_private, eventually,
        wait::holds,
    },
};

const SHIPPED: &str = include_str!("../../config/soc.toml");

const ROUTING_KEY: &str = "0123456789abcdef0123456789abcdef";
const JIRA_TOKEN: &str = "jira-token-0123456789";
const HIVE_KEY: &str = "hive-key-0123456789";

/// `holdfast@example.com:` and the token, as Basic sends it (RFC 7617).
const JIRA_BASIC: &str = "Basic aG9sZGZhc3RAZXhhbXBsZS5jb206amlyYS10b2tlbi0wMTIzNDU2Nzg5";

/// What each lane's `when` selects, written anew from the words of the manual's page.
fn selects(lane: &str, alert: &Value) -> bool {
    let level = alert["rule"]["level"].as_u64().unwrap_or(0);
    let groups = alert["rule"]["groups"].as_array().cloned().unwrap_or_default();
    let any = |of: &[&str]| groups.iter().any(|group| of.iter().any(|name| group == name));
    match lane {
        "siem" => true,
        "oncall" | "channel" | "duty" => level >= 12,
        "tickets" => level >= 7 && any(&["vulnerability-detector", "sca"]),
        "cases" => {
            level >= 7 && any(&["virustotal", "rootcheck", "attack", "authentication_failures"])
        }
        "block" => {
            let attackers = any(&["attack", "web_scan", "authentication_failures"]);
            level >= 10 && attackers && !alert["data"]["srcip"].is_null()
        }
        other => panic!("there is no lane {other}"),
    }
}

fn expected(lane: &str) -> BTreeSet<u64> {
    let numbers = 0..alerts::sample_count() as u64;
    let read = |number: &u64| -> Value { serde_json::from_str(&alerts::alert(*number)).unwrap() };
    numbers.filter(|number| selects(lane, &read(number))).collect()
}

/// What the far ends answer when all is well.
fn vendor(request: &Request) -> Reply {
    let said = |status: u16, body: Value| Reply::text(status, &body.to_string());
    match request.path.as_str() {
        "/v2/enqueue" => {
            said(202, json!({ "status": "success", "message": "processed", "dedup_key": "k" }))
        }
        "/services/T0/B0/x" => Reply::text(200, "ok"),
        "/jira/rest/api/3/search/jql" => said(200, json!({ "issues": [], "isLast": true })),
        "/jira/rest/api/3/issue" => {
            let number = request.number.to_string();
            said(201, json!({ "id": number, "key": format!("SEC-{number}"), "self": "x" }))
        }
        "/hive/api/v1/alert" => said(201, json!({ "_id": format!("~{}", request.number) })),
        "/page" => Reply::status(204),
        other => Reply::text(404, other),
    }
}

/// The shipped file with other addresses, secrets and paths. Each must be in it.
fn localised(folder: &Path, siem: u16, vendors: &Receiver) -> String {
    let (_, text) = SHIPPED.split_once("[sources.wazuh]").expect("it has a source");
    let mut text = format!("[sources.wazuh]{text}");
    let place = |name: &str| folder.join(name).display().to_string();
    let mut replace = |from: &str, to: &str| {
        assert!(text.contains(from), "{from} is no longer in config/soc.toml");
        text = text.replace(from, to);
    };
    replace("siem.example:20514", &format!("127.0.0.1:{siem}"));
    replace("https://events.pagerduty.com/v2/enqueue", &vendors.url("/v2/enqueue"));
    replace("https://example.atlassian.net", &vendors.url("/jira"));
    replace("https://thehive.example", &vendors.url("/hive"));
    replace("/etc/holdfast/secrets", &place("secrets"));
    replace("/var/ossec", &place("ossec"));
    text
}

fn secrets(folder: &Path, vendors: &Receiver) {
    fs::create_dir(folder.join("secrets")).unwrap();
    let slack = vendors.url("/services/T0/B0/x");
    let page = vendors.url("/page");
    for (name, text) in [
        ("pagerduty", ROUTING_KEY),
        ("slack", &slack),
        ("duty-url", &page),
        ("jira", JIRA_TOKEN),
        ("thehive", HIVE_KEY),
    ] {
        write_private(&folder.join("secrets").join(name), text);
    }
}

/// A manager's folder: no alerts yet, and a script that keeps what it is given.
fn manager(folder: &Path) {
    for name in ["logs/alerts", "integrations"] {
        fs::create_dir_all(folder.join("ossec").join(name)).unwrap();
    }
    fs::write(folder.join("ossec/logs/alerts/alerts.json"), "").unwrap();
    let script = folder.join("ossec/integrations/custom-block");
    fs::write(&script, "#!/bin/sh\ncat \"$1\" >> blocked.ndjson\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o750)).unwrap();
}

/// The numbers of the alerts in the bodies of some requests, by the event ids that they name.
fn numbers(requests: &[&Request], of_id: &BTreeMap<String, u64>) -> Vec<u64> {
    let number = |request: &&Request| {
        let body = request.text();
        // The longest id, so that 1 is not found in 12.
        let mut named = of_id.iter().filter(|(id, _)| body.contains(id.as_str()));
        let first = named.next().expect("a body names its event");
        *named.fold(first, |best, one| if one.0.len() > best.0.len() { one } else { best }).1
    };
    let mut numbers: Vec<u64> = requests.iter().map(number).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn the_shipped_set_up_of_a_soc_sends_each_far_end_exactly_what_its_filter_selects() {
    let mut config = Config::new();
    let folder = config.folder().to_owned();
    let [modules, inputs] = relp();
    let siem = Rsyslog::start(&folder.join("siem"), &modules, &inputs);
    let vendors = Receiver::start(vendor);
    secrets(&folder, &vendors);
    manager(&folder);
    config = config.table(&localised(&folder, siem.port, &vendors));
    let mut gateway = Gateway::start(config);
    eventually("it follows the manager's file", || holds(gateway.log().contains("reading")));
    let count = alerts::sample_count() as u64;
    let file = folder.join("ossec/logs/alerts/alerts.json");
    let mut file = OpenOptions::new().append(true).open(file).unwrap();
    file.write_all(alerts::ndjson(0..count).as_bytes()).unwrap();

    let lanes = ["siem", "oncall", "channel", "duty", "tickets", "cases", "block"];
    for lane in lanes {
        let selected = expected(lane).len() as u64;
        assert!(selected > 0, "{lane}: no sample shows that it works");
        gateway.wait_for_term(lane, "delivered", selected);
        gateway.wait_for_term(lane, "filtered", count - selected);
        println!("{lane}: {selected} of {count}");
    }

    // The SIEM has everything, and its messages say which id is which alert.
    let mut of_id = BTreeMap::new();
    for line in siem.lines() {
        let alert = alert_of(&line).expect("a message holds the alert");
        let number = alerts::number(alert.as_bytes()).unwrap();
        assert_eq!(alert, alerts::alert(number));
        let id = line.split(" id=\"").nth(1).unwrap().split('"').next().unwrap();
        of_id.insert(id.to_owned(), number);
    }
    assert_eq!(siem.lines().len() as u64, count);
    assert_eq!(of_id.values().copied().collect::<BTreeSet<_>>(), expected("siem"));

    let exchanges = vendors.exchanges();
    let at = |path: &str| -> Vec<&Request> {
        let requests = exchanges.iter().map(|exchange| &exchange.request);
        requests.filter(|request| request.path == path).collect()
    };
    for (lane, path) in [
        ("oncall", "/v2/enqueue"),
        ("channel", "/services/T0/B0/x"),
        ("tickets", "/jira/rest/api/3/issue"),
        ("cases", "/hive/api/v1/alert"),
    ] {
        let found = numbers(&at(path), &of_id);
        assert_eq!(found, expected(lane).into_iter().collect::<Vec<_>>(), "{lane}");
    }
    let searches = at("/jira/rest/api/3/search/jql").len();
    let known: usize = expected("oncall").len() * 3
        + expected("tickets").len()
        + expected("cases").len()
        + searches;
    assert_eq!(exchanges.len(), known, "nobody was asked anything else");

    // With their credentials, and the paging webhook and the script with the alert itself.
    for request in at("/v2/enqueue") {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(body["routing_key"], ROUTING_KEY);
    }
    let tickets = at("/jira/rest/api/3/issue");
    assert!(tickets.iter().all(|request| request.header("authorization") == Some(JIRA_BASIC)));
    let bearer = format!("Bearer {HIVE_KEY}");
    let cases = at("/hive/api/v1/alert");
    assert!(cases.iter().all(|request| request.header("authorization") == Some(bearer.as_str())));
    let pages: BTreeSet<String> = at("/page").iter().map(|request| request.text()).collect();
    assert_eq!(pages, expected("duty").into_iter().map(alerts::alert).collect());
    let blocked = fs::read_to_string(folder.join("ossec/blocked.ndjson")).unwrap();
    let mut blocked: Vec<u64> = alerts::numbers(blocked.as_bytes());
    blocked.sort_unstable();
    assert_eq!(blocked, expected("block").into_iter().collect::<Vec<_>>());
    gateway.finish();
}
