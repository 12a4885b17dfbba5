//! Every answer of the vendors' own tables.

use std::collections::BTreeSet;

use super::{
    cases::Case,
    lines, outcome, row,
    server::{Fault, Server, answer},
};
use crate::{
    message::samples,
    testing::{context, shipment},
};

const TABLES: &str = include_str!("answers.txt");

/// One answer of one vendor and what it must become.
struct Row {
    number: usize,
    name: &'static str,
    said: &'static str,
    expected: &'static str,
}

fn rows() -> Vec<Row> {
    let mut name = "";
    let mut rows = Vec::new();
    for (number, line) in lines(TABLES) {
        if let Some(heading) = line.strip_prefix("## ") {
            name = heading;
            continue;
        }
        let (said, expected) = row(number, line);
        rows.push(Row { number, name, said, expected });
    }
    rows
}

pub(super) fn named() -> BTreeSet<&'static str> {
    rows().into_iter().map(|row| row.name).collect()
}

/// `STATUS [Header: value] BODY` as bytes.
fn bytes(said: &str, key: &str) -> Vec<u8> {
    let (status, rest) = said.split_once(' ').unwrap_or((said, ""));
    let (header, body) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((header, body)) if header.contains(": ") => {
            (format!("{header}\r\n"), body.trim_start())
        }
        _ => (String::new(), rest),
    };
    answer(&format!("{status} Said"), &header, body.replace("KEY", key).as_bytes())
}

async fn play(row: &Row) -> String {
    let case = Case::of(row.name);
    let (_, member) = samples::all().swap_remove(0);
    let fault = Fault::Say(bytes(row.said, &member.key));
    let server = Server::start(case, fault, &member.key).await;
    let result = case.destination(&server, context().timeout).deliver(&shipment([member])).await;
    assert!(!server.bodies().is_empty(), "{}", row.name);
    outcome(result)
}

#[tokio::test]
async fn every_answer_has_the_outcome_of_the_vendors_table() {
    let mut differences = Vec::new();
    let mut heading = "";
    for row in rows() {
        if row.name != heading {
            heading = row.name;
            println!("{heading}");
        }
        let found = play(&row).await;
        let said: String = row.said.chars().take(100).collect();
        println!("    {found:<16} {said}");
        if found != row.expected {
            let Row { number, name, expected, .. } = row;
            differences.push(format!("line {number}, {name}: expected {expected}, found {found}"));
        }
    }
    assert!(differences.is_empty(), "answers.txt:\n{}", differences.join("\n"));
}
