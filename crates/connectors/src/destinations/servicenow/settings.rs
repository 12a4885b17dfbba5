//! What is made of the keys.

use std::{collections::BTreeMap, sync::Arc};

use holdfast_model::{
    Destination,
    settings::{Node, Section, Setting, Value},
};

use super::{ServiceNow, Target, auth::OAuth, callback, keys::*, record::Form};
use crate::{
    callback::Callback,
    destinations::Context,
    message::{self, Lifecycle, Severities},
    vendor::{self, Api, Auth},
};

/// `correlation_display` and `event_class`.
const DISPLAY_CHARS_MAX: usize = 100;

/// Fields by which Holdfast recognises what is its own, or with which it would say something else.
const RESERVED: [&str; 3] = ["correlation_id", "message_key", "additional_info"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Incident,
    Security,
    Event,
}

/// How records are closed.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) state: String,
    pub(super) code: String,
    pub(super) notes: Option<String>,
    pub(super) closed: Vec<String>,
}

pub(super) fn build(section: &Section<'_>, context: &Context) -> Option<Arc<dyn Destination>> {
    let address = vendor::secret(section, &URL);
    let login = login(section);
    let table = match section.word(&TABLE, &["incident", "sn_si_incident", "em_event"]) {
        "sn_si_incident" => Table::Security,
        "em_event" => Table::Event,
        _ => Table::Incident,
    };
    let target = target(section, table);
    let display = display(section);
    let severities = match table {
        Table::Event => Severities::read(section, ["4", "3", "2", "1"], &["1", "2", "3", "4", "5"]),
        _ => Severities::read(section, ["3", "2", "2", "1"], &["1", "2", "3"]),
    };
    let fields = fields(section, table);
    let closing = closing(section, table);
    let search_lag = vendor::search_lag(section);
    let lifecycle = Lifecycle::read(section);
    let template = message::Template::read(section);
    let callback = Callback::read(section, &callback::VENDOR);
    let address = address?;
    if let Err(error) = vendor::parse_url(&address.current()) {
        section.fault(URL.name, error);
        return None;
    }
    let (auth, oauth) = login?;
    Some(Arc::new(ServiceNow {
        callback: callback?,
        api: Api::new(section, context, address, auth)?,
        oauth,
        search_lag,
        target: target?,
        form: Form {
            table,
            display: display?,
            severities: severities?,
            fields: fields?,
            template: template?,
        },
        closing: closing?,
        lifecycle: lifecycle?,
    }))
}

/// A user with a password, or a client with a secret.
fn login(section: &Section<'_>) -> Option<(Auth, Option<OAuth>)> {
    let user = section.text(&USER).map(str::to_owned);
    let password = vendor::optional_secret(section, &PASSWORD);
    let client_id = section.text(&CLIENT_ID).map(str::to_owned);
    let client_secret = vendor::optional_secret(section, &CLIENT_SECRET);
    let has = |setting: &Setting| section.has(setting.name);
    let basic = (has(&USER), has(&PASSWORD));
    let client = (has(&CLIENT_ID), has(&CLIENT_SECRET));
    match (basic, client) {
        ((true, true), (false, false)) => {
            let user = user?;
            if user.is_empty() || user.contains(':') {
                section.fault(USER.name, "it must be a user's name, without a colon");
                return None;
            }
            Some((Auth::Basic { user, password: password? }, None))
        }
        ((false, false), (true, true)) => {
            let (client_id, client_secret) = (client_id?, client_secret?);
            let oauth = OAuth { client_id, client_secret, kept: Default::default() };
            Some((Auth::None, Some(oauth)))
        }
        _ => {
            let problem = "give either `user` and `password`, or `client_id` and `client_secret`";
            section.fault("", problem);
            None
        }
    }
}

fn target(section: &Section<'_>, table: Table) -> Option<Target> {
    let staging = section.text(&IMPORT_SET);
    let prefix = section.text(&IMPORT_PREFIX)?;
    if !prefix.is_empty() && !is_column(prefix) {
        section.fault(IMPORT_PREFIX.name, "it is lower-case letters, digits and `_`, as \"u_\"");
        return None;
    }
    let Some(staging) = staging else {
        let target = if table == Table::Event { Target::Events } else { Target::Records };
        return (!section.has(IMPORT_SET.name)).then_some(target);
    };
    if !is_column(staging) {
        section.fault(IMPORT_SET.name, "a table's name is lower-case letters, digits and `_`");
        return None;
    }
    if table == Table::Event {
        section.fault(IMPORT_SET.name, "events are not imported; leave `table` out");
        return None;
    }
    if section.has(message::RESOLVED_BY.name) || section.text(&message::GROUP) == Some("problem") {
        let problem = "what is imported can be neither grouped nor closed: leave out `group` and `resolved_by`, or send to the table itself";
        section.fault(IMPORT_SET.name, problem);
        return None;
    }
    Some(Target::Import { staging: staging.to_owned(), prefix: prefix.to_owned() })
}

fn display(section: &Section<'_>) -> Option<String> {
    vendor::of_length(section, &DISPLAY, section.text(&DISPLAY)?, 1..=DISPLAY_CHARS_MAX)
}

fn fields(section: &Section<'_>, table: Table) -> Option<BTreeMap<String, String>> {
    let given = section.has(FIELDS.name);
    let Some(entries) = section.table(FIELDS.name) else {
        return (!given).then(BTreeMap::new);
    };
    let mut fields = BTreeMap::new();
    let mut all_good = true;
    for (name, Node { value, .. }) in entries.entries() {
        let text = match value {
            Value::Text(text) => Some(text.clone()),
            Value::Integer(number) => Some(number.to_string()),
            Value::Bool(yes) => Some(yes.to_string()),
            _ => None,
        };
        let own = name.strip_prefix("u_").unwrap_or(name);
        let reserved = RESERVED.contains(&own) || (table == Table::Event && own == "severity");
        let problem = match text {
            _ if !is_column(name) => "a column's name is lower-case letters, digits and `_`",
            _ if reserved => "Holdfast writes this one itself",
            None => "it must be a text, a whole number, true or false",
            Some(text) => {
                fields.insert(name.clone(), text);
                continue;
            }
        };
        entries.fault(name, problem);
        all_good = false;
    }
    all_good.then_some(fields)
}

fn closing(section: &Section<'_>, table: Table) -> Option<Closing> {
    let (state, closed): (&str, &[&str]) = match table {
        Table::Security => ("3", &["3", "7"]),
        Table::Incident | Table::Event => ("6", &["6", "7", "8"]),
    };
    let given_state = section.text(&CLOSE_STATE);
    let code = section.text(&CLOSE_CODE);
    let notes = section.text(&CLOSE_NOTES).map(str::to_owned);
    let given_closed = section.texts(&CLOSED_STATES);
    let state = given_state.unwrap_or(state).to_owned();
    let mut closed =
        given_closed.unwrap_or_else(|| closed.iter().map(|state| (*state).to_owned()).collect());
    let is_number = |text: &String| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !is_number(&state) {
        section.fault(CLOSE_STATE.name, "a state is a whole number, as \"6\"");
        return None;
    }
    if !closed.iter().all(is_number) {
        section.fault(CLOSED_STATES.name, "states are whole numbers, as \"6\"");
        return None;
    }
    // What we close is closed.
    closed.push(state.clone());
    Some(Closing { state, code: code?.to_owned(), notes, closed })
}

fn is_column(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    !name.is_empty() && name.chars().all(fits)
}
