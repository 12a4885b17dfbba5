//! aiosmtpd takes our mail in the clear, with STARTTLS and over TLS, and Python's own email package
//! reads it. A mail whose acceptance is not heard of comes again as the same mail.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use serde_json::Value;

use super::{
    certificates::Authority,
    server::{Server, python, text},
};
use crate::support::{Config, Gateway, alerts, config::free_port, eventually, wait::holds};

fn smtp(folder: &Path, name: &str, port: u16, more: &[&str]) -> Server {
    let (maildir, listen) = (folder.join(name), format!("127.0.0.1:{port}"));
    let mut arguments = vec!["-m", "aiosmtpd", "-n", "-l", &listen];
    arguments.extend(more);
    arguments.extend(["-c", "aiosmtpd.handlers.Mailbox", text(&maildir)]);
    Server::new(python(), &arguments, folder.join(format!("{name}-said")), port).begun()
}

fn lane(name: &str, port: u16, tls: &str) -> String {
    format!(
        "[destinations.{name}]\ntype = \"email\"\nhost = \"127.0.0.1\"\nport = {port}\n\
         tls = \"{tls}\"\nhello = \"gateway.example.org\"\n\
         from = \"Wächter <holdfast@example.org>\"\nto = [\"soc@example.org\", \"Chef <c@example.org>\"]\n\
         retry = {{ initial = \"20ms\", max = \"500ms\" }}"
    )
}

/// What Python understands of the mails.
fn mails(maildir: &Path) -> Vec<Value> {
    let reader = concat!(env!("CARGO_MANIFEST_DIR"), "/it/servers/read_mail.py");
    let output = Command::new(python()).arg(reader).arg(maildir).output().expect("start Python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// Blanks count once: a mail is text to read.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_mail_server_takes_every_sample_and_python_reads_it() {
    let mut config = Config::new();
    let folder = config.folder().to_owned();
    let ours = Authority::new("ours");
    ours.sign(&["127.0.0.1"], false, &folder, "server");
    fs::write(folder.join("ca.pem"), &ours.pem).unwrap();
    let (certificate, key) = (folder.join("server.pem"), folder.join("server.key"));
    let (certificate, key) = (text(&certificate), text(&key));
    let starttls = ["--tlscert", certificate, "--tlskey", key];
    let smtps = ["--smtpscert", certificate, "--smtpskey", key];
    let cases: [(&str, &str, &[&str]); 3] =
        [("plain", "none", &[]), ("upgraded", "starttls", &starttls), ("wrapped", "tls", &smtps)];
    let mut servers = Vec::new();
    for (name, tls, more) in cases {
        let port = free_port();
        servers.push(smtp(&folder, name, port, more));
        config = config.table(&lane(name, port, tls));
    }
    // The machine's trusted roots, which is what the lane asks.
    let mut gateway =
        Gateway::new(config).environment("SSL_CERT_FILE", text(&folder.join("ca.pem")));
    gateway.restart();
    let count = alerts::sample_count() as u64;
    gateway.accept(&alerts::ndjson(0..count));
    for (name, ..) in cases {
        gateway.wait_for_term(name, "delivered", count);
        let mails = mails(&folder.join(name));
        assert_eq!(mails.len() as u64, count, "{name}");
        let mut found = Vec::new();
        for mail in &mails {
            assert_eq!(mail["defects"], Value::Array(Vec::new()), "{name}: {mail}");
            let header = |name: &str| mail["headers"][name].as_str().unwrap_or_default().to_owned();
            assert_eq!(header("from"), "Wächter <holdfast@example.org>", "{mail}");
            assert_eq!(header("to"), "soc@example.org, Chef <c@example.org>", "{mail}");
            let key = header("x-holdfast-key");
            assert_eq!(header("message-id"), format!("<{key}@example.org>"), "{mail}");
            let seq: u64 = key.split(['-', '.']).nth(1).unwrap().parse().unwrap();
            let alert: Value = serde_json::from_str(&alerts::alert(seq - 1)).unwrap();
            let description = alert["rule"]["description"].as_str().unwrap_or_default();
            let agent = alert["agent"]["name"].as_str().unwrap_or_default();
            for kind in ["text/plain", "text/html"] {
                let body = mail["body"][kind].as_str().unwrap_or_default();
                let body = body.replace("&amp;", "&").replace("&#39;", "'").replace("&quot;", "\"");
                for part in [description, agent] {
                    assert!(words(&body).contains(&words(part)), "{name} {kind}: {part}: {body}");
                }
            }
            assert!(header("subject").contains("[Wazuh "), "{mail}");
            found.push(key);
        }
        found.sort_unstable();
        found.dedup();
        assert_eq!(found.len() as u64, count, "{name}: every event has its own mail");
    }
    gateway.finish();
}

#[test]
fn a_mail_server_whose_certificate_is_not_trusted_gets_no_mail() {
    let mut config = Config::new();
    let folder = config.folder().to_owned();
    let strangers = Authority::new("a stranger");
    strangers.sign(&["127.0.0.1"], false, &folder, "server");
    fs::write(folder.join("ca.pem"), Authority::new("ours").pem).unwrap();
    let (certificate, key) = (folder.join("server.pem"), folder.join("server.key"));
    let (port, more) = (free_port(), ["--tlscert", text(&certificate), "--tlskey", text(&key)]);
    let _server = smtp(&folder, "mail", port, &more);
    config = config.table(&lane("mail", port, "starttls"));
    let mut gateway =
        Gateway::new(config).environment("SSL_CERT_FILE", text(&folder.join("ca.pem")));
    gateway.restart();
    gateway.accept(&alerts::ndjson(0..5));
    gateway.wait_for_state("mail", "config_failed");
    let lane = gateway.lane("mail");
    // Beside the alerts the log may hold events about the lane's own trouble.
    assert!(lane["ledger"]["pending"].as_u64() >= Some(5), "{lane}");
    assert_eq!(lane["ledger"]["dead"], 0, "{lane}");
    assert!(lane["reason"].as_str().unwrap_or_default().contains("certificate"), "{lane}");
    assert!(mails(&folder.join("mail")).is_empty());
    gateway.finish();
}

/// Between us and a server: the first answer to a whole mail never arrives.
fn deaf_once(server: u16) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener.local_addr().expect("a bound port").port();
    let lost = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&lost);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)) else { return };
            let (Ok(mut from), Ok(mut to)) = (client.try_clone(), server.try_clone()) else {
                return;
            };
            thread::spawn(move || std::io::copy(&mut from, &mut to));
            let counter = Arc::clone(&counter);
            thread::spawn(move || answers(server, client, &counter));
        }
    });
    (port, lost)
}

/// Hands on a server's answers, but for the first one to a whole mail.
fn answers(mut from: TcpStream, mut to: TcpStream, lost: &AtomicUsize) {
    let mut mail_is_next = false;
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let answer = &buffer[..read];
        if mail_is_next && lost.fetch_add(1, Ordering::SeqCst) == 0 {
            break;
        }
        mail_is_next = answer.starts_with(b"354");
        if to.write_all(answer).is_err() {
            break;
        }
    }
    from.shutdown(std::net::Shutdown::Both).ok();
    to.shutdown(std::net::Shutdown::Both).ok();
}

#[test]
fn a_mail_whose_answer_was_lost_comes_again_as_the_same_mail() {
    let mut config = Config::new();
    let folder = config.folder().to_owned();
    let port = free_port();
    let _server = smtp(&folder, "mail", port, &[]);
    let (proxy, lost) = deaf_once(port);
    config = config.table(&lane("mail", proxy, "none"));
    let mut gateway = Gateway::start(config);
    gateway.accept(&alerts::ndjson(3..4));
    gateway.wait_for_term("mail", "delivered", 1);
    assert!(lost.load(Ordering::SeqCst) >= 1, "an answer was lost");
    let files = || fs::read_dir(folder.join("mail/new")).into_iter().flatten().flatten();
    eventually("it came twice", || holds(files().count() == 2));
    let mut mails = mails(&folder.join("mail"));
    for mail in &mut mails {
        // The server's own note of where the connection came from.
        mail["headers"].as_object_mut().unwrap().remove("x-peer");
    }
    assert_eq!(mails[0]["headers"], mails[1]["headers"]);
    assert_eq!(mails[0]["body"], mails[1]["body"]);
    gateway.finish();
}
