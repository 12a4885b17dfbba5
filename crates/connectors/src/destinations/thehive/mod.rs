//! TheHive 5 and 4, one alert an event.
//!
//! Promises: one event is one alert, because `sourceRef` is the event's key and TheHive knows
//! `type`, `source` and `sourceRef` together once in an organisation; a repeated try is told so
//! and counts as delivered. Does not promise observables: where TheHive will not take them, the
//! alert goes without, and its text still names what they were.
//!
//! Quirks: "exists already" is a 400 `CreateError`, in some versions a 409, and so is "this
//! observable exists already", which means that no alert was made. TLP has other numbers since 5.2.
//! Version 4 calls observables `artifacts`. There is no rate limit and no `Retry-After`.
//!
//! Source: StrangeBee's OpenAPI of TheHive 5.7, "Create an alert"; release notes of 5.2;
//! TheHive-Project/TheHive 4.1 `AlertSrv.scala`; its issues 1094, 1514 and 1963.

mod alert;
mod callback;
#[cfg(test)]
mod tests;

use std::{error::Error, sync::Arc};

use async_trait::async_trait;
use holdfast_model::{
    Callbacks, DeliveryError, Destination, Reason, Receipt, Shipment,
    delivery::Delivered,
    settings::{Section, Setting},
};
use reqwest::{
    Method,
    header::{self, HeaderName, HeaderValue},
};
use serde_json::Value;

use self::alert::Form;
use super::{Context, Kind};
use crate::{
    callback::{self as calls, Callback},
    http::Answer,
    message::{self, Severities},
    vendor::{self, Api, Auth},
};

pub(super) const KIND: Kind = Kind {
    name: "thehive",
    summary: "Creates alerts in TheHive 5 or 4.",
    example: r#"
url = "https://thehive.example.com"
api_key = "0123456789abcdef0123456789abcdef"
organisation = "soc"
"#,
    settings: &[
        &URL,
        &API_KEY,
        &VERSION,
        &ORGANISATION,
        &ALERT_TYPE,
        &SOURCE,
        &TLP,
        &PAP,
        &OBSERVABLES,
        &SEVERITY,
        &message::TEMPLATE,
        &calls::SHARED,
    ],
    batches: false,
    http: true,
    build,
};

const URL: Setting = Setting::optional(
    "url",
    "\"https://thehive.example.com\"",
    "Where TheHive is, without `/api`. With a context path, that too.",
);

const API_KEY: Setting = Setting::optional(
    "api_key",
    "{ file = \"/etc/holdfast/secrets/thehive\" }",
    "The API key of a user who may create alerts (`manageAlert/create`). A secret.",
);

const VERSION: Setting = Setting::new(
    "version",
    "\"5\"",
    "TheHive's version: \"5\" (5.2 and later), \"5.1\" (5.0 and 5.1) or \"4\". It decides the form of an alert and the numbers of TLP.",
);

const ORGANISATION: Setting = Setting::optional(
    "organisation",
    "\"soc\"",
    "The organisation that gets the alerts, 1 to 128 characters. Default: the user's own.",
);

const ALERT_TYPE: Setting =
    Setting::new("alert_type", "\"wazuh\"", "The alerts' `type`, 1 to 32 characters.");

const SOURCE: Setting = Setting::new(
    "source",
    "\"holdfast\"",
    "The alerts' `source`, 1 to 32 characters. When it changes, events that were in doubt may come twice.",
);

const TLP: Setting = Setting::new(
    "tlp",
    "\"amber\"",
    "Who may know: \"clear\", \"green\", \"amber\", \"amber+strict\" (only 5.2 and later) or \"red\".",
);

const PAP: Setting = Setting::new(
    "pap",
    "\"amber\"",
    "What may be done with it: \"clear\", \"green\", \"amber\" or \"red\".",
);

const OBSERVABLES: Setting = Setting::new(
    "observables",
    "true",
    "Whether addresses, hashes, files and URLs of the event become observables.",
);

const SEVERITY: Setting = Setting::optional(
    "severity",
    "{ low = 1, medium = 2, high = 3, critical = 4 }",
    "TheHive's number for each severity, 1 (low) to 4 (critical). The default is the example.",
);

/// `type` and `source`.
const WORD_CHARS_MAX: usize = 32;

const ORGANISATION_CHARS_MAX: usize = 128;

#[derive(Debug)]
struct TheHive {
    callback: Option<Callback>,
    api: Api,
    organisation: Option<HeaderValue>,
    form: Form,
    observables: bool,
}

fn build(section: &Section<'_>, context: &Context) -> Option<Arc<dyn Destination>> {
    let address = vendor::secret(section, &URL);
    let api_key = vendor::secret(section, &API_KEY);
    let version = section.word(&VERSION, &["5", "5.1", "4"]);
    let organisation = organisation(section);
    let alert_type = short_word(section, &ALERT_TYPE);
    let source = short_word(section, &SOURCE);
    let tlp = tlp(section, version);
    let words = ["clear", "green", "amber", "red"];
    let pap = section.word(&PAP, &words);
    let observables = section.bool(&OBSERVABLES);
    let numbers = ["1", "2", "3", "4"];
    let severities = Severities::read(section, numbers, &numbers);
    let template = message::Template::read(section);
    let callback = Callback::read(section, &callback::VENDOR);
    let address = address?;
    if let Err(error) = vendor::parse_url(&address.current()) {
        section.fault(URL.name, error);
        return None;
    }
    let auth = Auth::Header { name: header::AUTHORIZATION, prefix: "Bearer ", secret: api_key? };
    let form = Form {
        alert_type: alert_type?,
        source: source?,
        tlp: tlp?,
        pap: words.iter().position(|word| *word == pap)?,
        old: version == "4",
        severities: severities?,
        template: template?,
    };
    let api = Api::new(section, context, address, auth)?;
    let (organisation, callback) = (organisation?, callback?);
    Some(Arc::new(TheHive { api, organisation, form, observables, callback }))
}

/// The header's value, if there is one to send. `None`: a fault was reported.
fn organisation(section: &Section<'_>) -> Option<Option<HeaderValue>> {
    let given = section.has(ORGANISATION.name);
    let Some(name) = section.text(&ORGANISATION) else { return (!given).then_some(None) };
    match HeaderValue::from_bytes(name.as_bytes()) {
        Ok(value) if (1..=ORGANISATION_CHARS_MAX).contains(&name.chars().count()) => {
            Some(Some(value))
        }
        _ => {
            section.fault(ORGANISATION.name, "it must be 1 to 128 characters on one line");
            None
        }
    }
}

fn short_word(section: &Section<'_>, setting: &Setting) -> Option<String> {
    vendor::of_length(section, setting, section.text(setting)?, 1..=WORD_CHARS_MAX)
}

fn tlp(section: &Section<'_>, version: &str) -> Option<usize> {
    let since_5_2 = ["clear", "green", "amber", "amber+strict", "red"];
    let before = ["clear", "green", "amber", "red"];
    let word = section.word(&TLP, &since_5_2);
    let known: &[&str] = if version == "5" { &since_5_2 } else { &before };
    let number = known.iter().position(|known| *known == word);
    if number.is_none() {
        section.fault(TLP.name, format!("TheHive {version} does not know \"{word}\""));
    }
    number
}

#[async_trait]
impl Destination for TheHive {
    async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError> {
        let member = shipment.only()?;
        let mut alert = self.form.alert(member, self.observables);
        let answer = self.create(&alert).await?;
        // An alert whose observables do not please is not made at all. It is another one without.
        if dislikes_observables(&answer) && self.form.strip(&mut alert) {
            let answer = self.create(&alert).await?;
            return self.judge(&answer).map(Delivered::All);
        }
        self.judge(&answer).map(Delivered::All)
    }

    async fn check(&self) -> Option<Result<(), DeliveryError>> {
        let path = if self.form.old { "api/user/current" } else { "api/v1/user/current" };
        let ask = async {
            let answer = self.api.get(self.api.at(path)?).await?;
            self.api.verdict(&answer)
        };
        Some(ask.await)
    }

    fn refresh_secrets(&self) -> Result<bool, Box<dyn Error + Send + Sync>> {
        let callback = calls::refresh(self.callback.as_ref());
        let api = self.api.refresh();
        Ok(callback? | api?)
    }

    fn callbacks(&self) -> Option<&dyn Callbacks> {
        calls::port(self.callback.as_ref())
    }

    fn take_template_errors(&self) -> u64 {
        self.form.template.take_errors()
    }
}

// === impl TheHive ===

impl TheHive {
    async fn create(&self, alert: &Value) -> Result<Answer, DeliveryError> {
        let url = self.api.at(if self.form.old { "api/alert" } else { "api/v1/alert" })?;
        let name = HeaderName::from_static("x-organisation");
        let headers: Vec<_> =
            self.organisation.iter().map(|org| (name.clone(), org.clone())).collect();
        let body = alert.to_string().into_bytes();
        self.api.send(Method::POST, url, "application/json", body, &headers).await
    }

    fn judge(&self, answer: &Answer) -> Result<Receipt, DeliveryError> {
        let status = Some(answer.status.as_u16());
        if is_duplicate(answer) {
            return Ok(Receipt { status, remote_id: None, duplicate: true, ..Receipt::default() });
        }
        self.api.verdict(answer)?;
        // A login page or a proxy may say 200, too: only an alert has an id. Asking again is safe.
        let said = self.api.read(answer)?;
        let id = said["_id"].as_str().or_else(|| said["id"].as_str());
        let Some(id) = id.filter(|id| !id.is_empty()) else {
            return Err(self.api.failure(Reason::BadAnswer, answer));
        };
        Ok(Receipt {
            status,
            remote_id: Some(id.to_owned()),
            duplicate: false,
            ..Receipt::default()
        })
    }
}

/// The `type` and `message` of an error; empty where there are none.
fn complaint(answer: &Answer) -> (String, String) {
    let said = answer.body().ok().and_then(|body| serde_json::from_slice(body).ok());
    let said: Value = said.unwrap_or_default();
    let text = |name: &str| said[name].as_str().unwrap_or("").to_ascii_lowercase();
    (text("type"), text("message"))
}

/// `Alert type:source:ref already exist in organisation …`, and not the same of an observable.
fn is_duplicate(answer: &Answer) -> bool {
    let (kind, text) = complaint(answer);
    let of_alert =
        kind == "createerror" && text.starts_with("alert ") && text.contains("already exist");
    let of_document = kind == "conflicterror" && text.contains("document already exists");
    matches!(answer.status.as_u16(), 400 | 409) && (of_alert || of_document)
}

fn dislikes_observables(answer: &Answer) -> bool {
    let (kind, text) = complaint(answer);
    if is_duplicate(answer) {
        return false;
    }
    match answer.status.as_u16() {
        // A type of observable that this instance does not have.
        404 => kind == "notfounderror",
        400 | 409 => {
            text.contains("observable") || text.contains("artifact") || text.contains("datatype")
        }
        _ => false,
    }
}
