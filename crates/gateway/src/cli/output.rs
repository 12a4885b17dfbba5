//! Writing to a terminal or a pipe.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    path::Path,
};

use holdfast_model::settings::Fault;

use crate::config::Located;

/// Prints a line. A reader that has gone away (`| head`) is no error.
pub(crate) fn line(text: fmt::Arguments<'_>) {
    writeln!(std::io::stdout().lock(), "{text}").ok();
}

/// Prints a line, and tells whether anybody still reads.
pub(crate) fn try_line(text: fmt::Arguments<'_>) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// Whether standard output shows colours: a terminal does, unless `NO_COLOR` (no-color.org) or
/// `TERM` says otherwise.
pub(crate) fn colours() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    io::stdout().is_terminal() && !unwanted && !dumb
}

/// Prints a line to standard error.
pub(crate) fn complain(text: fmt::Arguments<'_>) {
    writeln!(std::io::stderr().lock(), "holdfast: {text}").ok();
}

pub(crate) fn faults(path: &Path, faults: &[Fault]) {
    let mut err = std::io::stderr().lock();
    for fault in faults {
        writeln!(err, "{}", Located(path, fault)).ok();
    }
    let count = faults.len();
    writeln!(err, "{count} fault{}; nothing was started", if count == 1 { "" } else { "s" }).ok();
}

/// Prints rows under a head; see [`columns`].
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) {
    for row in columns(head, rows) {
        line(format_args!("{row}"));
    }
}

/// Rows under a head as lines, columns as wide as needed. Texts are left, numbers right, and so
/// are their heads.
pub(crate) fn columns(head: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let cells = |column: usize| rows.iter().filter_map(move |row| row.get(column));
    let width = |column: usize| {
        let widths = cells(column).map(|cell| cell.chars().count());
        widths.chain([head[column].len()]).max().unwrap_or(0)
    };
    let is_number = |cell: &String| !cell.is_empty() && cell.bytes().all(|b| b.is_ascii_digit());
    let layout: Vec<(usize, bool)> = (0..head.len())
        .map(|column| (width(column), !rows.is_empty() && cells(column).all(is_number)))
        .collect();
    let print = |row: &mut dyn Iterator<Item = &str>| {
        let padded = row.zip(&layout).map(|(cell, (width, right))| {
            if *right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![print(&mut head.iter().copied())];
    lines.extend(rows.iter().map(|row| print(&mut row.iter().map(String::as_str))));
    lines
}

/// Text from elsewhere, safe for a terminal: control characters are shown, not obeyed.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{b7}' } else { c }).collect()
}
