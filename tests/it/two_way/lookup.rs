//! A lookup that is a shell script, and remembers what it was asked.

use std::fs;

use crate::support::Config;

/// Notes each request in the file `$1`, and answers it with `$2` after `$3` seconds.
const SCRIPT: &str = r#"
while IFS= read -r line; do
    id=${line#*'"id":"'}; id=${id%%'"'*}
    printf '%s\n' "$id" >> "$1"
    sleep "$3"
    printf '{"id":"%s","outcome":"delivered","answers":[%s]}\n' "$id" "$2"
done
"#;

/// As Wazuh's own script would inject it.
pub(super) const MALICIOUS: &str = r#"{"integration":"virustotal","virustotal":{"found":1,"malicious":1,"positives":52,"total":70}}"#;

/// The table of such a lookup.
pub(super) fn table(config: &Config, name: &str, answer: &str, wait: &str, keys: &str) -> String {
    let asked = config.file(&format!("{name}.asked"));
    let command = serde_json::json!(["/bin/sh", "-c", SCRIPT, "sh", asked, answer, wait]);
    format!(
        "[destinations.{name}]\ntype = \"process\"\ncommand = {command}\nlookup = true\n\
         retry = {{ initial = \"20ms\", max = \"500ms\" }}\n{keys}\n"
    )
}

/// The requests it got so far.
pub(super) fn asked(config: &Config, name: &str) -> Vec<String> {
    let text = fs::read_to_string(config.file(&format!("{name}.asked"))).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}
