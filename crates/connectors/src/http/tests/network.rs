//! The way out: trust, our own certificate, a proxy, and addresses that may not be reached.

use std::{
    cell::RefCell,
    fs,
    io::{Read, Write},
    net::{IpAddr, TcpListener as StdListener},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use holdfast_model::settings::Section;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use reqwest::dns::{Addrs, Name, Resolving};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};

use super::*;
use crate::testing::tree;

/// The operator's keys of HTTP; the first fault when there is one.
pub(super) fn read(keys: &str) -> Result<Network, String> {
    let entries = tree(keys);
    let faults = RefCell::default();
    let network = Network::read(&Section::new("d", 1, &entries, &faults));
    let first = faults.borrow().first().map(|fault| format!("{}: {}", fault.key, fault.problem));
    match (network, first) {
        (Some(network), None) => Ok(network),
        (_, Some(fault)) => Err(fault),
        other => panic!("{keys}: {other:?}"),
    }
}

/// Answers each question with the next address; the last one repeats.
struct Told(Mutex<Vec<IpAddr>>);

impl Resolve for Told {
    fn resolve(&self, _name: Name) -> Resolving {
        let mut told = self.0.lock().unwrap();
        let address = if told.len() > 1 { told.remove(0) } else { told[0] };
        Box::pin(async move { Ok(Box::new([SocketAddr::new(address, 0)].into_iter()) as Addrs) })
    }
}

fn told(keys: &str, addresses: &[&str]) -> Client {
    let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    let settings = Settings { network: read(keys).unwrap(), ..settings(PATIENT, false) };
    client_resolving(settings, Arc::new(Told(Mutex::new(addresses)))).unwrap()
}

/// Whether nobody has come to a listener.
#[track_caller]
fn nobody_came(listener: &StdListener) {
    listener.set_nonblocking(true).unwrap();
    let error = listener.accept().expect_err("a connection was made");
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_name_that_leads_to_a_forbidden_address_is_refused_before_a_connection() {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    #[rustfmt::skip]
    let table = [
        ("allow_addresses = [\"10.0.0.0/8\"]", format!("http://collector.test:{port}/token-4711")),
        // A name that is listed does not lead to this machine.
        ("allow_addresses = [\"collector.test\"]", format!("http://collector.test:{port}/token-4711")),
        ("allow_addresses = [\"10.0.0.0/8\"]", format!("http://127.0.0.1:{port}/token-4711")),
        ("allow_addresses = [\"127.0.0.1\"]", format!("http://[::1]:{port}/token-4711")),
    ];
    for (keys, url) in table {
        let error = told(keys, &["127.0.0.1"]).send(post(&url), 10).await.unwrap_err();
        assert_eq!(error.reason, Reason::Misconfigured, "{keys} {url}: {}", Chain(&error));
        let shown = Chain(&error).to_string();
        assert!(shown.contains("which `allow_addresses` does not let through"), "{shown}");
        assert_no_address(&error);
    }
    nobody_came(&listener);
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_the_next_time_is_refused_then() {
    let close = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_vec();
    let fake = Fake::start([Act::SayAndClose(close)]).await;
    let port = fake.url.rsplit(':').next().unwrap().to_owned();
    let elsewhere = StdListener::bind(format!("127.0.0.2:{port}")).unwrap();
    let client = told("allow_addresses = [\"127.0.0.1\"]", &["127.0.0.1", "127.0.0.2"]);
    let url = format!("http://collector.test:{port}/token-4711");
    client.send(post(&url), 10).await.expect("the first time it is allowed");
    let error = client.send(post(&url), 10).await.unwrap_err();
    assert_eq!(error.reason, Reason::Misconfigured, "{}", Chain(&error));
    assert!(Chain(&error).to_string().contains("127.0.0.2"), "{}", Chain(&error));
    nobody_came(&elsewhere);
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn every_request_goes_through_the_proxy_and_names_are_its_business() {
    let fake = Fake::start([say("200 OK")]).await;
    let proxy = fake.url.replace("http://", "http://Aladdin:open%20sesame@");
    let client = client_by(&format!("proxy = \"{proxy}\""));
    client.send(post("http://collector.invalid/in?a=1"), 10).await.unwrap();
    let seen = fake.only();
    assert_eq!(seen.line, "POST http://collector.invalid/in?a=1 HTTP/1.1");
    assert_eq!(seen.header("proxy-authorization"), Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
    assert_eq!(seen.header("host"), Some("collector.invalid"));
    assert!(!format!("{client:?}").contains("sesame"));
}

#[tokio::test]
async fn behind_a_proxy_only_listed_names_are_let_through() {
    let fake = Fake::start([say("200 OK")]).await;
    let keys = |allowed: &str| format!("proxy = \"{}\"\nallow_addresses = [{allowed}]", fake.url);
    let url = "http://collector.invalid/";
    let error = client_by(&keys("\"0.0.0.0/0\"")).send(post(url), 10).await.unwrap_err();
    assert_eq!(error.reason, Reason::Misconfigured);
    assert!(Chain(&error).to_string().contains("behind a proxy"), "{}", Chain(&error));
    assert!(fake.seen().is_empty());
    client_by(&keys("\"*.invalid\"")).send(post(url), 10).await.unwrap();
    assert_eq!(fake.seen().len(), 1, "the proxy itself needs no entry");
}

#[tokio::test]
async fn a_proxy_that_does_not_answer_is_no_connection_and_its_password_is_not_shown() {
    let free = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = client_by(&format!("proxy = \"http://u:hunter2hunter2@{free}\""));
    for url in ["http://collector.invalid/token-4711", "https://collector.invalid/token-4711"] {
        let error = client.send(post(url), 10).await.unwrap_err();
        assert_eq!(error.reason, Reason::Connect, "{}", Chain(&error));
        assert_no_address(&error);
        let shown = format!("{} {error:?}", Chain(&error));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

/// A house CA, and what it signs. Files go with the folder.
struct Ca {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
}

/// A certificate and its key, in files.
struct Signed {
    cert: PathBuf,
    key: PathBuf,
    der: CertificateDer<'static>,
    key_der: PrivateKeyDer<'static>,
}

impl Ca {
    fn new() -> Self {
        /// No two have one name, as in life.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        let name = format!("House CA {}", COUNT.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        let ca =
            Self { folder: tempfile::tempdir().unwrap(), issuer: Issuer::new(params, key), der };
        fs::write(ca.file(), pem("CERTIFICATE", &ca.der)).unwrap();
        ca
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn sign(&self, name: &str) -> Signed {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let der = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let file = |extension: &str| self.folder.path().join(format!("{name}.{extension}"));
        let (cert, key_file) = (file("pem"), file("key"));
        fs::write(&cert, pem("CERTIFICATE", &der)).unwrap();
        write_private(&key_file, &pem("PRIVATE KEY", &key.serialize_der()));
        let key_der = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        Signed { cert, key: key_file, der, key_der }
    }
}

fn write_private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A receiver with this certificate that answers 200 to every request, one a connection; with `ca`
/// it wants a certificate of the other side's. Its port.
fn receiver(own: &Signed, ca: Option<&Ca>) -> u16 {
    let builder = ServerConfig::builder_with_provider(provider());
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let builder = match ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots.add(ca.der.clone()).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
            builder.with_client_cert_verifier(verifier.unwrap())
        }
    };
    let config = builder.with_single_cert(vec![own.der.clone()], own.key_der.clone_key());
    let config = Arc::new(config.unwrap());
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(session, socket.unwrap());
            let mut request = [0; 4096];
            // The other side may refuse us, and what it makes of that is tested.
            if stream.read(&mut request).is_ok_and(|bytes| bytes > 0) {
                stream.write_all(&answer("200 OK", "Connection: close\r\n", "")).unwrap();
                stream.conn.send_close_notify();
                stream.flush().unwrap();
            } else {
                // So that what TLS had to say is read before the end.
                stream.flush().ok();
            }
        }
    });
    port
}

async fn send_to(client: &Client, port: u16) -> Result<(), DeliveryError> {
    client.send(post(&format!("https://localhost:{port}/token-4711")), 10).await.map(drop)
}

#[track_caller]
fn is_misconfigured(sent: Result<(), DeliveryError>, advice: &str) {
    let error = sent.unwrap_err();
    let shown = Chain(&error).to_string();
    assert_eq!(error.reason, Reason::Misconfigured, "{shown}");
    assert!(shown.contains(advice), "{shown}");
    assert_no_address(&error);
}

#[tokio::test]
async fn a_ca_of_ones_own_takes_the_place_of_the_machines() {
    let (ca, other) = (Ca::new(), Ca::new());
    let port = receiver(&ca.sign("localhost"), None);
    let trusting = |ca: &Ca| client_by(&format!("tls = {{ ca = {:?} }}", ca.file()));
    send_to(&trusting(&ca), port).await.unwrap();
    is_misconfigured(send_to(&trusting(&other), port).await, "give its CA as `tls.ca`");
    let port = receiver(&ca.sign("elsewhere"), None);
    is_misconfigured(send_to(&trusting(&ca), port).await, "for another name");
}

#[tokio::test]
async fn a_receiver_that_asks_for_our_certificate_gets_it() {
    let (ca, clients, strangers) = (Ca::new(), Ca::new(), Ca::new());
    let port = receiver(&ca.sign("localhost"), Some(&clients));
    let keys = |own: &Signed| {
        format!("tls = {{ ca = {:?}, cert = {:?}, key = {:?} }}", ca.file(), own.cert, own.key)
    };
    send_to(&client_by(&keys(&clients.sign("gateway"))), port).await.unwrap();
    let none = client_by(&format!("tls = {{ ca = {:?} }}", ca.file()));
    is_misconfigured(send_to(&none, port).await, "give `tls.cert` and `tls.key`");
    let stranger = client_by(&keys(&strangers.sign("gateway")));
    is_misconfigured(send_to(&stranger, port).await, "does not take our certificate");
}

#[tokio::test]
async fn certificates_are_read_anew_and_a_bad_one_changes_nothing() {
    let (ca, old) = (Ca::new(), Ca::new());
    let (clients, former) = (Ca::new(), Ca::new());
    let port = receiver(&ca.sign("localhost"), Some(&clients));
    let own = former.sign("gateway");
    let keys =
        format!("tls = {{ ca = {:?}, cert = {:?}, key = {:?} }}", old.file(), own.cert, own.key);
    let client = client_by(&keys);
    is_misconfigured(send_to(&client, port).await, "`tls.ca`");
    assert!(!client.refresh().unwrap(), "nothing has changed");
    fs::copy(ca.file(), old.file()).unwrap();
    assert!(client.refresh().unwrap());
    is_misconfigured(send_to(&client, port).await, "does not take our certificate");
    // The certificate is there before its key.
    let new = clients.sign("gateway");
    fs::copy(&new.cert, &own.cert).unwrap();
    let error = client.refresh().unwrap_err().to_string();
    assert!(error.contains("do not belong together"), "{error}");
    fs::copy(&new.key, &own.key).unwrap();
    assert!(client.refresh().unwrap());
    send_to(&client, port).await.unwrap();
    fs::write(old.file(), "oops").unwrap();
    assert!(client.refresh().unwrap_err().to_string().contains("holds no certificate"));
    send_to(&client, port).await.unwrap();
}

#[tokio::test]
async fn tls_goes_through_the_proxy_to_the_receiver() {
    let ca = Ca::new();
    let port = receiver(&ca.sign("localhost"), None);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap();
    let tunnel = tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(near.read_u8().await.unwrap());
        }
        near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let mut far = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        // However the two end, what was asked is told.
        copy_bidirectional(&mut near, &mut far).await.ok();
        String::from_utf8(head).unwrap()
    });
    let client =
        client_by(&format!("proxy = \"http://{proxy}\"\ntls = {{ ca = {:?} }}", ca.file()));
    send_to(&client, port).await.unwrap();
    drop(client);
    let head = tunnel.await.unwrap();
    assert!(head.starts_with(&format!("CONNECT localhost:{port} HTTP/1.1\r\n")), "{head}");
    assert!(!head.contains("token"), "the proxy sees no path");
}

#[test]
fn every_fault_of_the_way_out_is_named() {
    let ca = Ca::new();
    let (own, other) = (ca.sign("gateway"), ca.sign("other"));
    let not_pem = ca.folder.path().join("not.pem");
    write_private(&not_pem, "hunter2");
    let open = ca.folder.path().join("open.key");
    fs::write(&open, fs::read(&own.key).unwrap()).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let with_key = |key: &Path| format!("tls = {{ cert = {:?}, key = {key:?} }}", own.cert);
    #[rustfmt::skip]
    let table = [
        ("tls = { ca = \"/nowhere/ca.pem\" }".to_owned(), "d.tls.ca: the file `/nowhere/ca.pem` cannot be read"),
        ("tls = { ca = \"ca.pem\" }".into(), "d.tls.ca: it must begin at the root"),
        (format!("tls = {{ ca = {not_pem:?} }}"), "holds no certificate in PEM"),
        ("tls = { roots = \"/x\" }".into(), "d.tls.roots: there is no such key"),
        ("tls = true".into(), "d.tls: it is true or false, but must be a table"),
        (format!("tls = {{ cert = {:?} }}", own.cert), "d.tls: `cert` and `key` belong together"),
        (with_key(&not_pem), "d.tls.key: it is no private key in PEM"),
        (with_key(&open), "d.tls.key: the file"),
        (with_key(Path::new("/nowhere/key")), "cannot be read"),
        (with_key(&other.key), "do not belong together"),
        ("tls = { key = \"-----BEGIN PRIVATE KEY-----\" }".into(), "must be the path of the key's file"),
        ("proxy = \"socks5://p:1\"".into(), "d.proxy: it is no proxy's address"),
        ("proxy = \"hunter2\"".into(), "d.proxy: it is no proxy's address"),
        ("proxy = 3128".into(), "d.proxy: it must be a text"),
        ("allow_addresses = [\"10.0.0.0/33\"]".into(), "d.allow_addresses: \"10.0.0.0/33\" is no address"),
        ("allow_addresses = [\"10.0.0.1/8\"]".into(), "bits behind its prefix"),
        ("allow_addresses = 1.5".into(), "d.allow_addresses: it is a number"),
    ];
    for (keys, expected) in table {
        let fault = read(&keys).unwrap_err();
        assert!(fault.contains(expected), "{keys}: {fault}");
        assert!(!fault.contains("hunter2"), "{fault}");
    }
}
