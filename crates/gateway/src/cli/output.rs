//! Writing to a terminal or a pipe.

use std::{fmt, io::Write, path::Path};

use holdfast_model::settings::Fault;

use crate::config::Located;

/// Prints a line. A reader that has gone away (`| head`) is no error.
pub(crate) fn line(text: fmt::Arguments<'_>) {
    writeln!(std::io::stdout().lock(), "{text}").ok();
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

/// Prints rows under a head, columns as wide as needed. The first column is left, numbers right.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).chain([head[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let is_number = |cell: &str| !cell.is_empty() && cell.bytes().all(|b| b.is_ascii_digit());
    let print = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.zip(&widths).map(|(cell, width)| {
            if is_number(cell) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        line(format_args!("{}", padded.collect::<Vec<_>>().join("  ").trim_end()));
    };
    print(&mut head.iter().copied());
    for row in rows {
        print(&mut row.iter().map(String::as_str));
    }
}

/// Text from elsewhere, safe for a terminal: control characters are shown, not obeyed.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{b7}' } else { c }).collect()
}
