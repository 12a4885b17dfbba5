//! syslog-ng takes RFC 5424 over TCP with octet counting, and reads every part of it as we meant it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::server::{Server, daemon};
use crate::support::{Config, Gateway, alerts, config::free_port, eventually, wait::holds};

/// Writes what it understood of each message as a line of JSON.
fn syslog_ng(folder: &Path, port: u16) -> Server {
    let file = folder.join("understood");
    let config = folder.join("syslog-ng.conf");
    let template = "$(format-json --scope none pri=$PRI host=$HOST program=$PROGRAM msgid=$MSGID \
                    date=$ISODATE key=${.SDATA.holdfast@32473.key} \
                    id=${.SDATA.holdfast@32473.id} rule=${.SDATA.holdfast@32473.rule} \
                    agent=${.SDATA.holdfast@32473.agent} message=$MESSAGE)\\n";
    let written = format!(
        "@version: 3.38\n@module syslogformat\n@module afsocket\n@module affile\n@module json-plugin\n\
         options {{ stats-freq(0); keep-hostname(yes); use-dns(no); time-zone(\"UTC\"); \
         log-msg-size(262144); }};\n\
         source s {{ syslog(transport(\"tcp\") ip(\"127.0.0.1\") port({port})); }};\n\
         destination d {{ file(\"{}\" template(\"{template}\")); }};\n\
         log {{ source(s); destination(d); flags(flow-control); }};\n",
        file.display()
    );
    fs::write(&config, written).expect("write its file");
    let libraries = daemon("usr/lib/syslog-ng");
    let modules = folder_in(&libraries);
    let option = |name: &str, path: &Path| format!("--{name}={}", path.display());
    let arguments = [
        "--foreground".to_owned(),
        "--no-caps".to_owned(),
        "--stderr".to_owned(),
        option("cfgfile", &config),
        option("module-path", &modules),
        option("persist-file", &folder.join("persist")),
        option("control", &folder.join("control")),
        option("pidfile", &folder.join("pid")),
    ];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Server::new(daemon("usr/sbin/syslog-ng"), &arguments, folder.join("said"), port)
        .environment("LD_LIBRARY_PATH", libraries)
        .begun()
}

/// Its modules are in a folder that is called like its version.
fn folder_in(folder: &Path) -> PathBuf {
    let entries = fs::read_dir(folder).expect("syslog-ng was unpacked");
    let mut folders = entries.filter_map(|entry| Some(entry.ok()?.path()));
    folders.find(|path| path.is_dir()).expect("a folder of modules")
}

#[test]
fn syslog_ng_reads_every_part_of_every_sample() {
    let mut config = Config::new();
    let port = free_port();
    let folder = config.folder().to_owned();
    let _server = syslog_ng(&folder, port);
    config = config.table(&format!(
        "[destinations.siem]\ntype = \"syslog\"\naddress = \"127.0.0.1:{port}\"\n\
         transport = \"tcp\"\nformat = \"json\"\nfacility = 13\n\
         batch = {{ max_events = 20, max_wait = \"20ms\" }}"
    ));
    let mut gateway = Gateway::start(config);
    let count = alerts::sample_count() as u64;
    let first = gateway.accept(&alerts::ndjson(0..count))["first"].clone();
    gateway.wait_for_term("siem", "delivered", count);
    let read = || fs::read_to_string(folder.join("understood")).unwrap_or_default();
    eventually("all arrived", || holds(read().lines().count() as u64 >= count));

    let mut seen = 0;
    let mut keys = Vec::new();
    for line in read().lines() {
        let understood: Value =
            serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let message = understood["message"].as_str().unwrap();
        let number = alerts::number(message.as_bytes()).unwrap();
        assert_eq!(message, alerts::alert(number), "the message is the alert, byte for byte");
        let alert: Value = serde_json::from_str(message).unwrap();
        let part = |pointer: &str| alert.pointer(pointer).and_then(Value::as_str);
        for (name, expected) in [
            ("rule", part("/rule/id")),
            ("agent", part("/agent/name")),
            ("host", part("/manager/name")),
            ("program", Some("holdfast")),
            ("msgid", Some("alert")),
        ] {
            let found = understood[name].as_str().filter(|text| !text.is_empty());
            assert_eq!(found, expected, "{name} of {number}");
        }
        // 13 is the facility; the severity follows the level.
        let pri: u64 = understood["pri"].as_str().unwrap().parse().unwrap();
        let severity = match alert["rule"]["level"].as_u64().unwrap() {
            0..=3 => 6,
            4..=6 => 5,
            7..=11 => 4,
            12..=14 => 3,
            _ => 2,
        };
        assert_eq!(pri, 13 * 8 + severity, "{number}");
        if Some(&understood["id"]) == Some(&first) {
            seen += 1;
        }
        keys.push(understood["key"].as_str().unwrap().to_owned());
    }
    keys.sort_unstable();
    keys.dedup();
    assert_eq!((seen, keys.len() as u64), (1, count), "every event has its own key");
    gateway.finish();
}
