//! What an alert holds that others can look for: addresses, names, URLs and hashes.
//!
//! Promises: never fails; each value once, in one spelling, at most [`INDICATORS_MAX`] of an alert;
//! what is the house's own (private addresses, names without a public ending) is left out, because
//! nobody else could look for it. Does not promise that a value is bad.

use std::net::IpAddr;

use serde_json::Value;

/// Most of one alert that are taken, the first ones.
pub(crate) const INDICATORS_MAX: usize = 20;

/// Longest URL that is taken, in bytes.
const URL_BYTES_MAX: usize = 2048;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Ipv4,
    Ipv6,
    Domain,
    Url,
    Sha256,
    Sha1,
    Md5,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Indicator {
    pub(crate) class: Class,
    /// The alert says that something came from there, not that it went there.
    pub(crate) is_source: bool,
    pub(crate) value: String,
}

/// How a field is read.
#[derive(Clone, Copy)]
enum Field {
    Source,
    Target,
    Name,
    Url,
    Hash,
    /// Sysmon's `SHA1=…,MD5=…,SHA256=…,IMPHASH=…`.
    Hashes,
}

/// Field names: Wazuh 4.14 decoders (Suricata's, Sysmon's, the cloud modules'); ECS for Wazuh 5.
const FIELDS: &[(&str, Field)] = &[
    ("/data/srcip", Field::Source),
    ("/data/src_ip", Field::Source),
    ("/data/win/eventdata/ipAddress", Field::Source),
    ("/data/win/eventdata/sourceIp", Field::Source),
    ("/data/aws/sourceIPAddress", Field::Source),
    ("/data/aws/source_ip_address", Field::Source),
    ("/data/office365/ClientIP", Field::Source),
    ("/source/ip", Field::Source),
    ("/data/dstip", Field::Target),
    ("/data/dest_ip", Field::Target),
    ("/data/win/eventdata/destinationIp", Field::Target),
    ("/destination/ip", Field::Target),
    ("/data/win/eventdata/queryName", Field::Name),
    ("/data/dns/rrname", Field::Name),
    ("/data/tls/sni", Field::Name),
    ("/data/http/hostname", Field::Name),
    ("/data/url", Field::Url),
    ("/syscheck/sha256_after", Field::Hash),
    ("/syscheck/sha1_after", Field::Hash),
    ("/syscheck/md5_after", Field::Hash),
    ("/data/virustotal/source/sha1", Field::Hash),
    ("/data/virustotal/source/md5", Field::Hash),
    ("/data/win/eventdata/hashes", Field::Hashes),
];

/// The last labels of names that only the house itself can resolve (RFC 6762 appendix G, RFC 6761).
const OWN_ENDINGS: &[&str] = &[
    "arpa",
    "corp",
    "domain",
    "example",
    "home",
    "internal",
    "intranet",
    "invalid",
    "lan",
    "local",
    "localdomain",
    "localhost",
    "private",
    "test",
];

/// The indicators of an alert, in the order of its fields' importance.
pub(crate) fn of(alert: &Value) -> Vec<Indicator> {
    let mut found: Vec<Indicator> = Vec::new();
    for (pointer, field) in FIELDS {
        let Some(text) = alert.pointer(pointer).and_then(Value::as_str) else { continue };
        for (class, value) in read(*field, text.trim()) {
            let known = found.iter().any(|other| other.class == class && other.value == value);
            if !known && found.len() < INDICATORS_MAX {
                let is_source = matches!(field, Field::Source);
                found.push(Indicator { class, is_source, value });
            }
        }
    }
    found
}

fn read(field: Field, text: &str) -> Vec<(Class, String)> {
    match field {
        Field::Source | Field::Target => address(text).into_iter().collect(),
        Field::Name => address(text).or_else(|| domain(text)).into_iter().collect(),
        Field::Url => url(text).into_iter().collect(),
        Field::Hash => hash(text).into_iter().collect(),
        Field::Hashes => text
            .split(',')
            .filter_map(|part| part.split_once('='))
            // An import hash is as long as an MD5 and names no file.
            .filter(|(name, _)| matches!(name.trim(), "MD5" | "SHA1" | "SHA256"))
            .filter_map(|(_, value)| hash(value.trim()))
            .collect(),
    }
}

fn address(text: &str) -> Option<(Class, String)> {
    let address = text.parse::<IpAddr>().ok()?.to_canonical();
    let class = if address.is_ipv4() { Class::Ipv4 } else { Class::Ipv6 };
    is_public(address).then(|| (class, address.to_string()))
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            // RFC 6598: a provider's own.
            let [first, second, ..] = v4.octets();
            let shared = first == 100 && second & 0xc0 == 64;
            let own = v4.is_private() || v4.is_loopback() || v4.is_link_local() || shared;
            !(own || first == 0 || v4.is_multicast() || v4.is_broadcast())
        }
        IpAddr::V6(v6) => {
            let own = v6.is_unique_local() || v6.is_loopback() || v6.is_unicast_link_local();
            !(own || v6.is_unspecified() || v6.is_multicast())
        }
    }
}

fn domain(text: &str) -> Option<(Class, String)> {
    let name = text.trim_end_matches('.').to_ascii_lowercase();
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let labels: Vec<&str> = name.split('.').collect();
    let last = *labels.last()?;
    let is_name = labels.len() >= 2
        && name.len() <= 253
        && labels.iter().all(|label| is_label(label))
        && last.bytes().any(|byte| byte.is_ascii_alphabetic())
        && !OWN_ENDINGS.contains(&last);
    is_name.then_some((Class::Domain, name))
}

fn url(text: &str) -> Option<(Class, String)> {
    let plain = text.len() <= URL_BYTES_MAX && !text.chars().any(char::is_control);
    let url = text.parse::<reqwest::Url>().ok().filter(|url| plain && url.has_host())?;
    // The host of a URL is judged as it is alone.
    let public = match url.host_str()?.trim_matches(['[', ']']) {
        host if host.parse::<IpAddr>().is_ok() => address(host).is_some(),
        host => domain(host).is_some(),
    };
    public.then(|| (Class::Url, text.to_owned()))
}

fn hash(text: &str) -> Option<(Class, String)> {
    let class = match text.len() {
        64 => Class::Sha256,
        40 => Class::Sha1,
        32 => Class::Md5,
        _ => return None,
    };
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| (class, text.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn values(alert: &Value) -> Vec<(Class, String)> {
        of(alert).into_iter().map(|found| (found.class, found.value)).collect()
    }

    #[test]
    fn what_is_the_houses_own_or_no_such_thing_is_left_out() {
        for text in [
            "10.1.2.3",
            "192.168.0.1",
            "127.0.0.1",
            "169.254.1.1",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "fe80::1",
            "fd00::1",
            "::ffff:10.0.0.1",
            "ff02::1",
            "web01",
            "1.2.3",
            "",
            "203.0.113.9:22",
        ] {
            assert_eq!(values(&json!({ "data": { "srcip": text } })), [], "{text}");
        }
        for text in ["web01", "db.corp", "printer.local", "a..b", "-", "x y.com", "1.2.3"] {
            assert_eq!(values(&json!({ "data": { "dns": { "rrname": text } } })), [], "{text}");
        }
        for text in ["/index.php", "http://10.0.0.1/x", "http://web01/x", "file:///etc/passwd"] {
            assert_eq!(values(&json!({ "data": { "url": text } })), [], "{text}");
        }
    }

    #[test]
    fn each_value_is_named_once_in_one_spelling() {
        let md5 = "7353F60B1739074EB17C5F4DDDEFE239";
        let alert = json!({
            "data": {
                "srcip": "203.0.113.9", "src_ip": " 203.0.113.9 ", "dstip": "2001:DB8::1",
                "tls": { "sni": "Evil.Example.COM." }, "url": "https://evil.example.com/a?b=1",
                "win": { "eventdata": { "hashes": format!("MD5={md5},IMPHASH={md5},SHA256=zz") } },
            },
            "syscheck": { "md5_after": md5.to_ascii_lowercase() },
        });
        let expected = [
            (Class::Ipv4, "203.0.113.9"),
            (Class::Ipv6, "2001:db8::1"),
            (Class::Domain, "evil.example.com"),
            (Class::Url, "https://evil.example.com/a?b=1"),
            (Class::Md5, "7353f60b1739074eb17c5f4dddefe239"),
        ];
        let found = values(&alert);
        assert_eq!(found, expected.map(|(class, value)| (class, value.to_owned())));
        assert!(of(&alert)[0].is_source && !of(&alert)[1].is_source);
    }
}
