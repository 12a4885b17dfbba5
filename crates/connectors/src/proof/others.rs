//! The samples to destinations that speak no HTTP, and what is demanded of each.

use std::{fs, path::Path, process::Command, sync::Arc};

use holdfast_model::{Destination, Member, Timestamp, delivery::Delivered};
use serde_json::Value;
use tokio::net::{UdpSocket, UnixDatagram};

use super::{
    bodies::{self, Line, members},
    cases::kind,
    outcome,
    smtp::MailServer,
};
use crate::{
    fleet,
    message::Message,
    testing::{build, context, shipment},
};

/// What is rendered here.
pub(super) const NAMES: [&str; 8] =
    ["syslog", "email", "script", "process", "file", "osquery", "stdout", "wazuh_socket"];

/// Set in the process that prints to its standard output, so that the test can read it.
const CHILD: &str = "HOLDFAST_PROOF_PRINTS";

const TEST: &str = "proof::others::every_sample_is_whole_where_no_http_is_spoken";

#[tokio::test]
async fn every_sample_is_whole_where_no_http_is_spoken() {
    if std::env::var_os(CHILD).is_some() {
        return print_samples().await;
    }
    let mut lines = Vec::new();
    for format in ["rfc5424", "rfc3164", "cef", "leef", "json"] {
        lines.push(syslog(format).await);
    }
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().canonicalize().unwrap();
    lines.extend([email().await, script(&place).await, process(&place).await]);
    lines.extend([file(&place).await, osquery().await, stdout(), wazuh_socket(&place).await]);
    bodies::print(&lines);
}

fn line(name: impl Into<String>, samples: usize, own: &'static str) -> Line {
    Line { name: name.into(), samples, own, vendor: "unchecked".to_owned() }
}

fn destination(name: &str, table: &str) -> Arc<dyn Destination> {
    build(kind(name), table, &context()).unwrap_or_else(|faults| panic!("{name}: {faults:?}"))
}

async fn deliver(destination: &Arc<dyn Destination>, member: &Member) {
    let said = outcome(destination.deliver(&shipment([member.clone()])).await);
    assert_eq!(said, "delivered");
}

fn alert(member: &Member) -> Value {
    serde_json::from_slice(&member.event.body).unwrap()
}

async fn syslog(format: &str) -> Line {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let table = format!("address = \"{address}\"\ntransport = \"udp\"\nformat = \"{format}\"");
    let destination = destination("syslog", &table);
    let mut samples = 0;
    for (sample, mut member) in members() {
        if format == "json" && sample == "hostile" {
            // Whole, it is longer than a datagram; it is shortened to its head.
            let mut short = alert(&member);
            short["full_log"] = "| = \\ \" ' \n \r \t \u{202e}é".into();
            short["rule"]["description"] = short["full_log"].clone();
            short["data"]["dstuser"] = short["full_log"].clone();
            member = crate::testing::alert(99, short.to_string());
        }
        deliver(&destination, &member).await;
        let mut datagram = vec![0; 65_535];
        let length = socket.recv(&mut datagram).await.unwrap();
        let text = std::str::from_utf8(&datagram[..length]).unwrap();
        check_syslog(format, &sample, text);
        samples += 1;
    }
    line(format!("syslog.{format}"), samples, "validated: grammar")
}

/// RFC 5424 and 3164, and the headers of CEF and LEEF.
fn check_syslog(format: &str, sample: &str, text: &str) {
    let (priority, rest) = text.strip_prefix('<').and_then(|text| text.split_once('>')).unwrap();
    assert!(priority.parse::<u8>().is_ok_and(|number| number <= 191), "{sample}: {text}");
    let odd = |c: char| c.is_control() && !(c == '\t' && format == "leef");
    assert!(!rest.contains(odd), "{format}, {sample}: {rest}");
    match format {
        "rfc5424" => {
            let words: Vec<_> = rest.splitn(7, ' ').collect();
            assert_eq!((words.len(), words[0]), (7, "1"), "{sample}: {rest}");
            assert!(Timestamp::parse(words[1]).is_some(), "{sample}: {}", words[1]);
            for (word, chars_max) in words[2..6].iter().zip([255, 48, 128, 32]) {
                let fits = (1..=chars_max).contains(&word.len());
                assert!(fits && word.bytes().all(|b| b.is_ascii_graphic()), "{sample}: {word}");
            }
            assert!(words[6].starts_with(['[', '-']), "{sample}: {}", words[6]);
        }
        "rfc3164" => assert!(text.len() <= 1024, "{sample}"),
        "cef" => {
            let (_, cef) = rest.split_once("CEF:0|").unwrap();
            let bare = cef.replace("\\\\", "").replace("\\|", "");
            assert!(bare.matches('|').count() >= 6, "{sample}: {cef}");
        }
        "leef" => {
            let (_, fields) = rest.split_once("|x09|").unwrap();
            assert!(fields.split('\t').all(|field| field.contains('=')), "{sample}: {fields}");
        }
        _ => {
            // What is quoted before it has its own quotes and brackets escaped.
            let (_, object) = rest.split_once("\"] ").unwrap();
            assert!(serde_json::from_str::<Value>(object).is_ok(), "{sample}: {object}");
        }
    }
}

async fn email() -> Line {
    let server = MailServer::start(None).await;
    let table = format!(
        "host = \"localhost\"\nport = {}\ntls = \"none\"\nfrom = \"holdfast@example.org\"\nto = [\"soc@example.org\"]",
        server.port
    );
    let destination = destination("email", &table);
    for (sample, member) in members() {
        deliver(&destination, &member).await;
        let mail = server.mails().pop().unwrap();
        assert!(mail.is_ascii() && mail.lines().all(|line| line.len() <= 998), "{sample}");
        let (head, _) = mail.split_once("\r\n\r\n").unwrap();
        for field in ["Message-ID: <", "Date: ", "From: ", "To: ", "Subject: ", "MIME-Version: 1.0"]
        {
            let begins = |line: &str| line.starts_with(field);
            assert_eq!(
                head.split("\r\n").filter(|line| begins(line)).count(),
                1,
                "{sample}: {field}"
            );
        }
        assert!(head.contains(&member.key), "{sample}: the key names the mail");
    }
    line("email", server.mails().len(), "validated: RFC 5322")
}

/// What a program has seen, one a line in the file `seen`.
fn seen(place: &Path) -> Vec<Value> {
    let text = fs::read_to_string(place.join("seen")).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn script(place: &Path) -> Line {
    let place = place.join("script");
    fs::create_dir_all(place.join("home/integrations")).unwrap();
    fs::create_dir_all(place.join("home/logs")).unwrap();
    // Written by another process, as in `local`.
    let script =
        format!("#!/bin/sh\ncat \"$1\" >> {0}/seen && echo >> {0}/seen\n", place.display());
    let written = Command::new("/bin/sh")
        .args(["-c", "printf '%s' \"$1\" > \"$0\" && chmod 0750 \"$0\""])
        .arg(place.join("home/integrations/custom-x"))
        .arg(script)
        .status();
    assert!(written.unwrap().success());
    let (home, run) = (place.join("home"), place.join("run"));
    let table = format!("script = \"custom-x\"\nwazuh_home = {home:?}\nruntime_dir = {run:?}");
    let destination = destination("script", &table);
    for (_, member) in members() {
        deliver(&destination, &member).await;
    }
    let seen = seen(&place);
    let sent: Vec<_> = members().iter().map(|(_, member)| alert(member)).collect();
    assert_eq!(seen, sent, "each is the alert");
    line("script", seen.len(), "validated: the alert")
}

async fn process(place: &Path) -> Line {
    let place = place.join("process");
    fs::create_dir_all(&place).unwrap();
    let answer = "while IFS= read -r line; do printf '%s\\n' \"$line\" >> seen; \
                  id=${line#*'\"id\":\"'}; id=${id%%'\"'*}; \
                  printf '{\"id\":\"%s\",\"outcome\":\"delivered\"}\\n' \"$id\"; done";
    let command = serde_json::json!(["/bin/sh", "-c", answer]);
    let destination = destination("process", &format!("command = {command}\nfolder = {place:?}"));
    for (_, member) in members() {
        deliver(&destination, &member).await;
    }
    let seen = seen(&place);
    for (request, (sample, member)) in seen.iter().zip(members()) {
        assert_eq!(request["event"]["alert"], alert(&member), "{sample}");
        assert_eq!((&request["key"], &request["attempt"]), (&member.key.clone().into(), &1.into()));
    }
    line("process", seen.len(), "validated: the alert")
}

async fn file(place: &Path) -> Line {
    let path = place.join("alerts.ndjson");
    let destination = destination("file", &format!("path = {path:?}"));
    let mut expected = Vec::new();
    for (_, member) in members() {
        deliver(&destination, &member).await;
        expected.extend_from_slice(&member.event.body);
        expected.push(b'\n');
    }
    assert_eq!(fs::read(&path).unwrap(), expected);
    line("file", members().len(), "validated: the alert")
}

async fn wazuh_socket(place: &Path) -> Line {
    let path = place.join("queue");
    let socket = UnixDatagram::bind(&path).unwrap();
    let destination = destination("wazuh_socket", &format!("path = {path:?}"));
    for (sample, mut member) in members() {
        if sample == "hostile" {
            // Whole, it is longer than what Wazuh reads.
            let mut short = alert(&member);
            for field in ["full_log", "location"] {
                short[field] = "| : -> \\ \" \n \u{202e}é".into();
            }
            short["rule"]["description"] = short["full_log"].clone();
            short["data"]["dstuser"] = short["full_log"].clone();
            member = crate::testing::alert(99, short.to_string());
        }
        deliver(&destination, &member).await;
        let mut datagram = vec![0; 65_535];
        let length = socket.recv(&mut datagram).await.unwrap();
        let text = std::str::from_utf8(&datagram[..length]).unwrap();
        // As analysisd does: to the first colon that no bar stands before.
        let rest = text.strip_prefix("1:").unwrap().replace("||", "").replace("|:", "");
        let (_, event) = rest.split_once(':').unwrap();
        let said: Value = serde_json::from_str(event).unwrap_or_default();
        assert_eq!(said["integration"], "holdfast", "{sample}: {text}");
        assert_eq!(said["holdfast"]["key"], member.key, "{sample}");
    }
    line("wazuh_socket", members().len(), "validated: the event")
}

/// Each value of a query is one literal, whatever an alert holds, and each answer is JSON.
async fn osquery() -> Line {
    let served = fleet::serve("proof", 9);
    let hosts = served.fleet();
    let table = "source = \"proof\"\nquery = \"SELECT {{ message.title }} AS said\"";
    let destination = destination("osquery", table);
    let mut samples = 0;
    for (sample, mut member) in members() {
        if Message::of(&member).agent_name.is_none() {
            // Without an agent there is no host to ask.
            let mut with = alert(&member);
            with["agent"] = serde_json::json!({ "name": "web-01" });
            member = crate::testing::alert(99, with.to_string());
        }
        let message = Message::of(&member);
        let agent = message.agent_name.as_deref().unwrap();
        assert!(hosts.heard("uuid-1", agent, [10, 0, 0, 1].into()));
        let answering = async {
            let (id, query) = hosts.question("uuid-1").await;
            let quoted = message.title.replace('\'', "''");
            assert_eq!(query, format!("SELECT '{quoted}' AS said"), "{sample}");
            let rows = vec![serde_json::json!({ "said": message.title })];
            assert!(hosts.answer(
                "uuid-1",
                &id,
                fleet::Reply { status: 0, message: String::new(), rows }
            ));
        };
        let sent = shipment([member.clone()]);
        let (delivered, ()) = tokio::join!(destination.deliver(&sent), answering);
        let Ok(Delivered::All(receipt)) = delivered else { panic!("{sample}: {delivered:?}") };
        let said: Value = serde_json::from_slice(&receipt.answers[0]).unwrap();
        assert_eq!(said["osquery"]["snapshot"][0]["said"], message.title, "{sample}");
        samples += 1;
    }
    line("osquery", samples, "validated: one literal")
}

/// Printed by another process, because this one's output is the tests'.
fn stdout() -> Line {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let printed: Vec<_> = text.lines().filter(|line| line.contains("delivered  ")).collect();
    for (text, (sample, member)) in printed.iter().zip(members()) {
        assert!(text.ends_with(&member.id.to_string()), "{sample}: {text}");
        assert!(!text.contains(char::is_control), "{sample}: {text}");
    }
    line("stdout", printed.len(), "validated: one line")
}

async fn print_samples() {
    let destination = destination("stdout", "");
    for (_, member) in members() {
        deliver(&destination, &member).await;
    }
}
