//! What every vendor's HTTP API has in common: an address, credentials, one client, and answers
//! whose secrets are masked before anybody sees them.
//!
//! Promises: a secret that changes in its file is used from the next request on; no answer's
//! excerpt repeats one. Does not promise any meaning of an answer: that is the vendor's file.

use std::{error::Error, ops::RangeInclusive, time::Duration};

use holdfast_model::{
    Chain, DeliveryError, Reason, Secret,
    settings::{Node, SecretSpec, Section, Setting},
};
use reqwest::{
    Method, Request, Url,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
use serde_json::Value;

pub(crate) use crate::auth::Auth;
use crate::{
    destinations::Context,
    http::{self, Answer},
    secrets::{LiveSecret, Place, SecretError},
};

/// Most of a vendor's answer that is read where its body means something, in bytes.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Headers that say how a request is framed, or that every request has already.
const FRAMING: [HeaderName; 10] = [
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
];

/// See [`holdfast_model::Destination::search_lag`].
pub(crate) const SEARCH_LAG: Setting = Setting::new(
    "search_lag",
    "\"15s\"",
    "How long a search there may miss what was just made. An event that may have arrived (no answer came, or the gateway was killed) is searched for, and made again if it is not there, no earlier than this. 0s to 1h.",
);

pub(crate) fn search_lag(section: &Section<'_>) -> Duration {
    section.duration(&SEARCH_LAG, Duration::ZERO..=Duration::from_secs(3600))
}

/// One vendor's API.
#[derive(Debug)]
pub(crate) struct Api {
    client: http::Client,
    address: LiveSecret,
    auth: Auth,
}

/// Why an address cannot be used. It does not repeat the address, which may be a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadUrl {
    #[error("it is not an address: {0}")]
    Syntax(String),
    #[error("it must begin with http:// or https://")]
    Scheme,
    #[error("it must hold no user and password; there are settings for them")]
    Credentials,
}

pub(crate) fn parse_url(secret: &Secret) -> Result<Url, BadUrl> {
    let url: Url = secret.expose().parse().map_err(|error| BadUrl::Syntax(format!("{error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(BadUrl::Scheme);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(BadUrl::Credentials);
    }
    Ok(url)
}

/// Reads a secret that need not be given.
pub(crate) fn optional_secret(section: &Section<'_>, setting: &Setting) -> Option<LiveSecret> {
    resolve(section, setting.name, &section.secret(setting)?)
}

/// Takes a secret from its place, and reports at `name` why there is none.
pub(crate) fn resolve(section: &Section<'_>, name: &str, spec: &SecretSpec) -> Option<LiveSecret> {
    report(section, name, LiveSecret::resolve(spec))
}

/// Reports a secret that cannot be sent in a header.
pub(crate) fn fits_a_header(
    section: &Section<'_>,
    name: &str,
    secret: LiveSecret,
) -> Option<LiveSecret> {
    report(section, name, secret.header(""))?;
    Some(secret)
}

/// Reads the operator's own headers, each a secret. Those that frame a request, and the sender's
/// `own`, are refused. All of them are read first, so that all faults are reported.
pub(crate) fn headers(
    section: &Section<'_>,
    setting: &Setting,
    own: &[HeaderName],
) -> Option<Vec<(HeaderName, LiveSecret)>> {
    let given = section.has(setting.name);
    let Some(table) = section.table(setting.name) else { return (!given).then(Vec::new) };
    let one = |(name, node): &(String, Node)| {
        let header = header_name(&table, name, own)?;
        Some((header, header_value(&table, name, node)?))
    };
    let headers: Vec<_> = table.entries().iter().map(one).collect();
    headers.into_iter().collect()
}

/// Reads the name of an operator's own header; see [`headers`].
pub(crate) fn header_name(
    table: &Section<'_>,
    name: &str,
    own: &[HeaderName],
) -> Option<HeaderName> {
    let Ok(header) = name.parse::<HeaderName>() else {
        table.fault(name, "it is not a header's name");
        return None;
    };
    if FRAMING.contains(&header) || own.contains(&header) {
        table.fault(name, "this header is Holdfast's own");
        return None;
    }
    Some(header)
}

/// Reads the value of an operator's own header, a secret.
pub(crate) fn header_value(table: &Section<'_>, name: &str, node: &Node) -> Option<LiveSecret> {
    let secret = resolve(table, name, &table.secret_at(name, node)?)?;
    fits_a_header(table, name, secret)
}

/// Makes the client for an address, with what the operator says about the way there. Reports why
/// there is none, and an address that may not be reached.
pub(crate) fn client(
    section: &Section<'_>,
    context: &Context,
    address: &LiveSecret,
) -> Option<http::Client> {
    let url = parse_url(&address.current()).map_err(|error| section.fault("", error)).ok()?;
    // An address in a file may become https later.
    let tls = url.scheme() == "https" || matches!(address.place(), Place::File(_));
    let network = context.network.clone();
    let client = http::client(http::Settings { timeout: context.timeout, tls, network });
    let client = client.map_err(|error| section.fault("", Chain(&error))).ok()?;
    client.permits(&url).map_err(|error| section.fault("", Chain(&error))).ok()?;
    Some(client)
}

/// What a server may repeat of an address: what it saw of it.
pub(crate) fn seen_of(url: &Url) -> Secret {
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    Secret::new(format!("{}{query}", url.path()))
}

fn report<T>(section: &Section<'_>, name: &str, result: Result<T, SecretError>) -> Option<T> {
    result.map_err(|error| section.fault(name, Chain(&error))).ok()
}

/// A text, if it has so many characters.
pub(crate) fn of_length(
    section: &Section<'_>,
    setting: &Setting,
    text: &str,
    chars: RangeInclusive<usize>,
) -> Option<String> {
    if !chars.contains(&text.chars().count()) {
        let (least, most) = (chars.start(), chars.end());
        section.fault(setting.name, format!("it must have {least} to {most} characters"));
        return None;
    }
    Some(text.to_owned())
}

/// Reads a list of at most `count_max` texts that are not empty; without it none. `None`: a fault
/// was reported.
pub(crate) fn texts(
    section: &Section<'_>,
    setting: &Setting,
    count_max: usize,
) -> Option<Vec<String>> {
    let given = section.has(setting.name);
    let Some(texts) = section.texts(setting) else { return (!given).then(Vec::new) };
    if texts.len() > count_max || texts.iter().any(|text| text.trim().is_empty()) {
        let name = setting.name;
        section.fault(name, format!("at most {count_max} {name} that are not empty"));
        return None;
    }
    Some(texts)
}

/// Reads a secret that must be given.
pub(crate) fn secret(section: &Section<'_>, setting: &Setting) -> Option<LiveSecret> {
    if !section.has(setting.name) {
        section.fault("", format!("`{}` is missing: {}", setting.name, setting.doc));
    }
    optional_secret(section, setting)
}

/// Reads an address that must be given unless it has a default. It may be a secret.
pub(crate) fn address(section: &Section<'_>, setting: &Setting) -> Option<LiveSecret> {
    let found = match (section.node(setting.name), setting.default) {
        (None, Some(default)) => LiveSecret::public(default.trim_matches('"')),
        _ => secret(section, setting)?,
    };
    match parse_url(&found.current()) {
        Ok(_) => Some(found),
        Err(error) => {
            section.fault(setting.name, error);
            None
        }
    }
}

// === impl Api ===

impl Api {
    /// Reports what is wrong with it.
    pub(crate) fn new(
        section: &Section<'_>,
        context: &Context,
        address: LiveSecret,
        auth: Auth,
    ) -> Option<Self> {
        let client = client(section, context, &address);
        auth.header().map_err(|error| section.fault("", error)).ok()?;
        Some(Self { client: client?, address, auth })
    }

    /// The address as configured.
    pub(crate) fn url(&self) -> Result<Url, DeliveryError> {
        parse_url(&self.address.current())
            .map_err(|error| DeliveryError::caused_by(Reason::Misconfigured, error))
    }

    /// The address with a path behind its own: `https://host/tenant` and `api/v1` make
    /// `https://host/tenant/api/v1`. The path's segments must be encoded where they need to be.
    pub(crate) fn at(&self, path: &str) -> Result<Url, DeliveryError> {
        let mut url = self.url()?;
        let joined =
            format!("{}/{}", url.path().trim_end_matches('/'), path.trim_start_matches('/'));
        url.set_path(&joined);
        Ok(url)
    }

    /// Sends JSON once. Whatever is answered is `Ok`; read it with [`Self::verdict`] first.
    pub(crate) async fn json(
        &self,
        method: Method,
        url: Url,
        body: &Value,
    ) -> Result<Answer, DeliveryError> {
        self.send(method, url, "application/json", body.to_string().into_bytes(), &[]).await
    }

    /// Sends JSON once to an address that is a credential itself, without ours.
    pub(crate) async fn json_as_nobody(
        &self,
        url: Url,
        body: &Value,
    ) -> Result<Answer, DeliveryError> {
        let mut request = Request::new(Method::POST, url);
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::CONTENT_TYPE, json);
        *request.body_mut() = Some(body.to_string().into_bytes().into());
        self.client.send(request, BODY_BYTES_MAX).await
    }

    /// Asks without a body.
    pub(crate) async fn get(&self, url: Url) -> Result<Answer, DeliveryError> {
        let mut request = Request::new(Method::GET, url);
        self.authorize(request.headers_mut())?;
        self.client.send(request, BODY_BYTES_MAX).await
    }

    /// Sends any body once, with headers of its own.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: Url,
        content_type: &'static str,
        body: Vec<u8>,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Result<Answer, DeliveryError> {
        let mut request = Request::new(method, url);
        let all = request.headers_mut();
        all.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        for (name, value) in headers {
            all.insert(name, value.clone());
        }
        self.authorize(all)?;
        *request.body_mut() = Some(body.into());
        self.client.send(request, BODY_BYTES_MAX).await
    }

    /// What the status says by itself, with an excerpt.
    pub(crate) fn verdict(&self, answer: &Answer) -> Result<(), DeliveryError> {
        // A success has no excerpt, so nothing is gathered to be masked in it.
        if answer.status.is_success() { Ok(()) } else { answer.verdict(&self.secrets()) }
    }

    /// A failure the vendor described in its own way.
    pub(crate) fn failure(&self, reason: Reason, answer: &Answer) -> DeliveryError {
        let mut error = DeliveryError::new(reason)
            .with_status(answer.status.as_u16())
            .with_excerpt(answer.excerpt(&self.secrets()));
        if reason == Reason::Throttled || reason == Reason::ServerFault {
            error.retry_after = http::retry_after(&answer.headers, std::time::SystemTime::now());
        }
        error
    }

    /// The whole answer as JSON; `BadAnswer` with an excerpt when it is something else.
    pub(crate) fn read(&self, answer: &Answer) -> Result<Value, DeliveryError> {
        serde_json::from_slice(answer.body()?).map_err(|error| DeliveryError {
            source: Some(error.into()),
            ..self.failure(Reason::BadAnswer, answer)
        })
    }

    pub(crate) fn refresh(&self) -> Result<bool, Box<dyn Error + Send + Sync>> {
        // Each of them, whatever the others say.
        let (address, auth) = (self.address.refresh(), self.auth.refresh());
        let network = self.client.refresh();
        let changed = address? | auth? | network?;
        self.url()?;
        self.auth.header()?;
        Ok(changed)
    }

    /// What is masked wherever an answer is shown.
    pub(crate) fn secrets(&self) -> Vec<Secret> {
        let address = self.address.current();
        let mut secrets = self.auth.secrets();
        secrets.extend(parse_url(&address).map(|url| seen_of(&url)));
        secrets.extend(self.client.secrets());
        secrets.push(address);
        secrets
    }

    fn authorize(&self, headers: &mut HeaderMap) -> Result<(), DeliveryError> {
        let header = self.auth.header();
        let header = header.map_err(|error| DeliveryError {
            source: Some(error),
            ..DeliveryError::new(Reason::Misconfigured)
        })?;
        headers.extend(header);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_http_without_credentials_and_is_not_repeated() {
        let problem = |text: &str| parse_url(&Secret::new(text)).unwrap_err().to_string();
        assert!(problem("ftp://x/secret").starts_with("it must begin with"));
        assert!(problem("https://u:p@x/secret").starts_with("it must hold no user"));
        assert!(!problem("secret").contains("secret"));
        assert!(parse_url(&Secret::new("https://hooks.example/T0/B0/x")).is_ok());
    }
}
