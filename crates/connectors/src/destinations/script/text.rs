//! Wazuh's other format of the alert file, for old shell scripts: seven lines `key='value'`, the
//! last without a line break.
//!
//! Promises: the log is changed and cut as Wazuh does it, byte by byte. Different from there: no
//! value ends its quotes or its line, because scripts feed the file to a shell.

use serde_json::Value;

use crate::message::fact;

/// The file's content.
pub(super) fn of(body: &[u8], log_bytes_max: usize) -> Vec<u8> {
    let alert: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |pointer: &str| fact(&alert, pointer).unwrap_or_default();
    let values = [
        ("alertdate", quoted(&text("/timestamp"))),
        ("alertlocation", quoted(&text("/location"))),
        ("ruleid", quoted(&text("/rule/id"))),
        ("alertlevel", quoted(&text("/rule/level"))),
        ("ruledescription", quoted(&text("/rule/description"))),
        ("alertlog", log(&text("/full_log"), log_bytes_max)),
        ("srcip", address(&text("/data/srcip"))),
    ];
    let lines = values.map(|(key, value)| format!("{key}='{value}'"));
    lines.join("\n").into_bytes()
}

fn quoted(text: &str) -> String {
    text.chars().map(|c| if c == '\'' || c.is_control() { ' ' } else { c }).collect()
}

fn log(text: &str, bytes_max: usize) -> String {
    let one = |byte: u8| match byte {
        b'\'' | b'`' | b'"' | b'!' | b'$' | 0..=31 | 123.. => ' ',
        b'\\' => '/',
        b';' => ',',
        byte => char::from(byte),
    };
    let mut log: String = text.bytes().map(one).collect();
    if log.len() > bytes_max {
        // All of it is ASCII now.
        log.truncate(bytes_max.saturating_sub(3));
        log.push_str("...");
    }
    log
}

fn address(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'\\' | b'`' => ' ',
        46..=122 => char::from(byte),
        _ => ' ',
    };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seven_lines_as_wazuh_writes_them() {
        let body = r#"{"timestamp":"2026-03-10T06:02:17.173+0000","location":"/var/log/auth.log",
            "rule":{"id":"5712","level":10,"description":"sshd: it's\nbrute"},
            "full_log":"a'b`c\"d!e$f\\g;h\u0007i{é}","data":{"srcip":"10.0.0.1-`\\é"}}"#;
        let expected = "alertdate='2026-03-10T06:02:17.173+0000'\n\
            alertlocation='/var/log/auth.log'\nruleid='5712'\nalertlevel='10'\n\
            ruledescription='sshd: it s brute'\nalertlog='a b c d e f/g,h i    '\n\
            srcip='10.0.0.1     '";
        assert_eq!(String::from_utf8(of(body.as_bytes(), 165)).unwrap(), expected);
    }

    #[test]
    fn a_long_log_is_cut_and_what_is_missing_is_empty() {
        assert_eq!(log(&"x".repeat(165), 165), "x".repeat(165));
        assert_eq!(log(&"é".repeat(100), 165), format!("{}...", " ".repeat(162)));
        let text = String::from_utf8(of(b"not JSON", 165)).unwrap();
        assert_eq!(text.lines().count(), 7);
        assert!(text.lines().all(|line| line.ends_with("=''")), "{text}");
    }
}
