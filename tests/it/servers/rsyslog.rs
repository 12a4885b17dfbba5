//! rsyslog takes every sample over UDP, TCP (both framings), TLS with a client certificate, RELP and
//! RELP over TLS, whole and once.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    certificates::{Authority, NAME},
    server::{Server, daemon, loaded_from, text},
};
use crate::support::{Config, Gateway, alerts, config::free_port, eventually, wait::holds};

/// An rsyslog with one input, that writes each message as it came to a file before it goes on to
/// the next: its queue is the direct one, so what it acknowledges over RELP is in the file.
#[derive(Debug)]
pub(crate) struct Rsyslog {
    pub(super) server: Server,
    pub(crate) port: u16,
    file: PathBuf,
}

// === impl Rsyslog ===

impl Rsyslog {
    /// `modules` and `input` are of its configuration; `PORT` in them is a free one.
    pub(crate) fn start(folder: &Path, modules: &str, input: &str) -> Self {
        fs::create_dir_all(folder).expect("a folder for a server");
        let (port, file) = (free_port(), folder.join("received"));
        let config = format!(
            "{modules}\n\
             template(name=\"raw\" type=\"string\" string=\"%rawmsg%\\n\")\n\
             ruleset(name=\"out\" queue.type=\"Direct\") {{ action(type=\"omfile\" file=\"{}\" \
             template=\"raw\" asyncWriting=\"off\" flushOnTXEnd=\"on\" ioBufferSize=\"256k\") }}\n\
             {input}\n",
            file.display()
        );
        let path = folder.join("rsyslog.conf");
        fs::write(&path, config.replace("PORT", &port.to_string())).expect("write its file");
        let (pid, modules) = (folder.join("pid"), loaded_from("rsyslog"));
        let arguments = ["-n", "-f", text(&path), "-i", text(&pid), "-M", text(&modules)];
        let program = daemon("usr/sbin/rsyslogd");
        let server = Server::new(program, &arguments, folder.join("said"), port).begun();
        Self { server, port, file }
    }

    /// Every message that it has written.
    pub(crate) fn lines(&self) -> Vec<String> {
        let text = fs::read(&self.file).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
    }
}

pub(super) const GLOBAL: &str = "global(maxMessageSize=\"1m\" net.enableDNS=\"off\" \
                                 parser.escapeControlCharactersOnReceive=\"off\")";

/// What makes its TCP input speak TLS with `server.pem`, and insist on a certificate of ours.
pub(super) fn tls(driver: &str, folder: &Path) -> [String; 2] {
    let folder = folder.display();
    let modules = format!(
        "global(defaultNetstreamDriver=\"{driver}\" \
         defaultNetstreamDriverCAFile=\"{folder}/ca.pem\" \
         defaultNetstreamDriverCertFile=\"{folder}/server.pem\" \
         defaultNetstreamDriverKeyFile=\"{folder}/server.key\")\n\
         module(load=\"imtcp\" streamDriver.name=\"{driver}\" streamDriver.mode=\"1\" \
         streamDriver.authMode=\"x509/certvalid\")"
    );
    [format!("{GLOBAL}\n{modules}"), input("imtcp", "")]
}

/// RELP over TLS, for those with a certificate of ours.
pub(super) fn relp_tls(folder: &Path) -> [String; 2] {
    let folder = folder.display();
    let keys = format!(
        "maxDataSize=\"1m\" tls=\"on\" tls.caCert=\"{folder}/ca.pem\" tls.myCert=\"{folder}/server.pem\" \
         tls.myPrivKey=\"{folder}/server.key\" tls.authMode=\"certvalid\""
    );
    [format!("{GLOBAL}\nmodule(load=\"imrelp\")"), input("imrelp", &keys)]
}

pub(crate) fn relp() -> [String; 2] {
    [format!("{GLOBAL}\nmodule(load=\"imrelp\")"), input("imrelp", "maxDataSize=\"1m\"")]
}

fn input(name: &str, keys: &str) -> String {
    format!("input(type=\"{name}\" address=\"127.0.0.1\" port=\"PORT\" ruleset=\"out\" {keys})")
}

/// A lane to a receiver, in a format that has the whole alert and its number.
pub(super) fn lane(name: &str, port: u16, keys: &str) -> String {
    format!(
        "[destinations.{name}]\ntype = \"syslog\"\naddress = \"127.0.0.1:{port}\"\n\
         format = \"json\"\nbatch = {{ max_events = 20, max_wait = \"20ms\" }}\n\
         retry = {{ initial = \"20ms\", max = \"500ms\" }}\n{keys}"
    )
}

/// The alert in a message.
pub(crate) fn alert_of(line: &str) -> Option<&str> {
    line.rfind("{\"number\":").map(|at| &line[at..])
}

/// Waits until every alert is there once, byte for byte.
#[track_caller]
pub(super) fn has_all(what: &str, rsyslog: &Rsyslog, count: u64) {
    eventually(&format!("{what}: all arrived"), || holds(rsyslog.lines().len() as u64 >= count));
    let mut found: Vec<String> = rsyslog
        .lines()
        .iter()
        .map(|line| alert_of(line).unwrap_or_else(|| panic!("{what}: {line}")).to_owned())
        .collect();
    found.sort_by_key(|alert| alerts::number(alert.as_bytes()));
    let sent: Vec<String> = (0..count).map(alerts::alert).collect();
    assert_eq!(found, sent, "{what}");
}

#[test]
fn rsyslog_takes_every_sample_over_every_transport_whole_and_once() {
    let mut config = Config::new();
    let ours = Authority::new("ours");
    let folder = config.folder().to_owned();
    ours.sign_good(&folder, "server");
    ours.sign(&["holdfast.example"], false, &folder, "client");
    fs::write(folder.join("ca.pem"), &ours.pem).unwrap();
    let plain = |module: &str| [format!("{GLOBAL}\nmodule(load=\"{module}\")"), input(module, "")];
    // UDP's port cannot be awaited; TCP's is opened after it.
    let udp = [
        format!("{GLOBAL}\nmodule(load=\"imudp\")\nmodule(load=\"imtcp\")"),
        format!("{}\n{}", input("imudp", ""), input("imtcp", "")),
    ];
    let trust = format!(
        "ca = \"{0}/ca.pem\"\nclient_certificate = \"{0}/client.pem\"\n\
         client_key = \"{0}/client.key\"\nserver_name = \"{NAME}\"",
        folder.display()
    );
    let cases = [
        ("udp", udp, "transport = \"udp\"".to_owned()),
        ("octet", plain("imtcp"), "transport = \"tcp\"".to_owned()),
        ("lf", plain("imtcp"), "transport = \"tcp\"\nframing = \"lf\"".to_owned()),
        ("gnutls", tls("gtls", &folder), format!("transport = \"tls\"\n{trust}")),
        ("openssl", tls("ossl", &folder), format!("transport = \"tls\"\n{trust}")),
        ("relp", relp(), "transport = \"relp\"".to_owned()),
        ("relp-tls", relp_tls(&folder), format!("transport = \"relp_tls\"\n{trust}")),
    ];
    let mut receivers = Vec::new();
    for (name, [modules, inputs], keys) in &cases {
        let rsyslog = Rsyslog::start(&folder.join(name), modules, inputs);
        config = config.table(&lane(name, rsyslog.port, keys));
        receivers.push((name, rsyslog));
    }
    let mut gateway = Gateway::start(config);
    let count = alerts::sample_count() as u64;
    gateway.accept(&alerts::ndjson(0..count));
    for (name, rsyslog) in &receivers {
        gateway.wait_for_term(name, "delivered", count);
        has_all(name, rsyslog, count);
    }
    gateway.finish();
}

/// What the manual says about receivers that are left as they are.
#[test]
fn an_rsyslog_that_was_told_no_size_cuts_long_messages_and_acknowledges_them() {
    let mut config = Config::new();
    let module = "module(load=\"imrelp\")";
    let rsyslog = Rsyslog::start(&config.file("small"), module, &input("imrelp", ""));
    config = config.table(&lane("siem", rsyslog.port, "transport = \"relp\""));
    let mut gateway = Gateway::start(config);
    let long = format!("{{\"number\":1,\"full_log\":\"{}\"}}", "x".repeat(20_000));
    gateway.accept(&format!("{long}\n"));
    gateway.wait_for_term("siem", "delivered", 1);
    eventually("it arrived", || holds(!rsyslog.lines().is_empty()));
    let line = rsyslog.lines().remove(0);
    assert!(line.len() < 10_000 && !line.ends_with('}'), "{}", line.len());
    gateway.finish();
}
