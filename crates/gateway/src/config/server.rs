//! `[server]`: where the API listens, and who may use it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use holdfast_model::{
    Chain,
    settings::{Section, Setting},
};

use super::{
    paths,
    tls::TlsFiles,
    tokens::{self, TOKENS, Token},
};

const LISTEN: Setting = Setting::new(
    "listen",
    "\"127.0.0.1:9470\"",
    "The address and port of the API and the metrics. Port 0 takes any free one. An address that \
     other machines reach needs `server.tls`, or `insecure = true`.",
);
const HOSTS: Setting = Setting::new(
    "hosts",
    "[\"localhost\"]",
    "Names without a port that requests may have in `Host`, beside IP addresses. Others are \
     refused, so that no web page reaches the gateway under a name of its own.",
);
const INSECURE: Setting = Setting::new(
    "insecure",
    "false",
    "Whether to listen without TLS where other machines reach it. Tokens and alerts are then \
     readable on the way, unless a proxy or a private network protects them.",
);
const MAX_BODY: Setting = Setting::new(
    "max_body",
    "\"16MiB\"",
    "The largest request body of `POST /v1/alerts` after decompression, 1KiB to 64MiB.",
);
const MAX_LINE: Setting =
    Setting::new("max_line", "\"1MiB\"", "The longest single alert in a request, 1KiB to 1MiB.");

const CALLBACKS_LISTEN: Setting = Setting::optional(
    "listen",
    "\"0.0.0.0:9471\"",
    "The address and port of a listener for `/v1/callbacks/*` alone, which remote systems reach. It \
     has the certificate of `server.tls`. Without it callbacks are served only where \
     `server.listen` is on this machine.",
);
const CALLBACKS_CLIENT_CA: Setting = Setting::optional(
    "client_ca",
    "\"/etc/holdfast/tls/callers.pem\"",
    "Certificates in PEM. A caller may show a certificate that one of them signed, which \
     `callback.client_certificate` of a destination demands. It needs `server.tls`.",
);

pub(super) const SETTINGS: &[&Setting] =
    &[&LISTEN, &HOSTS, &INSECURE, &TOKENS, &MAX_BODY, &MAX_LINE];
pub(super) const CALLBACKS_SETTINGS: &[&Setting] = &[&CALLBACKS_LISTEN, &CALLBACKS_CLIENT_CA];

/// Where the API listens, and who may use it.
#[derive(Clone, Debug)]
pub(crate) struct ServerConfig {
    pub(crate) listen: SocketAddr,
    /// Accepted `Host` names, in lower case and without ports, beside IP addresses.
    pub(crate) hosts: Vec<String>,
    /// Listening without TLS where other machines reach it was asked for.
    pub(crate) insecure: bool,
    pub(crate) tls: Option<TlsFiles>,
    /// The listener for callbacks alone.
    pub(crate) callbacks: Option<SocketAddr>,
    pub(crate) tokens: Vec<Token>,
    /// Largest body after decompression; not less than `line_bytes_max`.
    pub(crate) body_bytes_max: usize,
    /// Longest single alert in a request.
    pub(crate) line_bytes_max: usize,
}

impl ServerConfig {
    pub(super) fn read(section: &Section<'_>) -> Self {
        let insecure = section.bool(&INSECURE);
        // Whether its files work or not: the address is judged by what was meant.
        let protected = insecure || section.has("tls");
        let listen = read_listen(section, &LISTEN, protected);
        let listen = listen.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let mut tls = section.table("tls").and_then(|table| TlsFiles::read(&table));
        let callbacks = section.table("callbacks").and_then(|table| {
            table.required_text(&CALLBACKS_LISTEN);
            let listen = read_listen(&table, &CALLBACKS_LISTEN, protected);
            let ca = paths::read(&table, &CALLBACKS_CLIENT_CA);
            read_callers(&table, ca, section.has("tls"), tls.as_mut());
            table.finish();
            listen
        });
        if callbacks == Some(listen) && listen.port() != 0 {
            section.fault("callbacks", "it is the address of `listen`");
        }
        let body_bytes_max = section.size(&MAX_BODY, 1024..=64 << 20) as usize;
        let line_bytes_max = section.size(&MAX_LINE, 1024..=1 << 20) as usize;
        if body_bytes_max < line_bytes_max {
            section.fault(MAX_BODY.name, "it is less than `max_line`");
        }
        let config = Self {
            listen,
            hosts: read_hosts(section),
            insecure,
            tls,
            callbacks,
            tokens: tokens::read(section),
            body_bytes_max,
            line_bytes_max,
        };
        section.finish();
        config
    }
}

/// Tries the certificates of those who call back.
fn read_callers(
    table: &Section<'_>,
    ca: Option<PathBuf>,
    has_tls: bool,
    tls: Option<&mut TlsFiles>,
) {
    if ca.is_none() {
        return;
    }
    if !has_tls {
        table.fault(CALLBACKS_CLIENT_CA.name, "without `server.tls` no caller shows a certificate");
    }
    let Some(files) = tls else { return };
    files.callbacks_ca = ca;
    if let Err(error) = files.load() {
        table.fault(CALLBACKS_CLIENT_CA.name, Chain(&error));
    }
}

/// `None`: there is none, or a fault.
fn read_listen(section: &Section<'_>, setting: &Setting, protected: bool) -> Option<SocketAddr> {
    let text = section.text(setting)?;
    let Ok(listen) = text.parse::<SocketAddr>() else {
        let expected = "is not an IP address with a port, as in \"127.0.0.1:9470\"";
        section.fault(setting.name, format!("\"{text}\" {expected}"));
        return None;
    };
    if !listen.ip().to_canonical().is_loopback() && !protected {
        let problem = format!(
            "other machines reach {listen}, and there is no TLS; give `server.tls` a certificate, \
             or listen on 127.0.0.1:{port} behind a proxy that has one, or set `insecure = true` \
             if tokens and alerts may be read on the way",
            port = listen.port()
        );
        section.fault(setting.name, problem);
    }
    Some(listen)
}

fn read_hosts(section: &Section<'_>) -> Vec<String> {
    let hosts = section.texts(&HOSTS).unwrap_or_else(|| vec!["localhost".to_owned()]);
    for host in &hosts {
        let clean = host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if host.is_empty() || !clean {
            let problem = format!("\"{host}\" is not a host name without a port");
            section.fault(HOSTS.name, problem);
        }
    }
    hosts.into_iter().map(|host| host.to_ascii_lowercase()).collect()
}
