//! `[server]`: where the API listens, and who may use it.

use std::net::{Ipv4Addr, SocketAddr};

use holdfast_connectors::secrets::LiveSecret;
use holdfast_model::{
    Chain, Name, Secret,
    settings::{Section, Setting},
};

use super::names;

/// Shortest token, in characters. A shorter one can be guessed.
const TOKEN_CHARS_MIN: usize = 16;

const LISTEN: Setting = Setting::new(
    "listen",
    "\"127.0.0.1:9470\"",
    "The address and port of the API and the metrics. Port 0 takes any free one. An address that \
     other machines reach needs `insecure = true`.",
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
const TOKENS: Setting = Setting::optional(
    "tokens",
    "[ { name = \"soc\", role = \"admin\", token = { env = \"HOLDFAST_TOKEN\" } } ]",
    "Who may use the API: a list of { name, role, token }. `role` is \"ingest\" (send alerts), \
     \"read\" (see events, lanes and dead letters) or \"admin\" (everything); `token` is a secret \
     of at least 16 characters. Without any, the first start writes a random admin token to \
     `admin.token` in the state folder.",
);
const MAX_BODY: Setting = Setting::new(
    "max_body",
    "\"16MiB\"",
    "The largest request body of `POST /v1/alerts` after decompression, 1KiB to 64MiB.",
);
const MAX_LINE: Setting =
    Setting::new("max_line", "\"1MiB\"", "The longest single alert in a request, 1KiB to 1MiB.");

const NAME: Setting = Setting::optional(
    "name",
    "\"soc\"",
    "Whose token it is, for logs and the audit: 1 to 64 characters of A-Z, a-z, 0-9, _ and -.",
);
const ROLE: Setting = Setting::optional(
    "role",
    "\"admin\"",
    "What it may do: \"ingest\" (send alerts), \"read\" (see events, lanes and dead letters) or \
     \"admin\" (everything).",
);
const TOKEN: Setting = Setting::optional(
    "token",
    "{ env = \"HOLDFAST_TOKEN\" }",
    "The token, at least 16 visible ASCII characters. A secret.",
);

pub(super) const SETTINGS: &[&Setting] =
    &[&LISTEN, &HOSTS, &INSECURE, &TOKENS, &MAX_BODY, &MAX_LINE];
pub(super) const TOKEN_SETTINGS: &[&Setting] = &[&NAME, &ROLE, &TOKEN];

/// Where the API listens, and who may use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerConfig {
    pub(crate) listen: SocketAddr,
    /// Accepted `Host` names, in lower case and without ports, beside IP addresses.
    pub(crate) hosts: Vec<String>,
    /// Listening without TLS where other machines reach it was asked for.
    pub(crate) insecure: bool,
    pub(crate) tokens: Vec<Token>,
    /// Largest body after decompression; not less than `line_bytes_max`.
    pub(crate) body_bytes_max: usize,
    /// Longest single alert in a request.
    pub(crate) line_bytes_max: usize,
}

/// Who a token belongs to and what it may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) name: Name,
    pub(crate) role: Role,
    pub(crate) secret: Secret,
}

/// What a caller may do. `Admin` may do everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Ingest,
    Read,
    Admin,
}

impl ServerConfig {
    pub(super) fn read(section: &Section<'_>) -> Self {
        let insecure = section.bool(&INSECURE);
        let listen = read_listen(section, insecure);
        let body_bytes_max = section.size(&MAX_BODY, 1024..=64 << 20) as usize;
        let line_bytes_max = section.size(&MAX_LINE, 1024..=1 << 20) as usize;
        if body_bytes_max < line_bytes_max {
            section.fault(MAX_BODY.name, "it is less than `max_line`");
        }
        let config = Self {
            listen,
            hosts: read_hosts(section),
            insecure,
            tokens: read_tokens(section),
            body_bytes_max,
            line_bytes_max,
        };
        if section.node("tls").is_some() {
            let problem = "this version has no TLS; remove the key, and listen on 127.0.0.1 behind \
                           a proxy that has it";
            section.fault("tls", problem);
        }
        section.finish();
        config
    }
}

fn read_listen(section: &Section<'_>, insecure: bool) -> SocketAddr {
    // Only seen when there is a fault, so never used.
    let none = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let Some(text) = section.text(&LISTEN) else { return none };
    let Ok(listen) = text.parse::<SocketAddr>() else {
        let expected = "is not an IP address with a port, as in \"127.0.0.1:9470\"";
        section.fault(LISTEN.name, format!("\"{text}\" {expected}"));
        return none;
    };
    if !listen.ip().to_canonical().is_loopback() && !insecure {
        let problem = format!(
            "other machines reach {listen}, and this version has no TLS; listen on \
             127.0.0.1:{port} behind a proxy that has it, or set `insecure = true` if tokens and \
             alerts may be read on the way",
            port = listen.port()
        );
        section.fault(LISTEN.name, problem);
    }
    listen
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

fn read_tokens(section: &Section<'_>) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    for table in section.tables(TOKENS.name) {
        let Some(token) = read_token(&table) else { continue };
        if tokens.iter().any(|other| other.name == token.name) {
            table.fault(NAME.name, format!("there is a token `{}` already", token.name));
        } else if let Some(other) = tokens.iter().find(|other| other.secret == token.secret) {
            let problem = format!("`{}` and `{}` have the same token", other.name, token.name);
            table.fault(TOKEN.name, problem);
        }
        tokens.push(token);
    }
    tokens
}

fn read_token(table: &Section<'_>) -> Option<Token> {
    let given = table.required_text(&NAME);
    let name = if given.is_empty() { None } else { names::check(table, NAME.name, given) };
    let role = match table.required_text(&ROLE) {
        "ingest" => Some(Role::Ingest),
        "read" => Some(Role::Read),
        "admin" => Some(Role::Admin),
        "" => None,
        other => {
            let allowed = "is not one of \"ingest\", \"read\", \"admin\"";
            table.fault(ROLE.name, format!("\"{other}\" {allowed}"));
            None
        }
    };
    let secret = read_secret(table, given);
    table.finish();
    Some(Token { name: name?, role: role?, secret: secret? })
}

/// The token of `name`, which stands for it in messages.
fn read_secret(table: &Section<'_>, name: &str) -> Option<Secret> {
    if !table.has(TOKEN.name) {
        table.fault("", format!("`{}` is missing: {}", TOKEN.name, TOKEN.doc));
    }
    let spec = table.secret(&TOKEN)?;
    let secret = match LiveSecret::resolve(&spec) {
        Ok(secret) => secret.current(),
        Err(error) => {
            table.fault(TOKEN.name, Chain(&error));
            return None;
        }
    };
    // It has to fit into a header, RFC 6750 section 2.1.
    if !secret.expose().bytes().all(|b| b.is_ascii_graphic()) {
        let problem = format!("the token of `{name}` holds more than visible ASCII characters");
        table.fault(TOKEN.name, problem);
        return None;
    }
    if secret.expose().len() < TOKEN_CHARS_MIN {
        let problem = format!("the token of `{name}` has fewer than {TOKEN_CHARS_MIN} characters");
        table.fault(TOKEN.name, problem);
        return None;
    }
    Some(secret)
}
