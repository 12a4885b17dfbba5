//! The vendor's own words for how bad it is, and the operator's choice among them.

use holdfast_model::settings::{Node, Section, Value};

use super::Severity;

/// Name of the key; each destination has its own [`holdfast_model::settings::Setting`] for it,
/// because defaults and allowed words differ.
pub(crate) const SEVERITY: &str = "severity";

/// One word for each severity.
#[derive(Debug)]
pub(crate) struct Severities([String; 4]);

const NAMES: [&str; 4] = ["low", "medium", "high", "critical"];

impl Severities {
    /// Reads the table `severity = { low = …, medium = …, high = …, critical = … }`; what is not
    /// given keeps its default. Reports names and words that do not exist.
    pub(crate) fn read(
        section: &Section<'_>,
        defaults: [&str; 4],
        allowed: &[&str],
    ) -> Option<Self> {
        let mut words = defaults.map(str::to_owned);
        let given = section.has(SEVERITY);
        let Some(table) = section.table(SEVERITY) else { return (!given).then_some(Self(words)) };
        let mut all_good = true;
        for (name, Node { value, .. }) in table.entries() {
            let word = match value {
                Value::Text(word) => word.clone(),
                Value::Integer(number) => number.to_string(),
                _ => String::new(),
            };
            let Some(index) = NAMES.iter().position(|known| known == name) else {
                table.fault(
                    name,
                    format!("there is no such severity; there are {}", NAMES.join(", ")),
                );
                all_good = false;
                continue;
            };
            if !allowed.contains(&word.as_str()) {
                table.fault(name, format!("it must be one of {}", allowed.join(", ")));
                all_good = false;
            }
            words[index] = word;
        }
        all_good.then_some(Self(words))
    }

    pub(crate) fn word(&self, severity: Severity) -> &str {
        &self.0[severity as usize]
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn read(entries: &[(&str, &str)]) -> Result<Severities, Vec<String>> {
        let table = entries
            .iter()
            .map(|(key, word)| {
                ((*key).to_owned(), Node { line: 2, value: Value::Text((*word).into()) })
            })
            .collect();
        let entries = vec![(SEVERITY.to_owned(), Node { line: 1, value: Value::Table(table) })];
        let faults = RefCell::default();
        let section = Section::new("d", 1, &entries, &faults);
        Severities::read(&section, ["P5", "P3", "P2", "P1"], &["P1", "P2", "P3", "P4", "P5"])
            .ok_or_else(|| faults.into_inner().into_iter().map(|fault| fault.key).collect())
    }

    #[test]
    fn a_word_that_is_given_replaces_its_default_only() {
        let words = read(&[("low", "P4")]).unwrap();
        assert_eq!(words.word(Severity::Low), "P4");
        assert_eq!(words.word(Severity::Critical), "P1");
    }

    #[test]
    fn unknown_names_and_words_are_faults() {
        let faults = read(&[("low", "P9"), ("dire", "P1")]).unwrap_err();
        assert_eq!(faults, ["d.severity.low", "d.severity.dire"]);
    }
}
