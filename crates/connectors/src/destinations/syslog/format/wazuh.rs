//! The layouts of Wazuh's own `<syslog_output>`, byte for byte: what `os_csyslogd` of Wazuh 4 wrote
//! from `alerts.log`, out of the alert's JSON.
//!
//! Kept, because receivers were built for it: nothing is escaped; each value stands as it is, blanks
//! included; the text layouts have the first line of the log only; an address is written before its
//! port or neither is (`splunk`); a user and a destination stand twice (`cef`); the limits and what
//! the daemon takes for "(none)".
//!
//! Not in the JSON and so not here: the log of alerts whose rule has `no_full_log`; where a
//! compliance tag stood among the groups (the tags follow the groups, in the order of their names);
//! labels, which the daemon writes instead of the log. The daemon's `json` is cut at 64 KiB, ours
//! is not.

use serde_json::Value;

use crate::message::Message;

/// Local0.warning, whatever the level: the daemon knows no other.
const PRI: &str = "<132>";

const VERSION: &str = "v4.14.7";

/// All but the log, in bytes.
const FIELDS_BYTES_MAX: usize = 2048;

/// With the log.
const BYTES_MAX: usize = 61_440;

/// How the JSON names what the rules' own group lists have as `<prefix>_<tag>`, sorted as those are.
const COMPLIANCE: &[&str] = &["cis", "gdpr", "gpg13", "hipaa", "nist_800_53", "pci_dss", "tsc"];

pub(super) struct Header {
    pub(super) date: String,
    pub(super) host: String,
}

pub(super) fn json_head(header: &Header) -> String {
    let Header { date, host } = header;
    format!("{PRI}{date} {host} ossec: ")
}

pub(super) fn default(header: &Header, message: &Message) -> Vec<u8> {
    let alert = Alert::of(message);
    let Alert { level, rule, comment, location, .. } = &alert;
    let mut line = Line::new(format!(
        "{}Alert Level: {level}; Rule: {rule} - {comment}; Location: {location};",
        json_head(header)
    ));
    line.add(" classification: ", Some(&alert.group), ";");
    line.add(" srcip: ", alert.srcip.as_deref(), ";");
    line.add(" dstip: ", alert.dstip.as_deref(), ";");
    line.add(" user: ", alert.user.as_deref(), ";");
    line.log(" ", alert.log.as_deref(), "")
}

pub(super) fn splunk(header: &Header, message: &Message) -> Vec<u8> {
    let alert = Alert::of(message);
    let Alert { level, rule, comment, location, .. } = &alert;
    let mut line = Line::new(format!(
        "{}crit={level} id={rule} description=\"{comment}\" component=\"{location}\",",
        json_head(header)
    ));
    line.add(" classification=\"", Some(&alert.group), "\",");
    if line.add(" src_ip=\"", alert.srcip.as_deref(), "\",") {
        line.number(" src_port=", alert.srcport, ",");
    }
    if line.add(" dst_ip=\"", alert.dstip.as_deref(), "\",") {
        line.number(" dst_port=", alert.dstport, ",");
    }
    line.add(" file=\"", alert.filename.as_deref(), "\",");
    line.add(" acct=\"", alert.user.as_deref(), "\",");
    line.log(" message=\"", alert.log.as_deref(), "\"")
}

pub(super) fn cef(header: &Header, message: &Message) -> Vec<u8> {
    let alert = Alert::of(message);
    let Alert { level, rule, comment, location, .. } = &alert;
    let Header { date, host } = header;
    let level = level.min(&10);
    let mut line = Line::new(format!(
        "{PRI}{date} CEF:0|Wazuh Inc.|Wazuh|{VERSION}|{rule}|{comment}|{level}|\
         dvc={host} cs1={location} cs1Label=Location"
    ));
    line.add(" cat=", Some(&alert.group), "");
    line.add(" src=", alert.srcip.as_deref(), "");
    line.number(" dpt=", alert.dstport, "");
    line.number(" spt=", alert.srcport, "");
    line.add(" fname=", alert.filename.as_deref(), "");
    line.add(" dhost=", alert.dstip.as_deref(), "");
    line.add(" shost=", alert.srcip.as_deref(), "");
    for _ in 0..2 {
        line.add(" suser=", alert.user.as_deref(), "");
        line.add(" dst=", alert.dstip.as_deref(), "");
    }
    line.log(" msg=", alert.log.as_deref(), "")
}

/// What the daemon reads of an alert.
struct Alert {
    level: u64,
    rule: u64,
    comment: String,
    location: String,
    group: String,
    srcip: Option<String>,
    srcport: u64,
    dstip: Option<String>,
    dstport: u64,
    user: Option<String>,
    filename: Option<String>,
    log: Option<String>,
}

// === impl Alert ===

impl Alert {
    fn of(message: &Message) -> Self {
        let get = |pointer: &str| message.alert.pointer(pointer).and_then(Value::as_str);
        let text = |pointer: &str| get(pointer).map(printable);
        let log = text("/full_log");
        let is_file = message.groups.iter().any(|group| group.contains("syscheck"));
        let filename = log.as_deref().filter(|_| is_file).and_then(|log| {
            let name = log.strip_prefix("Integrity checksum changed for: '")?;
            name.get(..name.len().checked_sub(1)?)
        });
        Self {
            level: message.level.unwrap_or(0),
            rule: number(message.rule_id.as_deref()),
            comment: text("/rule/description").unwrap_or_default(),
            location: location(&message.alert),
            group: group(&message.alert),
            srcip: text("/data/srcip"),
            srcport: number(get("/data/srcport")),
            dstip: text("/data/dstip"),
            dstport: number(get("/data/dstport")),
            user: text("/data/dstuser"),
            filename: filename.map(str::to_owned),
            log,
        }
    }
}

/// `manager->place`, or `(agent) ip->place`.
fn location(alert: &Value) -> String {
    let text = |pointer: &str| alert.pointer(pointer).and_then(Value::as_str).map(printable);
    let place = text("/location").unwrap_or_default();
    match (text("/agent/id"), text("/agent/name")) {
        (Some(id), Some(name)) if id != "000" => {
            let ip = text("/agent/ip").unwrap_or_else(|| "any".to_owned());
            format!("({name}) {ip}->{place}")
        }
        _ => format!("{}->{place}", text("/manager/name").unwrap_or_default()),
    }
}

/// The rule's groups, each before a comma.
fn group(alert: &Value) -> String {
    let list = |name: &str| alert["rule"][name].as_array().cloned().unwrap_or_default();
    let mut group = String::new();
    let mut add = |prefix: &str, item: &Value| {
        if let Some(item) = item.as_str() {
            group.push_str(&format!("{prefix}{},", printable(item)));
        }
    };
    list("groups").iter().for_each(|item| add("", item));
    for name in COMPLIANCE {
        let prefix = format!("{name}_");
        list(name).iter().for_each(|item| add(&prefix, item));
    }
    group
}

/// The first line, as the daemon reads it. A control character would end or colour a line.
fn printable(text: &str) -> String {
    let line = text.split('\n').next().unwrap_or_default();
    line.chars().filter(|c| !c.is_control() || *c == '\t').collect()
}

/// The digits at its beginning, like C's `atoi`.
fn number(text: Option<&str>) -> u64 {
    let text = text.unwrap_or_default().trim_start();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().unwrap_or(0)
}

/// A message in the making: the daemon's buffer.
struct Line(Vec<u8>);

// === impl Line ===

impl Line {
    fn new(head: String) -> Self {
        let mut bytes = head.into_bytes();
        bytes.truncate(FIELDS_BYTES_MAX - 1);
        Self(bytes)
    }

    /// Answers whether there was something to write and room to begin.
    fn add(&mut self, before: &str, value: Option<&str>, after: &str) -> bool {
        let room = FIELDS_BYTES_MAX.saturating_sub(self.0.len());
        let Some(value) = value.filter(|value| room > 0 && is_written(value)) else {
            return false;
        };
        let field = format!("{before}{value}{after}");
        self.0.extend(field.bytes().take(room));
        true
    }

    /// A port of 0 is none.
    fn number(&mut self, before: &str, value: u64, after: &str) {
        if value > 0 {
            let room = FIELDS_BYTES_MAX.saturating_sub(self.0.len());
            self.0.extend(format!("{before}{value}{after}").bytes().take(room));
        }
    }

    /// The log ends the message, with three dots where it is cut. The daemon's last byte is a zero,
    /// which costs a message that fills it its last character.
    fn log(mut self, before: &str, log: Option<&str>, after: &str) -> Vec<u8> {
        let room = BYTES_MAX.saturating_sub(self.0.len());
        if let Some(log) = log.filter(|log| is_written(log)) {
            let mut kept = log.as_bytes().to_vec();
            let own = before.len() + after.len();
            if kept.len() + own > room {
                kept.truncate(room.saturating_sub(own + 3));
                kept.extend_from_slice(b"...");
            }
            let field = [before.as_bytes(), kept.as_slice(), after.as_bytes()].concat();
            self.0.extend(field.into_iter().take(room.saturating_sub(1)));
        }
        // The daemon leaves half a character where it cuts one; no receiver wants it.
        String::from_utf8_lossy(&self.0).replace('\u{fffd}', "").into_bytes()
    }
}

/// The daemon's own condition, character for character. It is meant for "(none)", "(unknown)" and
/// "unknown", and leaves out a few others.
fn is_written(value: &str) -> bool {
    let at = |n: usize| value.as_bytes().get(n).copied().unwrap_or(0);
    !value.is_empty()
        && ((at(0) != b'(' && at(1) != b'n' && at(2) != b'o')
            || (at(0) != b'(' && at(1) != b'u' && at(2) != b'n')
            || (at(0) != b'u' && at(1) != b'n' && at(4) != b'k'))
}
