//! Jira's keys of the configuration.

use std::sync::Arc;

use holdfast_model::{
    Destination,
    settings::{Node, Section, Setting, Value as Given},
};
use reqwest::header::AUTHORIZATION;

use super::{Jira, adf::Form, callback};
use crate::{
    callback::{self as calls, Callback},
    destinations::Context,
    message::{self, Lifecycle, Severities},
    vendor::{self, Api, Auth},
};

pub(super) const ALL: &[&Setting] = &[
    &URL,
    &VERSION,
    &EMAIL,
    &TOKEN,
    &PROJECT,
    &ISSUE_TYPE,
    &LABELS,
    &SEVERITY,
    &TRANSITION,
    &vendor::SEARCH_LAG,
    &message::GROUP,
    &message::RESOLVED_BY,
    &message::TEMPLATE,
    &calls::SIGNED,
];

const URL: Setting = Setting::optional(
    "url",
    "\"https://example.atlassian.net\"",
    "Where Jira is, without `/rest`. With a context path, that too.",
);

const VERSION: Setting = Setting::new(
    "version",
    "\"cloud\"",
    "\"cloud\" (REST v3, Atlassian Document Format) or \"server\" (Server and Data Center: REST v2, wiki text).",
);

const EMAIL: Setting = Setting::optional(
    "email",
    "\"holdfast@example.com\"",
    "The e-mail address of the account whose API token it is. With a password on a Server: the user's name. Without this the token is a bearer token.",
);

const TOKEN: Setting = Setting::optional(
    "token",
    "{ file = \"/etc/holdfast/secrets/jira\" }",
    "Cloud: an API token. Server: a personal access token, without `email`. A secret.",
);

const PROJECT: Setting =
    Setting::optional("project", "\"SEC\"", "The key of the project: letters, digits and `_`.");

const ISSUE_TYPE: Setting = Setting::new(
    "issue_type",
    "\"Task\"",
    "The issues' type: its name, or its id where that is all digits.",
);

const LABELS: Setting = Setting::optional(
    "labels",
    "[\"wazuh\"]",
    "Labels beside the key, each 1 to 255 characters without spaces. Default: the example.",
);

const SEVERITY: Setting = Setting::optional(
    "severity",
    "{ low = \"Low\", medium = \"Medium\", high = \"High\", critical = \"Highest\" }",
    "Your Jira's priority for each severity; what is missing is as in the example. Without this no priority is sent: not every project has one.",
);

const TRANSITION: Setting = Setting::optional(
    "transition",
    "\"Done\"",
    "The name of the transition that ends a problem's issue. Without this, or where the issue has none of that name, it gets a comment.",
);

const LABEL_CHARS_MAX: usize = 255;

pub(super) fn build(section: &Section<'_>, context: &Context) -> Option<Arc<dyn Destination>> {
    let address = vendor::secret(section, &URL);
    let cloud = section.word(&VERSION, &["cloud", "server"]) == "cloud";
    let email = section.text(&EMAIL);
    let token = vendor::secret(section, &TOKEN);
    let project = section.required_text(&PROJECT).to_owned();
    let issue_type = section.text(&ISSUE_TYPE).unwrap_or("").to_owned();
    let labels = section.texts(&LABELS).unwrap_or_else(|| vec!["wazuh".to_owned()]);
    let severities = priorities(section);
    let transition = section.text(&TRANSITION).map(str::to_owned);
    let search_lag = vendor::search_lag(section);
    let lifecycle = Lifecycle::read(section);
    let template = message::Template::read(section);
    let callback = Callback::read(section, &callback::VENDOR);
    let mut all_good = true;
    let mut check = |setting: &Setting, good: bool, problem: &str| {
        all_good &= good;
        // What was missing or of another type has its fault already.
        let readable = matches!(section.node(setting.name), Some(node) if is_text_or_list(node));
        if !good && readable {
            section.fault(setting.name, problem);
        }
    };
    let is_key = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let project_good = !project.is_empty() && project.chars().all(is_key);
    check(&PROJECT, project_good, "it must be a project's key, as \"SEC\"");
    check(&ISSUE_TYPE, !issue_type.trim().is_empty(), "it must not be empty");
    let fits = |text: &String| {
        (1..=LABEL_CHARS_MAX).contains(&text.chars().count()) && !text.contains(char::is_whitespace)
    };
    let problem = "each must have 1 to 255 characters and no spaces";
    check(&LABELS, labels.iter().all(fits), problem);
    let email_good = email.is_none_or(|text| !text.is_empty() && !text.contains(':'));
    check(&EMAIL, email_good, "it must not be empty and have no colon");
    let (address, token) = (address?, token?);
    if let Err(error) = vendor::parse_url(&address.current()) {
        section.fault(URL.name, error);
        return None;
    }
    // A Server's user is known by this name; Cloud's ids are other ones.
    let own = email.map(str::to_owned);
    let auth = match email {
        Some(email) => Auth::Basic { user: email.to_owned(), password: token },
        None => Auth::Header { name: AUTHORIZATION, prefix: "Bearer ", secret: token },
    };
    let (severities, template, lifecycle) = (severities?, template?, lifecycle?);
    let callback = callback?.map(|callback| callback.ignoring(own));
    if !all_good {
        return None;
    }
    let form = Form { cloud, project, issue_type, labels, severities, template };
    let api = Api::new(section, context, address, auth)?;
    Some(Arc::new(Jira { api, form, lifecycle, transition, search_lag, callback }))
}

fn is_text_or_list(node: &Node) -> bool {
    matches!(node.value, Given::Text(_) | Given::List(_))
}

/// Priorities have the names an administrator gave them, so any word will do.
fn priorities(section: &Section<'_>) -> Option<Option<Severities>> {
    let Some(node) = section.node(SEVERITY.name) else { return Some(None) };
    let mut names = Vec::new();
    if let Given::Table(entries) = &node.value {
        names.extend(entries.iter().filter_map(|(_, node)| match &node.value {
            Given::Text(word) if !word.is_empty() => Some(word.as_str()),
            _ => None,
        }));
    }
    Severities::read(section, ["Low", "Medium", "High", "Highest"], &names).map(Some)
}
