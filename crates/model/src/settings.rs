//! Settings as data: every key with its documentation and its default in one place.
//!
//! A [`Setting`] is written once, as a constant beside the code that uses it. A [`Section`] reads
//! values by it and collects *all* faults with line and key; the configuration reference is
//! printed from it. So a default cannot differ between code, manual and example.
//!
//! The tree is neutral ([`Node`]): the file format is the gateway's business.

use std::{cell::RefCell, collections::BTreeSet, fmt, ops::RangeInclusive, time::Duration};

use crate::units::{self, Rate};

/// One key of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub name: &'static str,
    /// The default as it is written in the file, quotes included. `None`: no value unless given.
    pub default: Option<&'static str>,
    /// What to write when there is no default.
    pub example: &'static str,
    /// What it means, with unit and bounds. Sentences.
    pub doc: &'static str,
}

/// A value with the line it stands on.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub line: usize,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Table(Vec<(String, Node)>),
}

/// Something wrong in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub line: usize,
    /// The whole path: `destinations.soc-slack.rate`.
    pub key: String,
    /// What was given and what is allowed.
    pub problem: String,
}

/// A place in the configuration where a secret stands as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Literal {
    pub line: usize,
    /// The whole path, as in [`Fault`].
    pub key: String,
}

/// Where a secret is to be taken from.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSpec {
    Literal(crate::Secret),
    Env(String),
    File(String),
    Credential(String),
}

/// Reads one table of the configuration and collects its faults.
pub struct Section<'a> {
    path: String,
    line: usize,
    entries: &'a [(String, Node)],
    asked: RefCell<BTreeSet<&'static str>>,
    faults: &'a RefCell<Vec<Fault>>,
    literals: Option<&'a RefCell<Vec<Literal>>>,
}

// === impl Setting ===

impl Setting {
    pub const fn new(name: &'static str, default: &'static str, doc: &'static str) -> Self {
        Self { name, default: Some(default), example: default, doc }
    }

    /// A key that has no value unless one is given.
    pub const fn optional(name: &'static str, example: &'static str, doc: &'static str) -> Self {
        Self { name, default: None, example, doc }
    }

    fn default_text(&self) -> &'static str {
        self.default.unwrap_or("").trim_matches('"')
    }
}

// === impl Node ===

impl Node {
    pub fn type_name(&self) -> &'static str {
        match self.value {
            Value::Bool(_) => "true or false",
            Value::Integer(_) => "a whole number",
            Value::Float(_) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }
}

// === impl Section ===

impl<'a> Section<'a> {
    pub fn new(
        path: impl Into<String>,
        line: usize,
        entries: &'a [(String, Node)],
        faults: &'a RefCell<Vec<Fault>>,
    ) -> Self {
        let asked = RefCell::default();
        Self { path: path.into(), line, entries, asked, faults, literals: None }
    }

    /// Notes in `literals` where this table and those under it hold a secret as it is.
    pub fn noting(mut self, literals: &'a RefCell<Vec<Literal>>) -> Self {
        self.literals = Some(literals);
        self
    }

    /// A table under this one, which reports to the same places.
    fn under(&self, path: String, line: usize, entries: &'a [(String, Node)]) -> Section<'a> {
        Section { literals: self.literals, ..Section::new(path, line, entries, self.faults) }
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn line(&self) -> usize {
        self.line
    }

    /// The value of `name`, if it is given. Asking makes the key known.
    pub fn node(&self, name: &'static str) -> Option<&'a Node> {
        self.asked.borrow_mut().insert(name);
        self.entries.iter().find(|(key, _)| key == name).map(|(_, node)| node)
    }

    pub fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|(key, _)| key == name)
    }

    pub fn entries(&self) -> &'a [(String, Node)] {
        self.entries
    }

    /// Reports a fault at `name`, or at the section when the key is not there.
    pub fn fault(&self, name: &str, problem: impl fmt::Display) {
        let line = self.entries.iter().find(|(key, _)| key == name).map(|(_, node)| node.line);
        let key = if name.is_empty() { self.path.clone() } else { self.key(name) };
        let problem = problem.to_string();
        self.faults.borrow_mut().push(Fault { line: line.unwrap_or(self.line), key, problem });
    }

    fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn wrong_type(&self, name: &str, node: &Node, expected: &str) {
        self.fault(name, format!("it is {}, but must be {expected}", node.type_name()));
    }

    pub fn text(&self, setting: &Setting) -> Option<&'a str> {
        match self.node(setting.name) {
            Some(Node { value: Value::Text(text), .. }) => Some(text),
            Some(node) => {
                self.wrong_type(setting.name, node, "a text in quotes");
                None
            }
            None => setting.default.map(|_| setting.default_text()),
        }
    }

    /// A text that must be given. Reports it when it is missing, and answers an empty one.
    pub fn required_text(&self, setting: &Setting) -> &'a str {
        if self.node(setting.name).is_none() {
            self.fault("", format!("`{}` is missing: {}", setting.name, setting.doc));
        }
        self.text(setting).unwrap_or("")
    }

    /// One of a closed set of words.
    pub fn word(&self, setting: &Setting, allowed: &[&'static str]) -> &'static str {
        let given = self.text(setting).unwrap_or(setting.default_text());
        if let Some(word) = allowed.iter().find(|word| **word == given) {
            return word;
        }
        let choices = allowed.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>();
        self.fault(setting.name, format!("\"{given}\" is not one of {}", choices.join(", ")));
        allowed[0]
    }

    pub fn bool(&self, setting: &Setting) -> bool {
        match self.node(setting.name) {
            Some(Node { value: Value::Bool(yes), .. }) => *yes,
            Some(node) => {
                self.wrong_type(setting.name, node, "true or false");
                false
            }
            None => setting.default_text() == "true",
        }
    }

    pub fn integer(&self, setting: &Setting, bounds: RangeInclusive<i64>) -> Option<i64> {
        let given = match self.node(setting.name) {
            Some(Node { value: Value::Integer(number), .. }) => *number,
            Some(node) => {
                self.wrong_type(setting.name, node, "a whole number");
                return setting.default_text().parse().ok();
            }
            None => return setting.default_text().parse().ok(),
        };
        if bounds.contains(&given) {
            return Some(given);
        }
        let (least, most) = (bounds.start(), bounds.end());
        self.fault(setting.name, format!("{given} is not within {least} to {most}"));
        setting.default_text().parse().ok()
    }

    /// A count with a default.
    pub fn count(&self, setting: &Setting, bounds: RangeInclusive<u32>) -> u32 {
        let bounds = i64::from(*bounds.start())..=i64::from(*bounds.end());
        let least = *bounds.start();
        self.integer(setting, bounds).and_then(|n| u32::try_from(n).ok()).unwrap_or(least as u32)
    }

    pub fn float(&self, setting: &Setting, bounds: RangeInclusive<f64>) -> f64 {
        let fallback = setting.default_text().parse().unwrap_or(0.0);
        let given = match self.node(setting.name) {
            Some(Node { value: Value::Float(number), .. }) => *number,
            Some(Node { value: Value::Integer(number), .. }) => *number as f64,
            Some(node) => {
                self.wrong_type(setting.name, node, "a number");
                return fallback;
            }
            None => return fallback,
        };
        if bounds.contains(&given) {
            return given;
        }
        let (least, most) = (bounds.start(), bounds.end());
        self.fault(setting.name, format!("{given} is not within {least} to {most}"));
        fallback
    }

    fn measured<T>(
        &self,
        setting: &Setting,
        parse: impl Fn(&str) -> Result<T, &'static str>,
    ) -> Option<T> {
        let text = self.text(setting)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(expected) => {
                self.fault(setting.name, format!("\"{text}\" is not {expected}"));
                parse(setting.default_text()).ok()
            }
        }
    }

    /// A duration with a default.
    pub fn duration(&self, setting: &Setting, bounds: RangeInclusive<Duration>) -> Duration {
        let Some(given) = self.measured(setting, units::parse_duration) else {
            return units::parse_duration(setting.default_text()).unwrap_or(*bounds.start());
        };
        if bounds.contains(&given) {
            return given;
        }
        let show = humantime::format_duration;
        let (least, most) = (show(*bounds.start()), show(*bounds.end()));
        self.fault(setting.name, format!("{} is not within {least} to {most}", show(given)));
        *bounds.start()
    }

    /// A size in bytes with a default.
    pub fn size(&self, setting: &Setting, bounds: RangeInclusive<u64>) -> u64 {
        let Some(given) = self.measured(setting, units::parse_size) else {
            return units::parse_size(setting.default_text()).unwrap_or(*bounds.start());
        };
        if bounds.contains(&given) {
            return given;
        }
        let (least, most) = (units::size(*bounds.start()), units::size(*bounds.end()));
        let given = units::size(given);
        self.fault(setting.name, format!("{given} is not within {least} to {most}"));
        *bounds.start()
    }

    pub fn rate(&self, setting: &Setting) -> Option<Rate> {
        self.measured(setting, units::parse_rate)
    }

    /// A list of texts; a single text stands for a list of one. Numbers are taken as written.
    pub fn texts(&self, setting: &Setting) -> Option<Vec<String>> {
        let one = |node: &Node| match &node.value {
            Value::Text(text) => Some(text.clone()),
            Value::Integer(number) => Some(number.to_string()),
            Value::Bool(_) | Value::Float(_) | Value::List(_) | Value::Table(_) => None,
        };
        let node = self.node(setting.name)?;
        let texts = match &node.value {
            Value::List(items) => items.iter().map(one).collect(),
            Value::Text(_) | Value::Integer(_) => one(node).map(|text| vec![text]),
            Value::Bool(_) | Value::Float(_) | Value::Table(_) => None,
        };
        if texts.is_none() {
            self.wrong_type(setting.name, node, "a list of texts");
        }
        texts
    }

    /// A table under this one.
    pub fn table(&self, name: &'static str) -> Option<Section<'a>> {
        let node = self.node(name)?;
        match &node.value {
            Value::Table(entries) => Some(self.under(self.key(name), node.line, entries)),
            Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::List(_) => {
                self.wrong_type(name, node, "a table");
                None
            }
        }
    }

    /// A table under this one; an empty one when it is not given, so that its keys have defaults.
    pub fn table_or_empty(&self, name: &'static str) -> Section<'a> {
        self.table(name).unwrap_or_else(|| self.under(self.key(name), self.line, &[]))
    }

    /// The tables of a list of tables.
    pub fn tables(&self, name: &'static str) -> Vec<Section<'a>> {
        let Some(node) = self.node(name) else { return Vec::new() };
        let Value::List(items) = &node.value else {
            self.wrong_type(name, node, "a list of tables");
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (index, item) in items.iter().enumerate() {
            match &item.value {
                Value::Table(entries) => {
                    let path = format!("{}[{index}]", self.key(name));
                    sections.push(self.under(path, item.line, entries));
                }
                _ => self.wrong_type(name, item, "a table"),
            }
        }
        sections
    }

    /// Every entry of this table as a table of its own: `[destinations.NAME]`.
    pub fn each_table(&self) -> Vec<(&'a str, Section<'a>)> {
        let mut sections = Vec::new();
        for (name, node) in self.entries {
            let key = self.key(name);
            match &node.value {
                Value::Table(entries) => {
                    sections.push((name.as_str(), self.under(key, node.line, entries)));
                }
                _ => self.wrong_type(name, node, "a table"),
            }
        }
        sections
    }

    /// A secret in one of its four forms.
    pub fn secret(&self, setting: &Setting) -> Option<SecretSpec> {
        self.secret_at(setting.name, self.node(setting.name)?)
    }

    /// A secret under a name that only the configuration knows, as a header's.
    pub fn secret_at(&self, name: &str, node: &Node) -> Option<SecretSpec> {
        const FORMS: &str =
            "a text, { env = \"NAME\" }, { file = \"/path\" } or { credential = \"name\" }";
        let spec = match &node.value {
            Value::Text(text) => Some(SecretSpec::Literal(crate::Secret::new(text))),
            Value::Table(entries) => match entries.as_slice() {
                [(form, Node { value: Value::Text(text), .. })] => match form.as_str() {
                    "env" => Some(SecretSpec::Env(text.clone())),
                    "file" => Some(SecretSpec::File(text.clone())),
                    "credential" => Some(SecretSpec::Credential(text.clone())),
                    _ => None,
                },
                _ => None,
            },
            Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::List(_) => None,
        };
        if spec.is_none() {
            // The value itself is not repeated: it may be the secret.
            self.fault(name, format!("it must be {FORMS}"));
        }
        if let (Some(SecretSpec::Literal(_)), Some(literals)) = (&spec, self.literals) {
            literals.borrow_mut().push(Literal { line: node.line, key: self.key(name) });
        }
        spec
    }

    /// Reports every key that nobody asked for. Call it last.
    pub fn finish(&self) {
        let asked = self.asked.borrow();
        for (key, _) in self.entries {
            if !asked.contains(key.as_str()) {
                let allowed = asked.iter().copied().collect::<Vec<_>>().join(", ");
                self.fault(key, format!("there is no such key here; allowed are: {allowed}"));
            }
        }
    }
}

impl fmt::Debug for SecretSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(_) => f.write_str("Literal(redacted)"),
            Self::Env(name) => write!(f, "Env({name})"),
            Self::File(path) => write!(f, "File({path})"),
            Self::Credential(name) => write!(f, "Credential({name})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(line: usize, value: Value) -> Node {
        Node { line, value }
    }

    #[test]
    fn every_fault_is_reported_with_line_and_key() {
        const WAIT: Setting = Setting::new("wait", "\"1s\"", "How long.");
        const MODE: Setting = Setting::new("mode", "\"fast\"", "How.");
        let entries = vec![
            ("wait".to_owned(), node(3, Value::Text("2 fortnights".into()))),
            ("mode".to_owned(), node(4, Value::Text("odd".into()))),
            ("wiat".to_owned(), node(5, Value::Bool(true))),
        ];
        let faults = RefCell::default();
        let section = Section::new("lane", 2, &entries, &faults);
        let bounds = Duration::ZERO..=Duration::from_secs(9);
        assert_eq!(section.duration(&WAIT, bounds), Duration::from_secs(1));
        assert_eq!(section.word(&MODE, &["fast", "safe"]), "fast");
        section.finish();
        let seen: Vec<_> = faults.borrow().iter().map(|f| (f.line, f.key.clone())).collect();
        let expected = [(3, "lane.wait"), (4, "lane.mode"), (5, "lane.wiat")];
        assert_eq!(seen, expected.map(|(line, key)| (line, key.to_owned())));
        assert!(faults.borrow()[2].problem.contains("mode, wait"), "{:?}", faults.borrow()[2]);
    }

    #[test]
    fn a_secret_that_stands_as_it_is_is_noted_wherever_it_is() {
        const TOKEN: Setting = Setting::optional("token", "\"…\"", "A token.");
        let text = |line| node(line, Value::Text("hunter2".into()));
        let elsewhere = node(5, Value::Table(vec![("env".to_owned(), text(5))]));
        let item = |token| node(3, Value::Table(vec![("token".to_owned(), token)]));
        let list = node(3, Value::List(vec![item(text(4)), item(elsewhere)]));
        let entries = vec![("tokens".to_owned(), list), ("x".to_owned(), text(6))];
        let (faults, literals) = (RefCell::default(), RefCell::default());
        let section = Section::new("server", 2, &entries, &faults).noting(&literals);
        for token in section.tables("tokens") {
            assert!(token.secret(&TOKEN).is_some());
        }
        assert!(section.secret_at("x", &entries[1].1).is_some());
        let seen: Vec<_> = literals.borrow().iter().map(|l| (l.line, l.key.clone())).collect();
        assert_eq!(seen, [(4, "server.tokens[0].token".to_owned()), (6, "server.x".to_owned())]);
        assert_eq!(*faults.borrow(), []);
    }

    #[test]
    fn a_malformed_secret_is_not_repeated() {
        const TOKEN: Setting = Setting::optional("token", "\"…\"", "A token.");
        let entries = vec![(
            "token".to_owned(),
            node(
                1,
                Value::Table(vec![("flie".to_owned(), node(1, Value::Text("hunter2".into())))]),
            ),
        )];
        let faults = RefCell::default();
        assert_eq!(Section::new("", 1, &entries, &faults).secret(&TOKEN), None);
        assert!(!faults.borrow()[0].problem.contains("hunter2"));
    }
}
