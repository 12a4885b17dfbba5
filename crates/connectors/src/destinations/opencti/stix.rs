//! STIX 2.1: ids, patterns and names of types. Pure.

use serde_json::Value;
use uuid::Uuid;

use crate::{
    indicators::{Class, Indicator},
    uuid5,
};

/// The space of names that STIX 2.1 (section 2.9) makes ids in, and OpenCTI with it.
const NAMESPACE: Uuid = Uuid::from_u128(0x00ab_edb4_aa42_466c_9c01_fed2_3315_a9b7);

/// An id of ours, made from names.
pub(super) fn id(kind: &str, names: &[&str]) -> String {
    format!("{kind}--{}", uuid5::of(&[&[kind], names].concat()))
}

/// The id that OpenCTI gives an indicator with this pattern.
pub(super) fn indicator_id(indicator: &Indicator) -> String {
    standard_id("indicator", &[("pattern", &pattern(indicator))])
}

/// The id that OpenCTI gives a system of this name.
pub(super) fn system_id(name: &str) -> String {
    let name = name.trim().to_lowercase();
    standard_id("identity", &[("identity_class", "system"), ("name", &name)])
}

/// The UUID of a canonical JSON object (RFC 8785): the members must be in order.
fn standard_id(kind: &str, members: &[(&str, &str)]) -> String {
    let quoted = |text: &str| Value::from(text).to_string();
    let members: Vec<_> =
        members.iter().map(|(name, text)| format!("{}:{}", quoted(name), quoted(text))).collect();
    let object = format!("{{{}}}", members.join(","));
    format!("{kind}--{}", Uuid::new_v5(&NAMESPACE, object.as_bytes()))
}

/// A pattern that matches the value and nothing else.
pub(super) fn pattern(indicator: &Indicator) -> String {
    let path = match indicator.class {
        Class::Ipv4 => "ipv4-addr:value",
        Class::Ipv6 => "ipv6-addr:value",
        Class::Domain => "domain-name:value",
        Class::Url => "url:value",
        Class::Sha256 => "file:hashes.'SHA-256'",
        Class::Sha1 => "file:hashes.'SHA-1'",
        Class::Md5 => "file:hashes.MD5",
    };
    let value = indicator.value.replace('\\', "\\\\").replace('\'', "\\'");
    format!("[{path} = '{value}']")
}

/// What OpenCTI calls the type of observable.
pub(super) fn observable_type(class: Class) -> &'static str {
    match class {
        Class::Ipv4 => "IPv4-Addr",
        Class::Ipv6 => "IPv6-Addr",
        Class::Domain => "Domain-Name",
        Class::Url => "Url",
        Class::Sha256 | Class::Sha1 | Class::Md5 => "StixFile",
    }
}

/// By which key OpenCTI finds an observable of that value.
pub(super) fn filter_key(class: Class) -> &'static str {
    match class {
        Class::Ipv4 | Class::Ipv6 | Class::Domain | Class::Url => "value",
        Class::Sha256 => "hashes.SHA-256",
        Class::Sha1 => "hashes.SHA-1",
        Class::Md5 => "hashes.MD5",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indicator(class: Class, value: &str) -> Indicator {
        Indicator { class, is_source: true, value: value.to_owned() }
    }

    #[test]
    fn ids_are_those_that_opencti_makes_itself() {
        // Recorded from pycti 7.261026.0: `Identity.generate_id`, `Indicator.generate_id`.
        assert_eq!(system_id("Wazuh"), "identity--6384d70e-3e7e-5ea0-90a1-a9f589a60d30");
        assert_eq!(system_id(" WAZUH é \"q\" "), "identity--7288badc-5967-556f-a215-75651cf33766");
        let address = indicator(Class::Ipv4, "203.0.113.9");
        assert_eq!(indicator_id(&address), "indicator--8331a98e-43bb-5bb5-a394-1eaa0e72d142");
    }

    #[test]
    fn a_value_cannot_leave_its_pattern() {
        let url = indicator(Class::Url, r"http://a.com/'] OR [x:y = '\");
        assert_eq!(pattern(&url), r"[url:value = 'http://a.com/\'] OR [x:y = \'\\']");
        let hash = indicator(Class::Sha256, "ab");
        assert_eq!(pattern(&hash), "[file:hashes.'SHA-256' = 'ab']");
    }
}
