//! Every destination that speaks something else than HTTP, through the faults it has instead.

use std::{
    collections::BTreeSet,
    fs,
    os::{
        fd::OwnedFd,
        unix::net::{UnixDatagram, UnixListener},
    },
    path::Path,
    process::Command,
    sync::Arc,
    time::Duration,
};

use holdfast_model::Destination;
use rustls::pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream, UdpSocket},
};

use super::{
    cases::kind,
    lines, outcome, row,
    smtp::{MailServer, Trouble},
};
use crate::{
    destinations::Context,
    fleet,
    message::{Message, samples},
    testing::{build, context, shipment},
};

const TABLE: &str = include_str!("local.txt");

/// How long a destination waits for what hangs.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn named() -> BTreeSet<&'static str> {
    let name = |(number, line)| {
        let (left, _) = row(number, line);
        left.split(' ').next().unwrap_or_default()
    };
    lines(TABLE).map(name).collect()
}

fn destination(name: &str, table: &str, fault: &str) -> Arc<dyn Destination> {
    let timeout = if fault.ends_with("hang") { PATIENCE } else { context().timeout };
    let built = build(kind(name), table, &Context { timeout, ..context() });
    built.unwrap_or_else(|faults| panic!("{name}: {faults:?}"))
}

/// A port that nobody listens on, and nobody else can have while the test runs.
fn nobody() -> String {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    Box::leak(Box::new(socket)).local_addr().unwrap().to_string()
}

async fn play(name: &'static str, fault: &'static str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().canonicalize().unwrap();
    let destination = match name {
        "syslog.udp" => {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let address = socket.local_addr().unwrap();
            let table = format!("address = \"{address}\"\ntransport = \"udp\"");
            if fault == "success" {
                let built = destination(name, &table, fault);
                let said = send(&built).await;
                let mut datagram = [0; 65_535];
                let length = socket.recv(&mut datagram).await.unwrap();
                assert!(datagram[..length].starts_with(b"<"));
                return said;
            }
            drop(socket);
            destination(name, &table, fault)
        }
        "syslog.tcp" | "syslog.tls" | "syslog.relp" => {
            let address = if fault == "refused" { nobody() } else { stream(fault).await };
            let transport = type_behind(name);
            let more = if transport == "tls" { "\nserver_name = \"localhost\"" } else { "" };
            let table = format!("address = \"{address}\"\ntransport = \"{transport}\"{more}");
            destination(name, &table, fault)
        }
        "email" => email(fault).await,
        "script" => script(&place, fault),
        "process" => process(&place, fault),
        "file" => file(&place, fault),
        "osquery" => return osquery(fault).await,
        "stdout" => destination(name, "", fault),
        "wazuh_socket" => {
            let path = place.join("queue");
            let _there = wazuh_socket(&path, fault);
            let destination = destination(name, &format!("path = {path:?}"), fault);
            return send(&destination).await;
        }
        _ => panic!("nobody plays `{name}`"),
    };
    let said = send(&destination).await;
    kept(folder);
    said
}

/// Until here it was needed.
fn kept(folder: TempDir) {
    drop(folder);
}

fn type_behind(name: &str) -> &str {
    name.split_once('.').map_or(name, |(_, behind)| behind)
}

async fn send(destination: &Arc<dyn Destination>) -> String {
    let (_, member) = samples::all().swap_remove(0);
    outcome(destination.deliver(&shipment([member])).await)
}

/// A receiver of syslog over TCP, TLS or RELP with this fault.
async fn stream(fault: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(receive(stream, fault));
        }
    });
    address
}

const OPENED: &[u8] = b"1 rsp 37 200 OK\nrelp_version=0\ncommands=syslog\n";

async fn receive(mut stream: TcpStream, fault: &str) {
    match fault {
        "hang" => std::future::pending().await,
        "garbage" => drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await),
        "untrusted" => drop(stranger().accept(stream).await),
        "reset" => {
            drop(stream.read_u8().await);
            stream.set_zero_linger().unwrap();
        }
        _ if fault.starts_with("open_") => {
            // The offer has three line breaks.
            read_lines(&mut stream, 3).await;
            say(stream, fault, "1").await;
        }
        _ => {
            read_lines(&mut stream, 3).await;
            // Not RELP: the connection has ended, and all of it was read.
            if stream.write_all(OPENED).await.is_err() {
                return;
            }
            read_lines(&mut stream, 1).await;
            say(stream, fault, "2").await;
        }
    }
}

async fn say(mut stream: TcpStream, fault: &str, number: &str) {
    let said = match fault.rsplit('_').next().unwrap_or(fault) {
        "hang" => std::future::pending().await,
        "reset" => return stream.set_zero_linger().unwrap(),
        "close" => return,
        "500" => format!("{number} rsp 9 500 wrong\n"),
        "garbage" => "HTTP/1.1 400 Bad Request\r\n\r\n".to_owned(),
        "huge" => format!("{number} rsp 10485760 200 OK\n"),
        "serverclose" => "0 serverclose 0\n".to_owned(),
        _ => format!("{number} rsp 6 200 OK\n"),
    };
    drop(stream.write_all(said.as_bytes()).await);
    drop(stream.read_to_end(&mut Vec::new()).await);
}

async fn read_lines(stream: &mut TcpStream, mut count: usize) {
    while count > 0 {
        match stream.read_u8().await {
            Ok(byte) => count -= usize::from(byte == b'\n'),
            Err(_) => return,
        }
    }
}

/// TLS with a certificate that nobody trusts.
fn stranger() -> tokio_rustls::TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    tokio_rustls::TlsAcceptor::from(Arc::new(config))
}

async fn email(fault: &'static str) -> Arc<dyn Destination> {
    let (port, tls) = match fault {
        "refused" => (nobody().rsplit_once(':').unwrap().1.parse().unwrap(), "none"),
        "untrusted" => (stream(fault).await.rsplit_once(':').unwrap().1.parse().unwrap(), "tls"),
        "no_starttls" => (MailServer::start(None).await.port, "starttls"),
        _ => (MailServer::start(trouble(fault)).await.port, "none"),
    };
    let table = format!(
        "host = \"localhost\"\nport = {port}\ntls = \"{tls}\"\nfrom = \"holdfast@example.org\"\nto = [\"soc@example.org\"]"
    );
    destination("email", &table, fault)
}

/// `rcpt_550`: at `RCPT`, 550.
fn trouble(fault: &str) -> Option<Trouble> {
    let (at, what) = fault.split_once('_')?;
    let what = match what {
        "hang" | "reset" => what.to_owned(),
        "garbage" => "<html>".to_owned(),
        code => format!("{code} said"),
    };
    Some(Trouble { at: at.to_owned(), what })
}

fn script(place: &Path, fault: &str) -> Arc<dyn Destination> {
    let body = match fault.strip_prefix("exit_") {
        Some(code) => format!("exit {code}"),
        None => match fault {
            "hang" => "exec sleep 600".to_owned(),
            "killed" => "kill -9 $$".to_owned(),
            "chatty" => "head -c 10485760 /dev/zero | tr '\\0' x".to_owned(),
            _ => String::new(),
        },
    };
    let integrations = place.join("home/integrations");
    fs::create_dir_all(&integrations).unwrap();
    fs::create_dir_all(place.join("home/logs")).unwrap();
    if fault != "missing" {
        let mode = if fault == "writable" { "0777" } else { "0750" };
        // Written by another process: a file that this one has open for writing while a test
        // beside it forks could not be run for a moment (ETXTBSY).
        let written = Command::new("/bin/sh")
            .args(["-c", "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$0\" && chmod \"$2\" \"$0\""])
            .arg(integrations.join("custom-x"))
            .args([body.as_str(), mode])
            .status();
        assert!(written.unwrap().success());
    }
    let (home, run) = (place.join("home"), place.join("run"));
    let table = format!(
        "script = \"custom-x\"\nwazuh_home = {home:?}\nruntime_dir = {run:?}\nexit_codes = {{ \"2\" = \"refused\" }}"
    );
    destination("script", &table, fault)
}

fn process(place: &Path, fault: &str) -> Arc<dyn Destination> {
    const READ: &str = "IFS= read -r line; id=${line#*'\"id\":\"'}; id=${id%%'\"'*}; ";
    let said = match fault {
        "dies" => "exit 3".to_owned(),
        "hang" => "exec sleep 600".to_owned(),
        "garbage" => "echo '<html>'; cat > /dev/null".to_owned(),
        "huge" => "head -c 10485760 /dev/zero | tr '\\0' x; cat > /dev/null".to_owned(),
        _ => {
            let more = match fault {
                "nonsense" => r#""outcome":"perhaps""#.to_owned(),
                "throttled_7" => r#""outcome":"throttled","retry_after_seconds":7"#.to_owned(),
                word => format!(r#""outcome":"{word}""#),
            };
            format!("printf '{{\"id\":\"%s\",%s}}\\n' \"$id\" '{more}'; cat > /dev/null")
        }
    };
    let command = match fault {
        "missing" => serde_json::json!([place.join("nothing")]),
        _ => serde_json::json!(["/bin/sh", "-c", format!("{READ}{said}")]),
    };
    destination("process", &format!("command = {command}\nfolder = {place:?}"), fault)
}

/// What stands where Wazuh's queue socket should be.
fn wazuh_socket(path: &Path, fault: &str) -> Option<OwnedFd> {
    match fault {
        "missing" => None,
        "refused" => {
            drop(UnixDatagram::bind(path).unwrap());
            None
        }
        "stream_in_its_place" => Some(UnixListener::bind(path).unwrap().into()),
        "file_in_its_place" => Some(fs::File::create(path).unwrap().into()),
        _ => {
            let socket = UnixDatagram::bind(path).unwrap();
            if fault == "full_hang" {
                let other = UnixDatagram::unbound().unwrap();
                other.set_nonblocking(true).unwrap();
                while other.send_to(b"x", path).is_ok() {}
            }
            Some(socket.into())
        }
    }
}

/// A host that answers its questions with this fault.
async fn osquery(fault: &'static str) -> String {
    let source = format!("local-{fault}");
    let retry = if fault == "silent_retry" { "retry" } else { "answer" };
    let table = format!(
        "source = \"{source}\"\nquery = \"SELECT {{{{ message.title }}}}\"\nwhen_silent = \"{retry}\""
    );
    let timeout = Duration::from_millis(300);
    let built = build(kind("osquery"), &table, &Context { timeout, ..context() }).unwrap();
    if fault == "no_source" {
        return send(&built).await;
    }
    let served = fleet::serve(&source, 9);
    let hosts = served.fleet();
    let (_, member) = samples::all().swap_remove(0);
    let agent = Message::of(&member).agent_name.unwrap();
    if fault != "unknown_host" {
        assert!(hosts.heard("uuid-1", &agent, [10, 0, 0, 1].into()));
    }
    let answering = async {
        let status = match fault {
            "success" => 0,
            "query_failed" => 1,
            "source_ends" => {
                hosts.question("uuid-1").await;
                return hosts.forget();
            }
            _ => return,
        };
        let (id, _) = hosts.question("uuid-1").await;
        let reply = fleet::Reply { status, message: String::new(), rows: Vec::new() };
        assert!(hosts.answer("uuid-1", &id, reply));
    };
    tokio::join!(send(&built), answering).0
}

fn file(place: &Path, fault: &str) -> Arc<dyn Destination> {
    let path = match fault {
        "no_folder" => place.join("nowhere/alerts.ndjson"),
        "folder_in_its_place" => place.to_owned(),
        "device_in_its_place" => "/dev/full".into(),
        _ => place.join("alerts.ndjson"),
    };
    destination("file", &format!("path = {path:?}"), fault)
}

#[tokio::test]
async fn every_fault_has_its_outcome_where_no_http_is_spoken() {
    let rows: Vec<_> = lines(TABLE).map(|(number, line)| (number, row(number, line))).collect();
    let plays = rows.iter().map(|(_, (left, _))| {
        let (name, fault) = left.split_once(' ').unwrap();
        tokio::spawn(play(name, fault))
    });
    let plays: Vec<_> = plays.collect();
    let mut differences = Vec::new();
    for ((number, (left, expected)), play) in rows.iter().zip(plays) {
        let found = play.await.unwrap_or_else(|error| panic!("line {number}, {left}: {error}"));
        println!("{left:<28} {found}");
        if found != *expected {
            differences.push(format!("line {number}, {left}: expected {expected}, found {found}"));
        }
    }
    assert!(differences.is_empty(), "local.txt:\n{}", differences.join("\n"));
}
