//! What holds for every destination of the catalogue, whoever wrote it.
//!
//! Promises: each type is run through every fault of a far end and every answer of its vendor's own
//! table, and the outcomes are those of `far_end.txt`, `beside.txt`, `answers.txt` and `local.txt`,
//! which were written from the vendors' documents first; each type's bodies for all samples fit the
//! schemas here. A type that lacks its rows, its example or its page fails. Run with `--nocapture`,
//! the tables are printed.
//!
//! Does not promise that a vendor's server behaves as its documents say.

mod answers;
mod bodies;
mod cases;
mod far_end;
mod local;
mod others;
mod server;
mod smtp;
mod vendors;

use std::{collections::BTreeSet, path::Path};

use holdfast_model::{DeliveryError, delivery::Delivered};

use crate::destinations::CATALOG;

/// What became of the first event, in the words of the data files.
fn outcome(result: Result<Delivered, DeliveryError>) -> String {
    let first = match result {
        Ok(Delivered::All(receipt)) => Ok(receipt),
        Ok(Delivered::Each(results)) => results.into_iter().next().expect("one event was sent"),
        Err(error) => Err(error),
    };
    match first {
        Ok(receipt) if receipt.duplicate => "duplicate".to_owned(),
        Ok(_) => "delivered".to_owned(),
        Err(DeliveryError { reason, retry_after: None, .. }) => reason.as_str().to_owned(),
        Err(DeliveryError { reason, retry_after: Some(wait), .. }) => {
            format!("{}/{}", reason.as_str(), wait.as_secs_f64())
        }
    }
}

/// The lines of a data file that say something, with their numbers.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim_end()));
    numbered
        .filter(|(_, line)| !line.is_empty() && (!line.starts_with('#') || line.starts_with("##")))
}

/// `LEFT => OUTCOME # why`.
fn row(number: usize, line: &str) -> (&str, &str) {
    let (left, right) = line.rsplit_once("=> ").unwrap_or_else(|| panic!("line {number}: {line}"));
    let outcome = right.split('#').next().unwrap_or_default().trim();
    assert!(!outcome.is_empty(), "line {number}: {line}");
    (left.trim(), outcome)
}

/// The type of `slack.bot`.
fn type_of(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

#[test]
fn every_destination_has_its_rows_example_and_page() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let names: BTreeSet<&str> = cases::ALL.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), cases::ALL.len(), "a case is there twice");
    let covered =
        |found: &BTreeSet<&str>, kind: &str| found.iter().any(|name| type_of(name) == kind);
    let (common, answers, local) = (far_end::named(), answers::named(), local::named());
    for kind in CATALOG {
        let name = kind.name;
        if kind.http {
            assert!(covered(&names, name), "proof/cases.rs has no case of `{name}`");
            assert!(covered(&common, name), "far_end.txt has no row of `{name}`");
            assert!(covered(&answers, name), "answers.txt has no table of `{name}`");
        } else {
            assert!(covered(&local, name), "local.txt has no row of `{name}`");
        }
        assert!(bodies::covers(name), "proof/bodies.rs renders no sample for `{name}`");
        for path in
            [format!("config/destinations/{name}.toml"), format!("docs/destinations/{name}.md")]
        {
            assert!(root.join(&path).is_file(), "{path} is missing");
        }
    }
    assert_eq!(common, names, "each case has its row in far_end.txt, and each row its case");
    assert_eq!(answers, names, "each case has its table in answers.txt, and each table its case");
    let known = |name: &&str| CATALOG.iter().any(|kind| kind.name == type_of(name));
    assert!(names.iter().chain(&local).all(known), "a row of a type that is gone");
}
