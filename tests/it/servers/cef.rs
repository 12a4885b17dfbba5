//! CEF as somebody else reads it: liblognorm, the parser of rsyslog's `mmnormalize`.
//!
//! It un-escapes what the specification says (`\\`, `\|` in the header; `\\`, `\=`, `\n`, `\r` in
//! the extension). It has one fault of its own: the first character of the first key is lost, so
//! `rt` is `t` there. (pycef 1.11 and jc 1.26 refuse valid headers with `=` or `\` in them, and leave
//! some escapes as they are: they cannot tell.)

use std::{
    fs,
    net::{Ipv4Addr, UdpSocket},
    process::{Command, Stdio},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use crate::support::{Config, Gateway};

const ALERTS: u64 = 300;

/// What a log may hold to mislead a parser.
const PIECES: &[&str] = &[
    "|",
    "=",
    "\\",
    "\n",
    "\r\n",
    " ",
    "  ",
    "a",
    "é",
    "key=",
    " src=6.6.6.6",
    "\\n",
    "\\=",
    "\\|",
    "\\\\",
    "CEF:0|x|",
    "]",
    "\"",
    "'",
    "%",
    "{",
    "日本",
    "\u{1F600}",
];

fn hostile(dice: &mut StdRng) -> String {
    let count = dice.random_range(1..12);
    let text: String = (0..count).map(|_| PIECES[dice.random_range(0..PIECES.len())]).collect();
    // Blanks at the ends are the gap between fields.
    format!("x{}", text.trim())
}

fn alert(number: u64, dice: &mut StdRng) -> Value {
    json!({
        "number": number,
        "rule": {
            "id": format!("{number}{}", hostile(dice)), "level": 9,
            "description": hostile(dice), "groups": [hostile(dice), hostile(dice)],
        },
        "agent": { "id": hostile(dice), "name": hostile(dice) },
        "manager": { "name": "mgr" },
        "full_log": hostile(dice),
        "data": { "srcuser": hostile(dice), "dstuser": hostile(dice) },
        "syscheck": { "path": hostile(dice) },
        "location": hostile(dice),
    })
}

/// Everything that liblognorm found, by the messages' own keys.
fn normalize(folder: &std::path::Path, messages: &[String]) -> Vec<Value> {
    let rules = folder.join("rules");
    fs::write(&rules, "version=2\nrule=:%found:cef%\n").expect("write its rules");
    let input = folder.join("messages");
    fs::write(&input, messages.join("\n") + "\n").expect("write its input");
    let output = Command::new("lognormalizer")
        .arg("-r")
        .arg(&rules)
        .args(["-e", "json"])
        .stdin(Stdio::from(fs::File::open(&input).expect("open its input")))
        .output()
        .expect("lognormalizer is missing: run `tests/programs`");
    let text = String::from_utf8(output.stdout).expect("it writes UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

#[test]
fn cef_of_hostile_fields_is_read_back_exactly_by_somebody_elses_parser() {
    let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let to = receiver.local_addr().unwrap();
    let config = Config::new().table(&format!(
        "[destinations.siem]\ntype = \"syslog\"\naddress = \"{to}\"\ntransport = \"udp\"\n\
         format = \"cef\"\nconcurrency = 1"
    ));
    let folder = config.folder().to_owned();
    let mut gateway = Gateway::start(config);
    let mut dice = StdRng::seed_from_u64(4);
    let mut messages = Vec::new();
    let mut sent = Vec::new();
    for number in 0..ALERTS {
        let alert = alert(number, &mut dice);
        gateway.accept(&format!("{alert}\n"));
        let mut buffer = vec![0; 65_536];
        let read = receiver.recv(&mut buffer).expect("a message");
        let message = String::from_utf8(buffer[..read].to_vec()).expect("UTF-8");
        assert!(!message.contains(['\n', '\r']), "{message}");
        let cef = message.find("CEF:0|").expect("CEF begins somewhere");
        messages.push(message[cef..].to_owned());
        sent.push(alert);
    }
    let found = normalize(&folder, &messages);
    assert_eq!(found.len() as u64, ALERTS);
    for ((alert, found), message) in sent.iter().zip(&found).zip(&messages) {
        let found = &found["found"];
        let text =
            |pointer: &str| alert.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
        let words = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let title =
            format!("{} on {}", words(text("/rule/description")), words(text("/agent/name")));
        let groups = format!("{},{}", text("/rule/groups/0"), text("/rule/groups/1"));
        // A header has no line breaks at all.
        let header = [
            ("DeviceVendor", "Holdfast".to_owned()),
            ("DeviceProduct", "Wazuh".to_owned()),
            ("SignatureID", words(text("/rule/id"))),
            ("Name", title),
            ("Severity", "9".to_owned()),
        ];
        for (name, expected) in header {
            assert_eq!(found[name], expected, "{name} in {message}");
        }
        let extension = [
            ("deviceExternalId", text("/agent/id")),
            ("dvchost", text("/agent/name")),
            ("cat", groups),
            ("suser", text("/data/srcuser")),
            ("duser", text("/data/dstuser")),
            ("filePath", text("/syscheck/path")),
            ("cs1", text("/location")),
            ("cs1Label", "Location".to_owned()),
            ("msg", text("/full_log")),
        ];
        let all = found["Extensions"].as_object().expect("an extension");
        for (name, expected) in &extension {
            assert_eq!(all[*name], **expected, "{name} in {message}");
        }
        // Nothing that an alert holds became a field: these, `rt` and `externalId`.
        assert_eq!(all.len(), extension.len() + 2, "{all:?}");
    }
    println!("liblognorm read {ALERTS} CEF messages back exactly");
    gateway.finish();
}
