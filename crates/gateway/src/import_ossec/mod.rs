//! From `ossec.conf` to a configuration of ours: what sent alerts there, sends the same alerts here.
//!
//! Promises: each block that sends becomes one destination whose `when` passes what the block let
//! pass; keys and addresses are in no text, only in [`Imported::secrets`]; what has no counterpart
//! becomes a comment; what Wazuh would refuse is a fault with file and line.
//!
//! Does not promise that messages look the same, nor that a script does what its name says. Pure:
//! the command line reads and writes the files.

mod blocks;
mod integration;
mod mail;
mod options;
mod reader;
mod table;

use std::collections::BTreeSet;

use holdfast_model::Secret;

use self::{
    blocks::{EmailAlerts, Global, Values},
    reader::Element,
    table::{Table, plain, quoted},
};

/// Most destinations that are made of all files together.
const DESTINATIONS_MAX: usize = 1000;

/// Longest name before a number: with one it still fits, as `name.rs` of the model says.
const NAME_CHARS_MAX: usize = 56;

/// One `ossec.conf`.
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) text: Vec<u8>,
}

/// What the operator says about the machine.
pub(crate) struct Settings<'a> {
    /// Where secrets will be, from the root.
    pub(crate) secrets_dir: &'a str,
    pub(crate) wazuh_home: &'a str,
}

/// Why a file is not imported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {problem}")]
pub(crate) struct Fault {
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) problem: String,
}

#[derive(Debug)]
pub(crate) struct Imported {
    pub(crate) toml: String,
    /// File names under the folder of the secrets, and what belongs into them.
    pub(crate) secrets: Vec<(String, Secret)>,
    pub(crate) destinations: usize,
    /// Blocks that are comments only.
    pub(crate) left_out: usize,
}

/// What is being made.
struct Draft<'a> {
    secrets_dir: &'a str,
    wazuh_home: &'a str,
    file: String,
    tables: Vec<Table>,
    remarks: Vec<String>,
    names: BTreeSet<String>,
    secrets: Vec<(String, Secret)>,
}

/// Reads all files as one configuration, as Wazuh does with several roots.
///
/// # Errors
///
/// Every fault of every file.
pub(crate) fn convert(files: &[File], settings: &Settings<'_>) -> Result<Imported, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut draft = Draft {
        secrets_dir: settings.secrets_dir,
        wazuh_home: settings.wazuh_home,
        file: String::new(),
        tables: Vec::new(),
        remarks: Vec::new(),
        names: BTreeSet::new(),
        secrets: Vec::new(),
    };
    let mut global = Global::default();
    let mut mails = Vec::new();
    for File { name, text } in files {
        draft.file.clone_from(name);
        let mut values = Values { file: name, faults: &mut faults };
        match reader::read(text) {
            Ok(roots) => one_file(&mut draft, &mut values, &roots, &mut global, &mut mails),
            Err((line, problem)) => values.fault(line, problem.to_string()),
        }
    }
    mail::mails(&mut draft, &global, &mails);
    mail::remarks(&mut draft, &global);
    if draft.tables.len() > DESTINATIONS_MAX {
        let problem = format!("there are more than {DESTINATIONS_MAX} destinations");
        faults.push(Fault { file: draft.file.clone(), line: 0, problem });
    }
    if faults.is_empty() { Ok(draft.finish()) } else { Err(faults) }
}

fn one_file(
    draft: &mut Draft<'_>,
    values: &mut Values<'_>,
    roots: &[Element],
    global: &mut Global,
    mails: &mut Vec<(EmailAlerts, String)>,
) {
    if roots.is_empty() {
        values.fault(1, "there is no <ossec_config> in it");
    }
    for root in roots {
        if root.name != "ossec_config" {
            values.fault(root.line, format!("<{}> is no <ossec_config>", plain(&root.name)));
            continue;
        }
        for block in &root.children {
            match block.name.as_str() {
                "integration" => {
                    let read = values.integration(block);
                    integration::convert(draft, &read, block.line);
                }
                "syslog_output" => {
                    let read = values.syslog_output(block);
                    mail::syslog(draft, &read, block.line);
                }
                "email_alerts" => mails.push((values.email_alerts(block), draft.at(block.line))),
                "global" => values.global(block, global),
                // What decides about other things than sending.
                _ => {}
            }
        }
    }
}

impl Draft<'_> {
    fn at(&self, line: usize) -> String {
        format!("{}, line {line}", plain(&self.file))
    }

    fn remark(&mut self, text: impl Into<String>) {
        self.remarks.push(text.into());
    }

    /// A name that fits and that nobody has.
    fn name(&mut self, wanted: &str) -> String {
        let fits = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
        let clean: String = wanted.chars().map(fits).take(NAME_CHARS_MAX).collect();
        let clean = clean.trim_matches('-').to_owned();
        let unfit = clean.is_empty() || holdfast_queue::job_of_lane(&clean).is_some();
        let stem = if unfit { format!("wazuh-{clean}") } else { clean };
        let stem = stem.trim_end_matches('-').to_owned();
        let numbered = (2..).map(|number| format!("{stem}-{number}"));
        let mut all = std::iter::once(stem.clone()).chain(numbered);
        let free = |name: &String| {
            !self.names.contains(name) && holdfast_queue::job_of_lane(name).is_none()
        };
        let name = all.find(free).unwrap_or(stem);
        self.names.insert(name.clone());
        name
    }

    /// Keeps a secret for a file, and says where it will be, as TOML.
    fn keep(&mut self, destination: &str, what: &str, value: &str) -> String {
        let file = format!("{destination}-{what}");
        let path = format!("{}/{file}", self.secrets_dir.trim_end_matches('/'));
        self.secrets.push((file, Secret::new(value)));
        format!("{{ file = {} }}", quoted(&path))
    }

    fn finish(self) -> Imported {
        let home = self.wazuh_home.trim_end_matches('/');
        let mut toml = String::from(
            "# Made by `holdfast import-ossec`. Read the comments, then `holdfast check`.\n",
        );
        for remark in &self.remarks {
            toml.push_str(&format!("#\n# {remark}\n"));
        }
        toml.push_str(&format!(
            "\n[node]\nstate = \"/var/lib/holdfast\"\n\n[queue]\nmax_size = \"20GiB\"\nretention = \"24h\"\n\n\
             [sources.wazuh]\ntype = \"alerts_file\"\npath = {}\nstart = \"end\"\n",
            quoted(&format!("{home}/logs/alerts/alerts.json"))
        ));
        let left_out = self.tables.iter().filter(|table| table.idle).count();
        if self.tables.is_empty() {
            toml.push_str("\n# Nothing in the files sends alerts.\n");
        }
        self.tables.iter().for_each(|table| table.write(&mut toml));
        let destinations = self.tables.len() - left_out;
        Imported { toml, secrets: self.secrets, destinations, left_out }
    }
}
