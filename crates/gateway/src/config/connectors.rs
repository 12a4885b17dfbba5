//! `[sources.NAME]` and `[destinations.NAME]`: built here, so that their secrets are judged too.

use std::collections::BTreeMap;

use holdfast_connectors::{
    destinations::{self, BatchFormat, Context},
    http::Network,
    sources::{self, Source},
};
use holdfast_model::{
    Name,
    settings::{Section, Setting, Value},
};
use holdfast_pipeline::{LaneConfig, LaneSettings};

use super::names;

/// The source that is always there; the API brings it.
const HTTP_SOURCE: &str = "http";

/// Stands for a name that is a fault, so that the rest of its table can be judged.
const UNNAMED: &str = "unnamed";

pub(super) const SOURCE_TYPE: Setting =
    Setting::optional("type", "\"alerts_file\"", "What it reads; the types follow.");
pub(super) const DESTINATION_TYPE: Setting =
    Setting::optional("type", "\"webhook\"", "What it sends to; the types follow.");

/// Builds every source.
pub(super) fn read_sources(root: &Section<'_>) -> Vec<(Name, Box<dyn Source>)> {
    let tables = root.table_or_empty("sources").each_table();
    tables.iter().filter_map(|(text, section)| read_source(text, section)).collect()
}

fn read_source(text: &str, section: &Section<'_>) -> Option<(Name, Box<dyn Source>)> {
    let mut name = names::check(section, "", text);
    if text == HTTP_SOURCE {
        let problem = "the name `http` is that of the API, which is always there; take another";
        section.fault("", problem);
        name = None;
    }
    let kind = names::choose(section, &SOURCE_TYPE, sources::CATALOG, |kind| kind.name)?;
    let source = (kind.build)(section, &name_or_stand_in(name.as_ref())?);
    section.finish();
    Some((name?, source?))
}

/// Builds every destination with its lane's settings.
pub(super) fn read_destinations(root: &Section<'_>, dead_bytes_max: u64) -> Vec<LaneConfig> {
    let tables = root.table_or_empty("destinations").each_table();
    check_renamed(&tables);
    let read =
        |(text, section): &(&str, Section<'_>)| read_destination(text, section, dead_bytes_max);
    let lanes: Vec<LaneConfig> = tables.iter().filter_map(read).collect();
    check_enrich(&tables, &lanes);
    lanes
}

/// What a destination asks before it sends must be there, and answer.
fn check_enrich(tables: &[(&str, Section<'_>)], lanes: &[LaneConfig]) {
    let find = |name: &str| lanes.iter().find(|lane| lane.name.as_str() == name);
    for (own, section) in tables {
        let Some(lane) = find(own) else { continue };
        for name in lane.settings.enrich.iter().map(Name::as_str) {
            let is_there = tables.iter().any(|(other, _)| *other == name);
            let problem = match find(name) {
                _ if name == *own => "it cannot ask itself".to_owned(),
                Some(found) if found.destination.is_lookup() => continue,
                Some(found) => format!("`{name}` is a {}, which answers no questions", found.kind),
                // Its own faults are told where they are.
                None if is_there => continue,
                None => format!("there is no destination `{name}`"),
            };
            section.fault("enrich", problem);
        }
    }
}

/// A name that is given up has one heir, and nobody else has it.
fn check_renamed(tables: &[(&str, Section<'_>)]) {
    let mut heirs: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, section) in tables {
        let Some(Value::Text(old)) = section.node("renamed_from").map(|node| &node.value) else {
            continue;
        };
        if tables.iter().any(|(other, _)| other == old) {
            let problem = format!("there is a destination `{old}`, so nothing was renamed");
            section.fault("renamed_from", problem);
        } else if let Some(other) = heirs.insert(old, name) {
            section.fault("renamed_from", format!("`{other}` takes over `{old}` already"));
        }
    }
}

fn read_destination(text: &str, section: &Section<'_>, dead_bytes_max: u64) -> Option<LaneConfig> {
    let name = names::check(section, "", text);
    if holdfast_queue::job_of_lane(text).is_some() {
        section.fault(
            "",
            format!("the lane of replay job `{text}` could have this name; take another"),
        );
    }
    let settings = LaneSettings::read(section);
    let kind = names::choose(section, &DESTINATION_TYPE, destinations::CATALOG, |kind| kind.name)?;
    check_batches(section, &settings, kind);
    let context = Context {
        name: name_or_stand_in(name.as_ref())?,
        timeout: settings.timeout,
        batched: settings.batch.events_max > 1,
        batch_format: match settings.batch_format {
            "array" => BatchFormat::Array,
            "envelope" => BatchFormat::Envelope,
            _ => BatchFormat::Ndjson,
        },
        network: Network::default(),
    };
    let destination = kind.make(section, &context);
    section.finish();
    Some(LaneConfig {
        name: name?,
        kind: kind.name,
        settings,
        destination: destination?,
        dead_bytes_max,
    })
}

fn check_batches(section: &Section<'_>, settings: &LaneSettings, kind: &destinations::Kind) {
    if kind.batches || settings.batch.events_max <= 1 {
        return;
    }
    if let Some(batch) = section.table("batch") {
        let problem = format!("a {} takes one event a request, so it must be 1", kind.name);
        batch.fault("max_events", problem);
    }
}

fn name_or_stand_in(name: Option<&Name>) -> Option<Name> {
    name.cloned().or_else(|| Name::new(UNNAMED).ok())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use holdfast_model::settings::{Node, Value};

    use super::*;

    #[test]
    fn a_batch_for_a_type_that_takes_single_events_is_a_fault() {
        let kind = destinations::Kind {
            name: "pager",
            summary: "",
            example: "",
            settings: &[],
            batches: false,
            http: true,
            build: |_, _| None,
        };
        let node = |line, value| Node { line, value };
        for (events, expected) in [(1, 0), (2, 1)] {
            let batch = vec![("max_events".to_owned(), node(7, Value::Integer(events)))];
            let entries = vec![("batch".to_owned(), node(6, Value::Table(batch)))];
            let faults = RefCell::default();
            let section = Section::new("destinations.x", 5, &entries, &faults);
            check_batches(&section, &LaneSettings::read(&section), &kind);
            let faults = faults.into_inner();
            assert_eq!(faults.len(), expected, "{faults:?}");
            for fault in faults {
                assert_eq!(
                    (fault.line, fault.key.as_str()),
                    (7, "destinations.x.batch.max_events")
                );
            }
        }
    }
}
