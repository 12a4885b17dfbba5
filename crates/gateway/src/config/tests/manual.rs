//! Every configuration in the manual is one that works: each ```toml block of `docs/` and the
//! README is read as `holdfast check` reads a file.

use std::{env, fs, path::PathBuf};

use super::*;

/// What a machine without the manual's secrets, scripts and certificates cannot have.
const NOT_HERE: [&str; 3] = ["cannot be read", "is not set", "no systemd credentials"];

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut pages = vec![root.join("README.md")];
    for folder in ["docs", "docs/destinations"] {
        let files = fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        pages.extend(files.filter(|path| path.extension().is_some_and(|end| end == "md")));
    }
    pages
}

/// The blocks of a page, each with its line.
fn blocks(page: &str) -> Vec<(usize, String)> {
    let (mut found, mut open): (Vec<(usize, String)>, bool) = (Vec::new(), false);
    for (number, line) in page.lines().enumerate() {
        match (open, line.trim_start()) {
            (false, "```toml") => {
                found.push((number + 2, String::new()));
                open = true;
            }
            (true, "```") => open = false,
            (true, _) => {
                if let Some((_, text)) = found.last_mut() {
                    text.push_str(line);
                    text.push('\n');
                }
            }
            (false, _) => {}
        }
    }
    assert!(!open, "a block does not end");
    found
}

#[test]
fn every_configuration_in_the_manual_works() {
    let (mut read_whole, mut parts) = (0, 0);
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for (line, block) in blocks(&text) {
            // Keys without a table are a part of one that stands before it.
            let whole = block.lines().any(|line| line.starts_with('['));
            let block = if whole {
                block
            } else {
                parts += 1;
                format!(
                    "[destinations.part]\ntype = \"webhook\"\nurl = \"https://x.example/\"\n{block}"
                )
            };
            for fault in read(&block).err().unwrap_or_default() {
                let expected = NOT_HERE.iter().any(|words| fault.problem.contains(words));
                assert!(expected, "{}:{line}: {fault:?}\n{block}", page.display());
            }
            read_whole += usize::from(whole);
        }
    }
    assert!(read_whole >= 40, "{read_whole} whole, {parts} parts");
}
