use holdfast_connectors::destinations;
use holdfast_model::settings::Setting;

use super::{Part, common, connectors, destination_types, over_http, own, source_types, tokens};

const INTRO: &str = "\
# Configuration

Holdfast reads one TOML file. `holdfast check --config FILE` reports all its faults at once, each with line, key, what was
given and what is allowed. Unknown keys are faults. [`config/holdfast.toml`](../config/holdfast.toml) has every key with
its default, [`config/destinations/`](../config/destinations/) one example per type of destination, and
[`config/quickstart.toml`](../config/quickstart.toml) runs as it is.

**Units.** Durations carry a unit (`\"200ms\"`, `\"30s\"`, `\"5m\"`, `\"72h\"`, `\"90d\"`), and so do sizes (`\"64KiB\"`, `\"16MiB\"`,
`\"20GiB\"`) and rates (`\"1/s\"`, `\"30/min\"`, `\"500/h\"`).

**Paths** begin with `/`, or with `./` or `../` in the directory that the gateway is started in.

**Secrets.** A secret has one of four forms: `\"text\"`, `{ env = \"NAME\" }`, `{ file = \"/path\" }` or `{ credential = \"name\" }`
(systemd's `LoadCredential=`). Of a file one trailing newline is cut. A secret's file is refused when others can read or
write it or its group can write it, and when its group can read it and is not the gateway's own, or is `wazuh`; so is a
configuration that holds a secret as text. `chmod 600` mends it. Files on a read-only mount and systemd's credentials are
taken as they are.

**Names** of sources, destinations and tokens have 1 to 64 characters of `A-Z`, `a-z`, `0-9`, `_` and `-`. No source can be
called `http`: that one is the API, which is always there.
";

/// `docs/configuration.md`.
pub(crate) fn markdown() -> String {
    let mut out = INTRO.to_owned();
    for part in own() {
        table(&mut out, "##", &format!("`[{}]`", part.path), &part);
        if part.path == "server" {
            let doc = "Each entry of `server.tokens`.";
            let part = Part::new("server.tokens", doc, tokens::TOKEN_SETTINGS);
            table(&mut out, "###", "`server.tokens`", &part);
        }
    }
    let doc = "Where alerts come from. The keys depend on the `type`.";
    let part = Part::new("", doc, &[&connectors::SOURCE_TYPE]);
    table(&mut out, "##", "`[sources.NAME]`", &part);
    for part in source_types() {
        table(&mut out, "###", &format!("`type = \"{}\"`", part.path), &part);
    }
    let doc = "Where alerts go. The keys depend on the `type`; the common ones follow below.";
    let part = Part::new("", doc, &[&connectors::DESTINATION_TYPE]);
    table(&mut out, "##", "`[destinations.NAME]`", &part);
    for (part, kind) in destination_types().iter().zip(destinations::CATALOG) {
        table(&mut out, "###", &format!("`type = \"{}\"`", part.path), part);
        let example = kind.example.trim();
        let head = format!("[destinations.my-{0}]\ntype = \"{0}\"", kind.name);
        out.push_str(&format!("\n```toml\n{head}\n{example}\n```\n"));
    }
    table(&mut out, "###", "Keys of every destination over HTTP", &over_http());
    for part in common("destinations.NAME") {
        let title = match part.path.as_str() {
            "destinations.NAME" => "Keys of every destination".to_owned(),
            path => format!("`[{path}]`"),
        };
        table(&mut out, "###", &title, &part);
    }
    out
}

fn table(out: &mut String, level: &str, title: &str, part: &Part) {
    out.push_str(&format!("\n{level} {title}\n\n{}\n\n", part.doc));
    out.push_str("| key | default | meaning |\n| --- | --- | --- |\n");
    for Setting { name, default, example, doc } in part.settings.iter().copied() {
        let default = match default {
            Some(default) => format!("`{}`", cell(default)),
            None => format!("none; for example `{}`", cell(example)),
        };
        out.push_str(&format!("| `{name}` | {default} | {} |\n", cell(doc)));
    }
}

/// A bar would end the cell, in code too.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
