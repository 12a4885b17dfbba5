use holdfast_model::settings::{Section, Setting};
use reqwest::{
    Method,
    header::{self, HeaderName},
};

use crate::{
    secrets::LiveSecret,
    vendor::{self, BadUrl, fits_a_header},
};

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

pub(super) fn read(section: &Section<'_>) -> Option<Settings> {
    let url = read_url(section);
    let method = match section.word(&METHOD, &["POST", "PUT", "PATCH"]) {
        "PUT" => Method::PUT,
        "PATCH" => Method::PATCH,
        _ => Method::POST,
    };
    let headers = vendor::headers(section, &HEADERS, &[super::IDEMPOTENCY_KEY]);
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
    let secret = vendor::secret(section, &URL)?;
    match vendor::parse_url(&secret.current()) {
        Ok(_) => Some(secret),
        Err(BadUrl::Credentials) => {
            section.fault(URL.name, "it must hold no user and password; use `basic` for them");
            None
        }
        Err(error) => {
            section.fault(URL.name, error);
            None
        }
    }
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
            let secret = vendor::resolve(section, BEARER.name, &bearer?)?;
            fits_a_header(section, BEARER.name, secret).map(Auth::Bearer)
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
    let password = vendor::secret(basic, &PASSWORD);
    basic.finish();
    if bad_user || user.is_empty() { None } else { Some(Auth::Basic { user, password: password? }) }
}
