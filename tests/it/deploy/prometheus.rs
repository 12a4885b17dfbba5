//! The alert rules: Prometheus' own tool runs their tests, and a running gateway has every metric
//! and label value that they name.

use std::collections::BTreeSet;

use super::{read, shipped, tool};
use crate::support::{Config, Gateway, Receiver};

const RULES: &str = "deploy/prometheus/holdfast.rules.yml";
const TESTS: &str = "deploy/prometheus/holdfast.test.yml";

/// What a running gateway shows, with a source and a lane.
fn metrics() -> String {
    let receiver = Receiver::willing();
    let config = Config::new();
    let file = config.file("alerts.json");
    std::fs::write(&file, "").unwrap();
    let config = config.tail(&file).webhook("soc", &receiver.url("/"), "");
    let mut gateway = Gateway::start(config);
    let text = gateway.get("/metrics").text;
    gateway.finish();
    text
}

/// The words of a text that begin so.
fn words<'a>(text: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    let part = |character: char| !character.is_ascii_alphanumeric() && character != '_';
    text.split(part).filter(|word| word.starts_with(prefix)).collect()
}

fn expressions(rules: &str) -> Vec<&str> {
    let all = rules.split("- alert: ").skip(1);
    all.map(|rule| {
        let (_, rest) = rule.split_once("expr: ").expect("a rule has an expression");
        let end = ["\n        for:", "\n        labels:"].iter().filter_map(|key| rest.find(key));
        rest[..end.min().expect("labels follow")].trim()
    })
    .collect()
}

/// `label` and value of each selector in a text: `a="x"`, `a!="x"`, `a=~"x|y"`.
fn selected(text: &str) -> BTreeSet<(&str, &str)> {
    let mut found = BTreeSet::new();
    for selector in text.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
        for matcher in selector.split(',') {
            let (label, values) = matcher.split_once('=').expect("a matcher");
            let label = label.trim().trim_end_matches('!');
            let values = values.trim_start_matches('~').trim().trim_matches('"');
            found.extend(values.split('|').map(|value| (label, value)));
        }
    }
    found
}

#[test]
fn a_running_gateway_has_every_metric_and_label_of_the_rules() {
    let (rules, shown) = (read(RULES), metrics());
    let expressions = expressions(&rules);
    assert!(expressions.len() >= 20, "{expressions:?}");
    let text = expressions.join("\n");
    let known = words(&shown, "holdfast_");
    let named = words(&text, "holdfast_");
    assert!(named.len() >= 20, "{named:?}");
    for name in named {
        assert!(known.contains(name), "{name} is not in /metrics");
    }
    for name in words(&text, "process_") {
        assert!(words(&shown, "process_").contains(name), "{name} is not in /metrics");
    }
    // The job is what the scrape configuration calls it.
    let job = "job_name: holdfast";
    assert!(read("deploy/prometheus/prometheus.yml").contains(job));
    assert!(read("deploy/docker/prometheus.yml").contains(job));
    for (label, value) in selected(&text) {
        let there = shown.contains(&format!("{label}=\"{value}\""));
        assert!(there || (label, value) == ("job", "holdfast"), "{label}=\"{value}\"");
    }
}

#[test]
fn the_manual_names_metrics_that_are_there() {
    let shown = metrics();
    let known = words(&shown, "holdfast_");
    for page in ["operating", "quickstart", "custom-integrations", "replacing-integratord"] {
        let text = read(&format!("docs/{page}.md"));
        for name in words(&text, "holdfast_").difference(&known) {
            assert_eq!(*name, "holdfast_note", "docs/{page}.md: {name} is not in /metrics");
        }
    }
}

/// What stands behind a key, line by line.
fn behind<'a>(text: &'a str, key: &str) -> BTreeSet<&'a str> {
    text.lines().filter_map(|line| line.trim().strip_prefix(key)).collect()
}

#[test]
fn every_rule_has_a_test_of_its_own() {
    let (rules, tests) = (read(RULES), read(TESTS));
    assert_eq!(behind(&rules, "- alert: "), behind(&tests, "- name: "));
}

#[test]
fn promtool_takes_the_rules_and_their_tests_hold() {
    let folder = shipped("deploy/prometheus");
    for arguments in [
        ["check", "rules", "holdfast.rules.yml"].as_slice(),
        &["test", "rules", "holdfast.test.yml"],
        &["check", "config", "--syntax-only", "prometheus.yml"],
        &["check", "config", "--syntax-only", "../docker/prometheus.yml"],
    ] {
        let said = tool("promtool", arguments, &folder);
        let said = said.expect("tests/run installs promtool");
        assert_eq!(said.code, Some(0), "{arguments:?}: {said:#?}");
        assert!(said.out.contains("SUCCESS"), "{arguments:?}: {said:#?}");
    }
}
