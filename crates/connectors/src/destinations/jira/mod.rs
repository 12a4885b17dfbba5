//! Jira Cloud (REST v3) and Jira Server or Data Center (REST v2): one issue an event.
//!
//! Promises: every issue has the event's key as a label; a try that may have arrived is searched
//! for by that label before another issue is created. With `group = "problem"` more of an open
//! problem is a comment on its issue, and an alert that ends a problem transitions its issue.
//!
//! Quirks: creating knows no repeats. A search does not see what was created in the last seconds,
//! so what may have arrived is tried again after `search_lag`. Cloud answers 410 at the old search. A project that we
//! may not see is a 400 or a 404. After failed logins Server demands a CAPTCHA and says so in
//! `X-Authentication-Denied-Reason`; more tries would lock the account.
//!
//! Source: Atlassian's OpenAPI of Jira Cloud v3; `@atlaskit/adf-schema`; Atlassian's rate limit
//! pages; prometheus/alertmanager `notify/jira`.

mod adf;
mod callback;
mod settings;
#[cfg(test)]
mod tests;

use std::{error::Error, time::Duration};

use async_trait::async_trait;
use holdfast_model::{
    Callbacks, DeliveryError, Destination, Member, Reason, Receipt, Shipment, delivery::Delivered,
};
use reqwest::Method;
use serde_json::{Value, json};

use self::adf::Form;
use super::Kind;
use crate::{
    callback::{self as calls, Callback},
    http::Answer,
    message::{Lifecycle, Message, Phase},
    vendor::Api,
};

pub(super) const KIND: Kind = Kind {
    name: "jira",
    summary: "Creates issues in Jira Cloud, Server or Data Center.",
    example: r#"
url = "https://example.atlassian.net"
email = "holdfast@example.com"
token = "replace-me"
project = "SEC"
group = "problem"
resolved_by = { "504" = "503" }
transition = "Done"
"#,
    settings: settings::ALL,
    batches: false,
    http: true,
    build: settings::build,
};

/// Rows of one search, and comments of an issue that are looked through.
const ROWS_MAX: u32 = 50;

#[derive(Debug)]
struct Jira {
    callback: Option<Callback>,
    api: Api,
    form: Form,
    lifecycle: Lifecycle,
    transition: Option<String>,
    search_lag: Duration,
}

/// An issue that a search found.
struct Found {
    key: String,
    labels: Value,
}

#[async_trait]
impl Destination for Jira {
    async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError> {
        let member = shipment.only()?;
        let message = Message::of(member);
        let receipt = match self.lifecycle.phase(&message) {
            Phase::Open { key } => self.open(member, &message, &key).await,
            Phase::Resolve { keys } => self.resolve(member, &message, &keys).await,
        };
        receipt.map(Delivered::All)
    }

    async fn check(&self) -> Option<Result<(), DeliveryError>> {
        Some(self.ask(Method::GET, "myself", None).await.map(drop))
    }

    fn search_lag(&self) -> Option<Duration> {
        Some(self.search_lag)
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

// === impl Jira ===

impl Jira {
    async fn open(
        &self,
        member: &Member,
        message: &Message,
        key: &str,
    ) -> Result<Receipt, DeliveryError> {
        let mut known = None;
        if came_before(member) {
            known = self.find(&message.key, false).await?.into_iter().next();
        }
        if known.is_none() && key != message.key {
            known = self.find(key, true).await?.into_iter().next();
        }
        if let Some(found) = known {
            let holds = |label: &Value| *label == *message.key;
            if found.labels.as_array().is_some_and(|labels| labels.iter().any(holds)) {
                return Ok(receipt(200, Some(found.key), true));
            }
            match self.comment(member, message, &found.key).await {
                // The issue has all the comments it may have: another one follows it.
                Err(error) if error.reason == Reason::TooLarge => {}
                other => return other,
            }
        }
        let body = self.form.issue(message, key);
        let answer = self.ask(Method::POST, "issue", Some(&body)).await?;
        let said = self.api.read(&answer)?;
        let Some(id) = said["key"].as_str().filter(|key| is_issue_key(key)) else {
            return Err(self.api.failure(Reason::BadAnswer, &answer));
        };
        Ok(receipt(answer.status.as_u16(), Some(id.to_owned()), false))
    }

    /// Ends every open issue of these problems. One that a try before this ended is not found.
    async fn resolve(
        &self,
        member: &Member,
        message: &Message,
        keys: &[String],
    ) -> Result<Receipt, DeliveryError> {
        let mut last = receipt(200, None, true);
        for key in keys {
            for Found { key: issue, .. } in self.find(key, true).await? {
                last = match self.transition_of(&issue).await? {
                    Some(id) => {
                        let path = format!("issue/{issue}/transitions");
                        let body = json!({ "transition": { "id": id } });
                        let answer = self.ask_of_issue(Method::POST, &path, Some(&body)).await?;
                        receipt(answer.status.as_u16(), Some(issue), false)
                    }
                    None => self.comment(member, message, &issue).await?,
                };
            }
        }
        Ok(last)
    }

    /// The id of the configured transition, where the issue can take it now.
    async fn transition_of(&self, issue: &str) -> Result<Option<String>, DeliveryError> {
        let Some(name) = &self.transition else { return Ok(None) };
        let path = format!("issue/{issue}/transitions");
        let answer = self.ask_of_issue(Method::GET, &path, None).await?;
        let said = self.api.read(&answer)?;
        let Some(all) = said["transitions"].as_array() else {
            return Err(self.api.failure(Reason::BadAnswer, &answer));
        };
        let named = |one: &&Value| {
            one["name"].as_str().is_some_and(|known| known.to_lowercase() == name.to_lowercase())
        };
        Ok(all.iter().find(named).and_then(|one| one["id"].as_str()).map(str::to_owned))
    }

    /// Comments know no repeats, so another try looks for the one of this event first.
    async fn comment(
        &self,
        member: &Member,
        message: &Message,
        issue: &str,
    ) -> Result<Receipt, DeliveryError> {
        let path = format!("issue/{issue}/comment");
        if came_before(member) {
            let query = format!("orderBy=-created&maxResults={ROWS_MAX}");
            let answer = self.ask_of_issue(Method::GET, &format!("{path}?{query}"), None).await?;
            let said = self.api.read(&answer)?;
            let Some(comments) = said["comments"].as_array() else {
                return Err(self.api.failure(Reason::BadAnswer, &answer));
            };
            if comments.iter().any(|one| self.form.is_of(&one["body"], message)) {
                return Ok(receipt(200, Some(issue.to_owned()), true));
            }
        }
        let body = json!({ "body": self.form.text(message) });
        let answer = self.ask_of_issue(Method::POST, &path, Some(&body)).await?;
        Ok(receipt(answer.status.as_u16(), Some(issue.to_owned()), false))
    }

    /// The project's issues with this label, the newest first.
    async fn find(&self, label: &str, only_open: bool) -> Result<Vec<Found>, DeliveryError> {
        let open = if only_open { " AND statusCategory != Done" } else { "" };
        let quoted = label.replace('\\', "\\\\").replace('"', "\\\"");
        let project = &self.form.project;
        let jql = format!(
            "project = \"{project}\" AND labels = \"{quoted}\"{open} ORDER BY created DESC"
        );
        let body = json!({ "jql": jql, "maxResults": ROWS_MAX, "fields": ["labels"] });
        let path = if self.form.cloud { "search/jql" } else { "search" };
        let answer = self.ask(Method::POST, path, Some(&body)).await.map_err(|mut error| {
            // The question is made of settings only.
            if error.reason == Reason::Refused {
                error.reason = Reason::Misconfigured;
            }
            error
        })?;
        let said = self.api.read(&answer)?;
        let Some(rows) = said["issues"].as_array() else {
            return Err(self.api.failure(Reason::BadAnswer, &answer));
        };
        let found = rows.iter().filter_map(|row| {
            let key = row["key"].as_str().filter(|key| is_issue_key(key))?;
            let labels = row["fields"]["labels"].clone();
            labels
                .as_array()?
                .contains(&label.into())
                .then(|| Found { key: key.to_owned(), labels })
        });
        Ok(found.collect())
    }

    /// An issue that was found a moment ago and is not there now was deleted: searching again helps.
    async fn ask_of_issue(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, DeliveryError> {
        self.ask(method, path, body).await.map_err(|mut error| {
            if error.status == Some(404) {
                error.reason = Reason::ServerFault;
            }
            error
        })
    }

    /// Sends once; a status that is no success is the error.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, DeliveryError> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut url =
            self.api.at(&format!("rest/api/{}/{path}", if self.form.cloud { 3 } else { 2 }))?;
        url.set_query(Some(query).filter(|query| !query.is_empty()));
        let answer = match body {
            Some(body) => self.api.json(method, url, body).await?,
            None => self.api.get(url).await?,
        };
        let Err(error) = self.api.verdict(&answer) else { return Ok(answer) };
        let denied = answer.headers.contains_key("x-authentication-denied-reason");
        Err(match answer.status.as_u16() {
            // A CAPTCHA comes as a 403, too.
            400..=499 if denied => self.api.failure(Reason::Unauthorized, &answer),
            400 if adf::blames_settings(&answer) => {
                self.api.failure(Reason::Misconfigured, &answer)
            }
            422 => self.api.failure(Reason::Misconfigured, &answer),
            _ => error,
        })
    }
}

/// Whether an earlier try may have left something there. A proxy's 502 may hide a success.
fn came_before(member: &Member) -> bool {
    member.in_doubt || member.attempt > 1
}

fn receipt(status: u16, remote_id: Option<String>, duplicate: bool) -> Receipt {
    Receipt { status: Some(status), remote_id, duplicate, ..Receipt::default() }
}

/// `SEC-24`: it becomes part of an address.
fn is_issue_key(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}
