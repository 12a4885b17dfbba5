//! The files under `config/` and the manual's page are as the program says, and they work.

use std::{env, fs, path::PathBuf};

use holdfast_connectors::destinations;
use holdfast_model::check_alert;
use holdfast_pipeline::LaneSettings;

use super::*;

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// Compares with the committed file, or writes it with `HOLDFAST_BLESS=1`.
#[track_caller]
fn check(path: &str, text: &str) {
    let file = shipped(path);
    if env::var("HOLDFAST_BLESS").as_deref() == Ok("1") {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    // The whole texts would not help anybody.
    let same = committed == text;
    assert!(same, "`{path}` is out of date; run the tests once with HOLDFAST_BLESS=1");
}

#[test]
fn the_commented_file_is_what_the_program_prints() {
    let text = reference::toml();
    assert!(text.lines().all(|line| !line.starts_with("# ") || line.chars().count() <= 95));
    check("config/holdfast.toml", &text);
}

#[test]
fn the_manual_is_what_the_program_prints() {
    check("docs/configuration.md", &reference::markdown());
}

/// The commented file with the lines set that `wanted` takes, and the tables among them.
fn uncommented(wanted: impl Fn(&str) -> bool) -> String {
    let set = |line: &str| match line.strip_prefix('#') {
        Some(key) if !key.starts_with(' ') && wanted(key) => format!("{key}\n"),
        _ => format!("{line}\n"),
    };
    reference::toml().lines().map(set).collect()
}

fn is_default(line: &str) -> bool {
    !line.starts_with('[') && !line.ends_with("# example")
}

#[test]
fn every_default_in_the_commented_file_is_the_default() {
    let gateway = |text: &str| text.split("# Sources:").next().unwrap().to_owned();
    let set = gateway(&uncommented(is_default));
    let keys = set.lines().filter(|line| line.contains(" = ") && !line.starts_with('#')).count();
    assert!(keys >= 15, "{set}");
    assert_eq!(format!("{:?}", read(&set).unwrap()), format!("{:?}", read("").unwrap()));
}

#[test]
fn every_common_default_in_the_commented_file_is_the_default() {
    let wanted = |line: &str| is_default(line) && !line.starts_with("order_key");
    let text = uncommented(|line| wanted(line) || line.starts_with('['));
    let (_, lanes) = text.split_once("[destinations.anything]").unwrap();
    // Storm control is there when its table is.
    let (before, storm) = lanes.split_once("[destinations.anything.digest]").unwrap();
    let (_, after) = storm.split_once("[destinations.anything.retry]").unwrap();
    let text = format!("[destinations.anything]{before}[destinations.anything.retry]{after}");
    let config = read(&text).unwrap();
    assert_eq!(config.destinations.len(), 1);
    assert_eq!(config.destinations[0].settings, LaneSettings::default());
}

#[test]
fn every_line_of_the_commented_file_is_valid() {
    let faults = faults(&uncommented(|_| true));
    // The examples name secrets that are not on this machine, and the alternatives are exclusive.
    let expected = [
        "is not set",
        "cannot be read",
        "is set by",
        "not both",
        "give either",
        "leave out",
        "`transport` is not",
        "there is no destination `vt`",
        "there is no destination `misp`",
    ];
    for fault in &faults {
        assert!(expected.iter().any(|words| fault.contains(words)), "{fault}");
    }
}

#[test]
fn the_quick_start_works_as_it_is() {
    let config = load(&shipped("config/quickstart.toml")).unwrap_or_else(|f| panic!("{f:?}"));
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:9470");
    let kinds: Vec<_> =
        config.destinations.iter().map(|lane| (lane.name.as_str(), lane.kind)).collect();
    assert_eq!(kinds, [("stdout", "stdout"), ("archive", "file")]);
    let here = env::current_dir().unwrap();
    assert_eq!(config.node.state, here.join("quickstart-data"));
    let samples = here.join("config/samples/alerts.json");
    let key = format!("alerts_file:{}", samples.display());
    assert_eq!(config.sources[0].1.position_key(), key);
}

#[test]
fn the_sample_alerts_are_alerts() {
    let text = fs::read_to_string(shipped("config/samples/alerts.json")).unwrap();
    assert_eq!(text.lines().count(), 34);
    for line in text.lines() {
        assert_eq!(check_alert(line.as_bytes(), 1 << 20), Ok(()), "{line}");
    }
}

#[test]
fn every_type_of_destination_has_an_example_that_builds() {
    for kind in destinations::CATALOG {
        let path = format!("config/destinations/{}.toml", kind.name);
        let text = fs::read_to_string(shipped(&path)).expect(&path);
        let config = read(&text).unwrap_or_else(|faults| panic!("{path}: {faults:?}"));
        assert_eq!(config.destinations.len(), 1, "{path}");
        assert_eq!(config.destinations[0].kind, kind.name, "{path}");
        assert!(text.starts_with("# "), "{path} explains itself");
    }
    let files = fs::read_dir(shipped("config/destinations")).unwrap().count();
    assert_eq!(files, destinations::CATALOG.len(), "an example of a type that is no more");
}

#[test]
fn every_type_of_destination_has_a_page_with_a_quick_start() {
    for kind in destinations::CATALOG {
        let path = format!("docs/destinations/{}.md", kind.name);
        let text = fs::read_to_string(shipped(&path)).expect(&path);
        assert!(text.starts_with("# "), "{path} has a title");
        let (_, rest) =
            text.split_once("```toml\n").unwrap_or_else(|| panic!("{path}: no example"));
        let (table, _) = rest.split_once("```").unwrap();
        assert!(table.contains(&format!("type = \"{}\"", kind.name)), "{path}: {table}");
        // The secrets it names are not on this machine; everything else is right.
        for fault in read(table).err().unwrap_or_default() {
            assert!(fault.problem.contains("cannot be read"), "{path}: {fault:?}");
        }
        assert!(text.contains("does not promise"), "{path} says what it does not promise");
    }
}

#[test]
fn the_usual_set_up_has_no_fault_but_secrets_that_are_not_here() {
    let text = fs::read_to_string(shipped("config/soc.toml")).unwrap();
    let faults = faults(&text);
    let keys =
        ["oncall.routing_key", "channel.webhook_url", "duty.url", "tickets.token", "cases.api_key"];
    assert_eq!(faults.len(), keys.len(), "{faults:?}");
    for (fault, key) in faults.iter().zip(keys) {
        assert!(fault.contains(&format!("destinations.{key}: ")), "{fault}");
        assert!(fault.contains("cannot be read"), "{fault}");
    }
    // With secrets in their places it is whole.
    let secret = "{ env = \"CARGO_PKG_NAME\" }";
    let text = text.replace("{ file = \"/etc/holdfast/secrets/thehive\" }", secret);
    let text = text.replace("{ file = \"/etc/holdfast/secrets/jira\" }", secret);
    let text = text.replace(
        "{ file = \"/etc/holdfast/secrets/pagerduty\" }",
        &format!("\"{}\"", "0".repeat(32)),
    );
    let url = "\"https://hooks.slack.example/services/T0/B0/x\"";
    let text = text.replace("{ file = \"/etc/holdfast/secrets/slack\" }", url);
    let text = text.replace("{ file = \"/etc/holdfast/secrets/duty-url\" }", url);
    let config = read(&text).unwrap();
    let kinds: Vec<_> = config.destinations.iter().map(|lane| lane.kind).collect();
    let expected = ["syslog", "pagerduty", "slack", "webhook", "jira", "thehive", "script"];
    assert_eq!(kinds, expected);
}
