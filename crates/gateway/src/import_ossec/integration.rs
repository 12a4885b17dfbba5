//! An `<integration>` block as a destination. Pure.

use holdfast_connectors::destinations::CATALOG;
use reqwest::Url;

use super::{
    Draft,
    blocks::Integration,
    options::{self, Options},
    table::{Groups, Table, plain},
};

/// The rules whose alerts Wazuh's `shuffle.py` leaves out: those of the containers it starts.
const SHUFFLE_SKIPS: &str = "not_rule_ids = [87924, 87900, 87901, 87902, 87903, 87904, 86001, 86002, 86003, 87932, 80710, 87929, 87928, 5710]";

/// Characters of the last part of a Shuffle trigger's address.
const HOOK_CHARS: usize = 44;

/// Scripts of the community that send what a destination of ours sends.
const KNOWN: [(&str, &str); 9] = [
    ("custom-discord", "discord"),
    ("custom-teams", "teams"),
    ("custom-msteams", "teams"),
    ("custom-ms-teams", "teams"),
    ("custom-mattermost", "mattermost"),
    ("custom-w2thive", "thehive"),
    ("custom-thehive", "thehive"),
    ("custom-slack", "slack"),
    ("custom-pagerduty", "pagerduty"),
];

/// Scripts that have what they need in themselves, so that a person has to move it.
const ADVICE: [(&str, &str); 7] = [
    (
        "jira",
        "`type = \"jira\"` does the same with retries; the project and the issue type stand in the script, so set them by hand.",
    ),
    (
        "email",
        "`type = \"email\"` does the same with retries; the server and the addresses stand in the script, so set them by hand.",
    ),
    (
        "telegram",
        "`type = \"telegram\"` does the same with retries; the chat's id stands in the script, so set it by hand.",
    ),
    (
        "misp",
        "The usual script of this name asks MISP and puts the answer into Wazuh by itself. `type = \"misp\"` sends alerts to MISP.",
    ),
    (
        "opencti",
        "The usual script of this name asks OpenCTI and puts the answer into Wazuh by itself. `type = \"opencti\"` sends alerts to OpenCTI.",
    ),
    (
        "iris",
        "There is no destination for DFIR-IRIS; a `webhook` with a `body` can take the script's place.",
    ),
    ("xsoar", "`type = \"xsoar\"` does the same with retries; set it by hand."),
];

pub(super) fn convert(draft: &mut Draft<'_>, block: &Integration, line: usize) {
    let kind = block.name.as_str();
    let name = draft.name(stem(kind));
    let mut table = Table::new(name, "script");
    table.note(format!("<integration> {} of {}", plain(kind), draft.at(line)));
    match kind {
        "slack" if block.hook_url.is_none() => disabled(&mut table, "<hook_url>"),
        "shuffle" if block.hook_url.is_none() => disabled(&mut table, "<hook_url>"),
        "pagerduty" | "virustotal" if block.api_key.is_none() => disabled(&mut table, "<api_key>"),
        "maltiverse" if block.api_key.is_none() || block.hook_url.is_none() => {
            disabled(&mut table, "<api_key> and <hook_url>");
        }
        "slack" => slack(draft, &mut table, block),
        "pagerduty" => pagerduty(draft, &mut table, block),
        "shuffle" => shuffle(draft, &mut table, block),
        "virustotal" => return virustotal(draft, table, block),
        "maltiverse" => {
            table.note("There is no destination for Maltiverse: Wazuh's own script goes on, with retries. It puts its answers into Wazuh by itself.");
            script(draft, &mut table, block);
        }
        _ if kind.starts_with("custom-") => custom(draft, &mut table, block),
        _ => {
            table.idle = true;
            table.note("Wazuh does not know this integration and has disabled it.");
        }
    }
    draft.tables.push(table);
}

/// The part of a name that says what it is about.
fn stem(name: &str) -> &str {
    let name = name.strip_prefix("custom-").unwrap_or(name);
    name.strip_suffix(".py").unwrap_or(name)
}

fn disabled(table: &mut Table, missing: &str) {
    table.idle = true;
    table.note(format!("Without {missing} Wazuh has disabled it."));
}

fn retype(table: &mut Table, kind: &str) {
    let mut fresh = Table::new(std::mem::take(&mut table.name), kind);
    fresh.notes = std::mem::take(&mut table.notes);
    *table = fresh;
}

/// What every shipped script needs, and most others.
fn note_format(table: &mut Table, block: &Integration) {
    if !block.is_json {
        table.note("The block does not say <alert_format>json, without which Wazuh's script fails: it has sent nothing so far.");
    }
}

/// Keeps an address or key without the white space around it, which Wazuh leaves there.
fn keep(draft: &mut Draft<'_>, table: &mut Table, key: &'static str, what: &str, value: &str) {
    if value.trim() != value {
        table.note(format!("White space around <{what}> was cut off; Wazuh hands it over."));
    }
    if value.contains("&amp;") {
        table.note(format!("<{what}> holds `&amp;` as it is, because Wazuh does not decode it either. Look whether it should be `&`."));
    }
    let place = draft.keep(&table.name, &what.replace('_', "-"), value.trim());
    table.set(key, place);
}

fn slack(draft: &mut Draft<'_>, table: &mut Table, block: &Integration) {
    note_format(table, block);
    let hook = block.hook_url.as_deref().unwrap_or_default();
    match Options::read(table, block.options.as_deref()) {
        None => {
            retype(table, "slack");
            keep(draft, table, "webhook_url", "hook_url", hook);
        }
        Some(merged) => {
            retype(table, "webhook");
            table.note("<options> change the message, so this is Wazuh's message with them. `type = \"slack\"` writes messages of its own.");
            keep(draft, table, "url", "hook_url", hook);
            table.text("body", &merged.slack());
        }
    }
    table.when(&block.when, Groups::Names, &[]);
    table.text("rate", "1/s");
}

fn pagerduty(draft: &mut Draft<'_>, table: &mut Table, block: &Integration) {
    note_format(table, block);
    retype(table, "pagerduty");
    table.note("Wazuh's script pages with `warning` from level 7 on; here the severity follows the level, and `severity` changes it.");
    let merged = Options::read(table, block.options.as_deref());
    let own = merged.as_ref().and_then(Options::routing_key);
    let key = own.or(block.api_key.as_deref()).unwrap_or_default().to_owned();
    if key.trim().len() != 32 {
        table.note("This is not the key of an \"Events API v2\" integration, which has 32 characters: `check` will refuse it.");
    }
    keep(draft, table, "routing_key", "api_key", &key);
    if let Some(merged) = merged {
        if let Some(summary) = merged.at("/payload/summary") {
            table.text("template", &options::escaped(summary));
        }
        if let Some(word) = merged.at("/payload/severity").filter(|word| options::is_severity(word))
        {
            let all = ["low", "medium", "high", "critical"];
            let words: Vec<_> = all.iter().map(|level| format!("{level} = \"{word}\"")).collect();
            table.set("severity", format!("{{ {} }}", words.join(", ")));
        }
        let rest = merged.names_but(&["routing_key"]);
        if !rest.is_empty() {
            table.note(format!("Of <options> only `payload.summary` and `payload.severity` have a counterpart. There were: {rest}."));
        }
    }
    table.when(&block.when, Groups::Names, &[]);
}

fn shuffle(draft: &mut Draft<'_>, table: &mut Table, block: &Integration) {
    note_format(table, block);
    table.note("The rules in `not_rule_ids` are those that Wazuh's script leaves out.");
    let hook = block.hook_url.as_deref().unwrap_or_default();
    match Options::read(table, block.options.as_deref()) {
        None if is_hook(hook) => {
            retype(table, "shuffle");
            keep(draft, table, "url", "hook_url", hook);
        }
        merged => {
            retype(table, "webhook");
            table.note("<options> or another address than Shuffle's: this is Wazuh's message by `webhook`.");
            keep(draft, table, "url", "hook_url", hook);
            table.text("body", &merged.unwrap_or_default().shuffle());
        }
    }
    table.when(&block.when, Groups::Names, &[SHUFFLE_SKIPS.to_owned()]);
}

fn is_hook(text: &str) -> bool {
    let last = text.trim().trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    is_url(text) && last.len() == HOOK_CHARS && last.starts_with("webhook_")
}

fn is_url(text: &str) -> bool {
    text.trim().parse::<Url>().is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.username().is_empty()
            && url.password().is_none()
    })
}

/// The lookup, and the way of its answers back into Wazuh.
fn virustotal(draft: &mut Draft<'_>, mut table: Table, block: &Integration) {
    let has = |kind: &str| CATALOG.iter().any(|known| known.name == kind);
    let idle = !has("virustotal") || !has("wazuh_socket");
    note_format(&mut table, block);
    retype(&mut table, "virustotal");
    if idle {
        table.note(
            "This version of Holdfast does not ask VirusTotal: keep the block in ossec.conf.",
        );
    }
    table.idle = idle;
    let key = block.api_key.as_deref().unwrap_or_default();
    if !idle {
        keep(draft, &mut table, "api_key", "api_key", key);
    }
    if block.options.is_some() || block.hook_url.is_some() {
        table.note("Wazuh's script takes no <options> and no <hook_url>; they are left out.");
    }
    table.when(&block.when, Groups::Names, &[]);
    let mut back = Table::new(draft.name(&format!("{}-to-wazuh", table.name)), "wazuh_socket");
    back.idle = idle;
    back.note("Puts the answers into Wazuh, where the rules 87100 to 87106 judge them.");
    let only = r#"{ kind = "lookup", where = "has(alert.integration) && alert.integration == 'virustotal'" }"#;
    back.set("when", only);
    draft.tables.extend([table, back]);
}

fn custom(draft: &mut Draft<'_>, table: &mut Table, block: &Integration) {
    let stem = stem(&block.name).to_ascii_lowercase();
    let full = format!("custom-{stem}");
    let known = KNOWN.iter().find(|(script, _)| *script == full);
    let hook = block.hook_url.as_deref().unwrap_or_default();
    let key = block.api_key.as_deref().unwrap_or_default();
    let native = known.filter(|(_, kind)| match *kind {
        "pagerduty" => key.trim().len() == 32,
        "thehive" => is_url(hook) && !key.trim().is_empty(),
        _ => is_url(hook),
    });
    let has_options = block.options.as_deref().is_some_and(|text| !text.trim().is_empty());
    let Some((_, kind)) = native.filter(|_| !has_options) else {
        if let Some((_, advice)) = ADVICE.iter().find(|(word, _)| stem.contains(word)) {
            table.note(*advice);
        }
        return script(draft, table, block);
    };
    retype(table, kind);
    table.note(format!(
        "`{kind}` takes the place of the community's script of this name, which has no retries. To keep the script: type = \"script\", script = {}, with the keys in the same files.",
        super::table::quoted(&block.name)
    ));
    match *kind {
        "pagerduty" => keep(draft, table, "routing_key", "api_key", key),
        "slack" => keep(draft, table, "webhook_url", "hook_url", hook),
        "thehive" => {
            table.note("Set `version` if it is older than TheHive 5.2, and `observables` and `tlp` to your liking.");
            keep(draft, table, "url", "hook_url", hook);
            keep(draft, table, "api_key", "api_key", key);
        }
        _ => keep(draft, table, "url", "hook_url", hook),
    }
    table.when(&block.when, Groups::Names, &[]);
}

/// The script itself, as `wazuh-integratord` runs it.
fn script(draft: &mut Draft<'_>, table: &mut Table, block: &Integration) {
    let name = block.name.as_str();
    if name.contains(['/', '\0']) || name.contains("..") {
        table.idle = true;
        table.note("Its name is a path, which is not run. Move the script and rename it.");
    }
    table.text("script", name);
    if draft.wazuh_home != "/var/ossec" {
        table.text("wazuh_home", draft.wazuh_home);
    }
    for (key, what, value) in [
        ("api_key", "api-key", &block.api_key),
        ("hook_url", "hook-url", &block.hook_url),
        ("options", "options", &block.options),
    ] {
        // To a script an empty value and none are the same.
        let Some(value) = value.as_deref().filter(|value| !value.trim().is_empty()) else {
            continue;
        };
        if value.contains('\0') {
            table.note(format!("`{key}` holds a NUL and is left out."));
            continue;
        }
        if key != "options" && value.contains(char::is_whitespace) {
            table.note(format!("`{key}` holds white space. Wazuh moves the arguments behind it by one; Holdfast does not."));
        }
        let place = draft.keep(&table.name, what, value);
        table.set(key, place);
    }
    if !block.is_json {
        table.text("alert_format", "text");
        if let Some(max_log) = block.max_log {
            table.set("max_log", max_log.to_string());
        }
    }
    if let Some(timeout) = block.timeout {
        table.text("request_timeout", &format!("{}s", timeout.clamp(1, 600)));
    }
    if let Some(retries) = block.retries {
        table.set("request_retries", retries.min(100).to_string());
    }
    table.set("concurrency", "1");
    table.when(&block.when, Groups::Names, &[]);
}
