use holdfast_model::settings::{Section, Setting};
use reqwest::{
    Method,
    header::{self, HeaderName},
};

use super::{
    Context, signing,
    templates::{self, Templates},
};
use crate::{
    message::Compiled,
    secrets::LiveSecret,
    vendor::{self, Auth, BadUrl, fits_a_header},
};

/// Longest method, in characters. The longest that is registered has 17.
const METHOD_CHARS_MAX: usize = 32;

pub(super) const URL: Setting = Setting::optional(
    "url",
    "\"https://collector.example/alerts\"",
    "Where to send to, http or https. It may be a secret, because many addresses hold a token.",
);

pub(super) const METHOD: Setting = Setting::new(
    "method",
    "\"POST\"",
    "How to send: any method but CONNECT and TRACE. GET and HEAD carry no body.",
);

pub(super) const HEADERS: Setting = Setting::optional(
    "headers",
    "{ X-Team = \"soc\", X-Api-Key = { file = \"/etc/holdfast/secrets/api-key\" } }",
    "Headers of every request. Each value is a secret in any of its four forms; a text with {{ }} is \
     a template as `body` is, of which at most 1 KiB comes out.",
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
    "How bodies are compressed: \"none\", \"gzip\" or \"zstd\". The receiver must understand it.",
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
    pub(super) compression: Compression,
    pub(super) signing: Vec<LiveSecret>,
    pub(super) templates: Templates,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

pub(super) fn read(section: &Section<'_>, context: &Context) -> Option<Settings> {
    let url = read_url(section);
    let method = read_method(section);
    let signing = signing::read(section);
    let headers = read_headers(section);
    let body = templates::read_body(section);
    let auth = read_auth(section);
    let compression = match section.word(&COMPRESSION, &["none", "gzip", "zstd"]) {
        "gzip" => Compression::Gzip,
        "zstd" => Compression::Zstd,
        _ => Compression::None,
    };
    let (method, auth, body) = (method?, auth?, body?);
    let Headers { fixed, templates } = headers?;
    let mut names =
        fixed.iter().map(|(name, _)| name).chain(templates.iter().map(|(name, _)| name));
    let authorized = names.any(|name| name == header::AUTHORIZATION);
    let mut all_good = true;
    if !matches!(auth, Auth::None) && authorized {
        section.fault(HEADERS.name, "`Authorization` is set by `bearer` or `basic` already");
        all_good = false;
    }
    if is_bodiless(&method) && (body.is_some() || context.batched) {
        let problem = format!("a {method} carries no body: leave out `body` and `batch`");
        section.fault(METHOD.name, problem);
        all_good = false;
    }
    let templates = Templates::new(body, templates);
    let (url, signing) = (url?, signing?);
    let settings = Settings { url, method, headers: fixed, auth, compression, signing, templates };
    all_good.then_some(settings)
}

/// RFC 9110 sections 9.3.1 and 9.3.2: a body there means nothing, and some receivers refuse it.
pub(super) fn is_bodiless(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

fn read_method(section: &Section<'_>) -> Option<Method> {
    let text = section.text(&METHOD)?;
    let method = text.parse::<Method>().ok().filter(|_| text.len() <= METHOD_CHARS_MAX);
    let upper = !text.is_empty() && !text.contains(|c: char| c.is_ascii_lowercase());
    match method {
        Some(Method::CONNECT | Method::TRACE) | None => {
            section.fault(METHOD.name, format!("\"{text}\" is no method to send with"));
            None
        }
        Some(_) if !upper => {
            section.fault(METHOD.name, "methods are written in capitals");
            None
        }
        method => method,
    }
}

struct Headers {
    fixed: Vec<(HeaderName, LiveSecret)>,
    templates: Vec<(HeaderName, Compiled)>,
}

fn read_headers(section: &Section<'_>) -> Option<Headers> {
    let mut headers = Headers { fixed: Vec::new(), templates: Vec::new() };
    let given = section.has(HEADERS.name);
    let Some(table) = section.table(HEADERS.name) else { return (!given).then_some(headers) };
    let mut own = vec![super::IDEMPOTENCY_KEY, templates::NOTE];
    if section.has(signing::SIGNING_SECRET.name) {
        own.extend([signing::ID, signing::TIMESTAMP, signing::SIGNATURE]);
    }
    let mut all_good = true;
    for (name, node) in table.entries() {
        let header = vendor::header_name(&table, name, &own);
        let found = match templates::source(node) {
            Some(source) => Compiled::read(&table, name, source)
                .zip(header)
                .map(|(template, header)| headers.templates.push((header, template))),
            None => vendor::header_value(&table, name, node)
                .zip(header)
                .map(|(value, header)| headers.fixed.push((header, value))),
        };
        all_good &= found.is_some();
    }
    all_good.then_some(headers)
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
            fits_a_header(section, BEARER.name, secret).map(Auth::bearer)
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
