use holdfast_model::{
    Secret,
    settings::{Node, SecretSpec, Section, Setting},
};
use reqwest::{
    Method, Url,
    header::{self, HeaderName},
};

use crate::secrets::{LiveSecret, SecretError};

pub(super) const URL: Setting = Setting::optional(
    "url",
    "\"https://collector.example/alerts\"",
    "Where to send to, http or https. It may be a secret, because many addresses hold a token.",
);

pub(super) const METHOD: Setting =
    Setting::new("method", "\"POST\"", "How to send: \"POST\", \"PUT\" or \"PATCH\".");

pub(super) const HEADERS: Setting = Setting::optional(
    "headers",
    "{ X-Team = \"soc\", X-Api-Key = { file = \"/etc/holdfast/secrets/api-key\" } }",
    "Headers of every request. Each value is a secret in any of its four forms.",
);

pub(super) const BEARER: Setting = Setting::optional(
    "bearer",
    "{ file = \"/etc/holdfast/secrets/collector\" }",
    "A token for `Authorization: Bearer` (RFC 6750). A secret.",
);

pub(super) const BASIC: Setting = Setting::optional(
    "basic",
    "{ user = \"holdfast\", password = { file = \"/etc/holdfast/secrets/collector\" } }",
    "User and password for `Authorization: Basic` (RFC 7617). The password is a secret.",
);

pub(super) const COMPRESSION: Setting = Setting::new(
    "compression",
    "\"none\"",
    "How bodies are compressed: \"none\" or \"gzip\". The receiver must understand it.",
);

const USER: Setting =
    Setting::optional("user", "\"holdfast\"", "The user's name, without a colon.");

const PASSWORD: Setting = Setting::optional(
    "password",
    "{ file = \"/etc/holdfast/secrets/collector\" }",
    "The user's password. A secret.",
);

/// Headers that say how a request is framed, or that every request has already.
const OURS: [HeaderName; 11] = [
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::USER_AGENT,
    super::IDEMPOTENCY_KEY,
];

/// Everything a request is made from that the configuration decides.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) url: LiveSecret,
    pub(super) method: Method,
    pub(super) headers: Vec<(HeaderName, LiveSecret)>,
    pub(super) auth: Auth,
    pub(super) gzip: bool,
}

#[derive(Debug)]
pub(super) enum Auth {
    None,
    Bearer(LiveSecret),
    Basic { user: String, password: LiveSecret },
}

/// Why an address cannot be used. It does not repeat the address, which may be a secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadUrl {
    #[error("it is not an address: {0}")]
    Syntax(String),
    #[error("it must begin with http:// or https://")]
    Scheme,
    #[error("it must hold no user and password; use `basic` for them")]
    Credentials,
}

pub(super) fn read(section: &Section<'_>) -> Option<Settings> {
    let url = read_url(section);
    let method = match section.word(&METHOD, &["POST", "PUT", "PATCH"]) {
        "PUT" => Method::PUT,
        "PATCH" => Method::PATCH,
        _ => Method::POST,
    };
    let headers = read_headers(section);
    let auth = read_auth(section);
    let gzip = section.word(&COMPRESSION, &["none", "gzip"]) == "gzip";
    let (headers, auth) = (headers?, auth?);
    if !matches!(auth, Auth::None) && headers.iter().any(|(name, _)| name == header::AUTHORIZATION)
    {
        section.fault(HEADERS.name, "`Authorization` is set by `bearer` or `basic` already");
        return None;
    }
    Some(Settings { url: url?, method, headers, auth, gzip })
}

fn read_url(section: &Section<'_>) -> Option<LiveSecret> {
    if !section.has(URL.name) {
        section.fault("", format!("`{}` is missing: {}", URL.name, URL.doc));
    }
    let spec = section.secret(&URL)?;
    let secret = resolve(section, URL.name, &spec)?;
    match parse_url(&secret.current()) {
        Ok(_) => Some(secret),
        Err(error) => {
            section.fault(URL.name, error);
            None
        }
    }
}

pub(super) fn parse_url(secret: &Secret) -> Result<Url, BadUrl> {
    let url: Url = secret.expose().parse().map_err(|error| BadUrl::Syntax(format!("{error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(BadUrl::Scheme);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(BadUrl::Credentials);
    }
    Ok(url)
}

fn read_headers(section: &Section<'_>) -> Option<Vec<(HeaderName, LiveSecret)>> {
    let given = section.has(HEADERS.name);
    let Some(table) = section.table(HEADERS.name) else {
        return if given { None } else { Some(Vec::new()) };
    };
    let read_one = |(name, node): &(String, Node)| {
        let Ok(header) = name.parse::<HeaderName>() else {
            table.fault(name, "it is not a header's name");
            return None;
        };
        if OURS.contains(&header) {
            table.fault(name, "this header is Holdfast's own");
            return None;
        }
        let spec = table.secret_at(name, node)?;
        let secret = resolve(&table, name, &spec)?;
        fits_a_header(&table, name, &secret)?;
        Some((header, secret))
    };
    // All of them first, so that all faults are reported.
    let headers: Vec<_> = table.entries().iter().map(read_one).collect();
    headers.into_iter().collect()
}

fn read_auth(section: &Section<'_>) -> Option<Auth> {
    let bearer = section.secret(&BEARER);
    let basic = section.table(BASIC.name);
    match (section.has(BEARER.name), section.has(BASIC.name)) {
        (false, false) => Some(Auth::None),
        (true, true) => {
            section.fault(BASIC.name, "give `bearer` or `basic`, not both");
            None
        }
        (true, false) => {
            let secret = resolve(section, BEARER.name, &bearer?)?;
            fits_a_header(section, BEARER.name, &secret)?;
            Some(Auth::Bearer(secret))
        }
        (false, true) => read_basic(&basic?),
    }
}

fn read_basic(basic: &Section<'_>) -> Option<Auth> {
    let user = basic.required_text(&USER).to_owned();
    // RFC 7617 section 2: the first colon ends the user's name.
    let bad_user = user.contains(|c: char| c == ':' || c.is_control());
    if bad_user {
        basic.fault(USER.name, "it must hold no colon and no control character");
    }
    if !basic.has(PASSWORD.name) {
        basic.fault("", format!("`{}` is missing: {}", PASSWORD.name, PASSWORD.doc));
    }
    let password = basic.secret(&PASSWORD).and_then(|spec| resolve(basic, PASSWORD.name, &spec));
    basic.finish();
    if bad_user || user.is_empty() { None } else { Some(Auth::Basic { user, password: password? }) }
}

fn resolve(section: &Section<'_>, name: &str, spec: &SecretSpec) -> Option<LiveSecret> {
    report(section, name, LiveSecret::resolve(spec))
}

fn fits_a_header(section: &Section<'_>, name: &str, secret: &LiveSecret) -> Option<()> {
    report(section, name, secret.header("").map(drop))
}

fn report<T>(section: &Section<'_>, name: &str, result: Result<T, SecretError>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            section.fault(name, holdfast_model::Chain(&error));
            None
        }
    }
}
