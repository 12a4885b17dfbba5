//! Every place an event can be sent.
//!
//! One file per destination. To add one: write `name.rs` with a `KIND`, then add its `mod` and its
//! line in [`CATALOG`]. The configuration, its reference, the examples under `config/` and the tidy
//! test read the catalogue, so nothing else changes.

mod alertmanager;
mod discord;
mod elasticsearch;
mod email;
mod file;
mod jira;
mod mattermost;
mod misp;
mod opencti;
mod opsgenie;
mod osquery;
mod pagerduty;
mod process;
mod script;
mod servicenow;
mod shuffle;
mod slack;
mod splunk_hec;
mod stdout;
mod syslog;
mod teams;
mod telegram;
mod thehive;
mod wazuh_active_response;
mod wazuh_events;
mod wazuh_socket;
mod webhook;
mod xsoar;

use std::sync::Arc;

use holdfast_model::{
    Destination, Name,
    settings::{Section, Setting},
};

use crate::http;

/// Every type of destination, in the order users see them.
#[rustfmt::skip]
pub const CATALOG: &[Kind] = &[
    webhook::KIND,
    script::KIND,
    process::KIND,
    file::KIND,
    stdout::KIND,
    slack::KIND,
    teams::KIND,
    discord::KIND,
    mattermost::KIND,
    telegram::KIND,
    email::KIND,
    pagerduty::KIND,
    opsgenie::KIND,
    alertmanager::KIND,
    jira::KIND,
    servicenow::KIND,
    shuffle::KIND,
    thehive::KIND,
    xsoar::KIND,
    misp::KIND,
    opencti::KIND,
    osquery::KIND,
    syslog::KIND,
    splunk_hec::KIND,
    elasticsearch::KIND,
    wazuh_socket::KIND,
    wazuh_events::KIND,
    wazuh_active_response::KIND,
];

/// What the gateway knows about a type of destination before one is configured.
pub struct Kind {
    /// The `type` written in the configuration, and the file's name here.
    pub name: &'static str,
    /// One line for the reference and `holdfast check`.
    pub summary: &'static str,
    /// A complete, working table body. Tests build it.
    pub example: &'static str,
    /// The keys of this type, beside those that every destination has.
    pub settings: &'static [&'static Setting],
    /// Whether one request can carry several events.
    pub batches: bool,
    /// Whether all it does goes through the HTTP client, so that it can be rehearsed without being
    /// done ([`crate::http::rehearse`]). It takes the keys [`crate::http::SETTINGS`] then.
    pub http: bool,
    /// What [`Kind::make`] calls, with the way out in the context.
    pub build: fn(&Section<'_>, &Context) -> Option<Arc<dyn Destination>>,
}

/// What every destination is told besides its own settings.
#[derive(Clone, Debug)]
pub struct Context {
    /// The destination's own name.
    pub name: Name,
    /// Longest wait for one attempt, connect to last byte: the common key `timeout`.
    pub timeout: std::time::Duration,
    /// Whether one request may carry several events: `batch.max_events` is above 1. A receiver of
    /// batches gets a lone event in the same form as many.
    pub batched: bool,
    /// How a batch is written: the common key `batch.format`.
    pub batch_format: BatchFormat,
    /// The way to receivers over HTTP. [`Kind::make`] reads it.
    pub network: http::Network,
}

/// How several alerts are written into one request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchFormat {
    /// One alert a line.
    Ndjson,
    /// One JSON array.
    Array,
    /// Lines `{"id":…,"seq":…,"alert":…}`, by which a receiver can dedupe the members.
    Envelope,
}

// === impl Kind ===

impl Kind {
    /// Reads the section, reports its faults, and builds the destination if there are none.
    pub fn make(&self, section: &Section<'_>, context: &Context) -> Option<Arc<dyn Destination>> {
        if !self.http {
            return (self.build)(section, context);
        }
        let network = http::Network::read(section);
        let unfit = network.is_none();
        let context = Context { network: network.unwrap_or_default(), ..context.clone() };
        (self.build)(section, &context).filter(|_| !unfit)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;
    use crate::testing::{build, context};

    #[test]
    fn every_file_here_is_in_the_catalogue() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/destinations");
        let files: BTreeSet<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .filter(|stem| stem != "mod")
            .collect();
        let listed: BTreeSet<String> = CATALOG.iter().map(|kind| kind.name.to_owned()).collect();
        assert_eq!(files, listed, "what destinations share lives beside this folder");
        assert_eq!(CATALOG.len(), listed.len(), "a type is listed twice");
    }

    #[test]
    fn every_example_builds_and_every_setting_is_documented() {
        for kind in CATALOG {
            if let Err(faults) = build(kind, kind.example, &context()) {
                panic!("the example for `{}` does not build: {faults:?}", kind.name);
            }
            assert!(kind.summary.ends_with('.'), "{}", kind.summary);
            for setting in kind.settings {
                let documented = setting.doc.ends_with('.') && !setting.example.is_empty();
                assert!(documented, "{}: `{}`", kind.name, setting.name);
            }
        }
    }

    #[test]
    fn every_destination_over_http_takes_the_keys_of_http() {
        for kind in CATALOG {
            // Before the tables of an example.
            for keys in
                ["proxy = \"http://127.0.0.1:1\"\ntls = {}", "allow_addresses = [\"0.0.0.0/0\"]"]
            {
                let built = build(kind, &format!("{keys}\n{}", kind.example), &context());
                assert_eq!(built.is_ok(), kind.http, "{}: {built:?}", kind.name);
            }
            let keys = "allow_addresses = [\"10.0.0.0/33\"]";
            let faults = build(kind, &format!("{keys}\n{}", kind.example), &context());
            assert_eq!(faults.unwrap_err()[0].key, "destinations.lane.allow_addresses");
        }
    }

    #[test]
    fn a_key_that_is_unknown_or_of_another_type_is_a_fault() {
        for kind in CATALOG {
            let table = format!("{}\nfrobnicate = true", kind.example);
            let faults = build(kind, &table, &context()).unwrap_err();
            assert_eq!(faults[0].key, "destinations.lane.frobnicate", "{}", kind.name);
            let names = kind.settings.iter().map(|setting| setting.name).collect::<Vec<_>>();
            assert!(names.iter().all(|name| faults[0].problem.contains(name)), "{faults:?}");
            let wrong: String = names.iter().map(|name| format!("{name} = [[1]]\n")).collect();
            let faults = build(kind, &wrong, &context()).unwrap_err();
            let keys: BTreeSet<_> = faults.iter().map(|fault| fault.key.as_str()).collect();
            for name in names {
                assert!(keys.contains(format!("destinations.lane.{name}").as_str()), "{name}");
            }
        }
    }
}
