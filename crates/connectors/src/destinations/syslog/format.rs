//! How one event is written: the formats SIEMs read, and those Wazuh's own daemon wrote.
//!
//! Promises: one line without control characters; every value is escaped as its format says, but in
//! Wazuh's own layouts, which escape nothing and are kept byte for byte for receivers that were
//! built for them.

use holdfast_model::{
    DeliveryError, Member, Timestamp,
    settings::{Section, Setting},
};
use serde_json::Value;

use crate::{
    body::{self, Shape},
    message::{Message, Severity, Template, one_line},
};

pub(super) const FORMAT: Setting = Setting::new(
    "format",
    "\"rfc5424\"",
    "\"rfc5424\", \"rfc3164\", \"cef\", \"leef\", \"json\" (the alert in RFC 5424), or Wazuh's own layouts \"wazuh\", \"wazuh_cef\", \"wazuh_splunk\" and \"wazuh_json\".",
);

pub(super) const FACILITY: Setting = Setting::new(
    "facility",
    "16",
    "The syslog facility, 0 to 23; 16 is local0. Wazuh's own layouts always use 16.",
);

pub(super) const HOSTNAME: Setting = Setting::optional(
    "hostname",
    "\"soc-gateway\"",
    "The host in the header. Without it, the alert's manager.",
);

/// RFC 5424's number for private use in documents.
const ENTERPRISE: &str = "32473";

/// What every receiver of RFC 3164 takes.
const RFC3164_BYTES_MAX: usize = 1024;

const HOST_CHARS_MAX: usize = 255;
const TEXT_CHARS_MAX: usize = 2000;

/// CEF's own limits, in characters.
const CEF_NAME_CHARS_MAX: usize = 512;
const CEF_MSG_CHARS_MAX: usize = 1023;

/// Local0.warning, whatever the level: `os_csyslogd` knows no other.
const WAZUH_PRI: &str = "<132>";

/// Most of Wazuh's own layouts, in bytes; the log is cut with three dots.
const WAZUH_BYTES_MAX: usize = 61_440;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Rfc5424,
    Rfc3164,
    Cef,
    Leef,
    Json,
    Wazuh,
    WazuhCef,
    WazuhSplunk,
    WazuhJson,
}

#[derive(Debug)]
pub(super) struct Writer {
    format: Format,
    facility: u32,
    hostname: Option<String>,
    template: Template,
}

// === impl Writer ===

impl Writer {
    pub(super) fn read(section: &Section<'_>) -> Option<Self> {
        let words = [
            "rfc5424",
            "rfc3164",
            "cef",
            "leef",
            "json",
            "wazuh",
            "wazuh_cef",
            "wazuh_splunk",
            "wazuh_json",
        ];
        let format = match section.word(&FORMAT, &words) {
            "rfc3164" => Format::Rfc3164,
            "cef" => Format::Cef,
            "leef" => Format::Leef,
            "json" => Format::Json,
            "wazuh" => Format::Wazuh,
            "wazuh_cef" => Format::WazuhCef,
            "wazuh_splunk" => Format::WazuhSplunk,
            "wazuh_json" => Format::WazuhJson,
            _ => Format::Rfc5424,
        };
        let facility = section.count(&FACILITY, 0..=23);
        let hostname = section.text(&HOSTNAME).map(str::to_owned);
        Some(Self { format, facility, hostname, template: Template::read(section)? })
    }

    pub(super) fn take_template_errors(&self) -> u64 {
        self.template.take_errors()
    }

    /// One message, without framing.
    pub(super) fn line(&self, member: &Member) -> Result<Vec<u8>, DeliveryError> {
        let message = Message::of(member);
        let line = match self.format {
            Format::Rfc5424 => {
                format!("{} {}", self.rfc5424(member, &message), self.text(&message))
            }
            Format::Rfc3164 => {
                let mut line =
                    format!("{}holdfast: {}", self.rfc3164(member, &message), self.text(&message));
                line.truncate(line.floor_char_boundary(RFC3164_BYTES_MAX));
                line
            }
            Format::Cef => format!("{}{}", self.rfc3164(member, &message), cef(member, &message)),
            Format::Leef => format!("{}{}", self.rfc3164(member, &message), leef(member, &message)),
            Format::Json => {
                let mut line = format!("{} ", self.rfc5424(member, &message)).into_bytes();
                line.extend_from_slice(&body::single(member, Shape::Bare)?);
                return Ok(line);
            }
            Format::WazuhJson => {
                let mut line = format!("{}ossec: ", self.wazuh_head(member, &message)).into_bytes();
                line.extend_from_slice(&body::single(member, Shape::Bare)?);
                return Ok(line);
            }
            Format::Wazuh => format!("{}{}", self.wazuh_head(member, &message), wazuh(&message)),
            Format::WazuhSplunk => {
                format!("{}{}", self.wazuh_head(member, &message), wazuh_splunk(&message))
            }
            Format::WazuhCef => {
                let date = date(member, &message);
                format!("{WAZUH_PRI}{date} {}", wazuh_cef(&message, &self.host(&message)))
            }
        };
        Ok(line.into_bytes())
    }

    fn text(&self, message: &Message) -> String {
        let text = self.template.render(message).unwrap_or_else(|| {
            format!("{} [{}] event {}", message.title, message.level_text(), message.id)
        });
        one_line(&text, TEXT_CHARS_MAX)
    }

    fn pri(&self, message: &Message) -> u32 {
        self.facility * 8 + severity(message)
    }

    /// Printable ASCII without spaces: what a header allows.
    fn host(&self, message: &Message) -> String {
        let manager = field(message, "/manager/name");
        let host = self.hostname.clone().or(manager).unwrap_or_default();
        let clean: String =
            host.chars().filter(char::is_ascii_graphic).take(HOST_CHARS_MAX).collect();
        if clean.is_empty() { "holdfast".to_owned() } else { clean }
    }

    fn rfc5424(&self, member: &Member, message: &Message) -> String {
        let moment = Timestamp::parse(&message.at).unwrap_or(member.event.received_at);
        let (pri, host) = (self.pri(message), self.host(message));
        let mut data = format!("[holdfast@{ENTERPRISE}");
        let level = message.level.map(|level| level.to_string());
        let pairs = [
            ("id", Some(&message.id)),
            ("key", Some(&message.key)),
            ("rule", message.rule_id.as_ref()),
            ("level", level.as_ref()),
            ("agent", message.agent_name.as_ref()),
        ];
        for (name, value) in pairs {
            if let Some(value) = value {
                let value = one_line(value, HOST_CHARS_MAX);
                let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace(']', "\\]");
                data.push_str(&format!(" {name}=\"{value}\""));
            }
        }
        format!("<{pri}>1 {moment} {host} holdfast - {} {data}]", message.kind.as_str())
    }

    fn rfc3164(&self, member: &Member, message: &Message) -> String {
        format!("<{}>{} {} ", self.pri(message), date(member, message), self.host(message))
    }

    fn wazuh_head(&self, member: &Member, message: &Message) -> String {
        format!("{WAZUH_PRI}{} {} ", date(member, message), self.host(message))
    }
}

/// The syslog severity of a level.
fn severity(message: &Message) -> u32 {
    match (message.level, message.severity) {
        (Some(0..=3), _) | (None, Severity::Low) => 6,
        (Some(4..=6), _) => 5,
        (Some(7..=11), _) | (None, Severity::Medium) => 4,
        (Some(12..=14), _) | (None, Severity::High) => 3,
        (Some(15..), _) | (None, Severity::Critical) => 2,
    }
}

/// 0 to 10 for CEF and LEEF.
fn ten(message: &Message) -> u64 {
    let of_word = match message.severity {
        Severity::Low => 3,
        Severity::Medium => 6,
        Severity::High => 8,
        Severity::Critical => 10,
    };
    message.level.map_or(of_word, |level| level.min(10))
}

/// `Mar 10 06:02:17`, the day padded with a space: the manager's local time, as the alert says it.
fn date(member: &Member, message: &Message) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let read = |text: &str| {
        Timestamp::parse(text)?;
        let month: usize = text.get(5..7)?.parse().ok()?;
        let day: u8 = text.get(8..10)?.parse().ok()?;
        Some(format!("{} {day:>2} {}", MONTHS.get(month.checked_sub(1)?)?, text.get(11..19)?))
    };
    read(&message.at)
        .or_else(|| read(&member.event.received_at.to_string()))
        .unwrap_or_else(|| "Jan  1 00:00:00".to_owned())
}

fn field(message: &Message, pointer: &str) -> Option<String> {
    match message.alert.pointer(pointer)? {
        Value::String(text) if !text.is_empty() => Some(one_line(text, TEXT_CHARS_MAX)),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn millis(member: &Member, message: &Message) -> u64 {
    Timestamp::parse(&message.at).unwrap_or(member.event.received_at).0
}

fn cef(member: &Member, message: &Message) -> String {
    let header =
        |text: &str, chars_max| one_line(text, chars_max).replace('\\', "\\\\").replace('|', "\\|");
    let rule = header(message.rule_id.as_deref().unwrap_or(message.kind.as_str()), HOST_CHARS_MAX);
    let name = header(&message.title, CEF_NAME_CHARS_MAX);
    let mut line = format!(
        "CEF:0|Holdfast|Wazuh|{}|{rule}|{name}|{}|rt={}",
        env!("CARGO_PKG_VERSION"),
        ten(message),
        millis(member, message)
    );
    let groups = message.groups.join(",");
    let log = message.log.clone();
    let pairs = [
        ("externalId", Some(message.key.clone())),
        ("deviceExternalId", message.agent_id.clone()),
        ("dvchost", message.agent_name.clone()),
        ("cat", (!groups.is_empty()).then_some(groups)),
        ("src", field(message, "/data/srcip")),
        ("spt", field(message, "/data/srcport")),
        ("dst", field(message, "/data/dstip")),
        ("dpt", field(message, "/data/dstport")),
        ("suser", field(message, "/data/srcuser")),
        ("duser", field(message, "/data/dstuser")),
        ("filePath", field(message, "/syscheck/path")),
        ("fileHash", field(message, "/syscheck/sha256_after")),
        ("cs1", field(message, "/location")),
        ("msg", log),
    ];
    for (key, value) in pairs {
        if let Some(value) = value {
            let value = one_line(&value, CEF_MSG_CHARS_MAX);
            let value = value.replace('\\', "\\\\").replace('=', "\\=");
            line.push_str(&format!(" {key}={value}"));
            if key == "cs1" {
                line.push_str(" cs1Label=Location");
            }
        }
    }
    line
}

/// LEEF knows no escaping: what would end a field becomes a space.
fn leef(member: &Member, message: &Message) -> String {
    let rule = one_line(message.rule_id.as_deref().unwrap_or(message.kind.as_str()), 255);
    let mut line = format!(
        "LEEF:2.0|Holdfast|Wazuh|{}|{}|x09|devTime={}\tsev={}",
        env!("CARGO_PKG_VERSION"),
        rule.replace('|', " "),
        millis(member, message),
        ten(message).max(1)
    );
    let pairs = [
        ("cat", Some(message.groups.join(","))),
        ("src", field(message, "/data/srcip")),
        ("srcPort", field(message, "/data/srcport")),
        ("dst", field(message, "/data/dstip")),
        ("dstPort", field(message, "/data/dstport")),
        ("usrName", field(message, "/data/dstuser").or_else(|| field(message, "/data/srcuser"))),
        ("identHostName", message.agent_name.clone()),
        ("resource", field(message, "/location")),
        ("holdfastKey", Some(message.key.clone())),
        ("name", Some(message.title.clone())),
        ("msg", message.log.clone()),
    ];
    for (key, value) in pairs {
        let value = value.map(|value| one_line(&value, CEF_MSG_CHARS_MAX));
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            line.push_str(&format!("\t{key}={value}"));
        }
    }
    line
}

/// What Wazuh's text layouts have in common.
struct Wazuh {
    level: u64,
    rule: String,
    description: String,
    location: String,
    groups: Option<String>,
    log: Option<String>,
}

impl Wazuh {
    fn of(message: &Message) -> Self {
        let place = field(message, "/location").unwrap_or_default();
        let location = match (message.agent_id.as_deref(), message.agent_name.as_deref()) {
            (Some(id), Some(name)) if id != "000" => {
                let ip = field(message, "/agent/ip").unwrap_or_else(|| "any".into());
                format!("({}) {ip}->{place}", one_line(name, TEXT_CHARS_MAX))
            }
            _ => format!("{}->{place}", field(message, "/manager/name").unwrap_or_default()),
        };
        let groups = one_line(&message.groups.join(","), TEXT_CHARS_MAX);
        let log = message.alert.pointer("/full_log").and_then(Value::as_str);
        // Only the first line, as alerts.log is read.
        let log = log.and_then(|log| log.lines().next()).map(|log| {
            let log: String = log.chars().filter(|c| !c.is_control()).collect();
            if log.len() <= WAZUH_BYTES_MAX / 2 {
                return log;
            }
            format!("{}...", &log[..log.floor_char_boundary(WAZUH_BYTES_MAX / 2)])
        });
        Self {
            level: message.level.unwrap_or(0),
            rule: one_line(message.rule_id.as_deref().unwrap_or("0"), TEXT_CHARS_MAX),
            description: field(message, "/rule/description").unwrap_or_default(),
            location,
            groups: (!groups.is_empty()).then_some(groups),
            log,
        }
    }
}

fn user(message: &Message) -> Option<String> {
    field(message, "/data/dstuser").or_else(|| field(message, "/data/srcuser"))
}

fn wazuh(message: &Message) -> String {
    let Wazuh { level, rule, description, location, groups, log } = Wazuh::of(message);
    let mut line =
        format!("ossec: Alert Level: {level}; Rule: {rule} - {description}; Location: {location};");
    let pairs = [
        ("classification", groups),
        ("srcip", field(message, "/data/srcip")),
        ("dstip", field(message, "/data/dstip")),
        ("user", user(message)),
    ];
    for (name, value) in pairs {
        if let Some(value) = value {
            line.push_str(&format!(" {name}: {value};"));
        }
    }
    log.into_iter().for_each(|log| line.push_str(&format!(" {log}")));
    line
}

fn wazuh_splunk(message: &Message) -> String {
    let Wazuh { level, rule, description, location, groups, log } = Wazuh::of(message);
    let mut line = format!(
        "ossec: crit={level} id={rule} description=\"{description}\" component=\"{location}\","
    );
    let quoted = |value: Option<String>| value.map(|value| format!("\"{value}\""));
    let pairs = [
        ("classification", quoted(groups)),
        ("src_ip", quoted(field(message, "/data/srcip"))),
        ("src_port", field(message, "/data/srcport")),
        ("dst_ip", quoted(field(message, "/data/dstip"))),
        ("dst_port", field(message, "/data/dstport")),
        ("file", quoted(field(message, "/syscheck/path"))),
        ("acct", quoted(user(message))),
    ];
    for (name, value) in pairs {
        if let Some(value) = value {
            line.push_str(&format!(" {name}={value},"));
        }
    }
    log.into_iter().for_each(|log| line.push_str(&format!(" message=\"{log}\"")));
    line
}

fn wazuh_cef(message: &Message, host: &str) -> String {
    let Wazuh { level, rule, description, location, groups, log } = Wazuh::of(message);
    let mut line = format!(
        "CEF:0|Wazuh Inc.|Wazuh|v4.14.7|{rule}|{description}|{}|dvc={host} cs1={location} cs1Label=Location",
        level.min(10)
    );
    let (from, to) = (field(message, "/data/srcip"), field(message, "/data/dstip"));
    let user = user(message);
    // The last two stand there twice; receivers were built for that.
    let pairs = [
        ("cat", groups),
        ("src", from.clone()),
        ("dpt", field(message, "/data/dstport")),
        ("spt", field(message, "/data/srcport")),
        ("fname", field(message, "/syscheck/path")),
        ("dhost", to.clone()),
        ("shost", from),
        ("suser", user.clone()),
        ("dst", to.clone()),
        ("suser", user),
        ("dst", to),
        ("msg", log),
    ];
    for (name, value) in pairs {
        if let Some(value) = value {
            line.push_str(&format!(" {name}={value}"));
        }
    }
    line
}
