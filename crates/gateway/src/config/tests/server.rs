//! Tokens and certificates: what is refused, and what a person is warned of.

use std::{os::unix::fs::PermissionsExt, path::PathBuf};

use holdfast_model::Timestamp;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;

use super::*;

fn tokens(rows: &[(&str, &str, &str, &str)]) -> String {
    let rows = rows.iter().map(|(name, role, token, more)| {
        format!("{{ name = \"{name}\", role = \"{role}\", token = \"{token}\"{more} }},\n")
    });
    format!("[server]\ntokens = [\n{}]", rows.collect::<String>())
}

const ONE: &str = "0123456789abcdef";
const TWO: &str = "fedcba9876543210";

#[test]
fn two_tokens_of_one_name_are_valid_at_once_and_no_more() {
    let both = tokens(&[("soc", "read", ONE, ""), ("soc", "read", TWO, "")]);
    assert_eq!(read(&both).unwrap().server.tokens.len(), 2);
    let other_role = tokens(&[("soc", "read", ONE, ""), ("soc", "admin", TWO, "")]);
    assert_eq!(
        faults(&other_role),
        ["4 server.tokens[1].name: there is a token `soc` with another role already"]
    );
    let three = tokens(&[
        ("soc", "read", ONE, ""),
        ("soc", "read", TWO, ""),
        ("soc", "read", "0123456789abcdeX", ""),
    ]);
    assert_eq!(faults(&three), ["5 server.tokens[2].name: there are 2 tokens `soc` already"]);
    let twins = tokens(&[("soc", "read", ONE, ""), ("ops", "admin", ONE, "")]);
    assert_eq!(faults(&twins), ["4 server.tokens[1].token: `soc` and `ops` have the same token"]);
}

#[test]
fn an_expired_token_is_warned_of_and_no_fault() {
    let text = tokens(&[
        ("old", "read", ONE, ", expires = \"2026-01-01T00:00:00Z\""),
        ("soon", "read", TWO, ", expires = \"2026-02-10T00:00:00+01:00\""),
        ("later", "read", "0123456789abcdeX", ", expires = \"2027-01-01T00:00:00Z\""),
    ]);
    let config = read(&text).unwrap();
    let now = Timestamp::parse("2026-02-01T00:00:00Z").unwrap();
    assert_eq!(
        config.warnings(now),
        [
            "the token `old` has expired at 2026-01-01T00:00:00.000Z and is refused",
            "the token `soon` expires at 2026-02-09T23:00:00.000Z",
        ]
    );
    let bad = faults(&tokens(&[("a", "read", ONE, ", expires = \"31.12.2026\"")])).concat();
    assert!(bad.contains("\"31.12.2026\" is not an RFC 3339 time"), "{bad}");
}

struct Files {
    folder: TempDir,
}

impl Files {
    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

#[test]
fn a_certificate_that_does_not_work_is_a_fault_that_says_why() {
    let files = Files { folder: TempDir::new().unwrap() };
    let make = || generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let CertifiedKey { cert, signing_key } = make();
    let cert = files.write("cert.pem", &cert.pem(), 0o644);
    let key = files.write("key.pem", &signing_key.serialize_pem(), 0o600);
    let open = files.write("open.pem", &signing_key.serialize_pem(), 0o644);
    let other = files.write("other.pem", &make().signing_key.serialize_pem(), 0o600);
    let empty = files.write("empty.pem", "nothing\n", 0o600);
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let broken = files.write("broken.pem", broken, 0o600);
    let gone = files.folder.path().join("gone.pem");
    let text = |cert: &PathBuf, key: &PathBuf, ca: Option<&PathBuf>| {
        let ca = ca.map(|ca| format!(", client_ca = \"{}\"", ca.display())).unwrap_or_default();
        let (cert, key) = (cert.display(), key.display());
        format!(
            "[server]\nlisten = \"0.0.0.0:9470\"\ntls = {{ cert = \"{cert}\", key = \"{key}\"{ca} }}"
        )
    };
    assert!(read(&text(&cert, &key, None)).unwrap().server.tls.is_some());
    assert!(read(&text(&cert, &key, Some(&cert))).is_ok());
    for (text, expected) in [
        (text(&gone, &key, None), "gone.pem cannot be read"),
        (text(&empty, &key, None), "empty.pem holds no certificate in PEM"),
        (text(&broken, &key, None), "broken.pem"),
        (text(&cert, &empty, None), "empty.pem holds no private key in PEM"),
        (text(&cert, &other, None), "do not go together"),
        (text(&cert, &open, None), "is refused, because"),
        (text(&cert, &key, Some(&empty)), "empty.pem holds no certificate in PEM"),
        (text(&cert, &key, Some(&broken)), "broken.pem holds something that is no certificate"),
        (text(&cert, &PathBuf::from("key.pem"), None), "must begin with `/`"),
    ] {
        let faults = faults(&text);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].starts_with("3 server.tls"), "{faults:?}");
        assert!(faults[0].contains(expected), "{faults:?}");
    }
    assert_eq!(faults("[server]\ntls = {}").len(), 2, "cert and key are missing");
}
