use std::fmt::Write as _;

use holdfast_model::settings::Setting;

use super::{Part, WIDTH, common, destination_types, own, source_types, wrap};

/// What stands behind the value of a key that has no default.
const EXAMPLE: &str = "  # example";

/// The destination that stands for all of them.
const ANY: &str = "destinations.anything";

const INTRO: &str = "\
The configuration of Holdfast, with every key.

A `#` right before a key is a key that is not set, with its default; `# example` behind it says \
that it has none. Remove the `#` to change it.

Durations carry a unit (\"200ms\", \"30s\", \"5m\", \"72h\", \"90d\"), and so do sizes (\"64KiB\", \
\"16MiB\", \"20GiB\") and rates (\"1/s\", \"30/min\", \"500/h\").

A secret is a text in quotes, { env = \"NAME\" }, { file = \"/path\" } or { credential = \"name\" } \
(systemd). A file that holds one, this one too, may be readable by its owner alone, or by the \
group that the gateway runs as: chmod 600, or 640.

Paths begin with `/`, or with `./` in the directory that the gateway is started in.

`holdfast check --config FILE` reports all faults at once.";

/// The whole commented file.
pub(crate) fn toml() -> String {
    let mut out = String::new();
    for paragraph in INTRO.split("\n\n") {
        if !out.is_empty() {
            out.push_str("#\n");
        }
        prose(&mut out, paragraph);
    }
    for part in own() {
        let sign = if part.optional { "#" } else { "" };
        table(&mut out, &part.path, sign, &part.doc, None);
        keys(&mut out, &part.settings);
    }
    title(&mut out, "Sources: [sources.NAME]. The API, `http`, is one that is always there.");
    for part in source_types() {
        connector(&mut out, "sources", &part);
    }
    title(&mut out, "Destinations: [destinations.NAME]. Their types, with the keys of each.");
    for part in destination_types() {
        connector(&mut out, "destinations", &part);
    }
    title(&mut out, "The keys of every destination, whatever its type.");
    for part in common(ANY) {
        let kind = (part.path == ANY).then_some("stdout");
        table(&mut out, &part.path, "#", &part.doc, kind);
        keys(&mut out, &part.settings);
    }
    out
}

fn connector(out: &mut String, group: &str, part: &Part) {
    let name = format!("{group}.my-{}", part.path);
    table(out, &name, "#", &part.doc, Some(&part.path));
    keys(out, &part.settings);
}

fn title(out: &mut String, text: &str) {
    out.push_str("\n# ");
    out.push_str(&"-".repeat(WIDTH - 2));
    out.push('\n');
    prose(out, text);
}

/// A table's header with its description; `sign` comments it out.
fn table(out: &mut String, path: &str, sign: &str, doc: &str, kind: Option<&str>) {
    out.push('\n');
    prose(out, doc);
    line(out, format_args!("{sign}[{path}]"));
    if let Some(kind) = kind {
        line(out, format_args!("#type = \"{kind}\""));
    }
}

fn keys(out: &mut String, settings: &[&Setting]) {
    for setting in settings {
        out.push('\n');
        prose(out, setting.doc);
        let Setting { name, example, .. } = setting;
        match setting.default {
            Some(default) => line(out, format_args!("#{name} = {default}")),
            None => line(out, format_args!("#{name} = {example}{EXAMPLE}")),
        }
    }
}

fn prose(out: &mut String, text: &str) {
    for words in wrap(text, WIDTH - 2) {
        line(out, format_args!("# {words}"));
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    writeln!(out, "{text}").ok();
}
