//! A script's settings, and what is made of them.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use holdfast_model::{
    Destination, Reason,
    settings::{Node, Section, Setting, Value},
};

use super::{super::Context, Script, files::Folder};
use crate::{
    child::{Outcome, Variables},
    secrets::LiveSecret,
    vendor,
};

pub(super) const SCRIPT: Setting = Setting::optional(
    "script",
    "\"custom-example\"",
    "The script's file name under `integrations/`. Not a path.",
);

pub(super) const WAZUH_HOME: Setting = Setting::new(
    "wazuh_home",
    "\"/var/ossec\"",
    "Wazuh's folder, from the root: the working directory and WAZUH_PATH.",
);

pub(super) const API_KEY: Setting = Setting::optional(
    "api_key",
    "{ file = \"/etc/holdfast/secrets/example\" }",
    "The second argument. A secret, which users of this machine may see while the script runs.",
);

pub(super) const HOOK_URL: Setting = Setting::optional(
    "hook_url",
    "{ file = \"/etc/holdfast/secrets/example-url\" }",
    "The third argument. A secret, as api_key.",
);

pub(super) const OPTIONS: Setting = Setting::optional(
    "options",
    "'{\"tags\":[\"wazuh\"]}'",
    "The text of the options file, whose path is the fifth argument. A secret.",
);

pub(super) const ALERT_FORMAT: Setting = Setting::new(
    "alert_format",
    "\"json\"",
    "The alert file: \"json\", the alert on one line, or \"text\", Wazuh's seven lines key='value', \
     which it writes when an <integration> does not say json.",
);

pub(super) const MAX_LOG: Setting =
    Setting::new("max_log", "165", "How much of the log a \"text\" file has, 165 to 1024 bytes.");

pub(super) const DEBUG: Setting = Setting::new(
    "debug",
    "false",
    "Whether the fourth argument is the word debug, by which many scripts log more.",
);

pub(super) const REQUEST_TIMEOUT: Setting = Setting::new(
    "request_timeout",
    "\"10s\"",
    "The sixth argument, in whole seconds, 1 second to 10 minutes: Wazuh's <timeout>, which is \
     the script's business. What ends the script is timeout.",
);

pub(super) const REQUEST_RETRIES: Setting = Setting::new(
    "request_retries",
    "3",
    "The seventh argument, 0 to 100: Wazuh's <retries>, which is the script's business.",
);

pub(super) const EXIT_CODES: Setting = Setting::optional(
    "exit_codes",
    "{ \"2\" = \"refused\" }",
    "What exit codes from 1 to 255 mean: \"delivered\", \"duplicate\", \"retry\", \"throttled\", \
     \"refused\", \"unauthorized\" or \"misconfigured\". Known are 75 = \"retry\", 77 = \
     \"unauthorized\", 78, 126 and 127 = \"misconfigured\"; any other is \"retry\".",
);

pub(super) const RUNTIME_DIR: Setting = Setting::new(
    "runtime_dir",
    "\"/run/holdfast\"",
    "Where the script's files are while it runs, from the root. Nobody else may write in it, so \
     it cannot be the shared temporary directory.",
);

/// Where every user may write, and Wazuh's file integrity monitoring often looks.
const SHARED_FOLDERS: [&str; 4] = ["/tmp", "/var/tmp", "/dev/shm", "/run/lock"];

/// What exit codes mean by themselves: sysexits(3) EX_TEMPFAIL, EX_NOPERM and EX_CONFIG, and the
/// shell's words for "cannot be run" and "not found".
const EXIT_CODES_DEFAULT: [(i32, Outcome); 5] = [
    (75, Outcome::Failed(Reason::ServerFault)),
    (77, Outcome::Failed(Reason::Unauthorized)),
    (78, Outcome::Failed(Reason::Misconfigured)),
    (126, Outcome::Failed(Reason::Misconfigured)),
    (127, Outcome::Failed(Reason::Misconfigured)),
];

pub(super) fn build(section: &Section<'_>, context: &Context) -> Option<Arc<dyn Destination>> {
    let name = section.required_text(&SCRIPT);
    let wazuh_home = folder(section, &WAZUH_HOME);
    let runtime_dir = folder(section, &RUNTIME_DIR);
    let api_key = given(section, &API_KEY);
    let hook_url = given(section, &HOOK_URL);
    let options = given(section, &OPTIONS);
    let is_text = section.word(&ALERT_FORMAT, &["json", "text"]) == "text";
    let max_log = section.count(&MAX_LOG, 165..=1024) as usize;
    let debug = section.bool(&DEBUG);
    let bounds = Duration::from_secs(1)..=Duration::from_secs(600);
    let request_timeout = section.duration(&REQUEST_TIMEOUT, bounds);
    let request_retries = section.count(&REQUEST_RETRIES, 0..=100);
    let exit_codes = exit_codes(section);
    let variables = Variables::read(section);
    let is_name = !name.is_empty() && name != "." && !name.contains(['/', '\0']);
    if !is_name || name.contains("..") {
        if section.has(SCRIPT.name) {
            section.fault(SCRIPT.name, "it must be a file's name, without `/` and `..`");
        }
        return None;
    }
    let runtime_dir = runtime_dir?;
    if SHARED_FOLDERS.iter().any(|shared| runtime_dir == Path::new(shared)) {
        section.fault(RUNTIME_DIR.name, "it must not be a folder that all users share");
        return None;
    }
    Some(Arc::new(Script {
        name: name.to_owned(),
        wazuh_home: wazuh_home?,
        api_key: api_key?,
        hook_url: hook_url?,
        options: options?,
        text_log_max: is_text.then_some(max_log),
        debug,
        request_timeout,
        request_retries,
        exit_codes: exit_codes?,
        variables: variables?,
        folder: Folder::new(runtime_dir, context.name.as_str()),
        timeout: context.timeout,
    }))
}

/// A folder from the root. Reports it when it is not.
fn folder(section: &Section<'_>, setting: &Setting) -> Option<PathBuf> {
    let path = PathBuf::from(section.text(setting)?);
    if !path.is_absolute() {
        section.fault(setting.name, "it must begin at the root, with a `/`");
        return None;
    }
    Some(path)
}

/// A secret that need not be given; the outer `None` says that it is given and unfit.
fn given(section: &Section<'_>, setting: &Setting) -> Option<Option<LiveSecret>> {
    match vendor::optional_secret(section, setting) {
        None if section.has(setting.name) => None,
        Some(secret) if secret.current().expose().contains('\0') => {
            section.fault(setting.name, "it holds a NUL, which no argument can");
            None
        }
        found => Some(found),
    }
}

fn exit_codes(section: &Section<'_>) -> Option<HashMap<i32, Outcome>> {
    let mut codes = HashMap::from(EXIT_CODES_DEFAULT);
    let given = section.has(EXIT_CODES.name);
    let Some(table) = section.table(EXIT_CODES.name) else { return (!given).then_some(codes) };
    let mut all_good = true;
    for (name, Node { value, .. }) in table.entries() {
        let code = name.parse().ok().filter(|code| (1..=255).contains(code));
        let outcome = match value {
            Value::Text(word) => Outcome::of_word(word),
            _ => None,
        };
        match (code, outcome) {
            (Some(code), Some(outcome)) => drop(codes.insert(code, outcome)),
            (None, _) => {
                table.fault(name, "it is no exit code from 1 to 255");
                all_good = false;
            }
            (_, None) => {
                let words = Outcome::WORDS.map(|(word, _)| word).join(", ");
                table.fault(name, format!("it must be one of {words}"));
                all_good = false;
            }
        }
    }
    all_good.then_some(codes)
}
