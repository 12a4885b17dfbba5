//! The Wazuh manager's own queue socket: what is sent there is decoded and matched by its rules as
//! if an agent had sent it.
//!
//! Promises: one datagram an event, whole or not at all; a lookup's answer is byte for byte what
//! Wazuh's own integration script would send, attributed to the alert's agent; nothing that the
//! manager would cut is sent. A full socket is waited for, up to the attempt's limit. Each attempt
//! opens the socket anew, so a manager that was restarted is found again.
//!
//! Does not promise that analysisd keeps it: it acknowledges nothing, and drops silently when its
//! own queues are full. An event without an alert behind it appears as the manager's.
//!
//! Source: Wazuh 4.14, `integrations/virustotal.py` and `framework/wazuh/core/wazuh_queue.py`.

#[cfg(test)]
mod tests;

use std::{
    io::{self, ErrorKind},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use holdfast_model::{
    DeliveryError, Destination, Kind as EventKind, Member, Reason, Receipt, Shipment,
    delivery::Delivered,
    settings::{Section, Setting},
};
use rustix::io::Errno;
use serde_json::Value;
use tokio::{net::UnixDatagram, time::timeout};

use super::{Context, Kind};
use crate::{
    body,
    message::{TEMPLATE, Template},
    wazuh_event::{self, Agent, EVENT_BYTES_MAX},
};

pub(super) const KIND: Kind = Kind {
    name: "wazuh_socket",
    summary: "Puts events into the Wazuh manager on this machine, through its queue socket.",
    example: r#"
path = "/var/ossec/queue/sockets/queue"
"#,
    settings: &[&PATH, &LOCATION, &TEMPLATE],
    batches: false,
    http: false,
    build,
};

const PATH: Setting = Setting::new(
    "path",
    "\"/var/ossec/queue/sockets/queue\"",
    "The manager's queue socket, from the root. The gateway must be in the group `wazuh` to write to it.",
);

const LOCATION: Setting = Setting::optional(
    "location",
    "\"holdfast\"",
    "The `location` of the event in Wazuh, 1 to 256 characters. Default: of a lookup's answer its integration, as `virustotal`; of anything else `holdfast`.",
);

const LOCATION_CHARS_MAX: usize = 256;

/// analysisd's queue for what needs no decoder of its own.
const QUEUE: &str = "1";

#[derive(Debug)]
struct WazuhSocket {
    path: PathBuf,
    location: Option<String>,
    template: Template,
    timeout: Duration,
}

#[derive(Debug, thiserror::Error)]
enum SocketError {
    #[error("cannot reach Wazuh's queue socket {path}{advice}")]
    Connect { path: PathBuf, advice: &'static str, source: io::Error },
    #[error("cannot write to Wazuh's queue socket {path}")]
    Send { path: PathBuf, source: io::Error },
    #[error("Wazuh's queue socket {path} is full and nobody reads it; nothing was sent")]
    Full { path: PathBuf },
}

fn build(section: &Section<'_>, context: &Context) -> Option<Arc<dyn Destination>> {
    let path = PathBuf::from(section.text(&PATH).unwrap_or_default());
    let location = section.text(&LOCATION).map(str::to_owned);
    let template = Template::read(section);
    let mut fit = true;
    if !path.is_absolute() {
        section.fault(PATH.name, "it must begin at the root, with a `/`");
        fit = false;
    }
    if let Some(location) = &location {
        let clean = !location.contains(char::is_control);
        if !(1..=LOCATION_CHARS_MAX).contains(&location.chars().count()) || !clean {
            let problem = "it must have 1 to 256 characters, and no line break";
            section.fault(LOCATION.name, problem);
            fit = false;
        }
    }
    let template = template?;
    fit.then(|| {
        let timeout = context.timeout;
        Arc::new(WazuhSocket { path, location, template, timeout }) as Arc<dyn Destination>
    })
}

#[async_trait]
impl Destination for WazuhSocket {
    async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError> {
        let datagram = self.datagram(shipment.only()?)?;
        self.send(datagram.as_bytes()).await?;
        Ok(Delivered::All(Receipt::default()))
    }

    fn acts_on_wazuh(&self) -> bool {
        true
    }

    fn take_template_errors(&self) -> u64 {
        self.template.take_errors()
    }
}

// === impl WazuhSocket ===

impl WazuhSocket {
    fn datagram(&self, member: &Member) -> Result<String, DeliveryError> {
        let text = wazuh_event::text(&self.template, member)?;
        let datagram = format!("{QUEUE}:{}:{text}", self.place(member));
        if datagram.len() > EVENT_BYTES_MAX {
            let said = format!(
                "it would be {} bytes, and Wazuh reads {EVENT_BYTES_MAX} at most; give a `template` that says less",
                datagram.len()
            );
            return Err(DeliveryError::new(Reason::TooLarge).with_excerpt(said));
        }
        Ok(datagram)
    }

    /// Agent and location, as analysisd takes them apart again.
    fn place(&self, member: &Member) -> String {
        let answer = match member.event.kind {
            EventKind::Lookup => body::parse(&member.event.body),
            _ => Value::Null,
        };
        let integration = wazuh_event::integration_of(&answer);
        let location = escaped(self.location.as_deref().unwrap_or(integration));
        // Wazuh's script says of nobody's alert that a question failed.
        let failed = answer.get(integration).is_some_and(|said| said.get("error").is_some());
        let agent = wazuh_event::alert_of(member)
            .and_then(|alert| wazuh_event::agent_of(&body::parse(&alert.body)));
        match agent {
            Some(agent) if agent.id != "000" && !failed => {
                format!("{}->{location}", escaped(&attribution(&agent)))
            }
            _ => location,
        }
    }

    async fn send(&self, datagram: &[u8]) -> Result<(), SocketError> {
        let path = || self.path.clone();
        let socket = UnixDatagram::unbound()
            .and_then(|socket| socket.connect(&self.path).map(|()| socket))
            .map_err(|source| SocketError::connect(path(), source))?;
        // A datagram leaves whole or not at all, so giving up leaves nothing in doubt.
        match timeout(self.timeout, socket.send(datagram)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(source)) => Err(SocketError::Send { path: path(), source }),
            Err(_) => Err(SocketError::Full { path: path() }),
        }
    }
}

fn attribution(agent: &Agent) -> String {
    let Agent { id, name, ip } = agent;
    let clean = |text: &str| text.replace(char::is_control, " ");
    format!("[{}] ({}) {}", clean(id), clean(name), clean(ip.as_deref().unwrap_or("any")))
}

/// A colon ends the location, and a bar escapes.
fn escaped(text: &str) -> String {
    text.replace('|', "||").replace(':', "|:")
}

// === impl SocketError ===

impl SocketError {
    fn connect(path: PathBuf, source: io::Error) -> Self {
        let advice = match source.kind() {
            ErrorKind::PermissionDenied => "; the gateway must be in the group `wazuh`",
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => "; is the manager running?",
            _ => "",
        };
        Self::Connect { path, advice, source }
    }
}

impl From<SocketError> for DeliveryError {
    fn from(error: SocketError) -> Self {
        let reason = match &error {
            SocketError::Connect { source, .. } => match source.kind() {
                ErrorKind::PermissionDenied
                | ErrorKind::InvalidInput
                | ErrorKind::NotADirectory => Reason::Misconfigured,
                // It is a socket of another type.
                _ if Errno::from_io_error(source) == Some(Errno::PROTOTYPE) => {
                    Reason::Misconfigured
                }
                _ => Reason::Connect,
            },
            SocketError::Send { source, .. } => match Errno::from_io_error(source) {
                Some(Errno::MSGSIZE) => Reason::TooLarge,
                Some(Errno::NOBUFS | Errno::AGAIN | Errno::NOMEM) => Reason::ServerFault,
                // It went away between connecting and writing.
                _ => Reason::Connect,
            },
            SocketError::Full { .. } => Reason::ServerFault,
        };
        let said = error.to_string();
        Self::caused_by(reason, error).with_excerpt(said)
    }
}
