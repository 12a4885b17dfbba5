//! Every destination that speaks HTTP, through every fault of a far end.

use std::{collections::BTreeSet, time::Duration};

use super::{
    cases::{ALL, Case},
    lines, outcome, row,
    server::{Fault, Place, Server, answer},
};
use crate::{
    message::samples,
    testing::{context, shipment},
};

const TABLE: &str = include_str!("far_end.txt");
const BESIDE: &str = include_str!("beside.txt");

/// How long a destination waits for a far end that hangs.
const PATIENCE: Duration = Duration::from_secs(2);

const HUGE_BYTES: usize = 10 * 1024 * 1024;

/// The rows of the table: the case and its expected words, in the order of the faults.
fn table() -> (Vec<&'static str>, Vec<(&'static str, Vec<&'static str>)>) {
    let mut rows = lines(TABLE).filter(|(_, line)| !line.starts_with('!'));
    let (_, head) = rows.next().expect("the head of the table");
    let faults: Vec<_> = head.split_whitespace().skip(1).collect();
    let rows = rows.map(|(number, line)| {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default();
        let expected: Vec<_> = words.collect();
        assert_eq!(expected.len(), faults.len(), "far_end.txt, line {number}");
        (name, expected)
    });
    let rows = rows.collect();
    (faults, rows)
}

pub(super) fn named() -> BTreeSet<&'static str> {
    table().1.into_iter().map(|(name, _)| name).collect()
}

fn fault(name: &str) -> Fault {
    let page = b"<!DOCTYPE html><html><body>Please sign in</body></html>";
    match name {
        "success" => Fault::None,
        "slow" => Fault::Slow,
        "hang" => Fault::Hang,
        "before" => Fault::ResetBefore,
        "after" => Fault::ResetAfter,
        "401" => Fault::Say(answer("401 Unauthorized", "", b"no")),
        "429+7" => Fault::Say(answer("429 Too Many Requests", "Retry-After: 7\r\n", b"slower")),
        "429" => Fault::Say(answer("429 Too Many Requests", "", b"slower")),
        "500" => Fault::Say(answer("500 Internal Server Error", "", b"sorry")),
        "redirect" => Fault::Say(answer("302 Found", "Location: http://192.0.2.1/\r\n", b"")),
        "garbage" => Fault::Say(answer("200 OK", "Content-Type: text/html\r\n", page)),
        "huge" => Fault::Say(answer("200 OK", "", &vec![b'x'; HUGE_BYTES])),
        "cut" => {
            Fault::BreakOff(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"ok\":".to_vec())
        }
        _ => panic!("no fault is called `{name}`"),
    }
}

async fn play(case: &'static Case, name: &'static str) -> String {
    let (_, member) = samples::all().swap_remove(0);
    let server = Server::start(case, fault(name), &member.key).await;
    let patience = if name == "hang" { PATIENCE } else { context().timeout };
    let result = case.destination(&server, patience).deliver(&shipment([member])).await;
    server.bodies();
    outcome(result)
}

#[tokio::test]
async fn every_fault_of_a_far_end_has_the_outcome_of_the_vendors_table() {
    let (faults, rows) = table();
    let mut found: Vec<Vec<String>> = rows.iter().map(|_| Vec::new()).collect();
    for fault in &faults {
        // One fault at a time, so that nobody waits for another's ten megabytes.
        let plays = rows.iter().map(|(name, _)| tokio::spawn(play(Case::of(name), fault)));
        let plays: Vec<_> = plays.collect();
        for (row, play) in found.iter_mut().zip(plays) {
            row.push(play.await.unwrap());
        }
    }
    println!("{:<20} {}", "destination", faults.columns());
    let mut differences = Vec::new();
    for ((name, expected), found) in rows.iter().zip(&found) {
        println!("{name:<20} {}", found.columns());
        for ((fault, expected), found) in faults.iter().zip(expected).zip(found) {
            if found != expected {
                differences.push(format!("{name}, {fault}: expected {expected}, found {found}"));
            }
        }
    }
    assert!(differences.is_empty(), "far_end.txt:\n{}", differences.join("\n"));
}

async fn play_beside(case: &'static Case, name: &'static str) -> String {
    let (_, member) = samples::all().swap_remove(0);
    let server = Server::start_at(case, fault(name), Place::Beside, &member.key).await;
    // Who asks until the time is up is given a little of it.
    let asks_again = case.name == "splunk_hec.ack";
    let patience = if name == "hang" || asks_again { 2 * PATIENCE } else { context().timeout };
    let result = case.destination(&server, patience).deliver(&shipment([member])).await;
    server.bodies();
    outcome(result)
}

#[tokio::test]
async fn every_fault_in_what_is_asked_beside_the_event_has_its_outcome() {
    let rows: Vec<_> = lines(BESIDE).map(|(number, line)| row(number, line)).collect();
    let asked: BTreeSet<_> = rows.iter().filter_map(|(left, _)| left.split(' ').next()).collect();
    let asks = ALL.iter().filter(|case| !case.beside.is_empty());
    assert_eq!(asked, asks.map(|case| case.name).collect(), "each case that asks has its rows");
    let plays = rows.iter().map(|(left, _)| {
        let (name, fault) = left.split_once(' ').unwrap();
        tokio::spawn(play_beside(Case::of(name), fault))
    });
    let plays: Vec<_> = plays.collect();
    let mut differences = Vec::new();
    for ((left, expected), play) in rows.iter().zip(plays) {
        let found = play.await.unwrap();
        println!("beside: {left:<28} {found}");
        if found != *expected {
            differences.push(format!("{left}: expected {expected}, found {found}"));
        }
    }
    assert!(differences.is_empty(), "beside.txt:\n{}", differences.join("\n"));
}

/// Columns of one width.
trait Columns {
    fn columns(&self) -> String;
}

impl<T: std::fmt::Display> Columns for Vec<T> {
    fn columns(&self) -> String {
        self.iter().map(|cell| format!("{cell:<15}")).collect::<String>().trim_end().to_owned()
    }
}
