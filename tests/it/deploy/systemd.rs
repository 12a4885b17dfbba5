//! The unit: systemd's own tool reads it, and its paths, names and times are those of the binary.

use std::{fs, path::PathBuf};

use tempfile::TempDir;

use super::{read, shipped, tool};
use crate::support::binary;

const UNIT: &str = "deploy/systemd/holdfast.service";
const SCRIPTS: &str = "deploy/systemd/holdfast.service.d/scripts.conf";
const BINARY: &str = "/usr/local/bin/holdfast";

/// All values of a key, in order.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    let lines = unit.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

#[track_caller]
fn value<'a>(unit: &'a str, key: &str) -> &'a str {
    let found = values(unit, key);
    assert_eq!(found.len(), 1, "{key}: {found:?}");
    found[0]
}

/// The default of a key that `holdfast reference` prints.
#[track_caller]
fn default(key: &str) -> String {
    let reference = binary::run(&["reference"]).out;
    let line = |line: &str| Some(line.strip_prefix(&format!("#{key} = "))?.trim().to_owned());
    let found = reference.lines().find_map(line);
    let found = found.unwrap_or_else(|| panic!("{key} is not in the reference"));
    found.trim_end_matches("# example").trim().trim_matches('"').to_owned()
}

/// Units as systemd writes times here: `90s`, `15min`.
fn seconds(text: &str) -> u64 {
    let number = text.trim_end_matches(char::is_alphabetic);
    let unit = match &text[number.len()..] {
        "s" => 1,
        "min" | "m" => 60,
        other => panic!("{text}: {other}"),
    };
    number.parse::<u64>().unwrap() * unit
}

#[test]
fn the_unit_agrees_with_the_binary() {
    let unit = read(UNIT);
    // The command is one that the binary has, with the default configuration file.
    let command = value(&unit, "ExecStart");
    assert_eq!(command, format!("{BINARY} run --config /etc/holdfast/holdfast.toml"));
    let help = binary::run(&["run", "--help"]).out;
    assert!(help.contains("[default: /etc/holdfast/holdfast.toml]"), "{help}");
    // It has the folders that the defaults want.
    assert_eq!(default("state"), format!("/var/lib/{}", value(&unit, "StateDirectory")));
    assert_eq!(default("runtime_dir"), format!("/run/{}", value(&unit, "RuntimeDirectory")));
    // Nobody else may write where scripts' files are.
    assert_eq!(value(&unit, "RuntimeDirectoryMode"), "0700");
    // Reloads, sources, lanes, API, and the queue: each may take that long.
    let shutdown = seconds(&default("shutdown_timeout"));
    assert!(seconds(value(&unit, "TimeoutStopSec")) > 5 * shutdown);
    // The exit code of a faulty configuration.
    let faulty = binary::run(&["check", "--config", "/dev/null/none.toml"]);
    let prevented = value(&unit, "RestartPreventExitStatus");
    assert_eq!(faulty.code.unwrap().to_string(), prevented, "{faulty:?}");
    assert_eq!((value(&unit, "User"), value(&unit, "Group")), ("holdfast", "holdfast"));
    assert_eq!(value(&unit, "SupplementaryGroups"), "wazuh");
    assert_eq!(value(&unit, "Type"), "notify");
    assert!(seconds(value(&unit, "WatchdogSec")) >= 10);
}

#[test]
fn the_manual_installs_what_the_unit_names() {
    let page = read("docs/quickstart.md");
    for said in [
        BINARY,
        "/etc/holdfast/holdfast.toml",
        "useradd --system",
        "deploy/systemd/holdfast.service",
        "/etc/systemd/system/",
        "systemctl reload holdfast",
    ] {
        assert!(page.contains(said), "docs/quickstart.md does not say {said}");
    }
    let scripts = read("docs/custom-integrations.md");
    assert!(scripts.contains(SCRIPTS) && scripts.contains("integrations.log"));
    // What the drop-in lets scripts write is where the contract says.
    let drop_in = read(SCRIPTS);
    let home = default("wazuh_home");
    assert_eq!(value(&drop_in, "ReadWritePaths"), format!("-{home}/logs"));
    assert!(drop_in.contains(&format!("chmod g+w {home}/logs/integrations.log")));
    // What it undoes is what the unit does.
    let unit = read(UNIT);
    assert_eq!(value(&unit, "InaccessiblePaths"), format!("-{home}/etc"));
    assert_eq!(value(&drop_in, "InaccessiblePaths"), "");
}

#[test]
fn systemd_reads_the_unit_with_its_drop_in() {
    let folder = TempDir::new().unwrap();
    let place = |name: &str| -> PathBuf { folder.path().join(name) };
    fs::create_dir(place("holdfast.service.d")).unwrap();
    // It wants the program to be there.
    let program = binary::command().get_program().to_str().unwrap().to_owned();
    fs::write(place("holdfast.service"), read(UNIT).replace(BINARY, &program)).unwrap();
    fs::copy(shipped(SCRIPTS), place("holdfast.service.d/scripts.conf")).unwrap();
    let file = place("holdfast.service").display().to_string();
    if let Some(said) = tool("systemd-analyze", &["verify", "--man=no", &file], folder.path()) {
        assert_eq!(said.code, Some(0), "{said:#?}");
        // It warns of keys that it does not know, and goes on.
        let ours = said.err.lines().filter(|line| line.contains("holdfast.service"));
        assert_eq!(ours.collect::<Vec<_>>(), Vec::<&str>::new());
    }
    // 2.0 and less out of 10 is what systemd calls OK.
    let arguments = ["security", "--offline=yes", "--threshold=20", &file];
    if let Some(said) = tool("systemd-analyze", &arguments, folder.path()) {
        assert_eq!(said.code, Some(0), "{said:#?}");
    }
}

#[test]
fn every_limit_of_the_unit_is_written_once_and_is_none_that_only_looks_like_one() {
    let unit = read(UNIT);
    for (key, wanted) in [
        ("CapabilityBoundingSet", ""),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
        ("Restart", "on-failure"),
        ("ExecReload", "/bin/kill -HUP $MAINPID"),
        ("LimitNOFILE", "65536"),
        ("MemoryMax", "1G"),
    ] {
        assert_eq!(value(&unit, key), wanted, "{key}");
    }
    let filter = values(&unit, "SystemCallFilter");
    assert_eq!(filter, ["@system-service", "~@privileged @resources"]);
    // A comment behind a value would be a part of it.
    let set = unit.lines().filter(|line| !line.starts_with('#'));
    assert!(set.into_iter().all(|line| !line.contains(" #")), "{unit}");
}
