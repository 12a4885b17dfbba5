use base64::prelude::{BASE64_STANDARD, Engine};
use rustls::pki_types::PrivateKeyDer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
    task::JoinHandle,
};

use super::*;
use crate::{
    message::samples,
    testing::{alert, build as build_kind, context, fault, shipment},
};

const BODY: &str = r#"{"timestamp":"2026-03-09T06:02:17.173+0100","rule":{"level":12,"description":"a|b=c\\d","id":"5763","groups":["sshd","x"]},"agent":{"id":"001","name":"web]01","ip":"10.0.0.1"},"manager":{"name":"mgr"},"full_log":"one=1\ntwo","data":{"srcip":"1.2.3.4","srcport":"22","dstuser":"root"},"location":"/var/log/x"}"#;

fn destination(table: &str) -> Arc<dyn Destination> {
    build_kind(&KIND, table, &context()).unwrap()
}

/// What arrives over UDP, as the bytes of one message.
async fn datagram(format: &str, member: holdfast_model::Member) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let to = socket.local_addr().unwrap();
    let table = format!("address = \"{to}\"\ntransport = \"udp\"\nformat = \"{format}\"");
    destination(&table).deliver(&shipment([member])).await.unwrap();
    let mut buffer = vec![0; 70_000];
    let read = socket.recv(&mut buffer).await.unwrap();
    buffer.truncate(read);
    buffer
}

#[tokio::test]
async fn each_format_has_these_bytes() {
    let version = env!("CARGO_PKG_VERSION");
    #[rustfmt::skip]
    let table = [
        ("rfc5424", r#"<131>1 2026-03-09T05:02:17.173Z mgr holdfast - alert [holdfast@32473 id="abcdefghij-1" key="abcdefghij-1.lane" rule="5763" level="12" agent="web\]01"] a|b=c\d on web]01 [Level 12 (high)] event abcdefghij-1"#.to_owned()),
        ("rfc3164", r"<131>Mar  9 06:02:17 mgr holdfast: a|b=c\d on web]01 [Level 12 (high)] event abcdefghij-1".to_owned()),
        ("cef", format!(r"<131>Mar  9 06:02:17 mgr CEF:0|Holdfast|Wazuh|{version}|5763|a\|b=c\\d on web]01|10|rt=1773032537173 externalId=abcdefghij-1.lane deviceExternalId=001 dvchost=web]01 cat=sshd,x src=1.2.3.4 spt=22 duser=root cs1=/var/log/x cs1Label=Location msg=one\=1\ntwo")),
        ("leef", format!("<131>Mar  9 06:02:17 mgr LEEF:2.0|Holdfast|Wazuh|{version}|5763|x09|devTime=1773032537173\tsev=10\tcat=sshd,x\tsrc=1.2.3.4\tsrcPort=22\tusrName=root\tidentHostName=web]01\tresource=/var/log/x\tholdfastKey=abcdefghij-1.lane\tname=a|b=c\\d on web]01\tmsg=one=1 two")),
        ("json", format!(r#"<131>1 2026-03-09T05:02:17.173Z mgr holdfast - alert [holdfast@32473 id="abcdefghij-1" key="abcdefghij-1.lane" rule="5763" level="12" agent="web\]01"] {BODY}"#)),
        ("wazuh", r"<132>Mar  9 06:02:17 mgr ossec: Alert Level: 12; Rule: 5763 - a|b=c\d; Location: (web]01) 10.0.0.1->/var/log/x; classification: sshd,x,; srcip: 1.2.3.4; user: root; one=1".to_owned()),
        ("wazuh_splunk", r#"<132>Mar  9 06:02:17 mgr ossec: crit=12 id=5763 description="a|b=c\d" component="(web]01) 10.0.0.1->/var/log/x", classification="sshd,x,", src_ip="1.2.3.4", src_port=22, acct="root", message="one=1""#.to_owned()),
        ("wazuh_cef", r"<132>Mar  9 06:02:17 CEF:0|Wazuh Inc.|Wazuh|v4.14.7|5763|a|b=c\d|10|dvc=mgr cs1=(web]01) 10.0.0.1->/var/log/x cs1Label=Location cat=sshd,x, src=1.2.3.4 spt=22 shost=1.2.3.4 suser=root suser=root msg=one=1".to_owned()),
        ("wazuh_json", format!("<132>Mar  9 06:02:17 mgr ossec: {BODY}")),
    ];
    for (format, expected) in table {
        let sent = datagram(format, alert(1, BODY)).await;
        assert_eq!(String::from_utf8(sent).unwrap(), expected, "{format}");
    }
}

#[tokio::test]
async fn every_sample_is_one_printable_line_in_every_format() {
    let formats = [
        "rfc5424",
        "rfc3164",
        "cef",
        "leef",
        "json",
        "wazuh",
        "wazuh_cef",
        "wazuh_splunk",
        "wazuh_json",
    ];
    for format in formats {
        let mut members = samples::all();
        // Whole, it is longer than a datagram.
        if !format.ends_with("json") {
            members.push(("hostile".into(), samples::hostile()));
        }
        for (name, member) in members {
            let line = String::from_utf8(datagram(format, member).await).unwrap();
            // LEEF's separator; and Wazuh's daemon writes what a log has.
            let tabs = format == "leef" || format.starts_with("wazuh");
            let odd = |c: char| c.is_control() && !(c == '\t' && tabs);
            assert!(!line.contains(odd), "{format} {name}: {line}");
            assert!(line.starts_with('<'), "{format} {name}");
            assert!(format != "rfc3164" || line.len() <= 1024, "{name}");
            if format == "leef" {
                let (_, fields) = line.split_once("|x09|").unwrap();
                assert!(fields.split('\t').all(|field| field.contains('=')), "{name}: {line}");
            }
        }
    }
}

/// Reads one connection to its end.
async fn receiver() -> (String, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        all
    });
    (address, task)
}

#[tokio::test]
async fn messages_over_tcp_are_counted_or_a_line_each() {
    let line = |seq: u64| format!("<132>Mar 10 06:11:28 holdfast ossec: {{\"a\":{seq}}}");
    let members = || shipment([alert(1, r#"{"a":1}"#), alert(2, "{\n\"a\":2}")]);
    let counted = format!("{} {}{} {}", line(1).len(), line(1), line(2).len(), line(2));
    let lines = format!("{}\n{}\n", line(1), line(2));
    for (framing, expected) in [("octet", counted), ("lf", lines)] {
        let (address, task) = receiver().await;
        let table =
            format!("address = \"{address}\"\nformat = \"wazuh_json\"\nframing = \"{framing}\"");
        let Delivered::Each(results) = destination(&table).deliver(&members()).await.unwrap()
        else {
            panic!("each has its own")
        };
        assert!(results.len() == 2 && results.iter().all(Result::is_ok));
        assert_eq!(String::from_utf8(task.await.unwrap()).unwrap(), expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_hangs_up_unread_has_taken_nothing() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let destination = destination(&format!("address = \"{address}\""));
    for _ in 0..200 {
        let error = destination.deliver(&shipment([alert(1, "{}")])).await.unwrap_err();
        assert_eq!(error.reason, Reason::InDoubt, "{error:?}");
    }
}

#[tokio::test]
async fn what_does_not_fit_a_datagram_is_refused_alone() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let to = socket.local_addr().unwrap();
    let table = format!("address = \"{to}\"\ntransport = \"udp\"\nformat = \"json\"");
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(70_000));
    let members = shipment([alert(1, long), alert(2, "{}")]);
    let Delivered::Each(results) = destination(&table).deliver(&members).await.unwrap() else {
        panic!("each has its own")
    };
    assert_eq!(results[0].as_ref().unwrap_err().reason, Reason::Refused);
    assert!(results[1].is_ok());
}

fn pem(der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

#[tokio::test]
async fn tls_trusts_only_its_ca() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, pem(made.cert.der())).unwrap();
    let other = folder.path().join("other.pem");
    let stranger = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&other, pem(stranger.cert.der())).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        assert!(acceptor.accept(stream).await.is_err(), "it was not trusted");
        let (stream, _) = listener.accept().await.unwrap();
        let mut all = Vec::new();
        acceptor.accept(stream).await.unwrap().read_to_end(&mut all).await.unwrap();
        all
    });
    let table = |ca: &std::path::Path| {
        format!(
            "address = \"{address}\"\ntransport = \"tls\"\nserver_name = \"localhost\"\nca = \"{}\"\nformat = \"wazuh_json\"",
            ca.display()
        )
    };
    let members = shipment([alert(1, "{}")]);
    let error = destination(&table(&other)).deliver(&members).await.unwrap_err();
    assert_eq!(error.reason, Reason::Misconfigured);
    destination(&table(&ca)).deliver(&members).await.unwrap();
    assert_eq!(task.await.unwrap(), b"39 <132>Mar 10 06:11:28 holdfast ossec: {}");
}

/// A RELP receiver that says this after reading as many bytes as the frames before it have.
async fn relp(script: Vec<(usize, &'static str)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        for (line_breaks, answer) in script {
            let mut left = line_breaks;
            while left > 0 {
                left -= usize::from(stream.read_u8().await.unwrap() == b'\n');
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    format!("address = \"{address}\"\ntransport = \"relp\"\nformat = \"wazuh_json\"")
}

const OPENED: &str = "1 rsp 37 200 OK\nrelp_version=0\ncommands=syslog\n";

#[tokio::test]
async fn over_relp_only_what_is_acknowledged_is_delivered() {
    // The offer has three line breaks, each message one.
    let script = vec![(3, OPENED), (3, "2 rsp 6 200 OK\n3 rsp 9 500 queue\n")];
    let members = shipment([alert(1, "{}"), alert(2, "{}"), alert(3, "{}")]);
    let result = destination(&relp(script).await).deliver(&members).await.unwrap();
    let Delivered::Each(results) = result else { panic!("each has its own") };
    assert_eq!(results[0].as_ref().unwrap().status, Some(200));
    assert_eq!(results[1].as_ref().unwrap_err().reason, Reason::BadAnswer);
    assert_eq!(results[2].as_ref().unwrap_err().reason, Reason::InDoubt);
}

#[tokio::test]
async fn a_relp_session_that_does_not_open_sends_nothing() {
    let table = [
        ("1 rsp 9 500 wrong\n", Reason::Misconfigured),
        ("1 rsp 24 200 OK\ncommands=starttls\n", Reason::Misconfigured),
        ("HTTP/1.1 400 Bad Request\r\n\r\n", Reason::ServerFault),
        ("", Reason::ServerFault),
    ];
    for (answer, reason) in table {
        let destination = destination(&relp(vec![(3, answer)]).await);
        let error = destination.deliver(&shipment([alert(1, "{}")])).await.unwrap_err();
        assert_eq!(error.reason, reason, "{answer}");
    }
    assert_eq!(relp::frame(7, "syslog", b"abc"), b"7 syslog 3 abc\n");
    assert_eq!(relp::frame(8, "close", b""), b"8 close 0\n");
}

#[tokio::test]
async fn nobody_there_is_no_connection() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let table = format!("address = \"{free}\"");
    let error = destination(&table).deliver(&shipment([alert(1, "{}")])).await.unwrap_err();
    assert_eq!(error.reason, Reason::Connect);
}

#[test]
fn settings_that_cannot_work_are_faults() {
    #[rustfmt::skip]
    let table = [
        ("address = \"siem\"", "host:port"),
        ("address = \"siem:1\"\nca = \"/x\"", "is not \"tls\""),
        ("address = \"siem:1\"\ntransport = \"tls\"\nca = \"/nowhere.pem\"", "/nowhere.pem"),
        ("address = \"siem:1\"\ntransport = \"tls\"\nclient_key = \"/x\"", "belong together"),
    ];
    for (table, expected) in table {
        let problem = fault(&KIND, table, &context());
        assert!(problem.contains(expected), "{table}: {problem}");
    }
}
