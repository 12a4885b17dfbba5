//! A TOML text as the neutral tree of settings, with the line of every key.
//!
//! An error never shows what stands on its line: that may be a secret.

use std::ops::Range;

use ::toml::de::{DeTable, DeValue, Error};
use holdfast_model::settings::{Fault, Node, Value};

/// Reads a whole text. Keys keep the order of the file.
///
/// # Errors
///
/// The first place that is not TOML, or every value that TOML has and the configuration does not.
pub(super) fn parse(text: &str) -> Result<Vec<(String, Node)>, Vec<Fault>> {
    let mut tree = Tree { lines: Lines::of(text), faults: Vec::new() };
    let document =
        DeTable::parse(text).map_err(|error| vec![syntax_fault(&error, text, &tree.lines)])?;
    let entries = tree.table("", document.get_ref());
    if tree.faults.is_empty() { Ok(entries) } else { Err(tree.faults) }
}

fn syntax_fault(error: &Error, text: &str, lines: &Lines) -> Fault {
    let span = error.span().unwrap_or_default();
    let mut problem = format!("it is not TOML: {}", error.message());
    // Here the span is that of the key, so it is safe to show.
    if error.message() == "duplicate key"
        && let Some(key) = text.get(span.clone())
    {
        problem.push_str(&format!(" `{key}`"));
    }
    Fault { line: lines.of_offset(span.start), key: String::new(), problem }
}

/// What is being built.
struct Tree {
    lines: Lines,
    faults: Vec<Fault>,
}

impl Tree {
    fn table(&mut self, path: &str, table: &DeTable<'_>) -> Vec<(String, Node)> {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let mut nodes = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let name = key.get_ref().as_ref();
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            nodes.push((name.to_owned(), self.node(&path, key.span(), value.get_ref())));
        }
        nodes
    }

    fn node(&mut self, path: &str, span: Range<usize>, value: &DeValue<'_>) -> Node {
        let line = self.lines.of_offset(span.start);
        let value = match value {
            DeValue::String(text) => Value::Text(text.as_ref().to_owned()),
            DeValue::Boolean(yes) => Value::Bool(*yes),
            DeValue::Integer(number) => {
                match i64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => Value::Integer(number),
                    Err(_) => self.refuse(path, line, "the number is too large"),
                }
            }
            DeValue::Float(number) => match number.as_str().parse() {
                Ok(number) => Value::Float(number),
                Err(_) => self.refuse(path, line, "it is not a number"),
            },
            DeValue::Datetime(_) => {
                self.refuse(path, line, "it is a date, but must be a text in quotes")
            }
            DeValue::Array(items) => {
                let mut nodes = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    nodes.push(self.node(&path, item.span(), item.get_ref()));
                }
                Value::List(nodes)
            }
            DeValue::Table(table) => Value::Table(self.table(path, table)),
        };
        Node { line, value }
    }

    fn refuse(&mut self, path: &str, line: usize, problem: &str) -> Value {
        self.faults.push(Fault { line, key: path.to_owned(), problem: problem.to_owned() });
        Value::Bool(false)
    }
}

/// Where the lines of a text end.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at).collect())
    }

    fn of_offset(&self, offset: usize) -> usize {
        self.0.partition_point(|end| *end < offset) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_its_line_and_keeps_its_place() {
        let text = "z = -1\n\n[b.c]\nlist = [\n  1,\n  { x = 1_000 },\n]\n[a]\nf = 1e3\nh = 0xff\n";
        let entries = parse(text).unwrap();
        let lines: Vec<_> = entries.iter().map(|(key, node)| (key.as_str(), node.line)).collect();
        assert_eq!(lines, [("z", 1), ("b", 3), ("a", 8)]);
        assert_eq!(entries[0].1.value, Value::Integer(-1));
        let expected = "[(\"list\", Node { line: 4, value: List([\
            Node { line: 5, value: Integer(1) }, \
            Node { line: 6, value: Table([(\"x\", Node { line: 6, value: Integer(1000) })]) }])})]";
        let Value::Table(b) = &entries[1].1.value else { panic!("{entries:?}") };
        let Value::Table(c) = &b[0].1.value else { panic!("{entries:?}") };
        assert_eq!(format!("{c:?}").replace(' ', ""), expected.replace(' ', ""));
        let Value::Table(a) = &entries[2].1.value else { panic!("{entries:?}") };
        assert_eq!(a[0].1, Node { line: 9, value: Value::Float(1000.0) });
        assert_eq!(a[1].1, Node { line: 10, value: Value::Integer(255) });
    }

    #[test]
    fn a_syntax_error_names_its_line_and_shows_nothing_of_it() {
        #[rustfmt::skip]
        let table = [
            ("a = 1\ntoken = hunter2",                 2),
            ("a = 1\ntoken = \"hunter2",               2),
            ("a = 1\n\ntoken = \"hunter2\" hunter2",   3),
            ("token = 'hunter2\nx = 1",                1),
            ("token \"hunter2\"",                      1),
            ("[token\nx = \"hunter2\"",                1),
            ("token = { file = \"hunter2\"",           1),
            ("token = \"hunter2\\q\"",                 1),
            ("token = 12hunter2",                      1),
        ];
        for (text, line) in table {
            let faults = parse(text).unwrap_err();
            assert_eq!((faults.len(), faults[0].line), (1, line), "{text:?}: {faults:?}");
            assert!(faults[0].problem.starts_with("it is not TOML: "), "{faults:?}");
            assert!(!faults[0].problem.contains("hunter2"), "{faults:?}");
        }
    }

    #[test]
    fn a_key_or_a_table_that_is_there_twice_is_named() {
        for (text, line) in
            [("a = 1\nb = 2\na = 3", 3), ("[a]\n[b]\n[a]", 3), ("[x]\na = 1\na = 2", 3)]
        {
            let faults = parse(text).unwrap_err();
            assert_eq!(faults[0].line, line, "{faults:?}");
            assert_eq!(faults[0].problem, "it is not TOML: duplicate key `a`");
        }
    }

    #[test]
    fn what_toml_has_and_the_configuration_has_not_is_named_with_its_key() {
        let faults = parse("a = 99999999999999999999\n[b]\nc = [1, 2026-03-10]\n").unwrap_err();
        let seen: Vec<_> = faults.iter().map(|fault| (fault.line, fault.key.as_str())).collect();
        assert_eq!(seen, [(1, "a"), (3, "b.c[1]")]);
    }
}
