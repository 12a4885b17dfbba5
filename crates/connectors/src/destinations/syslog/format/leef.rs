//! QRadar's LEEF 2.0.

use holdfast_model::Member;

use super::{MSG_CHARS_MAX, field, millis, ten};
use crate::message::{Message, one_line};

/// LEEF knows no escaping: what would end a field becomes a space.
pub(super) fn line(member: &Member, message: &Message) -> String {
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
        let value = value.map(|value| one_line(&value, MSG_CHARS_MAX));
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            line.push_str(&format!("\t{key}={value}"));
        }
    }
    line
}
