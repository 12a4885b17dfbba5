//! Paths in the configuration begin at the root, or with `./` or `../` in the current directory.
//!
//! A service's current directory is `/`, so a bare `archive.ndjson` would end up there by mistake;
//! it is refused.

use std::{
    collections::BTreeMap,
    path::{self, PathBuf},
};

use holdfast_model::settings::{Fault, Node, Section, Setting, Value};

type Entries = [(String, Node)];

/// Types of destinations that must be the only writer of their `path`.
const SOLE_WRITERS: &[&str] = &["file"];

/// A path of the gateway's own; `None` when there is none, or an unfit one, which is reported.
pub(super) fn read(section: &Section<'_>, setting: &Setting) -> Option<PathBuf> {
    let text = section.text(setting)?;
    if text.starts_with('/') {
        return Some(PathBuf::from(text));
    }
    let absolute = here(text);
    if absolute.is_none() {
        let expected = "must begin with `/`, or with `./` for the current directory";
        section.fault(setting.name, format!("\"{text}\" {expected}"));
    }
    absolute
}

/// Makes the `path` of every source and destination absolute if it begins with `./` or `../`.
/// Connectors take absolute paths only.
pub(super) fn make_absolute(root: &mut Entries) {
    let groups = root.iter_mut().filter(|(key, _)| key == "sources" || key == "destinations");
    for (_, group) in groups {
        let Value::Table(tables) = &mut group.value else { continue };
        for (_, table) in tables {
            let Value::Table(entries) = &mut table.value else { continue };
            for (key, node) in entries {
                if let ("path", Value::Text(text)) = (key.as_str(), &mut node.value)
                    && let Some(absolute) = here(text)
                {
                    *text = absolute.to_string_lossy().into_owned();
                }
            }
        }
    }
}

/// The absolute path of one that says that it begins in the current directory.
fn here(text: &str) -> Option<PathBuf> {
    let begins_here = text.starts_with("./") || text.starts_with("../");
    if begins_here { path::absolute(text).ok() } else { None }
}

/// The faults of files that are followed or written by two: two readers would share one position, two
/// writers would cut off each other's lines, and a reader of what we write would never end.
pub(super) fn shared(root: &Entries) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut users: BTreeMap<&str, String> = BTreeMap::new();
    for (group, name, entries) in connectors(root) {
        let text = |wanted: &str| match entries.iter().find(|(key, _)| key == wanted) {
            Some((_, Node { value: Value::Text(text), .. })) => Some(text.as_str()),
            _ => None,
        };
        let alone = group == "sources" || SOLE_WRITERS.contains(&text("type").unwrap_or(""));
        let Some(path) = text("path").filter(|_| alone) else { continue };
        let user = format!("{group}.{name}");
        if let Some(other) = users.get(path) {
            let line = entries.iter().find(|(key, _)| key == "path").map_or(0, |(_, n)| n.line);
            let problem = format!("`{other}` uses the same file");
            faults.push(Fault { line, key: format!("{user}.path"), problem });
        } else {
            users.insert(path, user);
        }
    }
    faults
}

/// The tables of all sources and destinations, as `(group, name, entries)`.
fn connectors(root: &Entries) -> impl Iterator<Item = (&str, &str, &Entries)> {
    let groups = root.iter().filter(|(key, _)| key == "sources" || key == "destinations");
    groups
        .filter_map(|(group, node)| match &node.value {
            Value::Table(tables) => Some((group, tables)),
            _ => None,
        })
        .flat_map(|(group, tables)| {
            tables.iter().filter_map(move |(name, node)| match &node.value {
                Value::Table(entries) => Some((group.as_str(), name.as_str(), entries.as_slice())),
                _ => None,
            })
        })
}
