//! `holdfast check` and `holdfast run` name every fault of a configuration at once.

use std::{fs, os::unix::fs::PermissionsExt};

use serde_json::Value;

use crate::support::{Config, Gateway, binary, config::write_private};

/// Ten faults and one more, each marked on its own line.
const FAULTY: &str = r#"
[node]
state = "/tmp/holdfast-never-made"
colour = "blue"                                # 1 unknown key
shutdown_timeout = "10 parsecs"                # 2 no such unit
[server]
listen = "localhost"                           # 3 no address with a port
tokens = [ { name = "a", role = "boss", token = "0123456789abcdef" } ]   # 4 no such role
[queue]
max_size = "plenty"                            # 5 no size
[sources.wazuh]
type = "alert_file"                            # 6 no such type
[destinations.a]
type = "webhook"
url = "ftp://host/"                            # 7 no such scheme
concurrency = 0                                # 8 below the least
[destinations.b]
type = "slak"                                  # 9 no such type
[destinations.c]
type = "stdout"
retry = { initial = "1h", max = "1s" }         # 10 the first is longer than the longest
when = { level = 99 }                          # 11 no such level
"#;

fn faulty_lines() -> Vec<usize> {
    let marked = |(_, line): &(usize, &str)| line.contains(" # ");
    (1..).zip(FAULTY.lines()).filter(marked).map(|(number, _)| number).collect()
}

#[test]
fn all_faults_are_named_with_their_lines_and_the_exit_code_says_configuration() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("faulty.toml");
    write_private(&path, FAULTY);
    let path = path.to_str().unwrap();
    for command in ["check", "run"] {
        let said = binary::run(&[command, "--config", path]);
        assert_eq!(said.code, Some(78), "{command}: {said:?}");
        for line in faulty_lines() {
            let named = said.err.lines().any(|text| text.starts_with(&format!("{path}:{line}:")));
            assert!(named, "{command} does not name line {line}:\n{}", said.err);
        }
        assert_eq!(faulty_lines().len(), 11);
    }
    let said = binary::run(&["check", "--json", "--config", path]);
    let report: Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(report["ok"], false);
    let faults = report["faults"].as_array().unwrap();
    let lines: Vec<u64> = faults.iter().filter_map(|fault| fault["line"].as_u64()).collect();
    assert!(faulty_lines().iter().all(|line| lines.contains(&(*line as u64))), "{report:#}");
    assert!(!fs::exists("/tmp/holdfast-never-made").unwrap(), "nothing is made");
}

#[test]
fn what_is_no_toml_or_no_text_or_not_there_is_said_with_its_place() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("f.toml");
    let path_text = path.to_str().unwrap();
    let check = || binary::run(&["check", "--config", path_text]);
    assert_eq!(check().code, Some(78), "missing");
    for (text, line) in [(&b"[node]\nname = \n"[..], 2), (b"[node]\n\nname = \"\xff\"\n", 3)] {
        fs::write(&path, text).unwrap();
        let said = check();
        assert_eq!(said.code, Some(78));
        assert!(said.err.contains(&format!("{path_text}:{line}:")), "{said:?}");
    }
    fs::write(&path, "").unwrap();
    assert_eq!(check().code, Some(0), "nothing is all defaults: {:?}", check());
    assert_eq!(binary::run(&["no-such-command"]).code, Some(2));
}

#[test]
fn a_literal_secret_in_a_file_that_others_can_read_is_refused() {
    let config = Config::new();
    let path = config.write(9470);
    let check = || binary::run(&["check", "--config", path.to_str().unwrap()]);
    assert_eq!(check().code, Some(0), "{:?}", check());
    for mode in [0o644, 0o604, 0o620, 0o602] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let said = check();
        assert_eq!(said.code, Some(78), "mode {mode:o}: {said:?}");
    }
}

#[test]
fn a_secret_file_that_others_can_read_is_refused() {
    let config = Config::new();
    let secret = config.secret("token", "a-token-in-a-file-0123");
    let keys = format!("bearer = {{ file = \"{}\" }}", secret.display());
    let config = config.webhook("hook", "http://127.0.0.1:1/", &keys);
    let path = config.write(9470);
    let check = || binary::run(&["check", "--config", path.to_str().unwrap()]);
    assert_eq!(check().code, Some(0), "{:?}", check());
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    let said = check();
    assert_eq!(said.code, Some(78), "{said:?}");
    assert!(said.err.contains("token"), "{said:?}");
}

#[test]
fn a_port_that_is_taken_ends_the_start_with_a_reason() {
    let mut first = Gateway::start(Config::new());
    let config = Config::new();
    let path = config.write(first.port);
    let said = binary::run(&["run", "--config", path.to_str().unwrap()]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("cannot listen"), "{said:?}");
    first.finish();
}

#[test]
fn a_gateway_that_is_not_there_is_unreachable() {
    let gateway = Gateway::new(Config::new());
    let said = gateway.cli(&["status", "--url", "http://127.0.0.1:1"]);
    assert_eq!(said.code, Some(69), "{said:?}");
}
