mod network;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use holdfast_model::{Chain, DeliveryError, Reason, delivery::EXCERPT_BYTES_MAX};
use reqwest::{Method, Request, Url};

use super::{
    answer::{Answer, EXCERPT_READ_BYTES_MAX},
    fake::{Act, Fake, answer, say},
    *,
};
use crate::testing::pem;

/// Long enough for anything that happens on loopback.
const PATIENT: Duration = Duration::from_secs(30);

/// For what never happens.
const SHORT: Duration = Duration::from_millis(200);

fn settings(timeout: Duration, tls: bool) -> Settings {
    Settings { timeout, tls, network: Network::default() }
}

fn client_for(timeout: Duration) -> Client {
    client(settings(timeout, false)).unwrap()
}

/// Trusts what the operator's keys of HTTP say.
fn client_by(keys: &str) -> Client {
    client(Settings { network: network::read(keys).unwrap(), ..settings(PATIENT, true) }).unwrap()
}

fn post(url: &str) -> Request {
    let mut request = Request::new(Method::POST, Url::parse(url).unwrap());
    *request.body_mut() = Some("{}".into());
    request
}

async fn ask(url: &str, timeout: Duration) -> Result<Answer, DeliveryError> {
    client_for(timeout).send(post(url), EXCERPT_READ_BYTES_MAX).await
}

/// What a lane gets to see of a receiver that does `act`.
async fn outcome(act: Act, timeout: Duration) -> Result<Answer, DeliveryError> {
    let fake = Fake::start([act]).await;
    let answer = ask(&format!("{}/token-4711", fake.url), timeout).await?;
    assert_eq!(fake.seen().len(), 1, "it is sent once");
    answer.verdict(&[])?;
    Ok(answer)
}

#[tokio::test]
async fn every_status_comes_back_with_its_reason_and_an_excerpt() {
    #[rustfmt::skip]
    let table = [
        ("301 Moved Permanently", "Location: /elsewhere\r\n", Reason::Misconfigured, None),
        ("400 Bad Request", "", Reason::Refused, None),
        ("401 Unauthorized", "", Reason::Unauthorized, None),
        ("403 Forbidden", "", Reason::Forbidden, None),
        ("404 Not Found", "", Reason::Misconfigured, None),
        ("408 Request Timeout", "", Reason::ServerFault, None),
        ("413 Content Too Large", "", Reason::TooLarge, None),
        ("429 Too Many Requests", "Retry-After: 30\r\n", Reason::Throttled, Some(30)),
        ("429 Too Many Requests", "Retry-After: soon\r\n", Reason::Throttled, None),
        ("429 Too Many Requests", "Retry-After: Mon, 09 Mar 2020 06:00:00 GMT\r\n", Reason::Throttled, Some(0)),
        ("500 Internal Server Error", "", Reason::ServerFault, None),
        ("503 Service Unavailable", "Retry-After: 5\r\n", Reason::ServerFault, Some(5)),
    ];
    for (status, headers, reason, wait) in table {
        let act = Act::Say(answer(status, headers, "what went wrong"));
        let error = outcome(act, PATIENT).await.unwrap_err();
        assert_eq!(error.reason, reason, "{status}");
        assert_eq!(error.retry_after, wait.map(Duration::from_secs), "{status} {headers}");
        assert_eq!(error.status, status[..3].parse().ok());
        assert_eq!(error.excerpt, "what went wrong");
    }
}

#[tokio::test]
async fn a_slow_answer_is_an_answer() {
    let answer = outcome(Act::Drip(answer("200 OK", "", "slow")), PATIENT).await.unwrap();
    assert_eq!(answer.body().unwrap(), b"slow");
}

#[tokio::test]
async fn silence_leaves_it_in_doubt() {
    let error = outcome(Act::SayAndHang(Vec::new()), SHORT).await.unwrap_err();
    assert_eq!(error.reason, Reason::InDoubt);
    let error = outcome(Act::SayAndHang(b"HTTP/1.1 200 OK\r\nContent-".to_vec()), SHORT).await;
    assert_eq!(error.unwrap_err().reason, Reason::InDoubt);
}

#[tokio::test]
async fn a_connection_that_ends_without_an_answer_leaves_it_in_doubt() {
    let nonsense = b"SSH-2.0-OpenSSH_9.6\r\n\r\n\0\0\0".to_vec();
    for act in [
        Act::SayAndClose(Vec::new()),
        Act::SayAndReset(Vec::new()),
        Act::SayAndClose(b"HTTP/1.1 200 OK\r\n".to_vec()),
        Act::SayAndClose(nonsense.clone()),
        Act::SayAndHang(nonsense),
        Act::SayAndHang(b"HTTP/1.1 99999 Odd\r\n\r\n".to_vec()),
    ] {
        let error = outcome(act.clone(), PATIENT).await.unwrap_err();
        assert_eq!(error.reason, Reason::InDoubt, "{act:?}");
        assert!(error.source.is_some());
    }
}

#[tokio::test]
async fn the_status_line_counts_when_the_body_breaks_off() {
    let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec();
    for act in [
        Act::SayAndClose(cut.clone()),
        Act::SayAndReset(cut.clone()),
        Act::SayAndClose(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec()),
    ] {
        let answer = outcome(act, PATIENT).await.expect("a 200 was seen");
        // A destination whose vendor answers in the body does not know, though.
        assert_eq!(answer.body().unwrap_err().reason, Reason::InDoubt);
    }
    let answer = outcome(Act::SayAndHang(cut), SHORT).await.expect("a 200 was seen");
    assert_eq!(answer.excerpt(&[]), "half");
    let cut = b"HTTP/1.1 500 Oops\r\nContent-Length: 100\r\n\r\nhalf".to_vec();
    let error = outcome(Act::SayAndReset(cut), PATIENT).await.unwrap_err();
    assert_eq!(error.reason, Reason::ServerFault);
}

#[tokio::test]
async fn a_long_answer_is_not_read_whole() {
    // It never ends, so whoever wants all of it waits for ever.
    let mut endless = b"HTTP/1.1 400 Bad\r\nContent-Length: 10000000000\r\n\r\n".to_vec();
    endless.resize(10_000_000, b'x');
    let error = outcome(Act::SayAndHang(endless), PATIENT).await.unwrap_err();
    assert_eq!(error.reason, Reason::Refused);
    assert_eq!(error.excerpt.len(), EXCERPT_BYTES_MAX);
    let long = Act::Say(answer("200 OK", "", &"x".repeat(10_000_000)));
    let answer = outcome(long, PATIENT).await.unwrap();
    assert_eq!(answer.body().unwrap_err().reason, Reason::BadAnswer);
}

#[tokio::test]
async fn a_connection_is_used_again_after_any_short_answer() {
    let body = "x".repeat(DRAIN_BYTES_MAX - 1);
    let fake = Fake::start([
        say("200 OK"),
        Act::Say(answer("500 Oops", "", &body)),
        Act::Say(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
        Act::Say(answer("200 OK", "", &"x".repeat(1_000_000))),
        say("200 OK"),
    ])
    .await;
    let client = client_for(PATIENT);
    for _ in 0..5 {
        client.send(post(&fake.url), 10).await.unwrap();
    }
    let connections: Vec<_> = fake.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [0, 0, 0, 0, 1], "only the long answer costs a connection");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Fake::start([say("200 OK")]).await;
    let location = format!("Location: {}/\r\n", elsewhere.url);
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        let error = outcome(Act::Say(answer(status, &location, "")), PATIENT).await.unwrap_err();
        assert_eq!(error.reason, Reason::Misconfigured);
    }
    assert!(elsewhere.seen().is_empty());
}

#[tokio::test]
async fn nothing_was_sent_when_nobody_listens_or_the_name_is_unknown() {
    // Bound and dropped: the port is free again, and nobody listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = ask(&format!("http://{free}/token-4711"), PATIENT).await.unwrap_err();
    assert_eq!(error.reason, Reason::Connect);
    assert_no_address(&error);

    struct NoNames;
    impl reqwest::dns::Resolve for NoNames {
        fn resolve(&self, _name: reqwest::dns::Name) -> reqwest::dns::Resolving {
            Box::pin(async { Err("no such name".into()) })
        }
    }
    let client = client_resolving(settings(PATIENT, false), Arc::new(NoNames)).unwrap();
    let error = client.send(post("http://collector.invalid/token-4711"), 10).await.unwrap_err();
    assert_eq!(error.reason, Reason::Dns);
    assert_no_address(&error);
}

#[tokio::test]
async fn a_connection_that_is_never_made_is_not_in_doubt() {
    // TEST-NET-1 (RFC 5737) is routed nowhere: no answer, or at once an error, but no connection.
    let error = ask("http://192.0.2.1:9/", SHORT).await.unwrap_err();
    assert_eq!(error.reason, Reason::Connect);
}

fn assert_no_address(error: &DeliveryError) {
    let shown = format!("{} {error:?}", Chain(error));
    assert!(!shown.contains("token-4711"), "{shown}");
}

/// A TLS receiver that does one handshake, with a certificate for `localhost`, and says where it
/// is and which certificate it has.
fn tls_receiver() -> (SocketAddr, rustls::pki_types::CertificateDer<'static>) {
    use std::io::{Read, Write};
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        let session = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = rustls::StreamOwned::new(session, socket);
        let mut request = [0; 4096];
        // The client may refuse the certificate, and what it makes of that is tested.
        if stream.read(&mut request).is_ok_and(|bytes| bytes > 0) {
            stream.write_all(&answer("200 OK", "", "over TLS")).unwrap();
            stream.conn.send_close_notify();
            stream.flush().unwrap();
        }
    });
    (address, certificate)
}

#[tokio::test]
async fn a_certificate_decides_between_delivery_and_a_wrong_setting() {
    let (address, _) = tls_receiver();
    let client = client(settings(PATIENT, true)).unwrap();
    let request = post(&format!("https://localhost:{}/token-4711", address.port()));
    let error = client.send(request, 100).await.unwrap_err();
    assert_eq!(error.reason, Reason::Misconfigured, "{}", Chain(&error));
    assert_no_address(&error);

    for (host, expected) in [("localhost", None), ("127.0.0.1", Some(Reason::Misconfigured))] {
        let (address, certificate) = tls_receiver();
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, pem("CERTIFICATE", &certificate)).unwrap();
        let client = client_by(&format!("tls = {{ ca = {ca:?} }}"));
        let request = post(&format!("https://{host}:{}/", address.port()));
        match (client.send(request, 100).await, expected) {
            (Ok(answer), None) => assert_eq!(answer.body().unwrap(), b"over TLS"),
            (Err(error), Some(reason)) => assert_eq!(error.reason, reason, "{}", Chain(&error)),
            other => panic!("{host}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_handshake_that_breaks_sends_nothing() {
    for said in [&b""[..], b"HTTP/1.1 400 Bad Request\r\n\r\n"] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let (mut stream, _) = listener.accept().await.unwrap();
            // All of it, or closing would reset the connection.
            let mut head = [0; 5];
            stream.read_exact(&mut head).await.unwrap();
            let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
            stream.read_exact(&mut vec![0; length]).await.unwrap();
            stream.write_all(said).await.unwrap();
            stream.shutdown().await.unwrap();
        });
        let error = client(settings(PATIENT, true))
            .unwrap()
            .send(post(&format!("https://{address}/")), 10)
            .await
            .unwrap_err();
        assert_eq!(error.reason, Reason::Tls, "{}", Chain(&error));
    }
}

#[test]
fn installing_the_cryptography_twice_is_harmless() {
    install_crypto();
    install_crypto();
}
