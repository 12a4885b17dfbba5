//! The commented `config/holdfast.toml` and the manual's tables, from the settings themselves.
//!
//! In the file a `#` before a key without a space is a key with its default; one that has no
//! default says `# example` at its end. Tests keep both texts equal to the committed ones, and
//! check that the defaults in the file are what an empty file means.

mod file;
mod manual;

use holdfast_connectors::{destinations, sources};
use holdfast_model::settings::Setting;
use holdfast_pipeline::settings as lane;

pub(crate) use self::{file::toml, manual::markdown};
use super::{connectors, node, queue, server};

/// Widest line of prose.
const WIDTH: usize = 95;

/// One table of the configuration.
struct Part {
    /// Its path, `queue.dead_letters`.
    path: String,
    /// What it is for. Sentences.
    doc: String,
    settings: Vec<&'static Setting>,
}

impl Part {
    fn new(path: &str, doc: &str, settings: &[&'static Setting]) -> Self {
        Self { path: path.to_owned(), doc: doc.to_owned(), settings: settings.to_vec() }
    }
}

/// The gateway's own tables.
fn own() -> Vec<Part> {
    vec![
        Part::new("node", "This gateway itself.", node::SETTINGS),
        Part::new("server", "Where the API listens, and who may use it.", server::SETTINGS),
        Part::new(
            "ingest.idempotency",
            "How long requests are remembered, so that a repeat gets the first answer and nothing \
             is taken twice.",
            queue::IDEMPOTENCY_SETTINGS,
        ),
        Part::new("queue", "Where events are kept until every lane is done.", queue::SETTINGS),
        Part::new(
            "queue.dead_letters",
            "Events that a lane gave up on, whole, with the reason and every attempt.",
            queue::DEAD_LETTER_SETTINGS,
        ),
    ]
}

/// One table per type of source.
fn source_types() -> Vec<Part> {
    let part = |kind: &sources::Kind| Part::new(kind.name, kind.summary, kind.settings);
    sources::CATALOG.iter().map(part).collect()
}

/// One table per type of destination.
fn destination_types() -> Vec<Part> {
    let part = |kind: &destinations::Kind| Part::new(kind.name, kind.summary, kind.settings);
    destinations::CATALOG.iter().map(part).collect()
}

/// The tables that every destination has, under its own, whose path is `name`.
fn common(name: &str) -> Vec<Part> {
    let under = |table: &str| format!("{name}.{table}");
    vec![
        Part::new(name, "The keys of every destination.", lane::SETTINGS),
        Part::new(
            &under("when"),
            "Which events the destination gets. All conditions must hold; within a list any. An \
             event without the field does not pass, but passes the `not_` twin. Without \
             conditions every alert passes.",
            lane::WHEN_SETTINGS,
        ),
        Part::new(
            &under("batch"),
            "Several events in one request. A batch is sent when it is full or has waited.",
            lane::BATCH_SETTINGS,
        ),
        Part::new(
            &under("digest"),
            "Storm control: the first of events alike goes at once, the rest of its window becomes \
             one counted summary, with 20 of them as samples. Express events pass.",
            lane::STORM_SETTINGS,
        ),
        Part::new(
            &under("dedup"),
            "The same without a summary: the rest is only counted. A lane has one of the two.",
            lane::STORM_SETTINGS,
        ),
        Part::new(
            &under("retry"),
            "When an attempt that failed is made again.",
            lane::RETRY_SETTINGS,
        ),
        Part::new(
            &under("breaker"),
            "When a destination counts as down. Then single probes go out until one succeeds.",
            lane::BREAKER_SETTINGS,
        ),
    ]
}

/// Text cut into lines of at most `width` characters, between words.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
