//! Syslog: UDP, TCP, TLS and RELP, in the formats that SIEMs read.
//!
//! Promises: over RELP an event is delivered when the receiver has acknowledged it; a frame is
//! never split or joined by what an event holds, because no message has a line break.
//!
//! Does not promise, because syslog cannot: UDP tells nothing at all; over TCP and TLS the end of a
//! write is not an acknowledgement. The connection is closed after each attempt and the receiver's
//! own close awaited for a moment, so that a reset is seen, also of one that hung up unread; what a
//! receiver loses after that is lost. Syslog knows no idempotency key: all formats but Wazuh's own carry the event's key or id.
//!
//! Source: RFC 5424, 5425, 5426, 6587 and 3164; librelp `doc/relp.md`; Wazuh `os_csyslogd`.

mod format;
mod relp;
#[cfg(test)]
mod tests;
mod transport;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use holdfast_model::{
    DeliveryError, Destination, Reason, Receipt, Shipment,
    delivery::Delivered,
    settings::{Section, Setting},
};
use tokio::time::{Instant, timeout_at};

use self::{
    format::Writer,
    transport::{Peer, Transport},
};
use super::{Context, Kind};
use crate::message;

pub(super) const KIND: Kind = Kind {
    name: "syslog",
    summary: "Sends events by syslog: UDP, TCP, TLS or RELP; RFC 5424, RFC 3164, CEF, LEEF, JSON or Wazuh's own layouts.",
    example: r#"
address = "siem.example:2514"
transport = "relp"
format = "cef"
"#,
    settings: &[
        &ADDRESS,
        &TRANSPORT,
        &FRAMING,
        &transport::CA,
        &transport::CERTIFICATE,
        &transport::KEY,
        &transport::SERVER_NAME,
        &format::FORMAT,
        &format::FACILITY,
        &format::HOSTNAME,
        &message::TEMPLATE,
    ],
    batches: true,
    http: false,
    build,
};

const ADDRESS: Setting = Setting::optional(
    "address",
    "\"siem.example:6514\"",
    "The receiver as \"host:port\"; an IPv6 address in brackets.",
);

const TRANSPORT: Setting = Setting::new(
    "transport",
    "\"tcp\"",
    "\"udp\", \"tcp\", \"tls\", \"relp\" or \"relp_tls\". Only RELP acknowledges: with the others a delivered event is one that was written.",
);

const FRAMING: Setting = Setting::new(
    "framing",
    "\"octet\"",
    "How messages are told apart over TCP: \"octet\" for octet counting, \"lf\" for one a line. TLS always counts.",
);

/// The most that fits into one datagram over IPv4.
const DATAGRAM_BYTES_MAX: usize = 65_507;

/// A RELP receiver cuts what is longer than its `maxDataSize` and acknowledges the rest: librelp's
/// own is 128 KiB, rsyslog's 8 KiB unless its administrator says more.
const RELP_BYTES_MAX: usize = 128 * 1024;

/// What the receivers of streams are sent at most.
const STREAM_BYTES_MAX: usize = 16 * 1024 * 1024;

#[derive(Debug)]
struct Syslog {
    writer: Writer,
    peer: Peer,
    counted: bool,
    timeout: Duration,
}

fn build(section: &Section<'_>, context: &Context) -> Option<Arc<dyn Destination>> {
    let address = section.required_text(&ADDRESS);
    let words = ["tcp", "udp", "tls", "relp", "relp_tls"];
    let transport = match section.word(&TRANSPORT, &words) {
        "udp" => Transport::Udp,
        "tls" => Transport::Tls,
        "relp" => Transport::Relp,
        "relp_tls" => Transport::RelpTls,
        _ => Transport::Tcp,
    };
    let framing = section.word(&FRAMING, &["octet", "lf"]);
    let peer = Peer::read(section, address, transport);
    let writer = Writer::read(section);
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    if section.has(ADDRESS.name) && port.is_none() {
        section.fault(ADDRESS.name, "it must be \"host:port\"");
        return None;
    }
    if !section.has(ADDRESS.name) {
        return None;
    }
    Some(Arc::new(Syslog {
        writer: writer?,
        peer: peer?,
        counted: transport == Transport::Tls || framing == "octet",
        timeout: context.timeout,
    }))
}

#[async_trait]
impl Destination for Syslog {
    async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError> {
        let deadline = Instant::now() + self.timeout;
        let bytes_max = match self.peer.transport {
            Transport::Udp => DATAGRAM_BYTES_MAX,
            Transport::Relp | Transport::RelpTls => RELP_BYTES_MAX,
            Transport::Tcp | Transport::Tls => STREAM_BYTES_MAX,
        };
        let lines = shipment.members.iter().map(|member| self.writer.line(member));
        let lines: Vec<Vec<u8>> = lines.collect::<Result<_, _>>()?;
        let fits: Vec<&[u8]> =
            lines.iter().map(Vec::as_slice).filter(|line| line.len() <= bytes_max).collect();
        let mut results = self.send(&fits, deadline).await?.into_iter();
        let each = lines.iter().map(|line| {
            if line.len() > bytes_max {
                let said = format!("{} bytes; the transport takes {bytes_max}", line.len());
                return Err(DeliveryError::new(Reason::Refused).with_excerpt(said));
            }
            results.next().unwrap_or_else(|| Err(DeliveryError::new(Reason::InDoubt)))
        });
        Ok(Delivered::Each(each.collect()))
    }
}

// === impl Syslog ===

impl Syslog {
    async fn send(
        &self,
        lines: &[&[u8]],
        deadline: Instant,
    ) -> Result<Vec<Result<Receipt, DeliveryError>>, DeliveryError> {
        if lines.is_empty() {
            return Ok(Vec::new());
        }
        let all = || lines.iter().map(|_| Ok(Receipt::default())).collect();
        if self.peer.transport == Transport::Udp {
            let sent = timeout_at(deadline, self.peer.datagrams(lines)).await;
            return sent
                .map_err(|late| DeliveryError::caused_by(Reason::Connect, late))?
                .map(|()| all());
        }
        let connect = timeout_at(deadline, self.peer.connect()).await;
        let opened = connect.map_err(|late| DeliveryError::caused_by(Reason::Connect, late))??;
        if matches!(self.peer.transport, Transport::Relp | Transport::RelpTls) {
            return relp::send(opened.stream, lines, deadline).await;
        }
        let body = frames(lines, self.counted);
        match timeout_at(deadline, transport::write(opened, &body)).await {
            Ok(result) => result.map(|()| all()),
            Err(late) => Err(DeliveryError::caused_by(Reason::InDoubt, late)),
        }
    }
}

/// RFC 6587: each message behind its length, or each before a line break.
fn frames(lines: &[&[u8]], counted: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for line in lines {
        if counted {
            out.extend_from_slice(format!("{} ", line.len()).as_bytes());
        }
        out.extend_from_slice(line);
        if !counted {
            out.push(b'\n');
        }
    }
    out
}
