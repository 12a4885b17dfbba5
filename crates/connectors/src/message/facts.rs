//! What matters in each kind of Wazuh alert, in the order people look for it.

use serde_json::Value;

use super::{FACT_CHARS_MAX, Fact, one_line};

/// Most facts of one message: a Slack section has ten fields, a Discord embed 25.
const FACTS_MAX: usize = 20;

/// Where the facts are. The first pointer of a label that holds something wins, so the labels are
/// the same for every kind of alert (field names: Wazuh 4.14 decoders; `_source` ECS for Wazuh 5).
const FIELDS: &[(&str, &[&str])] = &[
    ("Rule", &["/rule/id", "/wazuh/rule/id"]),
    ("Agent", &["/agent/name", "/wazuh/agent/name"]),
    ("Address", &["/agent/ip"]),
    ("Time", &["/timestamp", "/@timestamp"]),
    ("Groups", &["/rule/groups"]),
    ("MITRE", &["/rule/mitre/id"]),
    (
        "Source",
        &[
            "/data/srcip",
            "/data/src_ip",
            "/data/win/eventdata/ipAddress",
            "/data/aws/sourceIPAddress",
            "/data/aws/source_ip_address",
            "/data/office365/ClientIP",
            "/source/ip",
        ],
    ),
    (
        "Destination",
        &["/data/dstip", "/data/dest_ip", "/data/win/eventdata/destinationIp", "/destination/ip"],
    ),
    (
        "User",
        &[
            "/data/dstuser",
            "/data/srcuser",
            "/data/win/eventdata/targetUserName",
            "/data/win/eventdata/user",
            "/data/aws/userIdentity/userName",
            "/data/office365/UserId",
            "/data/audit/auid",
            "/user/name",
        ],
    ),
    (
        "File",
        &[
            "/syscheck/path",
            "/data/virustotal/source/file",
            "/data/audit/file/name",
            "/data/file",
            "/file/path",
        ],
    ),
    ("Change", &["/syscheck/event"]),
    ("SHA-256", &["/syscheck/sha256_after"]),
    ("SHA-1", &["/data/virustotal/source/sha1"]),
    ("Command", &["/data/win/eventdata/commandLine", "/data/audit/execve/a0", "/data/command"]),
    ("Vulnerability", &["/data/vulnerability/cve"]),
    ("Package", &["/data/vulnerability/package/name"]),
    ("Score", &["/data/vulnerability/score/base"]),
    ("Check", &["/data/sca/check/title", "/data/sca/policy"]),
    ("Remedy", &["/data/sca/check/remediation"]),
    ("Detected by", &["/data/virustotal/positives"]),
    ("Report", &["/data/virustotal/permalink", "/data/vulnerability/reference"]),
    (
        "Event",
        &[
            "/data/aws/eventName",
            "/data/aws/type",
            "/data/office365/Operation",
            "/data/win/system/eventID",
            "/data/osquery/name",
            "/data/docker/Action",
        ],
    ),
    ("Container", &["/data/docker/Actor/Attributes/name"]),
    ("Signature", &["/data/alert/signature"]),
    ("URL", &["/data/url"]),
    ("Location", &["/location"]),
];

/// The facts of an alert, most important first, behind those that are known already.
pub(super) fn of(alert: &Value, known: Vec<Fact>) -> Vec<Fact> {
    let value = |pointers: &[&str]| pointers.iter().find_map(|pointer| text(alert, pointer));
    let facts = FIELDS.iter().filter_map(|(name, pointers)| {
        let value = one_line(&value(pointers)?, FACT_CHARS_MAX);
        (!value.is_empty()).then_some(Fact { name: (*name).into(), value })
    });
    known.into_iter().chain(facts).take(FACTS_MAX).collect()
}

/// What is at a pointer as text: a list becomes its items with commas. `None`: nothing to say.
pub(super) fn text(alert: &Value, pointer: &str) -> Option<String> {
    let scalar = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(yes.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    let text = match alert.pointer(pointer)? {
        Value::Array(items) => items.iter().filter_map(scalar).collect::<Vec<_>>().join(", "),
        value => scalar(value)?,
    };
    (!text.trim().is_empty()).then_some(text)
}
