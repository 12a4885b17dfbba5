//! What two readings of a file are compared by: each destination and source as a fingerprint of
//! its table as it is written, the content of its secret files included.
//!
//! Comments, order and white space do not count. A default that is written out does: nothing is
//! lost by it but the connections of that lane.

use std::{collections::BTreeMap, fs::File, io::Read, path::Path};

use holdfast_connectors::secrets::SECRET_BYTES_MAX;
use holdfast_model::settings::{Node, Value};
use sha2::{Digest, Sha256};

type Entries = [(String, Node)];

/// Keys that say how a lane begins, and nothing about one that runs.
const OF_THE_BEGINNING: &[&str] = &["start", "renamed_from"];

/// One destination or source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Print {
    pub(crate) line: usize,
    /// Its `type`.
    pub(crate) kind: String,
    pub(crate) settings: [u8; 32],
    pub(crate) renamed_from: Option<String>,
}

/// All of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prints {
    pub(crate) destinations: BTreeMap<String, Print>,
    pub(crate) sources: BTreeMap<String, Print>,
    /// Keys of secrets that are those of the start for as long as the process runs.
    pub(crate) fixed_secrets: Vec<String>,
}

impl Prints {
    /// Reads the secret files, too. Whoever builds from `root` does so afterwards: a file that
    /// changes in between is then noticed at the next reading.
    pub(super) fn of(root: &Entries) -> Self {
        let mut fixed_secrets = Vec::new();
        let mut group = |name: &str| {
            let tables = root.iter().find(|(key, _)| key == name).map(|(_, node)| &node.value);
            let Some(Value::Table(tables)) = tables else { return BTreeMap::new() };
            let one = |(key, node): &(String, Node)| {
                let path = format!("{name}.{key}");
                Some((key.clone(), Print::of(&path, node, &mut fixed_secrets)?))
            };
            tables.iter().filter_map(one).collect()
        };
        Self { destinations: group("destinations"), sources: group("sources"), fixed_secrets }
    }
}

impl Print {
    fn of(path: &str, node: &Node, fixed_secrets: &mut Vec<String>) -> Option<Self> {
        let Value::Table(entries) = &node.value else { return None };
        let text = |wanted: &str| match entries.iter().find(|(key, _)| key == wanted) {
            Some((_, Node { value: Value::Text(text), .. })) => Some(text.clone()),
            _ => None,
        };
        let mut hash = Sha256::new();
        let lasting = entries.iter().filter(|(key, _)| !OF_THE_BEGINNING.contains(&key.as_str()));
        table(&mut hash, path, &lasting.collect::<Vec<_>>(), fixed_secrets);
        Some(Self {
            line: node.line,
            kind: text("type").unwrap_or_default(),
            settings: hash.finalize().into(),
            renamed_from: text("renamed_from"),
        })
    }
}

fn table(hash: &mut Sha256, path: &str, entries: &[&(String, Node)], fixed: &mut Vec<String>) {
    let mut entries = entries.to_vec();
    entries.sort_by(|(one, _), (other, _)| one.cmp(other));
    piece(hash, b't', entries.len().to_string().as_bytes());
    for (key, node) in &entries {
        piece(hash, b'k', key.as_bytes());
        value(hash, &format!("{path}.{key}"), &node.value, fixed);
    }
    if let [(form, Node { value: Value::Text(text), .. })] = entries.as_slice() {
        match form.as_str() {
            "file" => piece(hash, b'f', &content(Path::new(text))),
            "env" | "credential" => fixed.push(path.to_owned()),
            _ => {}
        }
    }
}

fn value(hash: &mut Sha256, path: &str, value: &Value, fixed: &mut Vec<String>) {
    match value {
        Value::Bool(yes) => piece(hash, b'b', &[u8::from(*yes)]),
        Value::Integer(number) => piece(hash, b'i', &number.to_be_bytes()),
        Value::Float(number) => piece(hash, b'd', &number.to_be_bytes()),
        Value::Text(text) => piece(hash, b's', text.as_bytes()),
        Value::List(items) => {
            piece(hash, b'l', items.len().to_string().as_bytes());
            for (index, item) in items.iter().enumerate() {
                self::value(hash, &format!("{path}[{index}]"), &item.value, fixed);
            }
        }
        Value::Table(entries) => table(hash, path, &entries.iter().collect::<Vec<_>>(), fixed),
    }
}

/// What a secret's file holds. One that cannot be read is the builder's to complain about.
fn content(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let regular = |file: &File| file.metadata().is_ok_and(|metadata| metadata.is_file());
    // A pipe would wait for a writer.
    if path.is_file()
        && let Ok(file) = File::open(path)
        && regular(&file)
    {
        let mut file = file.take(SECRET_BYTES_MAX as u64 + 3);
        file.read_to_end(&mut bytes).ok();
    }
    bytes
}

/// With its length, so that no two sequences of pieces hash alike.
fn piece(hash: &mut Sha256, tag: u8, bytes: &[u8]) {
    hash.update([tag]);
    hash.update((bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prints(text: &str) -> Prints {
        Prints::of(&super::super::toml::parse(text).unwrap())
    }

    #[test]
    fn order_comments_and_how_a_lane_begins_do_not_count_and_everything_else_does() {
        let base = "[destinations.a]\ntype = \"x\"\nwhen = { level = 3, groups = [\"g\"] }\n";
        let of = |text: &str| prints(text).destinations["a"].settings;
        #[rustfmt::skip]
        let table = [
            ("[destinations.a] # note\nwhen = { groups = [\"g\"], level = 3 }\ntype = \"x\"\n", true),
            ("[destinations.a]\ntype = \"x\"\nwhen = { level = 3, groups = [\"g\"] }\nstart = \"all\"\n", true),
            ("[destinations.a]\ntype = \"x\"\nwhen = { level = 3, groups = [\"g\"] }\nrenamed_from = \"b\"\n", true),
            ("[destinations.a]\ntype = \"x\"\nwhen = { level = 4, groups = [\"g\"] }\n", false),
            ("[destinations.a]\ntype = \"x\"\nwhen = { level = 3, groups = \"g\" }\n", false),
            ("[destinations.a]\ntype = \"x\"\nwhen = { level = \"3\", groups = [\"g\"] }\n", false),
            ("[destinations.a]\ntype = \"y\"\nwhen = { level = 3, groups = [\"g\"] }\n", false),
            ("[destinations.a]\ntype = \"x\"\n", false),
        ];
        for (text, same) in table {
            assert_eq!(of(text) == of(base), same, "{text}");
        }
    }

    #[test]
    fn a_secret_file_counts_by_its_content_and_other_places_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let text = format!(
            "[destinations.a]\ntype = \"x\"\ntoken = {{ file = \"{}\" }}\n\
             auth = {{ basic = {{ password = {{ env = \"P\" }} }} }}\n\
             [sources.s]\ntype = \"y\"\nkeys = [{{ credential = \"c\" }}]\n",
            path.display()
        );
        std::fs::write(&path, "one").unwrap();
        let before = prints(&text);
        assert_eq!(before, prints(&text));
        std::fs::write(&path, "two").unwrap();
        assert_ne!(before.destinations["a"], prints(&text).destinations["a"]);
        assert_eq!(
            before.fixed_secrets,
            ["destinations.a.auth.basic.password", "sources.s.keys[0]"]
        );
    }
}
