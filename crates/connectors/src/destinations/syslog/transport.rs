//! How messages reach a receiver: sockets, TLS, and the end of a connection.

use std::{fs::File, io, io::BufReader, net::SocketAddr, sync::Arc, time::Duration};

use holdfast_model::{
    DeliveryError, Reason,
    settings::{Section, Setting},
};
use rustls::{
    CertificateError, ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UdpSocket, lookup_host},
    time::{Instant, sleep_until, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::http::{is_permanent, trusted_roots};

pub(super) const CA: Setting = Setting::optional(
    "ca",
    "\"/etc/holdfast/siem-ca.pem\"",
    "A PEM file with the certificates that may have signed the receiver's. Without it, those the machine trusts. Read at start.",
);

pub(super) const CERTIFICATE: Setting = Setting::optional(
    "client_certificate",
    "\"/etc/holdfast/client.pem\"",
    "A PEM file with our own certificate and its chain, for receivers that ask for one. Read at start.",
);

pub(super) const KEY: Setting = Setting::optional(
    "client_key",
    "\"/etc/holdfast/secrets/client.key\"",
    "A PEM file with the key of `client_certificate`. Read at start.",
);

pub(super) const SERVER_NAME: Setting = Setting::optional(
    "server_name",
    "\"siem.example\"",
    "The name in the receiver's certificate, where it is not the host of `address`.",
);

/// How long the receiver's own close is awaited after ours. Most close at once.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
    Tls,
    Relp,
    RelpTls,
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) transport: Transport,
    address: String,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {
    /// What the connection suffered that no read has told.
    fn fault(&self) -> io::Result<Option<io::Error>>;
}

impl Duplex for TcpStream {
    fn fault(&self) -> io::Result<Option<io::Error>> {
        self.take_error()
    }
}

impl Duplex for TlsStream<TcpStream> {
    fn fault(&self) -> io::Result<Option<io::Error>> {
        self.get_ref().0.take_error()
    }
}

pub(super) type Stream = Box<dyn Duplex>;

/// A connection, and how long the way there and back took.
pub(super) struct Opened {
    pub(super) stream: Stream,
    round_trip: Duration,
}

/// rustls has one word for it, which helps nobody.
#[derive(Debug, Error)]
#[error(
    "the receiver's certificate is signed by nobody that is trusted (UnknownIssuer): its CA belongs in `ca`"
)]
struct Untrusted;

/// What "early eof" and rustls' page about truncation mean to a person.
#[derive(Debug, Error)]
#[error("the receiver hung up")]
struct HungUp;

// === impl Peer ===

impl Peer {
    pub(super) fn read(section: &Section<'_>, address: &str, transport: Transport) -> Option<Self> {
        let ca = section.text(&CA);
        let certificate = section.text(&CERTIFICATE);
        let key = section.text(&KEY);
        let name = section.text(&SERVER_NAME);
        let secured = matches!(transport, Transport::Tls | Transport::RelpTls);
        let address = address.to_owned();
        if !secured {
            for setting in [&CA, &CERTIFICATE, &KEY, &SERVER_NAME] {
                if section.has(setting.name) {
                    section.fault(setting.name, "`transport` is not \"tls\" or \"relp_tls\"");
                }
            }
            return Some(Self { transport, address, tls: None });
        }
        if certificate.is_some() != key.is_some() {
            section.fault("", "`client_certificate` and `client_key` belong together");
            return None;
        }
        let config = config(ca, certificate.zip(key));
        let config = config.map_err(|problem| section.fault("", problem)).ok()?;
        let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
        let host = name.unwrap_or(host.trim_matches(['[', ']'])).to_owned();
        let name = ServerName::try_from(host);
        let name = name.map_err(|error| section.fault(SERVER_NAME.name, error)).ok()?;
        Some(Self { transport, address, tls: Some((Arc::new(config), name)) })
    }

    async fn addresses(&self) -> Result<Vec<SocketAddr>, DeliveryError> {
        let found = lookup_host(self.address.as_str()).await;
        let found: Vec<_> =
            found.map_err(|error| DeliveryError::caused_by(Reason::Dns, error))?.collect();
        if found.is_empty() { Err(DeliveryError::new(Reason::Dns)) } else { Ok(found) }
    }

    /// One message a datagram. An error is the machine's own: nothing comes back over UDP.
    pub(super) async fn datagrams(&self, lines: &[&[u8]]) -> Result<(), DeliveryError> {
        let to = self.addresses().await?[0];
        let from = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let unsent = |error| DeliveryError::caused_by(Reason::Connect, error);
        let socket = UdpSocket::bind(from).await.map_err(unsent)?;
        for line in lines {
            socket.send_to(line, to).await.map_err(unsent)?;
        }
        Ok(())
    }

    pub(super) async fn connect(&self) -> Result<Opened, DeliveryError> {
        let addresses = self.addresses().await?;
        let begun = Instant::now();
        let stream = TcpStream::connect(addresses.as_slice()).await;
        let stream = stream.map_err(|error| DeliveryError::caused_by(Reason::Connect, error))?;
        let round_trip = begun.elapsed();
        let Some((config, name)) = &self.tls else {
            return Ok(Opened { stream: Box::new(stream), round_trip });
        };
        let connector = TlsConnector::from(Arc::clone(config));
        match connector.connect(name.clone(), stream).await {
            Ok(stream) => Ok(Opened { stream: Box::new(stream), round_trip }),
            Err(error) => Err(broken(error, Reason::Tls)),
        }
    }
}

/// Writes it all and closes. Not an acknowledgement: only a reset is seen.
pub(super) async fn write(opened: Opened, body: &[u8]) -> Result<(), DeliveryError> {
    let Opened { mut stream, round_trip } = opened;
    let lost = |error| broken(error, Reason::InDoubt);
    stream.write_all(body).await.map_err(lost)?;
    // TLS says goodbye with it, which receivers expect.
    stream.shutdown().await.map_err(lost)?;
    let ended = Instant::now();
    let mut ignored = [0; 256];
    let end = async {
        while stream.read(&mut ignored).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    match timeout(CLOSE_WAIT, end).await {
        // rustls reports a close without a goodbye so.
        Ok(Err(error)) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(lost(error)),
        Ok(_) => {}
        Err(_) => return Ok(()),
    }
    // A receiver that has read to our end answers with its own. One that hung up before, unread,
    // looks the same until our bytes reach it and are reset, which is a way there and back.
    sleep_until(ended + (round_trip * 2).min(CLOSE_WAIT)).await;
    match stream.fault() {
        Ok(None) => Ok(()),
        Ok(Some(error)) | Err(error) => Err(lost(error)),
    }
}

/// What a lane does about a broken connection: a certificate that is not trusted stays so.
pub(super) fn broken(error: io::Error, reason: Reason) -> DeliveryError {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let reason = if tls.is_some_and(is_permanent) { Reason::Misconfigured } else { reason };
    if let Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) = tls {
        return DeliveryError::caused_by(reason, Untrusted);
    }
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return DeliveryError::caused_by(reason, HungUp);
    }
    DeliveryError::caused_by(reason, error)
}

fn config(ca: Option<&str>, own: Option<(&str, &str)>) -> Result<ClientConfig, String> {
    let roots = match ca {
        None => trusted_roots(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| format!("{path}: {error}"))?;
            }
            roots
        }
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let Some((chain, key)) = own else { return Ok(builder.with_no_client_auth()) };
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| format!("{key}: {error}"))?;
    builder.with_client_auth_cert(certificates(chain)?, private).map_err(|error| error.to_string())
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let file = File::open(path).map_err(|error| format!("{path}: {error}"))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_reader_iter(BufReader::new(file)).collect();
    let found = found.map_err(|error| format!("{path}: {error}"))?;
    if found.is_empty() { Err(format!("{path}: there is no certificate in it")) } else { Ok(found) }
}
