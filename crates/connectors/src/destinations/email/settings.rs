//! The keys of the configuration.

use std::sync::Arc;

use holdfast_model::{
    Destination,
    settings::{Section, Setting},
};
use lettre::transport::smtp::{
    client::{TlsParameters, TlsParametersBuilder},
    extension::ClientId,
};

use super::{Email, Login, Security, compose::Mailbox};
use crate::{
    destinations::Context,
    message::{self, Template},
    vendor,
};

pub(super) const ALL: &[&Setting] =
    &[&HOST, &PORT, &TLS, &USER, &PASSWORD, &HELLO, &FROM, &TO, &message::TEMPLATE];

const HOST: Setting = Setting::optional(
    "host",
    "\"smtp.example.org\"",
    "The mail server's name, as its certificate has it.",
);

const PORT: Setting = Setting::optional(
    "port",
    "587",
    "Its port, 1 to 65535. Default: 587 with STARTTLS, 465 with TLS, 25 with none.",
);

const TLS: Setting = Setting::new(
    "tls",
    "\"starttls\"",
    "\"starttls\" (after the greeting; without it nothing is sent), \"tls\" (from the first byte) or \"none\" (in the clear; no password is sent then).",
);

const USER: Setting = Setting::optional(
    "user",
    "\"holdfast@example.org\"",
    "The user to log in as, with `password`.",
);

const PASSWORD: Setting = Setting::optional(
    "password",
    "{ file = \"/etc/holdfast/secrets/smtp\" }",
    "The password of `user`. A secret.",
);

const HELLO: Setting = Setting::optional(
    "hello",
    "\"wazuh.example.org\"",
    "The name this machine greets with. Default: the domain of `from`.",
);

const FROM: Setting =
    Setting::optional("from", "\"Holdfast <holdfast@example.org>\"", "The sender.");

const TO: Setting = Setting::optional("to", "[\"soc@example.org\"]", "The recipients, 1 to 100.");

const RECIPIENTS_MAX: usize = 100;

pub(super) fn build(section: &Section<'_>, context: &Context) -> Option<Arc<dyn Destination>> {
    Some(Arc::new(read(section, context, |tls| tls)?))
}

/// `trust` can add roots, for a test's own.
pub(super) fn read(
    section: &Section<'_>,
    context: &Context,
    trust: impl FnOnce(TlsParametersBuilder) -> TlsParametersBuilder,
) -> Option<Email> {
    let host = section.required_text(&HOST).trim().to_owned();
    let port = section.integer(&PORT, 1..=65535);
    let word = section.word(&TLS, &["starttls", "tls", "none"]);
    let login = login(section, word);
    let from = from(section);
    let to = recipients(section);
    let hello = hello(section);
    let template = Template::read(section);
    let from = from?;
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
        if section.has(HOST.name) {
            section.fault(HOST.name, "it must be a name or an address");
        }
        return None;
    }
    let default_port = match word {
        "tls" => 465,
        "none" => 25,
        _ => 587,
    };
    let port = match port {
        Some(port) => u16::try_from(port).ok()?,
        None if section.has(PORT.name) => return None,
        None => default_port,
    };
    let security = if word == "none" {
        Security::None
    } else {
        let parameters = trust(TlsParameters::builder(host.clone())).build_rustls();
        let parameters = parameters.map_err(|error| section.fault(TLS.name, error)).ok()?;
        if word == "tls" { Security::Tls(parameters) } else { Security::StartTls(parameters) }
    };
    let hello = hello?.unwrap_or_else(|| from.email.domain().to_owned());
    Some(Email {
        host,
        port,
        security,
        login: login?,
        hello: ClientId::Domain(hello),
        from,
        to: to?,
        template: template?,
        timeout: context.timeout,
    })
}

/// `None` is a fault, `Some(None)` no log-in.
fn login(section: &Section<'_>, tls: &str) -> Option<Option<Login>> {
    let password = vendor::optional_secret(section, &PASSWORD);
    let user = section.text(&USER);
    match (section.has(USER.name), section.has(PASSWORD.name)) {
        (false, false) => Some(None),
        (true, true) if tls == "none" => {
            section.fault(PASSWORD.name, "a password is not sent without TLS");
            None
        }
        (true, true) => Some(Some(Login { user: user?.to_owned(), password: password? })),
        _ => {
            section.fault("", "`user` and `password` need each other");
            None
        }
    }
}

fn from(section: &Section<'_>) -> Option<Mailbox> {
    let text = section.required_text(&FROM);
    if text.is_empty() {
        return None;
    }
    mailbox(section, &FROM, text)
}

fn recipients(section: &Section<'_>) -> Option<Vec<Mailbox>> {
    if !section.has(TO.name) {
        section.fault("", format!("`{}` is missing: {}", TO.name, TO.doc));
    }
    let texts = section.texts(&TO)?;
    if !(1..=RECIPIENTS_MAX).contains(&texts.len()) {
        section.fault(TO.name, format!("there must be 1 to {RECIPIENTS_MAX}"));
        return None;
    }
    // All of them first, so that all faults are reported.
    let read: Vec<_> = texts.iter().map(|text| mailbox(section, &TO, text)).collect();
    read.into_iter().collect()
}

fn mailbox(section: &Section<'_>, setting: &Setting, text: &str) -> Option<Mailbox> {
    let read = text.parse::<Mailbox>();
    let problem = |error| format!("\"{}\" cannot be used: {error}", text.escape_debug());
    read.map_err(|error| section.fault(setting.name, problem(error))).ok()
}

/// `None` is a fault, `Some(None)` the default.
fn hello(section: &Section<'_>) -> Option<Option<String>> {
    let Some(name) = section.text(&HELLO) else {
        return (!section.has(HELLO.name)).then_some(None);
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '[' | ']' | ':');
    if name.is_empty() || !name.chars().all(fits) {
        section.fault(HELLO.name, "it must be a machine's name");
        return None;
    }
    Some(Some(name.to_owned()))
}
