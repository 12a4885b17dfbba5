//! How one event is written: the formats SIEMs read, and those Wazuh's own daemon wrote.
//!
//! Promises: one line without control characters; every value is escaped as its format says, but in
//! Wazuh's own layouts, which escape nothing and are kept byte for byte for receivers that were
//! built for them.

mod cef;
mod leef;
#[cfg(test)]
mod tests;
mod wazuh;

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

/// What CEF allows in a message, in characters; LEEF is given no more.
const MSG_CHARS_MAX: usize = 1023;

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
            Format::Cef => {
                format!("{}{}", self.rfc3164(member, &message), cef::line(member, &message))
            }
            Format::Leef => {
                format!("{}{}", self.rfc3164(member, &message), leef::line(member, &message))
            }
            Format::Json => {
                let mut line = format!("{} ", self.rfc5424(member, &message)).into_bytes();
                line.extend_from_slice(&body::single(member, Shape::Bare)?);
                return Ok(line);
            }
            Format::WazuhJson => {
                let mut line = wazuh::json_head(&self.wazuh_header(member, &message)).into_bytes();
                line.extend_from_slice(&body::single(member, Shape::Bare)?);
                return Ok(line);
            }
            Format::Wazuh => {
                return Ok(wazuh::default(&self.wazuh_header(member, &message), &message));
            }
            Format::WazuhSplunk => {
                return Ok(wazuh::splunk(&self.wazuh_header(member, &message), &message));
            }
            Format::WazuhCef => {
                return Ok(wazuh::cef(&self.wazuh_header(member, &message), &message));
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

    /// The daemon's own host name ends at the first dot; one that was given stays whole, as with
    /// its `use_fqdn`.
    fn wazuh_header(&self, member: &Member, message: &Message) -> wazuh::Header {
        let mut host = self.host(message);
        if self.hostname.is_none() {
            host.truncate(host.find('.').unwrap_or(host.len()));
        }
        wazuh::Header { date: date(member, message), host }
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
