//! The blocks of `ossec.conf` that send alerts somewhere, read as Wazuh's daemons read them. Pure.
//!
//! What makes a daemon refuse its start is a fault here, too: an unknown key, a number that is
//! none, a missing name.

use super::{Fault, reader::Element};

/// What must hold for an alert to be sent; nothing set means every alert.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    /// 0 is none.
    pub(super) level: u64,
    /// `None`: any rule. Empty: none at all.
    pub(super) rule_ids: Option<Vec<u64>>,
    pub(super) group: Option<String>,
    pub(super) location: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Integration {
    pub(super) name: String,
    pub(super) api_key: Option<String>,
    pub(super) hook_url: Option<String>,
    pub(super) options: Option<String>,
    pub(super) when: Conditions,
    pub(super) is_json: bool,
    pub(super) max_log: Option<u64>,
    pub(super) timeout: Option<u64>,
    pub(super) retries: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SyslogOutput {
    pub(super) server: String,
    pub(super) port: u64,
    pub(super) format: String,
    pub(super) fqdn: bool,
    pub(super) when: Conditions,
}

/// `<email_alerts>`: who else gets which mails.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct EmailAlerts {
    pub(super) to: String,
    pub(super) when: Conditions,
    /// Keys that say how a mail looks or when it goes.
    pub(super) others: Vec<String>,
}

/// What `<global>` says about mail, all files together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Global {
    pub(super) mails: bool,
    pub(super) server: Option<String>,
    pub(super) from: Option<String>,
    pub(super) to: Vec<String>,
    pub(super) max_per_hour: Option<u64>,
    /// Alerts are not written as JSON.
    pub(super) no_json: bool,
    /// The name of a socket that alerts are forwarded to.
    pub(super) forward_to: Option<String>,
}

/// Reads values and gathers faults.
pub(super) struct Values<'a> {
    pub(super) file: &'a str,
    pub(super) faults: &'a mut Vec<Fault>,
}

impl Values<'_> {
    pub(super) fn fault(&mut self, line: usize, problem: impl Into<String>) {
        self.faults.push(Fault { file: self.file.to_owned(), line, problem: problem.into() });
    }

    /// No fault repeats a value: it may be a secret.
    pub(super) fn text(&mut self, element: &Element) -> String {
        String::from_utf8(element.value.clone()).unwrap_or_else(|_| {
            self.fault(element.line, format!("the value of <{}> is not UTF-8", element.name));
            String::new()
        })
    }

    fn number(&mut self, element: &Element) -> u64 {
        if !element.value.iter().all(u8::is_ascii_digit) {
            let problem = format!("<{}> must be digits alone; Wazuh refuses it", element.name);
            self.fault(element.line, problem);
            return 0;
        }
        // Empty is 0 to Wazuh, and so many digits are more than any limit.
        let digits = String::from_utf8_lossy(&element.value).into_owned();
        if digits.is_empty() { 0 } else { digits.parse().unwrap_or(u64::MAX) }
    }

    fn unknown(&mut self, block: &Element, child: &Element) {
        let problem = format!("<{}> is unknown in <{}>; Wazuh refuses it", child.name, block.name);
        self.fault(child.line, problem);
    }

    fn word(&mut self, element: &Element, words: &[&str]) -> String {
        let word = self.text(element);
        if !words.contains(&word.as_str()) {
            let (name, words) = (&element.name, words.join(", "));
            self.fault(element.line, format!("<{name}> must be one of {words}; Wazuh refuses it"));
        }
        word
    }

    pub(super) fn integration(&mut self, block: &Element) -> Integration {
        let mut found = Integration::default();
        for child in &block.children {
            match child.name.as_str() {
                "name" => found.name = self.text(child),
                "api_key" => found.api_key = Some(self.text(child)),
                "hook_url" => found.hook_url = Some(self.text(child)),
                "options" => found.options = Some(self.text(child)),
                "level" => found.when.level = self.number(child),
                "rule_id" => add_rules(&mut found.when.rule_ids, &child.value),
                "group" => found.when.group = Some(self.text(child)),
                "event_location" => found.when.location = Some(self.text(child)),
                "alert_format" => found.is_json = child.value.starts_with(b"json"),
                "timeout" => found.timeout = Some(self.number(child)),
                "retries" => found.retries = Some(self.number(child)),
                "max_log" => {
                    let number = self.number(child);
                    if !(165..=1024).contains(&number) {
                        self.fault(child.line, "<max_log> must be 165 to 1024; Wazuh refuses it");
                    }
                    found.max_log = Some(number);
                }
                _ => self.unknown(block, child),
            }
        }
        if !block.children.iter().any(|child| child.name == "name") {
            self.fault(block.line, "an <integration> needs a <name>; Wazuh refuses it");
        }
        found
    }

    pub(super) fn syslog_output(&mut self, block: &Element) -> SyslogOutput {
        let default = "default".to_owned();
        let mut found = SyslogOutput { port: 514, format: default, ..SyslogOutput::default() };
        for child in &block.children {
            match child.name.as_str() {
                "server" => self.text(child).trim().clone_into(&mut found.server),
                "port" => {
                    found.port = self.number(child);
                    if !(1..=65535).contains(&found.port) {
                        self.fault(child.line, "<port> must be 1 to 65535");
                    }
                }
                "level" => found.when.level = self.number(child),
                "rule_id" => add_rules(&mut found.when.rule_ids, &child.value),
                "group" => found.when.group = Some(self.text(child)),
                "location" => found.when.location = Some(self.text(child)),
                "use_fqdn" => found.fqdn = self.word(child, &["yes", "no"]) == "yes",
                "format" => {
                    let word = self.word(child, &["default", "cef", "splunk", "json"]);
                    // To Wazuh `default` changes nothing.
                    if word != "default" {
                        found.format = word;
                    }
                }
                _ => self.unknown(block, child),
            }
        }
        if found.server.is_empty() {
            self.fault(block.line, "a <syslog_output> needs a <server>; Wazuh refuses it");
        }
        found
    }

    pub(super) fn email_alerts(&mut self, block: &Element) -> EmailAlerts {
        let mut found = EmailAlerts::default();
        for child in &block.children {
            match child.name.as_str() {
                "email_to" => found.to = self.text(child),
                "level" => found.when.level = self.number(child),
                "rule_id" => add_rules(&mut found.when.rule_ids, &child.value),
                "group" => found.when.group = Some(self.text(child)),
                "event_location" => found.when.location = Some(self.text(child)),
                "do_not_delay" | "do_not_group" | "format" => found.others.push(child.name.clone()),
                _ => self.unknown(block, child),
            }
        }
        if found.to.trim().is_empty() {
            self.fault(block.line, "an <email_alerts> needs an <email_to>; Wazuh refuses it");
        }
        found
    }

    /// Adds to what the files before said; of a repeated key the last one counts.
    pub(super) fn global(&mut self, block: &Element, global: &mut Global) {
        for child in &block.children {
            match child.name.as_str() {
                "email_notification" => global.mails = self.text(child) == "yes",
                "smtp_server" => global.server = Some(self.text(child)),
                "email_from" => global.from = Some(self.text(child)),
                "email_to" => global.to.push(self.text(child)),
                "email_maxperhour" => global.max_per_hour = Some(self.number(child)),
                "jsonout_output" => global.no_json = self.text(child) == "no",
                "forward_to" => global.forward_to = Some(self.text(child)),
                // The rest has nothing to do with sending.
                _ => {}
            }
        }
    }
}

/// Adds the numbers of one `<rule_id>` as `integrator-config.c` finds them: each number reaches to
/// the next comma whatever stands between, the first other character ends the list, and a 0 ends
/// what was read, so that the next number takes its place.
fn add_rules(rules: &mut Option<Vec<u64>>, text: &[u8]) {
    let mut rest = text;
    while let Some(byte) = rest.first() {
        match byte {
            b' ' | b',' => rest = &rest[1..],
            b'0'..=b'9' => {
                let end = rest.iter().position(|b| !b.is_ascii_digit()).unwrap_or(rest.len());
                let number = String::from_utf8_lossy(&rest[..end]).parse().unwrap_or(0);
                let list = rules.get_or_insert_default();
                if number != 0 {
                    list.push(number);
                }
                match rest.iter().position(|b| *b == b',') {
                    Some(comma) => rest = &rest[comma + 1..],
                    None => return,
                }
            }
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_rules_are_what_wazuh_makes_of_them() {
        #[rustfmt::skip]
        let table: [(&[&str], Option<&[u64]>); 10] = [
            (&["5710"],          Some(&[5710])),
            (&["1, 2 ,3"],       Some(&[1, 2, 3])),
            (&["1", "2"],        Some(&[1, 2])),
            (&["7a,8"],          Some(&[7, 8])),
            (&["7,a,8"],         Some(&[7])),
            (&["\n7"],           None),
            (&["x7"],            None),
            (&["0"],             Some(&[])),
            (&["0,7"],           Some(&[7])),
            (&[""],              None),
        ];
        for (texts, expected) in table {
            let mut rules = None;
            texts.iter().for_each(|text| add_rules(&mut rules, text.as_bytes()));
            assert_eq!(rules.as_deref(), expected, "{texts:?}");
        }
    }
}
