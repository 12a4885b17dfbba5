//! One destination's table in the making, as TOML text with comments before it. Pure.

use std::fmt::Write;

use super::blocks::Conditions;

/// Highest level that a rule can have.
const LEVEL_MAX: u64 = 16;

/// What a list of groups means to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Groups {
    /// A list of exact names.
    Names,
    /// A pattern for each name.
    Each,
    /// A pattern for all of them in one line.
    Line,
}

/// A table of a destination.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) notes: Vec<String>,
    keys: Vec<(&'static str, String)>,
    /// Whether it is written as a comment.
    pub(super) idle: bool,
}

impl Table {
    pub(super) fn new(name: String, kind: &str) -> Self {
        Self { name, keys: vec![("type", quoted(kind))], ..Self::default() }
    }

    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// A key with a value that is TOML already.
    pub(super) fn set(&mut self, key: &'static str, value: impl Into<String>) {
        self.keys.push((key, value.into()));
    }

    pub(super) fn text(&mut self, key: &'static str, value: &str) {
        self.set(key, quoted(value));
    }

    /// Writes the conditions, and `also` if it is not empty.
    pub(super) fn when(&mut self, when: &Conditions, groups: Groups, also: &[String]) {
        let mut keys: Vec<String> = Vec::new();
        let mut never = false;
        match when.level {
            0 => {}
            level if level > LEVEL_MAX => never = true,
            level => keys.push(format!("level = {level}")),
        }
        if let Some(ids) = &when.rule_ids {
            never |= ids.is_empty();
            let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
            keys.push(format!("rule_ids = [{}]", ids.join(", ")));
        }
        if let Some(group) = &when.group {
            match groups {
                Groups::Each => keys.push(format!("group_pattern = {}", quoted(group))),
                Groups::Line => keys.push(format!("group_line = {}", quoted(group))),
                Groups::Names => {
                    let names: Vec<&str> = group.split(',').filter(|n| !n.is_empty()).collect();
                    never |= names.is_empty();
                    self.note_names(&names);
                    let names: Vec<String> = names.into_iter().map(quoted).collect();
                    keys.push(format!("groups = [{}]", names.join(", ")));
                }
            }
            if groups == Groups::Each && group.contains(',') {
                self.note("<group> is tried on single names here, and no name has a comma: it has never matched. You may mean `groups`.");
            }
        }
        if let Some(location) = &when.location {
            keys.push(format!("location = {}", quoted(location)));
        }
        let patterns = [&when.location, &when.group];
        if patterns.into_iter().flatten().any(|pattern| !pattern.is_ascii()) {
            self.note("A pattern has letters beyond ASCII, which Wazuh does not find inside of a text. Holdfast does.");
        }
        keys.extend(also.iter().cloned());
        if never {
            self.note("These conditions have never let an alert pass.");
            keys = vec!["where = \"false\"".to_owned()];
        }
        if !keys.is_empty() {
            self.set("when", format!("{{ {} }}", keys.join(", ")));
        }
    }

    fn note_names(&mut self, names: &[&str]) {
        let tags = ["pci_dss_", "gdpr_", "gpg13_", "hipaa_", "nist_800_53_", "tsc_", "cis_"];
        for name in names {
            if name.trim() != *name {
                self.note(format!(
                    "The group {} has white space around it and so has never matched, as in Wazuh.",
                    quoted(name)
                ));
            } else if tags.iter().any(|tag| name.starts_with(tag)) {
                self.note(format!("`{}` is a compliance tag, which alerts do not have among their groups: it has never matched. Use `where`.", plain(name)));
            }
        }
    }

    pub(super) fn write(&self, out: &mut String) {
        let mut write = |idle: bool, line: &str| {
            out.push_str(if idle { "# " } else { "" });
            out.push_str(line);
            out.push('\n');
        };
        write(false, "");
        for note in &self.notes {
            write(true, note);
        }
        write(self.idle, &format!("[destinations.{}]", self.name));
        for (key, value) in &self.keys {
            write(self.idle, &format!("{key} = {value}"));
        }
    }
}

/// A text as TOML, on one line.
pub(super) fn quoted(text: &str) -> String {
    if !text.contains('\'') && !text.chars().any(char::is_control) && text.contains(['"', '\\']) {
        return format!("'{text}'");
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            // Writing to a String does not fail.
            c if c.is_control() => write!(out, "\\u{:04X}", u32::from(c)).unwrap_or_default(),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A text in a comment: on one line, whatever is in it.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back_from_toml() {
        for text in ["", "a", "a\"b", "a'b\"", "C:\\x", "a\nb\t\u{7f}\u{85}", "'''", "grün \\' "] {
            let read: toml::Table = format!("k = {}", quoted(text)).parse().unwrap();
            assert_eq!(read["k"].as_str(), Some(text));
        }
    }
}
